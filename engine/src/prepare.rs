//! Everything of a commit that can be done before the critical section: keys are validated, nodes
//! allocated, the writeset encoded, the sizes checked.
//!
//! What cannot be known before is left open per step: an increment's sum and a run's new metadata
//! are encoded at validation, inside the section but before a version is assigned.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use in_mem_model::keys::validate_user_key;
use in_mem_wal::LogHandle;

use crate::attributes::ONCE_ATTRIBUTES_LEN_BYTES;
use crate::errors::CommitError;
use crate::expiry::EXPIRY_LEN_BYTES;
use crate::index::{KeyHasher, KeyRef};
use crate::limits::{
    KEPT_ENTRY_COUNT_MAX, KEY_COST_BYTES, ONCE_CLIENT_OVERHEAD_BYTES, ONCE_RESULT_OVERHEAD_BYTES,
    RUN_CHANGE_LEN_BYTES_MAX, VERSION_COST_BYTES,
};
use crate::limits_in_force::LimitsInForce;
use crate::memory::{MemoryUse, key_cost};
use crate::once_result::result_len_max;
use crate::program::{Expected, Program, ReadCheck, Step, StepOutcome};
use crate::retention::POLICY_ENTITY;
use crate::run_change::RunChange;
use crate::shard::{RUN_ENTITY, RunShard};
use crate::shared::InFlight;
use crate::version_node::{Node, VersionNode};
use crate::writeset::{
    CONTROL_OVERHEAD_BYTES, EMPTY_LEN_BYTES, ENTRY_OVERHEAD_BYTES, EntityRef, MutationKind, Span,
    WritesetWriter, entry_type,
};

/// Steps and checks, wherever they are kept.
pub(crate) trait StepSource {
    fn step_count(&self) -> usize;
    /// The step at `index`, below the count.
    fn step(&self, index: usize) -> Step<'_>;
    /// What the key of the step must be besides, whatever the step does; else it is a conflict.
    fn expected(&self, index: usize) -> [Option<Expected>; 2];
    fn check_count(&self) -> usize;
    /// The check at `index`, below the count.
    fn check(&self, index: usize) -> ReadCheck<'_>;
    /// True when a condition that does not hold is a conflict and not an answer.
    fn is_transaction(&self) -> bool;
    /// True when no key occurs in two steps.
    fn has_distinct_keys(&self) -> bool;
    /// What it has of the memory account until the commit is over, bytes.
    fn held_len_bytes(&self) -> u64;
    /// The node made for the step when it was called, if there is one.
    fn take_node(&mut self, index: usize) -> Option<Node>;
    /// Gives back a node of a commit that did not happen and may be tried again.
    fn restore_node(&mut self, index: usize, node: Node);
}

/// What is known and kept of one step.
#[derive(Default)]
pub(crate) struct StepState {
    /// The version it may install.
    pub(crate) node: Option<Node>,
    pub(crate) span: Span,
    pub(crate) writes: bool,
    pub(crate) outcome: Option<StepOutcome>,
    /// The step before it on the same key.
    pub(crate) previous: Option<usize>,
}

/// A commit ready for its critical section.
pub(crate) struct Prepared {
    pub(crate) states: Vec<StepState>,
    /// None for a volatile commit.
    pub(crate) writeset: Option<WritesetWriter>,
    /// Upper bound of the encoded writeset, bytes.
    pub(crate) len_bytes_max: usize,
    /// What of it is for the attributes of an exactly-once request, bytes; 0 for any other.
    pub(crate) attributes_len_max: usize,
    /// Those attributes, once they are encoded.
    pub(crate) attributes: Span,
    /// The encoded answer of that request, for its repeats.
    pub(crate) once_result: Option<Arc<[u8]>>,
    /// The step that changes the run.
    pub(crate) run_step: Option<usize>,
    /// Some step writes data, not only the run itself.
    pub(crate) has_data_step: bool,
    /// Some step changes the retention policy of the run.
    pub(crate) changes_retention: bool,
}

thread_local! {
    /// The step states of the last commit of this thread, empty: their memory is reused.
    static STATES: Cell<Vec<StepState>> = const { Cell::new(Vec::new()) };
}

/// Longest encoding of an Int, bytes.
const INT_LEN_BYTES_MAX: usize = 9;

/// The key a step is about.
pub(crate) fn step_key<'a>(step: &Step<'a>) -> KeyRef<'a> {
    match *step {
        Step::Put { key, .. }
        | Step::PutExpiring { key, .. }
        | Step::Delete { key }
        | Step::PutIfAbsent { key, .. }
        | Step::CasVersion { key, .. }
        | Step::CasValue { key, .. }
        | Step::Increment { key, .. }
        | Step::Decrement { key, .. }
        | Step::GetAndSet { key, .. }
        | Step::GetAndDelete { key } => KeyRef::kv(key),
        Step::SetRetention(_) | Step::ClearRetention => POLICY_ENTITY,
        Step::Run(_) => RUN_ENTITY,
    }
}

/// The encoded value a step carries; none for those that compute or delete.
pub(crate) fn given_value<'a>(step: &Step<'a>) -> Option<&'a [u8]> {
    match step {
        Step::Put { value, .. }
        | Step::PutExpiring { value, .. }
        | Step::PutIfAbsent { value, .. }
        | Step::CasVersion { value, .. }
        | Step::CasValue { value, .. }
        | Step::GetAndSet { value, .. }
        | Step::SetRetention(value) => Some(value.as_bytes()),
        _ => None,
    }
}

/// Whether a step is refused where memory is at its limit. Deletions, the end of runs and what
/// lets old versions go go on.
fn grows_data(step: &Step<'_>) -> bool {
    match step {
        Step::Delete { .. } | Step::GetAndDelete { .. } => false,
        Step::SetRetention(_) | Step::ClearRetention => false,
        Step::Run(change) => change.grows_data(),
        _ => true,
    }
}

/// What a step takes at most beside its bytes, bytes.
fn step_cost(step: &Step<'_>) -> u64 {
    match step {
        Step::Run(RunChange::Begin(_)) => key_cost(RUN_ENTITY) + VERSION_COST_BYTES,
        _ => KEY_COST_BYTES + VERSION_COST_BYTES,
    }
}

impl Prepared {
    /// Prepares a commit; `log` is where its writeset goes, none for a volatile commit. `once`:
    /// its record is to carry an exactly-once request.
    pub(crate) fn new<S: StepSource>(
        shard: &RunShard,
        source: &mut S,
        log: Option<&LogHandle<InFlight>>,
        limits: &LimitsInForce,
        memory: &MemoryUse,
        once: bool,
    ) -> Result<Self, CommitError> {
        let count = source.step_count();
        if limits.values.transaction_mutation_count_max < count {
            return Err(CommitError::TransactionTooLarge {
                mutation_count: count,
                len_bytes: 0,
            });
        }
        let mut prepared = Self {
            states: STATES.take(),
            writeset: None,
            len_bytes_max: EMPTY_LEN_BYTES,
            attributes_len_max: 0,
            attributes: Span::default(),
            once_result: None,
            run_step: None,
            has_data_step: false,
            changes_retention: false,
        };
        prepared.states.resize_with(count, StepState::default);
        let (mut grows, mut costs) = (false, 0);
        for index in 0..count {
            let step = source.step(index);
            limits.check(&step)?;
            prepared.measure(shard, index, &step)?;
            grows |= grows_data(&step);
            costs += step_cost(&step);
        }
        if limits.values.transaction_len_bytes_max < prepared.len_bytes_max {
            return Err(CommitError::TransactionTooLarge {
                mutation_count: count,
                len_bytes: prepared.len_bytes_max,
            });
        }
        if once {
            let steps = (0..count).map(|index| source.step(index));
            prepared.attributes_len_max =
                CONTROL_OVERHEAD_BYTES + ONCE_ATTRIBUTES_LEN_BYTES + result_len_max(steps);
            prepared.len_bytes_max += prepared.attributes_len_max;
            costs += (ONCE_CLIENT_OVERHEAD_BYTES + ONCE_RESULT_OVERHEAD_BYTES) as u64;
        }
        if grows {
            let len_bytes = costs + prepared.len_bytes_max as u64;
            memory.check(len_bytes, source.held_len_bytes())?;
            log.map_or(Ok(()), |_| limits.disk.check())?;
        }
        if let Some(log) = log {
            let mut writeset = WritesetWriter::begin(log.take_buffer(), shard.run_id);
            writeset.reserve(prepared.len_bytes_max);
            prepared.writeset = Some(writeset);
        }
        for index in 0..count {
            let node = source.take_node(index);
            prepared.encode(shard, index, &source.step(index), node);
        }
        if let Some(writeset) = &mut prepared.writeset {
            writeset.static_entries_end();
        }
        if !source.has_distinct_keys() {
            prepared.link_equal_keys(source);
        }
        Ok(prepared)
    }

    /// Gives the nodes back to where they came from: the commit may be tried again.
    pub(crate) fn give_back<S: StepSource>(&mut self, source: &mut S) {
        for (index, state) in self.states.iter_mut().enumerate() {
            if let Some(node) = state.node.take() {
                source.restore_node(index, node);
            }
        }
    }

    /// Validates one step and adds what its entry may cost.
    fn measure(
        &mut self,
        shard: &RunShard,
        index: usize,
        step: &Step<'_>,
    ) -> Result<(), CommitError> {
        if let Step::Run(change) = step {
            if self.run_step.replace(index).is_some() {
                return Err(CommitError::InvalidArgument {
                    what: "two changes of the run",
                });
            }
            change.validate()?;
            self.len_bytes_max += ENTRY_OVERHEAD_BYTES + run_info_len_max(shard, change);
            return Ok(());
        }
        self.has_data_step = true;
        let key = step_key(step).user_key;
        if step.is_retention() {
            self.changes_retention = true;
        } else {
            validate_user_key(key)?;
        }
        let value_len_max = match step {
            Step::Increment { .. } | Step::Decrement { .. } => INT_LEN_BYTES_MAX + EXPIRY_LEN_BYTES,
            Step::PutExpiring { value, .. } => value.as_bytes().len() + EXPIRY_LEN_BYTES,
            step => given_value(step).map_or(0, <[u8]>::len),
        };
        self.len_bytes_max += ENTRY_OVERHEAD_BYTES + key.len() + value_len_max;
        Ok(())
    }

    /// Makes the node and the entry of one step, where both are known already.
    fn encode(&mut self, shard: &RunShard, index: usize, step: &Step<'_>, node: Option<Node>) {
        let Some(state) = self.states.get_mut(index) else {
            return;
        };
        let (node, kind, entry_type) = match (given_value(step), step) {
            (Some(value), Step::PutExpiring { .. }) => {
                // Until when is known once the commit has its timestamp.
                let node = node.unwrap_or_else(|| Node::with_expiry(value, u64::MAX));
                if let Some(writeset) = &mut self.writeset {
                    let key = step_key(step).user_key;
                    state.span = writeset.push_expiring(key, node.value(), u64::MAX);
                }
                state.node = Some(node);
                return;
            }
            (Some(value), _) => {
                let node = node.unwrap_or_else(|| shard.node_with_value(value));
                (node, MutationKind::Put, entry_type::KV_PUT)
            }
            (None, Step::Delete { .. } | Step::GetAndDelete { .. } | Step::ClearRetention) => (
                Node::tombstone(),
                MutationKind::Delete,
                entry_type::KV_DELETE,
            ),
            (None, _) => return,
        };
        if let Some(writeset) = &mut self.writeset {
            let entity = EntityRef::Kv(step_key(step).user_key);
            state.span = writeset.push(kind, entry_type, entity, node.value());
        }
        state.node = Some(node);
    }

    /// Links each step to the one before it on the same key.
    fn link_equal_keys<S: StepSource>(&mut self, source: &S) {
        // Clients choose the keys: a hash without a secret would let them make all of them collide.
        let mut last = HashMap::with_hasher(KeyHasher);
        for (index, state) in self.states.iter_mut().enumerate() {
            state.previous = last.insert(step_key(&source.step(index)), index);
        }
    }
}

impl Drop for Prepared {
    /// Leaves the memory of an ordinary commit to the next one of this thread.
    fn drop(&mut self) {
        self.states.clear();
        if self.states.capacity() <= KEPT_ENTRY_COUNT_MAX {
            STATES.set(std::mem::take(&mut self.states));
        }
    }
}

/// Step states whose memory rests on this thread, count.
#[cfg(test)]
pub(crate) fn kept_state_count() -> usize {
    let states = STATES.take();
    let count = states.capacity();
    STATES.set(states);
    count
}

/// Upper bound of a run's metadata after `change`, bytes.
fn run_info_len_max(shard: &RunShard, change: &RunChange) -> usize {
    let newest = shard
        .index
        .with_newest(RUN_ENTITY, |node| node.map_or(0, |n| n.value().len()));
    newest + change.text_len_bytes() + RUN_CHANGE_LEN_BYTES_MAX
}

impl StepSource for Program<'_> {
    fn step_count(&self) -> usize {
        self.steps.len()
    }

    fn step(&self, index: usize) -> Step<'_> {
        *self
            .steps
            .get(index)
            .expect("a step index is below the count")
    }

    fn expected(&self, _index: usize) -> [Option<Expected>; 2] {
        [None; 2]
    }

    fn check_count(&self) -> usize {
        self.checks.len()
    }

    fn check(&self, index: usize) -> ReadCheck<'_> {
        *self
            .checks
            .get(index)
            .expect("a check index is below the count")
    }

    fn is_transaction(&self) -> bool {
        self.steps.len() != 1 || !self.checks.is_empty()
    }

    fn has_distinct_keys(&self) -> bool {
        self.steps.len() < 2
    }

    fn held_len_bytes(&self) -> u64 {
        0
    }

    fn take_node(&mut self, _index: usize) -> Option<Node> {
        None
    }

    fn restore_node(&mut self, _index: usize, _node: Node) {}
}
