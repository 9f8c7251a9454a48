//! The same kills under worker processes that use the Python client: what they were told is held
//! against what is recovered by the same checker, and what they repeat has one effect.
//!
//! Half of the workers block and half are asyncio; all of them number their writes. A machine
//! without Python skips these tests, saying so.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use in_mem_client::check::Mode;
use rustix::process::Signal;

use crate::kill::daemon::{DEADLINE, Daemon, Place, spawn_bound};
use crate::kill::dump::connect;
use crate::life::{Life, Manner, SEGMENT_LEN_BYTES, ended_by};
use crate::python_environment::{environment, package};
use crate::scale::{scaled, start_seed};

/// Worker processes of a life.
const WORKER_COUNT: u32 = 4;

/// Kills of one life, which go on in the same directory.
const KILL_COUNT: u64 = 8;

/// Commits that must have been acknowledged before a kill.
const ACKED_COUNT_MIN: u64 = 100;

/// Answers each worker that adds has got before the daemon is killed.
const ANSWER_COUNT: usize = 6;

/// The interpreter, if this machine has what the client needs; else says what it lacks.
fn interpreter() -> Option<PathBuf> {
    match environment() {
        Ok(environment) => Some(environment.join("bin/python")),
        Err(lacking) => {
            println!("SKIPPED: needs {lacking}");
            None
        }
    }
}

/// A worker that is still to be told what to do.
fn worker(interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash_harness/worker.py"))
        .env("PYTHONPATH", package().join("src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONHASHSEED", "0")
        .env_remove("INMEM_SOCKET");
    command
}

/// What the kills came to.
#[derive(Debug, Default)]
struct Figures {
    kill_count: u64,
    /// Those with a request in flight and enough acknowledged commits since the start.
    counted: u64,
    acked_count: usize,
    required_count: usize,
    unknown_count: usize,
    unknown_found_count: usize,
    again_count: u64,
}

/// 24 kills in the ordinary run, 2,000 in a soak.
pub fn kills_under_python_workers() {
    let Some(interpreter) = interpreter() else {
        return;
    };
    let wanted_count = scaled(4, 24, 2_000);
    let (seed, mut figures) = (start_seed(), Figures::default());
    println!("seed {seed}, at least {wanted_count} kills under Python workers");
    let manners = [
        Manner::new(Mode::Strict, 5),
        Manner::new(Mode::Buffered, 0),
        Manner::new(Mode::Strict, 0),
    ];
    let mut manners = manners.into_iter().cycle().zip(seed..);
    while figures.counted < wanted_count {
        assert!(figures.kill_count < 3 * wanted_count, "{figures:?}");
        let (manner, seed) = manners.next().expect("there is always another");
        let kill_count = KILL_COUNT.min(wanted_count - figures.counted);
        lead(&interpreter, manner, seed, kill_count, &mut figures);
    }
    println!("{figures:?}");
}

/// One life through its kills.
fn lead(interpreter: &Path, manner: Manner, seed: u64, kill_count: u64, figures: &mut Figures) {
    let manner = Manner {
        client_count: WORKER_COUNT,
        ..manner
    };
    let (life, mut daemon) = Life::begin(manner, seed);
    let mut life = life.with_crew(|| worker(interpreter));
    for kill in 0..kill_count {
        life.work(ACKED_COUNT_MIN);
        assert!(ended_by(daemon.kill(), Signal::KILL));
        // Before the next daemon: a worker that found it would repeat its writes over there.
        let history = life.take_history();
        daemon = Daemon::start(&life.place);
        let verified = life.verify(&history);
        let is_counted =
            verified.in_flight_count != 0 && ACKED_COUNT_MIN <= verified.summary.acked_count as u64;
        figures.kill_count += 1;
        figures.counted += u64::from(is_counted);
        figures.acked_count += verified.summary.acked_count;
        figures.required_count += verified.summary.required_count;
        figures.unknown_count += verified.summary.unknown_count;
        figures.unknown_found_count += verified.summary.unknown_found_count;
        if kill % 4 == 3 {
            daemon.kill();
            daemon = Daemon::start(&life.place);
            life.verify_again();
            figures.again_count += 1;
        }
    }
    assert!(
        daemon.terminate().success(),
        "the last daemon stops cleanly"
    );
}

/// What one worker was told.
#[derive(Debug, Default)]
struct Added {
    /// The sums of the shared counter.
    sums: Vec<i64>,
    /// What it added to the counter of its own.
    own_count: i64,
}

/// Listens to a worker that adds, until its end.
fn listen(mut child: Child, number: usize, told: &Sender<usize>) -> Added {
    let mut added = Added::default();
    let stdout = child.stdout.take().expect("piped");
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        match line.strip_prefix("A ") {
            Some(sum) => added.sums.push(sum.parse().expect("a number")),
            None => added.own_count += 1,
        }
        // The test may have stopped listening.
        let _ = told.send(number);
    }
    assert!(child.wait().unwrap().success(), "worker {number} ends well");
    added
}

/// Waits until every worker was answered anew.
fn wait_for_all(told: &Receiver<usize>) {
    while told.try_recv().is_ok() {}
    let mut counts = [0; WORKER_COUNT as usize];
    while counts.iter().any(|count| *count < ANSWER_COUNT) {
        let number = told.recv_timeout(DEADLINE).expect("the workers go on");
        counts[number] += 1;
    }
}

/// Every addition that was answered is in once, each with the answer of its own, and none has an
/// unknown outcome, though the daemon is killed while they are on their way.
pub fn additions_through_kills_have_one_effect_each() {
    let Some(interpreter) = interpreter() else {
        return;
    };
    let kill_count = scaled(2, 5, 500);
    for mode in [Mode::Buffered, Mode::Strict] {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), mode, SEGMENT_LEN_BYTES);
        let mut daemon = Daemon::start(&place);
        let (teller, told) = channel();
        let (added, _daemon) = std::thread::scope(|scope| {
            // Closed when this ends, however it ends: that tells the workers to stop, too.
            let mut stops = Vec::new();
            // They die with the thread that starts them, so not those that listen.
            let listeners: Vec<_> = (0..WORKER_COUNT as usize)
                .map(|number| {
                    let mut command = worker(&interpreter);
                    command
                        .arg("once")
                        .arg(place.socket())
                        .arg(number.to_string());
                    command.stdin(Stdio::piped()).stdout(Stdio::piped());
                    let mut child = spawn_bound(&mut command).expect("a worker starts");
                    stops.push(child.stdin.take().unwrap());
                    let teller = teller.clone();
                    scope.spawn(move || listen(child, number, &teller))
                })
                .collect();
            for _ in 0..kill_count {
                wait_for_all(&told);
                assert!(ended_by(daemon.kill(), Signal::KILL));
                daemon = Daemon::start(&place);
            }
            wait_for_all(&told);
            drop(stops);
            let joined = listeners.into_iter().map(|listener| listener.join());
            let added = joined.map(|added| added.expect("a worker ends well"));
            (added.collect::<Vec<Added>>(), daemon)
        });
        let client = connect(&place.socket());
        let sums: Vec<i64> = added.iter().flat_map(|it| it.sums.clone()).collect();
        let different: BTreeSet<i64> = sums.iter().copied().collect();
        assert_eq!(different.len(), sums.len(), "no two got one answer");
        let total = client.kv().get::<i64>("shared").unwrap();
        assert_eq!(total, i64::try_from(sums.len()).ok(), "one effect each");
        let own = client.kv().get::<i64>("own/3").unwrap();
        assert_eq!(own, Some(added[3].own_count), "one commit each");
        println!("{mode:?}: {kill_count} kills, {} additions", sums.len());
    }
}
