//! Results of the `db.*` operations.

use rkyv::{Archive, Deserialize, Serialize};

use crate::bytes::Text;

/// The result of `db.subscribe_durable`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The id that the pushes of the subscription carry; valid in this session only.
    pub subscription_id: u64,
    /// The durable version now: the first push carries a higher one.
    pub durable_version: u64,
}

/// The result of `db.checkpoint`: a snapshot that was taken.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Every logged commit at or below it is inside, none above it.
    pub watermark_txn: u64,
    /// The number of the snapshot.
    pub snapshot_id: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
    /// Its length, bytes.
    pub size_bytes: u64,
}

/// The result of `db.compact`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct CompactInfo<'a> {
    /// What it was to let go of, by name.
    pub mode: Text<'a>,
    /// Bytes of removed files.
    pub reclaimed_bytes: u64,
    /// Segments of the log that were removed.
    pub wal_segments_removed: u64,
    /// Versions that were removed; 0 for `wal_only`.
    pub versions_removed: u64,
    /// The watermark of the snapshot that was compacted to.
    pub snapshot_watermark: u64,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// One snapshot of the result of `db.list_snapshots`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo<'a> {
    /// Its number.
    pub snapshot_id: u64,
    /// Every logged commit at or below it is inside, none above it.
    pub watermark: u64,
    /// When it was begun, microseconds since the epoch.
    pub created_at_us: u64,
    /// Its length, bytes.
    pub size_bytes: u64,
    /// Where it lies, inside the data directory.
    pub path: Text<'a>,
}

/// The result of `db.export`: a clone that was made.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo<'a> {
    /// Where it lies, as the server calls it.
    pub path: Text<'a>,
    /// The watermark of the snapshot inside; 0 when there is none, and the log is all of it.
    pub checkpoint_watermark: u64,
    /// Every logged commit at or below it is inside, none above it.
    pub watermark_txn: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// SHA-256 of the logged state inside, in lower-case hexadecimal.
    pub digest: Text<'a>,
}
