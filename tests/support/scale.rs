//! How much a random test does, where its chance comes from, and how its work is spread.
//!
//! `IN_MEM_TEST` is `quick` (under two minutes for all tests together), `ordinary` (when unset) or
//! `soak` (hours). `IN_MEM_SEED` replaces the start value 42; a failure names the seed that alone
//! reproduces it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The number for this run.
#[must_use]
pub(crate) fn scaled(quick: u64, ordinary: u64, soak: u64) -> u64 {
    match std::env::var("IN_MEM_TEST").as_deref() {
        Err(_) | Ok("ordinary") => ordinary,
        Ok("quick") => quick,
        Ok("soak") => soak,
        Ok(other) => panic!("IN_MEM_TEST is {other:?}; it is quick, ordinary or soak"),
    }
}

/// The start value of all chance in this run. Printed by the test that uses it.
#[must_use]
pub(crate) fn start_seed() -> u64 {
    let seed = std::env::var("IN_MEM_SEED").ok().map(|seed| seed.parse());
    seed.unwrap_or(Ok(42)).expect("IN_MEM_SEED is a number")
}

/// Calls `job` for the start value and the seeds behind it while `is_wanted` says so of the number
/// of the seed, on as many threads as there are CPUs; gives the results in the order of the seeds.
/// The first failure stops the rest and prints the line that replays it.
pub(crate) fn for_each_seed<R: Send>(
    test: &str,
    is_wanted: impl Fn(u64) -> bool + Sync,
    job: impl Fn(u64) -> R + Sync,
) -> Vec<R> {
    let start = start_seed();
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let threads = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let run = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if !is_wanted(index) || failed.load(Ordering::Relaxed) != u64::MAX {
                return results;
            }
            match catch_unwind(AssertUnwindSafe(|| job(start + index))) {
                Ok(result) => results.push((index, result)),
                Err(panic) => {
                    failed.fetch_min(start + index, Ordering::Relaxed);
                    let seed = start + index;
                    eprintln!("replay: IN_MEM_SEED={seed} cargo test --workspace {test}");
                    resume_unwind(panic);
                }
            }
        }
    };
    let mut results = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        let mut all = Vec::new();
        for result in joined {
            match result {
                Ok(results) => all.extend(results),
                Err(panic) => resume_unwind(panic),
            }
        }
        all
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
