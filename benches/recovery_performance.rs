//! How long a checkpoint takes, and a database to open again: from its log, from a snapshot, from
//! both; what that costs in memory, and what others wait meanwhile.
//!
//! Each row writes so many keys with values of 100 bytes, closes the database, and times the open:
//! scan, load, replay, and the durable rewrite of the log's tail. The reopened database is checked
//! against what was written. `IN_MEM_BENCH_GB=1` adds the rows of 1 GB, which need 8 GB of memory and
//! 5 GB of disk; `cargo bench --bench recovery_performance -- snapshots` runs one of the parts `logs`,
//! `snapshots`, `recovery` and `waits`.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use in_mem_engine::model::Durability;
use in_mem_engine::{Database, DurabilityMode, Run};
use support::fixture::Data;
use support::machine::{machine_line, profile};
use support::neighbours::CpuWatch;
use support::rounds::{Distribution, median, spread};
use tempfile::TempDir;

const ROUND_COUNT: usize = 3;

/// Bytes of values, keys, seconds of the red flags: checkpoint and load.
const SIZES: [(&str, usize, f64, f64); 3] = [
    ("10 MB", 100_000, 10.0, 6.0),
    ("100 MB", 1_000_000, 10.0, 6.0),
    ("1 GB", 10_000_000, 100.0, 60.0),
];

/// Records in the log, seconds of the red flag.
const LOGS: [(usize, f64); 3] = [(10_000, 3.0), (100_000, 30.0), (1_000_000, 300.0)];

/// Records behind a snapshot.
const TAIL_COUNT: usize = 10_000;

/// A database that is closed, and how many keys it has.
struct Closed {
    _place: TempDir,
    path: PathBuf,
    key_count: usize,
}

impl Closed {
    /// Makes one; with a snapshot behind the first `snapshot_at` puts, if there are as many.
    fn new(directory: &Path, data: &Data, key_count: usize, snapshot_at: Option<usize>) -> Self {
        let place = tempfile::tempdir_in(directory).expect("a directory");
        let path = place.path().join("bench.inmem");
        let database = open_buffered(&path);
        let run = database.default_run();
        for number in 0..key_count {
            if snapshot_at == Some(number) {
                database.checkpoint().expect("a snapshot");
            }
            put(&run, data, number);
        }
        if snapshot_at == Some(key_count) {
            database.checkpoint().expect("a snapshot");
        }
        drop(run);
        database.shutdown().expect("shuts down");
        Self {
            _place: place,
            path,
            key_count,
        }
    }

    /// Seconds until a database takes commits again, and what it then takes of memory, MiB.
    fn reopen(&self) -> (f64, f64) {
        let before = resident_mib();
        let started = Instant::now();
        let database = Database::open(&self.path).expect("opens again");
        let seconds = started.elapsed().as_secs_f64();
        let taken = resident_mib() - before;
        let run = database.default_run();
        for number in (0..self.key_count).step_by(97) {
            let found = run.kv().contains(key_of(number)).expect("a valid key");
            assert!(found, "everything came back");
        }
        (seconds, taken)
    }
}

fn open_buffered(path: &Path) -> Database {
    let builder = Database::builder().path(path);
    let builder = builder.durability(DurabilityMode::buffered_default());
    builder.open().expect("opens")
}

fn key_of(number: usize) -> String {
    format!("key-{number:012}")
}

fn put(run: &Run, data: &Data, number: usize) {
    run.kv()
        .put(key_of(number), &data.value)
        .expect("a valid put");
}

fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.expect("the kernel says it") / 1024.0
}

fn verdict(seconds: f64, red_flag: f64) -> &'static str {
    if red_flag < seconds {
        "RED FLAG"
    } else {
        "met"
    }
}

/// Prints a row of seconds for `count` things.
fn row(name: &str, count: usize, figures: &[f64], red_flag: f64, watch: &CpuWatch) {
    let seconds = median(figures);
    println!(
        "{name:<44} {seconds:>8.3} s  {:>10.0}/s  rounds {:>3.0} % apart  < {red_flag} s: {}; others \
         used {:.0} % of the CPUs",
        count as f64 / seconds,
        100.0 * spread(figures),
        verdict(seconds, red_flag),
        100.0 * watch.foreign_share()
    );
}

fn logs(directory: &Path, data: &Data) {
    for (count, red_flag) in LOGS {
        let watch = CpuWatch::begin();
        let closed = Closed::new(directory, data, count, None);
        let figures: Vec<f64> = (0..ROUND_COUNT).map(|_| closed.reopen().0).collect();
        let name = format!("log replay, {count} records");
        row(&name, count, &figures, red_flag, &watch);
    }
}

fn snapshots(directory: &Path, data: &Data, sizes: &[(&str, usize, f64, f64)]) {
    for &(size, count, checkpoint_flag, load_flag) in sizes {
        let watch = CpuWatch::begin();
        let closed = Closed::new(directory, data, count, Some(count));
        let opened: Vec<(f64, f64)> = (0..ROUND_COUNT).map(|_| closed.reopen()).collect();
        let loads: Vec<f64> = opened.iter().map(|opened| opened.0).collect();
        let name = format!("snapshot load, {size}, {count} keys");
        row(&name, count, &loads, load_flag, &watch);
        let taken = opened.first().map_or(0.0, |opened| opened.1);
        let per_key = taken * 1024.0 * 1024.0 / count as f64;
        println!("    {taken:.0} MiB of memory, {per_key:.0} bytes a key with its value of 100");
        let database = open_buffered(&closed.path);
        let before = resident_mib();
        let mut highest = before;
        let watch = CpuWatch::begin();
        let figures: Vec<f64> = (0..ROUND_COUNT)
            .map(|_| {
                let started = Instant::now();
                let info = database.checkpoint().expect("a snapshot");
                highest = highest.max(resident_mib());
                let _ = info;
                started.elapsed().as_secs_f64()
            })
            .collect();
        let name = format!("checkpoint, {size}, {count} keys");
        row(&name, count, &figures, checkpoint_flag, &watch);
        println!(
            "    {:.0} MiB of memory more behind it",
            (highest - before).max(0.0)
        );
    }
}

fn snapshot_and_tail(directory: &Path, data: &Data) {
    let watch = CpuWatch::begin();
    let (size, count, ..) = SIZES[1];
    let closed = Closed::new(directory, data, count + TAIL_COUNT, Some(count));
    let figures: Vec<f64> = (0..ROUND_COUNT).map(|_| closed.reopen().0).collect();
    let name = format!("recovery, snapshot of {size} and {TAIL_COUNT} records");
    row(&name, count + TAIL_COUNT, &figures, 10.0, &watch);
}

/// What gets and Strict puts wait while snapshots are taken, one after another, and without.
fn waits(directory: &Path, data: &Data) {
    let (size, count, ..) = SIZES[1];
    let closed = Closed::new(directory, data, count, None);
    let database = Database::builder()
        .path(&closed.path)
        .open()
        .expect("opens");
    for is_checkpointing in [false, true] {
        let is_over = AtomicBool::new(false);
        let (mut gets, mut puts) = (Distribution::new(), Distribution::new());
        let mut taken = 0;
        std::thread::scope(|scope| {
            let gets = &mut gets;
            let puts = &mut puts;
            scope.spawn(|| get_until(&database, &is_over, gets));
            scope.spawn(|| put_until(&database, data, &is_over, puts));
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end {
                if is_checkpointing {
                    database.checkpoint().expect("a snapshot");
                    taken += 1;
                } else {
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let beside = match taken {
            0 => "alone".to_owned(),
            taken => format!("beside {taken} checkpoints of {size}"),
        };
        println!("get        {beside:<34} {}", gets.summary());
        println!("Strict put {beside:<34} {}", puts.summary());
    }
}

fn get_until(database: &Database, is_over: &AtomicBool, latencies: &mut Distribution) {
    let run = database.default_run();
    let keys: Vec<String> = (0..4_096).map(|number| key_of(number * 61)).collect();
    for key in keys.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let started = Instant::now();
        let found = run.kv().contains(key).expect("a valid key");
        latencies.record(started.elapsed());
        assert!(found);
        // One call in a while: it shares its CPU.
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

fn put_until(database: &Database, data: &Data, is_over: &AtomicBool, latencies: &mut Distribution) {
    let run = database.default_run();
    let kv = run.kv().with_durability(Durability::Strict);
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let key = key_of(number % 1_000);
        let started = Instant::now();
        kv.put(key, &data.value).expect("a valid put");
        latencies.record(started.elapsed());
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured: run with cargo bench");
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("{}\nprofile: {}", machine_line(place.path()), profile());
    let data = Data::new();
    let is_large = std::env::var_os("IN_MEM_BENCH_GB").is_some();
    let sizes = if is_large { &SIZES[..] } else { &SIZES[..2] };
    let wanted = std::env::args()
        .nth(1)
        .filter(|name| !name.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if is_wanted("logs") {
        logs(place.path(), &data);
    }
    if is_wanted("snapshots") {
        snapshots(place.path(), &data, sizes);
    }
    if is_wanted("recovery") {
        snapshot_and_tail(place.path(), &data);
    }
    if is_wanted("waits") {
        waits(place.path(), &data);
    }
}
