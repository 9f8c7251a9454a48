//! Step 4 of the commit sequence: validation against the newest versions, pending ones included,
//! and the decision of every step. The last part of a commit that may allocate or refuse.

use in_mem_model::{RunId, RunInfo, RunStatus, encode_int};

use crate::conflict::{Decision, Effect, Newest, StepError, decide, holds, is_expected};
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
            let step = (index, &step);
            step_on_key(newest, source, step, timestamp_us, prepared, &mut evaluated)?;
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
    (index, step): (usize, &Step<'_>),
    timestamp_us: u64,
    prepared: &mut Prepared,
    evaluated: &mut Evaluated<'_>,
) -> Result<(), CommitError> {
    let shard = newest_of.shard;
    let key = step_key(step);
    let own = own_write(prepared, index);
    let Look {
        version,
        unmet,
        kept,
        decided,
    } = look(
        newest_of,
        (step, own),
        source.expected(index),
        timestamp_us,
        prepared,
    );
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
        write_int(shard, prepared, index, key, sum, kept);
    }
    if let Step::PutExpiring { lifetime, .. } = step {
        set_expiry(prepared, index, lifetime.ends_at(timestamp_us));
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

/// What a step finds.
struct Look {
    /// The newest version of its key.
    version: u64,
    /// What was expected of the key and does not hold.
    unmet: Option<Expected>,
    /// When the value it works on expires, microseconds since the epoch, if it does.
    kept: Option<u64>,
    decided: Result<Decision, StepError>,
}

/// Decides a step by the newest version of its key, and by what the earlier step `own` has made of
/// it. `timestamp_us` is the time of the commit: what has expired by then is absent.
fn look(
    newest_of: NewestOf<'_>,
    (step, own): (&Step<'_>, Option<usize>),
    expected: [Option<Expected>; 2],
    timestamp_us: u64,
    prepared: &Prepared,
) -> Look {
    newest_of.with(step_key(step), |node| {
        let version = node.map_or(0, VersionNode::commit_version);
        let live = node.filter(|node| node.is_live(timestamp_us));
        let may_return = |node: &Node| match node.is_tombstone() {
            true => node.is_volatile() && prepared.writeset.is_some(),
            false => live.is_none(),
        };
        let newest = Newest {
            version,
            value: live.map(VersionNode::value),
            may_return: node.is_some_and(may_return),
        };
        let unmet = expected
            .into_iter()
            .flatten()
            .find(|expected| !is_expected(*expected, newest));
        let base = match own.and_then(|own| prepared.states.get(own)) {
            Some(own) => own.node.as_ref().filter(|node| !node.is_tombstone()),
            None => live,
        };
        let value = base.map(VersionNode::value);
        Look {
            version,
            unmet,
            kept: base.and_then(VersionNode::expires_at_us),
            decided: decide(step, Newest { value, ..newest }),
        }
    })
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

/// Says when the entry of a step expires, in its version and in its record.
fn set_expiry(prepared: &mut Prepared, index: usize, expires_at_us: u64) {
    let Some(state) = prepared.states.get_mut(index) else {
        return;
    };
    if let Some(node) = &mut state.node {
        node.set_expiry(expires_at_us);
    }
    if let Some(writeset) = &mut prepared.writeset {
        writeset.set_expiry(state.span, expires_at_us);
    }
}

/// Makes the version and the entry of an increment, whose value is only known here.
fn write_int(
    shard: &RunShard,
    prepared: &mut Prepared,
    index: usize,
    key: KeyRef<'_>,
    sum: i64,
    expires_at_us: Option<u64>,
) {
    let mut room = [0; 9];
    let value = encode_int(sum, &mut room);
    let Some(state) = prepared.states.get_mut(index) else {
        return;
    };
    if let Some(expires_at_us) = expires_at_us {
        state.node = Some(Node::with_expiry(value, expires_at_us));
        if let Some(writeset) = &mut prepared.writeset {
            state.span = writeset.push_expiring(key.user_key, value, expires_at_us);
        }
        return;
    }
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
