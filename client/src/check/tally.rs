//! What requests without an answer may have added to one counter: counted, never attributed.
//!
//! Which of several increments a counter shows is nowhere to be seen, only their sum. So each
//! value that somebody was told is explained by some of those that can have happened before it,
//! none twice, and every way to do so is kept: a way that fits now may leave the wrong ones for
//! later. An increment sent after a version was told happens above that version, so those that may
//! lie below a version are always a prefix of those of their amount, and a count says which are
//! used. A search that grows too long explains everything from there on: a doubt never blames.

use std::collections::BTreeSet;

use super::history::{Datum, Write};

/// Steps of one search. Past it the counter is not checked any further.
const STEP_COUNT_MAX: usize = 20_000;

/// Ways kept. Past it the counter is not checked any further.
const WAY_COUNT_MAX: usize = 64;

/// Different amounts kept apart, which bounds the depth of a search. Past it nothing is checked.
const GROUP_COUNT_MAX: usize = 64;

/// What a request does to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Adds to what is there.
    Add(i64),
    /// Leaves this, whatever was there. What is no integer counts as zero.
    Set(i64),
}

/// The effect of all changes to one key together; nothing if there is none.
pub(super) fn effect(writes: &[Write], key: &str) -> Option<Effect> {
    let changes = writes.iter().filter(|write| write.key() == key);
    changes.fold(None, |before, write| {
        Some(match (write, before) {
            (Write::Put(_, Datum::Int(number)), _) => Effect::Set(*number),
            (Write::Put(..) | Write::Delete(_), _) => Effect::Set(0),
            (Write::Add(_, amount), None) => Effect::Add(*amount),
            (Write::Add(_, amount), Some(Effect::Add(sum))) => {
                Effect::Add(sum.wrapping_add(*amount))
            }
            (Write::Add(_, amount), Some(Effect::Set(sum))) => {
                Effect::Set(sum.wrapping_add(*amount))
            }
        })
    })
}

/// A value of a counter that somebody was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// The version of the commit that left it.
    pub(super) version: u64,
    /// What the replay shows before that commit.
    pub(super) before: i64,
    /// What that commit added; nothing if it is itself one of those nobody answered.
    pub(super) own: Option<i64>,
    /// The value.
    pub(super) value: i64,
}

/// The requests without an answer that may have changed one counter.
#[derive(Debug)]
pub(super) struct Tally {
    groups: Vec<Group>,
    /// Lowest version it can have, exclusive, and what it leaves.
    resets: Vec<(u64, i64)>,
    /// Increments of known version since a value was told: they may lie above a reset.
    untold: Vec<i64>,
    /// Every way to explain what was told so far: how many of each group are used.
    ways: BTreeSet<Vec<usize>>,
    is_given_up: bool,
}

/// Increments of the same amount.
#[derive(Debug)]
struct Group {
    amount: i64,
    /// Version each of them lies above, ascending.
    floors: Vec<u64>,
}

impl Tally {
    /// Of requests that are each above a version and have an effect.
    pub(super) fn new(requests: impl Iterator<Item = (u64, Effect)>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut resets = Vec::new();
        for (floor, effect) in requests {
            match effect {
                Effect::Set(value) => resets.push((floor, value)),
                Effect::Add(amount) => {
                    match groups.iter_mut().find(|group| group.amount == amount) {
                        Some(group) => group.floors.push(floor),
                        None => groups.push(Group {
                            amount,
                            floors: vec![floor],
                        }),
                    }
                }
            }
        }
        for group in &mut groups {
            group.floors.sort_unstable();
        }
        let ways = [vec![0; groups.len()]].into();
        let is_given_up = GROUP_COUNT_MAX < groups.len();
        Self {
            groups,
            resets,
            untold: Vec::new(),
            ways,
            is_given_up,
        }
    }

    /// An increment of known version whose result nobody was told.
    pub(super) fn pass(&mut self, amount: i64) {
        self.untold.push(amount);
    }

    /// Whether requests without an answer explain a value. They are used up by that.
    pub(super) fn explains(&mut self, told: Told) -> bool {
        let targets = self.targets(told);
        self.untold.clear();
        if self.is_given_up {
            return true;
        }
        let free: Vec<(i64, usize)> = self
            .groups
            .iter()
            .map(|group| {
                let count = group.floors.partition_point(|floor| *floor < told.version);
                (group.amount, count)
            })
            .collect();
        let mut search = Search {
            ways: BTreeSet::new(),
            left_count: STEP_COUNT_MAX,
        };
        for way in &self.ways {
            for target in &targets {
                search.extend(&free, way, *target);
            }
        }
        if search.left_count == 0 {
            self.is_given_up = true;
            return true;
        }
        if search.ways.is_empty() {
            return false;
        }
        self.ways = least(&search.ways);
        self.is_given_up = WAY_COUNT_MAX < self.ways.len();
        true
    }

    /// What has to be added up, and how many increments at least.
    fn targets(&self, told: Told) -> Vec<Target> {
        let above = i128::from(told.value) - i128::from(told.own.unwrap_or(0));
        let mut targets = vec![Target {
            sum: above - i128::from(told.before),
            least_count: usize::from(told.own.is_none()),
        }];
        let resets = self
            .resets
            .iter()
            .filter(|(floor, _)| *floor < told.version);
        for (_, value) in resets {
            let mut sum = above - i128::from(*value);
            let mut add = |sum| {
                targets.push(Target {
                    sum,
                    least_count: 0,
                });
            };
            add(sum);
            for amount in self.untold.iter().rev() {
                sum -= i128::from(*amount);
                add(sum);
            }
        }
        targets
    }
}

#[derive(Clone, Copy)]
struct Target {
    sum: i128,
    least_count: usize,
}

struct Search {
    ways: BTreeSet<Vec<usize>>,
    left_count: usize,
}

impl Search {
    /// Finds every way to reach `target` with increments that `way` has not used.
    fn extend(&mut self, free: &[(i64, usize)], way: &[usize], target: Target) {
        let unused: Vec<(i64, usize)> = free
            .iter()
            .zip(way)
            .map(|((amount, count), used)| (*amount, count.saturating_sub(*used)))
            .collect();
        let mut chosen = Vec::with_capacity(unused.len());
        self.descend(&unused, target, &mut chosen, way);
    }

    /// Chooses how many of the first group, then of the others. As deep as there are amounts.
    fn descend(
        &mut self,
        unused: &[(i64, usize)],
        target: Target,
        chosen: &mut Vec<usize>,
        way: &[usize],
    ) {
        let Some(left_count) = self.left_count.checked_sub(1) else {
            return;
        };
        self.left_count = left_count;
        let Some(((amount, count), rest)) = unused.split_first() else {
            if target.sum == 0 && target.least_count <= chosen.iter().sum() {
                let sums = way
                    .iter()
                    .zip(chosen.iter())
                    .map(|(used, more)| used + more);
                self.ways.insert(sums.collect());
            }
            return;
        };
        let (least, most) = range(rest);
        for taken in 0..=*count {
            let taken_sum = i128::from(*amount) * i128::try_from(taken).unwrap_or(i128::MAX >> 64);
            let sum = target.sum - taken_sum;
            if least <= sum && sum <= most {
                chosen.push(taken);
                self.descend(rest, Target { sum, ..target }, chosen, way);
                chosen.pop();
            }
        }
    }
}

/// The least and the most that increments can add up to.
fn range(unused: &[(i64, usize)]) -> (i128, i128) {
    unused
        .iter()
        .fold((0, 0), |(least, most), (amount, count)| {
            let count = i128::try_from(*count).unwrap_or(i128::MAX >> 64);
            let sum = i128::from(*amount) * count;
            (least + sum.min(0), most + sum.max(0))
        })
}

/// Without those that use all that another uses and more: they leave less to explain the rest.
fn least(ways: &BTreeSet<Vec<usize>>) -> BTreeSet<Vec<usize>> {
    let is_more = |way: &Vec<usize>, other: &Vec<usize>| {
        way != other && way.iter().zip(other).all(|(used, less)| less <= used)
    };
    let kept = ways.iter().filter(|way| {
        !ways
            .iter()
            .take(WAY_COUNT_MAX)
            .any(|other| is_more(way, other))
    });
    kept.cloned().collect()
}
