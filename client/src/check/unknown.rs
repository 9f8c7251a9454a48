//! Requests without an answer: which of them left something behind, and at which version.
//!
//! An entry whose version belongs to no acknowledged commit was made by a request without an
//! answer, or by nobody. Entries with values are matched first, since a value tells its writer. An
//! entry that several of them may have left is attributed to none: it stays anonymous, and only
//! what was seen of it is replayed. What is left over left no trace of its own, and may be named to
//! explain what nothing else does; what it may have added to counters is tallied.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::history::{Datum, Dump, Entry, Found, Mode, Operation, Run, Sight};
use super::order::Floors;
use super::tally::{self, Tally, Told};
use super::violation::Violation;

/// The requests of an epoch that nobody answered.
pub(super) struct Loose<'a> {
    operations: &'a [Operation],
    acked: HashSet<u64>,
    by_key: HashMap<(Run, &'a str), Vec<usize>>,
    /// By place of the request: a version that its own lies above.
    floors: Vec<u64>,
    /// Version of those that left something behind.
    pub(super) versions: HashMap<usize, u64>,
    /// What was seen of those.
    pub(super) seen: HashMap<usize, Vec<Sight>>,
    /// When an answer first told of one.
    pub(super) told_at_ns: HashMap<usize, u64>,
    /// By version: commits that several of them may have made.
    pub(super) anonymous: BTreeMap<u64, Anonymous<'a>>,
    /// Versions seen without their values, which several requests may have left.
    ambiguous: HashSet<(Run, String, u64)>,
    /// What those without a version may have added to each counter that was asked about.
    tallies: HashMap<(Run, String), Tally>,
}

/// A commit that several requests may have made.
pub(super) struct Anonymous<'a> {
    /// Place of one of them, which stands for all: the one that promises least.
    pub(super) place: usize,
    /// One of them would not survive a restart, another one would.
    pub(super) may_vanish: bool,
    /// When an answer first told of it.
    pub(super) told_at_ns: Option<u64>,
    /// What was seen of it.
    pub(super) seen: Vec<(&'a str, Sight)>,
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
            floors: floors.any.clone(),
            anonymous: BTreeMap::new(),
            ambiguous: HashSet::new(),
            tallies: HashMap::new(),
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
            match loose.assign(&trace, &mut owners) {
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

    /// Finds who left a trace; the place of a request whose version became known by that.
    fn assign(
        &mut self,
        trace: &Trace,
        owners: &mut HashMap<u64, usize>,
    ) -> Result<Option<usize>, Box<Violation>> {
        let (sight, version) = (&trace.sight, trace.version);
        if let Some(owner) = owners.get(&version) {
            if !self.leaves(*owner, trace.run, sight) {
                return Err(Box::new(invented(trace)));
            }
            self.note(*owner, sight, trace.told_at_ns);
            return Ok(None);
        }
        let (taken, mut free): (Vec<usize>, Vec<usize>) = self
            .places(&trace.run, &sight.key)
            .iter()
            .copied()
            .filter(|place| self.leaves(*place, trace.run, sight))
            .partition(|place| self.versions.contains_key(place));
        free.retain(|place| self.floor(*place) < version);
        match free.as_slice() {
            [] => {
                let split = taken.first().and_then(|place| self.split(*place, version));
                Err(Box::new(split.unwrap_or_else(|| invented(trace))))
            }
            [place] => {
                owners.insert(version, *place);
                self.own(*place, trace)?;
                Ok(Some(*place))
            }
            _ if sight.found == Found::Anything => {
                self.ambiguous
                    .insert((trace.run, sight.key.clone(), version));
                Ok(None)
            }
            _ => self.keep_anonymous(trace, &free).map(|()| None),
        }
    }

    /// Gives a version to a request, with all that was seen of that version before.
    fn own(&mut self, place: usize, trace: &Trace) -> Result<(), Box<Violation>> {
        self.versions.insert(place, trace.version);
        self.note(place, &trace.sight, trace.told_at_ns);
        let Some(anonymous) = self.anonymous.remove(&trace.version) else {
            return Ok(());
        };
        for (_, sight) in &anonymous.seen {
            if !self.leaves(place, trace.run, sight) {
                return Err(Box::new(invented(trace)));
            }
            self.note(place, sight, anonymous.told_at_ns);
        }
        Ok(())
    }

    /// Notes what several requests may have left.
    fn keep_anonymous(&mut self, trace: &Trace, free: &[usize]) -> Result<(), Box<Violation>> {
        let (sight, operations) = (&trace.sight, self.operations);
        let same_count = self
            .anonymous
            .iter()
            .filter(|(version, _)| **version != trace.version)
            .flat_map(|(_, known)| &known.seen)
            .filter(|(key, seen)| *key == sight.key && seen.found == sight.found)
            .count();
        if free.len() <= same_count {
            return Err(Box::new(invented(trace)));
        }
        let known = |place: &usize| operations.get(*place);
        let Some(place) = free.iter().min_by_key(|place| known(place).map(promise)) else {
            return Ok(());
        };
        let key = known(place)
            .into_iter()
            .flat_map(Operation::writes)
            .find(|write| write.key() == sight.key);
        let Some(key) = key.map(super::history::Write::key) else {
            return Ok(());
        };
        let is_volatile =
            |place: &usize| known(place).and_then(Operation::mode) == Some(Mode::InMemory);
        let anonymous = self.anonymous.entry(trace.version).or_insert(Anonymous {
            place: *place,
            may_vanish: free.iter().any(is_volatile) && !free.iter().all(is_volatile),
            told_at_ns: None,
            seen: Vec::new(),
        });
        if anonymous.seen.iter().all(|(seen, _)| *seen != key) {
            anonymous.seen.push((key, sight.clone()));
        }
        let told = anonymous.told_at_ns.into_iter().chain(trace.told_at_ns);
        anonymous.told_at_ns = told.min();
        Ok(())
    }

    fn split(&self, place: usize, second: u64) -> Option<Violation> {
        Some(Violation::CommitSplit {
            name: self.operations.get(place)?.name(),
            first: *self.versions.get(&place)?,
            second,
        })
    }

    fn places<'p>(&'p self, run: &Run, key: &'p str) -> &'p [usize] {
        self.by_key.get(&(*run, key)).map_or(&[][..], Vec::as_slice)
    }

    fn floor(&self, place: usize) -> u64 {
        self.floors.get(place).copied().unwrap_or(0)
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

    /// Whether requests that left no other trace explain the value of a counter. They are used up
    /// by that.
    pub(super) fn adds_up(&mut self, run: &Run, key: &str, told: Told) -> bool {
        self.tally(run, key).explains(told)
    }

    /// Notes an increment of known version whose result nobody was told.
    pub(super) fn pass(&mut self, run: &Run, key: &str, amount: i64) {
        self.tally(run, key).pass(amount);
    }

    fn tally(&mut self, run: &Run, key: &str) -> &mut Tally {
        let address = (*run, key.to_owned());
        if !self.tallies.contains_key(&address) {
            let unseen = self.unseen(run, key, u64::MAX);
            let tally = Tally::new(unseen.into_iter().filter_map(|place| {
                let writes = self.operations.get(place)?.writes();
                Some((self.floor(place), tally::effect(writes, key)?))
            }));
            self.tallies.insert(address.clone(), tally);
        }
        self.tallies
            .entry(address)
            .or_insert_with(|| Tally::new(std::iter::empty()))
    }

    /// Requests on a key, sent before `until_ns`, that have no version of their own.
    fn unseen(&self, run: &Run, key: &str, until_ns: u64) -> Vec<usize> {
        let is_unseen = |place: &usize| {
            let known = self.operations.get(*place);
            !self.versions.contains_key(place)
                && known.is_some_and(|known| known.sent_at_ns < until_ns)
        };
        let places = self.places(run, key).iter();
        places.copied().filter(is_unseen).collect()
    }
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
