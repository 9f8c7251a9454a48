//! How long clients wait for a daemon that was killed with a full segment of log.

use std::time::{Duration, Instant};

use in_mem_client::model::Durability;
use rustix::process::Signal;

use crate::kill::daemon::{Daemon, Place};
use crate::kill::dump::connect;
use crate::life::ended_by;
use in_mem_client::check::Mode;

/// Length of the log, bytes.
const LOG_LEN_BYTES: u64 = 64 << 20;

/// Length of a value, bytes.
const VALUE_LEN_BYTES: usize = 200;

/// Puts on their way at once.
const PIPELINE_COUNT: u64 = 500;

/// Different keys.
const KEY_COUNT: u64 = 20_000;

/// Longest time from the start of the process until it is ready.
const RESTART_MAX: Duration = Duration::from_secs(1);

/// Restarts measured: the fastest counts.
const ROUND_COUNT: usize = 5;

/// The log fills one segment of 64 MiB with small commits and has begun the next.
pub fn recovery_takes_less_than_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path(), Mode::Buffered, LOG_LEN_BYTES);
    let daemon = Daemon::start(&place);
    let count = fill(&place);
    assert!(ended_by(daemon.kill(), Signal::KILL));
    let mut fastest = Duration::MAX;
    for _ in 0..ROUND_COUNT {
        let started = Instant::now();
        let daemon = Daemon::start(&place);
        let taken = started.elapsed();
        // What it waits for others is not what it takes.
        let waited = daemon.cpu_wait();
        let own = taken.saturating_sub(waited);
        let recovered = daemon.ready_number("recovered");
        println!(
            "{recovered} commits in {} ms, {} of them waiting for a CPU, {} in recovery",
            taken.as_millis(),
            waited.as_millis(),
            daemon.ready_number("recovery_us") / 1_000
        );
        assert_eq!(recovered, count, "every commit is recovered");
        fastest = fastest.min(own);
        daemon.kill();
    }
    assert!(
        fastest < RESTART_MAX,
        "the fastest restart took {fastest:?}"
    );
}

/// Puts until the log begins its second segment; how many commits it holds.
fn fill(place: &Place) -> u64 {
    let client = connect(&place.socket());
    let run = client.default_run().with_durability(Durability::Buffered);
    let segment = place.data_dir().join("WAL/wal-000002.seg");
    let value = ".".repeat(VALUE_LEN_BYTES);
    let mut count = 0;
    while !segment.exists() {
        let mut pipeline = run.pipeline();
        let tickets: Vec<_> = (0..PIPELINE_COUNT)
            .map(|index| {
                let key = format!("key/{}", (count + index) % KEY_COUNT);
                pipeline.put(&key, &value).expect("there is room")
            })
            .collect();
        let mut answers = pipeline.send().expect("the daemon answers");
        for ticket in tickets {
            answers.take(ticket).expect("the put commits");
        }
        count += PIPELINE_COUNT;
    }
    count
}
