//! Snapshots as bytes and as files: what was written is read, what was changed is refused.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use in_mem_wal::codec::CodecError;
use in_mem_wal::disk::{
    CrashMode, Disk, Fault, Lie, Moment, OpKind, OpenMode, SimOptions, SimRng, SimWorld,
};
use in_mem_wal::{IdentityCodec, Lsn, StorageCodec};

use super::format::HEADER_LEN_BYTES;
use super::{
    BLOCK_LEN_BYTES, BlockSource, SNAPSHOTS_DIR, SectionSource, SnapshotDamage, SnapshotError,
    SnapshotHeader, SnapshotMeta, SnapshotReader, SnapshotWriter, list_snapshots, publish_snapshot,
    remove_temps, snapshot_path, temp_path, validate,
};

const SEED: u64 = 42;
const UUID: [u8; 16] = *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf";

/// Type and pieces of each section; the first is the snapshot's own.
type Sections = Vec<(u8, Vec<Vec<u8>>)>;

/// Changes every byte and adds one per block.
struct Scrambling;

impl StorageCodec for Scrambling {
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let changed = plain.iter().map(|byte| byte ^ 0xA5);
        Ok(Cow::Owned(changed.chain([0x5A]).collect()))
    }

    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        match stored.split_last() {
            Some((0x5A, rest)) => Ok(Cow::Owned(rest.iter().map(|byte| byte ^ 0xA5).collect())),
            _ => Err(CodecError::Decode {
                codec_id: "scrambling",
                len_bytes: stored.len(),
            }),
        }
    }

    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize {
        plain_len_bytes + 1
    }

    fn codec_id(&self) -> &'static str {
        "scrambling"
    }
}

fn identity() -> Arc<dyn StorageCodec> {
    Arc::new(IdentityCodec)
}

fn meta(id: u64, codec: &dyn StorageCodec) -> SnapshotMeta {
    SnapshotMeta {
        snapshot_id: id,
        watermark_txn: 7,
        database_uuid: UUID,
        version_floor: 1 << 32,
        codec_id: codec.codec_id().to_owned(),
    }
}

fn header(sections: &Sections) -> SnapshotHeader {
    SnapshotHeader {
        timestamp_us: 0x0102_0304_0506_0708,
        wal_offset: Lsn::new(2, 8192),
        tx_count: 5,
        section_count: u8::try_from(sections.len()).unwrap(),
    }
}

fn small() -> Sections {
    vec![
        (0, vec![b"tables".to_vec()]),
        (1, vec![b"key ".to_vec(), b"and value".to_vec()]),
        (6, vec![]),
    ]
}

fn world() -> SimWorld {
    let world = SimWorld::new(SimOptions::new(SEED));
    let disk = &mut world.disk();
    in_mem_wal::files::create_dir_if_absent(disk, SNAPSHOTS_DIR).unwrap();
    in_mem_wal::files::sync_dir(disk, "").unwrap();
    world
}

/// Writes a snapshot under its temporary name.
fn write(
    disk: &mut dyn Disk,
    id: u64,
    sections: &Sections,
    codec: &Arc<dyn StorageCodec>,
) -> Result<super::Written, SnapshotError> {
    let (header, meta) = (header(sections), meta(id, &**codec));
    let mut writer = SnapshotWriter::create(disk, &header, &meta, Arc::clone(codec))?;
    for (index, (section, pieces)) in sections.iter().enumerate() {
        let mut section_of = |writer: &mut SnapshotWriter| {
            if index != 0 {
                writer.begin_section(disk, *section)?;
            }
            for piece in pieces {
                writer.push(disk, piece)?;
            }
            writer.end_section(disk)
        };
        if let Err(error) = section_of(&mut writer) {
            writer.abandon(disk);
            return Err(error);
        }
    }
    writer.finish(disk)
}

/// Writes a snapshot as it must be: read back around the cache before it gets its name.
fn write_published(disk: &mut dyn Disk, id: u64, sections: &Sections) -> Result<(), SnapshotError> {
    write(disk, id, sections, &identity())?;
    let path = temp_path(id);
    validate(
        disk,
        &path,
        OpenMode::ReadDirect,
        identity(),
        &mut |_, _| ControlFlow::Continue(()),
    )?;
    publish_snapshot(disk, id).map_err(|source| SnapshotError::Io {
        path: snapshot_path(id),
        source,
    })
}

/// Reads a snapshot whole, in pieces whose lengths are drawn.
fn read(
    disk: &mut dyn Disk,
    path: &str,
    codec: &Arc<dyn StorageCodec>,
    expected: &[(u8, Vec<u8>)],
    rng: &mut SimRng,
) -> Result<Vec<(u8, Vec<u8>)>, SnapshotError> {
    let (mut reader, meta) = SnapshotReader::open(disk, path, OpenMode::Read, Arc::clone(codec))?;
    meta.check(meta.snapshot_id, UUID, codec.codec_id(), Some(7))?;
    let mut sections = Vec::new();
    let mut next = Some(0);
    while let Some(section) = next {
        let mut bytes = Vec::new();
        let mut source = SectionSource {
            reader: &mut reader,
            disk,
        };
        while !source.is_at_end()? {
            // One byte is there; whether more are, only the test knows.
            let wanted = expected.get(sections.len()).map_or(0, |of| of.1.len());
            let rest = wanted.saturating_sub(bytes.len()).max(1);
            let mut piece = vec![0; 1 + rng.index(rest)];
            source.read(&mut piece)?;
            bytes.extend_from_slice(&piece);
        }
        sections.push((section, bytes));
        next = reader.next_section(disk)?;
    }
    reader.close(disk);
    Ok(sections)
}

fn check(world: &SimWorld, path: &str) -> Result<(SnapshotHeader, SnapshotMeta), SnapshotError> {
    let mut calls = 0;
    let mut between = |_: &mut dyn Disk, _| {
        calls += 1;
        ControlFlow::Continue(())
    };
    validate(
        &mut world.disk(),
        path,
        OpenMode::ReadDirect,
        identity(),
        &mut between,
    )
}

fn joined(sections: &Sections) -> Vec<(u8, Vec<u8>)> {
    let join = |(section, pieces): &(u8, Vec<Vec<u8>>)| (*section, pieces.concat());
    sections.iter().map(join).collect()
}

/// Made by hand (Python's struct and zlib), not by this code.
#[test]
fn the_whole_file_has_these_bytes() {
    let world = world();
    let written = write(&mut world.disk(), 3, &small(), &identity()).unwrap();
    let bytes = world.read_file(&temp_path(3)).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = GOLDEN.split_whitespace().collect::<String>();
    assert_eq!(hex, expected);
    assert_eq!(written.len_bytes, bytes.len() as u64);
    assert_eq!(bytes[bytes.len() - 4..], written.crc.to_le_bytes());
}

const GOLDEN: &str = "
    494e4d454d5f534e4150010000000807060504030201002000000200000005000000000000000300
    52000000000000003a0000003a0000000359913303000000000000000700000000000000a0a1a2a3
    a4a5a6a7a8a9aaabacadaeaf0000000001000000080000006964656e746974797461626c65730000
    000000000000000000000125000000000000000d0000000d00000046b2f4b16b657920616e642076
    616c7565000000000000000000000000060c00000000000000000000000000000000000000e3c522
    3a";

#[test]
fn what_was_written_is_read_whatever_the_codec_and_the_pieces() {
    for seed in SEED..SEED + 12 {
        println!("seed {seed}");
        let mut rng = SimRng::new(seed);
        let codec: Arc<dyn StorageCodec> = match rng.coin() {
            true => Arc::new(Scrambling),
            false => identity(),
        };
        let mut section = 0_u8;
        let mut sections = Vec::new();
        for _ in 0..=rng.below(4) {
            let piece = |rng: &mut SimRng| {
                let len = match rng.below(8) {
                    0 => BLOCK_LEN_BYTES - 1 + rng.index(3),
                    1 => rng.index(100_000),
                    _ => rng.index(40),
                };
                let first = rng.below(256);
                let bytes = (0..len as u64).map(|at| u8::try_from((first + at) % 251).unwrap());
                bytes.collect::<Vec<u8>>()
            };
            let pieces = (0..rng.index(6)).map(|_| piece(&mut rng)).collect();
            sections.push((section, pieces));
            section += 1 + u8::try_from(rng.below(20)).unwrap();
        }
        let world = world();
        let disk = &mut world.disk();
        write(disk, 1, &sections, &codec).unwrap();
        publish_snapshot(disk, 1).unwrap();
        let found = read(
            disk,
            &snapshot_path(1),
            &codec,
            &joined(&sections),
            &mut rng,
        )
        .unwrap();
        assert!(found == joined(&sections), "seed {seed}");
        let mut longest = 0;
        let between = &mut |_: &mut dyn Disk, at| {
            longest = at;
            ControlFlow::Continue(())
        };
        let path = snapshot_path(1);
        let (found, meta_found) =
            validate(disk, &path, OpenMode::Read, codec.clone(), between).unwrap();
        assert_eq!((found, meta_found), (header(&sections), meta(1, &*codec)));
        assert_ne!(longest, 0, "between is called");
    }
}

#[test]
fn a_reading_that_is_ended_says_so_and_changes_nothing() {
    let world = world();
    write_published(&mut world.disk(), 1, &small()).unwrap();
    let path = snapshot_path(1);
    let mut calls = 0;
    let between = &mut |_: &mut dyn Disk, _| {
        calls += 1;
        ControlFlow::Break(())
    };
    let ended = validate(
        &mut world.disk(),
        &path,
        OpenMode::Read,
        identity(),
        between,
    );
    let is_interrupted = matches!(
        ended,
        Err(SnapshotError::Io { source, .. }) if source.kind() == std::io::ErrorKind::Interrupted
    );
    assert!(is_interrupted && calls == 1);
    assert!(check(&world, &path).is_ok());
}

#[test]
fn no_plain_byte_reaches_the_disk_through_a_scrambling_codec() {
    let world = world();
    let codec: Arc<dyn StorageCodec> = Arc::new(Scrambling);
    write(&mut world.disk(), 1, &small(), &codec).unwrap();
    let bytes = world.read_file(&temp_path(1)).unwrap();
    for word in [b"tables".as_slice(), b"key", b"value"] {
        assert!(!bytes.windows(word.len()).any(|window| window == word));
    }
}

#[test]
fn every_flipped_bit_every_set_byte_and_every_truncation_is_refused() {
    let world = world();
    let path = snapshot_path(3);
    write_published(&mut world.disk(), 3, &small()).unwrap();
    let whole = world.read_file(&path).unwrap();
    assert!(check(&world, &path).is_ok());
    let mut refused_count = 0;
    let mut refuse = |bytes: &[u8], what: &str| {
        world.write_file(&path, bytes);
        let error = check(&world, &path).err();
        let error = error.unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(error.to_string().contains(&path), "{what}: {error}");
        // Reading it without looking first gives out no byte of a block that was changed.
        let mut rng = SimRng::new(SEED);
        let read = read(&mut world.disk(), &path, &identity(), &[], &mut rng);
        assert!(read.is_err(), "{what} was read");
        refused_count += 1;
    };
    for at in 0..whole.len() {
        for mask in (0..8).map(|bit| 1 << bit).chain([0xFF, whole[at]]) {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            if bytes != whole {
                refuse(&bytes, &format!("byte {at} changed by {mask:#04x}"));
            }
        }
        refuse(&whole[..at], &format!("cut at {at}"));
    }
    let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
    refuse(&longer, "one byte more");
    println!("{refused_count} files refused");
    world.write_file(&path, &whole);
    assert!(check(&world, &path).is_ok());
}

/// A length of every field set to values that no writer writes; nothing is allocated for them.
#[test]
fn absurd_lengths_are_refused_before_anything_is_allocated() {
    let world = world();
    write_published(&mut world.disk(), 3, &small()).unwrap();
    let path = snapshot_path(3);
    let whole = world.read_file(&path).unwrap();
    for at in 0..whole.len() - 8 {
        for width in [4, 8] {
            for byte in [0xFF, 0x7F] {
                let mut bytes = whole.clone();
                bytes[at..at + width].fill(byte);
                world.write_file(&path, &bytes);
                assert!(check(&world, &path).is_err(), "{width} bytes at {at}");
            }
        }
    }
}

#[test]
fn each_error_names_what_is_wrong_and_where() {
    let world = world();
    let path = snapshot_path(3);
    write_published(&mut world.disk(), 3, &small()).unwrap();
    let whole = world.read_file(&path).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        world.write_file(&path, &changed);
        check(&world, &path).unwrap_err()
    };
    let damage = |error: SnapshotError| match error {
        SnapshotError::Damaged { offset, damage, .. } => (offset, damage),
        other => panic!("{other}"),
    };
    let version = with(10, &[2]);
    assert!(version.needs_newer_build());
    assert_eq!(damage(with(0, b"X")), (0, SnapshotDamage::Magic));
    let first = HEADER_LEN_BYTES as u64;
    let order = SnapshotDamage::SectionOrder { section: 1 };
    assert_eq!(damage(with(39, &[1])), (first, order));
    let length = SnapshotDamage::SectionLength;
    assert_eq!(damage(with(40, &[0xFF; 8])), (first, length));
    let block = SnapshotDamage::BlockLength;
    assert_eq!(damage(with(48, &[0xFF; 4])), (first + 9, block.clone()));
    assert_eq!(damage(with(52, &[0xFF; 4])), (first + 9, block));
    let (offset, checksum) = damage(with(60, &[0xFF]));
    assert_eq!(offset, first + 9 + 12);
    assert!(matches!(checksum, SnapshotDamage::BlockChecksum { .. }));
    let (offset, checksum) = damage(with(14, &[0xFF]));
    assert_eq!(offset, whole.len() as u64 - 4);
    assert!(matches!(checksum, SnapshotDamage::FileChecksum { .. }));
    let text = with(60, &[0xFF]).to_string();
    assert!(
        text.contains("snap-000003.chk is damaged at offset 60"),
        "{text}"
    );
}

#[test]
fn a_snapshot_of_another_database_codec_id_or_watermark_is_told_apart() {
    let meta = meta(3, &IdentityCodec);
    assert!(meta.check(3, UUID, "identity", Some(7)).is_ok());
    assert!(meta.check(3, UUID, "identity", None).is_ok());
    let other = meta.check(3, [0; 16], "identity", None);
    assert!(matches!(other, Err(SnapshotError::OtherDatabase { .. })));
    let other = meta.check(3, UUID, "scrambling", None);
    assert!(matches!(other, Err(SnapshotError::CodecMismatch { .. })));
    for (id, watermark) in [(4, Some(7)), (3, Some(8))] {
        let other = meta.check(id, UUID, "identity", watermark);
        assert!(matches!(other, Err(SnapshotError::Mismatch { .. })));
    }
}

/// Writes snapshot 2 beside a published snapshot 1, with each operation failing in turn.
#[test]
fn a_fault_at_every_step_is_reported_and_never_leaves_a_snapshot_that_is_not_whole() {
    let sections = small();
    for fault in Fault::ALL {
        for step in 0.. {
            let world = world();
            write_published(&mut world.disk(), 1, &sections).unwrap();
            let failing = world.op_count() + step;
            world.fail_at(failing, fault);
            let result = write_published(&mut world.disk(), 2, &sections);
            let is_over = world.op_count() <= failing;
            world.clear_faults();
            remove_temps(&mut world.disk()).unwrap();
            let ids = list_snapshots(&mut world.disk()).unwrap();
            assert!(result.is_err() || ids == [1, 2], "{fault:?} at {step}");
            for id in ids {
                let checked = check(&world, &snapshot_path(id));
                assert!(checked.is_ok(), "{fault:?} at {step}: {checked:?}");
            }
            assert!(world.paths().iter().all(|path| !path.ends_with(".tmp")));
            if is_over {
                assert!(result.is_ok());
                break;
            }
        }
    }
}

/// Crashes at each operation of writing and publishing snapshot 2, and gives each image to `look`
/// with whether the publication had returned.
fn crash_everywhere(world: &SimWorld, mut look: impl FnMut(&SimWorld, &Moment, bool)) -> u64 {
    write_published(&mut world.disk(), 1, &small()).unwrap();
    world.record_moments();
    write_published(&mut world.disk(), 2, &small()).unwrap();
    let published_at = world.op_count();
    // One more moment, after everything.
    list_snapshots(&mut world.disk()).unwrap();
    let mut image_count = 0;
    for moment in world.take_moments() {
        for image in 0..24 {
            let mode = [CrashMode::Prefix, CrashMode::Subset][usize::from(image % 2 == 1)];
            let after = moment.world.crash(image, mode);
            look(&after, &moment, published_at <= moment.op_index);
            image_count += 1;
        }
    }
    image_count
}

#[test]
fn a_crash_at_every_step_leaves_a_whole_snapshot_or_none() {
    let image_count = crash_everywhere(&world(), |after, moment, is_published| {
        remove_temps(&mut after.disk()).unwrap();
        let ids = list_snapshots(&mut after.disk()).unwrap();
        assert!(ids.contains(&1), "{:?}", moment.kind);
        assert!(!is_published || ids == [1, 2], "{:?}", moment.kind);
        for id in ids {
            let checked = check(after, &snapshot_path(id));
            assert!(checked.is_ok(), "{:?}: {checked:?}", moment.kind);
        }
    });
    println!("{image_count} images, seed {SEED}");
}

/// The test above is tested: without the sync of the file, or of the directory, it fails.
#[test]
fn a_missing_sync_of_the_snapshot_or_of_its_directory_is_seen() {
    for lie in [
        Lie::NoFileSync {
            path_prefix: SNAPSHOTS_DIR.to_owned(),
        },
        Lie::NoDirectorySync {
            path_prefix: SNAPSHOTS_DIR.to_owned(),
        },
    ] {
        let world = world();
        world.lie(lie.clone());
        let mut seen_count = 0;
        crash_everywhere(&world, |after, _, is_published| {
            let checked = check(after, &snapshot_path(2));
            seen_count += u64::from(is_published && checked.is_err());
        });
        assert_ne!(seen_count, 0, "{lie:?} went unseen");
    }
}

#[test]
fn every_operation_of_a_snapshot_is_one_of_these() {
    let world = world();
    world.record_moments();
    write_published(&mut world.disk(), 1, &small()).unwrap();
    let kinds: Vec<OpKind> = world.take_moments().iter().map(|one| one.kind).collect();
    let sync = kinds.iter().position(|kind| *kind == OpKind::Sync).unwrap();
    let rename = kinds.iter().position(|kind| *kind == OpKind::Rename);
    let last_write = kinds.iter().rposition(|kind| *kind == OpKind::Write);
    assert!(last_write < Some(sync), "{kinds:?}");
    assert!(Some(sync) < rename, "{kinds:?}");
    assert_eq!(kinds.last(), Some(&OpKind::SyncDir), "{kinds:?}");
}
