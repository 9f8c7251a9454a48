//! A second opinion that believes no version: Wing and Gong's search for an order of the requests
//! that respects real time and explains every answer by value alone.
//!
//! The search is split by key, so it says nothing of transactions, and is exponential at worst:
//! hence the limits. It remembers every (requests done, value) it has left without success, as
//! Lowe does ("Testing for linearizability", 2017). Requests without an answer may take effect at
//! any time after they were sent, or never.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::history::{Datum, Dump, Found, History, Operation, Outcome, Run, Sight, Write};

/// Most requests in a history to be searched.
pub const OPERATION_COUNT_MAX: usize = 2_000;

/// Most workers in a history to be searched; the search grows with how many overlap.
pub const CLIENT_COUNT_MAX: usize = 8;

/// Why no order was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinearizableError {
    /// The history is beyond what the search can do.
    #[error("{operation_count} requests of {client_count} workers are too many to search")]
    TooLarge {
        /// Requests in it.
        operation_count: usize,
        /// Workers in it.
        client_count: usize,
    },
    /// No order explains the answers about one key.
    #[error("no order of its {request_count} requests explains key {key:?} of run {run:02x?}")]
    NoOrder {
        /// The run.
        run: Run,
        /// The key.
        key: String,
        /// Requests that touch it.
        request_count: usize,
    },
}

/// What one request did to one key.
struct Step<'a> {
    sent_at_ns: u64,
    /// `u64::MAX` without an answer.
    done_at_ns: u64,
    before: Vec<&'a Found>,
    writes: Vec<&'a Write>,
    after: Vec<&'a Found>,
}

/// Searches an order for every key.
///
/// # Errors
/// When the history is too large, or a key has no order.
pub fn check_linearizable(history: &History, base: &Dump) -> Result<(), LinearizableError> {
    let operations = &history.operations;
    let clients: BTreeSet<u32> = operations.iter().map(|known| known.worker).collect();
    if OPERATION_COUNT_MAX < operations.len() || CLIENT_COUNT_MAX < clients.len() {
        return Err(LinearizableError::TooLarge {
            operation_count: operations.len(),
            client_count: clients.len(),
        });
    }
    let mut keys: BTreeMap<(Run, &str), Vec<Step<'_>>> = BTreeMap::new();
    for operation in operations {
        add_steps(operation, &mut keys);
    }
    for ((run, key), mut steps) in keys {
        steps.sort_by_key(|step| step.sent_at_ns);
        let initial = base.entry(&run, key).and_then(|entry| entry.datum.clone());
        if !has_order(&steps, initial) {
            let request_count = steps.len();
            return Err(LinearizableError::NoOrder {
                run,
                key: key.to_owned(),
                request_count,
            });
        }
    }
    Ok(())
}

fn add_steps<'a>(operation: &'a Operation, keys: &mut BTreeMap<(Run, &'a str), Vec<Step<'a>>>) {
    let Some(run) = operation.run() else { return };
    let (before, after): (&[Sight], &[Sight]) = match &operation.outcome {
        Outcome::Committed { before, after, .. } => (before, after),
        Outcome::Saw { sights, .. } => (sights, &[]),
        Outcome::Refused => return,
        Outcome::Unknown => (&[], &[]),
    };
    let commits = !matches!(operation.outcome, Outcome::Saw { .. });
    let expects = if commits { operation.expects() } else { &[] };
    let writes = if commits { operation.writes() } else { &[] };
    let touched: BTreeSet<&str> = (expects.iter().chain(before).chain(after))
        .map(|sight| sight.key.as_str())
        .chain(writes.iter().map(Write::key))
        .collect();
    for key in touched {
        let of_key = |sights: &'a [Sight]| {
            sights
                .iter()
                .filter(move |sight| sight.key == key)
                .map(|sight| &sight.found)
        };
        keys.entry((run, key)).or_default().push(Step {
            sent_at_ns: operation.sent_at_ns,
            done_at_ns: operation.done_at_ns.unwrap_or(u64::MAX),
            before: of_key(expects).chain(of_key(before)).collect(),
            writes: writes.iter().filter(|write| write.key() == key).collect(),
            after: of_key(after).collect(),
        });
    }
}

/// One choice of the search: which step came next, and what the key held before it.
struct Choice {
    step: usize,
    before: Option<Datum>,
}

/// Searches an order of `steps`, sorted by when they were sent.
fn has_order(steps: &[Step<'_>], initial: Option<Datum>) -> bool {
    let mut done = vec![0_u64; steps.len().div_ceil(64)];
    let mut dead_ends: HashSet<(Vec<u64>, Option<Datum>)> = HashSet::new();
    let mut path: Vec<Choice> = Vec::new();
    let mut value = initial;
    let mut from = 0;
    loop {
        let deadline_ns = deadline_ns(steps, &done);
        if deadline_ns == u64::MAX {
            return true;
        }
        match next_step(steps, &done, deadline_ns, value.as_ref(), from) {
            Some((step, made)) => {
                set(&mut done, step, true);
                if dead_ends.contains(&(done.clone(), made.clone())) {
                    set(&mut done, step, false);
                    from = step + 1;
                } else {
                    path.push(Choice {
                        step,
                        before: std::mem::replace(&mut value, made),
                    });
                    from = 0;
                }
            }
            None => {
                dead_ends.insert((done.clone(), value.clone()));
                let Some(choice) = path.pop() else {
                    return false;
                };
                set(&mut done, choice.step, false);
                value = choice.before;
                from = choice.step + 1;
            }
        }
    }
}

/// When the first of the answered steps left was answered: what was sent later cannot be next.
fn deadline_ns(steps: &[Step<'_>], done: &[u64]) -> u64 {
    let left = steps
        .iter()
        .enumerate()
        .filter(|(index, _)| !is_set(done, *index));
    left.map(|(_, step)| step.done_at_ns)
        .min()
        .unwrap_or(u64::MAX)
}

/// The next step from `from` on that may be next, and what it makes.
fn next_step(
    steps: &[Step<'_>],
    done: &[u64],
    deadline_ns: u64,
    value: Option<&Datum>,
    from: usize,
) -> Option<(usize, Option<Datum>)> {
    let candidates = steps.iter().enumerate().skip(from);
    candidates
        .take_while(|(_, step)| step.sent_at_ns <= deadline_ns)
        .filter(|(index, _)| !is_set(done, *index))
        .find_map(|(index, step)| Some((index, step.apply(value)?)))
}

impl Step<'_> {
    /// What the key holds afterwards, unless the answers do not fit.
    fn apply(&self, value: Option<&Datum>) -> Option<Option<Datum>> {
        if !self.before.iter().all(|found| found.is_value(value)) {
            return None;
        }
        let mut value = value.cloned();
        for write in &self.writes {
            value = match write {
                Write::Put(_, datum) => Some(datum.clone()),
                Write::Delete(_) => None,
                Write::Add(_, delta) => match value {
                    None => Some(Datum::Int(*delta)),
                    Some(Datum::Int(counter)) => Some(Datum::Int(counter.checked_add(*delta)?)),
                    Some(Datum::Bytes(_)) => return None,
                },
            };
        }
        self.after
            .iter()
            .all(|found| found.is_value(value.as_ref()))
            .then_some(value)
    }
}

impl Found {
    fn is_value(&self, value: Option<&Datum>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => value.is_none(),
            Self::Value(datum) => value == Some(datum),
        }
    }
}

fn set(bits: &mut [u64], index: usize, is_set: bool) {
    if let Some(word) = bits.get_mut(index / 64) {
        let bit = 1 << (index % 64);
        *word = if is_set { *word | bit } else { *word & !bit };
    }
}

fn is_set(bits: &[u64], index: usize) -> bool {
    bits.get(index / 64)
        .is_some_and(|word| word >> (index % 64) & 1 == 1)
}
