//! Rules 3 and 4: the state at the end of an epoch is the replay at one point of its order.
//!
//! The point is the highest version that shows, or that had to survive. A deletion leaves nothing
//! to see, so the point moves up from there to where the replay and the dump agree.

use std::collections::BTreeSet;

use super::chain::{Chains, Link};
use super::epoch::{End, Summary, Survival};
use super::history::{Call, Dump, Entry, Found, Mode, Operation, Outcome, Run, Sight, Write};
use super::replay::Commit;
use super::unknown::Loose;
use super::violation::{Shown, Violation};

/// Compares a dump with the replayed chains.
pub(super) struct Recovered<'a, 'l> {
    pub(super) operations: &'a [Operation],
    pub(super) commits: &'l [Commit],
    pub(super) chains: &'l Chains<'a>,
    pub(super) loose: &'l mut Loose<'a>,
    pub(super) version_max: u64,
    pub(super) end: &'l End,
    pub(super) violations: Vec<Violation>,
    /// When the last flush that was answered had been sent.
    pub(super) flushed_before_ns: u64,
    /// The point of the order that the dump shows.
    pub(super) reached: u64,
}

/// When the last flush that was answered had been sent.
pub(super) fn flushed_before_ns(operations: &[Operation]) -> u64 {
    let flushes = operations.iter().filter(|operation| {
        operation.call == Call::Flush && matches!(operation.outcome, Outcome::Saw { .. })
    });
    flushes.map(|flush| flush.sent_at_ns).max().unwrap_or(0)
}

impl<'a, 'l> Recovered<'a, 'l> {
    /// Finds the point and compares every key.
    pub(super) fn check(&mut self) {
        self.reached = match self.end.survival {
            Survival::All => u64::MAX,
            Survival::Restart { .. } => self.shown_version().max(self.required_version()),
        };
        let addresses = self.addresses();
        if self.reached < u64::MAX {
            self.move_up(&addresses);
        }
        for (run, key) in addresses {
            if self.differs(&run, &key) {
                let expected = self.expected(&run, &key);
                let shown = self.end.dump.entry(&run, &key);
                self.report(run, &key, expected, shown);
            }
        }
    }

    /// The numbers of the epoch.
    pub(super) fn summary(&self) -> Summary {
        let is_required = |commit: &&Commit| self.is_required(**commit);
        let entries = self.end.dump.entries();
        Summary {
            operation_count: self.operations.len(),
            acked_count: self
                .operations
                .iter()
                .filter(|known| known.version().is_some())
                .count(),
            required_count: self.commits.iter().filter(is_required).count(),
            unknown_count: self
                .operations
                .iter()
                .filter(|known| known.is_unknown_write())
                .count(),
            unknown_found_count: self.loose.versions.len() + self.loose.anonymous.len(),
            entry_count: entries
                .filter(|(_, _, entry)| entry.datum.is_some())
                .count(),
            reached_version: self.reached,
        }
    }

    /// Whether a restart must not lose it: it was acknowledged, or shown to somebody, which is
    /// allowed only once its promise is met.
    pub(super) fn is_required(&self, commit: Commit) -> bool {
        let Some(operation) = self.operations.get(commit.place) else {
            return false;
        };
        let acked_at_ns = operation.version().and(operation.done_at_ns);
        let told_at_ns = if commit.is_anonymous {
            let anonymous = self.loose.anonymous.get(&commit.version);
            anonymous
                .filter(|known| !known.may_vanish || self.end.survival == Survival::All)
                .and_then(|known| known.told_at_ns)
        } else {
            self.loose.told_at_ns.get(&commit.place).copied()
        };
        let Some(done_at_ns) = acked_at_ns.or(told_at_ns) else {
            return false;
        };
        match (self.end.survival, operation.mode()) {
            (Survival::All, Some(_)) | (Survival::Restart { .. }, Some(Mode::Strict)) => true,
            (
                Survival::Restart {
                    buffered_acked_before_ns,
                },
                Some(Mode::Buffered),
            ) => done_at_ns <= buffered_acked_before_ns || done_at_ns < self.flushed_before_ns,
            _ => false,
        }
    }

    fn required_version(&self) -> u64 {
        let required = self
            .commits
            .iter()
            .rev()
            .find(|commit| self.is_required(**commit));
        required.map_or(0, |commit| commit.version)
    }

    fn shown_version(&self) -> u64 {
        let shown = self.end.dump.entries().map(|(_, _, entry)| entry.version);
        // A volatile version that shows is reported by itself; it proves nothing about the log.
        shown
            .filter(|version| !self.is_volatile_version(*version))
            .max()
            .unwrap_or(0)
    }

    fn is_volatile_version(&self, version: u64) -> bool {
        self.commit(version)
            .is_some_and(|commit| self.is_volatile(commit.place))
    }

    fn commit(&self, version: u64) -> Option<&'l Commit> {
        let found = self
            .commits
            .binary_search_by_key(&version, |commit| commit.version);
        found.ok().and_then(|index| self.commits.get(index))
    }

    fn is_volatile(&self, place: usize) -> bool {
        self.operations
            .get(place)
            .is_some_and(|known| known.mode() == Some(Mode::InMemory))
    }

    /// Whether a key does not show the replay at the point. A deletion nobody answered leaves
    /// nothing to see but a missing value, so it may have made any key of its own missing.
    fn differs(&self, run: &Run, key: &str) -> bool {
        let shown = self.end.dump.entry(run, key);
        let is_live = shown.is_some_and(|entry| entry.datum.is_some());
        !self
            .expectations(run, key)
            .any(|expected| is_equal(expected, shown))
            && (is_live || !self.loose.explains(run, &Sight::absent(key), u64::MAX))
    }

    /// Moves the point up to where the replay shows what the dump shows, if there is such a point.
    fn move_up(&mut self, addresses: &BTreeSet<(Run, String)>) {
        let mut different: BTreeSet<(Run, &str)> = addresses
            .iter()
            .filter(|(run, key)| self.differs(run, key))
            .map(|(run, key)| (*run, key.as_str()))
            .collect();
        let (mut least_count, mut best) = (different.len(), self.reached);
        let start = self
            .commits
            .partition_point(|commit| commit.version <= self.reached);
        for commit in self.commits.get(start..).unwrap_or(&[]) {
            if least_count == 0 {
                break;
            }
            self.reached = commit.version;
            let Some(operation) = self.operations.get(commit.place) else {
                break;
            };
            let Some(run) = operation.run() else { break };
            for key in operation.writes().iter().map(Write::key) {
                if self.differs(&run, key) {
                    different.insert((run, key));
                } else {
                    different.remove(&(run, key));
                }
            }
            if different.len() < least_count {
                (least_count, best) = (different.len(), commit.version);
            }
        }
        self.reached = best;
    }

    fn addresses(&self) -> BTreeSet<(Run, String)> {
        let replayed = self
            .chains
            .runs
            .iter()
            .flat_map(|(run, keys)| keys.keys().map(move |key| (*run, (*key).to_owned())));
        let shown = self
            .end
            .dump
            .entries()
            .map(|(run, key, _)| (*run, key.to_owned()));
        replayed.chain(shown).collect()
    }

    /// The newest entry of a key at the point, as far as it outlives the end.
    fn expected(&self, run: &Run, key: &str) -> Option<&'l Link<'a>> {
        self.expectations(run, key).next().flatten()
    }

    /// Every entry that may be the newest of a key at the point: below one that a restart may or
    /// may not have taken, also the one before.
    fn expectations(&self, run: &Run, key: &str) -> impl Iterator<Item = Option<&'l Link<'a>>> {
        let is_restart = self.end.survival != Survival::All;
        let survives = move |link: &&'l Link<'a>| {
            let is_gone = is_restart && link.writer.is_some_and(|place| self.is_volatile(place));
            (link.writer.is_none() || link.version <= self.reached) && !is_gone
        };
        let chains: &'l Chains<'a> = self.chains;
        let links = chains.chain(run, key).iter().rev().filter(survives);
        let mut is_over = false;
        let links = links.map(Some).chain([None]);
        links.take_while(move |link| {
            let is_taken = !is_over;
            let anonymous = link.and_then(|link| self.loose.anonymous.get(&link.version));
            is_over |= !(is_restart && anonymous.is_some_and(|known| known.may_vanish));
            is_taken
        })
    }

    fn report(&mut self, run: Run, key: &str, expected: Option<&Link<'_>>, entry: Option<&Entry>) {
        let shown = shown_of(entry);
        let newest = expected.and_then(|link| Some((link, link.writer?)));
        let is_older =
            entry.is_none_or(|entry| expected.is_some_and(|link| entry.version < link.version));
        let volatile = entry.filter(|entry| self.is_volatile_version(entry.version));
        if let Some(entry) = volatile.filter(|_| self.end.survival != Survival::All) {
            let commit = self.commit(entry.version);
            let name = commit.and_then(|commit| self.operations.get(commit.place));
            if let Some(operation) = name {
                let (name, version, key) = (operation.name(), entry.version, key.to_owned());
                self.violations
                    .push(Violation::VolatileSurvived { name, version, key });
            }
            return;
        }
        match (newest, expected) {
            (Some((link, place)), _) if is_older => {
                self.report_missing(run, key, link, place, shown);
            }
            (None, Some(link)) => {
                let was = Shown::of(Some(link));
                self.violations.push(Violation::BaseChanged {
                    run,
                    key: key.to_owned(),
                    was,
                    shown,
                });
            }
            // Versions that nobody wrote were reported when they were looked for.
            _ if entry.is_some_and(|entry| self.is_known(entry.version)) => {
                self.violations.push(Violation::ExtraEntry {
                    run,
                    key: key.to_owned(),
                    shown,
                });
            }
            _ => {}
        }
    }

    fn is_known(&self, version: u64) -> bool {
        version <= self.version_max
            || self
                .commits
                .binary_search_by_key(&version, |commit| commit.version)
                .is_ok()
    }

    fn report_missing(&mut self, run: Run, key: &str, link: &Link<'_>, place: usize, shown: Shown) {
        let Some(operation) = self.operations.get(place) else {
            return;
        };
        let (name, version, key) = (operation.name(), link.version, key.to_owned());
        let shows_it = |write: &&Write| {
            let entry = self.end.dump.entry(&run, write.key());
            entry.is_some_and(|entry| entry.version == version)
        };
        let is_add = operation
            .writes()
            .iter()
            .any(|write| matches!(write, Write::Add(added, _) if *added == key));
        let violation = if let Some(present) = operation.writes().iter().find(shows_it) {
            let present = present.key().to_owned();
            Violation::HalfCommit {
                name,
                version,
                present,
                missing: key,
                shown,
            }
        } else if let (true, Found::Value(answered), Found::Value(replayed)) =
            (is_add, &shown.found, Shown::of(Some(link)).found)
        {
            Violation::IncrementLost {
                name,
                version,
                key,
                answered: answered.clone(),
                replayed,
            }
        } else if self
            .commit(version)
            .is_some_and(|commit| self.is_required(*commit))
        {
            Violation::AckLost {
                name,
                version,
                key,
                shown,
            }
        } else {
            Violation::Hole {
                name,
                version,
                reached: self.reached,
                key,
                shown,
            }
        };
        self.violations.push(violation);
    }
}

fn is_equal(expected: Option<&Link<'_>>, shown: Option<&Entry>) -> bool {
    let live = expected.filter(|link| link.datum.is_some());
    match (live, shown) {
        (None, None) => true,
        (None, Some(entry)) => entry.datum.is_none(),
        (Some(_), None) => false,
        (Some(link), Some(entry)) => {
            link.version == entry.version && link.datum.as_deref() == entry.datum.as_ref()
        }
    }
}

fn shown_of(entry: Option<&Entry>) -> Shown {
    Shown {
        version: entry.map(|entry| entry.version),
        found: entry.map_or(Found::Absent, Found::of),
    }
}

/// Checks that nothing was recovered that the first recovery did not show.
pub(super) fn same_digest(first: &Dump, second: &Dump) -> Option<Violation> {
    let (first, second) = (first.digest(), second.digest());
    (first != second).then_some(Violation::DigestChanged { first, second })
}
