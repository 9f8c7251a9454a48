//! The runs of a database in memory, and what spans them: the registry, the version counter and
//! the run names.
//!
//! A guard of the registry lives only for the look-up that clones an `Arc`, and is never held
//! across an access to another map. A missing run reads as empty.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dashmap::DashMap;
use in_mem_model::RunId;
use in_mem_model::keys::is_system_key;
use parking_lot::RwLock;
use rustc_hash::FxBuildHasher;

use crate::index::{Applied, IndexKey, KeyRef};
use crate::limits::{INDEX_PARTITION_COUNT, REGISTRY_SHARD_COUNT};
use crate::memory::{MemoryUse, key_cost};
use crate::names::RunNames;
use crate::now::Now;
use crate::once::{OnceEntry, OnceRequest, insert_entry};
use crate::pins::Pin;
use crate::sequencer::Sequencer;
use crate::shard::{CommitState, RUN_ENTITY, RunShard};
use crate::version_node::{Node, Stamp, VersionNode, VersionedRef};
use crate::writeset_reader::RecordHead;

/// Every run of one database.
pub struct ShardedStore {
    runs: DashMap<RunId, Arc<RunShard>, FxBuildHasher>,
    pub(crate) sequencer: Sequencer,
    /// Which run has a name, pending ones included. Taken inside a critical section.
    pub(crate) names: RunNames,
    /// What the data takes.
    pub(crate) memory: MemoryUse,
    /// The checkpoint that wants exactly-once tables as they are now; 0 for none. SeqCst: stored
    /// before the critical sections are passed, loaded inside them.
    pub(crate) once_capture: AtomicU64,
    /// Read by who walks every version of everything, written by who trims.
    pub(crate) chains: RwLock<()>,
    /// The time by which entries expire.
    now: Arc<Now>,
}

impl ShardedStore {
    /// A store with nothing but the default run.
    pub(crate) fn new(now: Arc<Now>) -> Self {
        let runs = DashMap::with_hasher_and_shard_amount(FxBuildHasher, REGISTRY_SHARD_COUNT);
        let shard = RunShard::new(RunId::DEFAULT, Arc::clone(&now));
        runs.insert(RunId::DEFAULT, Arc::new(shard));
        Self {
            runs,
            sequencer: Sequencer::new(0),
            names: RunNames::default(),
            memory: MemoryUse::default(),
            once_capture: AtomicU64::new(0),
            chains: RwLock::new(()),
            now,
        }
    }

    /// The newest published version of a key, copied out.
    #[must_use]
    pub fn get(&self, run: RunId, key: KeyRef<'_>) -> Option<Vec<u8>> {
        let shard = self.shard(run)?;
        shard.with_published(key, |node| {
            node.filter(|node| node.is_live(shard.now.current_us()))
                .map(|node| node.value().to_vec())
        })
    }

    /// True when the key has a live published value.
    #[must_use]
    pub fn contains(&self, run: RunId, key: KeyRef<'_>) -> bool {
        self.shard(run).is_some_and(|shard| {
            let now_us = shard.now.current_us();
            shard.with_published(key, |node| node.is_some_and(|node| node.is_live(now_us)))
        })
    }

    /// Live published keys of one run, of all primitives, without those of in-mem itself, count.
    #[must_use]
    pub fn count(&self, run: RunId) -> usize {
        let Some(shard) = self.shard(run) else {
            return 0;
        };
        let pin = Pin::new(shard);
        let (shard, visible) = (pin.shard(), pin.shard().visible());
        let now_us = shard.now.current_us();
        let mut count = 0;
        for partition in 0..INDEX_PARTITION_COUNT {
            shard.index.for_each_key(partition, |key, head| {
                if is_system_key(key.user_key()) {
                    return true;
                }
                let is_live = head.is_some_and(|node| {
                    node.at_or_below(visible, |found| {
                        found.version().is_some_and(|node| node.is_live(now_us))
                    })
                });
                count += usize::from(is_live);
                true
            });
        }
        count
    }

    /// Live published keys of all runs, count.
    #[must_use]
    pub fn total_count(&self) -> usize {
        self.run_ids().into_iter().map(|run| self.count(run)).sum()
    }

    /// The last commit version issued; not a bound for reads.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.sequencer.last_issued()
    }

    /// The ids of all runs, in order; those whose beginning is pending included.
    #[must_use]
    pub fn run_ids(&self) -> Vec<RunId> {
        let mut ids: Vec<RunId> = self.runs.iter().map(|entry| *entry.key()).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn shard(&self, run: RunId) -> Option<Arc<RunShard>> {
        self.runs.get(&run).map(|shard| Arc::clone(&shard))
    }

    /// The shard of a run that is about to be begun, or was.
    pub(crate) fn shard_or_new(&self, run: RunId) -> Arc<RunShard> {
        Arc::clone(
            &self
                .runs
                .entry(run)
                .or_insert_with(|| Arc::new(RunShard::new(run, Arc::clone(&self.now)))),
        )
    }

    /// True when `shard` is what the registry has for its run: a shard that was looked up before
    /// [`Self::forget_unbegun`] dropped it is not.
    pub(crate) fn is_registered(&self, shard: &RunShard) -> bool {
        self.shard(shard.run_id)
            .is_some_and(|registered| std::ptr::eq(&*registered, shard))
    }

    /// Drops a run whose beginning did not happen.
    pub(crate) fn forget_unbegun(&self, run: RunId) {
        let is_unbegun = |shard: &Arc<RunShard>| {
            let state = shard.commit.try_lock();
            // One that was given up half-way is still to be told of.
            let has_request =
                |state: &CommitState| state.once.as_ref().is_some_and(|table| !table.is_empty());
            state.is_some_and(|state| state.status.is_none() && !has_request(&state))
        };
        if let Some((_, shard)) = self.runs.remove_if(&run, |_, shard| is_unbegun(shard)) {
            // Its key may have been there before its beginning was refused.
            let has_key = shard.index.contains_key(RUN_ENTITY);
            self.memory
                .remove(if has_key { key_cost(RUN_ENTITY) } else { 0 });
        }
    }

    /// Every shard, in order of the run ids.
    pub(crate) fn shards(&self) -> Vec<Arc<RunShard>> {
        self.run_ids()
            .into_iter()
            .filter_map(|run| self.shard(run))
            .collect()
    }

    /// The highest version such that every commit at or below it is published, over all runs.
    pub(crate) fn global_watermark(&self) -> u64 {
        let issued = self.sequencer.last_issued();
        let mut watermark = issued;
        for shard in self.shards() {
            // A version at or below `issued` was taken inside a critical section that has ended
            // once this lock is held: it is published, in the queue, or dropped for good.
            let _section = shard.commit.lock();
            watermark = shard.publication.lowered(watermark);
        }
        watermark
    }

    /// Applies one mutation of a committed record with the versions stored in it. Applying it
    /// again changes nothing. Recovery alone calls this, before anyone reads.
    pub(crate) fn apply_versioned(&self, run: RunId, key: KeyRef<'_>, node: Node, stamp: Stamp) {
        let shard = self.shard_or_new(run);
        let mut state = shard.commit.lock();
        let len_bytes = node.value().len();
        let applied = shard.index.apply(key, node, stamp);
        if applied == Applied::KeyAndVersion {
            self.memory.add_key(key);
        }
        if applied != Applied::Nothing {
            self.memory.add_version(len_bytes);
        }
        state.last_timestamp_us = state.last_timestamp_us.max(stamp.timestamp_us);
        shard
            .publication
            .publish_now(stamp.commit_version.max(shard.visible()));
    }

    /// Takes in all versions of a key that is not there yet, as a snapshot holds them.
    pub(crate) fn load_entity(&self, shard: &RunShard, key: KeyRef<'_>, newest: Node) {
        self.memory.add_key(key);
        let mut version = Some(newest.clone());
        while let Some(node) = version {
            self.memory.add_version(node.value().len());
            if node.is_trim_floor() {
                shard.pins.raise_trimmed_to(node.commit_version());
            }
            version = (*node.older()).clone();
        }
        let (commit_version, timestamp_us) = (newest.commit_version(), newest.timestamp_us());
        let mut state = shard.commit.lock();
        shard.index.load(key, newest);
        state.last_timestamp_us = state.last_timestamp_us.max(timestamp_us);
        shard
            .publication
            .publish_now(commit_version.max(shard.visible()));
    }

    /// Takes in the exactly-once request that made a committed record. Applying it again changes
    /// nothing. Recovery alone calls this, in log order.
    pub(crate) fn apply_once_versioned(
        &self,
        head: &RecordHead,
        once: &OnceRequest,
        result: &[u8],
    ) {
        let shard = self.shard_or_new(head.run_id);
        let entry = OnceEntry {
            sequence: once.sequence,
            fingerprint: once.fingerprint,
            version: head.commit_version,
            timestamp_us: head.timestamp_us,
            result: result.into(),
        };
        insert_entry(&self.memory, &mut shard.commit.lock(), once, entry);
    }

    /// Calls `visit` with each key of a run, in order, its published versions, newest first, and
    /// whether there were older ones that have been trimmed.
    pub(crate) fn for_each_chain(
        &self,
        shard: &RunShard,
        mut visit: impl FnMut(&IndexKey, &[VersionedRef<'_>], bool),
    ) {
        let visible = shard.visible();
        let mut keys = Vec::new();
        for partition in 0..INDEX_PARTITION_COUNT {
            shard.index.for_each_key(partition, |key, _| {
                keys.push(key.clone());
                true
            });
        }
        keys.sort_unstable();
        for key in &keys {
            let Some(key_ref) = key.key_ref() else {
                continue;
            };
            let nodes = shard.index.chain(key_ref, visible);
            let versions: Vec<_> = nodes.iter().map(VersionNode::versioned).collect();
            if let Some(oldest) = nodes.last() {
                visit(key, &versions, oldest.is_trim_floor());
            }
        }
    }

    /// True when the run was begun and that is published; the default run always is.
    pub(crate) fn is_begun(&self, shard: &RunShard) -> bool {
        shard.run_id == RunId::DEFAULT || shard.with_published(RUN_ENTITY, |node| node.is_some())
    }
}
