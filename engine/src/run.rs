//! A handle on one run: it caches the run's shard, so that nothing is looked up per operation.

use std::sync::Arc;

use in_mem_model::RunId;

use crate::database::DatabaseInner;
use crate::errors::{CommitError, ReadError};
use crate::index::KeyRef;
use crate::kv::Kv;
use crate::once::OnceRequest;
use crate::perf::{perf_count, perf_time};
use crate::program::{CommitOptions, Completion, Outcome, Program, Submitted};
use crate::shard::RunShard;
use crate::version_node::{VersionNode, VersionedRef};
use crate::view::ReadView;

/// A handle on one run of an open database. Cheap to clone; keep one per session.
#[derive(Clone)]
pub struct Run {
    pub(crate) inner: Arc<DatabaseInner>,
    pub(crate) shard: Arc<RunShard>,
}

impl Run {
    pub(crate) fn new(inner: Arc<DatabaseInner>, shard: Arc<RunShard>) -> Self {
        Self { inner, shard }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.shard.run_id
    }

    /// The KV operations on this run.
    #[must_use]
    pub fn kv(&self) -> Kv<'_> {
        Kv::new(self)
    }

    /// The highest published commit version: one atomic load.
    #[inline]
    #[must_use]
    pub fn visible_version(&self) -> u64 {
        self.shard.visible()
    }

    /// A view of the run as it is published now.
    #[must_use]
    pub fn read_view(&self) -> ReadView {
        perf_time!(read_view_acquire_ns, ReadView::now(Arc::clone(&self.shard)))
    }

    /// A view of the run at an earlier version.
    ///
    /// # Errors
    /// `HistoryTrimmed` when something that was published at that version has been trimmed, or is
    /// about to be; `earliest_retained` is the lowest version that is whole.
    pub fn read_view_at(&self, version: u64) -> Result<ReadView, ReadError> {
        ReadView::at(Arc::clone(&self.shard), version)
    }

    /// Calls `read` with the live version of a key, as published now. Copies nothing, allocates
    /// nothing and writes no shared memory.
    pub fn get_with<R>(
        &self,
        key: KeyRef<'_>,
        read: impl FnOnce(Option<VersionedRef<'_>>) -> R,
    ) -> R {
        perf_count!(keys_read, 1);
        self.shard.with_published(key, |node| {
            let live = node.filter(|node| node.is_live(self.shard.now.current_us()));
            read(live.map(VersionNode::versioned))
        })
    }

    /// Commits a program and waits on the calling thread until its promise is met.
    ///
    /// # Errors
    /// See [`CommitError`]; `is_outcome_unknown` says whether the effect can still appear.
    pub fn commit(
        &self,
        program: &Program<'_>,
        options: CommitOptions,
    ) -> Result<Outcome, CommitError> {
        self.inner
            .commit(&self.shard, &mut { *program }, options, None)
    }

    /// Commits a program without waiting: for a reactor. The completion is called exactly once
    /// iff this returns [`Submitted::Pending`].
    pub fn submit(
        &self,
        program: &Program<'_>,
        options: CommitOptions,
        completion: &Completion,
    ) -> Submitted {
        self.submit_as(program, options, None, completion)
    }

    /// The same for an exactly-once request, if it is one: what it committed before is answered
    /// again and nothing is done; while that is still on its way, its answer is waited for.
    pub fn submit_as(
        &self,
        program: &Program<'_>,
        options: CommitOptions,
        once: Option<&OnceRequest>,
        completion: &Completion,
    ) -> Submitted {
        let source = &mut { *program };
        self.inner
            .submit(&self.shard, source, options, once, completion, false)
    }

    /// Answers an exactly-once request whose program is not at hand any more, if it was committed
    /// before or is on its way. None when it was not: nothing was done, and nothing is.
    #[must_use]
    pub fn submit_repeat(&self, once: &OnceRequest, completion: &Completion) -> Option<Submitted> {
        self.inner.submit_repeat(&self.shard, once, completion)
    }

    /// Commits a program as an exactly-once request, and waits on the calling thread; what it
    /// committed before is answered again and nothing is done.
    ///
    /// # Errors
    /// As [`Self::commit`], and [`CommitError::OtherRequest`], [`CommitError::SequenceTooOld`],
    /// [`CommitError::SessionExpired`].
    pub fn commit_once(
        &self,
        program: &Program<'_>,
        options: CommitOptions,
        once: &OnceRequest,
    ) -> Result<Outcome, CommitError> {
        let source = &mut { *program };
        self.inner.commit(&self.shard, source, options, Some(once))
    }

    /// Allocates versions ahead of `count` commits with values of up to `value_len_bytes`, so that
    /// an overwrite allocates nothing.
    pub fn reserve_versions(&self, count: usize, value_len_bytes: usize) {
        self.shard.reserve_nodes(count, value_len_bytes);
    }
}
