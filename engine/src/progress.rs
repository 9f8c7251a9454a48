//! How far a recovery has come, for whoever waits for it on another thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Written by the recovery that [`crate::DatabaseBuilder::progress`] gave it to, read by anyone.
/// Relaxed: each number is reported for itself, nothing hangs on them.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    record_count: AtomicU64,
    segment: AtomicU64,
    newest_segment: AtomicU64,
    snapshot_id: AtomicU64,
    snapshot_read_len_bytes: AtomicU64,
    snapshot_len_bytes: AtomicU64,
    is_stop_requested: AtomicBool,
}

impl RecoveryProgress {
    /// Records of the log read so far.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.record_count.load(Ordering::Relaxed)
    }

    /// The number of the segment the last of them came from; 0 before the first one.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.segment.load(Ordering::Relaxed)
    }

    /// The number of the newest segment, with which the log ends; 0 before the log was looked at.
    #[must_use]
    pub fn newest_segment(&self) -> u64 {
        self.newest_segment.load(Ordering::Relaxed)
    }

    /// The number of the snapshot that is being read, or was last; 0 before one is.
    #[must_use]
    pub fn snapshot_id(&self) -> u64 {
        self.snapshot_id.load(Ordering::Relaxed)
    }

    /// Bytes of that snapshot read so far. It is read twice: first checked, then loaded.
    #[must_use]
    pub fn snapshot_read_len_bytes(&self) -> u64 {
        self.snapshot_read_len_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of that snapshot to be read: twice its length.
    #[must_use]
    pub fn snapshot_len_bytes(&self) -> u64 {
        self.snapshot_len_bytes.load(Ordering::Relaxed)
    }

    /// Has the recovery end with [`OpenError::Interrupted`](crate::OpenError::Interrupted) before
    /// the next block of a snapshot or the next record, having changed nothing on disk. One that has read the last record goes on
    /// and opens the database.
    pub fn request_stop(&self) {
        self.is_stop_requested.store(true, Ordering::Relaxed);
    }

    /// Whether the recovery is to end.
    #[must_use]
    pub fn is_stop_requested(&self) -> bool {
        self.is_stop_requested.load(Ordering::Relaxed)
    }

    pub(crate) fn record_read(&self, segment: u64) {
        self.record_count.fetch_add(1, Ordering::Relaxed);
        self.segment.store(segment, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_begun(&self, id: u64) {
        self.snapshot_id.store(id, Ordering::Relaxed);
        self.snapshot_read_len_bytes.store(0, Ordering::Relaxed);
        self.snapshot_len_bytes.store(0, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_read(&self, read_len_bytes: u64, len_bytes: u64) {
        self.snapshot_read_len_bytes
            .store(read_len_bytes, Ordering::Relaxed);
        self.snapshot_len_bytes.store(len_bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_newest_segment(&self, number: u64) {
        self.newest_segment.store(number, Ordering::Relaxed);
    }
}
