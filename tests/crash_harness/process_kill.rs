//! An embedded database in a process that is killed, again and again in one directory: no daemon, no
//! socket, and nothing between the store and whoever is told.
//!
//! The worker is this program: `--db-dir DIR --iteration N`. It puts keys made of the iteration and a
//! counter, takes a checkpoint after every 100, and tells each version, in one write, before the
//! next put begins. After each kill every key of every iteration is looked at, without changing the
//! files, so that the next worker recovers what the kill left.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use in_mem_engine::model::{Value, encode};
use in_mem_engine::{Database, DatabaseBuilder, DurabilityMode};
use in_mem_wal::LogConfig;
use in_mem_wal::disk::SimRng;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::kill::daemon::{DEADLINE, spawn_bound, wait_readable};
use crate::life::SEGMENT_LEN_BYTES;
use crate::scale::{scaled, start_seed};

/// The first word of a worker's command line.
pub const WORD: &str = "--db-dir";

/// Puts between two checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// Shortest time a worker lives, milliseconds.
const DELAY_MS_MIN: u64 = 10;

/// How a worker ends.
#[derive(Debug, Clone, Copy)]
enum CrashType {
    /// SIGKILL.
    ProcessKill,
    /// SIGABRT.
    ProcessAbort,
}

/// A key that is not what it must be.
struct StateMismatch {
    entity: String,
    expected: String,
    actual: String,
}

impl fmt::Display for StateMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entity, expected, actual) = (&self.entity, &self.expected, &self.actual);
        writeln!(f, "{entity}: {expected} expected, {actual} found")
    }
}

/// What all iterations came to.
#[derive(Default)]
struct CrashTestResult {
    iteration_count: u64,
    acked_count: usize,
    /// Puts that nobody was told of and that are there.
    kept_in_flight_count: usize,
    /// By iteration.
    failures: BTreeMap<u64, Vec<StateMismatch>>,
}

impl CrashTestResult {
    fn all_passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Iterations that failed, of 1.
    fn failure_rate(&self) -> f64 {
        self.failures.len() as f64 / self.iteration_count.max(1) as f64
    }
}

/// Keys with the versions their workers were told.
type Model = BTreeMap<String, u64>;

fn builder(dir: &Path) -> DatabaseBuilder {
    let segment_len_bytes = u32::try_from(SEGMENT_LEN_BYTES).unwrap();
    let log = LogConfig {
        segment_len_bytes,
        buffered_sync_len_bytes: segment_len_bytes,
        ..LogConfig::default()
    };
    Database::builder()
        .path(dir)
        .wal_config(log)
        .durability(DurabilityMode::Strict)
}

fn key(iteration: u64, counter: u64) -> String {
    format!("{iteration:06}/{counter:06}")
}

/// The worker. Ends only when it is killed, or nobody listens.
pub fn main(words: &[String]) -> ExitCode {
    let dir = PathBuf::from(&words[1]);
    let iteration: u64 = words[3].parse().expect("--iteration N");
    let database = builder(&dir).open().expect("it recovers");
    let run = database.default_run();
    let mut out = std::io::stdout();
    for counter in 0.. {
        let key = key(iteration, counter);
        let value = encode(&Value::from(key.as_str())).unwrap();
        let version = run.kv().put(&key, &value).expect("committed");
        if out
            .write_all(format!("{key} {version}\n").as_bytes())
            .is_err()
        {
            return ExitCode::SUCCESS;
        }
        if counter % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
            database.checkpoint().expect("taken");
        }
    }
    ExitCode::FAILURE
}

/// Kills a worker after a random time, over and over.
pub fn killed_workers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.inmem");
    let mut rng = SimRng::new(start_seed());
    let iteration_count = scaled(10, 100, 1_000);
    let delay_ms_max = scaled(50, 50, 1_000);
    println!("seed {}, {iteration_count} iterations", start_seed());
    drop(builder(&path).create().expect("created"));
    let (mut model, mut result) = (Model::new(), CrashTestResult::default());
    for iteration in 0..iteration_count {
        let delay_ms = DELAY_MS_MIN + rng.below(delay_ms_max - DELAY_MS_MIN + 1);
        let crash = match rng.below(4) {
            0 => CrashType::ProcessAbort,
            _ => CrashType::ProcessKill,
        };
        let told = run_worker(&path, iteration, Duration::from_millis(delay_ms), crash);
        result.acked_count += told.len();
        model.extend(told);
        let mismatches = compare(&path, &mut model, iteration, &mut result);
        if !mismatches.is_empty() {
            println!("iteration {iteration}, {crash:?} after {delay_ms} ms:");
            mismatches.iter().for_each(|mismatch| print!("{mismatch}"));
            result.failures.insert(iteration, mismatches);
        }
        result.iteration_count += 1;
    }
    lies_are_caught(&path, &model, iteration_count);
    println!(
        "{iteration_count} kills, {} commits acknowledged, {} in flight kept, failure rate {}",
        result.acked_count,
        result.kept_in_flight_count,
        result.failure_rate()
    );
    assert!(result.all_passed(), "failed: {:?}", result.failures.keys());
    assert!(
        iteration_count <= result.acked_count as u64,
        "the workers worked"
    );
}

/// A key that was told and is not there, one that is there and was not told, and a wrong version.
fn lies_are_caught(dir: &Path, model: &Model, iteration: u64) {
    let result = &mut CrashTestResult::default();
    let (first, _) = model.first_key_value().expect("somebody was told");
    let (mut missing, mut extra, mut other) = (model.clone(), model.clone(), model.clone());
    missing.insert("never".to_owned(), 1);
    extra.remove(first);
    other.insert(first.clone(), 0);
    for mut lie in [missing, extra, other] {
        let mismatches = compare(dir, &mut lie, iteration, result);
        assert_eq!(mismatches.len(), 1);
    }
}

/// Runs one worker for so long behind its first ack; what it was told.
fn run_worker(dir: &Path, iteration: u64, delay: Duration, crash: CrashType) -> Model {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(WORD).arg(dir);
    command.arg("--iteration").arg(iteration.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = spawn_bound(&mut command).expect("a worker starts");
    let pid = Pid::from_child(&child);
    let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    // A time that begins before the recovery would hit nothing else on a slow machine.
    let mut first = String::new();
    lines.read_line(&mut first).expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = first;
        // Read as it comes: a full pipe would stop the worker.
        std::io::Read::read_to_string(&mut lines, &mut text).expect("plain text");
        text
    });
    let is_over = wait_readable(&[std::os::fd::AsFd::as_fd(&end)], Instant::now() + delay);
    assert!(!is_over, "the worker ended by itself");
    let signal = match crash {
        CrashType::ProcessKill => Signal::KILL,
        CrashType::ProcessAbort => Signal::ABORT,
    };
    // Not reaped yet, so the id is still its own.
    kill_process(pid, signal).expect("it lives");
    let deadline = Instant::now() + DEADLINE;
    assert!(
        wait_readable(&[std::os::fd::AsFd::as_fd(&end)], deadline),
        "it ends"
    );
    let status = child.wait().unwrap();
    assert!(crate::life::ended_by(status, signal), "{status}");
    let text = reader.join().expect("no panic");
    // What follows the last line break was not told whole.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(key, version)| (key.to_owned(), version.parse().expect("a version")))
        .collect()
}

/// Everything in the database against the model, which then knows what was kept in flight.
fn compare(
    dir: &Path,
    model: &mut Model,
    iteration: u64,
    result: &mut CrashTestResult,
) -> Vec<StateMismatch> {
    let database = builder(dir).read_only().open().expect("it opens");
    let run = database.default_run();
    let found = run.kv().list_with_values("").expect("readable");
    let mut mismatches = Vec::new();
    let mut mismatch = |entity: &str, expected: String, actual: String| {
        let entity = entity.to_owned();
        mismatches.push(StateMismatch {
            entity,
            expected,
            actual,
        });
    };
    let told_of_it = model.range(key(iteration, 0)..).count() as u64;
    let in_flight = key(iteration, told_of_it);
    let mut shown = Model::new();
    for (key, shown_value) in found {
        let key = String::from_utf8(key).expect("keys are UTF-8");
        let shown_version = run.kv().get_versioned(&key).expect("readable");
        let shown_version = shown_version.map_or(0, |found| found.version);
        let value = encode(&Value::from(key.as_str())).unwrap();
        if shown_value != value.as_bytes() {
            mismatch(&key, "its own name".to_owned(), format!("{shown_value:?}"));
        }
        match model.get(&key) {
            Some(version) if *version == shown_version => {}
            None if key == in_flight => result.kept_in_flight_count += 1,
            expected => mismatch(&key, format!("{expected:?}"), shown_version.to_string()),
        }
        shown.insert(key, shown_version);
    }
    for (key, version) in &*model {
        if !shown.contains_key(key) {
            mismatch(key, version.to_string(), "nothing".to_owned());
        }
    }
    *model = shown;
    mismatches
}
