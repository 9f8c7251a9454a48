//! One run in memory: its keys, its published version and its critical section.
//!
//! `commit` is the critical section of the commit sequence: everything in [`CommitState`] is
//! written there, keys are inserted and chains extended there. Readers take none of the locks.
//! Lock order: `commit`, then the run names, then the log's hand-off lock, then the publication
//! queue; the reserve of nodes is taken alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use in_mem_model::{RunId, RunStatus, TypeTag};
use parking_lot::Mutex;

use crate::index::{Index, KeyRef};
use crate::now::Now;
use crate::once::OnceTable;
use crate::pins::Pins;
use crate::publication::Publication;
use crate::version_node::{Found, Node, VersionNode};

/// The parts of one run.
pub(crate) struct RunShard {
    pub(crate) run_id: RunId,
    pub(crate) index: Index,
    pub(crate) publication: Publication,
    /// Who reads an older time of it.
    pub(crate) pins: Pins,
    /// The critical section of the run.
    pub(crate) commit: Mutex<CommitState>,
    /// Recovered as Active at this start, without a live owner.
    recovered_unowned: AtomicBool,
    /// Of those: reports Orphaned until someone moves it.
    orphaned: AtomicBool,
    /// The commit that first moved the run since; [`u64::MAX`] as long as there is none. Stored
    /// in the critical section, before that commit is published: who sees it published sees this.
    moved_at: AtomicU64,
    /// The run exists only as volatile: nothing that is logged may depend on it. Stored in the
    /// critical section, before the beginning of the run is published.
    is_volatile: AtomicBool,
    /// The time by which entries expire.
    pub(crate) now: Arc<Now>,
    /// Nodes allocated ahead of the commits that will use them.
    reserve: Mutex<Vec<Node>>,
    /// Nodes in the reserve: a hint that saves the lock when there are none.
    reserve_count: AtomicUsize,
}

/// What the critical section owns.
pub(crate) struct CommitState {
    /// The newest status, that of a pending change included; none before the run was begun.
    pub(crate) status: Option<RunStatus>,
    /// Timestamps of a run never decrease, microseconds since the epoch.
    pub(crate) last_timestamp_us: u64,
    /// Its exactly-once requests; none as long as there was no such request.
    pub(crate) once: Option<Box<OnceTable>>,
}

/// The entity that holds a run's metadata: in its own run, under the empty user key.
pub(crate) const RUN_ENTITY: KeyRef<'static> = KeyRef {
    tag: TypeTag::Run,
    user_key: &[],
};

impl RunShard {
    /// A run nobody has begun yet; the default run is Active from the start.
    pub(crate) fn new(run_id: RunId, now: Arc<Now>) -> Self {
        let status = (run_id == RunId::DEFAULT).then_some(RunStatus::Active);
        Self {
            run_id,
            index: Index::new(),
            publication: Publication::new(),
            pins: Pins::default(),
            commit: Mutex::new(CommitState {
                status,
                last_timestamp_us: 0,
                once: None,
            }),
            recovered_unowned: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
            moved_at: AtomicU64::new(u64::MAX),
            is_volatile: AtomicBool::new(false),
            now,
            reserve: Mutex::new(Vec::new()),
            reserve_count: AtomicUsize::new(0),
        }
    }

    /// The highest published commit version of this run.
    #[inline]
    pub(crate) fn visible(&self) -> u64 {
        self.publication.visible()
    }

    /// Calls `read` with the newest published version of a key. Should that have been trimmed since
    /// the run's version was loaded, a newer one is published: it looks again.
    #[inline]
    pub(crate) fn with_published<R>(
        &self,
        key: KeyRef<'_>,
        read: impl FnOnce(Option<&Node>) -> R,
    ) -> R {
        let mut read = Some(read);
        loop {
            let done = self.index.find(key, self.visible(), |found| match found {
                Found::Trimmed => None,
                found => read.take().map(|read| read(found.version())),
            });
            if let Some(done) = done {
                return done;
            }
        }
    }

    /// The run exists only as volatile.
    pub(crate) fn is_volatile(&self) -> bool {
        // Relaxed: ordered by the publication of the run's beginning, or by its section.
        self.is_volatile.load(Ordering::Relaxed)
    }

    /// The run is begun by a volatile commit; in the critical section, not yet published.
    pub(crate) fn set_volatile(&self) {
        self.is_volatile.store(true, Ordering::Relaxed);
    }

    /// Recovered as Active and moved by nobody since, as published now.
    pub(crate) fn is_recovered_unowned(&self) -> bool {
        let version = self.visible();
        // Relaxed: set by recovery, before anyone reads.
        self.recovered_unowned.load(Ordering::Relaxed) && !self.is_moved(version)
    }

    /// Reports Orphaned instead of its stored Active, to whoever sees up to `version`.
    pub(crate) fn is_orphaned(&self, version: u64) -> bool {
        self.orphaned.load(Ordering::Relaxed) && !self.is_moved(version)
    }

    fn is_moved(&self, version: u64) -> bool {
        // Relaxed: ordered by the publication of `version`, which the caller has seen.
        self.moved_at.load(Ordering::Relaxed) <= version
    }

    /// Recovery found the run Active; `is_orphaned` by the rule of the data model.
    pub(crate) fn set_recovered(&self, is_orphaned: bool) {
        self.recovered_unowned.store(true, Ordering::Relaxed);
        self.orphaned.store(is_orphaned, Ordering::Relaxed);
    }

    /// Someone moves the run with the commit `version`; in the critical section, not yet published.
    pub(crate) fn set_moved(&self, version: u64) {
        self.moved_at.fetch_min(version, Ordering::Relaxed);
    }

    /// Allocates `count` nodes for values of up to `value_len_bytes`.
    pub(crate) fn reserve_nodes(&self, count: usize, value_len_bytes: usize) {
        let mut reserve = self.reserve.lock();
        reserve.reserve(count);
        reserve.extend((0..count).map(|_| Node::with_capacity(value_len_bytes)));
        self.reserve_count.store(reserve.len(), Ordering::Relaxed);
    }

    /// An unsealed node that holds `value`: from the reserve if there is one that fits.
    pub(crate) fn node_with_value(&self, value: &[u8]) -> Node {
        // Relaxed: a stale count costs an allocation or a look under the lock.
        if self.reserve_count.load(Ordering::Relaxed) != 0
            && let Some(mut node) = self.take_reserved()
        {
            if node.fill(value) {
                return node;
            }
            self.give_back(node);
        }
        Node::with_value(value)
    }

    fn take_reserved(&self) -> Option<Node> {
        let mut reserve = self.reserve.lock();
        let node = reserve.pop();
        self.reserve_count.store(reserve.len(), Ordering::Relaxed);
        node
    }

    fn give_back(&self, node: Node) {
        let mut reserve = self.reserve.lock();
        reserve.push(node);
        self.reserve_count.store(reserve.len(), Ordering::Relaxed);
    }
}
