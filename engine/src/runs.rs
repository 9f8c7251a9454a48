//! The Run primitive: beginning, ending, finding and describing runs.
//!
//! A run's metadata is a versioned entity of the run itself. Every lifecycle call is one ordinary
//! transaction of that run, decided in its commit step.

use std::sync::Arc;

use in_mem_model::{Durability, EncodedValue, RunId, RunInfo, RunStatus};

use crate::database::Database;
use crate::errors::CommitError;
use crate::follow::follow;
use crate::limits::RUN_PAGE_LEN_BYTES_MAX;
use crate::once::OnceRequest;
use crate::program::{CommitOptions, Completion, Program, Step, Submitted};
use crate::run::Run;
use crate::run_change::{BeginRun, RunChange, default_run_info};
use crate::shard::{RUN_ENTITY, RunShard};
use crate::version_node::{VersionNode, VersionedRef};
use crate::view::get_with;
use crate::waiter::ThreadWaiter;

/// Attempts to begin a run whose name others claim and give back, count.
const BEGIN_ATTEMPT_COUNT_MAX: usize = 8;

/// The operations on runs.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    pub(crate) database: &'a Database,
    pub(crate) options: CommitOptions,
}

/// What a list of runs leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunFilter {
    /// Only runs of this status. Asking for Archived includes them.
    pub status: Option<RunStatus>,
    /// Archived runs as well.
    pub include_archived: bool,
    /// At most so many; 0 means no limit.
    pub limit: usize,
    /// Behind this run, in order of the ids.
    pub after: Option<RunId>,
}

/// Part of a list of runs, in order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<RunInfo>,
    /// What to give as [`RunFilter::after`] to go on.
    pub cursor: Option<RunId>,
    /// True when there may be more.
    pub has_more: bool,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(database: &'a Database) -> Self {
        Self {
            database,
            options: CommitOptions::default(),
        }
    }

    /// The same operations with another durability than the database's default.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self {
            options: CommitOptions {
                durability: Some(durability),
            },
            ..self
        }
    }

    /// Begins a run with a new random id.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `RunNotFound` when the parent does not exist.
    pub fn begin_run(&self, begin: BeginRun) -> Result<(RunInfo, u64), CommitError> {
        let run = RunId::new_random();
        let version = self.change(run, RunChange::Begin(begin))?;
        let info = self.get(run).ok_or(CommitError::Internal)?;
        Ok((info, version))
    }

    /// Begins a run with a given id without waiting: for a reactor.
    pub fn submit_begin(&self, run: RunId, begin: BeginRun, completion: &Completion) -> Submitted {
        self.submit_begin_as(run, begin, None, completion)
    }

    /// The same for an exactly-once request, if it is one; see [`Run::submit_as`]. A repeat must
    /// name the same run: what the request committed is kept with it.
    pub fn submit_begin_as(
        &self,
        run: RunId,
        begin: BeginRun,
        once: Option<&OnceRequest>,
        completion: &Completion,
    ) -> Submitted {
        let change = RunChange::Begin(begin);
        for _ in 0..BEGIN_ATTEMPT_COUNT_MAX {
            let holder = match self.begin_attempt(run, &change, once, completion) {
                None => continue,
                Some(Submitted::Done(Err(CommitError::AlreadyExists { run }))) => run,
                Some(submitted) => return submitted,
            };
            if let Some(submitted) = self.follow_holder(run, &change, holder, completion) {
                return submitted;
            }
        }
        Submitted::Done(Err(CommitError::Busy))
    }

    /// None when the run was dropped meanwhile, by another beginning of the same id that failed.
    fn begin_attempt(
        &self,
        run: RunId,
        change: &RunChange,
        once: Option<&OnceRequest>,
        completion: &Completion,
    ) -> Option<Submitted> {
        let steps = [Step::Run(change)];
        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let handle = self.handle_for_begin(run);
        let submitted = handle.submit_as(&program, self.options, once, completion);
        let has_failed = !matches!(submitted, Submitted::Pending | Submitted::Done(Ok(_)));
        if has_failed && !self.forget_unbegun(&handle) {
            return None;
        }
        Some(submitted)
    }

    /// Active to Completed. Returns the version.
    ///
    /// # Errors
    /// `InvalidTransition` from any other status.
    pub fn end_run(&self, run: RunId) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::End)
    }

    /// To Failed, with a message.
    ///
    /// # Errors
    /// `InvalidTransition`; `InvalidArgument` when the message is empty.
    pub fn fail(&self, run: RunId, message: &str) -> Result<u64, CommitError> {
        self.change_existing(
            run,
            RunChange::Fail {
                message: message.to_owned(),
            },
        )
    }

    /// Aborting is failing with the reason.
    ///
    /// # Errors
    /// As [`Self::fail`].
    pub fn abort_run(&self, run: RunId, reason: &str) -> Result<u64, CommitError> {
        self.fail(run, reason)
    }

    /// To Cancelled.
    ///
    /// # Errors
    /// `InvalidTransition`.
    pub fn cancel(&self, run: RunId) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::Cancel)
    }

    /// Active to Paused.
    ///
    /// # Errors
    /// `InvalidTransition`.
    pub fn pause(&self, run: RunId) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::Pause)
    }

    /// Paused or Orphaned to Active.
    ///
    /// # Errors
    /// `InvalidTransition`.
    pub fn resume(&self, run: RunId) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::Resume)
    }

    /// To Archived.
    ///
    /// # Errors
    /// `InvalidTransition`.
    pub fn archive(&self, run: RunId) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::Archive)
    }

    /// Replaces the metadata: an Object or Null.
    ///
    /// # Errors
    /// `RunClosed` when the run is not Active.
    pub fn update_metadata(&self, run: RunId, metadata: EncodedValue) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::SetMetadata { metadata })
    }

    /// Adds tags; those it has already are ignored.
    ///
    /// # Errors
    /// `RunClosed` when the run is not Active.
    pub fn add_tags(&self, run: RunId, tags: &[&str]) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::AddTags { tags: owned(tags) })
    }

    /// Removes tags; those it does not have are ignored.
    ///
    /// # Errors
    /// `RunClosed` when the run is not Active.
    pub fn remove_tags(&self, run: RunId, tags: &[&str]) -> Result<u64, CommitError> {
        self.change_existing(run, RunChange::RemoveTags { tags: owned(tags) })
    }

    /// The tags of a run; none when there is no such run.
    #[must_use]
    pub fn get_tags(&self, run: RunId) -> Option<Vec<String>> {
        self.get(run).map(|info| info.tags)
    }

    /// The status; none when there is no such run. The default run is always Active.
    #[must_use]
    pub fn run_status(&self, run: RunId) -> Option<RunStatus> {
        self.get(run).map(|info| info.status)
    }

    /// The metadata; none when there is no such run.
    #[must_use]
    pub fn get(&self, run: RunId) -> Option<RunInfo> {
        self.database
            .store()
            .shard(run)
            .and_then(|shard| published_info(&shard))
    }

    /// The metadata as it was at a commit version; none when there was no such run yet.
    #[must_use]
    pub fn get_at(&self, run: RunId, version: u64) -> Option<RunInfo> {
        let shard = self.database.store().shard(run)?;
        info_at(&shard, version.min(shard.visible()))
    }

    /// Length of the newest metadata as it is kept, bytes: what decoding it costs. 0 without any.
    #[must_use]
    pub fn info_len_bytes(&self, run: RunId) -> usize {
        self.database.store().shard(run).map_or(0, |shard| {
            shard
                .index
                .with_newest(RUN_ENTITY, |node| node.map_or(0, |node| node.value().len()))
        })
    }

    /// True when there is such a run.
    #[must_use]
    pub fn exists(&self, run: RunId) -> bool {
        let store = self.database.store();
        store.shard(run).is_some_and(|shard| store.is_begun(&shard))
    }

    /// The run of a name.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<RunId> {
        if name == crate::run_change::DEFAULT_RUN_NAME {
            return Some(RunId::DEFAULT);
        }
        self.database
            .store()
            .names
            .get(name)
            .filter(|run| self.exists(*run))
    }

    /// Runs in order of their ids; archived ones only if asked for. A page also ends, whatever the
    /// limit, behind [`RUN_PAGE_LEN_BYTES_MAX`] of encoded metadata looked at.
    #[must_use]
    pub fn list_runs(&self, filter: &RunFilter) -> RunPage {
        self.page_of(filter, |_| true, |info| is_listed(info, filter))
    }

    /// The runs that both let through, as far as the limit and the bytes of a page go: at
    /// least one is looked at.
    fn page_of(
        &self,
        filter: &RunFilter,
        is_looked_at: impl Fn(&RunShard) -> bool,
        is_wanted: impl Fn(&RunInfo) -> bool,
    ) -> RunPage {
        let mut page = RunPage {
            runs: Vec::new(),
            cursor: None,
            has_more: false,
        };
        let limit = match filter.limit {
            0 => usize::MAX,
            limit => limit,
        };
        let store = self.database.store();
        let mut room_len_bytes = RUN_PAGE_LEN_BYTES_MAX;
        for run in store.run_ids() {
            if filter.after.is_some_and(|after| run <= after) {
                continue;
            }
            let Some(shard) = store.shard(run).filter(|shard| is_looked_at(shard)) else {
                continue;
            };
            let len_bytes = info_len_bytes(&shard);
            if page.runs.len() == limit || (page.cursor.is_some() && room_len_bytes < len_bytes) {
                page.has_more = true;
                return page;
            }
            let Some(info) = published_info(&shard) else {
                continue;
            };
            room_len_bytes = room_len_bytes.saturating_sub(len_bytes);
            page.cursor = Some(run);
            if is_wanted(&info) {
                page.runs.push(info);
            }
        }
        page
    }

    /// The ids of all runs but archived ones, in order.
    #[must_use]
    pub fn list_ids(&self) -> Vec<RunId> {
        let mut filter = RunFilter::default();
        let mut ids = Vec::new();
        loop {
            let page = self.list_runs(&filter);
            ids.extend(page.runs.iter().map(|info| info.id));
            if !page.has_more {
                return ids;
            }
            filter.after = page.cursor;
        }
    }

    /// Every run recovered as Active that nobody has moved or owned since, whether it reports
    /// Orphaned or Active.
    #[must_use]
    pub fn orphaned_runs(&self) -> Vec<RunInfo> {
        let shards = self.database.store().shards();
        let orphaned = shards.iter().filter(|shard| shard.is_recovered_unowned());
        orphaned.filter_map(|shard| published_info(shard)).collect()
    }

    /// Those of [`Self::orphaned_runs`] behind `after`, in order of their ids, as far as
    /// [`RUN_PAGE_LEN_BYTES_MAX`] of encoded metadata go: at least one, if there is one.
    #[must_use]
    pub fn orphaned_page(&self, after: Option<RunId>) -> RunPage {
        let filter = RunFilter {
            after,
            ..RunFilter::default()
        };
        self.page_of(&filter, RunShard::is_recovered_unowned, |_| true)
    }

    /// Commits one change of an existing run.
    ///
    /// # Errors
    /// `RunNotFound`, and what the change refuses.
    pub fn change_existing(&self, run: RunId, change: RunChange) -> Result<u64, CommitError> {
        if !self.exists(run) {
            return Err(CommitError::RunNotFound { run });
        }
        self.change(run, change)
    }

    fn change(&self, run: RunId, change: RunChange) -> Result<u64, CommitError> {
        let waiter = ThreadWaiter::current();
        for _ in 0..BEGIN_ATTEMPT_COUNT_MAX {
            let holder = match self.change_once(run, &change) {
                None => continue,
                Some(Err(CommitError::AlreadyExists { run })) => run,
                Some(done) => return done,
            };
            let followed = self.follow_holder(run, &change, holder, &waiter.completion());
            match followed {
                None => {}
                Some(Submitted::Done(answer)) => return answer.map(|done| done.version),
                Some(Submitted::Pending) => return waiter.wait().map(|done| done.version),
                Some(Submitted::Busy) => return Err(CommitError::Busy),
            }
        }
        Err(CommitError::Busy)
    }

    /// None as in [`Self::begin_attempt`].
    fn change_once(&self, run: RunId, change: &RunChange) -> Option<Result<u64, CommitError>> {
        let steps = [Step::Run(change)];
        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let handle = self.handle_for_begin(run);
        let done = handle.commit(&program, self.options);
        if done.is_err() && !self.forget_unbegun(&handle) {
            return None;
        }
        Some(done.map(|done| done.version))
    }

    /// Drops what a failed beginning made; false when someone else had done so before.
    fn forget_unbegun(&self, handle: &Run) -> bool {
        let store = self.database.store();
        let is_registered = store.is_registered(&handle.shard);
        if is_registered {
            store.forget_unbegun(handle.id());
        }
        is_registered
    }

    fn handle_for_begin(&self, run: RunId) -> Run {
        let shard = self.database.store().shard_or_new(run);
        Run::new(Arc::clone(&self.database.inner), shard)
    }

    /// A taken name is a negative answer that depends on the beginning of its holder: it is given
    /// once that is published. None when the holder gave the name back: it never was.
    fn follow_holder(
        &self,
        run: RunId,
        change: &RunChange,
        holder: RunId,
        completion: &Completion,
    ) -> Option<Submitted> {
        let taken = Err(CommitError::AlreadyExists { run: holder });
        let store = self.database.store();
        let name = match change {
            RunChange::Begin(begin) => begin.name.as_deref(),
            _ => None,
        };
        let Some(name) = name.filter(|_| holder != run && !holder.is_default()) else {
            return Some(Submitted::Done(taken));
        };
        let is_taken = || store.names.get(name) == Some(holder);
        let Some(shard) = store.shard(holder) else {
            return is_taken().then_some(Submitted::Done(taken));
        };
        // Whoever claims a name keeps it or gives it back before it leaves its section.
        let section = shard.commit.lock();
        if !is_taken() {
            return None;
        }
        let shared = &self.database.inner.shared;
        Some(follow(&section, &shard, shared, completion, taken))
    }
}

/// What the published metadata of a run takes encoded, bytes: known without decoding it.
fn info_len_bytes(shard: &RunShard) -> usize {
    get_with(shard, shard.visible(), 0, RUN_ENTITY, |found| {
        found.map_or(0, |found| found.value.len())
    })
}

/// What the published metadata of a run says, its derived status included.
pub(crate) fn published_info(shard: &RunShard) -> Option<RunInfo> {
    info_at(shard, shard.visible())
}

/// What the metadata of a run says at a version, its derived status included.
pub(crate) fn info_at(shard: &RunShard, version: u64) -> Option<RunInfo> {
    let decode = |found: VersionedRef<'_>| {
        let mut info = RunInfo::decode(found.value).ok()?;
        info.version = found.commit_version;
        Some(info)
    };
    let info = get_with(shard, version, 0, RUN_ENTITY, |found| {
        found.and_then(decode)
    });
    let mut info = match info {
        None if shard.run_id.is_default() => default_run_info(0),
        info => info?,
    };
    if shard.is_orphaned(version) && info.status == RunStatus::Active {
        info.status = RunStatus::Orphaned;
    }
    Some(info)
}

fn is_listed(info: &RunInfo, filter: &RunFilter) -> bool {
    match filter.status {
        Some(status) => info.status == status,
        None => filter.include_archived || info.status != RunStatus::Archived,
    }
}

fn owned(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|&tag| tag.to_owned()).collect()
}
