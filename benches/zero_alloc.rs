//! Allocations, system calls, clock readings and page faults of the hot path: all are to be zero.
//!
//! Overwrites of existing keys with prebuilt keys and values, after warm-up, with the run's
//! version storage reserved for the calls measured. What version storage costs when nothing is
//! reserved is reported apart, per 10,000 commits. Any count above zero fails the bench.

#[path = "zero_alloc/counting.rs"]
mod counting;
mod support;
#[path = "zero_alloc/tracing.rs"]
mod tracing;

use std::process::ExitCode;

use counting::{Counting, asked_by, assert_that_a_box_is_counted};
use support::fixture::{Data, Fixture, VALUE_LEN_BYTES};
use support::machine::{machine_line, profile};
use support::operations::{
    RawMap, get_direct, get_ten, kv_get, kv_put, put_direct, put_transaction,
};
use tracing::{CATCHES_CLOCK_READINGS, CHILD_VARIABLE, Traced, marked, page_faults, trace};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Commits that growth is reported per, and calls of every stretch, count.
const CALL_COUNT: usize = 10_000;

/// Stretches measured of every layer, count.
const STRETCH_COUNT: usize = 3;

/// What is measured; its state is built before.
struct Layer {
    name: &'static str,
    /// Whether it must not allocate: `get_many` returns what it found in a `Vec`.
    is_hot: bool,
    operation: Box<dyn FnMut(usize)>,
}

const LAYER_NAMES: [&str; 7] = [
    "A0_FxHashMap_insert",
    "A1_put_direct",
    "A1_pooled_transaction",
    "B_kvstore_put",
    "engine_get_direct",
    "kvstore_get_borrowed",
    "read_view",
];

/// Builds a layer and warms it up; the versions of the coming calls are reserved.
fn layer(name: &'static str) -> Layer {
    let mut operation: Box<dyn FnMut(usize)> = if name == "A0_FxHashMap_insert" {
        let mut map = RawMap::new(&Data::new(), (STRETCH_COUNT + 1) * CALL_COUNT);
        Box::new(move |_| map.put())
    } else {
        let fixture = Fixture::in_memory();
        fixture
            .run
            .reserve_versions((STRETCH_COUNT + 1) * CALL_COUNT, VALUE_LEN_BYTES);
        engine_operation(name, fixture)
    };
    (0..CALL_COUNT).for_each(&mut operation);
    Layer {
        name,
        is_hot: true,
        operation,
    }
}

fn engine_operation(name: &str, fixture: Fixture) -> Box<dyn FnMut(usize)> {
    match name {
        "A1_put_direct" => Box::new(move |call| put_direct(&fixture.run, &fixture.data, call)),
        "A1_pooled_transaction" => {
            Box::new(move |call| put_transaction(&fixture.run, &fixture.data, call))
        }
        "B_kvstore_put" => Box::new(move |call| kv_put(&fixture.run, &fixture.data, call)),
        "engine_get_direct" => {
            Box::new(move |call| get_direct(&fixture.run, fixture.data.random_key(call)))
        }
        "kvstore_get_borrowed" => {
            Box::new(move |call| kv_get(&fixture.run, fixture.data.random_key(call)))
        }
        "read_view" => Box::new(move |_| {
            std::hint::black_box(fixture.run.read_view());
        }),
        _ => Box::new(move |call| get_ten(&fixture.run, &fixture.data, call)),
    }
}

/// Measures one layer in this process, `STRETCH_COUNT` times; true when everything was zero. Page
/// faults count as zero when one stretch was without: the kernel may take away pages of anyone.
fn count_here(layer: &mut Layer) -> bool {
    let (mut count_max, mut fault_count_min) = (0, u64::MAX);
    for stretch in 1..=STRETCH_COUNT {
        let before = page_faults();
        let asked = asked_by(|| (0..CALL_COUNT).for_each(&mut layer.operation));
        let after = page_faults();
        let (minor, major) = (after.0 - before.0, after.1 - before.1);
        println!(
            "{:<24} stretch {stretch}: {:>6} allocations of {:>8} bytes, {minor} minor and {major} \
             major page faults in {CALL_COUNT} calls",
            layer.name, asked.count, asked.len_bytes,
        );
        count_max = count_max.max(asked.count);
        fault_count_min = fault_count_min.min(minor + major);
    }
    let is_clean = count_max == 0 && fault_count_min == 0;
    if layer.is_hot && !is_clean {
        println!("{:<24} RED FLAG: allocates or faults", layer.name);
    }
    !layer.is_hot || is_clean
}

/// What puts cost when no version storage is reserved.
fn print_growth() {
    let fixture = Fixture::in_memory();
    (0..CALL_COUNT).for_each(|call| kv_put(&fixture.run, &fixture.data, call));
    for stretch in 1..=3 {
        let asked =
            asked_by(|| (0..CALL_COUNT).for_each(|call| kv_put(&fixture.run, &fixture.data, call)));
        println!(
            "growth of version storage, stretch {stretch}: {} allocations, {} bytes per \
             {CALL_COUNT} commits of {VALUE_LEN_BYTES}-byte values",
            asked.count, asked.len_bytes,
        );
    }
}

/// Calls of a proof, count.
const PROOF_CALL_COUNT: u64 = 3;

/// In a child that is to prove the trace: does what must be caught. False for any other child.
fn prove_here(wanted: &str) -> bool {
    match wanted {
        "proof_system_call" => marked(|| {
            (0..PROOF_CALL_COUNT).for_each(|_| drop(std::hint::black_box(std::env::current_dir())));
        }),
        "proof_clock_reading" => marked(|| {
            std::hint::black_box(std::time::Instant::now());
        }),
        _ => return false,
    }
    true
}

/// Proves that a system call and a reading of the clock are seen, or says what is not.
fn prove_the_trace(directory: &std::path::Path) {
    match trace("proof_system_call", directory) {
        Traced::Calls(calls) => {
            assert_eq!(
                calls.get("getcwd"),
                Some(&PROOF_CALL_COUNT),
                "calls are counted: {calls:?}"
            );
        }
        Traced::ClockRead => panic!("no clock was read"),
        Traced::Skipped(why) => println!("SKIPPED: system calls not counted: {why}"),
    }
    if !CATCHES_CLOCK_READINGS {
        println!("SKIPPED: clock readings that never enter the kernel are caught on x86-64 only");
        return;
    }
    match trace("proof_clock_reading", directory) {
        Traced::ClockRead => {}
        Traced::Skipped(why) => println!("SKIPPED: clock readings not caught: {why}"),
        Traced::Calls(calls) => {
            // Where the kernel gives no clock without a call, the call itself is seen.
            assert!(
                calls.contains_key("clock_gettime"),
                "a clock reading is caught: {calls:?}"
            );
        }
    }
}

/// Traces one layer in a child; true unless something was counted.
fn count_traced(name: &str, directory: &std::path::Path) -> bool {
    match trace(name, directory) {
        Traced::Calls(calls) if calls.is_empty() => {
            println!("{name:<24} 0 system calls, 0 clock readings in {CALL_COUNT} calls");
            true
        }
        Traced::Calls(calls) => {
            println!("{name:<24} RED FLAG: system calls in {CALL_COUNT} calls: {calls:?}");
            false
        }
        Traced::ClockRead => {
            println!("{name:<24} RED FLAG: reads the clock");
            false
        }
        Traced::Skipped(why) => {
            println!("{name:<24} SKIPPED: system calls not counted: {why}");
            true
        }
    }
}

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured: run with cargo bench");
        return ExitCode::SUCCESS;
    }
    if let Ok(wanted) = std::env::var(CHILD_VARIABLE) {
        if prove_here(&wanted) {
            return ExitCode::SUCCESS;
        }
        let Some(name) = LAYER_NAMES.into_iter().find(|name| *name == wanted) else {
            return ExitCode::FAILURE;
        };
        let mut layer = layer(name);
        marked(|| (0..CALL_COUNT).for_each(&mut layer.operation));
        return ExitCode::SUCCESS;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("{}\nprofile: {}", machine_line(place.path()), profile());
    assert_that_a_box_is_counted();
    let mut is_clean = true;
    for name in LAYER_NAMES {
        is_clean &= count_here(&mut layer(name));
    }
    let mut ten = layer("get_many(10)");
    ten.is_hot = false;
    count_here(&mut ten);
    print_growth();
    prove_the_trace(place.path());
    for name in LAYER_NAMES {
        is_clean &= count_traced(name, place.path());
    }
    if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
