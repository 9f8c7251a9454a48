//! Threads against each other: 1, 2, 4 and 8 of them, on disjoint runs, on one run, on one key.
//!
//! InMemory puts, closed loop, every thread warmed up before a barrier. A figure needs as many
//! idle cores as threads and one for the driver; with fewer it says so and shows what the
//! oversubscribed machine gave, which is no scaling figure.

mod support;

use in_mem_engine::Run;
use support::fixture::{Data, Fixture};
use support::machine::{machine_line, profile};
use support::neighbours::CpuWatch;
use support::operations::{get_direct, kv_put};
use support::rounds::{median, spread};
use support::threads::{cores_needed, is_measurable, throughput};

const ROUND_COUNT: usize = 3;
const THREAD_COUNTS: [usize; 4] = [1, 2, 4, 8];

/// Calls of all threads together in one round, count; bounds the history a round leaves.
const CALL_COUNT: usize = 400_000;

/// What the threads share.
#[derive(Clone, Copy)]
enum Scenario {
    DisjointRuns,
    OneRun,
    OneKey,
    ReadsOfOneRun,
}

impl Scenario {
    const ALL: [Self; 4] = [
        Self::DisjointRuns,
        Self::OneRun,
        Self::OneKey,
        Self::ReadsOfOneRun,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::DisjointRuns => "puts, a run per thread",
            Self::OneRun => "puts, one run, keys apart",
            Self::OneKey => "puts, one key",
            Self::ReadsOfOneRun => "gets, one run",
        }
    }

    /// What `disjoint` throughput must reach, as a multiple of one thread's.
    fn aim(self, thread_count: usize) -> Option<f64> {
        match (self, thread_count) {
            (Self::DisjointRuns, 2) => Some(1.8),
            (Self::DisjointRuns, 4) => Some(3.2),
            (Self::DisjointRuns, 8) => Some(6.0),
            (Self::OneKey, 4) => Some(0.25),
            _ => None,
        }
    }
}

fn round(scenario: Scenario, thread_count: usize) -> f64 {
    let fixture = Fixture::in_memory();
    let run_count = match scenario {
        Scenario::DisjointRuns => thread_count,
        Scenario::OneRun | Scenario::OneKey | Scenario::ReadsOfOneRun => 1,
    };
    let runs: Vec<Run> = (0..run_count).map(|_| fixture.another_run()).collect();
    let data: &Data = &fixture.data;
    throughput(thread_count, CALL_COUNT / thread_count, |thread, call| {
        let Some(run) = runs.get(thread % run_count) else {
            return;
        };
        match scenario {
            Scenario::DisjointRuns => kv_put(run, data, call),
            // Threads start far apart, so that they meet on no key for most of the round.
            Scenario::OneRun => kv_put(run, data, call + thread * 1250),
            Scenario::OneKey => kv_put(run, data, 0),
            Scenario::ReadsOfOneRun => get_direct(run, data.random_key(call + thread * 1250)),
        }
    })
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured: run with cargo bench");
        return;
    }
    println!("{}\nprofile: {}", machine_line(".".as_ref()), profile());
    for scenario in Scenario::ALL {
        let watch = CpuWatch::begin();
        let mut figures = THREAD_COUNTS.map(|_| Vec::new());
        for _ in 0..ROUND_COUNT {
            for (thread_count, rounds) in THREAD_COUNTS.into_iter().zip(&mut figures) {
                rounds.push(round(scenario, thread_count));
            }
        }
        let foreign = 100.0 * watch.foreign_share();
        println!(
            "{}; others used {foreign:.0} % of the CPUs",
            scenario.name()
        );
        let [single, ..] = &figures;
        let single = median(single);
        for (thread_count, rounds) in THREAD_COUNTS.into_iter().zip(&figures) {
            print_row(scenario, thread_count, rounds, single);
        }
    }
}

fn print_row(scenario: Scenario, thread_count: usize, rounds: &[f64], single: f64) {
    let rate = median(rounds);
    let apart = 100.0 * spread(rounds);
    if is_measurable(thread_count) {
        let aim = match scenario.aim(thread_count) {
            Some(aim) if rate / single < aim => format!("  aim >= {aim} x: MISSED"),
            Some(aim) => format!("  aim >= {aim} x: met"),
            None => String::new(),
        };
        let scaling = rate / single;
        println!(
            "  {thread_count} threads  {rate:>10.0} ops/s  {scaling:>5.2} x one  \
             rounds {apart:>3.0} % apart{aim}"
        );
    } else {
        let needed = cores_needed(thread_count);
        println!(
            "  {thread_count} threads  not measurable: needs {needed} cores  \
             (oversubscribed: {rate:.0} ops/s, rounds {apart:.0} % apart)"
        );
    }
}
