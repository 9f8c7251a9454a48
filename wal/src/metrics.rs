//! Counters of one log.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a log at one moment. All but the `_len_bytes` fields are counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogMetrics {
    /// Batches written, empty ones included.
    pub batch_count: u64,
    /// Batches that held no record: idle, floor and close marks.
    pub empty_batch_count: u64,
    /// Records written.
    pub record_count: u64,
    /// Bytes given to the kernel, marks and padding included.
    pub written_len_bytes: u64,
    /// Syncs that returned success, those that were part of a write included.
    pub sync_count: u64,
    /// Segments begun since the log started.
    pub rotation_count: u64,
    /// Writes that were continued after a short one.
    pub short_write_count: u64,
    /// Records appended and not yet durable.
    pub pending_count: u64,
    /// Records the log thread has not taken yet.
    pub queued_count: u64,
    /// Records reserved or queued and not yet written.
    pub outstanding_count: u64,
    /// Worst-case cost of those, bytes.
    pub outstanding_len_bytes: u64,
    /// Preallocated log that reservations are made from, bytes.
    pub available_len_bytes: u64,
}

/// Written by the log thread alone, read by anyone. Relaxed: nothing hangs on them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    batch_count: AtomicU64,
    empty_batch_count: AtomicU64,
    record_count: AtomicU64,
    written_len_bytes: AtomicU64,
    sync_count: AtomicU64,
    rotation_count: AtomicU64,
    short_write_count: AtomicU64,
    turn_count: AtomicU64,
}

impl Counters {
    pub(crate) fn turned(&self) {
        self.turn_count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turn_count(&self) -> u64 {
        self.turn_count.load(Ordering::Relaxed)
    }

    pub(crate) fn batch_written(&self, record_count: u64, len_bytes: u64) {
        self.batch_count.fetch_add(1, Ordering::Relaxed);
        if record_count == 0 {
            self.empty_batch_count.fetch_add(1, Ordering::Relaxed);
        }
        self.record_count.fetch_add(record_count, Ordering::Relaxed);
        self.written_len_bytes
            .fetch_add(len_bytes, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self) {
        self.sync_count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rotated(&self) {
        self.rotation_count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn short_write(&self) {
        self.short_write_count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> LogMetrics {
        LogMetrics {
            batch_count: self.batch_count.load(Ordering::Relaxed),
            empty_batch_count: self.empty_batch_count.load(Ordering::Relaxed),
            record_count: self.record_count.load(Ordering::Relaxed),
            written_len_bytes: self.written_len_bytes.load(Ordering::Relaxed),
            sync_count: self.sync_count.load(Ordering::Relaxed),
            rotation_count: self.rotation_count.load(Ordering::Relaxed),
            short_write_count: self.short_write_count.load(Ordering::Relaxed),
            ..LogMetrics::default()
        }
    }
}
