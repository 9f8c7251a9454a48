//! What a Full compaction lets go of: the versions below the lowest one that the policy of their
//! run keeps, of each entity.
//!
//! A plan is made once, at one watermark and one moment, and gives the same answer whenever it is
//! asked: the compacted snapshot leaves out what is cut off the chains in memory afterwards, since
//! versions at or below the watermark change no more.
//!
//! A chain is cut at its old end only: what is kept of an entity has no holes, so that every version
//! at or above the trim floor reads as it did. Never cut are the metadata of runs, and the entries of
//! the reserved namespace, in which the policies themselves are.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use in_mem_model::keys::is_system_key;
use in_mem_model::{RetentionMoment, RetentionPolicy, RunId, TypeTag, VersionAge};
use rustc_hash::FxBuildHasher;

use crate::index::KeyRef;
use crate::limits::{INDEX_PARTITION_COUNT, TRIM_STEP_COUNT, VERSION_COST_BYTES};
use crate::retention::{PolicyError, policy_at};
use crate::shard::RunShard;
use crate::store::ShardedStore;
use crate::version_node::{Node, VersionNode};

/// What goes, in the runs that have a policy which lets anything go.
pub(crate) struct TrimPlan {
    moment: RetentionMoment,
    runs: HashMap<RunId, PlannedRun, FxBuildHasher>,
    /// A planted mistake.
    pub(crate) counts_pending: bool,
}

struct PlannedRun {
    shard: Arc<RunShard>,
    policy: RetentionPolicy,
    /// What [`crate::pins::Pins::trimmed_to`] was before.
    trimmed_to_before: u64,
}

/// A run that was not trimmed, since someone reads an older time of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    /// The run.
    pub run: RunId,
    /// Read views and open transactions that began before the compaction and go on, count.
    pub view_count: u64,
}

/// What was cut off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trimmed {
    pub(crate) version_count: u64,
    /// Of their values, bytes.
    pub(crate) len_bytes: u64,
}

/// What goes of one run.
#[derive(Clone, Copy)]
pub(crate) struct RunTrim<'a> {
    policy: &'a RetentionPolicy,
    moment: RetentionMoment,
}

impl TrimPlan {
    /// Reads the policies in force at the watermark, at which everything is published. Views that
    /// begin from now on, on the runs that may lose something, see the watermark or later.
    pub(crate) fn make(
        store: &ShardedStore,
        default: &RetentionPolicy,
        moment: RetentionMoment,
    ) -> Result<Self, PolicyError> {
        let mut plan = Self {
            moment,
            runs: HashMap::default(),
            counts_pending: false,
        };
        for shard in store.shards() {
            let policy = policy_at(&shard, moment.watermark, default)?;
            if policy.keeps_everything() {
                continue;
            }
            let planned = PlannedRun {
                trimmed_to_before: shard.pins.trimmed_to(),
                policy,
                shard: Arc::clone(&shard),
            };
            plan.runs.insert(shard.run_id, planned);
        }
        for planned in plan.runs.values() {
            planned.shard.pins.advance(moment.watermark);
        }
        Ok(plan)
    }

    /// The runs that someone still reads an older time of, in order.
    pub(crate) fn held_back(&self) -> Vec<HeldBack> {
        let mut held: Vec<HeldBack> = self
            .runs
            .iter()
            .map(|(run, planned)| HeldBack {
                run: *run,
                view_count: planned.shard.pins.old_view_count(),
            })
            .filter(|held| held.view_count != 0)
            .collect();
        held.sort_unstable_by_key(|held| held.run);
        held
    }

    /// Leaves these runs as they are.
    pub(crate) fn spare(&mut self, held: &[HeldBack]) {
        for held in held {
            if let Some(planned) = self.runs.remove(&held.run) {
                planned.give_up();
            }
        }
    }

    /// Nothing is trimmed after all.
    pub(crate) fn give_up(self) {
        for planned in self.runs.into_values() {
            planned.give_up();
        }
    }

    /// What goes of a run, if anything may.
    pub(crate) fn of_run(&self, run: RunId) -> Option<RunTrim<'_>> {
        let planned = self.runs.get(&run)?;
        Some(RunTrim {
            policy: &planned.policy,
            moment: self.moment,
        })
    }

    /// Counts what goes, and cuts it off when `is_cut`; `between` is called every
    /// [`TRIM_STEP_COUNT`] keys and versions, and may end it.
    pub(crate) fn apply(
        &self,
        store: &ShardedStore,
        is_cut: bool,
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Trimmed {
        let mut trimmed = Trimmed::default();
        let mut step_count = 0;
        let mut due = move || {
            step_count += 1;
            match step_count % TRIM_STEP_COUNT {
                0 => between(),
                _ => ControlFlow::Continue(()),
            }
        };
        let mut nodes = Vec::new();
        for (run, planned) in &self.runs {
            let Some(trim) = self.of_run(*run) else {
                continue;
            };
            let mut is_over = false;
            for partition in 0..INDEX_PARTITION_COUNT {
                planned.shard.index.for_each_key(partition, |key, head| {
                    is_over = due().is_break();
                    let (Some(key), Some(head), false) = (key.key_ref(), head, is_over) else {
                        return !is_over;
                    };
                    self.chain_of(head, &mut nodes);
                    let kept_count = trim.kept_count(key, &nodes);
                    let gone = nodes.split_off(kept_count.min(nodes.len()));
                    let mut count = |len_bytes: usize| {
                        trimmed.version_count += 1;
                        trimmed.len_bytes += len_bytes as u64;
                    };
                    if !is_cut {
                        gone.iter().for_each(|node| count(node.value().len()));
                        return true;
                    }
                    if gone.is_empty() {
                        return true;
                    }
                    drop(gone);
                    if let Some(oldest) = nodes.last() {
                        oldest.cut(|len_bytes| {
                            count(len_bytes);
                            store.memory.remove(VERSION_COST_BYTES + len_bytes as u64);
                            // A chain that is being cut is cut to its end.
                            let _ = due();
                        });
                    }
                    true
                });
                if is_over {
                    return trimmed;
                }
            }
        }
        trimmed
    }

    /// The versions at or below the watermark, newest first.
    fn chain_of(&self, head: &Node, nodes: &mut Vec<Node>) {
        nodes.clear();
        let watermark = self.moment.watermark;
        let mut next = head.at_or_below(watermark, |found| found.version().cloned());
        while let Some(node) = next {
            next = (*node.older()).clone();
            nodes.push(node);
        }
    }
}

impl PlannedRun {
    fn give_up(&self) {
        self.shard.pins.set_trimmed_to(self.trimmed_to_before);
    }
}

impl RunTrim<'_> {
    /// How many of the versions of a key stay, of those at or below the watermark, given newest
    /// first: at least one, if there is one.
    pub(crate) fn kept_count(self, key: KeyRef<'_>, nodes: &[Node]) -> usize {
        let is_kept_whole = key.tag == TypeTag::Run || is_system_key(key.user_key);
        let [_, _, ..] = nodes else {
            return nodes.len();
        };
        if is_kept_whole {
            return nodes.len();
        }
        let ages = nodes.iter().map(|node| VersionAge {
            commit_version: node.commit_version(),
            timestamp_us: node.timestamp_us(),
            is_volatile: node.is_volatile(),
        });
        let primitive = key.tag.primitive();
        let earliest = self
            .policy
            .earliest_retained_version(ages, self.moment, primitive);
        let is_kept = |node: &&Node| earliest.is_some_and(|it| it <= node.commit_version());
        nodes.iter().take_while(is_kept).count().max(1)
    }

    /// The same under a mistake: a version that is not published is taken for the newest.
    pub(crate) fn counting_pending(mut self) -> Self {
        self.moment.watermark = u64::MAX;
        self
    }
}
