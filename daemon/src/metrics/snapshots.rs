//! Snapshots, the log behind them and the checkpoint under way, for `system.info` and for scrapers.
//!
//! Asks the disk how long the log is: not for the reactor.

use in_mem_engine::{CheckpointInfo, CheckpointPhase, CheckpointProgress};
use in_mem_wal::clock::{Clock, SystemClock};

use super::exposition::{Exposition, Kind, seconds};
use crate::store::Store;

use Kind::{Counter, Gauge};

/// What a checkpoint can be doing.
const PHASES: [CheckpointPhase; 5] = [
    CheckpointPhase::Syncing,
    CheckpointPhase::Writing,
    CheckpointPhase::Verifying,
    CheckpointPhase::Publishing,
    CheckpointPhase::Trimming,
];

/// What `system.info` says: of the newest snapshot, where there is one; of the checkpoint under
/// way, while there is one. Its phase is a word, and stands in the name with the value 1.
pub(crate) fn measures(store: &Store) -> Vec<(String, u64)> {
    let database = &store.database;
    let mut measures = vec![(
        "log_behind_snapshot_len_bytes".to_owned(),
        database.log_len_bytes_behind_snapshot(),
    )];
    if let Ok(len_bytes) = database.wal_size() {
        measures.push(("log_len_bytes".to_owned(), len_bytes));
    }
    if let Some(newest) = database.newest_snapshot() {
        let of_newest = [
            ("snapshot_id", newest.snapshot_id),
            ("snapshot_watermark", newest.watermark_txn),
            ("snapshot_created_at_us", newest.timestamp_us),
            ("snapshot_len_bytes", newest.size_bytes),
        ];
        measures.extend(of_newest.map(|(name, value)| (name.to_owned(), value)));
    }
    if let Some(progress) = database.checkpoint_progress() {
        let phase = progress.phase.name();
        measures.push((format!("checkpoint_is_{phase}"), 1));
        let written = progress.written_bytes;
        measures.push(("checkpoint_written_len_bytes".to_owned(), written));
        let verified = progress.verified_bytes;
        measures.push(("checkpoint_verified_len_bytes".to_owned(), verified));
    }
    let (done, failed) = store.automatic.counts();
    measures.push(("automatic_checkpoint_count".to_owned(), done));
    measures.push(("automatic_checkpoint_failed_count".to_owned(), failed));
    measures
}

/// The same for scrapers.
pub(super) fn expose(text: &mut Exposition, store: &Store) {
    let database = &store.database;
    if let Ok(len_bytes) = database.wal_size() {
        let help = "All segments of the log, the room of the last one included.";
        text.single("inmem_wal_bytes", Gauge, help, len_bytes);
    }
    let help = "Log written behind the newest snapshot: about what the next start has to read.";
    let behind = database.log_len_bytes_behind_snapshot();
    text.single("inmem_wal_behind_snapshot_bytes", Gauge, help, behind);
    if let Some(newest) = database.newest_snapshot() {
        self::newest(text, &newest);
    }
    under_way(text, database.checkpoint_progress());
    let (done, failed) = store.automatic.counts();
    let name = "inmem_automatic_checkpoints_total";
    let help = "Checkpoints the daemon took by itself, by what came of them.";
    text.family(name, Counter, help);
    text.sample(name, &[("result", "done")], done);
    text.sample(name, &[("result", "failed")], failed);
}

fn newest(text: &mut Exposition, newest: &CheckpointInfo) {
    let help = "The number of the newest snapshot.";
    text.single("inmem_snapshot_id", Gauge, help, newest.snapshot_id);
    let help = "The last commit version inside the newest snapshot.";
    let watermark = newest.watermark_txn;
    text.single("inmem_snapshot_watermark", Gauge, help, watermark);
    let help = "The length of the newest snapshot.";
    text.single("inmem_snapshot_bytes", Gauge, help, newest.size_bytes);
    let help = "Time since the newest snapshot was begun.";
    let age_us = SystemClock.wall_us().saturating_sub(newest.timestamp_us);
    let name = "inmem_snapshot_age_seconds";
    text.single(name, Gauge, help, seconds(age_us));
}

fn under_way(text: &mut Exposition, progress: Option<CheckpointProgress>) {
    let name = "inmem_checkpoint_phase";
    let help = "1 for what the checkpoint under way is doing; all 0 when there is none.";
    text.family(name, Gauge, help);
    for phase in PHASES {
        let is_now = u8::from(progress.is_some_and(|progress| progress.phase == phase));
        text.sample(name, &[("phase", phase.name())], is_now);
    }
    let help = "Bytes the checkpoint under way has written; 0 when there is none.";
    let written = progress.map_or(0, |progress| progress.written_bytes);
    text.single("inmem_checkpoint_written_bytes", Gauge, help, written);
    let help = "Bytes the checkpoint under way has read back; 0 when there is none.";
    let verified = progress.map_or(0, |progress| progress.verified_bytes);
    text.single("inmem_checkpoint_verified_bytes", Gauge, help, verified);
}
