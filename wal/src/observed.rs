//! What the log thread notes about its batches while it works: how long, how many, and when.
//!
//! Written by the log thread alone, read by anyone; relaxed, because nothing hangs on the numbers.
//! Times need a clock, which the thread reads twice for a batch; a log that is driven by hand
//! notes none.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::{COUNT_BOUNDS, Histogram, HistogramReading, TIME_BOUNDS_US};

/// The notes of one log.
#[derive(Debug)]
pub struct LogObserved {
    write_us: Histogram,
    sync_us: Histogram,
    batch_record_count: Histogram,
    written_at_us: AtomicU64,
    synced_at_us: AtomicU64,
    unsynced_since_us: AtomicU64,
}

impl LogObserved {
    pub(crate) fn new() -> Self {
        Self {
            write_us: Histogram::new(TIME_BOUNDS_US),
            sync_us: Histogram::new(TIME_BOUNDS_US),
            batch_record_count: Histogram::new(COUNT_BOUNDS),
            written_at_us: AtomicU64::new(0),
            synced_at_us: AtomicU64::new(0),
            unsynced_since_us: AtomicU64::new(0),
        }
    }

    /// Time of each write that no sync belonged to, microseconds.
    #[must_use]
    pub fn write_us(&self) -> HistogramReading {
        self.write_us.read()
    }

    /// Time of each sync that returned success, microseconds; of one that is part of a write, the
    /// write included.
    #[must_use]
    pub fn sync_us(&self) -> HistogramReading {
        self.sync_us.read()
    }

    /// Records of each batch that held any.
    #[must_use]
    pub fn batch_record_count(&self) -> HistogramReading {
        self.batch_record_count.read()
    }

    /// When the kernel had the last batch, microseconds of the monotonic clock; 0 for never.
    #[must_use]
    pub fn written_at_us(&self) -> u64 {
        self.written_at_us.load(Ordering::Relaxed)
    }

    /// When the last sync had returned success, microseconds of the monotonic clock; 0 for never.
    #[must_use]
    pub fn synced_at_us(&self) -> u64 {
        self.synced_at_us.load(Ordering::Relaxed)
    }

    /// Since when there are written records that no sync covers, microseconds of the monotonic
    /// clock; none when there are none.
    #[must_use]
    pub fn unsynced_since_us(&self) -> Option<u64> {
        match self.unsynced_since_us.load(Ordering::Relaxed) {
            0 => None,
            since_us => Some(since_us),
        }
    }

    /// A batch was given to the kernel, and synced if it asked for that.
    pub(crate) fn batch(&self, record_count: u64, is_synced: bool, took_us: Option<(u64, u64)>) {
        if record_count != 0 {
            self.batch_record_count.record(record_count);
        }
        let Some((from_us, to_us)) = took_us else {
            return;
        };
        self.written_at_us.store(to_us, Ordering::Relaxed);
        if is_synced {
            self.synced(took_us);
        } else {
            self.write_us.record(to_us.saturating_sub(from_us));
            // Records alone make a lag, and the first of them dates it. 0 stands for none.
            if record_count != 0 && self.unsynced_since_us().is_none() {
                self.unsynced_since_us
                    .store(to_us.max(1), Ordering::Relaxed);
            }
        }
    }

    /// Everything written is synced.
    pub(crate) fn synced(&self, took_us: Option<(u64, u64)>) {
        let Some((from_us, to_us)) = took_us else {
            return;
        };
        self.sync_us.record(to_us.saturating_sub(from_us));
        self.synced_at_us.store(to_us, Ordering::Relaxed);
        self.unsynced_since_us.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_begins_with_the_first_unsynced_record_and_ends_with_a_sync() {
        let observed = LogObserved::new();
        observed.batch(0, false, Some((1, 2)));
        assert_eq!(observed.unsynced_since_us(), None, "a mark is no record");
        observed.batch(3, false, Some((5, 9)));
        observed.batch(1, false, Some((20, 21)));
        assert_eq!(observed.unsynced_since_us(), Some(9));
        observed.synced(Some((30, 37)));
        assert_eq!(observed.unsynced_since_us(), None);
        assert_eq!(
            (observed.written_at_us(), observed.synced_at_us()),
            (21, 37)
        );
        assert_eq!(observed.sync_us().sum, 7);
        assert_eq!(observed.batch_record_count().sum, 4);
        assert_eq!(observed.write_us().count(), 3);
    }

    #[test]
    fn without_a_clock_batches_are_counted_and_no_time_is_made_up() {
        let observed = LogObserved::new();
        observed.batch(2, true, None);
        assert_eq!(observed.batch_record_count().count(), 1);
        assert_eq!(observed.sync_us().count(), 0);
        assert_eq!(observed.synced_at_us(), 0);
    }
}
