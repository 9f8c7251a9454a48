//! Every codec over everything a database does: what is read back, what is refused, and what of the
//! key shows.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use in_mem_wal::codec::{CodecError, CodecKey, StorageCodec, open_codec};
use in_mem_wal::disk::{CrashMode, SimRng, SimWorld};
use in_mem_wal::format::record::Record;
use in_mem_wal::recover::{ScanError, ScanOptions, scan};
use in_mem_wal::{Lsn, names};
use parking_lot::Mutex;

use super::checkpoint::{SEED, STRICT, act, log_alone};
use super::export::{NAME, directory};
use super::read_only::untidy_with;
use super::{int, over, small_log, text, world};
use crate::{Database, DatabaseBuilder, DatabaseConfig, OpenError, RepairError};

/// The codecs of this build, and one of a caller's.
pub(super) const CODECS: [&str; 5] = [
    "identity",
    "lz4",
    "aes-256-gcm",
    "lz4+aes-256-gcm",
    Scramble::ID,
];

/// Those that need a key.
pub(super) const ENCRYPTING: [&str; 2] = ["aes-256-gcm", "lz4+aes-256-gcm"];

pub(super) fn key(byte: u8) -> CodecKey {
    CodecKey::from_bytes(&[byte; 32])
}

/// A builder over a simulated disk with a codec, and the key it needs.
pub(super) fn over_with(world: &SimWorld, codec: &str) -> DatabaseBuilder {
    let builder = over(world, STRICT);
    match codec {
        Scramble::ID => builder.custom_codec(Arc::new(Scramble)),
        codec if ENCRYPTING.contains(&codec) => builder.codec(codec).key(key(7)),
        codec => builder.codec(codec),
    }
}

/// A clone of an open database, in a world of its own.
pub(super) fn cloned(database: &Database) -> SimWorld {
    let target = world();
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    let into = Arc::new(target.clone());
    database.start_export_to(into, NAME, done).unwrap();
    receiver.recv().unwrap().unwrap();
    directory(&target, NAME).unwrap()
}

/// A codec of a caller's: each byte depends on all before it, and on how many there are.
pub(super) struct Scramble;

impl Scramble {
    const ID: &str = "scramble";

    /// What is added to the byte at `index`, behind `before`.
    fn pad(index: usize, before: u8) -> u8 {
        let index = u8::try_from(index % 251).unwrap();
        before.wrapping_mul(31).wrapping_add(index).wrapping_add(97)
    }
}

impl StorageCodec for Scramble {
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let mut stored = vec![0x5A];
        for (index, byte) in plain.iter().enumerate() {
            stored.push(byte.wrapping_add(Self::pad(index, stored[index])));
        }
        Ok(stored.into())
    }

    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        if stored.first() != Some(&0x5A) {
            let (codec_id, len_bytes) = (Self::ID, stored.len());
            return Err(CodecError::Decode {
                codec_id,
                len_bytes,
            });
        }
        let pairs = stored.windows(2).enumerate();
        let plain = pairs.map(|(index, pair)| pair[1].wrapping_sub(Self::pad(index, pair[0])));
        Ok(plain.collect::<Vec<_>>().into())
    }

    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize {
        plain_len_bytes + 1
    }

    fn codec_id(&self) -> &str {
        Self::ID
    }
}

#[test]
fn snapshot_and_log_give_what_the_log_alone_gives_with_every_codec() {
    for codec in CODECS {
        for seed in SEED..SEED + 3 {
            println!("{codec}, seed {seed}");
            let mut rng = SimRng::new(seed);
            let mut world = world();
            for _ in 0..3 {
                let database = over_with(&world, codec).open().unwrap();
                for _ in 0..20 + rng.below(80) {
                    act(&database, &mut rng);
                    if rng.below(30) == 0 {
                        database.checkpoint().unwrap();
                    }
                }
                assert!(database.list_snapshots().is_ok());
                drop(database);
                if rng.coin() {
                    world = world.crash(rng.next_u64(), CrashMode::Subset);
                }
                let alone = over_with(&log_alone(&world), codec)
                    .open_existing()
                    .unwrap();
                let database = over_with(&world, codec).open_existing().unwrap();
                assert_eq!(
                    database.state_digest(),
                    alone.state_digest(),
                    "{codec} {seed}"
                );
            }
        }
    }
}

/// What a codec changes is the bytes, not the state: one history gives one digest.
#[test]
fn the_digest_of_a_history_and_that_of_its_clone_do_not_depend_on_the_codec() {
    let mut digests = Vec::new();
    for codec in CODECS {
        let world = world();
        let database = over_with(&world, codec).clock(Arc::new(in_mem_wal::clock::SimClock::new()));
        let database = database.external_time().open().unwrap();
        let run = database.default_run();
        for number in 0..50 {
            run.kv().put(format!("k{number}"), &int(number)).unwrap();
            if number == 25 {
                database.checkpoint().unwrap();
            }
        }
        let alone = cloned(&database);
        let clone = over_with(&alone, codec).open_existing().unwrap();
        let (found, live) = (clone.digest().unwrap(), database.digest().unwrap());
        assert_eq!(found.sha256, live.sha256, "{codec}");
        let manifest = in_mem_snapshot::peek(&mut alone.disk()).unwrap().unwrap();
        let original = in_mem_snapshot::peek(&mut world.disk()).unwrap().unwrap();
        assert_eq!(manifest.codec_id, original.codec_id);
        assert!(
            manifest.codec_id.starts_with(codec),
            "{}",
            manifest.codec_id
        );
        digests.push(clone.digest().unwrap().sha256);
    }
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "one state"
    );
}

fn refusal(opened: Result<Database, OpenError>) -> OpenError {
    opened.err().expect("it is refused")
}

/// Opens in every way there is; what each says.
fn refusals(builder: &dyn Fn() -> DatabaseBuilder) -> Vec<OpenError> {
    let repair = builder().repair_to(Arc::new(world()), NAME);
    vec![
        refusal(builder().open()),
        refusal(builder().open_existing()),
        refusal(builder().read_only().open()),
        builder().check().expect_err("checks"),
        match repair {
            Err(RepairError::Open(error)) => error,
            other => panic!("{other:?}"),
        },
    ]
}

#[test]
fn a_wrong_or_missing_key_and_another_codec_are_told_before_anything_is_touched() {
    for codec in ENCRYPTING {
        let world = untidy_with(|world| over_with(world, codec));
        let before = world.fingerprint();
        for error in refusals(&|| over(&world, STRICT).codec(codec).key(key(8))) {
            let expected = key(7).id();
            let got = key(8).id();
            let wrong = CodecError::WrongKey { expected, got };
            assert!(
                matches!(&error, OpenError::Codec(it) if *it == wrong),
                "{error:?}"
            );
            assert!(error.to_string().contains("does not fit this database"));
        }
        for error in refusals(&|| over(&world, STRICT).codec(codec)) {
            let is_missing = matches!(error, OpenError::Codec(CodecError::KeyMissing { .. }));
            assert!(is_missing, "{error:?}");
        }
        for other in CODECS.into_iter().filter(|other| *other != codec) {
            for error in refusals(&|| over_with(&world, other)) {
                let OpenError::CodecMismatch { expected, got } = &error else {
                    panic!("{error:?}")
                };
                assert_eq!((expected.as_str(), got.starts_with(codec)), (other, true));
            }
        }
        assert_eq!(world.fingerprint(), before, "nothing was changed");
        // The torn tail is still there, for the open that has the key.
        let database = over_with(&world, codec).open_existing().unwrap();
        assert_ne!(database.last_recovery_result().unwrap().truncated_bytes, 0);
    }
}

#[test]
fn a_plain_database_is_not_opened_by_a_codec_that_would_be_another_for_life() {
    let world = world();
    drop(over_with(&world, "identity").open().unwrap());
    let before = world.fingerprint();
    for codec in CODECS.into_iter().filter(|codec| *codec != "identity") {
        for error in refusals(&|| over_with(&world, codec)) {
            assert!(
                matches!(error, OpenError::CodecMismatch { .. }),
                "{error:?}"
            );
        }
    }
    assert_eq!(world.fingerprint(), before);
}

#[test]
fn settings_that_cannot_hold_are_refused_in_every_mode() {
    let open = |builder: DatabaseBuilder| refusal(builder.open());
    for builder in [Database::builder, || Database::builder().in_memory()] {
        let error = open(builder().codec("zip"));
        let is_unknown = matches!(error, OpenError::Codec(CodecError::UnknownCodec { .. }));
        assert!(is_unknown, "{error:?}");
        let error = open(builder().codec("aes-256-gcm"));
        let is_missing = matches!(error, OpenError::Codec(CodecError::KeyMissing { .. }));
        assert!(is_missing, "{error:?}");
        let long = "x".repeat(256);
        let custom = |id: &str| builder().custom_codec(Arc::new(Watched::named(id)));
        for builder in [
            builder().codec("lz4").key(key(1)),
            custom(""),
            custom(&long),
            custom("identity"),
            custom("aes-256-gcm:0011223344556677"),
        ] {
            let error = open(builder);
            let is_invalid = matches!(error, OpenError::InvalidConfig { .. });
            assert!(is_invalid, "{error:?}");
        }
    }
}

#[test]
fn whoever_only_looks_takes_the_codec_that_is_stored() {
    for codec in CODECS.into_iter().filter(|codec| *codec != Scramble::ID) {
        let world = untidy_with(|world| over_with(world, codec));
        let look = || {
            let builder = over(&world, STRICT).stored_codec();
            if ENCRYPTING.contains(&codec) {
                builder.key(key(7))
            } else {
                builder
            }
        };
        let digest = look().read_only().open().unwrap().digest().unwrap();
        let report = look().check().unwrap();
        assert!(report.is_sound(), "{codec}: {:?}", report.faults);
        assert_eq!(report.state.unwrap().digest.sha256, digest.sha256);
        // Without a MANIFEST the codec is said: the database is put together again.
        world.remove_file("MANIFEST");
        let target = super::world();
        let info = over_with(&world, codec).stored_codec();
        let info = info.repair_to(Arc::new(target.clone()), NAME).unwrap();
        assert_eq!(info.digest.sha256, digest.sha256, "{codec}");
        let alone = directory(&target, NAME).unwrap();
        let repaired = over_with(&alone, codec).open_existing().unwrap();
        assert_eq!(repaired.digest().unwrap().sha256, digest.sha256, "{codec}");
    }
}

/// Every record of a log: where it lies, and what is stored of its writeset.
fn records(world: &SimWorld, codec: &dyn StorageCodec) -> Vec<(Lsn, Vec<u8>)> {
    let manifest = in_mem_snapshot::peek(&mut world.disk()).unwrap().unwrap();
    let options = ScanOptions {
        database_uuid: manifest.database_uuid,
        record_len_bytes_max: small_log().record_len_bytes_max,
        snapshot_end: Lsn::ZERO,
        manifest_active_segment: manifest.active_wal_segment,
        is_permissive: false,
        planted: small_log().planted,
    };
    let mut found = Vec::new();
    scan::<()>(&mut world.disk(), &options, codec, |record| {
        found.push(record.lsn);
        Ok(())
    })
    .unwrap();
    let stored = found.into_iter().map(|lsn| (lsn, record_at(world, lsn)));
    stored.collect()
}

fn record_at(world: &SimWorld, lsn: Lsn) -> Vec<u8> {
    let segment = world
        .read_file(&names::segment_path(lsn.segment()))
        .unwrap();
    let bytes = &segment[lsn.offset() as usize..];
    let (record, _) = Record::parse(bytes, small_log().record_len_bytes_max).unwrap();
    record.writeset.to_vec()
}

/// Puts other stored bytes of the same length into a record, with the checksum that is theirs.
fn replace(world: &SimWorld, lsn: Lsn, stored: &[u8]) {
    let path = names::segment_path(lsn.segment());
    let mut segment = world.read_file(&path).unwrap();
    let bytes = &mut segment[lsn.offset() as usize..];
    let (record, len) = Record::parse(bytes, small_log().record_len_bytes_max).unwrap();
    let mut changed = Vec::new();
    record.head.encode_into(stored, &mut changed);
    bytes[..len].copy_from_slice(&changed);
    world.write_file(&path, &segment);
}

#[test]
fn a_record_that_does_not_decode_under_a_right_checksum_is_no_torn_tail_and_nothing_is_dropped() {
    for codec in ["lz4", "aes-256-gcm", "lz4+aes-256-gcm", Scramble::ID] {
        let world = world();
        let database = over_with(&world, codec).open().unwrap();
        let run = database.default_run();
        for number in 0..5 {
            run.kv()
                .put("k", &text(&format!("{number}").repeat(99)))
                .unwrap();
        }
        let kept = database.digest_at(database.version() - 1).unwrap();
        // Killed: the last record is the end of the log, where a torn one would stand.
        let killed = world.kill(SEED);
        drop(database);
        let opened = match codec {
            Scramble::ID => Arc::new(Scramble) as Arc<dyn StorageCodec>,
            codec => open_codec(codec, Some(&key(7))).unwrap(),
        };
        let (lsn, mut stored) = records(&killed, &*opened).pop().unwrap();
        stored[0] ^= 0xFF;
        replace(&killed, lsn, &stored);
        let before = killed.fingerprint();
        for read_only in [false, true] {
            let builder = over_with(&killed, codec);
            let builder = if read_only {
                builder.read_only()
            } else {
                builder
            };
            let error = refusal(builder.open_existing());
            let OpenError::Scan(error) = &error else {
                panic!("{codec}: {error:?}")
            };
            assert!(
                matches!(**error, ScanError::Codec { at, .. } if at == lsn),
                "{error:?}"
            );
        }
        let report = over_with(&killed, codec).check().unwrap();
        assert!(!report.is_sound(), "{codec}");
        assert_eq!(killed.fingerprint(), before, "{codec}: nothing was changed");
        assert!(
            killed
                .paths()
                .iter()
                .all(|path| !path.starts_with("QUARANTINE"))
        );
        // What stands before it can be had, in a directory of its own.
        let target = super::world();
        let repaired = over_with(&killed, codec).repair_to(Arc::new(target), NAME);
        assert_eq!(repaired.unwrap().digest.sha256, kept.sha256, "{codec}");
    }
}

/// What every pair of salt and number in the files of a directory was used for.
fn pairs_of(world: &SimWorld, pairs: &mut HashMap<Vec<u8>, Vec<u8>>) -> usize {
    let codec = open_codec("aes-256-gcm", Some(&key(7))).unwrap();
    let mut stored: Vec<Vec<u8>> = records(world, &*codec).into_iter().map(|it| it.1).collect();
    for path in world.paths().iter().filter(|path| path.ends_with(".chk")) {
        stored.extend(blocks(&world.read_file(path).unwrap()));
    }
    let count = stored.len();
    for bytes in stored {
        let pair = bytes[..24].to_vec();
        let first = pairs.entry(pair).or_insert_with(|| bytes.clone());
        assert!(*first == bytes, "one key and nonce for two texts");
    }
    count
}

/// The stored bytes of each block of a snapshot, by the drawing of its format.
fn blocks(file: &[u8]) -> Vec<Vec<u8>> {
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut found) = (39, Vec::new());
    for _ in 0..file[38] {
        at += 9;
        while u32_at(at) != 0 {
            let stored_len = u32_at(at + 4);
            found.push(file[at + 12..at + 12 + stored_len].to_vec());
            at += 12 + stored_len;
        }
        at += 12;
    }
    assert_eq!(at + 4, file.len());
    found
}

#[test]
fn restarts_copies_and_clones_share_no_key_and_nonce_and_neither_do_log_and_background() {
    let mut pairs = HashMap::new();
    let mut rng = SimRng::new(SEED);
    let mut worlds = vec![world()];
    drop(over_with(&worlds[0], "aes-256-gcm").open().unwrap());
    let mut count = 0;
    for round in 0..4 {
        let mut copies = Vec::new();
        for world in &worlds {
            // Copied as it lies there, and as the database is asked to.
            copies.push(world.kill(round));
            let database = over_with(world, "aes-256-gcm").open().unwrap();
            let writer = {
                let database = database.clone();
                let mut rng = SimRng::new(rng.next_u64());
                std::thread::spawn(move || (0..40).for_each(|_| act(&database, &mut rng)))
            };
            database.checkpoint().unwrap();
            writer.join().unwrap();
            (0..5).for_each(|_| act(&database, &mut rng));
            if copies.len() == 1 && round < 3 {
                copies.push(cloned(&database));
            }
            database.shutdown().unwrap();
        }
        worlds.extend(copies);
        count = worlds.iter().map(|world| pairs_of(world, &mut pairs)).sum();
    }
    let salts: std::collections::HashSet<_> = pairs.keys().map(|pair| &pair[..16]).collect();
    println!(
        "{} pairs under {} salts, stored {count} times",
        pairs.len(),
        salts.len()
    );
    assert!(15 <= salts.len(), "each open draws one");
    assert!(
        300 < pairs.len() && pairs.len() < count,
        "copies repeat bytes, not pairs"
    );
}

/// Says which threads have encoded.
struct Watched {
    id: String,
    threads: Arc<Mutex<BTreeSet<Option<String>>>>,
}

impl Watched {
    fn named(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            threads: Arc::default(),
        }
    }
}

impl StorageCodec for Watched {
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let name = std::thread::current().name().map(str::to_owned);
        self.threads.lock().insert(name);
        Ok(plain.into())
    }

    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        Ok(stored.into())
    }

    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize {
        plain_len_bytes
    }

    fn codec_id(&self) -> &str {
        &self.id
    }
}

#[test]
fn records_are_encoded_on_the_log_thread_and_blocks_on_the_background_thread_and_nothing_elsewhere()
{
    let watched = Watched::named("watched");
    let threads = Arc::clone(&watched.threads);
    let builder = over(&world(), STRICT).custom_codec(Arc::new(watched));
    let database = builder.open().unwrap();
    let encoded = |names: &[&str]| {
        let names = names.iter().map(|name| Some((*name).to_owned()));
        assert_eq!(*threads.lock(), names.collect());
    };
    encoded(&[]);
    database.default_run().kv().put("k", &int(1)).unwrap();
    encoded(&["inmem-log"]);
    database.checkpoint().unwrap();
    encoded(&["inmem-background", "inmem-log"]);
    drop(cloned(&database));
    encoded(&["inmem-background", "inmem-log"]);
}

#[test]
fn no_error_and_no_text_about_a_database_shows_its_key_or_its_data() {
    let secret = CodecKey::from_bytes(b"ThisKeyIsSecretAndMustNeverShow!");
    let config = DatabaseConfig::strict()
        .with_codec("aes-256-gcm")
        .with_key(secret.clone());
    let mut shown = format!("{config:?} {config:#?} {secret:?}");
    let world = world();
    let builder = || over(&world, STRICT).codec("aes-256-gcm");
    let database = builder().key(secret.clone()).open().unwrap();
    database
        .default_run()
        .kv()
        .put("plainkey", &text("plainvalue"))
        .unwrap();
    let killed = world.kill(SEED);
    drop(database);
    let opened = open_codec("aes-256-gcm", Some(&secret)).unwrap();
    shown.push_str(&format!("{opened:?}"));
    let (lsn, mut stored) = records(&killed, &*opened).pop().unwrap();
    stored[30] ^= 1;
    replace(&killed, lsn, &stored);
    let on = |world: &SimWorld| over(world, STRICT).codec("aes-256-gcm");
    for error in [
        refusal(on(&killed).key(secret.clone()).open()),
        refusal(on(&world).key(key(1)).open()),
        refusal(on(&world).open()),
    ] {
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        shown.push_str(&format!("{error:?}"));
        while let Some(error) = next {
            shown.push_str(&error.to_string());
            next = error.source();
        }
    }
    let report = on(&killed).key(secret).check().unwrap();
    shown.push_str(&format!("{report:?}"));
    for part in ["ThisKey", "plain", "84, 104, 105, 115", "54686973"] {
        assert!(!shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn the_size_check_counts_what_the_codec_adds_before_a_version_is_assigned() {
    let fits = |codec: &str, len: usize| {
        let database = over_with(&world(), codec).open().unwrap();
        let before = database.version();
        let put = database
            .default_run()
            .kv()
            .put("k", &text(&"v".repeat(len)));
        let is_unchanged = put.is_ok() || database.version() == before;
        assert!(is_unchanged && !database.is_poisoned(), "{codec} {len}");
        put.is_ok()
    };
    let max = small_log().record_len_bytes_max as usize;
    let len = (0..200)
        .map(|less| max - less)
        .find(|len| fits("identity", *len));
    let len = len.expect("almost the cap");
    assert!(fits(Scramble::ID, len - 1) && !fits(Scramble::ID, len));
    assert!(fits("lz4", len - 1) && !fits("lz4", len));
    assert!(fits("aes-256-gcm", len - 40) && !fits("aes-256-gcm", len - 39));
    assert!(fits("lz4+aes-256-gcm", len - 41) && !fits("lz4+aes-256-gcm", len - 40));
}
