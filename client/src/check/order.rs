//! Rule 1: what each client could know when it sent a request, and that versions follow it.

use std::collections::HashMap;

use super::history::{Operation, Outcome, Run};
use super::violation::{Name, Violation};

/// The highest versions that had been answered before each request was sent.
pub(super) struct Floors {
    /// By place of the request: in any run.
    pub(super) any: Vec<u64>,
    /// By place of the request: in its own run.
    pub(super) run: Vec<u64>,
}

impl Floors {
    /// Sweeps all events in time order. An answer and a request of the same instant are taken as
    /// unordered.
    pub(super) fn of(operations: &[Operation]) -> Self {
        let mut events = Vec::with_capacity(operations.len() * 2);
        for (place, operation) in operations.iter().enumerate() {
            events.push((operation.sent_at_ns, false, place));
            if let Some(done_at_ns) = operation.done_at_ns {
                events.push((done_at_ns, true, place));
            }
        }
        events.sort_unstable();
        let mut floors = Self {
            any: vec![0; operations.len()],
            run: vec![0; operations.len()],
        };
        let mut any = 0;
        let mut runs: HashMap<Run, u64> = HashMap::new();
        for (_, is_done, place) in events {
            let Some(operation) = operations.get(place) else {
                continue;
            };
            let run = operation.run().unwrap_or_default();
            if is_done {
                let reached = reached_version(operation);
                any = any.max(reached);
                let in_run = runs.entry(run).or_default();
                *in_run = reached.max(*in_run);
                continue;
            }
            let in_run = runs.get(&run).copied().unwrap_or(0);
            if let Some((floor_any, floor_run)) =
                floors.any.get_mut(place).zip(floors.run.get_mut(place))
            {
                (*floor_any, *floor_run) = (any, in_run);
            }
        }
        floors
    }

    pub(super) fn any(&self, place: usize) -> u64 {
        self.any.get(place).copied().unwrap_or(0)
    }

    pub(super) fn run(&self, place: usize) -> u64 {
        self.run.get(place).copied().unwrap_or(0)
    }
}

/// The highest version an answer tells of.
pub(super) fn reached_version(operation: &Operation) -> u64 {
    let read_at = match operation.outcome {
        Outcome::Saw { at, .. } => at,
        _ => None,
    };
    let told = [operation.version(), read_at].into_iter().flatten();
    told.chain(operation.sights().filter_map(|sight| sight.version))
        .max()
        .unwrap_or(0)
}

/// Checks the versions of all acknowledged commits.
pub(super) fn check(
    operations: &[Operation],
    floors: &Floors,
    version_max: u64,
    violations: &mut Vec<Violation>,
) {
    let mut owners: HashMap<u64, Name> = HashMap::new();
    for (place, operation) in operations.iter().enumerate() {
        let Some(version) = operation.version() else {
            continue;
        };
        let name = operation.name();
        if let Some(first) = owners.insert(version, name) {
            violations.push(Violation::VersionReused {
                version,
                first,
                second: name,
            });
        }
        if version <= version_max {
            let reached = version_max;
            violations.push(Violation::VersionRepeated {
                version,
                name,
                reached,
            });
        }
        let seen = floors.any(place);
        if version <= seen {
            violations.push(Violation::OrderBroken {
                version,
                name,
                seen,
            });
        }
    }
}

impl Operation {
    pub(super) fn name(&self) -> Name {
        Name {
            worker: self.worker,
            id: self.id,
        }
    }
}
