//! The one source of commit versions.
//!
//! Versions are issued inside the critical section of a run: under the log's hand-off lock for
//! logged commits, so that the log sees them rising, and by the checked increment alone for
//! volatile ones. None is issued above the version floor that is durable in the log, so that no
//! version ever repeats, also after commits were lost; a database without a log has no floor.

use crate::limits::{VERSION_FLOOR_RESERVE, VERSION_FLOOR_STEP};
use crate::padded::Padded;

use super::sync::{AtomicU64, Ordering};

/// Issues commit versions.
pub(crate) struct Sequencer {
    /// The last version issued.
    last: Padded<AtomicU64>,
    /// The highest version that may be issued: the floor that is durable.
    issue_max: AtomicU64,
    /// From this version on the floor has to be raised.
    raise_at: AtomicU64,
}

/// No further version may be issued now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequencerError {
    /// The range of versions is used up for good.
    Overflow,
    /// The floor has not been raised yet; the log is on it.
    FloorNotDurable,
}

impl Sequencer {
    /// Goes on behind `last`. Without a log there is no floor.
    pub(crate) fn new(last: u64) -> Self {
        Self {
            last: Padded(AtomicU64::new(last)),
            issue_max: AtomicU64::new(u64::MAX),
            raise_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Recovery: goes on behind `last`, unless it is behind already.
    pub(crate) fn recover(&self, last: u64) {
        self.last.0.fetch_max(last, Ordering::SeqCst);
    }

    /// The last version issued. Never a bound for reads: see the shard's visible version.
    pub(crate) fn last_issued(&self) -> u64 {
        self.last.0.load(Ordering::SeqCst)
    }

    /// The floor that is durable: no version above it was ever issued.
    pub(crate) fn durable_floor(&self) -> u64 {
        self.issue_max.load(Ordering::SeqCst)
    }

    /// Issues the next version. Only inside the critical section of a run.
    pub(crate) fn next_version(&self) -> Result<u64, SequencerError> {
        // Relaxed: the floor only rises, and a stale one only refuses.
        let issue_max = self.issue_max.load(Ordering::Relaxed);
        self.last
            .0
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, |last| {
                last.checked_add(1).filter(|next| *next <= issue_max)
            })
            .map(|last| last + 1)
            .map_err(|last| match last {
                u64::MAX => SequencerError::Overflow,
                _ => SequencerError::FloorNotDurable,
            })
    }

    /// `floor` is durable: versions up to it may be issued.
    pub(crate) fn floor_durable(&self, floor: u64) {
        self.issue_max.store(floor, Ordering::SeqCst);
        self.raise_at.store(
            floor.saturating_sub(VERSION_FLOOR_RESERVE),
            Ordering::SeqCst,
        );
    }

    /// The floor to ask the log for, if it is time; asked for once per step.
    pub(crate) fn floor_to_ask(&self, version: u64) -> Option<u64> {
        let raise_at = self.raise_at.load(Ordering::Relaxed);
        if version < raise_at {
            return None;
        }
        self.raise_at
            .compare_exchange(raise_at, u64::MAX, Ordering::SeqCst, Ordering::Relaxed)
            .ok()
            .map(|_| {
                self.issue_max
                    .load(Ordering::SeqCst)
                    .saturating_add(VERSION_FLOOR_STEP)
            })
    }
}
