//! Requests without an answer: which of them left something behind, and at which version.
//!
//! An entry whose version belongs to no acknowledged commit was made by a request without an
//! answer, or by nobody. Entries with values are matched first, since a value tells its writer;
//! increments of one counter are interchangeable and taken in the order they were sent. What is
//! left over left no trace of its own, and may be named once to explain what nothing else does.

use std::collections::{HashMap, HashSet, VecDeque};

use super::history::{Datum, Dump, Entry, Found, Mode, Operation, Run, Sight, Write};
use super::order::Floors;
use super::violation::Violation;

/// The requests of an epoch that nobody answered.
pub(super) struct Loose<'a> {
    operations: &'a [Operation],
    acked: HashSet<u64>,
    by_key: HashMap<(Run, &'a str), Vec<usize>>,
    /// Version of those that left something behind.
    pub(super) versions: HashMap<usize, u64>,
    /// What was seen of those.
    pub(super) seen: HashMap<usize, Vec<Sight>>,
    /// When an answer first told of one.
    pub(super) told_at_ns: HashMap<usize, u64>,
    /// Those that stand for one of several that may have left the same.
    pub(super) uncertain: HashSet<usize>,
    /// Versions seen without their values, which several requests may have left.
    ambiguous: HashSet<(Run, String, u64)>,
    /// Increments used up to explain a counter.
    added: HashSet<usize>,
}

/// An entry whose commit nobody acknowledged.
struct Trace {
    run: Run,
    sight: Sight,
    version: u64,
    /// When an answer told of it; nothing if only the recovered state did.
    told_at_ns: Option<u64>,
}

impl<'a> Loose<'a> {
    /// Finds them, and the versions of those that show in an answer or in the recovered state.
    pub(super) fn find(
        operations: &'a [Operation],
        floors: &Floors,
        dump: &Dump,
        version_max: u64,
        violations: &mut Vec<Violation>,
    ) -> Self {
        let mut loose = Self {
            operations,
            acked: operations.iter().filter_map(Operation::version).collect(),
            by_key: HashMap::new(),
            versions: HashMap::new(),
            seen: HashMap::new(),
            told_at_ns: HashMap::new(),
            uncertain: HashSet::new(),
            ambiguous: HashSet::new(),
            added: HashSet::new(),
        };
        for (place, operation) in operations.iter().enumerate() {
            if operation.is_unknown_write()
                && let Some(run) = operation.run()
            {
                for write in operation.writes() {
                    loose
                        .by_key
                        .entry((run, write.key()))
                        .or_default()
                        .push(place);
                }
            }
        }
        for places in loose.by_key.values_mut() {
            places.dedup();
            places.sort_by_key(|place| operations.get(*place).map(|known| known.sent_at_ns));
        }
        let mut owners = HashMap::new();
        let mut left = VecDeque::from(loose.traces(dump, version_max));
        while let Some(trace) = left.pop_front() {
            match loose.assign(&trace, floors, &mut owners) {
                Err(violation) => violations.push(*violation),
                // It committed, so what it expected was there: a trace of whoever left that.
                Ok(Some(place)) => left.extend(loose.expected(place, version_max)),
                Ok(None) => {}
            }
        }
        loose
    }

    /// Every sight of an entry of this epoch whose version nobody was told as their own, those that
    /// tell most first.
    fn traces(&self, dump: &Dump, version_max: u64) -> Vec<Trace> {
        let mut traces = Vec::new();
        let mut seen = HashSet::new();
        let mut add =
            |run: Run, key: &str, version: u64, found: &Found, told_at_ns: Option<u64>| {
                let is_new = version_max < version && !self.acked.contains(&version);
                if is_new && seen.insert((run, key.to_owned(), version, rank(found))) {
                    let sight = Sight {
                        key: key.to_owned(),
                        version: Some(version),
                        found: found.clone(),
                    };
                    traces.push(Trace {
                        run,
                        sight,
                        version,
                        told_at_ns,
                    });
                }
            };
        let mut answered: Vec<&Operation> = self.operations.iter().collect();
        answered.sort_by_key(|operation| operation.done_at_ns);
        for operation in answered {
            for sight in operation.sights() {
                if let Some((run, version)) = operation.run().zip(sight.version) {
                    add(run, &sight.key, version, &sight.found, operation.done_at_ns);
                }
            }
        }
        for (run, key, entry) in dump.entries() {
            add(*run, key, entry.version, &Found::of(entry), None);
        }
        traces.sort_by_key(|trace| (rank(&trace.sight.found), trace.version));
        traces
    }

    fn assign(
        &mut self,
        trace: &Trace,
        floors: &Floors,
        owners: &mut HashMap<u64, usize>,
    ) -> Result<Option<usize>, Box<Violation>> {
        let Trace {
            run,
            sight,
            version,
            told_at_ns,
        } = trace;
        let is_left_by = |place: usize| self.leaves(place, *run, sight);
        if let Some(owner) = owners.get(version) {
            if !is_left_by(*owner) {
                return Err(Box::new(invented(trace)));
            }
            self.note(*owner, sight, *told_at_ns);
            return Ok(None);
        }
        let places = self
            .by_key
            .get(&(*run, sight.key.as_str()))
            .map_or(&[][..], Vec::as_slice);
        let fitting = places.iter().copied().filter(|place| is_left_by(*place));
        let (taken, mut free): (Vec<_>, Vec<_>) =
            fitting.partition(|place| self.versions.contains_key(place));
        free.retain(|place| floors.any(*place) < *version);
        if sight.found == Found::Anything && 1 < free.len() {
            self.ambiguous.insert((*run, sight.key.clone(), *version));
            return Ok(None);
        }
        if 1 < free.len() {
            // Any of them may have left it: take the one that promises least.
            free.sort_by_key(|place| self.operations.get(*place).map(promise));
            self.uncertain.extend(free.first());
        }
        let Some(place) = free.into_iter().next() else {
            let split = taken.first().and_then(|place| {
                let name = self.operations.get(*place)?.name();
                let first = *self.versions.get(place)?;
                Some(Violation::CommitSplit {
                    name,
                    first,
                    second: *version,
                })
            });
            return Err(Box::new(split.unwrap_or_else(|| invented(trace))));
        };
        owners.insert(*version, place);
        self.versions.insert(place, *version);
        self.note(place, sight, *told_at_ns);
        Ok((!self.uncertain.contains(&place)).then_some(place))
    }

    /// What a request expected of this epoch that nobody was told as their own.
    fn expected(&self, place: usize, version_max: u64) -> Vec<Trace> {
        let Some(operation) = self.operations.get(place) else {
            return Vec::new();
        };
        let is_new = |version: &u64| version_max < *version && !self.acked.contains(version);
        let expects = operation.expects().iter().filter_map(|sight| {
            let version = sight.version.filter(is_new)?;
            Some(Trace {
                run: operation.run()?,
                sight: sight.clone(),
                version,
                told_at_ns: None,
            })
        });
        expects.collect()
    }

    fn note(&mut self, place: usize, sight: &Sight, told_at_ns: Option<u64>) {
        self.seen.entry(place).or_default().push(sight.clone());
        if let Some(told_at_ns) = told_at_ns {
            let first = self.told_at_ns.entry(place).or_insert(told_at_ns);
            *first = told_at_ns.min(*first);
        }
    }

    /// Whether the request, once committed, leaves what was seen.
    fn leaves(&self, place: usize, run: Run, sight: &Sight) -> bool {
        let Some(operation) = self.operations.get(place) else {
            return false;
        };
        let mut last = None;
        for write in operation.writes() {
            if write.key() == sight.key {
                last = Some(write);
            }
        }
        operation.run() == Some(run) && last.is_some_and(|write| sight.found.is_left_by(write))
    }

    /// Whether a request that left no other trace, sent before `until_ns`, explains a sight. A
    /// sight with a version is a trace itself and has been assigned already, unless several fit.
    pub(super) fn explains(&self, run: &Run, sight: &Sight, until_ns: u64) -> bool {
        if let Some(version) = sight.version {
            return self.ambiguous.contains(&(*run, sight.key.clone(), version));
        }
        let unseen = self.unseen(run, &sight.key, until_ns);
        unseen.iter().any(|place| self.leaves(*place, *run, sight))
    }

    /// Whether increments that left no other trace, sent before `until_ns`, add up to `missing`.
    /// They are used up by that.
    pub(super) fn adds_up(&mut self, run: &Run, key: &str, missing: i64, until_ns: u64) -> bool {
        let candidates: Vec<(usize, i64)> = self
            .unseen(run, key, until_ns)
            .into_iter()
            .filter_map(|place| {
                let writes = self.operations.get(place)?.writes();
                writes.iter().find_map(|write| match write {
                    Write::Add(added, delta) if added == key => Some((place, *delta)),
                    _ => None,
                })
            })
            .take(CANDIDATE_COUNT_MAX)
            .collect();
        let mut chosen = Vec::new();
        let is_found = subset(&candidates, missing, &mut chosen);
        self.added.extend(chosen);
        is_found
    }

    /// Requests on a key, sent before `until_ns`, that left no trace and are not used up.
    fn unseen(&self, run: &Run, key: &str, until_ns: u64) -> Vec<usize> {
        let places = self.by_key.get(&(*run, key)).map_or(&[][..], Vec::as_slice);
        let is_unseen = |place: &usize| {
            !self.versions.contains_key(place)
                && !self.added.contains(place)
                && self
                    .operations
                    .get(*place)
                    .is_some_and(|known| known.sent_at_ns < until_ns)
        };
        places.iter().copied().filter(is_unseen).collect()
    }
}

/// Increments considered together when a counter shows more than its acknowledged ones: bounds
/// the search, which is exponential only when deltas differ.
const CANDIDATE_COUNT_MAX: usize = 24;

/// Finds items whose numbers add up to `missing`.
fn subset(items: &[(usize, i64)], missing: i64, chosen: &mut Vec<usize>) -> bool {
    if missing == 0 {
        return true;
    }
    let Some((first, rest)) = items.split_first() else {
        return false;
    };
    chosen.push(first.0);
    if missing
        .checked_sub(first.1)
        .is_some_and(|left| subset(rest, left, chosen))
    {
        return true;
    }
    chosen.pop();
    // Leaving out one of several equal numbers leaves them all out.
    let behind = rest
        .iter()
        .position(|item| item.1 != first.1)
        .unwrap_or(rest.len());
    subset(rest.get(behind..).unwrap_or(&[]), missing, chosen)
}

/// How much a write promises to survive.
fn promise(operation: &Operation) -> u8 {
    match operation.mode() {
        None | Some(Mode::Buffered) => 0,
        Some(Mode::Strict) => 1,
        // Must vanish with a restart: a promise too, if an odd one.
        Some(Mode::InMemory) => 2,
    }
}

fn invented(trace: &Trace) -> Violation {
    Violation::Invented {
        run: trace.run,
        key: trace.sight.key.clone(),
        version: trace.version,
        found: trace.sight.found.clone(),
    }
}

/// How little a sight tells of its writer.
fn rank(found: &Found) -> u8 {
    match found {
        Found::Value(Datum::Bytes(_)) => 0,
        Found::Absent => 1,
        Found::Value(Datum::Int(_)) => 2,
        Found::Anything => 3,
    }
}

impl Found {
    /// What an entry holds.
    pub(super) fn of(entry: &Entry) -> Self {
        entry.datum.clone().map_or(Self::Absent, Self::Value)
    }
}
