//! Rule 2 for commits: replays every run in commit order on an ordered map and compares what each
//! commit found and made.

use std::borrow::Cow;

use super::chain::Chains;
use super::history::{Datum, Found, Mode, Operation, Outcome, Run, Sight, Write};
use super::tally::Told;
use super::unknown::Loose;
use super::violation::{Shown, Violation};

/// A commit of known version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub(super) version: u64,
    /// Place of its request, or of one of those it may have been.
    pub(super) place: usize,
    /// Several requests may have made it.
    pub(super) is_anonymous: bool,
}

/// Every commit of an epoch whose version is known, ascending.
pub(super) fn commits(operations: &[Operation], loose: &Loose<'_>) -> Vec<Commit> {
    let mut commits: Vec<Commit> = operations
        .iter()
        .enumerate()
        .filter_map(|(place, operation)| {
            let version = operation
                .version()
                .or_else(|| loose.versions.get(&place).copied())?;
            Some(Commit {
                version,
                place,
                is_anonymous: false,
            })
        })
        .collect();
    commits.extend(loose.anonymous.iter().map(|(version, known)| Commit {
        version: *version,
        place: known.place,
        is_anonymous: true,
    }));
    commits.sort_unstable_by_key(|commit| commit.version);
    commits
}

/// Replays commits on `chains`.
pub(super) struct Replay<'a, 'l> {
    pub(super) operations: &'a [Operation],
    pub(super) chains: Chains<'a>,
    pub(super) loose: &'l mut Loose<'a>,
    pub(super) version_max: u64,
    pub(super) violations: Vec<Violation>,
}

impl<'a> Replay<'a, '_> {
    /// Applies one commit behind all earlier ones.
    pub(super) fn apply(&mut self, commit: Commit) {
        let Some(operation) = self.operations.get(commit.place) else {
            return;
        };
        let Some(run) = operation.run() else { return };
        if commit.is_anonymous {
            return self.apply_anonymous(commit, operation, run);
        }
        let (before, after): (&[Sight], &[Sight]) = match &operation.outcome {
            Outcome::Committed { before, after, .. } => (before, after),
            _ => (&[], &[]),
        };
        let traces = self
            .loose
            .seen
            .get(&commit.place)
            .cloned()
            .unwrap_or_default();
        for sight in operation.expects().iter().chain(before) {
            self.compare(commit, operation, &run, sight);
        }
        for (index, write) in operation.writes().iter().enumerate() {
            let later = operation.writes().get(index + 1..).unwrap_or(&[]);
            let is_last = later.iter().all(|other| other.key() != write.key());
            let made = after
                .iter()
                .chain(&traces)
                .find(|sight| is_last && sight.key == write.key());
            self.write(commit, operation, run, write, made);
        }
        for sight in after {
            let newest = self.chains.newest(&run, &sight.key);
            if !sight.found.fits(newest) {
                let replayed = Shown::of(newest);
                self.violations
                    .push(wrong_answer(commit, operation, sight, replayed));
            }
        }
    }

    fn compare(&mut self, commit: Commit, operation: &Operation, run: &Run, sight: &Sight) {
        let newest = self.chains.newest(run, &sight.key);
        let until_ns = operation.done_at_ns.unwrap_or(u64::MAX);
        if !sight.fits(newest, self.version_max) && !self.loose.explains(run, sight, until_ns) {
            let replayed = Shown::of(newest);
            self.violations
                .push(wrong_answer(commit, operation, sight, replayed));
        }
    }

    fn write(
        &mut self,
        commit: Commit,
        operation: &'a Operation,
        run: Run,
        write: &'a Write,
        made: Option<&Sight>,
    ) {
        let datum = match write {
            Write::Put(_, datum) => Some(Cow::Borrowed(datum)),
            Write::Delete(_) => None,
            Write::Add(key, delta) => {
                let sum = self.sum(commit, operation, &run, key, *delta, made);
                Some(Cow::Owned(Datum::Int(sum)))
            }
        };
        let newest = self.chains.newest(&run, write.key());
        let is_live = newest.is_some_and(|newest| newest.datum.is_some());
        let is_hidden = operation.mode() != Some(Mode::InMemory)
            && newest
                .is_some_and(|newest| newest.writer.is_some_and(|place| self.is_volatile(place)));
        // Deleting nothing changes nothing: an older tombstone stays the newest entry. If that one
        // is volatile, a logged deletion puts its own behind it, or a restart would undo it. And
        // what changes nothing does not commit, so a commit that only deletes one key did write.
        if datum.is_some() || is_live || is_hidden || operation.writes().len() == 1 {
            let place = Some(commit.place);
            self.chains
                .push(run, write.key(), commit.version, datum, place);
        }
    }

    fn is_volatile(&self, place: usize) -> bool {
        let operation = self.operations.get(place);
        operation.is_some_and(|operation| operation.mode() == Some(Mode::InMemory))
    }

    /// What was seen of a commit that several requests may have made.
    fn apply_anonymous(&mut self, commit: Commit, operation: &'a Operation, run: Run) {
        let known = self.loose.anonymous.get(&commit.version);
        for (key, sight) in known.map(|known| known.seen.clone()).unwrap_or_default() {
            let datum = match sight.found {
                Found::Value(Datum::Int(value)) => {
                    let before = self.counter(&run, key);
                    self.told(
                        operation,
                        &run,
                        key,
                        Told {
                            version: commit.version,
                            before,
                            own: None,
                            value,
                        },
                    );
                    Some(Datum::Int(value))
                }
                Found::Value(datum) => Some(datum),
                Found::Absent => None,
                Found::Anything => continue,
            };
            let (datum, place) = (datum.map(Cow::Owned), Some(commit.place));
            self.chains.push(run, key, commit.version, datum, place);
        }
    }

    fn counter(&self, run: &Run, key: &str) -> i64 {
        let newest = self.chains.newest(run, key);
        match newest.and_then(|link| link.datum.as_deref()) {
            Some(Datum::Int(counter)) => *counter,
            _ => 0,
        }
    }

    /// The counter after an increment: what was answered, if increments can explain it.
    fn sum(
        &mut self,
        commit: Commit,
        operation: &Operation,
        run: &Run,
        key: &str,
        delta: i64,
        made: Option<&Sight>,
    ) -> i64 {
        let before = self.counter(run, key);
        let Some(Found::Value(Datum::Int(value))) = made.map(|sight| &sight.found) else {
            self.loose.pass(run, key, delta);
            return before.wrapping_add(delta);
        };
        let (version, value) = (commit.version, *value);
        let own = Some(delta);
        self.told(
            operation,
            run,
            key,
            Told {
                version,
                before,
                own,
                value,
            },
        );
        value
    }

    /// Checks a value of a counter that somebody was told.
    fn told(&mut self, operation: &Operation, run: &Run, key: &str, told: Told) {
        if !self.loose.adds_up(run, key, told) {
            let replayed = told.before.wrapping_add(told.own.unwrap_or(0));
            self.violations.push(Violation::IncrementLost {
                name: operation.name(),
                version: told.version,
                key: key.to_owned(),
                answered: Datum::Int(told.value),
                replayed: Datum::Int(replayed),
            });
        }
    }
}

fn wrong_answer(
    commit: Commit,
    operation: &Operation,
    sight: &Sight,
    replayed: Shown,
) -> Violation {
    Violation::WrongAnswer {
        name: operation.name(),
        version: commit.version,
        key: sight.key.clone(),
        answered: sight.shown(),
        replayed,
    }
}
