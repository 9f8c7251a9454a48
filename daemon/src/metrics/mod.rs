//! What the daemon counts about itself.
//!
//! Recording is a relaxed addition to a number that is there from the start: no lock, no
//! allocation, no clock. The reactor and the workers record, whoever asks reads; each number is
//! looked at alone, so a reading may be a moment apart in itself.

mod exposition;
mod limits;
mod process;
mod report;
mod responder;
mod snapshots;
mod views;

use std::sync::atomic::{AtomicU64, Ordering};

use in_mem_engine::{CommitError, ConflictKind, Outcome, StepOutcome};
use in_mem_ipc::operation::{OPERATIONS, OperationKind};
use in_mem_model::Level;
use in_mem_wal::histogram::{Histogram, TIME_BOUNDS_US};

pub(crate) use limits::measures as limit_measures;
pub(crate) use process::read_small;
pub(crate) use report::{measures, render};
pub(crate) use responder::{Responder, ResponderError};
pub(crate) use snapshots::measures as snapshot_measures;
pub(crate) use views::{Abort, LiveView, LiveViews};

/// Levels of durability a commit can have when it is answered.
const LEVELS: [Level; 3] = [Level::Volatile, Level::Logged, Level::Synced];

/// The numbers of one daemon.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Vec<AtomicU64>,
    commits: [AtomicU64; LEVELS.len()],
    empty_commits: AtomicU64,
    read_conflicts: AtomicU64,
    cas_conflicts: AtomicU64,
    aborts: [AtomicU64; Abort::ALL.len()],
    /// Of each level; those of volatile commits stay empty: they are answered in the turn in which
    /// they came, and nobody reads the clock for them.
    commit_us: [Histogram; LEVELS.len()],
    sessions_begun: AtomicU64,
    in_flight_count: AtomicU64,
    reply_len_bytes: AtomicU64,
    slow_requests: AtomicU64,
    slow_requests_unsaid: AtomicU64,
    pub(crate) views: LiveViews,
}

impl Default for Metrics {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            requests: OPERATIONS.iter().map(|_| zero()).collect(),
            commits: std::array::from_fn(|_| zero()),
            empty_commits: zero(),
            read_conflicts: zero(),
            cas_conflicts: zero(),
            aborts: std::array::from_fn(|_| zero()),
            commit_us: std::array::from_fn(|_| Histogram::new(TIME_BOUNDS_US)),
            sessions_begun: zero(),
            in_flight_count: zero(),
            reply_len_bytes: zero(),
            slow_requests: zero(),
            slow_requests_unsaid: zero(),
            views: LiveViews::default(),
        }
    }
}

impl Metrics {
    /// A request came in, whatever becomes of it.
    pub(crate) fn request(&self, kind: OperationKind) {
        if let Some(count) = self.requests.get(usize::from(kind as u8)) {
            add(count, 1);
        }
    }

    /// A commit was decided.
    pub(crate) fn decided(&self, result: &Result<Outcome, CommitError>) {
        match result {
            Ok(outcome) if outcome.version != 0 => {
                if let Some(count) = self.commits.get(index_of(outcome.level)) {
                    add(count, 1);
                }
            }
            Ok(outcome) if matches!(outcome.steps.as_slice(), [StepOutcome::Mismatch(_)]) => {
                add(&self.cas_conflicts, 1);
            }
            Ok(_) => add(&self.empty_commits, 1),
            Err(CommitError::Conflict { kind, .. }) => {
                let count = match kind {
                    ConflictKind::Read => &self.read_conflicts,
                    ConflictKind::Cas => &self.cas_conflicts,
                };
                add(count, 1);
                self.aborted(Abort::Conflict);
            }
            Err(error) if error.is_outcome_unknown() => self.aborted(Abort::Unknown),
            Err(_) => self.aborted(Abort::Refused),
        }
    }

    /// What was begun ended without a commit.
    pub(crate) fn aborted(&self, cause: Abort) {
        if let Some(count) = self.aborts.get(cause as usize) {
            add(count, 1);
        }
    }

    /// A commit that waited for its promise was answered after `took_us`.
    pub(crate) fn answered(&self, result: &Result<Outcome, CommitError>, took_us: u64) {
        if let Ok(outcome) = result
            && outcome.version != 0
            && outcome.level != Level::Volatile
            && let Some(histogram) = self.commit_us.get(index_of(outcome.level))
        {
            histogram.record(took_us);
        }
    }

    /// A connection was accepted.
    pub(crate) fn session_begun(&self) {
        add(&self.sessions_begun, 1);
    }

    /// What one session has in flight went from the first to the second.
    pub(crate) fn session_moved(&self, before: SessionLoad, now: SessionLoad) {
        change(
            &self.in_flight_count,
            before.in_flight_count,
            now.in_flight_count,
        );
        change(
            &self.reply_len_bytes,
            before.reply_len_bytes,
            now.reply_len_bytes,
        );
    }

    /// A request was slow; false when nobody was told because there were too many.
    pub(crate) fn slow_request(&self, is_said: bool) {
        add(&self.slow_requests, 1);
        if !is_said {
            add(&self.slow_requests_unsaid, 1);
        }
    }
}

/// What one session has in flight, as it was last reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SessionLoad {
    /// Requests started and not answered.
    pub(crate) in_flight_count: u64,
    /// Replies its peer has not taken, bytes.
    pub(crate) reply_len_bytes: u64,
}

fn index_of(level: Level) -> usize {
    match level {
        Level::Volatile => 0,
        Level::Logged => 1,
        Level::Synced => 2,
    }
}

fn add(count: &AtomicU64, by: u64) {
    // Relaxed: see the module.
    count.fetch_add(by, Ordering::Relaxed);
}

fn change(total: &AtomicU64, before: u64, now: u64) {
    if now != before {
        // Relaxed: see the module. Wraps as a difference may be below zero.
        total.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_of_sessions_adds_up_and_goes_back_to_nothing() {
        let metrics = Metrics::default();
        let some = SessionLoad {
            in_flight_count: 3,
            reply_len_bytes: 100,
        };
        let other = SessionLoad {
            in_flight_count: 1,
            reply_len_bytes: 7,
        };
        metrics.session_moved(SessionLoad::default(), some);
        metrics.session_moved(SessionLoad::default(), other);
        assert_eq!(load(&metrics.in_flight_count), 4);
        assert_eq!(load(&metrics.reply_len_bytes), 107);
        metrics.session_moved(some, SessionLoad::default());
        metrics.session_moved(other, SessionLoad::default());
        assert_eq!(load(&metrics.in_flight_count), 0);
        assert_eq!(load(&metrics.reply_len_bytes), 0);
    }

    #[test]
    fn every_operation_has_a_count_of_its_own() {
        let metrics = Metrics::default();
        for row in OPERATIONS {
            metrics.request(row.kind);
        }
        assert!(metrics.requests.iter().all(|count| load(count) == 1));
    }
}
