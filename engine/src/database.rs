//! An open database, and how a commit gets from a caller to its run.
//!
//! [`Database`] is a cheap handle; the shared inner object owns the threads and closes with the
//! last handle. Commits dispatch on the durability mode by one `match`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use in_mem_model::{Durability, Level, Limits, RunId};
use in_mem_wal::disk::DiskKind;
use in_mem_wal::{LogMetrics, LogObserved, LogPulse, Lsn, Need, PoisonCause, ReserveError};
use parking_lot::Mutex;

use crate::builder::DatabaseBuilder;
use crate::commit::{Commit, Destination, repeat};
use crate::config::{BufferedAck, DatabaseConfig};
use crate::durability::DurabilityMode;
use crate::errors::{CommitError, DatabaseClosed, FlushError, OpenError, RunError};
use crate::limits_in_force::LimitsInForce;
use crate::log_state::{Driver, Log};
use crate::once::{self, OnceRequest};
use crate::open::{Files, LogUse, open_log, path_of};
use crate::perf::perf_time;
use crate::prepare::{Prepared, StepSource};
use crate::program::{CommitOptions, Completion, CompletionSink, Outcome, Submitted};
use crate::recovery::RecoveryResult;
use crate::registry::PrimitiveRegistry;
use crate::run::Run;
use crate::runs::Runs;
use crate::shard::RunShard;
use crate::shared::Shared;
use crate::shutdown::ShutdownOutcome;
use crate::store::ShardedStore;
use crate::ticker::Ticker;
use crate::view::ReadView;
use crate::waiter::ThreadWaiter;

/// Attempts to commit while the reason to wait is not the log's room, count.
const BUSY_ATTEMPT_COUNT_MAX: usize = 8;

/// A handle on an open database. Cheap to clone; the last one closes the database.
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<DatabaseInner>,
}

/// What all handles share.
pub(crate) struct DatabaseInner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: DatabaseConfig,
    limits: LimitsInForce,
    pub(crate) registry: PrimitiveRegistry,
    /// Before the files, so that its threads have ended when the lock goes.
    pub(crate) log: OnceLock<Log>,
    pub(crate) files: Option<Files>,
    /// Held while the files of a database that had none are made, and while they are closed.
    pub(crate) log_creation: Mutex<()>,
    recovery: Option<RecoveryResult>,
    ticker: Option<Ticker>,
    pub(crate) shutdown: Mutex<Option<ShutdownOutcome>>,
}

impl DatabaseInner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        config: DatabaseConfig,
        registry: PrimitiveRegistry,
        files: Option<Files>,
        log: OnceLock<Log>,
        recovery: Option<RecoveryResult>,
        ticker: Option<Ticker>,
    ) -> Self {
        Self {
            shared,
            limits: LimitsInForce::new(config.limits),
            config,
            registry,
            files,
            log,
            log_creation: Mutex::new(()),
            recovery,
            ticker,
            shutdown: Mutex::new(None),
        }
    }

    /// Commits and waits on the calling thread until the promise is met.
    pub(crate) fn commit<S: StepSource>(
        &self,
        shard: &Arc<RunShard>,
        source: &mut S,
        options: CommitOptions,
        once: Option<&OnceRequest>,
    ) -> Result<Outcome, CommitError> {
        let waiter = ThreadWaiter::current();
        let completion = waiter.completion();
        perf_time!(
            commit_total_ns,
            match self.submit(shard, source, options, once, &completion, true) {
                Submitted::Done(answer) => answer,
                Submitted::Pending => perf_time!(fsync_ns, waiter.wait()),
                Submitted::Busy => Err(CommitError::Busy),
            }
        )
    }

    /// Commits without waiting for the promise; waits for room in the log only if `may_wait`.
    pub(crate) fn submit<S: StepSource>(
        &self,
        shard: &Arc<RunShard>,
        source: &mut S,
        options: CommitOptions,
        once: Option<&OnceRequest>,
        completion: &Completion,
        may_wait: bool,
    ) -> Submitted {
        let Some(once) = once else {
            return self.submit_new(shard, source, options, None, completion, may_wait);
        };
        if let Some(submitted) = self.submit_repeat(shard, once, completion) {
            return submitted;
        }
        let submitted = self.submit_new(shard, source, options, Some(once), completion, may_wait);
        // The log may have failed between, with the first of two requests on its way.
        if let Submitted::Done(Err(_)) = submitted
            && let Some(submitted) = self.submit_repeat(shard, once, completion)
        {
            return submitted;
        }
        submitted
    }

    /// Answers an exactly-once request that was committed before, or is on its way; none when
    /// it is to be executed. Looked up before anything that may refuse it.
    pub(crate) fn submit_repeat(
        &self,
        shard: &RunShard,
        once: &OnceRequest,
        completion: &Completion,
    ) -> Option<Submitted> {
        if let Err(error) = once.validate() {
            return Some(Submitted::Done(Err(error)));
        }
        let state = shard.commit.lock();
        match once::find(&self.shared, shard, &state, once) {
            Ok(None) => None,
            Ok(Some(entry)) => Some(repeat(&self.shared, shard, completion, entry)),
            Err(error) => Some(Submitted::Done(Err(error))),
        }
    }

    fn submit_new<S: StepSource>(
        &self,
        shard: &Arc<RunShard>,
        source: &mut S,
        options: CommitOptions,
        once: Option<&OnceRequest>,
        completion: &Completion,
        may_wait: bool,
    ) -> Submitted {
        if let Some(ticker) = &self.ticker {
            ticker.poke(&self.shared);
        }
        for attempt in 1..=BUSY_ATTEMPT_COUNT_MAX {
            // Before the last look: what it still finds in the way goes on with the log, which
            // then says so.
            if attempt == BUSY_ATTEMPT_COUNT_MAX
                && let Some(log) = self.log.get()
            {
                log.handle.note_refusal();
            }
            match self.attempt(shard, source, options, once, completion, may_wait) {
                Ok(Submitted::Done(Err(CommitError::Busy))) => {}
                Ok(submitted) => return submitted,
                Err(CommitError::Busy) if !may_wait => return Submitted::Busy,
                Err(error) => return Submitted::Done(Err(error)),
            }
        }
        Submitted::Busy
    }

    fn attempt<S: StepSource>(
        &self,
        shard: &Arc<RunShard>,
        source: &mut S,
        options: CommitOptions,
        once: Option<&OnceRequest>,
        completion: &Completion,
        may_wait: bool,
    ) -> Result<Submitted, CommitError> {
        let promise = self.promise(options);
        let memory = &self.shared.store.memory;
        let Some((need, level)) = promise else {
            let prepared =
                Prepared::new(shard, source, None, &self.limits, memory, once.is_some())?;
            let commit = self.commit_of(shard, source, prepared, once, completion);
            let submitted = commit.run(Destination::Memory);
            self.raise_version_floor();
            return Ok(submitted);
        };
        let log = self.log_for_commit()?;
        let mut prepared = Prepared::new(
            shard,
            source,
            Some(&log.handle),
            &self.limits,
            memory,
            once.is_some(),
        )?;
        let reserved = if may_wait {
            log.handle.reserve_wait(prepared.len_bytes_max)
        } else {
            log.handle.reserve(prepared.len_bytes_max)
        };
        let reservation = match reserved {
            Ok(reservation) => reservation,
            Err(refused) => {
                prepared.give_back(source);
                if let Some(writeset) = prepared.writeset.take() {
                    log.handle.recycle_buffer(writeset.into_buffer());
                }
                return Err(self.refused(&refused));
            }
        };
        let destination = Destination::Log {
            log: &log.handle,
            reservation,
            need,
            level,
        };
        Ok(self
            .commit_of(shard, source, prepared, once, completion)
            .run(destination))
    }

    /// Volatile commits use up versions as well: without this the floor would only rise with the
    /// next logged one, which is refused itself once the floor is reached.
    fn raise_version_floor(&self) {
        let sequencer = &self.shared.store.sequencer;
        if let Some(log) = self.log.get()
            && let Some(floor) = sequencer.floor_to_ask(sequencer.last_issued())
        {
            log.handle.set_version_floor(floor);
        }
    }

    fn commit_of<'a, S: StepSource>(
        &'a self,
        shard: &'a Arc<RunShard>,
        source: &'a mut S,
        prepared: Prepared,
        once: Option<&'a OnceRequest>,
        completion: &'a Completion,
    ) -> Commit<'a, S> {
        Commit {
            shared: &self.shared,
            shard,
            source,
            prepared,
            completion,
            once,
            is_persistent: self.config.durability.requires_wal(),
        }
    }

    /// What must be met before a commit is published; nothing for one that is not logged.
    fn promise(&self, options: CommitOptions) -> Option<(Need, Level)> {
        let buffered = match self.config.buffered_ack {
            BufferedAck::Appended => Need::Queued,
            BufferedAck::Written => Need::Written,
        };
        let mode = match options.durability {
            None => self.config.durability,
            Some(Durability::InMemory) => DurabilityMode::InMemory,
            Some(Durability::Buffered) => DurabilityMode::buffered_default(),
            Some(Durability::Strict) => DurabilityMode::Strict,
        };
        match mode {
            DurabilityMode::InMemory => None,
            DurabilityMode::Buffered { .. } => Some((buffered, Level::Logged)),
            DurabilityMode::Strict => Some((Need::Synced, Level::Synced)),
        }
    }

    /// The log, whose files are made on first use.
    fn log_for_commit(&self) -> Result<&Log, CommitError> {
        if let Some(log) = self.log.get() {
            return Ok(log);
        }
        let _creation = self.log_creation.lock();
        if let Some(log) = self.log.get() {
            return Ok(log);
        }
        self.shared.admit()?;
        let Some(files) = &self.files else {
            return Err(CommitError::InvalidArgument {
                what: "a durable commit needs a path",
            });
        };
        match open_log(
            &self.shared,
            files,
            &self.config,
            &self.registry,
            LogUse::Later,
        ) {
            Ok((Some(log), _)) => Ok(self.log.get_or_init(|| log)),
            Ok((None, _)) => Err(CommitError::NoSpace),
            Err(error) => Err(CommitError::Files(Arc::new(error))),
        }
    }

    /// True when a commit of this durability would first make the files of the log.
    fn makes_log(&self, durability: Durability) -> bool {
        let options = CommitOptions {
            durability: Some(durability),
        };
        self.log.get().is_none() && self.files.is_some() && self.promise(options).is_some()
    }

    fn refused(&self, refused: &ReserveError) -> CommitError {
        match *refused {
            ReserveError::Busy => CommitError::Busy,
            ReserveError::NoSpace => CommitError::NoSpace,
            ReserveError::TooLarge { len_bytes, .. } => CommitError::TransactionTooLarge {
                mutation_count: 0,
                len_bytes: usize::try_from(len_bytes).unwrap_or(usize::MAX),
            },
            ReserveError::Poisoned => self.shared.poisoned_error(false),
            ReserveError::Closed => DatabaseClosed.into(),
        }
    }
}

impl Database {
    /// Settings first, then `open`.
    pub fn builder() -> DatabaseBuilder {
        DatabaseBuilder::new()
    }

    /// Creates a Strict database at `path`.
    ///
    /// # Errors
    /// [`OpenError::AlreadyExists`] when there is one.
    pub fn create(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        Self::builder().path(path).create()
    }

    /// Opens the database at `path`, Strict; never creates one.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when there is none.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        Self::builder().path(path).open_existing()
    }

    /// Opens or creates a Strict database at `path`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_or_create(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        Self::builder().path(path).open()
    }

    pub(crate) fn from_inner(inner: DatabaseInner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A handle on an existing run. Keep it: it saves the look-up.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn run(&self, run: RunId) -> Result<Run, RunError> {
        let store = self.store();
        let shard = store.shard(run).filter(|shard| store.is_begun(shard));
        let shard = shard.ok_or(RunError::NotFound { run })?;
        Ok(Run::new(Arc::clone(&self.inner), shard))
    }

    /// A handle on the default run.
    #[must_use]
    pub fn default_run(&self) -> Run {
        Run::new(
            Arc::clone(&self.inner),
            self.store().shard_or_new(RunId::DEFAULT),
        )
    }

    /// The operations on runs themselves.
    #[must_use]
    pub fn runs(&self) -> Runs<'_> {
        Runs::new(self)
    }

    /// A view of a run as it is published now.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn read_view(&self, run: RunId) -> Result<ReadView, RunError> {
        Ok(self.run(run)?.read_view())
    }

    /// True when the next commit of this durability makes the files of the log first, which takes
    /// far longer than a commit.
    #[must_use]
    pub fn makes_log(&self, durability: Durability) -> bool {
        self.inner.makes_log(durability)
    }

    /// Makes everything appended so far durable. Nothing to do without a log.
    ///
    /// # Errors
    /// When the log failed first.
    pub fn flush(&self) -> Result<(), FlushError> {
        match self.inner.log.get() {
            Some(log) => log.handle.flush().map(drop).map_err(FlushError::from),
            None => Ok(()),
        }
    }

    /// True while commits are admitted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.inner.shared.is_closed()
    }

    /// The default durability mode.
    #[must_use]
    pub fn durability_mode(&self) -> DurabilityMode {
        self.inner.config.durability
    }

    /// The limits it was opened with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.config.limits
    }

    /// Memory the data takes by the account of `memory_len_bytes_max`, bytes; 0 without that limit.
    #[must_use]
    pub fn memory_len_bytes(&self) -> u64 {
        self.store().memory.used_len_bytes()
    }

    /// Says whether the disk has room for the data to grow: `low` is what is free and what has to
    /// be, bytes, or none when there is enough. Until something else is said, logged commits that
    /// could grow the data are refused as [`CommitError::LowDisk`]. Takes effect with the next
    /// commit; commits that are under way are not touched.
    pub fn set_low_disk(&self, low: Option<(u64, u64)>) {
        self.inner.limits.disk.say(low);
    }

    /// True when commits survive a restart by default.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.inner.config.durability.requires_wal()
    }

    /// The identity in MANIFEST; none as long as there are no files.
    #[must_use]
    pub fn uuid(&self) -> Option<[u8; 16]> {
        self.inner.log.get().map(|log| log.database_uuid)
    }

    /// The directory; none when the database was given a disk.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        path_of(self.inner.files.as_ref())
    }

    /// What this open recovered; none when there was nothing to recover from.
    #[must_use]
    pub fn last_recovery_result(&self) -> Option<&RecoveryResult> {
        self.inner.recovery.as_ref()
    }

    /// The last commit version issued; not a bound for reads.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.store().version()
    }

    /// The highest version such that every commit at or below it is published, over all runs.
    #[must_use]
    pub fn global_watermark(&self) -> u64 {
        self.store().global_watermark()
    }

    /// Stamps the time of day that commits take, microseconds since the epoch. For an owner that
    /// was built with `external_time`.
    pub fn set_now(&self, now_us: u64) {
        self.inner.shared.now.stamp(now_us);
    }

    /// Adds someone who hears of batch ends and of room in the log, for as long as it lives.
    pub fn add_listener(&self, listener: &Arc<dyn CompletionSink>) {
        self.inner.shared.add_listener(Arc::downgrade(listener));
    }

    /// While it is on, commits handed to the log wait for it to be turned off before a sleeping log
    /// is woken: for an owner that submits for many at once, so that their commits share one sync.
    /// Leaving it on keeps acknowledgements waiting.
    pub fn gather_commits(&self, is_on: bool) {
        if let Some(log) = self.inner.log.get() {
            log.handle.gather(is_on);
        }
    }

    /// The log's counters; none as long as there is no log.
    #[must_use]
    pub fn log_metrics(&self) -> Option<LogMetrics> {
        self.inner.log.get().map(|log| log.handle.metrics())
    }

    /// What the log thread notes about its batches; none as long as there is no log.
    #[must_use]
    pub fn log_observed(&self) -> Option<&Arc<LogObserved>> {
        self.inner.log.get().map(|log| log.handle.observed())
    }

    /// How far the log is written and how far it is durable; none as long as there is no log.
    #[must_use]
    pub fn log_positions(&self) -> Option<(Lsn, Lsn)> {
        let log = self.inner.log.get()?;
        // In this order: what is durable was written before.
        let durable_lsn = log.handle.durable_lsn();
        Some((log.handle.written_lsn(), durable_lsn))
    }

    /// Whether the log thread gets on: compare two of them some time apart. None as long as there is
    /// no log.
    #[must_use]
    pub fn log_pulse(&self) -> Option<LogPulse> {
        self.inner.log.get().map(|log| log.handle.pulse())
    }

    /// Which disk the log is written through; none as long as there is no log.
    #[must_use]
    pub fn disk_kind(&self) -> Option<DiskKind> {
        self.inner.log.get().map(|log| log.disk_kind)
    }

    /// True when no writes are taken until the database is reopened.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.shared.is_poisoned()
    }

    /// Why, when the log has failed.
    #[must_use]
    pub fn poison_cause(&self) -> Option<PoisonCause> {
        self.inner.shared.poison_cause()
    }

    /// Hands the log and the background work to the calling thread, once; none without a log. For
    /// a database built with `manual`.
    ///
    /// # Errors
    /// When the disk cannot be opened.
    pub fn take_driver(&self) -> std::io::Result<Option<Driver>> {
        let opener = self.inner.files.as_ref().and_then(Files::opener);
        match (self.inner.log.get(), opener) {
            (Some(log), Some(opener)) => log.take_driver(&self.inner.shared, &**opener),
            _ => Ok(None),
        }
    }

    /// The runs in memory: reads at the level of the store, where a missing run is empty.
    #[must_use]
    pub fn store(&self) -> &ShardedStore {
        &self.inner.shared.store
    }
}
