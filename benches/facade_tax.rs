//! What each layer adds: A0 a plain hash map, A1 the engine, B the KV facade.
//!
//! Overwrites of existing keys, prebuilt keys and values, versions reserved, InMemory, one thread,
//! closed loop. The layers are interleaved round by round; a ratio is that of the medians of CPU
//! time, which no neighbour distorts. A ratio beyond its red flag fails the bench; one above its
//! aim is printed as missed.

mod support;

use std::process::ExitCode;

use support::fixture::{Data, Fixture, VALUE_LEN_BYTES};
use support::machine::{machine_line, profile};
use support::neighbours::CpuWatch;
use support::operations::{RawMap, Row, calls_of_round, kv_put, put_direct, put_transaction};
use support::rounds::median;

const ROUND_COUNT: usize = 7;
const CALL_COUNT: usize = 100_000;

fn reserved() -> Fixture {
    let fixture = Fixture::in_memory();
    fixture
        .run
        .reserve_versions(calls_of_round(CALL_COUNT), VALUE_LEN_BYTES);
    fixture
}

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured: run with cargo bench");
        return ExitCode::SUCCESS;
    }
    println!("{}\nprofile: {}", machine_line(".".as_ref()), profile());
    let watch = CpuWatch::begin();
    let mut raw = Row::new("A0 FxHashMap insert");
    let mut engine = Row::new("A1 engine/put_direct");
    let mut pooled = Row::new("A1 explicit pooled transaction");
    let mut facade = Row::new("B  kvstore/put");
    let data = Data::new();
    for _ in 0..ROUND_COUNT {
        let mut map = RawMap::new(&data, calls_of_round(CALL_COUNT));
        raw.round(CALL_COUNT, |_| map.put());
        let fixture = reserved();
        engine.round(CALL_COUNT, |call| {
            put_direct(&fixture.run, &fixture.data, call)
        });
        let fixture = reserved();
        pooled.round(CALL_COUNT, |call| {
            put_transaction(&fixture.run, &fixture.data, call)
        });
        let fixture = reserved();
        facade.round(CALL_COUNT, |call| kv_put(&fixture.run, &fixture.data, call));
    }
    let foreign = 100.0 * watch.foreign_share();
    println!("{ROUND_COUNT} rounds of {CALL_COUNT} calls; others used {foreign:.0} % of the CPUs");
    for layer in [&raw, &engine, &pooled, &facade] {
        println!("{}", layer.line());
    }
    let ratios = [
        ("A1/A0", &engine, &raw, 10.0, 20.0),
        ("B/A1", &facade, &engine, 5.0, 8.0),
        // No red flag of its own: the product of the other two bounds it.
        ("B/A0", &facade, &raw, 30.0, 160.0),
    ];
    let mut is_red = false;
    for (name, upper, lower, aim, red_flag) in ratios {
        let ratio = median(&upper.cpu_ns) / median(&lower.cpu_ns);
        is_red |= red_flag < ratio;
        let verdict = if ratio < aim { "met" } else { "MISSED" };
        println!("{name:<6} {ratio:>6.2} x  aim < {aim} x: {verdict}; red flag > {red_flag} x");
    }
    if is_red {
        println!("RED FLAG: a ratio is beyond its limit");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
