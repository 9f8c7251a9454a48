//! The snapshots there are: their list, their sizes, the removal of one, and a stop that comes
//! while one is loaded.

use std::sync::Arc;

use in_mem_snapshot::{list_snapshots, snapshot_path};

use super::checkpoint::{STRICT, open, reopened};
use super::{in_memory, int, over, text, world};
use crate::{
    CheckpointError, CompactMode, Database, DeleteSnapshotError, OpenError, RecoveryProgress,
};

fn ids(database: &Database) -> Vec<u64> {
    let listed = database.list_snapshots().unwrap();
    listed.iter().map(|info| info.snapshot_id).collect()
}

#[test]
fn the_list_tells_of_each_snapshot_what_its_checkpoint_told() {
    assert_eq!(in_memory().list_snapshots().unwrap(), []);
    let world = world();
    let database = open(&world);
    assert_eq!(database.list_snapshots().unwrap(), []);
    let kv = database.default_run();
    let mut taken = Vec::new();
    for number in 0..3 {
        kv.kv().put("key", &int(number)).unwrap();
        taken.push(database.checkpoint().unwrap());
    }
    let told = |database: &Database| {
        let listed = database.list_snapshots().unwrap();
        for (info, taken) in listed.iter().zip(&taken[1..]) {
            assert_eq!(info.snapshot_id, taken.snapshot_id);
            assert_eq!(info.watermark, taken.watermark_txn);
            assert_eq!(info.created_at_us, taken.timestamp_us);
            assert_eq!(info.size_bytes, taken.size_bytes);
            assert_eq!(info.path, snapshot_path(taken.snapshot_id));
        }
        assert_eq!(listed.len(), 2, "the oldest is gone");
        assert_eq!(database.newest_snapshot().as_ref(), taken.last());
        assert_eq!(database.snapshot_size(), taken[2].size_bytes);
    };
    told(&database);
    drop((database, kv));
    told(&reopened(&world).unwrap());
    // What is damaged is told, not left out.
    assert!(world.truncate(&snapshot_path(2), 20));
    let error = reopened(&world).unwrap().list_snapshots().unwrap_err();
    let (path, _) = error.damage().expect("it is damaged");
    assert_eq!(path, snapshot_path(2));
}

#[test]
fn any_snapshot_but_the_newest_can_be_removed_and_that_is_durable() {
    let world = world();
    let database = open(&world);
    database.default_run().kv().put("key", &int(1)).unwrap();
    database.checkpoint().unwrap();
    database.checkpoint().unwrap();
    assert!(!database.delete_snapshot(7).unwrap());
    assert!(matches!(
        database.delete_snapshot(2),
        Err(DeleteSnapshotError::InUse { snapshot_id: 2 })
    ));
    assert!(database.delete_snapshot(1).unwrap());
    assert!(!database.delete_snapshot(1).unwrap());
    assert_eq!(ids(&database), [2]);
    let crashed = world.crash(1, in_mem_wal::disk::CrashMode::Prefix);
    assert_eq!(list_snapshots(&mut crashed.disk()).unwrap(), [2]);
    database.shutdown().unwrap();
    assert!(matches!(
        database.delete_snapshot(1),
        Err(DeleteSnapshotError::Refused(CheckpointError::Closed))
    ));
}

/// The named one is damaged, so the one below it is all there is.
#[test]
fn the_snapshot_an_open_fell_back_to_is_not_removed() {
    let world = world();
    let database = open(&world);
    database.default_run().kv().put("key", &int(1)).unwrap();
    database.checkpoint().unwrap();
    database.checkpoint().unwrap();
    drop(database);
    assert!(world.truncate(&snapshot_path(2), 20));
    let database = reopened(&world).unwrap();
    for id in [1, 2] {
        let refused = database.delete_snapshot(id);
        assert!(matches!(refused, Err(DeleteSnapshotError::InUse { .. })));
    }
}

#[test]
fn the_log_behind_a_snapshot_is_measured_from_it_and_shrinks_by_compaction() {
    assert_eq!(in_memory().wal_size().unwrap(), 0);
    let world = world();
    let database = open(&world);
    let run = database.default_run();
    let value = text(&"v".repeat(16 << 10));
    let put = || {
        for _ in 0..40 {
            run.kv().put("key", &value).unwrap();
        }
    };
    let behind = || database.log_len_bytes_behind_snapshot();
    put();
    let written = behind();
    assert!(40 * (16 << 10) <= written, "{written}");
    assert!(!database.should_compact().unwrap(), "there is no snapshot");
    database.checkpoint().unwrap();
    assert!(behind() < written / 4, "{}", behind());
    put();
    assert!(written / 2 < behind() && behind() < 2 * written);
    database.checkpoint().unwrap();
    put();
    let before = database.wal_size().unwrap();
    let done = database.compact(CompactMode::WALOnly).unwrap();
    assert!(0 < done.wal_segments_removed);
    assert_eq!(database.wal_size().unwrap(), before - done.reclaimed_bytes);
    let is_longer = database.snapshot_size() < database.wal_size().unwrap();
    assert_eq!(database.should_compact().unwrap(), is_longer);
}

#[test]
fn a_stop_ends_the_reading_of_a_snapshot_and_changes_nothing() {
    let world = world();
    let database = open(&world);
    let value = text(&"v".repeat(32 << 10));
    for number in 0..50 {
        let key = format!("k{number}");
        database.default_run().kv().put(&key, &value).unwrap();
    }
    database.checkpoint().unwrap();
    database.checkpoint().unwrap();
    database.compact(CompactMode::WALOnly).unwrap();
    database.shutdown().unwrap();
    drop(database);
    let before = world.fingerprint();
    let progress = Arc::new(RecoveryProgress::default());
    progress.request_stop();
    let stopped = over(&world, STRICT)
        .progress(Arc::clone(&progress))
        .open_existing();
    assert!(matches!(stopped.err(), Some(OpenError::Interrupted)));
    assert_eq!(world.fingerprint(), before);
    assert_eq!(progress.snapshot_id(), 2, "no older one was tried");
    assert_eq!(progress.record_count(), 0);
    let progress = Arc::new(RecoveryProgress::default());
    let builder = over(&world, STRICT).progress(Arc::clone(&progress));
    let database = builder.open_existing().unwrap();
    let size_bytes = database.snapshot_size();
    assert_eq!(progress.snapshot_len_bytes(), 2 * size_bytes);
    let read = progress.snapshot_read_len_bytes();
    assert!(size_bytes < read && read <= 2 * size_bytes, "{read}");
}
