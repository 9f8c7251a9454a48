//! Which snapshot a restart begins with, and when it refuses instead.

use std::sync::Arc;

use in_mem_model::RunId;
use in_mem_snapshot::{
    BlockSink, BlockSource, SnapshotError, list_snapshots, snapshot_path, temp_path,
};
use in_mem_wal::disk::{CrashMode, SimRng, SimWorld};
use parking_lot::Mutex;

use super::checkpoint::{SEED, STRICT, act, open, reopened};
use super::{int, over, world};
use crate::{
    CheckpointError, Database, OpenError, PrimitiveError, PrimitiveStorageExt, ShardedStore,
    SnapshotTarget, SnapshotView, WalEntry,
};

/// Two snapshots with commits before, between and behind them; the digest of the whole.
pub(super) fn with_two_snapshots(world: &SimWorld) -> u64 {
    two_snapshots_in(&open(world));
    reopened(world).unwrap().state_digest()
}

/// The same, of an open database, which is closed.
pub(super) fn two_snapshots_in(database: &Database) {
    let mut rng = SimRng::new(SEED);
    for _ in 0..2 {
        (0..60).for_each(|_| act(database, &mut rng));
        database.checkpoint().unwrap();
    }
    let run = database.default_run();
    run.kv().put("last", &int(1)).unwrap();
    database.shutdown().unwrap();
}

#[test]
fn a_damaged_snapshot_is_replaced_by_an_older_one_only_when_the_log_reaches_back_to_it() {
    let world = world();
    let digest = with_two_snapshots(&world);
    let used = |world: &SimWorld| {
        let database = reopened(world).unwrap();
        assert_eq!(database.state_digest(), digest);
        database.last_recovery_result().unwrap().snapshot_used
    };
    assert_eq!(used(&world), 2);
    assert!(world.flip_byte(&snapshot_path(2), 100, 0x10));
    assert_eq!(used(&world), 1);
    world.remove_file(&snapshot_path(2));
    assert_eq!(used(&world), 1);
    assert!(world.truncate(&snapshot_path(1), 99));
    assert_eq!(used(&world), 0);
    // The file with the magic only, and then a log that does not go as far as was promised.
    world.write_file(&snapshot_path(2), b"INMEM_SNAP");
    assert_eq!(used(&world), 0);
    let segments = |world: &SimWorld| {
        let paths = world.paths();
        let is_segment = |path: &&String| path.starts_with("WAL/wal-");
        paths.iter().filter(is_segment).cloned().collect::<Vec<_>>()
    };
    let last = segments(&world).pop().unwrap();
    let len = world.read_file(&last).unwrap().len();
    let bytes: Vec<u8> = world.read_file(&last).unwrap()[..8192].to_vec();
    world.write_file(&last, &[bytes, vec![0; len - 8192]].concat());
    let error = reopened(&world).err().unwrap();
    let OpenError::SnapshotUnrecoverable { reason, .. } = &error else {
        panic!("{error}");
    };
    let reason = reason.as_deref().unwrap();
    assert!(reason.contains("SNAPSHOTS/snap-000002.chk"), "{reason}");
    assert!(reason.contains("offset 10"), "{reason}");
}

#[test]
fn a_log_that_does_not_reach_back_is_refused_and_nothing_is_changed() {
    let world = world();
    with_two_snapshots(&world);
    // One segment holds it all, so a later one is what is left.
    let bytes = world.read_file("WAL/wal-000001.seg").unwrap();
    world.write_file("WAL/wal-000002.seg", &bytes);
    world.remove_file("WAL/wal-000001.seg");
    let before = world.fingerprint();
    let error = reopened(&world).err().unwrap();
    assert!(
        matches!(error, OpenError::SnapshotUnrecoverable { .. }),
        "{error}"
    );
    assert_eq!(world.fingerprint(), before);
}

#[test]
fn a_tail_cut_below_the_snapshot_is_damage_that_names_file_and_offset() {
    let world = world();
    with_two_snapshots(&world);
    let path = "WAL/wal-000001.seg";
    let len = world.read_file(path).unwrap().len();
    let bytes: Vec<u8> = world.read_file(path).unwrap()[..8192].to_vec();
    world.write_file(path, &[bytes, vec![0; len - 8192]].concat());
    let error = reopened(&world).err().unwrap();
    let OpenError::Scan(error) = error else {
        panic!("{error}");
    };
    let said = error.to_string();
    assert!(
        said.contains(path) && said.contains("offset 8192"),
        "{said}"
    );
}

#[test]
fn what_a_crash_leaves_beside_the_named_snapshot_is_ignored_and_its_number_not_used_again() {
    let world = world();
    let digest = with_two_snapshots(&world);
    let bytes = world.read_file(&snapshot_path(2)).unwrap();
    world.write_file(&snapshot_path(7), &bytes);
    world.write_file(&temp_path(8), &bytes[..50]);
    let database = reopened(&world).unwrap();
    assert_eq!(database.state_digest(), digest);
    assert_eq!(database.last_recovery_result().unwrap().snapshot_used, 2);
    assert_eq!(world.read_file(&temp_path(8)), None);
    assert_eq!(database.checkpoint().unwrap().snapshot_id, 8);
    // Two are kept of those that MANIFEST has named.
    let ids = list_snapshots(&mut world.disk()).unwrap();
    assert_eq!(ids, [2, 8]);
}

#[test]
fn no_version_is_issued_again_after_a_checkpoint_and_a_crash() {
    let world = world();
    let database = open(&world);
    database.default_run().kv().put("k", &int(1)).unwrap();
    database.checkpoint().unwrap();
    let issued = database.version();
    let crashed = world.crash(SEED, CrashMode::Prefix);
    drop(database);
    let database = reopened(&crashed).unwrap();
    let version = database.default_run().kv().put("k", &int(2)).unwrap();
    assert!(issued < version);
}

/// A primitive of a test, with a state of its own.
#[derive(Default)]
struct Counting(Mutex<u64>);

impl PrimitiveStorageExt for Counting {
    fn primitive_type_id(&self) -> u8 {
        9
    }

    fn primitive_name(&self) -> &'static str {
        "counting"
    }

    fn wal_entry_types(&self) -> &[u8] {
        &[0x80]
    }

    fn apply_versioned(
        &self,
        _store: &ShardedStore,
        _entry: &WalEntry<'_>,
    ) -> Result<(), PrimitiveError> {
        *self.0.lock() += 1;
        Ok(())
    }

    fn snapshot_serialize(
        &self,
        _view: &SnapshotView<'_>,
        sink: &mut dyn BlockSink,
    ) -> Result<(), SnapshotError> {
        sink.write(&self.0.lock().to_le_bytes())
    }

    fn snapshot_deserialize(
        &self,
        _target: &SnapshotTarget<'_>,
        source: &mut dyn BlockSource,
    ) -> Result<(), SnapshotError> {
        let mut bytes = [0; 8];
        source.read(&mut bytes)?;
        *self.0.lock() = u64::from_le_bytes(bytes);
        Ok(())
    }
}

#[test]
fn storage_invariant_five_5_a_primitive_of_ones_own_takes_part_and_without_it_the_snapshot_is_refused()
 {
    let world = world();
    let counting = Arc::new(Counting(Mutex::new(77)));
    let database = over(&world, STRICT).primitive(counting).open().unwrap();
    let run: RunId = database.default_run().id();
    database.default_run().kv().put("k", &int(1)).unwrap();
    database.checkpoint().unwrap();
    drop(database);
    let counting = Arc::new(Counting::default());
    let own = Arc::clone(&counting);
    drop(over(&world, STRICT).primitive(own).open_existing().unwrap());
    assert_eq!(*counting.0.lock(), 77);
    let refused = reopened(&world).err().unwrap();
    assert!(refused.needs_newer_build(), "{refused}");
    let database = over(&world, STRICT)
        .read_only_skipping_unknown()
        .open()
        .unwrap();
    assert_eq!(database.last_recovery_result().unwrap().entries_skipped, 1);
    assert!(database.run(run).unwrap().kv().contains("k").unwrap());
    assert!(matches!(
        database.checkpoint(),
        Err(CheckpointError::ReadOnly)
    ));
}
