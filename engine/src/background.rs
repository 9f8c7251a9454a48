//! Work that belongs on no commit's path: spare segments, the reserve file, the MANIFEST hint,
//! checkpoints, compactions and exports.
//!
//! The work is a state without a thread; [`BackgroundThread`] runs it over the background disk and
//! sleeps when there is nothing to do. Dropping the thread's owner stops and joins it, after one
//! last turn that leaves the hint where the log is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use in_mem_snapshot::{Manifest, PublishError, publish};
use in_mem_wal::disk::{Disk, OpenDisk};
use in_mem_wal::recover::ensure_reserve;
use in_mem_wal::spares::{Prepared, Spares, prepare_spare};
use in_mem_wal::{LogConfig, Stage, StorageCodec};
use parking_lot::{Condvar, Mutex};

use crate::checkpoint::{CheckpointError, Errand};
use crate::checkpoint_job::{CheckpointContext, CheckpointJob};
use crate::compaction::CompactMode;
use crate::export_job::ExportJob;
use crate::full_compaction::{FullCompaction, Stepped};
use crate::limits::CHECKPOINT_POLL_MS;
use crate::registry::PrimitiveRegistry;
use crate::shared::Shared;

/// Segments the reserve file can make up for, count.
const RESERVE_SEGMENT_COUNT: u64 = 2;

/// The background work of one database.
pub(crate) struct BackgroundWork {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) manifest: Manifest,
    pub(crate) segment_len_bytes: u64,
    pub(crate) is_reserve_checked: bool,
    pub(crate) codec: Arc<dyn StorageCodec>,
    pub(crate) registry: PrimitiveRegistry,
    pub(crate) log_config: LogConfig,
    /// What waits for its watermark.
    pub(crate) job: Option<Job>,
}

/// What the background thread has begun and waits with.
pub(crate) enum Job {
    Checkpoint(CheckpointJob),
    Export(ExportJob),
    Compaction(FullCompaction),
}

impl BackgroundWork {
    /// Does what is due; true when something was done.
    pub(crate) fn turn(&mut self, disk: &mut dyn Disk) -> bool {
        let has_prepared = matches!(prepare_spare(disk, &self.spares), Prepared::Ready { .. });
        let has_hinted = self.update_hint(disk);
        has_prepared | has_hinted | self.check_reserve(disk) | self.drive_checkpoint(disk)
    }

    /// Begins the checkpoint that was asked for, or takes it once its watermark is known.
    fn drive_checkpoint(&mut self, disk: &mut dyn Disk) -> bool {
        let context = CheckpointContext {
            shared: &self.shared,
            registry: &self.registry,
            codec: &self.codec,
            spares: Some(&self.spares),
            log_config: self.log_config,
        };
        let Some(mut job) = self.job.take() else {
            match self.shared.checkpoint.take_request() {
                None => return false,
                Some(Errand::Checkpoint(done)) => {
                    self.job = Some(Job::Checkpoint(CheckpointJob::begin(&self.shared, done)));
                }
                Some(Errand::Export(request)) => {
                    self.job = Some(Job::Export(ExportJob::begin(&self.shared, request)));
                }
                Some(Errand::Compact(request, done)) => match request.mode {
                    CompactMode::WALOnly => {
                        let result = context.compact_log(disk, &self.manifest, request.is_dry_run);
                        self.shared.checkpoint.end();
                        done(result);
                    }
                    CompactMode::Full => {
                        let job = FullCompaction::begin(&self.shared, request.is_dry_run, done);
                        self.job = Some(Job::Compaction(job));
                    }
                },
                Some(Errand::DeleteSnapshot(id, done)) => {
                    let result = context.delete_snapshot(disk, id, self.manifest.snapshot_id);
                    self.shared.checkpoint.end();
                    done(result);
                }
            }
            return true;
        };
        let is_ready = match &mut job {
            Job::Checkpoint(job) => job.is_ready(&self.shared),
            Job::Export(job) => job.is_ready(&self.shared),
            Job::Compaction(_) => true,
        };
        if !is_ready {
            self.job = Some(job);
            return false;
        }
        match job {
            Job::Checkpoint(job) => job.run(&context, disk, &mut self.manifest),
            Job::Export(job) => job.run(&context, disk, &self.manifest),
            Job::Compaction(job) => match job.step(&context, disk, &mut self.manifest) {
                Stepped::Again(job) => self.job = Some(Job::Compaction(job)),
                Stepped::Waiting(job) => {
                    self.job = Some(Job::Compaction(job));
                    return false;
                }
                // It may have given up the reserve file.
                Stepped::Over => self.is_reserve_checked = false,
            },
        }
        true
    }

    /// The last turn: the hint is left where the log is, and whoever waits for a checkpoint hears
    /// that there will be none.
    pub(crate) fn end(&mut self, disk: &mut dyn Disk) {
        match self.job.take() {
            Some(Job::Checkpoint(job)) => job.give_up(&self.shared),
            Some(Job::Export(job)) => job.give_up(&self.shared),
            Some(Job::Compaction(job)) => job.give_up(&self.shared),
            None => {}
        }
        if let Some(errand) = self.shared.checkpoint.close() {
            errand.refuse(CheckpointError::Closed);
        }
        self.update_hint(disk);
    }

    /// Makes MANIFEST name the active segment.
    pub(crate) fn update_hint(&mut self, disk: &mut dyn Disk) -> bool {
        let segment = self.shared.active_segment.load(Ordering::SeqCst);
        if segment <= self.manifest.active_wal_segment || self.shared.is_poisoned() {
            return false;
        }
        self.manifest.active_wal_segment = segment;
        match publish(disk, &self.manifest) {
            Ok(()) => true,
            Err(PublishError::Unchanged(error)) => {
                // The hint may lag: the next rotation or open repairs it.
                tracing::warn!(target: "db", %error, segment, "manifest hint was not updated");
                false
            }
            Err(PublishError::Unknown(error)) => {
                tracing::error!(target: "db", %error, "manifest may be old or new");
                self.shared.poison_at(Stage::Manifest, error);
                false
            }
        }
    }

    /// Room put aside for the day the disk is full.
    fn check_reserve(&mut self, disk: &mut dyn Disk) -> bool {
        if self.is_reserve_checked {
            return false;
        }
        self.is_reserve_checked = true;
        let len_bytes = RESERVE_SEGMENT_COUNT * self.segment_len_bytes;
        match ensure_reserve(disk, len_bytes) {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(target: "db", %error, len_bytes, "no room for the reserve file");
                false
            }
        }
    }
}

/// Owns the background thread.
pub(crate) struct BackgroundThread {
    signal: Arc<Signal>,
    join: Option<JoinHandle<()>>,
}

/// How the background thread is woken; held by hooks, holds nothing.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Default)]
struct SignalState {
    is_due: bool,
    is_stopped: bool,
}

impl Signal {
    pub(crate) fn wake(&self) {
        self.state.lock().is_due = true;
        self.changed.notify_one();
    }

    fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_one();
    }

    /// Sleeps until there is work, or for a moment when something is polled; false when it is time
    /// to end.
    fn wait(&self, is_polling: bool) -> bool {
        let mut state = self.state.lock();
        if is_polling && !state.is_due && !state.is_stopped {
            let moment = Duration::from_millis(CHECKPOINT_POLL_MS);
            let _ = self.changed.wait_for(&mut state, moment);
        }
        while !is_polling && !state.is_due && !state.is_stopped {
            self.changed.wait(&mut state);
        }
        state.is_due = false;
        !state.is_stopped
    }
}

impl BackgroundThread {
    pub(crate) fn start(
        mut work: BackgroundWork,
        signal: Arc<Signal>,
        opener: Arc<dyn OpenDisk>,
    ) -> io::Result<Self> {
        let waiting = Arc::clone(&signal);
        let (opened_sender, opened) = mpsc::channel();
        let join = thread::Builder::new()
            .name("inmem-background".to_owned())
            .spawn(move || {
                let mut disk = match opener.open_background_disk() {
                    Ok(disk) => disk,
                    Err(error) => {
                        let _ = opened_sender.send(Err(error));
                        return;
                    }
                };
                let _ = opened_sender.send(Ok(()));
                loop {
                    while work.turn(&mut *disk) {}
                    if !waiting.wait(work.job.is_some()) {
                        work.end(&mut *disk);
                        return;
                    }
                }
            })?;
        let thread = Self {
            signal,
            join: Some(join),
        };
        match opened.recv() {
            Ok(Ok(())) => Ok(thread),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for BackgroundThread {
    fn drop(&mut self) {
        self.signal.stop();
        let Some(join) = self.join.take() else { return };
        if join.thread().id() != thread::current().id() {
            let _ = join.join();
        }
    }
}
