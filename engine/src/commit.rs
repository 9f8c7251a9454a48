//! The commit sequence.
//!
//! ```text
//!  1  enter the run's critical section
//!  2  refuse if closed, poisoned, or the run takes no writes
//!  3  an exactly-once request that was committed before is answered, or refused, and ends here
//!  4  validate against the newest versions, pending ones included
//!  5  assign the commit version
//!  6  fix the timestamp and everything that depends on the version
//!  7  hand the record to the log, in version order over all runs
//!  8  install all mutations as pending
//!  9  leave the critical section
//! 10  wait until the promise is met and the install complete
//! 11  publish: per run, in version order, by one store
//! 12  answer
//! ```
//!
//! Step 3 comes before step 2: what was committed is told also when nothing more is admitted.
//! Steps 5 to 8 allocate nothing, decode nothing and call no code of the caller. A panic before
//! step 5 is an error of the request; from step 5 on it poisons the database. Locks, in order: the
//! run's section, the run names, the log's hand-off, the publication queue. A reservation in the
//! log is made before step 1, without waiting inside the section.

use std::cell::Cell;
use std::io;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use in_mem_model::{Level, version::timestamp_after};
use in_mem_wal::{Append, AppendError, LogHandle, Need, Reservation, Stage};

use crate::attributes::write_attributes;
use crate::errors::CommitError;
use crate::evaluate::{Evaluated, evaluate};
use crate::faults::{self, Mutant, Point};
use crate::once::{self, OnceEntry, OnceRequest};
use crate::once_result::encode_result;
use crate::perf::{perf_count, perf_time};
use crate::prepare::{Prepared, StepSource, step_key};
use crate::program::{Completion, Outcome, StepOutcome, StepOutcomes, Submitted};
use crate::publication::{Answer, Queued};
use crate::sequencer::SequencerError;
use crate::shard::{CommitState, RunShard};
use crate::shared::{InFlight, Shared};
use crate::version_node::{Stamp, VersionNode};

/// Where a commit goes besides memory.
pub(crate) enum Destination<'a> {
    /// Nowhere.
    Memory,
    /// Into the log.
    Log {
        log: &'a LogHandle<InFlight>,
        reservation: Reservation<'a, InFlight>,
        need: Need,
        level: Level,
    },
}

impl<'a> Destination<'a> {
    fn log(&self) -> Option<&'a LogHandle<InFlight>> {
        match *self {
            Self::Memory => None,
            Self::Log { log, .. } => Some(log),
        }
    }

    /// What an answer may say was reached.
    fn level(&self) -> Level {
        match self {
            Self::Memory => Level::Volatile,
            Self::Log { level, .. } => *level,
        }
    }

    /// True when the promise is met by the hand-off alone.
    fn promises_at_once(&self) -> bool {
        match self {
            Self::Memory => true,
            Self::Log { need, .. } => *need == Need::Queued,
        }
    }
}

/// One prepared commit on its way through the section.
pub(crate) struct Commit<'a, S> {
    pub(crate) shared: &'a Shared,
    pub(crate) shard: &'a Arc<RunShard>,
    pub(crate) source: &'a mut S,
    pub(crate) prepared: Prepared,
    pub(crate) completion: &'a Completion,
    /// The exactly-once request this is, if it is one.
    pub(crate) once: Option<&'a OnceRequest>,
    /// Volatile changes of a run itself are refused.
    pub(crate) is_persistent: bool,
}

/// What the section leaves to do outside.
enum Section {
    /// Decided.
    Done(Answer),
    /// Installed under this version; may have to wait.
    Installed(u64, Answer),
    /// An answer that waits for what is pending.
    Waits,
}

impl<'a, S: StepSource> Commit<'a, S> {
    /// Runs the sequence. The completion is called iff the result is [`Submitted::Pending`].
    pub(crate) fn run(mut self, destination: Destination<'_>) -> Submitted {
        let is_assigned = Cell::new(false);
        let log = destination.log();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let section = self.section(destination, &is_assigned)?;
            Ok(match section {
                Section::Done(answer) => Submitted::Done(answer),
                Section::Waits => Submitted::Pending,
                Section::Installed(version, answer) => {
                    faults::pass(Point::CommitInstalled);
                    let publication = &self.shard.publication;
                    let queued = publication.installed(version, self.completion, answer);
                    self.shared.announce_room(self.shard);
                    self.queued(queued)
                }
            })
        }));
        if let (Some(log), Some(unused)) = (log, self.prepared.writeset.take()) {
            log.recycle_buffer(unused.into_buffer());
        }
        match caught {
            Ok(Ok(submitted)) => submitted,
            Ok(Err(CommitError::Busy)) => {
                self.prepared.give_back(self.source);
                Submitted::Done(Err(CommitError::Busy))
            }
            Ok(Err(error)) => Submitted::Done(Err(error)),
            Err(_) if is_assigned.get() => {
                let panicked = io::Error::other("a commit panicked");
                self.shared.poison_at(Stage::Commit, panicked);
                let error = self.shared.poisoned_error(true);
                self.shard.publication.fail(&error);
                if let Some(once) = self.once {
                    once::insert_in_doubt(&self.shared.store.memory, self.shard, once);
                }
                Submitted::Done(Err(error))
            }
            Err(_) => {
                tracing::error!(target: "txn", run = %self.shard.run_id, "commit panicked");
                Submitted::Done(Err(CommitError::Internal))
            }
        }
    }

    fn queued(&self, queued: Queued) -> Submitted {
        match queued {
            Queued::Ready(answer) => Submitted::Done(answer),
            Queued::Waits => Submitted::Pending,
            Queued::Dead => Submitted::Done(Err(self.shared.poisoned_error(true))),
        }
    }

    fn section(
        &mut self,
        destination: Destination<'_>,
        is_assigned: &Cell<bool>,
    ) -> Result<Section, CommitError> {
        let shard = self.shard;
        let mut state = shard.commit.lock();
        if let Some(repeated) = self.repeated(&state)? {
            return Ok(repeated);
        }
        let is_volatile = matches!(destination, Destination::Memory);
        let (evaluated, timestamp_us) = match self.validate(&state, is_volatile) {
            Ok(validated) => validated,
            Err(error) if error.is_negative_answer() => return Ok(self.follow(Err(error))),
            Err(error) => return Err(error),
        };
        if !evaluated.writes {
            return Ok(self.answer_without_write(&evaluated));
        }
        self.insert_keys();
        let is_direct = shard.publication.is_idle() && destination.promises_at_once();
        if !is_direct && !shard.publication.reserve() {
            return Err(CommitError::Busy);
        }
        let level = destination.level();
        let outcomes = self.take_outcomes();
        self.keep(&mut state, level, &outcomes);
        faults::pass(Point::CommitValidated);
        let hand_off = HandOff {
            timestamp_us,
            is_direct,
            is_assigned,
        };
        let version = match destination {
            Destination::Memory => self.assign_volatile(&hand_off)?,
            Destination::Log {
                log,
                reservation,
                need,
                ..
            } => perf_time!(
                wal_append_ns,
                self.assign_logged(log, reservation, need, &hand_off)
            )?,
        };
        let stamp = Stamp {
            commit_version: version,
            timestamp_us,
            is_volatile,
        };
        perf_time!(
            write_set_apply_ns,
            self.install(&mut state, stamp, evaluated, is_volatile)
        );
        let answer = Ok(Outcome {
            version,
            timestamp_us,
            level,
            steps: outcomes,
        });
        if is_direct {
            shard.publication.publish_now(version);
            return Ok(Section::Done(answer));
        }
        drop(state);
        Ok(Section::Installed(version, answer))
    }

    /// Steps 2 and 4, and the commit's time.
    fn validate(
        &mut self,
        state: &CommitState,
        is_volatile: bool,
    ) -> Result<(Evaluated<'a>, u64), CommitError> {
        self.shared.admit()?;
        if self.shard.publication.is_dead() {
            return Err(self.shared.poisoned_error(false));
        }
        self.check_run(state, is_volatile)?;
        let now_us = self.shared.now.stamped_us();
        let timestamp_us = timestamp_after(state.last_timestamp_us, now_us);
        let (shared, shard) = (self.shared, self.shard);
        let prepared = &mut self.prepared;
        let evaluated = perf_time!(
            read_set_validate_ns,
            evaluate(shared, shard, state, self.source, prepared, timestamp_us)
        )?;
        Ok((evaluated, timestamp_us))
    }

    /// Step 2, as far as it concerns the run.
    fn check_run(&self, state: &CommitState, is_volatile: bool) -> Result<(), CommitError> {
        let run = self.shard.run_id;
        let governs = self.prepared.run_step.is_some() || self.prepared.changes_retention;
        let status = state.status;
        if self.prepared.has_data_step {
            match status {
                None => return Err(CommitError::RunNotFound { run }),
                Some(in_mem_model::RunStatus::Active) => {}
                Some(status) => return Err(CommitError::RunClosed { run, status }),
            }
        }
        if is_volatile && governs && self.is_persistent {
            return Err(CommitError::VolatileDependency { run });
        }
        if !is_volatile && status.is_some() && self.shard.is_volatile() {
            return Err(CommitError::VolatileDependency { run });
        }
        Ok(())
    }

    /// Nothing is written: the answer may depend on versions that are pending.
    fn answer_without_write(&mut self, evaluated: &Evaluated<'_>) -> Section {
        let outcome = Outcome {
            version: 0,
            timestamp_us: 0,
            level: Level::Volatile,
            steps: self.take_outcomes(),
        };
        let publication = &self.shard.publication;
        if evaluated.newest_seen <= publication.visible() {
            return Section::Done(Ok(outcome));
        }
        self.follow(Ok(outcome))
    }

    /// Gives an answer once everything pending now is published, and the failure instead if that
    /// does not happen. In the critical section.
    fn follow(&self, answer: Answer) -> Section {
        if self.shared.planted.is(Mutant::FollowerAnsweredAtOnce) {
            return Section::Done(answer);
        }
        match self.shard.publication.follow(self.completion, answer) {
            Queued::Ready(answer) => Section::Done(answer),
            Queued::Waits => Section::Waits,
            Queued::Dead => Section::Done(Err(self.shared.poisoned_error(false))),
        }
    }

    /// Gives each key that is written an entry: the last step that may allocate.
    fn insert_keys(&self) {
        for (index, state) in self.prepared.states.iter().enumerate() {
            if state.writes {
                let step = self.source.step(index);
                let key = step_key(&step);
                if self.shard.index.insert_key(key) {
                    self.shared.store.memory.add_key(key);
                }
            }
        }
    }

    fn take_outcomes(&mut self) -> StepOutcomes {
        let take = |outcome: Option<StepOutcome>| outcome.unwrap_or(StepOutcome::Written);
        match self.prepared.states.as_mut_slice() {
            [state] => StepOutcomes::One(take(state.outcome.take())),
            states => {
                StepOutcomes::Many(states.iter_mut().map(|s| take(s.outcome.take())).collect())
            }
        }
    }

    /// Step 3.
    fn repeated(&self, state: &CommitState) -> Result<Option<Section>, CommitError> {
        let Some(once) = self.once else {
            return Ok(None);
        };
        let Some(entry) = once::find(self.shared, self.shard, state, once)? else {
            return Ok(None);
        };
        Ok(Some(
            match repeat(self.shared, self.shard, self.completion, entry) {
                Submitted::Done(answer) => Section::Done(answer),
                Submitted::Pending | Submitted::Busy => Section::Waits,
            },
        ))
    }

    /// The last part of step 4, for an exactly-once request: encodes its answer, into the record
    /// as well, and takes the memory that keeping it needs.
    fn keep(&mut self, state: &mut CommitState, level: Level, outcomes: &StepOutcomes) {
        let Some(once) = self.once else { return };
        let result = encode_result(level, outcomes);
        if let Some(writeset) = &mut self.prepared.writeset {
            let write = |bytes: &mut Vec<u8>| write_attributes(once, &result, bytes);
            if !self.shared.planted.is(Mutant::OnceKeptInMemoryAlone) {
                self.prepared.attributes = writeset.push_attributes(write);
            }
        }
        let table = state.once.get_or_insert_default();
        table.capture_for(self.shared.store.once_capture.load(Ordering::SeqCst));
        table.reserve(once);
        self.prepared.once_result = Some(result);
    }

    /// Steps 5 and 7 of a volatile commit: the checked increment alone.
    fn assign_volatile(&self, hand_off: &HandOff<'_>) -> Result<u64, CommitError> {
        let version = self.next_version()?;
        hand_off.is_assigned.set(true);
        if !hand_off.is_direct && self.shard.publication.push(version, true).is_err() {
            hand_off.is_assigned.set(false);
            return Err(self.shared.poisoned_error(false));
        }
        Ok(version)
    }

    /// Steps 5 to 7 of a logged commit: one short step under the hand-off lock.
    fn assign_logged(
        &mut self,
        log: &LogHandle<InFlight>,
        reservation: Reservation<'_, InFlight>,
        need: Need,
        hand_off: &HandOff<'_>,
    ) -> Result<u64, CommitError> {
        let publication = &self.shard.publication;
        let mut appender = match log.appender() {
            Ok(appender) => appender,
            Err(refused) => return Err(self.refused(&refused)),
        };
        let version = match self.next_version() {
            Ok(version) => version,
            Err(error) => {
                // The reservation takes the hand-off lock when it is dropped unused.
                drop(appender);
                return Err(error);
            }
        };
        hand_off.is_assigned.set(true);
        let planted = self.shared.planted;
        let is_met = need == Need::Queued || planted.is(Mutant::PublishedBeforePromise);
        if !hand_off.is_direct && publication.push(version, is_met).is_err() {
            drop(appender);
            hand_off.is_assigned.set(false);
            return Err(self.shared.poisoned_error(false));
        }
        let writeset = self.prepared.writeset.take();
        let writeset = writeset.expect("a logged commit has a writeset");
        self.shared.durable.logged(version);
        let states = &self.prepared.states;
        let spans = states.iter().map(|s| (s.span, s.writes));
        let attributes = iter::once((self.prepared.attributes, true));
        let writeset = writeset.finish(version, spans.chain(attributes));
        appender.append(
            reservation,
            Append {
                txn_id: version,
                run_id: *self.shard.run_id.as_bytes(),
                timestamp_us: hand_off.timestamp_us,
                writeset,
                need,
                token: InFlight {
                    shard: (!hand_off.is_direct).then(|| Arc::clone(self.shard)),
                    version,
                },
            },
        );
        drop(appender);
        faults::pass(Point::CommitHandedOff);
        if let Some(floor) = self.shared.store.sequencer.floor_to_ask(version) {
            log.set_version_floor(floor);
        }
        Ok(version)
    }

    fn refused(&self, refused: &AppendError) -> CommitError {
        match refused {
            AppendError::Poisoned => self.shared.poisoned_error(false),
            AppendError::Closed => crate::errors::DatabaseClosed.into(),
        }
    }

    fn next_version(&self) -> Result<u64, CommitError> {
        self.shared
            .store
            .sequencer
            .next_version()
            .map_err(|error| match error {
                SequencerError::Overflow => CommitError::Overflow {
                    operation: "commit version",
                    value: i64::MAX,
                },
                SequencerError::FloorNotDurable => CommitError::Busy,
            })
    }

    /// Step 8.
    fn install(
        &mut self,
        state: &mut CommitState,
        stamp: Stamp,
        evaluated: Evaluated<'_>,
        is_volatile: bool,
    ) {
        for (index, step) in self.prepared.states.iter_mut().enumerate() {
            if !step.writes {
                continue;
            }
            perf_count!(keys_written, 1);
            let node = step.node.take().expect("a step that writes has a version");
            self.shared.store.memory.add_version(node.value().len());
            self.shard
                .index
                .install(step_key(&self.source.step(index)), node, stamp);
        }
        state.last_timestamp_us = stamp.timestamp_us;
        if let Some(status) = evaluated.status {
            if state.status.is_none() && is_volatile {
                self.shard.set_volatile();
            }
            state.status = Some(status);
            self.shard.set_moved(stamp.commit_version);
        }
        if let (Some(once), Some(result)) = (self.once, self.prepared.once_result.take()) {
            once::insert(&self.shared.store.memory, state, once, stamp, result);
        }
        evaluated.keep_name();
    }
}

/// Answers a repeat of a request whose commit left `entry`: at once when it is published, together
/// with the commit while it is pending. The level told is never above what is known: of a log that
/// could only be read, records may be in the page cache alone. The caller is in the run's critical
/// section.
pub(crate) fn repeat(
    shared: &Shared,
    shard: &RunShard,
    completion: &Completion,
    entry: &OnceEntry,
) -> Submitted {
    let mut outcome = entry.outcome();
    let is_proven = !shared.is_read_only() || entry.version <= shared.durable.version();
    if outcome.level == Level::Synced && !is_proven {
        outcome.level = Level::Logged;
    }
    let answer = Ok(outcome);
    if entry.version <= shard.publication.visible() {
        return Submitted::Done(answer);
    }
    if shared.is_poisoned() {
        return Submitted::Done(Err(shared.poisoned_error(true)));
    }
    match shard.publication.share_fate(completion, answer) {
        Queued::Ready(answer) => Submitted::Done(answer),
        Queued::Waits => Submitted::Pending,
        Queued::Dead => Submitted::Done(Err(shared.poisoned_error(true))),
    }
}

/// What the hand-off of one record needs to know.
struct HandOff<'a> {
    timestamp_us: u64,
    is_direct: bool,
    is_assigned: &'a Cell<bool>,
}
