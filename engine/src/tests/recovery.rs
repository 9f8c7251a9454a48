//! What comes back after a restart, and what does not.

use std::sync::Arc;

use in_mem_model::{Durability, RunId};
use in_mem_snapshot::{BlockSink, BlockSource, SnapshotError};
use in_mem_wal::disk::{CrashMode, Fault, FaultRule, OpKind, SimWorld};

use super::{MODES, int, over, text, world};
use crate::{
    BeginRun, Database, DurabilityMode, OpenError, PrimitiveError, PrimitiveStorageExt,
    RecoveryProgress, ShardedStore, SnapshotTarget, SnapshotView, WalEntry,
};

const STRICT: DurabilityMode = DurabilityMode::Strict;

/// Writes something of everything that is stored.
fn fill(database: &Database) -> RunId {
    let begin = BeginRun {
        name: Some("agent".into()),
        ..BeginRun::default()
    };
    let (info, _) = database.runs().begin_run(begin).unwrap();
    let run = database.run(info.id).unwrap();
    for index in 0..50 {
        run.kv()
            .put(format!("k{}", index % 10), &int(index))
            .unwrap();
    }
    run.kv().delete("k3").unwrap();
    run.kv()
        .put_many(&[(b"a", &int(1)), (b"b", &text("two"))])
        .unwrap();
    run.kv().incr("count", 7).unwrap();
    database.default_run().kv().put("d", &int(1)).unwrap();
    database.runs().add_tags(info.id, &["t"]).unwrap();
    info.id
}

#[test]
fn recovery_invariant_eight_3_everything_strict_comes_back_after_a_power_loss_and_reopening_again_changes_nothing()
 {
    let before = world();
    let (digest, run, version);
    let after = {
        let database = over(&before, STRICT).open().unwrap();
        run = fill(&database);
        digest = database.state_digest();
        version = database.version();
        before.crash(1, CrashMode::Subset)
    };
    for _ in 0..3 {
        let database = over(&after, STRICT).open_existing().unwrap();
        assert_eq!(database.state_digest(), digest);
        assert!(version <= database.version(), "no version is issued twice");
        assert_eq!(database.runs().resolve("agent"), Some(run));
        let history = database
            .run(run)
            .unwrap()
            .kv()
            .history("k3", None, None)
            .unwrap();
        assert_eq!(history.len(), 6, "history and the tombstone survive");
        database.shutdown().unwrap();
    }
}

#[test]
fn a_recovery_that_is_told_to_stop_changes_nothing_on_disk_and_the_next_one_recovers_all() {
    let before = world();
    let digest = {
        let database = over(&before, STRICT).open().unwrap();
        fill(&database);
        database.state_digest()
    };
    let stopped_in = before.crash(1, CrashMode::Subset);
    for kind in [OpKind::Write, OpKind::WriteSynced, OpKind::Sync] {
        // Whoever writes is found out.
        stopped_in.add_rule(FaultRule::new(Fault::Io).on(kind));
    }
    let progress = Arc::new(RecoveryProgress::default());
    progress.request_stop();
    let builder = over(&stopped_in, STRICT).progress(Arc::clone(&progress));
    let stopped = builder.open_existing().err();
    assert!(
        matches!(stopped, Some(OpenError::Interrupted)),
        "{stopped:?}"
    );
    assert_eq!(progress.record_count(), 0, "not one record further");
    let again = stopped_in.crash(1, CrashMode::Subset);
    let database = over(&again, STRICT).open_existing().unwrap();
    assert_eq!(database.state_digest(), digest);
}

#[test]
fn recovery_invariant_r5_what_was_buffered_and_flushed_survives_and_the_rest_is_lost_as_a_suffix() {
    let mode = MODES[1];
    for image in 0..20 {
        let before = world();
        let database = over(&before, mode).open().unwrap();
        let kv = |n: i64| database.default_run().kv().put("n", &int(n)).unwrap();
        kv(1);
        database.flush().unwrap();
        for n in 2..20 {
            kv(n);
        }
        let after = before.crash(image, CrashMode::Subset);
        let recovered = over(&after, mode).open_existing().unwrap();
        let found = recovered
            .default_run()
            .kv()
            .history("n", None, None)
            .unwrap();
        assert!(!found.is_empty(), "image {image}");
        let expected: Vec<Vec<u8>> = (1..=found.len() as i64)
            .rev()
            .map(|n| int(n).as_bytes().to_vec())
            .collect();
        let values: Vec<Vec<u8>> = found.into_iter().filter_map(|entry| entry.value).collect();
        assert_eq!(values, expected, "image {image}: a prefix, whole");
    }
}

#[test]
fn correctness_tx10_volatile_commits_between_logged_ones_are_absent_after_recovery() {
    let before = world();
    let last;
    {
        let database = over(&before, STRICT).open().unwrap();
        let run = database.default_run();
        run.kv().put("k", &int(1)).unwrap();
        let volatile = run.kv().with_durability(Durability::InMemory);
        volatile.put("k", &int(2)).unwrap();
        volatile.put("only", &int(2)).unwrap();
        run.kv().put("other", &int(3)).unwrap();
        last = volatile.put("k", &int(4)).unwrap();
        assert_eq!(run.kv().get("k").unwrap().unwrap(), int(4).as_bytes());
    }
    let database = over(&before, STRICT).open_existing().unwrap();
    let run = database.default_run();
    assert_eq!(run.kv().get("k").unwrap().unwrap(), int(1).as_bytes());
    assert_eq!(run.kv().get("only").unwrap(), None);
    assert_eq!(run.kv().get("other").unwrap().unwrap(), int(3).as_bytes());
    assert!(
        last < run.kv().put("k", &int(5)).unwrap(),
        "a volatile version is not issued again"
    );
}

/// Lost before: the key was absent only by a volatile deletion, so the logged one wrote nothing.
#[test]
fn a_logged_delete_outlives_a_restart_although_a_volatile_one_came_before_it() {
    let before = world();
    {
        let database = over(&before, STRICT).open().unwrap();
        let run = database.default_run();
        for key in ["alone", "taken", "in a transaction"] {
            run.kv().put(key, &int(1)).unwrap();
            let volatile = run.kv().with_durability(Durability::InMemory);
            assert!(volatile.delete(key).unwrap());
        }
        assert!(!run.kv().delete("alone").unwrap(), "it was gone already");
        assert_eq!(run.kv().get_and_delete("taken").unwrap(), None);
        let mut context = database
            .begin_transaction(in_mem_model::RunId::DEFAULT)
            .unwrap();
        context.put(b"other", int(2).as_ref()).unwrap();
        assert!(!context.delete(b"in a transaction").unwrap());
        context.commit().unwrap();
        database.end_transaction(context);
    }
    let database = over(&before, STRICT).open_existing().unwrap();
    let run = database.default_run();
    for key in ["alone", "taken", "in a transaction"] {
        assert_eq!(run.kv().get(key).unwrap(), None, "{key}");
    }
}

#[test]
fn correctness_tx8_no_version_is_issued_twice_although_the_commits_that_had_them_are_lost() {
    let mode = MODES[1];
    let mut current = world();
    let mut highest = 0;
    for round in 0..5 {
        let database = over(&current, mode).open().unwrap();
        let version = database.default_run().kv().put("k", &int(round)).unwrap();
        assert!(highest < version, "round {round}");
        highest = database.default_run().kv().put("k", &int(round)).unwrap();
        current = current.crash(7, CrashMode::Prefix);
    }
}

#[test]
fn opening_creating_and_locking_follow_the_manifest() {
    let empty = world();
    assert!(matches!(
        over(&empty, STRICT).open_existing(),
        Err(OpenError::NotFound)
    ));
    drop(over(&empty, STRICT).create().unwrap());
    assert!(matches!(
        over(&empty, STRICT).create(),
        Err(OpenError::AlreadyExists)
    ));
    assert!(empty.paths().iter().any(|path| path == "MANIFEST"));
    empty.remove_file("MANIFEST");
    assert!(matches!(
        over(&empty, STRICT).open(),
        Err(OpenError::MissingManifest)
    ));
}

#[test]
fn a_creation_cut_short_before_the_manifest_can_be_repeated() {
    let seed = 42;
    let counted = SimWorld::new(in_mem_wal::disk::SimOptions::new(seed));
    drop(over(&counted, STRICT).manual().open().unwrap());
    for op in 0..counted.op_count() {
        let world = SimWorld::new(in_mem_wal::disk::SimOptions::new(seed));
        world.crash_at(op);
        let _ = over(&world, STRICT).manual().open();
        let after = world.crash(op, CrashMode::Subset);
        let opened = over(&after, STRICT).manual().open();
        assert!(
            opened.is_ok(),
            "seed {seed}, cut at operation {op}: {:?}",
            opened.err()
        );
    }
}

#[test]
fn a_database_directory_can_be_opened_once_and_again_after_closing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.inmem");
    let config = || {
        Database::builder()
            .path(&path)
            .wal_config(super::small_log())
    };
    let database = config().create().unwrap();
    assert!(matches!(config().open(), Err(OpenError::DatabaseLocked)));
    database.default_run().kv().put("k", &int(1)).unwrap();
    let (digest, uuid) = (database.state_digest(), database.uuid());
    database.close().unwrap();
    let again = config().open_existing().unwrap();
    assert_eq!((again.state_digest(), again.uuid()), (digest, uuid));
    assert_eq!(again.path().unwrap(), path);
}

/// A primitive of a test: remembers the last payload of each key.
#[derive(Default)]
struct Dummy(parking_lot::Mutex<Vec<(Vec<u8>, u64)>>);

impl PrimitiveStorageExt for Dummy {
    fn primitive_type_id(&self) -> u8 {
        9
    }

    fn primitive_name(&self) -> &'static str {
        "dummy"
    }

    fn wal_entry_types(&self) -> &[u8] {
        &[0x80]
    }

    fn apply_versioned(
        &self,
        _store: &ShardedStore,
        entry: &WalEntry<'_>,
    ) -> Result<(), PrimitiveError> {
        self.0.lock().push((entry.body.to_vec(), entry.version));
        Ok(())
    }

    fn snapshot_serialize(
        &self,
        _view: &SnapshotView<'_>,
        sink: &mut dyn BlockSink,
    ) -> Result<(), SnapshotError> {
        sink.write(b"dummy")
    }

    fn snapshot_deserialize(
        &self,
        target: &SnapshotTarget<'_>,
        source: &mut dyn BlockSource,
    ) -> Result<(), SnapshotError> {
        let mut bytes = [0; 5];
        source.read(&mut bytes)?;
        self.0.lock().push((bytes.to_vec(), target.watermark()));
        Ok(())
    }
}

#[test]
fn a_primitive_registers_without_edits_to_recovery_and_only_inside_its_range() {
    struct Bad(u8, &'static [u8]);
    impl PrimitiveStorageExt for Bad {
        fn primitive_type_id(&self) -> u8 {
            self.0
        }
        fn primitive_name(&self) -> &'static str {
            "bad"
        }
        fn wal_entry_types(&self) -> &[u8] {
            self.1
        }
        fn apply_versioned(
            &self,
            _store: &ShardedStore,
            entry: &WalEntry<'_>,
        ) -> Result<(), PrimitiveError> {
            Err(PrimitiveError::UnknownEntryType {
                entry_type: entry.entry_type,
            })
        }
        fn snapshot_serialize(
            &self,
            _view: &SnapshotView<'_>,
            _sink: &mut dyn BlockSink,
        ) -> Result<(), SnapshotError> {
            Ok(())
        }
        fn snapshot_deserialize(
            &self,
            _target: &SnapshotTarget<'_>,
            _source: &mut dyn BlockSource,
        ) -> Result<(), SnapshotError> {
            Ok(())
        }
    }
    let dummy = Arc::new(Dummy::default());
    assert!(
        Database::builder()
            .in_memory()
            .primitive(dummy)
            .open()
            .is_ok()
    );
    for bad in [
        Bad(0, &[0x80]),
        Bad(1, &[0x90]),
        Bad(9, &[0x10]),
        Bad(9, &[0x12]),
        Bad(9, &[0xF0]),
        Bad(9, &[0x00]),
        Bad(2, &[0x80]),
    ] {
        let opened = Database::builder()
            .in_memory()
            .primitive(Arc::new(bad))
            .open();
        assert!(matches!(opened, Err(OpenError::Register(_))));
    }
}

/// What was lost: a crash after a rotation leaves an empty segment; on a full disk the hint that had
/// to be lowered for it found no room, and the database did not open at all.
#[test]
fn an_empty_newest_segment_is_let_go_on_a_full_disk() {
    for (hint, refused_count) in [(1, u64::MAX), (2, 1)] {
        let world = world();
        let database = over(&world, STRICT).open().unwrap();
        fill(&database);
        let digest = database.state_digest();
        database.shutdown().unwrap();
        drop(database);
        world.write_file("WAL/wal-000002.seg", &[0; 16 << 10]);
        let disk = &mut world.disk();
        let mut manifest = in_mem_snapshot::load(disk).unwrap().unwrap();
        assert_eq!(
            manifest.active_wal_segment, 1,
            "this test fills one segment"
        );
        manifest.active_wal_segment = hint;
        in_mem_snapshot::publish(disk, &manifest).unwrap();
        world.add_rule(
            FaultRule::new(Fault::NoSpace)
                .on(OpKind::Create)
                .under("MANIFEST")
                .times(refused_count),
        );
        let database = over(&world, STRICT).open_existing().unwrap();
        assert_eq!(database.state_digest(), digest);
        database.default_run().kv().put("e", &int(1)).unwrap();
        assert!(world.read_file("WAL/wal-000002.seg").is_none());
    }
}

/// Changes the entry type of the first mutation of the record whose key is `key`, and its checksum.
fn with_entry_type(segment: &mut [u8], key: &[u8], entry_type: u8) {
    let (start, end) = record_of(segment, key);
    // Record head, count, kind.
    segment[start + 37 + 4 + 1] = entry_type;
    with_checksum(segment, start, end);
}

/// Changes the entry type of the commit marker of the record whose first key is `key`, and its
/// checksum.
pub(super) fn with_marker_type(segment: &mut [u8], key: &[u8], entry_type: u8) {
    let (start, end) = record_of(segment, key);
    // Entry type, payload version, version, length of the value, checksum.
    let at = end - 4 - 4 - 8 - 1 - 1;
    assert_eq!(segment[at], 0, "the marker is the last entry");
    segment[at] = entry_type;
    with_checksum(segment, start, end);
}

/// Where the record begins and ends whose first key is `key`.
fn record_of(segment: &[u8], key: &[u8]) -> (usize, usize) {
    let at = segment
        .windows(key.len())
        .position(|window| window == key)
        .unwrap();
    // Record head, count, kind; entry type, payload version, primitive, run, length of the key.
    let start = at - 4 - 16 - 1 - 3 - 4 - 37;
    let length: [u8; 4] = segment[start..start + 4].try_into().unwrap();
    (start, start + 4 + u32::from_le_bytes(length) as usize)
}

fn with_checksum(segment: &mut [u8], start: usize, end: usize) {
    let crc = crc32(&segment[start + 4..end - 4]);
    segment[end - 4..end].copy_from_slice(&crc.to_le_bytes());
}

/// CRC-32/ISO-HDLC, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    })
}

#[test]
fn an_unknown_entry_type_is_refused_or_on_request_passed_over_for_reading_only() {
    let world = world();
    let database = over(&world, STRICT).open().unwrap();
    let run = database.default_run();
    let kv = run.kv();
    kv.put("known-before", &int(1)).unwrap();
    kv.put("unknown-to-us", &int(2)).unwrap();
    kv.put("known-after", &int(3)).unwrap();
    database.shutdown().unwrap();
    drop(database);
    let path = "WAL/wal-000001.seg";
    let mut bytes = world.read_file(path).unwrap();
    with_entry_type(&mut bytes, b"unknown-to-us", 0x20);
    world.write_file(path, &bytes);
    let refused = over(&world, STRICT).open_existing().err().unwrap();
    let source = std::error::Error::source(&refused).map(ToString::to_string);
    let text = format!("{refused:?} {source:?}");
    assert!(text.contains("UnknownEntryType"), "{text}");
    let paths = world.paths();
    let database = over(&world, STRICT)
        .read_only_skipping_unknown()
        .open()
        .unwrap();
    let result = database.last_recovery_result().unwrap();
    assert_eq!((result.entries_skipped, result.is_read_only), (1, true));
    let run = database.default_run();
    let kv = run.kv();
    assert!(kv.get("known-before").unwrap().is_some());
    assert!(kv.get("known-after").unwrap().is_some());
    assert!(kv.get("unknown-to-us").unwrap().is_none());
    assert!(matches!(
        kv.put("more", &int(4)),
        Err(crate::CommitError::OpenedReadOnly)
    ));
    database.shutdown().unwrap();
    drop(database);
    assert_eq!(world.read_file(path).unwrap(), bytes, "nothing is changed");
    assert_eq!(world.paths(), paths);
    // It never creates a database.
    let empty = super::world();
    let opened = over(&empty, STRICT).read_only_skipping_unknown().open();
    assert!(matches!(opened.err(), Some(OpenError::NotFound)));
    assert!(empty.paths().iter().all(|path| !path.contains("MANIFEST")));
}
