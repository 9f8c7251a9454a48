//! How far commits are durable, told as a commit version, and waiting for it.
//!
//! Records reach the log in rising commit versions over all runs, and a sync covers a prefix of
//! the log. So one number says it all: of the durable version W every logged commit at or below W
//! is durable, and no commit that is not durable can appear below it any more. It moves only on
//! the log thread, after the sync, and never back.
//!
//! A version that is missing between two logged ones was never logged by anybody: it was committed
//! in memory only, or is one of those a restart leaves out because a crash may have lost them.
//! Waiting for such a version would be waiting for nothing, and an answer that it is durable would
//! be a lie, so these gaps are kept, as far back as memory for them reaches (`gaps.rs`). Of what
//! lies further back it is said that nothing is known, never that it is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use in_mem_wal::{FlushTicket, PoisonCause};
use parking_lot::{Condvar, Mutex};

use crate::database::{Database, DatabaseInner};
use crate::errors::FlushError;
use crate::gaps::{Gaps, Known};
use crate::shared::Shared;

/// Why a version is not told to be durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WaitDurableError {
    /// No commit has this version yet.
    #[error("commit version {version} was never issued; the last one is {last_issued}")]
    NeverIssued {
        /// The version asked for.
        version: u64,
        /// The last version issued, or left out by a restart.
        last_issued: u64,
    },
    /// The version is not in the log and never will be: the commit was volatile (InMemory), or it
    /// was lost before this database was opened.
    #[error(
        "commit version {version} is not in the log: it was volatile, or was lost in a crash before \
         the database was opened"
    )]
    NotLogged {
        /// The version asked for.
        version: u64,
    },
    /// Whether the version is in the log is not known any more: so many volatile commits, or
    /// restarts, came between logged ones since. Of a commit that is known to have been logged, by
    /// the level its answer told, [`Database::durable_version`] says whether it is durable.
    #[error(
        "it is not known any more whether commit version {version} is in the log, only of those \
         above {known_above}; a commit that was answered as logged is durable at or below the \
         durable version {durable_version}"
    )]
    Forgotten {
        /// The version asked for.
        version: u64,
        /// Of every version above this one it is known.
        known_above: u64,
        /// How far logged commits were durable then.
        durable_version: u64,
    },
    /// The log failed before the version was durable. Whether it is in the log is unknown until
    /// the database is reopened.
    #[error("the log failed before the version was durable")]
    Poisoned(#[source] Option<PoisonCause>),
    /// Nothing more becomes durable: the database was closed before the version was durable, or
    /// is open for reading only and nothing proves that it is.
    #[error("nothing more becomes durable: the database is closed, or open for reading only")]
    Closed,
    /// The time was up.
    #[error("commit version {version} was not durable in time; {durable_version} is")]
    TimedOut {
        /// The version asked for.
        version: u64,
        /// How far commits were durable then.
        durable_version: u64,
    },
}

/// A sync that was asked for, by [`Database::start_flush`]. A later one covers the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flush(Option<FlushTicket>);

/// See the module.
pub(crate) struct Durable {
    /// SeqCst: stored before those who wait are counted, as they count themselves before they
    /// look.
    version: AtomicU64,
    /// The highest version in a record. Stored under the log's hand-off lock.
    logged_highest: AtomicU64,
    /// The versions below it that are in none. A leaf: nothing is locked while it is held.
    gaps: Mutex<Gaps>,
    waiting_count: AtomicUsize,
    /// Nothing more will become durable.
    is_ended: AtomicBool,
    changes: Mutex<()>,
    changed: Condvar,
}

impl Durable {
    pub(crate) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            logged_highest: AtomicU64::new(0),
            gaps: Mutex::new(Gaps::new()),
            waiting_count: AtomicUsize::new(0),
            is_ended: AtomicBool::new(false),
            changes: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    /// The highest version such that every logged commit at or below it is durable.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// A record of `version` is about to be handed to the log, behind that of every lower version:
    /// under the hand-off lock. Or it was recovered, and the log read from its beginning or from a
    /// snapshot on.
    pub(crate) fn logged(&self, version: u64) {
        let before = self.logged_highest.load(Ordering::Relaxed);
        if before + 1 < version {
            self.gaps.lock().push(before + 1, version - 1);
        }
        // Release; pairs with the loads in `known`.
        self.logged_highest.store(version, Ordering::Release);
    }

    /// The highest version in a record. Whoever has passed a critical section sees its commit.
    pub(crate) fn logged_highest(&self) -> u64 {
        self.logged_highest.load(Ordering::Acquire)
    }

    /// A snapshot of `version` was recovered: which of the versions up to it were logged is not
    /// known, since the log need not begin with the first commit.
    pub(crate) fn recovered_snapshot(&self, version: u64) {
        self.gaps.lock().forget_to(version);
        self.logged_highest.store(version, Ordering::Release);
    }

    /// Every record up to that of `version` is durable.
    pub(crate) fn advance(&self, version: u64) {
        self.version.fetch_max(version, Ordering::SeqCst);
        self.announce();
    }

    /// Nothing more will become durable: the log is closed.
    pub(crate) fn end(&self) {
        self.is_ended.store(true, Ordering::SeqCst);
        self.announce();
    }

    /// Has those who wait look again.
    pub(crate) fn announce(&self) {
        if self.waiting_count.load(Ordering::SeqCst) != 0 {
            // Taking the lock orders this after a waiter's last look.
            drop(self.changes.lock());
            self.changed.notify_all();
        }
    }

    /// Whether a version that was issued is in a record, as far as that is known.
    fn known(&self, version: u64, shared: &Shared) -> Known {
        if self.logged_highest.load(Ordering::Acquire) < version {
            // Passing through the hand-off lock: who has the version and not yet its record.
            match shared.log.get() {
                Some(log) => drop(log.appender()),
                None => return Known::NotLogged,
            }
            if self.logged_highest.load(Ordering::Acquire) < version {
                return Known::NotLogged;
            }
        }
        self.gaps.lock().look(version)
    }
}

impl Shared {
    /// What [`Database::is_durable`] says.
    fn is_durable(&self, version: u64) -> Result<bool, WaitDurableError> {
        if version == 0 {
            return Ok(true);
        }
        let last_issued = self.store.sequencer.last_issued();
        if last_issued < version {
            return Err(WaitDurableError::NeverIssued {
                version,
                last_issued,
            });
        }
        match self.durable.known(version, self) {
            Known::Logged => {}
            Known::NotLogged => return Err(WaitDurableError::NotLogged { version }),
            Known::Forgotten { known_above } => {
                return Err(WaitDurableError::Forgotten {
                    version,
                    known_above,
                    durable_version: self.durable.version(),
                });
            }
        }
        if version <= self.durable.version() {
            return Ok(true);
        }
        if self.is_poisoned() {
            return Err(WaitDurableError::Poisoned(self.poison_cause()));
        }
        if self.durable.is_ended.load(Ordering::SeqCst) {
            return Err(WaitDurableError::Closed);
        }
        Ok(false)
    }

    /// Sleeps until `look` gives something, or for as long as `within` says. `look` is called
    /// again whenever more is durable, the log fails or the database is closed.
    fn wait_for_durable<T>(
        &self,
        within: Option<Duration>,
        look: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let _waiting = Waiting::enter(&self.durable.waiting_count);
        let limit_us = within.map(|within| u64::try_from(within.as_micros()).unwrap_or(u64::MAX));
        let deadline_us = limit_us.map(|us| self.clock.monotonic_us().saturating_add(us));
        let mut changes = self.durable.changes.lock();
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            match deadline_us {
                None => self.durable.changed.wait(&mut changes),
                Some(deadline_us) => {
                    let left_us = deadline_us.saturating_sub(self.clock.monotonic_us());
                    if left_us == 0 {
                        return None;
                    }
                    let left = Duration::from_micros(left_us);
                    let _ = self.durable.changed.wait_for(&mut changes, left);
                }
            }
        }
    }
}

/// Counts a thread as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Follows how far commits are durable. Keeps nothing but the newest version, so a slow follower
/// costs nobody anything.
pub struct DurableWatch {
    inner: Arc<DatabaseInner>,
    seen: u64,
}

impl DurableWatch {
    /// Waits until more is durable than this watch has told, and tells how far; at once if it is
    /// already. Versions in between are passed over. `None` when `within` is over; without it the
    /// wait is as long as it takes, and asks for no sync of its own: see [`Database::flush`].
    ///
    /// # Errors
    /// When the log failed or the database was closed, and the last durable version was told.
    pub fn next(&mut self, within: Option<Duration>) -> Result<Option<u64>, WaitDurableError> {
        let shared = &self.inner.shared;
        let seen = self.seen;
        let found = shared.wait_for_durable(within, || {
            let version = shared.durable.version();
            if seen < version {
                return Some(Ok(version));
            }
            if shared.is_poisoned() {
                return Some(Err(WaitDurableError::Poisoned(shared.poison_cause())));
            }
            let is_ended = shared.durable.is_ended.load(Ordering::SeqCst);
            is_ended.then_some(Err(WaitDurableError::Closed))
        });
        let Some(version) = found.transpose()? else {
            return Ok(None);
        };
        self.seen = version;
        Ok(Some(version))
    }
}

impl Database {
    /// The highest commit version such that every logged commit at or below it is durable. It
    /// never goes back. Volatile commits are durable at no version. 0 without a log.
    #[must_use]
    pub fn durable_version(&self) -> u64 {
        self.inner.shared.durable.version()
    }

    /// Whether a commit version is durable; false while it may still become so. Version 0, which
    /// an answer without a commit carries, is durable.
    ///
    /// # Errors
    /// When it never will be, or nobody can tell: see [`WaitDurableError`].
    pub fn is_durable(&self, version: u64) -> Result<bool, WaitDurableError> {
        self.inner.shared.is_durable(version)
    }

    /// Asks for a sync of everything appended so far, and returns at once. Nothing to do when all
    /// of it is durable, or without a log. [`Self::is_flushed`] says when the sync has returned,
    /// [`crate::CompletionSink::durable`] when to ask.
    pub fn start_flush(&self) -> Flush {
        Flush(self.inner.log.get().map(|log| log.handle.flush_start()))
    }

    /// Whether everything that was appended when a flush was asked for is durable: then a power
    /// loss takes none of it. False while it may still become so.
    ///
    /// # Errors
    /// When the log failed first.
    pub fn is_flushed(&self, flush: Flush) -> Result<bool, FlushError> {
        match (flush.0, self.inner.log.get()) {
            (Some(ticket), Some(log)) => log.handle.flush_poll(ticket).map_err(FlushError::from),
            _ => Ok(true),
        }
    }

    /// Makes every logged commit at or below `version` durable: asks for the sync and waits for it
    /// on the calling thread. When it returns, a power loss takes none of them. Gives the durable
    /// version reached, which may be higher. Many writes can so be made Buffered and fenced once,
    /// before a side effect that depends on them.
    ///
    /// ```
    /// use in_mem_engine::{Database, model};
    /// # let directory = std::env::temp_dir().join(format!("in-mem-fence-{}", std::process::id()));
    /// # let open = || Database::builder().path(&directory).buffered().open();
    /// let database = open()?;
    /// let run = database.default_run();
    /// let mut last = 0;
    /// for step in 0..100_i64 {
    ///     last = run.kv().put("step", &model::encode(&model::Value::from(step))?)?;
    /// }
    /// assert!(last <= database.wait_durable(last, None)?);
    /// # drop((run, database));
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// At once when the version was never issued or is not in the log; later when the log failed,
    /// the database was closed, or `within` was over. See [`WaitDurableError`].
    pub fn wait_durable(
        &self,
        version: u64,
        within: Option<Duration>,
    ) -> Result<u64, WaitDurableError> {
        let shared = &self.inner.shared;
        if !shared.is_durable(version)? {
            self.start_flush();
        }
        let look = || {
            shared
                .is_durable(version)
                .map(|is_durable| is_durable.then_some(()))
        };
        match shared.wait_for_durable(within, || look().transpose()) {
            Some(reached) => reached.map(|()| shared.durable.version()),
            None => Err(WaitDurableError::TimedOut {
                version,
                durable_version: shared.durable.version(),
            }),
        }
    }

    /// Follows how far commits are durable, from now on. For a callback instead of a wait see
    /// [`crate::CompletionSink::durable`].
    #[must_use]
    pub fn watch_durable(&self) -> DurableWatch {
        DurableWatch {
            inner: Arc::clone(&self.inner),
            seen: self.durable_version(),
        }
    }
}
