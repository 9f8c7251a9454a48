//! What is said while the log is replayed: how far it is, and whether more time is asked for.
//!
//! Time is asked for only while records come in, so that a recovery that is stuck ends with the
//! manager's limit like any other start that hangs.

use std::sync::Arc;

use in_mem_engine::RecoveryProgress;

/// The time asked for with each sign of progress, microseconds: also what the steps behind the
/// last record may take.
const EXTEND_US: u32 = 60_000_000;

/// One report.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) status: String,
    /// More time, when there was progress since the report before.
    pub(super) extend_us: Option<u32>,
}

/// A recovery as last reported.
#[derive(Debug)]
pub(super) struct Replay {
    progress: Arc<RecoveryProgress>,
    /// Records and bytes of a snapshot.
    reported: Option<(u64, u64)>,
}

impl Replay {
    pub(super) fn new(progress: Arc<RecoveryProgress>) -> Self {
        Self {
            progress,
            reported: None,
        }
    }

    pub(super) fn report(&mut self) -> Report {
        let record_count = self.progress.record_count();
        let read_len_bytes = self.progress.snapshot_read_len_bytes();
        let has_progress = self.reported != Some((record_count, read_len_bytes));
        self.reported = Some((record_count, read_len_bytes));
        let (segment, newest) = (self.progress.segment(), self.progress.newest_segment());
        let status = match segment {
            0 => self.before_the_log(read_len_bytes),
            _ => format!("recovering: {record_count} records, segment {segment} of {newest}"),
        };
        Report {
            status,
            extend_us: has_progress.then_some(EXTEND_US),
        }
    }
}

impl Replay {
    /// What is said before the first record.
    fn before_the_log(&self, read_len_bytes: u64) -> String {
        let id = self.progress.snapshot_id();
        let len_bytes = self.progress.snapshot_len_bytes();
        match id {
            0 => "recovering".to_owned(),
            _ => {
                let done = read_len_bytes.saturating_mul(100) / len_bytes.max(1);
                format!("recovering: snapshot {id}, {done} %")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use in_mem_engine::{Database, DurabilityMode, OpenError};
    use in_mem_wal::LogConfig;
    use in_mem_wal::disk::{SimOptions, SimWorld};

    use super::*;

    #[test]
    fn more_time_is_asked_for_only_with_progress() {
        let mut replay = Replay::new(Arc::default());
        assert_eq!(replay.report().extend_us, Some(EXTEND_US), "the start");
        assert_eq!(replay.report().extend_us, None, "nothing has moved");
    }

    #[test]
    fn the_snapshot_is_named_while_it_is_read_and_is_progress() {
        let world = SimWorld::new(SimOptions::new(1));
        let builder = || {
            Database::builder()
                .durability(DurabilityMode::Strict)
                .wal_config(LogConfig {
                    segment_len_bytes: 1 << 20,
                    buffered_sync_len_bytes: 1 << 20,
                    ..LogConfig::default()
                })
                .disk(Arc::new(world.clone()))
        };
        let database = builder().open().expect("opens");
        database.checkpoint().expect("taken");
        drop(database);
        let progress = Arc::new(RecoveryProgress::default());
        let mut replay = Replay::new(Arc::clone(&progress));
        assert_eq!(replay.report().status, "recovering");
        progress.request_stop();
        let stopped = builder().progress(progress).open();
        assert!(matches!(stopped.err(), Some(OpenError::Interrupted)));
        let report = replay.report();
        assert!(report.status.starts_with("recovering: snapshot 1, "));
        assert_eq!(report.extend_us, Some(EXTEND_US));
    }
}
