//! The codec seam: what rests on disk is encoded, and a codec that fails is said so.

use std::borrow::Cow;
use std::sync::Arc;

use crate::codec::{CodecError, StorageCodec};
use crate::disk::{SimOptions, SimWorld};
use crate::handle::{Append, LogHandle, ReserveError};
use crate::harness::{UUID, recover, sound};
use crate::lsn::Lsn;
use crate::recover::{ScanError, ScanOptions, create_log, scan};
use crate::sink::{LogStatus, Need, PoisonCause, Sink, Stage};
use crate::spares::prepare_spare;
use crate::writer::{Turn, Writer, start};

const PLAIN: &[u8] = b"the quick brown fox, plainly visible";

/// Inverts every byte and adds a trailing one; refuses what begins with `refused`.
struct Scramble {
    refused: u8,
}

impl Scramble {
    const ID: &str = "scramble";
}

impl StorageCodec for Scramble {
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        if plain.first() == Some(&self.refused) {
            return Err(CodecError::Encode {
                codec_id: Self::ID,
                len_bytes: plain.len(),
            });
        }
        Ok(plain
            .iter()
            .map(|byte| !byte)
            .chain([0xEE])
            .collect::<Vec<_>>()
            .into())
    }

    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        match stored.split_last() {
            Some((0xEE, rest)) => Ok(rest.iter().map(|byte| !byte).collect::<Vec<_>>().into()),
            _ => Err(CodecError::Decode {
                codec_id: Self::ID,
                len_bytes: stored.len(),
            }),
        }
    }

    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize {
        plain_len_bytes + 1
    }

    fn codec_id(&self) -> &'static str {
        Self::ID
    }
}

#[derive(Default)]
struct Counts {
    reached: usize,
    failed: usize,
}

impl Sink<()> for Counts {
    fn reached(&mut self, (): (), _: Lsn) {
        self.reached += 1;
    }

    fn poisoned(&mut self, _: &PoisonCause) {}

    fn failed(&mut self, (): ()) {
        self.failed += 1;
    }
}

fn open(world: &SimWorld) -> (LogHandle<()>, Writer<(), Counts>) {
    create_log(&mut world.disk(), UUID).unwrap();
    let (_, settled) = recover(world, &sound()).unwrap();
    let codec = Arc::new(Scramble { refused: b'!' });
    let (handle, seed) = start(sound(), codec, &settled).unwrap();
    let writer = seed
        .open(Box::new(world.disk()), Counts::default())
        .unwrap();
    prepare_spare(&mut world.disk(), handle.spares());
    (handle, writer)
}

fn append(handle: &LogHandle<()>, txn_id: u64, writeset: &[u8]) {
    let reservation = handle.reserve(writeset.len()).unwrap();
    let append = Append {
        txn_id,
        run_id: [1; 16],
        timestamp_us: 0,
        writeset: writeset.to_vec(),
        need: Need::Synced,
        token: (),
    };
    handle.appender().unwrap().append(reservation, append);
}

fn turn_all(writer: &mut Writer<(), Counts>) -> Turn {
    loop {
        let turn = writer.turn(0);
        if turn != Turn::Worked {
            return turn;
        }
    }
}

#[test]
fn no_plain_byte_string_rests_on_disk_and_reading_gives_it_back() {
    let world = SimWorld::new(SimOptions::new(1));
    let (handle, mut writer) = open(&world);
    append(&handle, 1, PLAIN);
    turn_all(&mut writer);
    for path in world.paths() {
        let bytes = world.read_file(&path).unwrap();
        assert!(
            !bytes.windows(PLAIN.len()).any(|window| window == PLAIN),
            "{path}"
        );
    }
    let options = ScanOptions {
        database_uuid: UUID,
        record_len_bytes_max: sound().record_len_bytes_max,
        snapshot_end: Lsn::ZERO,
        manifest_active_segment: 1,
        is_permissive: false,
        planted: sound().planted,
    };
    let mut read = Vec::new();
    let codec = Scramble { refused: b'!' };
    scan::<()>(&mut world.disk(), &options, &codec, |record| {
        read.push(record.writeset.to_vec());
        Ok(())
    })
    .unwrap();
    assert_eq!(read, [PLAIN.to_vec()]);
    // A visitor that refuses a record stops the scan there.
    let refused = scan(&mut world.disk(), &options, &codec, |_| Err("no"));
    assert!(matches!(
        refused,
        Err(ScanError::Visitor { source: "no", .. })
    ));
}

#[test]
fn a_writeset_the_codec_refuses_poisons_and_one_it_cannot_read_is_an_error() {
    let world = SimWorld::new(SimOptions::new(1));
    let (handle, mut writer) = open(&world);
    append(&handle, 1, PLAIN);
    append(&handle, 2, b"!");
    assert_eq!(turn_all(&mut writer), Turn::Poisoned);
    assert_eq!(writer.sink().failed, 2, "the batch never left");
    let LogStatus::Poisoned(cause) = handle.status() else {
        panic!("poisoned")
    };
    assert_eq!(cause.stage, Stage::Encode);
    assert_eq!(handle.reserve(1).err(), Some(ReserveError::Poisoned));

    // The identity codec writes what this codec cannot read.
    let world = SimWorld::new(SimOptions::new(2));
    let mut harness = crate::harness::Harness::create(&world, &sound()).unwrap();
    harness.append(10, Need::Synced).unwrap();
    harness.settle_down();
    let options = ScanOptions {
        database_uuid: UUID,
        record_len_bytes_max: sound().record_len_bytes_max,
        snapshot_end: Lsn::ZERO,
        manifest_active_segment: 1,
        is_permissive: false,
        planted: sound().planted,
    };
    let result = scan::<()>(
        &mut world.disk(),
        &options,
        &Scramble { refused: 0 },
        |_| Ok(()),
    );
    assert!(matches!(result, Err(ScanError::Codec { .. })));
}
