//! Rule 2 for commits: replays every run in commit order on an ordered map and compares what each
//! commit found and made.

use std::borrow::Cow;

use super::chain::Chains;
use super::history::{Datum, Found, Mode, Operation, Outcome, Run, Sight, Write};
use super::unknown::Loose;
use super::violation::{Shown, Violation};

/// A commit of known version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub(super) version: u64,
    /// Place of its request.
    pub(super) place: usize,
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
            Some(Commit { version, place })
        })
        .collect();
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
        let is_certain = !self.loose.uncertain.contains(&commit.place);
        let expects = if is_certain { operation.expects() } else { &[] };
        for sight in expects.iter().chain(before) {
            self.compare(commit, operation, &run, sight);
        }
        for write in operation.writes() {
            let made = after
                .iter()
                .chain(&traces)
                .find(|sight| sight.key == write.key());
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
        // is volatile, a logged deletion puts its own behind it, or a restart would undo it.
        if datum.is_some() || is_live || is_hidden {
            let place = Some(commit.place);
            self.chains
                .push(run, write.key(), commit.version, datum, place);
        }
    }

    fn is_volatile(&self, place: usize) -> bool {
        let operation = self.operations.get(place);
        operation.is_some_and(|operation| operation.mode() == Some(Mode::InMemory))
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
        let newest = self
            .chains
            .newest(run, key)
            .and_then(|link| link.datum.as_deref());
        let counter = if let Some(Datum::Int(counter)) = newest {
            *counter
        } else {
            0
        };
        let replayed = counter.wrapping_add(delta);
        let Some(Found::Value(Datum::Int(answered))) = made.map(|sight| &sight.found) else {
            return replayed;
        };
        let missing = answered.wrapping_sub(replayed);
        let until_ns = operation.done_at_ns.unwrap_or(u64::MAX);
        if !self.loose.adds_up(run, key, missing, until_ns) {
            self.violations.push(Violation::IncrementLost {
                name: operation.name(),
                version: commit.version,
                key: key.to_owned(),
                answered: Datum::Int(*answered),
                replayed: Datum::Int(replayed),
            });
        }
        *answered
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
