//! Checkpoints as their callers see them: asking for one, following it, and what came of it.
//!
//! The work is done by the background thread (`checkpoint_job.rs`), one checkpoint at a time.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc;

use in_mem_snapshot::{PublishError, SnapshotError};
use in_mem_wal::{Lsn, PoisonCause};
use parking_lot::Mutex;

use crate::compaction::{CompactDone, CompactRequest};
use crate::database::Database;
use crate::export::ExportRequest;
use crate::shared::Shared;
use crate::snapshots::{DeleteDone, DeleteSnapshotError, NewestSnapshot};
use crate::trim::HeldBack;

/// A snapshot that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Every logged commit at or below it is inside, none above it.
    pub watermark_txn: u64,
    /// The snapshot's number.
    pub snapshot_id: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
    /// Its length, bytes.
    pub size_bytes: u64,
}

/// Why there is no new snapshot. The one before it, if there is one, is as it was, and so is the
/// log: nothing committed is lost by a checkpoint that fails.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Nothing of this database is on disk.
    #[error("the database has no log, so there is nothing to checkpoint")]
    NoLog,
    /// It was opened for reading only.
    #[error("the database was opened for reading only")]
    ReadOnly,
    /// A checkpoint, a compaction or an export is under way.
    #[error("a checkpoint, a compaction or an export is under way")]
    AlreadyInProgress,
    /// The log failed; what is in memory may not be what it holds.
    #[error("the log has failed; reopen the database")]
    Poisoned(#[source] Option<PoisonCause>),
    /// The database was closed before the snapshot was finished.
    #[error("database is closed")]
    Closed,
    /// The snapshot could not be written, or was not read back as it was written. A disk that is
    /// full shows here.
    #[error("snapshot could not be written")]
    Write(#[source] SnapshotError),
    /// The snapshot could not be given its name.
    #[error("snapshot {snapshot_id} could not be published")]
    Publish {
        /// Its number, which is not used again.
        snapshot_id: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// MANIFEST does not name the snapshot. If the error says that it may be old or new, the
    /// database takes no more writes until it is reopened.
    #[error("MANIFEST was not updated")]
    Manifest(#[source] PublishError),
}

impl CheckpointError {
    /// The file that is damaged, and the offset, bytes, if that is why.
    #[must_use]
    pub fn damage(&self) -> Option<(&str, u64)> {
        match self {
            Self::Write(source) => damage_of(source),
            _ => None,
        }
    }
}

/// Where a snapshot is damaged, if it is.
pub(crate) fn damage_of(error: &SnapshotError) -> Option<(&str, u64)> {
    match error {
        SnapshotError::Damaged { path, offset, .. } => Some((path, *offset)),
        _ => None,
    }
}

/// What a checkpoint under way is doing, or the one inside a Full compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckpointPhase {
    /// Making durable what will be inside.
    Syncing = 1,
    /// Writing.
    Writing = 2,
    /// Reading back what was written.
    Verifying = 3,
    /// Naming it in MANIFEST.
    Publishing = 4,
    /// Cutting off in memory what a compacted snapshot has left out.
    Trimming = 5,
}

impl CheckpointPhase {
    /// The name used in replies, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Writing => "writing",
            Self::Verifying => "verifying",
            Self::Publishing => "publishing",
            Self::Trimming => "trimming",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        let all = [
            Self::Syncing,
            Self::Writing,
            Self::Verifying,
            Self::Publishing,
            Self::Trimming,
        ];
        all.into_iter().find(|phase| *phase as u8 == number)
    }
}

/// How far a checkpoint under way has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointProgress {
    /// What it is doing.
    pub phase: CheckpointPhase,
    /// Bytes written so far.
    pub written_bytes: u64,
    /// Of those, bytes read back.
    pub verified_bytes: u64,
}

/// Called with what came of a checkpoint, on the background thread.
pub(crate) type CheckpointDone = Box<dyn FnOnce(Result<CheckpointInfo, CheckpointError>) + Send>;

/// What the background thread is asked for; one at a time.
pub(crate) enum Errand {
    Checkpoint(CheckpointDone),
    Compact(CompactRequest, CompactDone),
    DeleteSnapshot(u64, DeleteDone),
    Export(ExportRequest),
}

impl Errand {
    /// There will be none any more.
    pub(crate) fn refuse(self, error: CheckpointError) {
        match self {
            Self::Checkpoint(done) => done(Err(error)),
            Self::Compact(_, done) => done(Err(error.into())),
            Self::DeleteSnapshot(_, done) => done(Err(DeleteSnapshotError::Refused(error))),
            Self::Export(request) => (request.done)(Err(error.into())),
        }
    }
}

/// A position up to which everything is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPoint {
    /// The commit version of the last record.
    pub(crate) version: u64,
    /// The end of that record.
    pub(crate) end_lsn: Lsn,
    /// Records up to it, those that are only in a snapshot included.
    pub(crate) record_count: u64,
}

impl LogPoint {
    /// Before the first record.
    pub(crate) fn first() -> Self {
        Self {
            version: 0,
            end_lsn: Lsn::new(1, in_mem_wal::limits::SEGMENT_DATA_OFFSET),
            record_count: 0,
        }
    }
}

/// What callers and the background thread share about checkpoints.
pub(crate) struct CheckpointBoard {
    request: Mutex<Request>,
    /// The last record that is durable. Set by recovery, then by the log thread.
    pub(crate) log_point: Mutex<LogPoint>,
    /// The snapshot that the next open begins with.
    pub(crate) newest: Mutex<Option<NewestSnapshot>>,
    /// What the last Full compaction could not trim.
    pub(crate) held_back: Mutex<Vec<HeldBack>>,
    phase: AtomicU8,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) verified_bytes: AtomicU64,
}

#[derive(Default)]
struct Request {
    errand: Option<Errand>,
    /// Asked for and not yet over.
    is_under_way: bool,
    /// Nobody will do it any more.
    is_closed: bool,
}

impl CheckpointBoard {
    pub(crate) fn new() -> Self {
        Self {
            request: Mutex::default(),
            log_point: Mutex::new(LogPoint::first()),
            newest: Mutex::new(None),
            held_back: Mutex::default(),
            phase: AtomicU8::new(0),
            written_bytes: AtomicU64::new(0),
            verified_bytes: AtomicU64::new(0),
        }
    }

    fn ask(&self, errand: Errand) -> Result<(), CheckpointError> {
        let mut request = self.request.lock();
        if request.is_closed {
            return Err(CheckpointError::Closed);
        }
        if request.is_under_way {
            return Err(CheckpointError::AlreadyInProgress);
        }
        request.is_under_way = true;
        request.errand = Some(errand);
        Ok(())
    }

    /// The request, if one waits.
    pub(crate) fn take_request(&self) -> Option<Errand> {
        let errand = self.request.lock().errand.take()?;
        self.written_bytes.store(0, Ordering::Relaxed);
        self.verified_bytes.store(0, Ordering::Relaxed);
        Some(errand)
    }

    /// The next one may be asked for.
    pub(crate) fn end(&self) {
        self.phase.store(0, Ordering::Relaxed);
        self.request.lock().is_under_way = false;
    }

    /// No further request is taken; the one that waits, if there is one.
    pub(crate) fn close(&self) -> Option<Errand> {
        let mut request = self.request.lock();
        request.is_closed = true;
        request.errand.take()
    }

    // Relaxed: numbers to look at.
    pub(crate) fn enter(&self, phase: CheckpointPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn progress(&self) -> Option<CheckpointProgress> {
        let phase = CheckpointPhase::from_number(self.phase.load(Ordering::Relaxed))?;
        Some(CheckpointProgress {
            phase,
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            verified_bytes: self.verified_bytes.load(Ordering::Relaxed),
        })
    }
}

impl Shared {
    /// Why no checkpoint can be taken now, if so.
    pub(crate) fn refuse_checkpoint(&self) -> Result<(), CheckpointError> {
        if self.is_poisoned() {
            return Err(CheckpointError::Poisoned(self.poison_cause()));
        }
        if self.is_closed() {
            return Err(CheckpointError::Closed);
        }
        Ok(())
    }
}

impl Database {
    /// Writes a snapshot: one consistent image of everything that logged commits have made, those
    /// before the call included, while reads and writes go on. Waits for it on the calling thread;
    /// a checkpoint takes as long as its bytes take to be written and read back. When it returns,
    /// the snapshot is durable, MANIFEST names it, and the next open loads it and reads the log
    /// behind it only. Volatile commits are not inside.
    ///
    /// Not for a database built with `manual`, whose owner would wait for itself: see
    /// [`Self::start_checkpoint`].
    ///
    /// ```
    /// use in_mem_engine::{Database, model};
    /// # let directory = std::env::temp_dir().join(format!("in-mem-checkpoint-{}", std::process::id()));
    /// let database = Database::open_or_create(&directory)?;
    /// let run = database.default_run();
    /// let version = run.kv().put("step", &model::encode(&model::Value::from(1_i64))?)?;
    /// let info = database.checkpoint()?;
    /// assert_eq!(info.watermark_txn, version);
    /// # drop((run, database));
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn checkpoint(&self) -> Result<CheckpointInfo, CheckpointError> {
        let (sender, receiver) = mpsc::channel();
        self.start_checkpoint(Box::new(move |result| {
            // The receiver waits below for as long as it takes.
            let _ = sender.send(result);
        }))?;
        receiver.recv().unwrap_or(Err(CheckpointError::Closed))
    }

    /// Asks for a snapshot and returns at once; `done` is called with what came of it, on the
    /// background thread. It must be short.
    ///
    /// # Errors
    /// When it is refused at once; `done` is not called then.
    pub fn start_checkpoint(
        &self,
        done: Box<dyn FnOnce(Result<CheckpointInfo, CheckpointError>) + Send>,
    ) -> Result<(), CheckpointError> {
        self.ask_background(Errand::Checkpoint(done))
    }

    /// Hands an errand to the background thread.
    pub(crate) fn ask_background(&self, errand: Errand) -> Result<(), CheckpointError> {
        let shared = &self.inner.shared;
        shared.refuse_checkpoint()?;
        if self.inner.log.get().is_none() {
            return Err(match self.is_persistent() {
                true => CheckpointError::ReadOnly,
                false => CheckpointError::NoLog,
            });
        }
        shared.checkpoint.ask(errand)?;
        shared.poke_background();
        Ok(())
    }

    /// How far the checkpoint under way has come; none when there is none.
    #[must_use]
    pub fn checkpoint_progress(&self) -> Option<CheckpointProgress> {
        self.inner.shared.checkpoint.progress()
    }
}
