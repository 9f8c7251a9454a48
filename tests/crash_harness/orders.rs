//! The second opinion, which believes no version: an order by value alone is searched for what eight
//! client processes were told by a living daemon, and there is none for a doctored record.

use std::time::Instant;

use in_mem_client::check::{
    Datum, Dump, Found, History, LinearizableError, Mode, OPERATION_COUNT_MAX, Outcome,
    check_linearizable,
};

use crate::life::{Life, Manner};
use crate::scale::start_seed;

/// Commits the clients make: their requests stay below what can be searched.
const ACKED_COUNT: u64 = 300;

/// Searches the orders of a life in Strict and in InMemory mode, then of a doctored record.
pub fn living_daemons_are_linearizable() {
    for mode in [Mode::Strict, Mode::InMemory] {
        let manner = Manner {
            depth: 2,
            ..Manner::new(mode, 0)
        };
        let (mut life, daemon) = Life::begin(manner, start_seed());
        life.work(ACKED_COUNT);
        daemon.kill();
        let mut history = first_operations(life.take_history());
        let started = Instant::now();
        check_linearizable(&history, &Dump::default())
            .unwrap_or_else(|why| panic!("seed {}, {mode:?}: {why}", start_seed()));
        let searched = started.elapsed();
        let what = doctor(&mut history);
        let why = check_linearizable(&history, &Dump::default());
        assert!(
            matches!(why, Err(LinearizableError::NoOrder { .. })),
            "{what}: {why:?}"
        );
        println!(
            "{mode:?}: an order of {} requests found in {searched:?}; {what}: {why:?}",
            history.operations.len()
        );
    }
}

/// The requests sent first, as many as can be searched. What was sent later cannot have been seen
/// by what is left, unless it overlapped: so no request is cut off that was sent before the last
/// answer that is kept.
fn first_operations(mut history: History) -> History {
    history
        .operations
        .sort_by_key(|operation| operation.sent_at_ns);
    let Some(next) = history.operations.get(OPERATION_COUNT_MAX) else {
        return history;
    };
    let cut_at_ns = next.sent_at_ns;
    history.operations.truncate(OPERATION_COUNT_MAX);
    for operation in &mut history.operations {
        if operation
            .done_at_ns
            .is_none_or(|done_at_ns| cut_at_ns <= done_at_ns)
        {
            operation.done_at_ns = None;
            operation.outcome = Outcome::Unknown;
        }
    }
    history
}

/// Makes one answer a sum that no order explains, as if an increment had been counted twice.
fn doctor(history: &mut History) -> String {
    let answers = history.operations.iter_mut().rev();
    for operation in answers {
        let Outcome::Committed { after, .. } = &mut operation.outcome else {
            continue;
        };
        for sight in after {
            if let Found::Value(Datum::Int(sum)) = &mut sight.found
                && sight.key.starts_with("c/")
            {
                *sum += 1_000_000;
                return format!("{} a million higher", sight.key);
            }
        }
    }
    panic!("no increment was answered");
}
