//! Which step the writer takes next, and when it must wake up: decisions only.
//!
//! ```text
//! order  when                                                                step
//!     1  unsynced records: a flush asks, or count, bytes or time are due      sync
//!     2  records wait                                                         batch
//!     3  closing: unsynced records / no close mark yet / else                 sync / mark / finish
//!     4  a higher floor is wanted, or the log idles behind a synced batch     mark
//!     5  nothing of that                                                      wait
//! ```

use std::sync::atomic::Ordering;

use super::Writer;
use crate::format::mark::MarkKind;
use crate::sink::{LogStatus, PoisonCause, Sink};

/// What was written and not synced.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unsynced {
    pub(super) record_count: u64,
    pub(super) buffered_count: u64,
    pub(super) len_bytes: u64,
    pub(super) since_us: u64,
}

/// What committers want beside their records, as of the last look at the queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Asks {
    pub(super) flush_target_count: u64,
    pub(super) is_closing: bool,
    pub(super) close_version: Option<u64>,
    /// The owner has ended the log: see [`crate::LogHandle::poison`].
    pub(super) poisoned: Option<PoisonCause>,
}

/// The step a turn takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Batch,
    Sync,
    Mark(MarkKind),
    Finish,
    Wait { wake_at_us: Option<u64> },
}

impl<T, S: Sink<T>> Writer<T, S> {
    pub(super) fn take_queued(&mut self) {
        let mut queue = self.shared.queue.lock();
        if self.backlog.is_empty() {
            std::mem::swap(&mut queue.entries, &mut self.backlog);
        }
        self.asks = Asks {
            flush_target_count: queue.flush_target_count,
            is_closing: matches!(queue.status, LogStatus::Closed),
            close_version: queue.close_version,
            poisoned: match &queue.status {
                LogStatus::Poisoned(cause) => Some(cause.clone()),
                LogStatus::Open | LogStatus::Closed => None,
            },
        };
    }

    /// Decides the next step; changes nothing.
    pub(super) fn choose(&self, now_us: u64) -> Step {
        if self.sync_is_due(now_us) {
            return Step::Sync;
        }
        if !self.backlog.is_empty() {
            return Step::Batch;
        }
        if self.asks.is_closing {
            return match (self.unsynced.record_count, self.asks.close_version) {
                (1.., _) => Step::Sync,
                (0, Some(_)) if !self.close_is_written => Step::Mark(MarkKind::Close),
                (0, _) => Step::Finish,
            };
        }
        let mark_at_us = self.mark_at_us();
        match mark_at_us {
            Some(at_us) if at_us <= now_us => Step::Mark(MarkKind::Batch),
            _ => {
                let sync_at_us = (self.unsynced.record_count != 0)
                    .then(|| self.unsynced.since_us + self.shared.config.buffered_sync_interval_us);
                let spare_at_us = self.unopened.as_ref().map(|spare| spare.try_at_us);
                let wake_at_us = mark_at_us.into_iter().chain(sync_at_us).chain(spare_at_us);
                let wake_at_us = wake_at_us.min();
                Step::Wait { wake_at_us }
            }
        }
    }

    /// When a batch without records is to be written, if at all: at once for a floor that waits,
    /// after a while of idling behind a synced batch.
    pub(super) fn mark_at_us(&self) -> Option<u64> {
        let block = self.batch.log_block_len_bytes();
        let fits_active = block <= self.active.room_len_bytes(block);
        let floor_waits = self.floor_stated < self.shared.floor_wanted.load(Ordering::SeqCst);
        if floor_waits && (fits_active || self.spare.is_some()) {
            return Some(self.mark_retry_at_us);
        }
        self.last_write_us
            .filter(|_| self.tail_is_open && self.unsynced.record_count == 0 && fits_active)
            .map(|last_us| last_us + self.shared.config.idle_mark_delay_us)
            .map(|at_us| at_us.max(self.mark_retry_at_us))
    }

    pub(super) fn sync_is_due(&self, now_us: u64) -> bool {
        let config = &self.shared.config;
        let Unsynced {
            record_count,
            len_bytes,
            since_us,
            ..
        } = self.unsynced;
        if record_count == 0 {
            return false;
        }
        let written_count = self.shared.written_count.load(Ordering::Relaxed);
        let synced_count = self.shared.synced_count.load(Ordering::Relaxed);
        let flush_target_count = self.asks.flush_target_count;
        let flush_is_due = synced_count < flush_target_count && flush_target_count <= written_count;
        flush_is_due
            || u64::from(config.buffered_sync_count) <= record_count
            || u64::from(config.buffered_sync_len_bytes) <= len_bytes
            || since_us + config.buffered_sync_interval_us <= now_us
    }
}
