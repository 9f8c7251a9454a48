//! Every red flag of the operations that exist: beyond one, stop and redesign.
//!
//! Run on its own, optimised, on a machine with nothing else to do:
//! `cargo test --release --test red_flags -- --nocapture`. With debug assertions on it reports
//! "not measured". Figures are medians of several rounds; flags of four threads need five cores.

#[path = "../benches/zero_alloc/counting.rs"]
mod counting;
#[path = "../benches/support/mod.rs"]
mod support;

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use counting::{Counting, asked_by, assert_that_a_box_is_counted};
use in_mem_engine::{Database, DurabilityMode, Run};
use support::fixture::{Data, Fixture, VALUE_LEN_BYTES};
use support::machine::machine_line;
use support::operations::{
    RawMap, Row, calls_of_round, get_direct, kv_get_copied, kv_put, put_direct, put_transaction,
};
use support::rounds::{median, ns_per_call};
use support::threads::{cores_needed, is_measurable, throughput};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One call on a run, by its number.
type Operation = fn(&Run, &Data, usize);

const ROUND_COUNT: usize = 5;
const CALL_COUNT: usize = 50_000;

/// Tests of one binary run side by side; figures must not.
static ALONE: Mutex<()> = Mutex::new(());

/// The right to measure, or nothing when this build gives no figures.
fn measuring() -> Option<MutexGuard<'static, ()>> {
    if cfg!(debug_assertions) {
        println!("not measured: debug assertions are on; use --release");
        return None;
    }
    let alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{}", machine_line(".".as_ref()));
    Some(alone)
}

/// Rounds of one operation, each on a database of its own with its versions reserved.
fn rounds(name: &'static str, operation: impl Fn(&Run, &Data, usize)) -> Row {
    let mut row = Row::new(name);
    for _ in 0..ROUND_COUNT {
        let fixture = Fixture::in_memory();
        fixture
            .run
            .reserve_versions(calls_of_round(CALL_COUNT), VALUE_LEN_BYTES);
        row.round(CALL_COUNT, |call| {
            operation(&fixture.run, &fixture.data, call)
        });
    }
    println!("{}", row.line());
    row
}

/// Fails when the median exceeds the flag, or the tail is out of proportion.
fn check_latency(row: &Row, red_flag_ns: f64) {
    assert!(
        median(&row.wall_ns) <= red_flag_ns,
        "{}: beyond {red_flag_ns} ns",
        row.name
    );
    let tail = row.latencies.us(0.99) / row.latencies.mean_us();
    assert!(
        tail <= 20.0,
        "{}: p99 is {tail:.1} times the mean",
        row.name
    );
}

#[test]
fn an_engine_put_takes_at_most_10_us() {
    let Some(_alone) = measuring() else { return };
    check_latency(&rounds("engine/put_direct", put_direct), 10_000.0);
}

#[test]
fn a_kv_put_takes_at_most_20_us_and_one_thread_does_100_000_per_second() {
    let Some(_alone) = measuring() else { return };
    let row = rounds("kvstore/put", kv_put);
    check_latency(&row, 20_000.0);
    assert!(
        100_000.0 <= 1e9 / median(&row.wall_ns),
        "one thread does less than 100,000 puts/s"
    );
}

#[test]
fn a_kv_get_takes_at_most_10_us() {
    let Some(_alone) = measuring() else { return };
    let row = rounds("kvstore/get", |run, data, call| {
        kv_get_copied(run, data.random_key(call))
    });
    check_latency(&row, 10_000.0);
}

#[test]
fn a_read_view_takes_at_most_2_us() {
    let Some(_alone) = measuring() else { return };
    let fixture = Fixture::in_memory();
    let figures: Vec<f64> = (0..ROUND_COUNT)
        .map(|_| {
            ns_per_call(1_000_000, |_| {
                std::hint::black_box(fixture.run.read_view());
            })
        })
        .collect();
    println!("read view: {:.1} ns", median(&figures));
    assert!(median(&figures) <= 2_000.0);
}

#[test]
fn the_engine_costs_at_most_20_hash_map_inserts_and_the_facade_at_most_8_engine_puts() {
    let Some(_alone) = measuring() else { return };
    let data = Data::new();
    let mut raw = Row::new("A0 FxHashMap insert");
    for _ in 0..ROUND_COUNT {
        let mut map = RawMap::new(&data, calls_of_round(CALL_COUNT));
        raw.round(CALL_COUNT, |_| map.put());
    }
    println!("{}", raw.line());
    let engine = rounds("A1 engine/put_direct", put_direct);
    let facade = rounds("B kvstore/put", kv_put);
    // CPU time: a neighbour that slows one layer and not the other is no finding.
    let [raw, engine, facade] = [raw, engine, facade].map(|row| median(&row.cpu_ns));
    println!("A1/A0 {:.2}, B/A1 {:.2}", engine / raw, facade / engine);
    assert!(engine / raw <= 20.0);
    assert!(facade / engine <= 8.0);
}

#[test]
fn four_threads_on_runs_of_their_own_do_400_000_puts_per_second_and_2_5_times_one() {
    let Some(_alone) = measuring() else { return };
    if !is_measurable(4) {
        println!("not measurable: needs {} cores", cores_needed(4));
        return;
    }
    let rate = |thread_count: usize| {
        let figures: Vec<f64> = (0..ROUND_COUNT)
            .map(|_| {
                let fixture = Fixture::in_memory();
                let runs: Vec<Run> = (0..thread_count).map(|_| fixture.another_run()).collect();
                throughput(thread_count, CALL_COUNT, |thread, call| {
                    let run = runs.get(thread).expect("a run per thread");
                    kv_put(run, &fixture.data, call);
                })
            })
            .collect();
        median(&figures)
    };
    let (one, four) = (rate(1), rate(4));
    println!(
        "1 thread {one:.0} ops/s, 4 threads {four:.0} ops/s, {:.2} x",
        four / one
    );
    assert!(400_000.0 <= four);
    assert!(2.5 <= four / one);
}

#[test]
fn the_hot_path_allocates_nothing() {
    let Some(_alone) = measuring() else { return };
    assert_that_a_box_is_counted();
    let operations: [(&str, Operation); 4] = [
        ("engine/put_direct", put_direct),
        ("explicit pooled transaction", put_transaction),
        ("kvstore/put", kv_put),
        ("engine/get_direct", |run, data, call| {
            get_direct(run, data.random_key(call))
        }),
    ];
    for (name, operation) in operations {
        let fixture = Fixture::in_memory();
        fixture
            .run
            .reserve_versions(2 * CALL_COUNT, VALUE_LEN_BYTES);
        (0..CALL_COUNT).for_each(|call| operation(&fixture.run, &fixture.data, call));
        let asked = asked_by(|| {
            (0..CALL_COUNT).for_each(|call| operation(&fixture.run, &fixture.data, call));
        });
        println!("{name}: {} allocations in {CALL_COUNT} calls", asked.count);
        assert_eq!(asked.count, 0, "{name} allocates");
    }
}

#[test]
fn ten_thousand_log_entries_replay_within_3_s() {
    let Some(_alone) = measuring() else { return };
    let data = Data::new();
    let figures: Vec<f64> = (0..3)
        .map(|_| {
            let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
            let path = place.path().join("replay.inmem");
            let builder = Database::builder().path(&path);
            let mode = DurabilityMode::buffered_default();
            let database = builder.durability(mode).open().expect("opens");
            let run = database.default_run();
            (0..10_000).for_each(|call| kv_put(&run, &data, call));
            drop(run);
            database.shutdown().expect("shuts down");
            drop(database);
            let started = Instant::now();
            let database = Database::open(&path).expect("opens again");
            let seconds = started.elapsed().as_secs_f64();
            let last = database.default_run().kv().contains(data.key(9_999));
            assert_eq!(last.ok(), Some(true), "the last entry came back");
            seconds
        })
        .collect();
    println!("10,000 log entries: {:.3} s", median(&figures));
    assert!(median(&figures) <= 3.0);
}
