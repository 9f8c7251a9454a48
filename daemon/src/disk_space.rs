//! How much is free on the disk of the data directory: who looks, when, and what follows.
//!
//! One look, `Store::look_at_disk`, serves health, metrics and the refusal of growing writes. While
//! requests come a worker looks once a second, and whenever the log has begun another segment,
//! because that is when it takes room. An idle daemon does not look and does not wake; the first
//! request after that has it look again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Between two looks for no other reason than time, microseconds.
const LOOK_INTERVAL_US: u64 = 1_000_000;

/// Bits of a log position below its segment.
const SEGMENT_SHIFT: u32 = 32;

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskFound {
    /// Free for the daemon, bytes; none where the kernel does not say.
    pub(crate) free_len_bytes: Option<u64>,
    /// What has to be free for the data to grow, bytes; 0 for nothing.
    pub(crate) free_len_bytes_min: u64,
    /// What the next segment of the log takes, bytes.
    pub(crate) segment_len_bytes: u64,
}

impl DiskFound {
    /// What is free and what has to be, if it is less.
    pub(crate) fn low(&self) -> Option<(u64, u64)> {
        let free = self.free_len_bytes?;
        (free < self.free_len_bytes_min).then_some((free, self.free_len_bytes_min))
    }

    /// What is wrong, or soon will be.
    pub(crate) fn warning(&self) -> Option<String> {
        let free = self.free_len_bytes?;
        if let Some((free, min)) = self.low() {
            return Some(format!(
                "{free} bytes are free and {min} have to be (disk_free_len_bytes_min): logged \
                 writes that grow the data are refused until there is room; reads, deletions and \
                 in_memory writes go on"
            ));
        }
        let needed = self.segment_len_bytes;
        (free < needed).then(|| {
            format!(
                "{free} bytes are free and the next segment of the log takes {needed}: \
                 logged writes will be refused until there is room"
            )
        })
    }
}

/// What was found last.
#[derive(Debug, Default)]
pub(crate) struct DiskSpace {
    is_low: AtomicBool,
    free_len_bytes: AtomicU64,
}

impl DiskSpace {
    /// Free at the last look, bytes; 0 before the first and where the kernel does not say.
    pub(crate) fn free_len_bytes(&self) -> u64 {
        // Relaxed: only told.
        self.free_len_bytes.load(Ordering::Relaxed)
    }

    /// Whether growing writes are refused.
    pub(crate) fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// Remembers a look, and tells the log of a change.
    pub(crate) fn found(&self, found: &DiskFound) {
        let free_len_bytes = found.free_len_bytes.unwrap_or(0);
        self.free_len_bytes.store(free_len_bytes, Ordering::Relaxed);
        let is_low = found.low().is_some();
        if self.is_low.swap(is_low, Ordering::Relaxed) == is_low {
            return;
        }
        let min = found.free_len_bytes_min;
        if is_low {
            tracing::error!(
                target: "db",
                free_len_bytes,
                disk_free_len_bytes_min = min,
                "the disk is low: logged writes that grow the data are refused"
            );
        } else {
            tracing::info!(
                target: "db",
                free_len_bytes,
                disk_free_len_bytes_min = min,
                "the disk has room again"
            );
        }
    }
}

/// When to look; owned by the reactor.
#[derive(Debug, Default)]
pub(crate) struct DiskTurns {
    looked_us: u64,
    segment: u64,
}

impl DiskTurns {
    /// A turn of the reactor, with how far the log is written: whether to look.
    pub(crate) fn is_due(&mut self, now_us: u64, written_lsn: u64) -> bool {
        let segment = written_lsn >> SEGMENT_SHIFT;
        let is_late = self.looked_us.saturating_add(LOOK_INTERVAL_US) <= now_us;
        if is_late || segment != self.segment {
            self.looked_us = now_us;
            self.segment = segment;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_each_second_and_at_each_segment_of_the_log() {
        let mut turns = DiskTurns::default();
        let first = 5 * LOOK_INTERVAL_US;
        let segment = |number: u64| (number << SEGMENT_SHIFT) + 4_096;
        assert!(turns.is_due(first, segment(1)));
        assert!(!turns.is_due(first + LOOK_INTERVAL_US - 1, segment(1)));
        assert!(turns.is_due(first + LOOK_INTERVAL_US, segment(1)));
        assert!(turns.is_due(first + LOOK_INTERVAL_US, segment(2)));
        assert!(!turns.is_due(first + LOOK_INTERVAL_US, segment(2)));
    }

    #[test]
    fn a_disk_is_low_below_its_threshold_and_warned_of_below_a_segment() {
        let found = |free, min| DiskFound {
            free_len_bytes: Some(free),
            free_len_bytes_min: min,
            segment_len_bytes: 100,
        };
        assert_eq!(found(50, 60).low(), Some((50, 60)));
        assert_eq!(found(60, 60).low(), None);
        assert_eq!(found(0, 0).low(), None, "0 is no threshold");
        let warning = |free, min| found(free, min).warning();
        assert!(warning(50, 60).unwrap().contains("disk_free_len_bytes_min"));
        assert!(warning(99, 60).unwrap().contains("next segment"));
        assert_eq!(warning(100, 60), None);
        let unknown = DiskFound {
            free_len_bytes: None,
            ..found(0, 60)
        };
        assert_eq!((unknown.low(), unknown.warning()), (None, None));
    }
}
