//! Step 4 of the commit sequence: validation against the newest versions, pending ones included,
//! and the decision of every step. The last part of a commit that may allocate or refuse.

use in_mem_model::{RunId, RunInfo, RunStatus, encode_int};

use crate::conflict::{Effect, Newest, StepError, decide, holds, is_expected};
use crate::errors::{CommitError, ConflictKind};
use crate::faults::Mutant;
use crate::index::KeyRef;
use crate::names::NameClaim;
use crate::prepare::{Prepared, StepSource, step_key};
use crate::program::{Expected, Step, StepOutcome};
use crate::run_change::{RunChange, RunNow};
use crate::shard::{CommitState, RUN_ENTITY, RunShard};
use crate::shared::Shared;
use crate::version_node::{Node, VersionNode};
use crate::writeset::{EntityRef, MutationKind, entry_type};

/// What validation came to.
pub(crate) struct Evaluated<'a> {
    /// Some step writes.
    pub(crate) writes: bool,
    /// The newest version an answer depends on.
    pub(crate) newest_seen: u64,
    /// The status of the run after the commit, if the commit changes the run.
    pub(crate) status: Option<RunStatus>,
    name: Option<NameClaim<'a>>,
}

impl Evaluated<'_> {
    /// The commit cannot fail any more: the name it claimed is its run's for good.
    pub(crate) fn keep_name(self) {
        if let Some(name) = self.name {
            name.keep();
        }
    }
}

/// Validates a prepared commit. The caller is in the run's critical section.
pub(crate) fn evaluate<'a, S: StepSource>(
    shared: &'a Shared,
    shard: &RunShard,
    state: &CommitState,
    source: &S,
    prepared: &mut Prepared,
    timestamp_us: u64,
) -> Result<Evaluated<'a>, CommitError> {
    let is_pending_seen = !shared.planted.is(Mutant::PendingIgnored);
    let newest = NewestOf {
        shard,
        is_pending_seen,
    };
    check_reads(newest, source)?;
    let mut evaluated = Evaluated {
        writes: false,
        newest_seen: 0,
        status: None,
        name: None,
    };
    for index in 0..source.step_count() {
        let step = source.step(index);
        if let Step::Run(change) = step {
            let context = RunContext {
                shared,
                shard,
                state,
                timestamp_us,
            };
            change_run(&context, change, index, prepared, &mut evaluated)?;
        } else {
            step_on_key(newest, source, &step, index, prepared, &mut evaluated)?;
        }
    }
    Ok(evaluated)
}

/// Where the newest version of a key is looked up, pending ones included.
#[derive(Clone, Copy)]
struct NewestOf<'a> {
    shard: &'a RunShard,
    /// False under a planted mistake only.
    is_pending_seen: bool,
}

impl NewestOf<'_> {
    #[inline]
    fn with<R>(self, key: KeyRef<'_>, read: impl FnOnce(Option<&Node>) -> R) -> R {
        if self.is_pending_seen {
            return self.shard.index.with_newest(key, read);
        }
        let published = self.shard.visible();
        self.shard.index.with_version(key, published, read)
    }
}

fn check_reads<S: StepSource>(newest: NewestOf<'_>, source: &S) -> Result<(), CommitError> {
    for index in 0..source.check_count() {
        let check = source.check(index);
        let actual = newest_version(newest, KeyRef::kv(check.key));
        if !holds(check.seen, actual) {
            let expected = match check.seen {
                crate::program::Seen::Version(version) => Some(version),
                crate::program::Seen::NotAfter(_) => None,
            };
            return Err(CommitError::Conflict {
                run: newest.shard.run_id,
                key: check.key.to_vec(),
                kind: ConflictKind::Read,
                expected,
                actual,
            });
        }
    }
    Ok(())
}

fn newest_version(newest: NewestOf<'_>, key: KeyRef<'_>) -> u64 {
    newest.with(key, |node| node.map_or(0, VersionNode::commit_version))
}

fn step_on_key<S: StepSource>(
    newest_of: NewestOf<'_>,
    source: &S,
    step: &Step<'_>,
    index: usize,
    prepared: &mut Prepared,
    evaluated: &mut Evaluated<'_>,
) -> Result<(), CommitError> {
    let shard = newest_of.shard;
    let key = step_key(step);
    let own = own_write(prepared, index);
    let expected = source.expected(index);
    let (version, unmet, decided) = newest_of.with(key, |node| {
        let version = node.map_or(0, VersionNode::commit_version);
        let stored = node
            .filter(|node| !node.is_tombstone())
            .map(VersionNode::value);
        let newest = Newest {
            version,
            value: stored,
            may_return: prepared.writeset.is_some()
                && node.is_some_and(|node| node.is_tombstone() && node.is_volatile()),
        };
        let unmet = expected
            .into_iter()
            .flatten()
            .find(|expected| !is_expected(*expected, newest));
        let value = match own.and_then(|own| prepared.states.get(own)) {
            Some(own) => own
                .node
                .as_ref()
                .filter(|n| !n.is_tombstone())
                .map(VersionNode::value),
            None => stored,
        };
        (version, unmet, decide(step, Newest { value, ..newest }))
    });
    if let Some(expected) = unmet {
        return Err(cas_conflict(shard, key, version_of(expected), version));
    }
    let decision = decided.map_err(step_error)?;
    evaluated.newest_seen = evaluated.newest_seen.max(version);
    if let StepOutcome::Mismatch(actual) = &decision.outcome
        && source.is_transaction()
    {
        let expected = expected_version(step);
        return Err(cas_conflict(shard, key, expected, actual.version));
    }
    if let Effect::Int(sum) = decision.effect {
        write_int(shard, prepared, index, key, sum);
    }
    let writes = decision.effect != Effect::Nothing;
    if let Some(state) = prepared.states.get_mut(index) {
        state.writes = writes;
        state.outcome = Some(decision.outcome);
    }
    if writes {
        evaluated.writes = true;
        if let Some(own) = own.and_then(|own| prepared.states.get_mut(own)) {
            // One commit gives a key one version: the later step's.
            own.writes = false;
        }
    }
    Ok(())
}

/// The latest earlier step of this program that writes the same key.
fn own_write(prepared: &Prepared, index: usize) -> Option<usize> {
    let mut at = prepared.states.get(index)?.previous;
    while let Some(index) = at {
        let state = prepared.states.get(index)?;
        if state.writes {
            return Some(index);
        }
        at = state.previous;
    }
    None
}

fn cas_conflict(
    shard: &RunShard,
    key: KeyRef<'_>,
    expected: Option<u64>,
    actual: u64,
) -> CommitError {
    CommitError::Conflict {
        run: shard.run_id,
        key: key.user_key.to_vec(),
        kind: ConflictKind::Cas,
        expected,
        actual,
    }
}

fn expected_version(step: &Step<'_>) -> Option<u64> {
    match step {
        Step::CasVersion { expected, .. } => version_of(*expected),
        _ => None,
    }
}

fn version_of(expected: Expected) -> Option<u64> {
    match expected {
        Expected::Version(version) => Some(version),
        Expected::Absent => None,
    }
}

fn step_error(error: StepError) -> CommitError {
    match error {
        StepError::NotInt { actual } => CommitError::WrongType {
            expected: "Int",
            actual,
        },
        StepError::Overflow { operation, value } => CommitError::Overflow { operation, value },
    }
}

/// Makes the version and the entry of an increment, whose value is only known here.
fn write_int(shard: &RunShard, prepared: &mut Prepared, index: usize, key: KeyRef<'_>, sum: i64) {
    let mut room = [0; 9];
    let value = encode_int(sum, &mut room);
    let Some(state) = prepared.states.get_mut(index) else {
        return;
    };
    state.node = Some(shard.node_with_value(value));
    if let Some(writeset) = &mut prepared.writeset {
        let entity = EntityRef::Kv(key.user_key);
        state.span = writeset.push(MutationKind::Put, entry_type::KV_PUT, entity, value);
    }
}

/// What a change of the run is decided from.
struct RunContext<'s, 'a> {
    shared: &'a Shared,
    shard: &'s RunShard,
    state: &'s CommitState,
    timestamp_us: u64,
}

/// The parent exists, and exists after recovery as well if the run that names it does.
fn check_parent(
    context: &RunContext<'_, '_>,
    parent: RunId,
    is_logged: bool,
) -> Result<(), CommitError> {
    let store = &context.shared.store;
    let shard = store.shard(parent).filter(|shard| store.is_begun(shard));
    match shard {
        Some(shard) if shard.run_id != context.shard.run_id => {
            if is_logged && shard.is_volatile() {
                return Err(CommitError::VolatileDependency { run: parent });
            }
            Ok(())
        }
        _ => Err(CommitError::RunNotFound { run: parent }),
    }
}

fn change_run<'a>(
    context: &RunContext<'_, 'a>,
    change: &RunChange,
    index: usize,
    prepared: &mut Prepared,
    evaluated: &mut Evaluated<'a>,
) -> Result<(), CommitError> {
    let shard = context.shard;
    let (info, version) = shard.index.with_newest(RUN_ENTITY, |node| {
        let decoded = node.map(|node| RunInfo::decode(node.value()));
        (
            decoded.transpose(),
            node.map_or(0, VersionNode::commit_version),
        )
    });
    evaluated.newest_seen = evaluated.newest_seen.max(version);
    let now = RunNow {
        run: shard.run_id,
        info: info.map_err(|_| CommitError::Internal)?,
        status: context.state.status,
        now_us: context.timestamp_us,
    };
    let info = change.decide(now)?;
    if let RunChange::Begin(_) = change {
        if !context.shared.store.is_registered(shard) {
            // Dropped after another beginning of the same id failed: looked up anew by the caller.
            return Err(CommitError::Busy);
        }
        if let Some(parent) = info.parent {
            check_parent(context, parent, prepared.writeset.is_some())?;
        }
        if let Some(name) = &info.name {
            evaluated.name = Some(context.shared.store.names.claim(name, shard.run_id)?);
        }
    }
    let encoded = info.encode()?;
    let Some(state) = prepared.states.get_mut(index) else {
        return Ok(());
    };
    state.node = Some(Node::with_value(encoded.as_bytes()));
    state.writes = true;
    state.outcome = Some(StepOutcome::Written);
    if let Some(writeset) = &mut prepared.writeset {
        let kind = MutationKind::Put;
        state.span = writeset.push(
            kind,
            change.entry_type(),
            EntityRef::Run,
            encoded.as_bytes(),
        );
        if prepared.len_bytes_max < writeset.len_bytes() + prepared.attributes_len_max {
            // The metadata grew between the reservation and now: the caller begins again.
            return Err(CommitError::Busy);
        }
    }
    evaluated.writes = true;
    // Describing a run leaves its status alone.
    evaluated.status = change.target();
    Ok(())
}
