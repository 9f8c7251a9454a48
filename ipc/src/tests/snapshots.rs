//! Messages about snapshots, built from given material.

use super::samples::Material;
use crate::request::Operation;
use crate::request::db::{Compact, DeleteSnapshot};
use crate::response::Response;
use crate::response::db::{CheckpointInfo, CompactInfo, SnapshotInfo};

pub(super) fn operations(m: &Material) -> Vec<Operation<'static>> {
    let mut operations = vec![
        Operation::DbCheckpoint,
        Operation::DbCompact(Compact { mode: m.text(0) }),
        Operation::DbListSnapshots,
        Operation::DbDeleteSnapshot(DeleteSnapshot {
            snapshot_id: m.numbers[1],
        }),
    ];
    operations.extend(super::retention::operations(m));
    operations.extend(super::exports::operations(m));
    operations.extend(super::retention::expiring(m));
    operations
}

pub(super) fn responses(m: &Material) -> Vec<(&'static str, Response<'static>)> {
    let checkpoint = CheckpointInfo {
        watermark_txn: m.numbers[0],
        snapshot_id: m.numbers[1],
        timestamp_us: m.numbers[3],
        size_bytes: m.numbers[2],
    };
    let compacted = CompactInfo {
        mode: m.text(0),
        reclaimed_bytes: m.numbers[0],
        wal_segments_removed: m.numbers[1],
        versions_removed: m.numbers[2],
        snapshot_watermark: m.numbers[0],
        duration_ms: m.numbers[2],
        timestamp_us: m.numbers[3],
    };
    let snapshot = |path| SnapshotInfo {
        snapshot_id: m.numbers[1],
        watermark: m.numbers[0],
        created_at_us: m.numbers[3],
        size_bytes: m.numbers[2],
        path: m.text(path),
    };
    let mut responses = vec![
        ("Checkpoint", Response::Checkpoint(checkpoint)),
        ("Compacted", Response::Compacted(compacted)),
        (
            "Snapshots",
            Response::Snapshots(vec![snapshot(0), snapshot(1)]),
        ),
    ];
    responses.extend(super::retention::responses(m));
    responses.extend(super::exports::responses(m));
    responses
}
