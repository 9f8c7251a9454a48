//! What the committers, the log thread and the background thread share: whether the database takes
//! writes, the runs, and who wants to hear of the log.
//!
//! Owned by no thread and owning none: the log thread's sink holds it, the object whose drop stops
//! that thread holds it too, and it holds neither.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use in_mem_model::RetentionPolicy;
use in_mem_wal::clock::Clock;
use in_mem_wal::{LogHandle, Lsn, PoisonCause, Sink, Stage};
use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{CheckpointBoard, LogPoint};
use crate::durable::Durable;
use crate::errors::{CommitError, DatabaseClosed};
use crate::faults::{Mutant, Planted};
use crate::now::Now;
use crate::program::CompletionSink;
use crate::progress::RecoveryProgress;
use crate::shard::RunShard;
use crate::store::ShardedStore;

/// The shared inner part of a database.
pub(crate) struct Shared {
    pub(crate) store: ShardedStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) planted: Planted,
    /// How far commits are durable.
    pub(crate) durable: Durable,
    /// The time of day.
    pub(crate) now: Arc<Now>,
    /// Admission is closed. SeqCst; re-checked inside each critical section.
    is_closed: AtomicBool,
    is_read_only: AtomicBool,
    /// The log failed, or a commit panicked half-way.
    is_poisoned: AtomicBool,
    poison_cause: Mutex<Option<PoisonCause>>,
    listeners: RwLock<Vec<Weak<dyn CompletionSink>>>,
    /// The active segment, for the MANIFEST hint; 0 before a log exists.
    pub(crate) active_segment: AtomicU64,
    /// The log, once it is started: what fails beside it ends it too.
    pub(crate) log: OnceLock<LogHandle<InFlight>>,
    /// Who wants to know how far recovery has come.
    pub(crate) recovery_progress: OnceLock<Arc<RecoveryProgress>>,
    /// What holds for runs without a retention policy of their own.
    pub(crate) default_retention: RwLock<RetentionPolicy>,
    /// What is asked of checkpoints and known about them.
    pub(crate) checkpoint: CheckpointBoard,
    /// Wakes the background thread.
    pub(crate) wake_background: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Shared {
    pub(crate) fn new(clock: Arc<dyn Clock>, planted: Planted) -> Self {
        let now = Arc::new(Now::new(Arc::clone(&clock)));
        Self {
            store: ShardedStore::new(Arc::clone(&now)),
            clock,
            planted,
            durable: Durable::new(),
            now,
            is_closed: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
            is_poisoned: AtomicBool::new(false),
            poison_cause: Mutex::new(None),
            listeners: RwLock::new(Vec::new()),
            active_segment: AtomicU64::new(0),
            log: OnceLock::new(),
            recovery_progress: OnceLock::new(),
            default_retention: RwLock::default(),
            checkpoint: CheckpointBoard::new(),
            wake_background: Mutex::new(None),
        }
    }

    /// Refuses what must not begin. The caller is in a critical section: it has registered itself
    /// there before this check, so a shutdown that closed admission waits for it or is seen.
    pub(crate) fn admit(&self) -> Result<(), CommitError> {
        if self.is_closed() {
            return Err(DatabaseClosed.into());
        }
        if self.is_poisoned() {
            return Err(self.poisoned_error(false));
        }
        if self.is_read_only() {
            return Err(CommitError::OpenedReadOnly);
        }
        Ok(())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Closes admission; true when it was open.
    pub(crate) fn close_admission(&self) -> bool {
        !self.is_closed.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::SeqCst)
    }

    pub(crate) fn poison_cause(&self) -> Option<PoisonCause> {
        self.poison_cause.lock().clone()
    }

    /// Something beside the log failed in a way that only a reopening can clear up: no writes until
    /// then, and what the log has not acknowledged yet fails.
    pub(crate) fn poison_at(&self, stage: Stage, source: io::Error) {
        let at = self.log.get().map_or(Lsn::ZERO, LogHandle::written_lsn);
        let source = Arc::new(source);
        self.poison(&PoisonCause { stage, at, source });
    }

    /// No writes until the database is reopened; reads go on.
    fn poison(&self, cause: &PoisonCause) {
        self.poison_cause
            .lock()
            .get_or_insert_with(|| cause.clone());
        if self.is_poisoned.swap(true, Ordering::SeqCst) {
            return;
        }
        tracing::error!(target: "db", %cause, "database is poisoned: no writes until reopened");
        if let Some(log) = self.log.get() {
            log.poison(cause.clone());
        }
        // Whoever waits for room asks again, and hears why there will be none. The log says so too,
        // but there need not be one, and its thread may never get to it.
        self.for_each_listener(|listener| listener.space_available());
        self.durable.announce();
    }

    pub(crate) fn poisoned_error(&self, is_outcome_unknown: bool) -> CommitError {
        CommitError::Poisoned {
            cause: self.poison_cause(),
            is_outcome_unknown,
        }
    }

    /// The log cannot be written to: reads only, and nothing more becomes durable.
    pub(crate) fn set_read_only(&self) {
        self.is_read_only.store(true, Ordering::Relaxed);
        self.durable.end();
    }

    /// Opened for reading only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Relaxed)
    }

    /// Adds someone who hears of batch ends and of room in the log, for as long as it lives.
    pub(crate) fn add_listener(&self, listener: Weak<dyn CompletionSink>) {
        let mut listeners = self.listeners.write();
        listeners.retain(|listener| listener.strong_count() != 0);
        listeners.push(listener);
    }

    pub(crate) fn for_each_listener(&self, mut call: impl FnMut(&dyn CompletionSink)) {
        for listener in self.listeners.read().iter() {
            if let Some(listener) = listener.upgrade() {
                call(&*listener);
            }
        }
    }

    /// Tells of room in the queue of a run that refused a commit.
    pub(crate) fn announce_room(&self, shard: &RunShard) {
        if shard.publication.take_refusal() {
            self.for_each_listener(|listener| listener.space_available());
        }
    }

    pub(crate) fn poke_background(&self) {
        if let Some(wake) = &*self.wake_background.lock() {
            wake();
        }
    }
}

/// What the log carries along with a record.
pub(crate) struct InFlight {
    /// The run whose queue the commit waits in; none when it is published already.
    pub(crate) shard: Option<Arc<RunShard>>,
    pub(crate) version: u64,
}

/// The engine's ear on the log thread. Holds what is shared, never the owner of the log.
pub(crate) struct LogSink {
    shared: Arc<Shared>,
    /// Records written and not yet synced, in log order.
    unsynced: VecDeque<LogPoint>,
    record_count: u64,
}

impl LogSink {
    /// For a log that begins where recovery left it.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let record_count = shared.checkpoint.log_point.lock().record_count;
        Self {
            shared,
            unsynced: VecDeque::new(),
            record_count,
        }
    }

    /// Notes the last durable record: what a checkpoint may have as its watermark.
    fn note_durable(&mut self, version: u64) {
        let durable_count = self
            .unsynced
            .partition_point(|point| point.version <= version);
        if let Some(point) = self.unsynced.drain(..durable_count).next_back() {
            *self.shared.checkpoint.log_point.lock() = point;
        }
    }

    fn announce_durable(&self, version: u64) {
        self.shared.durable.advance(version);
        let version = self.shared.durable.version();
        self.shared
            .for_each_listener(|listener| listener.durable(version));
    }
}

impl Sink<InFlight> for LogSink {
    fn reached(&mut self, token: InFlight, end_lsn: Lsn) {
        self.record_count += 1;
        self.unsynced.push_back(LogPoint {
            version: token.version,
            end_lsn,
            record_count: self.record_count,
        });
        if self.shared.planted.is(Mutant::DurableBeforeSync) {
            self.announce_durable(token.version);
        }
        let Some(shard) = token.shard else { return };
        // Poisoned by something beside the log: it is synced, but nothing is acknowledged any more.
        if self.shared.is_poisoned() {
            shard.publication.fail(&self.shared.poisoned_error(true));
        } else {
            shard.publication.promise_met(token.version);
            self.shared.announce_room(&shard);
        }
    }

    fn batch_end(&mut self) {
        self.shared
            .for_each_listener(|listener| listener.batch_end());
    }

    fn durable(&mut self, _durable_lsn: Lsn, txn_id_highest: u64) {
        self.note_durable(txn_id_highest);
        self.announce_durable(txn_id_highest);
        if self.shared.store.once_capture.load(Ordering::Relaxed) != 0 {
            self.shared.poke_background();
        }
    }

    fn space_freed(&mut self) {
        self.shared
            .for_each_listener(|listener| listener.space_available());
    }

    fn rotated(&mut self, segment: u64) {
        self.shared.active_segment.store(segment, Ordering::SeqCst);
        self.shared.poke_background();
    }

    fn floor_durable(&mut self, version_floor: u64) {
        self.shared.store.sequencer.floor_durable(version_floor);
        self.shared
            .for_each_listener(|listener| listener.space_available());
    }

    fn poisoned(&mut self, cause: &PoisonCause) {
        self.shared.poison(cause);
    }

    fn failed(&mut self, token: InFlight) {
        if let Some(shard) = token.shard {
            shard.publication.fail(&self.shared.poisoned_error(true));
            self.shared.announce_room(&shard);
        }
    }
}
