//! Checkpoints that the daemon takes by itself, each followed by a WALOnly compaction.
//!
//! The reactor looks, the background thread of the database works; what came of it comes back the
//! way of requests on snapshots. Nothing is waited for, and one that a client has begun comes first.

use in_mem_engine::{CheckpointError, CompactError, CompactMode};
use in_mem_wal::clock::{Clock, SystemClock};

use super::Core;
use super::snapshots::{Came, OWN};
use crate::automatic::{LogFound, LogTurns, Step};
use crate::snapshot_errors::{of_checkpoint, of_compaction};

/// What the daemon does by itself.
#[derive(Debug, Default)]
pub(super) struct OwnWork {
    turns: LogTurns,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Resting,
    /// The background thread has it.
    UnderWay,
    /// A snapshot was taken, and the log it covers is still there.
    ToCompact,
}

impl Core {
    /// A turn has begun, and the log is written so far: begins what is due.
    pub(super) fn look_at_log(&mut self, written_lsn: u64) {
        let settings = self.store.automatic.settings();
        let is_due = self
            .own_work
            .turns
            .is_due(self.turn_us, written_lsn, settings.poll_ms);
        if !is_due || !settings.automatic || self.is_draining() {
            return;
        }
        let database = &self.store.database;
        match self.own_work.state {
            State::UnderWay => {}
            State::ToCompact => self.begin_own_compaction(),
            State::Resting => {
                let found = LogFound {
                    behind_len_bytes: database.log_len_bytes_behind_snapshot(),
                    durable_version: database.durable_version(),
                    newest: database.newest_snapshot(),
                    now_us: SystemClock.wall_us(),
                    started_at_us: self.store.started_at_us(),
                };
                if settings.is_due(&found) {
                    self.begin_own_checkpoint();
                }
            }
        }
    }

    fn begin_own_checkpoint(&mut self) {
        match self.begin_checkpoint(OWN) {
            Ok(()) => self.own_work.state = State::UnderWay,
            Err(error) => self.own_checkpoint_failed(&error),
        }
    }

    fn begin_own_compaction(&mut self) {
        match self.begin_compaction(OWN, CompactMode::WALOnly) {
            Ok(()) => self.own_work.state = State::UnderWay,
            Err(error) => self.own_compaction_failed(&error),
        }
    }

    /// The background thread is done.
    pub(super) fn own_work_done(&mut self, what: Came) {
        self.own_work.state = State::Resting;
        match what {
            Came::Checkpoint(Ok(_)) => {
                self.own_work.state = State::ToCompact;
                self.begin_own_compaction();
            }
            Came::Compaction(Ok(info)) => {
                self.own_work.turns.over(false);
                self.store.automatic.done();
                tracing::info!(
                    target: "compaction",
                    segments = info.wal_segments_removed,
                    reclaimed_bytes = info.reclaimed_bytes,
                    "the log was compacted to the snapshot"
                );
            }
            Came::Checkpoint(Err(error)) => self.own_checkpoint_failed(&error),
            Came::Compaction(Err(error)) => {
                self.own_work.state = State::ToCompact;
                self.own_compaction_failed(&error);
            }
            Came::Deletion(_) | Came::Export(_) => {}
        }
    }

    fn own_checkpoint_failed(&mut self, error: &CheckpointError) {
        if is_failure(error) {
            self.own_work.turns.over(true);
            let cause = of_checkpoint(error).message;
            self.store.automatic.failed(Step::Checkpoint, cause);
        }
    }

    fn own_compaction_failed(&mut self, error: &CompactError) {
        let is_failure = match error {
            CompactError::AlreadyInProgress | CompactError::Poisoned(_) => false,
            CompactError::Refused(why) | CompactError::NotTaken(why) => is_failure(why),
            _ => true,
        };
        if is_failure {
            self.own_work.turns.over(true);
            let cause = of_compaction(error).message;
            self.store.automatic.failed(Step::Compaction, cause);
        }
    }
}

/// Whether it is worth telling: a stop, somebody else's checkpoint and what health tells anyway
/// are not.
fn is_failure(error: &CheckpointError) -> bool {
    !matches!(
        error,
        CheckpointError::AlreadyInProgress
            | CheckpointError::Closed
            | CheckpointError::Poisoned(_)
            | CheckpointError::ReadOnly
            | CheckpointError::NoLog
    )
}
