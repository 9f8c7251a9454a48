//! Random histories of a store that keeps every promise pass; the same with one planted mistake do
//! not.

use super::super::*;
use super::{RUN, text};
use std::collections::BTreeMap;

/// SplitMix64, so that a seed alone replays a failure.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A perfect store with clients whose requests overlap. Each request takes effect at one instant
/// between being sent and being answered.
struct World {
    rng: Rng,
    now_ns: u64,
    version: u64,
    state: BTreeMap<String, Entry>,
    /// Every state so far with its version.
    states: Vec<(u64, BTreeMap<String, Entry>)>,
    history: History,
    strict_version: u64,
    /// Tombstones are part of what it shows.
    shows_tombstones: bool,
    /// Of a hundred requests in flight, so many lose their client at each turn.
    lost_per_hundred: u64,
    /// What counters are incremented by.
    amounts: &'static [i64],
}

/// Amounts that tell their increments apart in some sums and not in others.
const AMOUNTS: [&[i64]; 4] = [&[1], &[1, 2, 3], &[5, -3, 1], &[1, 10, 100, 1_000]];

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            now_ns: 0,
            version: 0,
            state: BTreeMap::new(),
            states: vec![(0, BTreeMap::new())],
            history: History::default(),
            strict_version: 0,
            shows_tombstones: seed.is_multiple_of(2),
            lost_per_hundred: 0,
            amounts: &[1],
        }
    }

    /// One whose clients are lost in the middle of their work and add different amounts.
    fn losing(seed: u64) -> Self {
        let pick = |count: u64| usize::try_from(seed % count).unwrap();
        Self {
            lost_per_hundred: [2, 5, 25][pick(3)],
            amounts: AMOUNTS[pick(4)],
            ..Self::new(seed)
        }
    }

    fn amount(&mut self) -> i64 {
        let pick = self.rng.below(self.amounts.len() as u64);
        self.amounts[usize::try_from(pick).unwrap()]
    }

    fn key(&mut self) -> String {
        KEYS[usize::try_from(self.rng.below(4)).unwrap()].to_owned()
    }

    fn call(&mut self) -> Call {
        let mode = if self.rng.below(2) == 0 {
            Mode::Strict
        } else {
            Mode::Buffered
        };
        let value = |world: &mut Self| text(&format!("v{}", world.rng.next()));
        let writes = match self.rng.below(6) {
            0 | 1 => return Call::Read { run: RUN },
            2 => vec![Write::Delete(self.key())],
            3 => vec![Write::Add("n".into(), self.amount())],
            4 if self.lost_per_hundred > 0 && self.rng.below(3) == 0 => {
                let (key, value) = (self.key(), value(self));
                let amount = self.amount();
                vec![Write::Put(key, value), Write::Add("n".into(), amount)]
            }
            4 => {
                let (one, other) = (value(self), value(self));
                vec![Write::Put("a".into(), one), Write::Put("b".into(), other)]
            }
            _ => {
                let key = self.key();
                vec![Write::Put(key, value(self))]
            }
        };
        let is_counter = matches!(writes.first(), Some(Write::Add(..)));
        let expects = if !is_counter && self.rng.below(3) == 0 {
            writes
                .iter()
                .take(1)
                .map(|write| self.sight(write.key()))
                .collect()
        } else {
            Vec::new()
        };
        Call::Write {
            run: RUN,
            mode,
            expects,
            writes,
        }
    }

    fn sight(&self, key: &str) -> Sight {
        match self.state.get(key) {
            None => Sight::absent(key),
            Some(Entry {
                version,
                datum: Some(datum),
            }) => Sight::value(key, *version, datum.clone()),
            Some(Entry {
                version,
                datum: None,
            }) if self.shows_tombstones => Sight::version(key, *version),
            Some(_) => Sight::absent(key),
        }
    }

    fn fits(&self, sight: &Sight) -> bool {
        let entry = self.state.get(&sight.key);
        match (&sight.found, entry) {
            (Found::Absent, entry) => entry.is_none_or(|entry| entry.datum.is_none()),
            (_, entry) => entry.is_some_and(|entry| Some(entry.version) == sight.version),
        }
    }

    /// Does what is asked, now.
    fn serve(&mut self, call: &Call) -> Outcome {
        let Call::Write {
            mode,
            expects,
            writes,
            ..
        } = call
        else {
            return self.look();
        };
        if let Some(missed) = expects.iter().find(|sight| !self.fits(sight)) {
            let sights = vec![self.sight(&missed.key)];
            return Outcome::Saw {
                at: None,
                sights,
                listed: None,
            };
        }
        if let [Write::Delete(key)] = writes.as_slice()
            && !self.is_live(key)
        {
            // Deleting what is not there writes nothing: no version, and an older tombstone stays.
            let sights = vec![Sight::absent(key)];
            return Outcome::Saw {
                at: None,
                sights,
                listed: None,
            };
        }
        self.version += 1 + self.rng.below(2);
        let version = self.version;
        let mut after = Vec::new();
        for write in writes {
            let datum = match write {
                Write::Put(_, datum) => Some(datum.clone()),
                Write::Delete(_) => None,
                Write::Add(key, delta) => {
                    let old = self.state.get(key).and_then(|entry| entry.datum.clone());
                    let old = if let Some(Datum::Int(old)) = old {
                        old
                    } else {
                        0
                    };
                    after.push(Sight::value(key, version, Datum::Int(old + delta)));
                    Some(Datum::Int(old + delta))
                }
            };
            self.state
                .insert(write.key().to_owned(), Entry { version, datum });
        }
        self.states.push((version, self.state.clone()));
        if *mode == Mode::Strict {
            self.strict_version = version;
        }
        Outcome::Committed {
            version,
            before: Vec::new(),
            after,
        }
    }

    fn look(&mut self) -> Outcome {
        let count = 1 + self.rng.below(3);
        let keys: Vec<String> = (0..count).map(|_| self.key()).collect();
        let sights = keys.iter().map(|key| self.sight(key)).collect();
        let listed = (self.rng.below(2) == 0).then(String::new);
        let sights = if listed.is_some() {
            self.live()
        } else {
            sights
        };
        Outcome::Saw {
            at: None,
            sights,
            listed,
        }
    }

    fn is_live(&self, key: &str) -> bool {
        self.state
            .get(key)
            .is_some_and(|entry| entry.datum.is_some())
    }

    fn live(&self) -> Vec<Sight> {
        let live = self.state.iter().filter(|(_, entry)| entry.datum.is_some());
        live.map(|(key, _)| self.sight(key)).collect()
    }

    /// Lets four clients work until the store dies, and says what it shows after a power loss.
    fn epoch(&mut self, operation_count: usize) -> (History, Dump) {
        let mut in_flight: Vec<InFlight> = Vec::new();
        self.strict_version = 0;
        while self.history.operations.len() < operation_count {
            self.now_ns += 1;
            let waiting_count = in_flight.iter().filter(|known| !known.is_lost).count();
            if waiting_count < 4 && self.rng.below(2) == 0 {
                in_flight.push(self.send());
            } else if !in_flight.is_empty() {
                let slot = usize::try_from(self.rng.below(in_flight.len() as u64)).unwrap();
                let known = in_flight.remove(slot);
                in_flight.extend(self.step(known));
            }
        }
        (std::mem::take(&mut self.history), self.lose_power())
    }

    fn send(&mut self) -> InFlight {
        let call = self.call();
        let place = self.history.operations.len();
        self.history.operations.push(Operation {
            worker: 0,
            id: place as u64,
            sent_at_ns: self.now_ns,
            done_at_ns: None,
            call,
            outcome: Outcome::Unknown,
        });
        InFlight {
            place,
            served: None,
            is_lost: false,
        }
    }

    /// One thing happens to a request: its client is lost, it is served, it is answered.
    fn step(&mut self, mut known: InFlight) -> Option<InFlight> {
        if !known.is_lost && self.rng.below(100) < self.lost_per_hundred {
            known.is_lost = true;
            return Some(known);
        }
        match known.served.take() {
            // Of the requests of clients that are gone, some never arrive.
            None if known.is_lost && self.rng.below(3) == 0 => None,
            None => {
                let call = self.history.operations[known.place].call.clone();
                known.served = Some(self.serve(&call));
                Some(known)
            }
            Some(_) if known.is_lost => None,
            Some(outcome) => {
                let operation = &mut self.history.operations[known.place];
                operation.done_at_ns = Some(self.now_ns);
                operation.outcome = outcome;
                None
            }
        }
    }

    /// Goes back to a state that keeps every Strict commit. Everything served was visible at once,
    /// so such a commit counts when it was served.
    fn lose_power(&mut self) -> Dump {
        let least = self.strict_version;
        let from = self.states.partition_point(|(version, _)| *version < least);
        let choice =
            from + usize::try_from(self.rng.below((self.states.len() - from) as u64)).unwrap();
        (_, self.state) = self.states[choice].clone();
        self.version += 100;
        self.states = vec![(self.version, self.state.clone())];
        let mut shown = self.state.clone();
        shown.retain(|_, entry| self.shows_tombstones || entry.datum.is_some());
        Dump {
            runs: [(RUN, shown)].into(),
        }
    }
}

/// A request on its way.
struct InFlight {
    place: usize,
    /// What came of it, if it was served.
    served: Option<Outcome>,
    /// Nobody waits for its answer any more.
    is_lost: bool,
}

const POWER_LOSS: Survival = Survival::Restart {
    buffered_acked_before_ns: 0,
};

#[test]
fn random_histories_of_a_faithful_store_pass_epoch_after_epoch() {
    for seed in 0..1000 {
        pass(seed, World::new(seed));
    }
}

#[test]
fn random_histories_with_lost_clients_and_different_amounts_pass_epoch_after_epoch() {
    for seed in 0..1000 {
        pass(seed, World::losing(seed));
    }
}

fn pass(seed: u64, mut world: World) {
    let mut checker = Checker::new();
    for _ in 0..4 {
        let (history, dump) = world.epoch(60);
        let end = End {
            survival: POWER_LOSS,
            dump,
        };
        if let Err(report) = checker.check(&history, &end) {
            panic!("seed {seed}: {report}");
        }
    }
}

#[test]
fn forgetting_an_acknowledged_increment_is_seen_among_unanswered_ones_of_other_amounts() {
    let mut tried_count = 0;
    for seed in (3..4000).step_by(4) {
        let (mut history, mut dump) = World::losing(seed).epoch(60);
        let unanswered = history
            .operations
            .iter()
            .filter(|known| known.is_unknown_write());
        let unanswered: i64 = unanswered.flat_map(Operation::writes).map(amount_of).sum();
        // All amounts of these worlds are positive: what is not answered makes up for no more.
        let forgotten = history.operations.iter().find_map(|known| {
            let amount: i64 = known.writes().iter().map(amount_of).sum();
            (unanswered < amount).then_some((known.version()?, amount))
        });
        let Some((version, amount)) = forgotten else {
            continue;
        };
        let mut changed_count = 0;
        let mut lower = |datum: &mut Datum, at: u64| {
            if let Datum::Int(counter) = datum
                && version < at
            {
                *counter -= amount;
                changed_count += 1;
            }
        };
        for known in &mut history.operations {
            let (Outcome::Saw { sights, .. } | Outcome::Committed { after: sights, .. }) =
                &mut known.outcome
            else {
                continue;
            };
            for sight in sights.iter_mut() {
                if let (Found::Value(datum), Some(at)) = (&mut sight.found, sight.version) {
                    lower(datum, at);
                }
            }
        }
        for entry in dump.runs.values_mut().flat_map(BTreeMap::values_mut) {
            if let Some(datum) = &mut entry.datum {
                lower(datum, entry.version);
            }
        }
        if changed_count == 0 {
            continue;
        }
        tried_count += 1;
        let end = End {
            survival: POWER_LOSS,
            dump,
        };
        assert!(Checker::new().check(&history, &end).is_err(), "seed {seed}");
    }
    assert!(100 < tried_count, "{tried_count}");
}

fn amount_of(write: &Write) -> i64 {
    match write {
        Write::Add(_, amount) => *amount,
        _ => 0,
    }
}

#[test]
fn taking_an_acknowledged_strict_commit_out_of_the_recovered_state_is_always_seen() {
    let mut tried_count = 0;
    for seed in 0..1000 {
        let mut world = World::new(seed);
        let (history, dump) = world.epoch(60);
        let acked = history
            .operations
            .iter()
            .filter(|known| known.mode() == Some(Mode::Strict));
        let acked: std::collections::HashSet<u64> = acked.filter_map(Operation::version).collect();
        let shown = dump
            .entries()
            .filter(|(_, _, entry)| acked.contains(&entry.version));
        for (_, key, _) in shown {
            let mut broken = dump.clone();
            broken.runs.get_mut(&RUN).unwrap().remove(key);
            let may_be_deleted = history
                .operations
                .iter()
                .any(|known| known.writes().contains(&Write::Delete(key.to_owned())));
            if may_be_deleted {
                continue;
            }
            tried_count += 1;
            let end = End {
                survival: POWER_LOSS,
                dump: broken,
            };
            assert!(
                Checker::new().check(&history, &end).is_err(),
                "seed {seed} key {key}"
            );
        }
    }
    assert!(200 < tried_count, "{tried_count}");
}

#[test]
fn the_second_opinion_agrees_on_faithful_histories_and_on_a_stale_answer() {
    let mut seen_count = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        let (mut history, _) = world.epoch(60);
        check_linearizable(&history, &Dump::default())
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let last = history
            .operations
            .iter_mut()
            .rev()
            .find_map(|known| match &mut known.outcome {
                Outcome::Saw { sights, .. } => sights.first_mut(),
                _ => None,
            });
        if let Some(sight) = last {
            sight.found = Found::Value(text("never written"));
            seen_count += 1;
            assert!(
                check_linearizable(&history, &Dump::default()).is_err(),
                "seed {seed}"
            );
        }
    }
    assert!(100 < seen_count, "{seen_count}");
}

#[test]
fn the_second_opinion_refuses_what_it_cannot_search() {
    let mut world = World::new(1);
    let (history, _) = world.epoch(OPERATION_COUNT_MAX + 1);
    let error = check_linearizable(&history, &Dump::default()).unwrap_err();
    assert!(
        matches!(error, LinearizableError::TooLarge { .. }),
        "{error}"
    );
}

#[test]
fn two_thousand_overlapping_requests_are_searched_in_time() {
    for seed in 0..3 {
        let (history, _) = World::new(seed).epoch(OPERATION_COUNT_MAX);
        check_linearizable(&history, &Dump::default()).unwrap();
    }
}
