//! How far a recovery has come, for whoever waits for it on another thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Written by the recovery that [`crate::DatabaseBuilder::progress`] gave it to, read by anyone.
/// Relaxed: each number is reported for itself, nothing hangs on them.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    record_count: AtomicU64,
    segment: AtomicU64,
    newest_segment: AtomicU64,
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

    /// Has the recovery end with [`OpenError::Interrupted`](crate::OpenError::Interrupted) before
    /// its next record, having changed nothing on disk. One that has read the last record goes on
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

    pub(crate) fn set_newest_segment(&self, number: u64) {
        self.newest_segment.store(number, Ordering::Relaxed);
    }
}
