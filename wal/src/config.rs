//! What can be set about a log, checked once before it starts.
//!
//! Tests shrink the values here (a 16 KiB segment, a 512-byte block); nothing else is tunable and
//! no value changes while a log is open.

use crate::faults::Planted;
use crate::limits;

/// How the bytes of a batch reach the disk. Whatever the form, a batch behind unsynced ones is
/// written with a sync that covers those too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteForm {
    /// Through the page cache, one write with RWF_DSYNC.
    BufferedDsync,
    /// Through the page cache, a write, then fdatasync.
    BufferedLinked,
    /// Around the page cache, a write, then fdatasync. The default: of the ring's forms it has the
    /// best worst case over the tables of `benches/RESULTS.md`, quiet, busy and overloaded. With
    /// the thread disk no form is ahead in all of them, so there is one default for both disks.
    DirectLinked,
    /// Around the page cache, one write with RWF_DSYNC.
    DirectDsync,
}

impl WriteForm {
    /// Every form, for measurements.
    pub const ALL: [Self; 4] = [
        Self::BufferedDsync,
        Self::BufferedLinked,
        Self::DirectLinked,
        Self::DirectDsync,
    ];

    /// True when the segment is opened around the page cache.
    #[must_use]
    pub fn is_direct(self) -> bool {
        matches!(self, Self::DirectLinked | Self::DirectDsync)
    }

    /// True when one write is also its own sync.
    #[must_use]
    pub fn is_dsync(self) -> bool {
        matches!(self, Self::BufferedDsync | Self::DirectDsync)
    }

    /// The name used in configuration, metrics and results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BufferedDsync => "buffered_dsync",
            Self::BufferedLinked => "buffered_linked",
            Self::DirectLinked => "direct_linked",
            Self::DirectDsync => "direct_dsync",
        }
    }
}

/// Settings of one log.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// Length of a segment's file, bytes; a multiple of 4 KiB, at least 16 log blocks behind the
    /// header, below 4 GiB.
    pub segment_len_bytes: u32,
    /// The device's physical block, bytes: 512, or 4096 when unknown.
    pub log_block_len_bytes: u32,
    /// Largest record, bytes, framing included.
    pub record_len_bytes_max: u32,
    /// A batch takes no further record once it is this long, bytes. One record may exceed it.
    pub batch_len_bytes_max: u32,
    /// Buffered bytes that start a sync, bytes; at most a segment.
    pub buffered_sync_len_bytes: u32,
    /// Buffered records that start a sync, count; twice that many pending refuse new ones.
    pub buffered_sync_count: u32,
    /// How long a Buffered record waits for a sync at most, microseconds.
    pub buffered_sync_interval_us: u64,
    /// Records reserved or queued and not yet written, count.
    pub queue_count_max: u32,
    /// Idle time after which an empty batch states that the last one is durable, microseconds.
    pub idle_mark_delay_us: u64,
    /// How batches are written.
    pub write_form: WriteForm,
    /// A planted mistake, for tests of the tests; none in a product build.
    pub planted: Planted,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_len_bytes: limits::SEGMENT_LEN_BYTES,
            log_block_len_bytes: limits::LOG_BLOCK_LEN_BYTES_MAX,
            record_len_bytes_max: limits::RECORD_LEN_BYTES_MAX,
            batch_len_bytes_max: limits::BATCH_LEN_BYTES_MAX,
            buffered_sync_len_bytes: limits::BUFFERED_SYNC_LEN_BYTES,
            buffered_sync_count: limits::BUFFERED_SYNC_COUNT,
            buffered_sync_interval_us: limits::BUFFERED_SYNC_INTERVAL_US,
            queue_count_max: limits::QUEUE_COUNT_MAX,
            idle_mark_delay_us: limits::IDLE_MARK_DELAY_US,
            write_form: WriteForm::DirectLinked,
            planted: Planted::NONE,
        }
    }
}

impl LogConfig {
    /// Limits so small that a test rotates every few records: 16 KiB segments, 512-byte blocks.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            segment_len_bytes: 16 << 10,
            log_block_len_bytes: limits::LOG_BLOCK_LEN_BYTES_MIN,
            record_len_bytes_max: 64 << 10,
            batch_len_bytes_max: 4 << 10,
            buffered_sync_len_bytes: 8 << 10,
            buffered_sync_count: 8,
            queue_count_max: 64,
            ..Self::default()
        }
    }

    /// Checks every constraint.
    ///
    /// # Errors
    /// The first constraint that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let block = self.log_block_len_bytes;
        if block != limits::LOG_BLOCK_LEN_BYTES_MIN && block != limits::LOG_BLOCK_LEN_BYTES_MAX {
            return Err(ConfigError::LogBlock { len_bytes: block });
        }
        let len = self.segment_len_bytes;
        let smallest = limits::SEGMENT_BLOCK_COUNT_MIN * block;
        if !len.is_multiple_of(limits::SEGMENT_DATA_OFFSET)
            || len < smallest.max(2 * limits::SEGMENT_DATA_OFFSET)
        {
            return Err(ConfigError::SegmentLen {
                len_bytes: len,
                len_bytes_min: smallest,
            });
        }
        if len < self.buffered_sync_len_bytes {
            return Err(ConfigError::BufferedSyncLen {
                len_bytes: self.buffered_sync_len_bytes,
                len_bytes_max: len,
            });
        }
        let widest = u64::from(self.record_len_bytes_max) + u64::from(len) + 3 * 4096;
        if limits::SEGMENT_LEN_BYTES_MAX < widest {
            return Err(ConfigError::RecordLen {
                len_bytes: self.record_len_bytes_max,
            });
        }
        let counts = [
            self.buffered_sync_count,
            self.queue_count_max,
            self.batch_len_bytes_max,
        ];
        if counts.contains(&0) || limits::QUEUE_COUNT_MAX < self.queue_count_max {
            return Err(ConfigError::Count);
        }
        Ok(())
    }
}

/// A setting outside its constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The log block is neither 512 nor 4096 bytes.
    #[error("log block of {len_bytes} bytes is neither 512 nor 4096")]
    LogBlock {
        /// What was asked for, bytes.
        len_bytes: u32,
    },
    /// The segment length is too small or no multiple of 4 KiB.
    #[error("segment of {len_bytes} bytes is below {len_bytes_min} or no multiple of 4096")]
    SegmentLen {
        /// What was asked for, bytes.
        len_bytes: u32,
        /// The least allowed, bytes.
        len_bytes_min: u32,
    },
    /// The bytes that start a sync exceed a segment; lower both.
    #[error("buffered_sync_bytes of {len_bytes} exceeds the segment of {len_bytes_max} bytes")]
    BufferedSyncLen {
        /// What was asked for, bytes.
        len_bytes: u32,
        /// The segment's length, bytes.
        len_bytes_max: u32,
    },
    /// A segment that holds the largest record would exceed 4 GiB.
    #[error("record cap of {len_bytes} bytes does not fit a segment below 4 GiB")]
    RecordLen {
        /// What was asked for, bytes.
        len_bytes: u32,
    },
    /// A count is zero or above its limit.
    #[error("a queue, batch or sync count is zero or above its limit")]
    Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_and_the_tiny_limits_are_valid() {
        assert_eq!(LogConfig::default().validate(), Ok(()));
        assert_eq!(LogConfig::tiny().validate(), Ok(()));
    }

    #[test]
    fn lowering_only_the_segment_is_refused_and_not_clamped() {
        let config = LogConfig {
            segment_len_bytes: 1 << 20,
            ..LogConfig::default()
        };
        assert!(matches!(
            config.validate(),
            Err(ConfigError::BufferedSyncLen { .. })
        ));
    }

    #[test]
    fn odd_blocks_segments_and_counts_are_refused() {
        let tiny = LogConfig::tiny();
        let bad = [
            LogConfig {
                log_block_len_bytes: 1024,
                ..tiny
            },
            LogConfig {
                segment_len_bytes: (16 << 10) + 512,
                ..tiny
            },
            LogConfig {
                segment_len_bytes: 4096,
                ..tiny
            },
            LogConfig {
                log_block_len_bytes: 4096,
                ..tiny
            },
            LogConfig {
                record_len_bytes_max: u32::MAX - 4096,
                ..tiny
            },
            LogConfig {
                queue_count_max: 0,
                ..tiny
            },
            LogConfig {
                queue_count_max: limits::QUEUE_COUNT_MAX + 1,
                ..tiny
            },
        ];
        for config in bad {
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
