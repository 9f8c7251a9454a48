//! When the daemon takes a checkpoint by itself, and what came of the last one.
//!
//! While commits are logged somebody looks every `checkpoint.poll_ms`. A checkpoint is due when the
//! log behind the newest snapshot is longer than `checkpoint.log_len_bytes_min` and longer than
//! `checkpoint.log_factor` times that snapshot; so what is written for snapshots stays a fraction of
//! what is written for the log, however large the data is. With `checkpoint.interval_ms` it is due
//! also when the newest is older than that. An idle daemon does not look and does not wake.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use in_mem_engine::CheckpointInfo;
use parking_lot::{Mutex, RwLock};

use crate::config::Snapshot;

/// Looks passed over after failures that follow each other: 1, 2, 4, up to this many.
const PASSED_OVER_COUNT_MAX: u64 = 64;

/// What is done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Taking a snapshot.
    Checkpoint,
    /// Letting go of the log it covers.
    Compaction,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Compaction => "compaction",
        }
    }
}

/// What is known about automatic checkpoints. What is counted is relaxed: each stands for itself.
#[derive(Debug)]
pub(crate) struct Automatic {
    settings: RwLock<Snapshot>,
    failure: Mutex<Option<(Step, String)>>,
    has_failed: AtomicBool,
    done_count: AtomicU64,
    failed_count: AtomicU64,
}

impl Automatic {
    /// Nothing was done yet.
    pub(crate) fn new(settings: Snapshot) -> Self {
        Self {
            settings: RwLock::new(settings),
            failure: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            done_count: AtomicU64::new(0),
            failed_count: AtomicU64::new(0),
        }
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Snapshot {
        *self.settings.read()
    }

    /// These are in force from now on.
    pub(crate) fn set_settings(&self, settings: Snapshot) {
        *self.settings.write() = settings;
    }

    /// Whoever asked for it, this was done: what is said of an earlier failure of it is over.
    pub(crate) fn succeeded(&self, step: Step) {
        let mut failure = self.failure.lock();
        if failure.as_ref().is_some_and(|(failed, _)| *failed == step) {
            tracing::info!(target: "checkpoint", "the {} succeeds again", step.name());
            *failure = None;
            self.has_failed.store(false, Ordering::Relaxed);
        }
    }

    /// The daemon's own has failed.
    pub(crate) fn failed(&self, step: Step, cause: String) {
        self.failed_count.fetch_add(1, Ordering::Relaxed);
        let mut failure = self.failure.lock();
        if !failure.as_ref().is_some_and(|(failed, _)| *failed == step) {
            tracing::error!(
                target: "checkpoint",
                %cause,
                "the automatic {} failed: the log grows until one succeeds",
                step.name()
            );
        }
        *failure = Some((step, cause));
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// The daemon's own was done, the log it covers is gone.
    pub(crate) fn done(&self) {
        self.done_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the last one failed; costs a load.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Why the last one failed, for people.
    pub(crate) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock();
        let (step, cause) = failure.as_ref()?;
        Some(format!(
            "the last automatic {} failed: {cause}; the log grows until one succeeds",
            step.name()
        ))
    }

    /// How many were done, and how many failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.done_count.load(Ordering::Relaxed),
            self.failed_count.load(Ordering::Relaxed),
        )
    }
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogFound {
    /// Log behind the newest snapshot, bytes.
    pub(crate) behind_len_bytes: u64,
    /// Every logged commit at or below it is durable.
    pub(crate) durable_version: u64,
    pub(crate) newest: Option<CheckpointInfo>,
    /// When it was looked, microseconds since the epoch.
    pub(crate) now_us: u64,
    /// When the daemon was ready; where there is no snapshot, the time counts from there.
    pub(crate) started_at_us: u64,
}

impl Snapshot {
    /// Whether a checkpoint is due.
    pub(crate) fn is_due(&self, found: &LogFound) -> bool {
        let (size_bytes, watermark, taken_us) = match &found.newest {
            Some(info) => (info.size_bytes, info.watermark_txn, info.timestamp_us),
            None => (0, 0, found.started_at_us),
        };
        if found.durable_version <= watermark {
            return false;
        }
        let factor = self.log_factor;
        let is_long = self.log_len_bytes_min < found.behind_len_bytes
            && size_bytes.saturating_mul(factor) < found.behind_len_bytes;
        let interval_us = self.interval_ms.saturating_mul(1_000);
        let is_old = interval_us != 0 && taken_us.saturating_add(interval_us) <= found.now_us;
        is_long || is_old
    }
}

/// When to look; owned by the reactor.
#[derive(Debug, Default)]
pub(crate) struct LogTurns {
    looked_us: u64,
    looked_lsn: u64,
    failure_count: u32,
}

impl LogTurns {
    /// A turn of the reactor, with how far the log is written: whether to look.
    pub(crate) fn is_due(&mut self, now_us: u64, written_lsn: u64, poll_ms: u64) -> bool {
        let passed_over = match self.failure_count {
            0 => 1,
            count => (1_u64 << count.min(63)).min(PASSED_OVER_COUNT_MAX),
        };
        let pause_us = poll_ms.saturating_mul(1_000).saturating_mul(passed_over);
        if written_lsn == self.looked_lsn || now_us < self.looked_us.saturating_add(pause_us) {
            return false;
        }
        (self.looked_us, self.looked_lsn) = (now_us, written_lsn);
        true
    }

    /// What was begun is over.
    pub(crate) fn over(&mut self, has_failed: bool) {
        self.failure_count = match has_failed {
            true => self.failure_count.saturating_add(1),
            false => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn found(behind_len_bytes: u64, size_bytes: Option<u64>) -> LogFound {
        LogFound {
            behind_len_bytes,
            durable_version: 9,
            newest: size_bytes.map(|size_bytes| CheckpointInfo {
                watermark_txn: 5,
                snapshot_id: 1,
                timestamp_us: 1_000,
                size_bytes,
            }),
            now_us: 2_000,
            started_at_us: 1_000,
        }
    }

    #[test]
    fn a_checkpoint_is_due_when_the_log_is_longer_than_the_least_and_four_times_the_snapshot() {
        let settings = Snapshot::default();
        assert!(!settings.is_due(&found(256 * MIB, None)));
        assert!(settings.is_due(&found(256 * MIB + 1, None)));
        assert!(settings.is_due(&found(256 * MIB + 1, Some(64 * MIB))));
        assert!(!settings.is_due(&found(256 * MIB + 1, Some(65 * MIB))));
        assert!(!settings.is_due(&found(4_000 * MIB, Some(1_000 * MIB))));
        assert!(settings.is_due(&found(4_000 * MIB + 1, Some(1_000 * MIB))));
    }

    #[test]
    fn an_interval_makes_one_due_only_when_something_was_logged_since_the_last() {
        let settings = Snapshot {
            interval_ms: 1,
            ..Snapshot::default()
        };
        let old = found(1, Some(1));
        assert!(settings.is_due(&old));
        assert!(!settings.is_due(&LogFound {
            now_us: 1_999,
            ..old
        }));
        let nothing_new = LogFound {
            durable_version: 5,
            ..old
        };
        assert!(!settings.is_due(&nothing_new));
        assert!(!Snapshot::default().is_due(&old));
    }

    #[test]
    fn a_look_is_due_each_interval_while_the_log_moves_and_rarer_after_failures() {
        let mut turns = LogTurns::default();
        let ms = 1_000;
        assert!(turns.is_due(60 * ms, 1, 60));
        assert!(!turns.is_due(119 * ms, 2, 60));
        assert!(!turns.is_due(500 * ms, 1, 60), "nothing was logged");
        assert!(turns.is_due(120 * ms, 2, 60));
        turns.over(true);
        assert!(!turns.is_due(239 * ms, 3, 60));
        assert!(turns.is_due(240 * ms, 3, 60));
        turns.over(true);
        assert!(!turns.is_due(479 * ms, 4, 60));
        assert!(turns.is_due(480 * ms, 4, 60));
        turns.over(false);
        assert!(turns.is_due(540 * ms, 5, 60));
    }

    #[test]
    fn a_failure_is_told_until_the_same_step_succeeds() {
        let automatic = Automatic::new(Snapshot::default());
        assert_eq!((automatic.has_failed(), automatic.failure()), (false, None));
        automatic.failed(Step::Checkpoint, "no room".to_owned());
        automatic.succeeded(Step::Compaction);
        assert!(automatic.has_failed());
        assert!(automatic.failure().unwrap().contains("no room"));
        automatic.succeeded(Step::Checkpoint);
        assert_eq!((automatic.has_failed(), automatic.failure()), (false, None));
        assert_eq!(automatic.counts(), (0, 1));
    }
}
