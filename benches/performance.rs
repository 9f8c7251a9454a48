//! Every operation that exists, by mode, against its target and its red flag.
//!
//! Own harness: a stretch without clocks gives the mean, a stretch with one reading of the clock
//! per call the distribution; figures are medians over rounds. Puts overwrite existing keys in
//! sequence and every round has a database of its own, because all history is kept. Closed loop
//! unless a row says otherwise. Nothing here crosses a socket.

mod support;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use in_mem_engine::DurabilityMode;
use in_mem_wal::codec::CODEC_NAMES;
use in_mem_wal::disk::short_slice;
use support::device::RawDevice;
use support::fixture::{Fixture, VALUE_LEN_BYTES};
use support::machine::{device_flush_count, machine_line, profile};
use support::neighbours::CpuWatch;
use support::operations::{
    RawMap, Row, calls_of_round, commit_latency, get_direct, get_ten, kv_get, kv_get_copied,
    kv_put, put_direct, put_transaction,
};
use support::rounds::{Distribution, clock_ns, median, ns_per_call};
use support::threads::throughput;

const ROUND_COUNT: usize = 5;
const CALL_COUNT: usize = 100_000;

/// Calls of a Buffered round, count.
const BUFFERED_CALL_COUNT: usize = 20_000;

/// Calls of a Strict round, count: about 0.2 s where a sync takes 125 us.
const STRICT_CALL_COUNT: usize = 700;

/// Offered by the open-loop driver, operations per second.
const OPEN_LOOP_RATE: u32 = 20_000;

/// A row, and what it is held against.
struct Held {
    row: Row,
    target_us: f64,
    red_flag_us: Option<f64>,
}

impl Held {
    fn print(&self) {
        let mean_us = median(&self.row.wall_ns) / 1e3;
        let verdict = match self.red_flag_us {
            Some(red_flag) if red_flag < mean_us => "RED FLAG",
            _ if self.target_us < mean_us => "MISSED",
            _ => "met",
        };
        println!("{}  < {} us: {verdict}", self.row.line(), self.target_us);
    }
}

fn section(title: &str, watch: &CpuWatch, raw: Option<Row>, rows: Vec<(Row, f64, Option<f64>)>) {
    println!(
        "\n## {title}; others used {:.0} % of the CPUs",
        100.0 * watch.foreign_share()
    );
    if let Some(raw) = raw {
        println!("{}", raw.line());
    }
    for (row, target_us, red_flag_us) in rows {
        Held {
            row,
            target_us,
            red_flag_us,
        }
        .print();
    }
}

fn in_memory_writes() {
    let watch = CpuWatch::begin();
    let mut raw = Row::new("A0 FxHashMap insert");
    let mut direct = Row::new("engine/put_direct");
    let mut reserved = Row::new("engine/put_direct, preallocated");
    let mut explicit = Row::new("explicit transaction of one put");
    let mut commit = Row::new("commit(), apply included");
    let mut facade = Row::new("kvstore/put");
    for _ in 0..ROUND_COUNT {
        let fixture = Fixture::in_memory();
        let (run, data) = (&fixture.run, &fixture.data);
        let mut map = RawMap::new(data, calls_of_round(CALL_COUNT));
        raw.round(CALL_COUNT, |_| map.put());
        direct.round(CALL_COUNT, |call| put_direct(run, data, call));
        let fixture = Fixture::in_memory();
        let (run, data) = (&fixture.run, &fixture.data);
        run.reserve_versions(calls_of_round(CALL_COUNT), VALUE_LEN_BYTES);
        reserved.round(CALL_COUNT, |call| put_direct(run, data, call));
        let fixture = Fixture::in_memory();
        let (run, data) = (&fixture.run, &fixture.data);
        explicit.round(CALL_COUNT, |call| put_transaction(run, data, call));
        commit_round(&fixture, CALL_COUNT, &mut commit);
        let fixture = Fixture::in_memory();
        let (run, data) = (&fixture.run, &fixture.data);
        facade.round(CALL_COUNT, |call| kv_put(run, data, call));
    }
    let hot = median(&direct.cpu_ns) / median(&reserved.cpu_ns);
    let rate = 1e9 / median(&facade.wall_ns);
    let rows = vec![
        (direct, 3.0, Some(10.0)),
        (reserved, 3.0, Some(10.0)),
        (explicit, 8.0, Some(20.0)),
        (commit, 3.0, None),
        (facade, 8.0, Some(20.0)),
    ];
    section("InMemory writes", &watch, Some(raw), rows);
    let verdict = if hot <= 1.1 { "met" } else { "MISSED" };
    println!("hot put / preallocated put, CPU time: {hot:.2} x  <= 1.1 x: {verdict}");
    let verdict = match rate {
        rate if rate < 100_000.0 => "RED FLAG",
        rate if rate < 250_000.0 => "MISSED",
        _ => "met",
    };
    println!("1-thread throughput: {rate:.0} ops/s  >= 250000: {verdict}");
}

/// Only the commits are timed; the mean is therefore that of the distribution.
fn commit_round(fixture: &Fixture, call_count: usize, row: &mut Row) {
    let mut round = Distribution::new();
    (0..call_count).for_each(|call| round.record(commit_latency(fixture, call)));
    row.wall_ns.push(1e3 * round.mean_us());
    row.latencies.merge(&round);
}

fn reads() {
    let watch = CpuWatch::begin();
    let fixture = Fixture::in_memory();
    let (run, data) = (&fixture.run, &fixture.data);
    let map = RawMap::new(data, 0);
    let mut raw = Row::new("A0 FxHashMap get, random keys");
    let mut direct = Row::new("engine/get_direct, random keys");
    let mut borrowed = Row::new("kvstore/get, borrowed, random keys");
    let mut copied = Row::new("kvstore/get, random keys");
    let mut ten = Row::new("get_many(10)");
    let mut write = Row::new("kvstore/put, random keys");
    for _ in 0..ROUND_COUNT {
        raw.round(CALL_COUNT, |call| map.get(data.random_key(call)));
        direct.round(CALL_COUNT, |call| get_direct(run, data.random_key(call)));
        borrowed.round(CALL_COUNT, |call| kv_get(run, data.random_key(call)));
        copied.round(CALL_COUNT, |call| kv_get_copied(run, data.random_key(call)));
        ten.round(CALL_COUNT / 10, |call| get_ten(run, data, call));
        let other = Fixture::in_memory();
        write.round(CALL_COUNT, |call| {
            other
                .run
                .kv()
                .put(other.data.random_key(call), &other.data.value)
                .expect("commits");
        });
    }
    let rows = vec![
        (direct, 0.5, None),
        (borrowed, 5.0, Some(10.0)),
        (copied, 5.0, Some(10.0)),
        (ten, 50.0, None),
        (write, 5.0, Some(20.0)),
    ];
    section("reads, and uniform random puts", &watch, Some(raw), rows);
    let view: Vec<f64> = (0..ROUND_COUNT)
        .map(|_| {
            ns_per_call(1_000_000, |_| {
                std::hint::black_box(run.read_view());
            })
        })
        .collect();
    let ns = median(&view);
    let verdict = match ns {
        ns if 2000.0 < ns => "RED FLAG",
        ns if 500.0 < ns => "MISSED",
        _ => "met",
    };
    println!("read view acquisition: {ns:.1} ns  < 500 ns: {verdict}");
}

fn buffered(directory: &Path) {
    let watch = CpuWatch::begin();
    let mut direct = Row::new("engine/put_direct");
    let mut facade = Row::new("kvstore/put");
    let mut commit = Row::new("commit(), apply included");
    let mut open_loop = Distribution::new();
    for _ in 0..ROUND_COUNT {
        let fixture = Fixture::persistent(directory, DurabilityMode::buffered_default());
        let (run, data) = (&fixture.run, &fixture.data);
        direct.round(BUFFERED_CALL_COUNT, |call| put_direct(run, data, call));
        facade.round(BUFFERED_CALL_COUNT, |call| kv_put(run, data, call));
        commit_round(&fixture, BUFFERED_CALL_COUNT, &mut commit);
        offer(&fixture, &mut open_loop);
    }
    let rate = 1e9 / median(&facade.wall_ns);
    let rows = vec![
        (direct, 20.0, None),
        (facade, 30.0, None),
        (commit, 30.0, None),
    ];
    section("Buffered", &watch, None, rows);
    let verdict = if rate < 50_000.0 { "MISSED" } else { "met" };
    println!("throughput, 1 client: {rate:.0} ops/s  >= 50000: {verdict}");
    println!(
        "kvstore/put, open loop, {OPEN_LOOP_RATE} ops/s offered: {}",
        open_loop.summary()
    );
}

/// An open loop: a call's time begins when it was due, so what waits behind a stall is counted.
fn offer(fixture: &Fixture, latencies: &mut Distribution) {
    let interval = Duration::from_secs(1) / OPEN_LOOP_RATE;
    let started = Instant::now();
    for call in 0..OPEN_LOOP_RATE / 4 {
        let due = started + interval * call;
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        kv_put(&fixture.run, &fixture.data, call as usize);
        latencies.record(due.elapsed());
    }
}

fn strict(directory: &Path) {
    let watch = CpuWatch::begin();
    let mut device = RawDevice::new(directory);
    let mut raw = Distribution::new();
    let mut facade = Row::new("kvstore/put, 1 client");
    let mut shared_ns = Vec::new();
    let mut flush_count = 0;
    for _ in 0..ROUND_COUNT {
        measure_raw(&mut device, &mut raw);
        let fixture = Fixture::persistent(directory, DurabilityMode::Strict);
        let (run, data) = (&fixture.run, &fixture.data);
        let before = device_flush_count(directory);
        facade.round(STRICT_CALL_COUNT, |call| kv_put(run, data, call));
        flush_count += device_flush_count(directory) - before;
        let rate = throughput(16, STRICT_CALL_COUNT, |thread, call| {
            kv_put(run, data, thread * 100 + call);
        });
        shared_ns.push(1e9 / rate);
    }
    let (one, many) = (median(&facade.wall_ns), median(&shared_ns));
    let one_us = facade.latencies.us(0.5);
    section("Strict", &watch, None, vec![(facade, 2000.0, None)]);
    println!(
        "raw sync latency of the device (direct dsync, one block): {}",
        raw.summary()
    );
    println!("Strict put / raw sync, p50: {:.2} x", one_us / raw.us(0.5));
    let put_count = ROUND_COUNT * calls_of_round(STRICT_CALL_COUNT);
    let flushes = flush_count as f64 / put_count as f64;
    println!("flushes the device counted per put, those of others included: {flushes:.2}");
    if one_us < 0.5 * raw.us(0.05) || flushes < 1.0 {
        println!("SUSPECT: faster than the device, or without its flushes");
    }
    println!(
        "throughput: 1 client {:.0} ops/s, 16 client threads {:.0} ops/s",
        1e9 / one,
        1e9 / many
    );
}

/// A codec's rounds.
#[derive(Default)]
struct Stored {
    buffered_ns: Vec<f64>,
    strict_ns: Vec<f64>,
    log_len_bytes: Vec<f64>,
}

impl Stored {
    /// Buffered puts with the flush behind them, then Strict ones, in databases of their own.
    fn round(&mut self, directory: &Path, codec: &str) {
        let fixture = Fixture::stored(directory, DurabilityMode::buffered_default(), codec);
        let begun = Instant::now();
        (0..BUFFERED_CALL_COUNT).for_each(|call| kv_put(&fixture.run, &fixture.data, call));
        fixture.database.flush().expect("flushes");
        let ns = begun.elapsed().as_nanos() as f64;
        self.buffered_ns.push(ns / BUFFERED_CALL_COUNT as f64);
        let len_bytes = fixture.database.log_len_bytes_behind_snapshot();
        self.log_len_bytes.push(len_bytes as f64);
        let fixture = Fixture::stored(directory, DurabilityMode::Strict, codec);
        let begun = Instant::now();
        (0..STRICT_CALL_COUNT).for_each(|call| kv_put(&fixture.run, &fixture.data, call));
        let ns = begun.elapsed().as_nanos() as f64;
        self.strict_ns.push(ns / STRICT_CALL_COUNT as f64);
    }

    fn print(&self, codec: &str, plain: &Self) {
        let of = |rounds: &Vec<f64>, plain: &Vec<f64>| (median(rounds), median(plain));
        let (buffered, plain_buffered) = of(&self.buffered_ns, &plain.buffered_ns);
        let (strict, plain_strict) = of(&self.strict_ns, &plain.strict_ns);
        let (len, plain_len) = of(&self.log_len_bytes, &plain.log_len_bytes);
        println!(
            "{codec:<16} Buffered and flushed {:.0} ops/s ({:.2} x the time of identity); Strict, \
             1 client {:.0} ops/s ({:.2} x); log {:.1} MB ({:.2} x)",
            1e9 / buffered,
            buffered / plain_buffered,
            1e9 / strict,
            strict / plain_strict,
            len / 1e6,
            len / plain_len,
        );
    }
}

/// What a codec costs a put, and saves of the log. All values are alike: no data saves more.
fn codecs(directory: &Path) {
    let watch = CpuWatch::begin();
    let mut found: Vec<Stored> = CODEC_NAMES.iter().map(|_| Stored::default()).collect();
    // One after the other within each round: what the machine does meanwhile meets all of them.
    for _ in 0..ROUND_COUNT {
        for (codec, stored) in CODEC_NAMES.iter().zip(&mut found) {
            stored.round(directory, codec);
        }
    }
    let foreign = 100.0 * watch.foreign_share();
    println!("\n## codecs, kvstore/put; others used {foreign:.0} % of the CPUs");
    let Some(plain) = found.first() else { return };
    for (codec, stored) in CODEC_NAMES.iter().zip(&found) {
        stored.print(codec, plain);
    }
}

/// The device alone, written by a thread that is scheduled like the log thread.
fn measure_raw(device: &mut RawDevice, latencies: &mut Distribution) {
    thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            short_slice();
            device.measure(Duration::from_millis(200), latencies)
        });
        measuring.join().expect("the device takes writes");
    });
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured: run with cargo bench");
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("{}\nprofile: {}", machine_line(place.path()), profile());
    println!(
        "one reading of the clock: {:.0} ns, contained in every latency and in no mean; \
         {ROUND_COUNT} rounds of {CALL_COUNT} calls in memory",
        clock_ns()
    );
    // A thread of its own, as a client would have: the main thread's stack is grown on demand.
    let measured = thread::scope(|scope| {
        scope
            .spawn(|| {
                in_memory_writes();
                reads();
                buffered(place.path());
                strict(place.path());
                codecs(place.path());
            })
            .join()
    });
    measured.expect("every operation succeeds");
}
