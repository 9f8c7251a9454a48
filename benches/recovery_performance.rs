//! How long a database takes to open again, from its log alone.
//!
//! Each row writes a log of so many one-put records, closes the database, and times the open:
//! scan, replay, and the durable rewrite of the log's tail. The reopened database is checked
//! against what was written.

mod support;

use std::path::Path;
use std::time::Instant;

use in_mem_engine::{Database, DurabilityMode};
use support::fixture::{Data, KEY_COUNT};
use support::machine::{machine_line, profile};
use support::neighbours::CpuWatch;
use support::operations::kv_put;
use support::rounds::{median, spread};

const ROUND_COUNT: usize = 5;

/// Records in the log, seconds aimed at, seconds of the red flag.
const ROWS: [(usize, f64, f64); 2] = [(10_000, 1.0, 3.0), (100_000, 10.0, 30.0)];

/// Opens a log of `record_count` records; seconds until the database takes commits.
fn reopen_seconds(directory: &Path, data: &Data, record_count: usize) -> f64 {
    let place = tempfile::tempdir_in(directory).expect("a directory");
    let path = place.path().join("bench.inmem");
    let builder = Database::builder().path(&path);
    let database = builder
        .durability(DurabilityMode::buffered_default())
        .open()
        .expect("opens");
    let run = database.default_run();
    for call in 0..record_count {
        kv_put(&run, data, call);
    }
    drop(run);
    database.shutdown().expect("shuts down");
    drop(database);
    let started = Instant::now();
    let database = Database::open(&path).expect("opens again");
    let seconds = started.elapsed().as_secs_f64();
    let run = database.default_run();
    for key in &data.keys {
        assert!(
            run.kv().contains(key).expect("the key is valid"),
            "everything came back"
        );
    }
    seconds
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured: run with cargo bench");
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("{}\nprofile: {}", machine_line(place.path()), profile());
    let data = Data::new();
    assert!(
        ROWS.iter()
            .all(|(record_count, ..)| KEY_COUNT <= *record_count)
    );
    for (record_count, aim, red_flag) in ROWS {
        let watch = CpuWatch::begin();
        let figures: Vec<f64> = (0..ROUND_COUNT)
            .map(|_| reopen_seconds(place.path(), &data, record_count))
            .collect();
        let seconds = median(&figures);
        let verdict = match seconds {
            seconds if red_flag < seconds => "RED FLAG",
            seconds if aim < seconds => "MISSED",
            _ => "met",
        };
        println!(
            "log replay, {record_count} entries: {seconds:.3} s ({:.0} entries/s)  rounds {:.0} % \
             apart  < {aim} s: {verdict}; others used {:.0} % of the CPUs",
            record_count as f64 / seconds,
            100.0 * spread(&figures),
            100.0 * watch.foreign_share(),
        );
    }
}
