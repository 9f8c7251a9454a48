//! The bench: what it prints, what it counts, and that it sees a daemon that pauses.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use in_mem_client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::store::{Answer, DEADLINE, Store, inmem, wait};

/// The keys of the last line, in their order.
const KEYS: [&str; 18] = [
    "op",
    "mode",
    "clients",
    "processes",
    "depth",
    "value_size",
    "keys",
    "runs",
    "seconds",
    "ops",
    "errors",
    "ops_per_second",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "loop",
    "offered_per_second",
];

fn bench(store: &Store, words: &[&str]) -> Answer {
    store.ask(
        &[
            &["bench", "--json", "--seconds", "1", "--keys", "100"],
            words,
        ]
        .concat(),
    )
}

fn figures(answer: &Answer) -> Value {
    serde_json::from_str(answer.out.lines().last().unwrap()).unwrap()
}

/// The keys of an object as they stand in the text; none of its values holds a colon.
fn keys_in_order(object: &str) -> Vec<&str> {
    let fields = object.trim().trim_matches(['{', '}']).split(',');
    fields
        .map(|field| field.split(':').next().unwrap().trim_matches('"'))
        .collect()
}

#[test]
fn the_bench_prints_its_figures_under_fixed_names_in_a_fixed_order() {
    let store = Store::start();
    let words = ["--op", "mixed", "--mode", "inmemory", "--clients", "4"];
    let answer = bench(
        &store,
        &[&words[..], &["--depth", "3", "--runs", "2"]].concat(),
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(keys_in_order(answer.out.lines().last().unwrap()), KEYS);
    let figures = figures(&answer);
    for (name, expected) in [("op", "mixed"), ("mode", "inmemory"), ("loop", "closed")] {
        assert_eq!(figures[name], expected);
    }
    for (name, expected) in [
        ("clients", 4),
        ("processes", 1),
        ("depth", 3),
        ("value_size", 100),
    ] {
        assert_eq!(figures[name], expected, "{name}");
    }
    for (name, expected) in [("keys", 100), ("runs", 2), ("seconds", 1), ("errors", 0)] {
        assert_eq!(figures[name], expected, "{name}");
    }
    assert_eq!(figures["offered_per_second"], Value::Null);
    let ops = figures["ops"].as_u64().unwrap();
    assert!(100 < ops, "{figures}");
    assert_eq!(figures["ops_per_second"].as_f64().unwrap(), ops as f64);
    let latencies =
        ["p50_us", "p99_us", "p999_us", "max_us"].map(|it| figures[it].as_f64().unwrap());
    assert!(0.0 < latencies[0] && latencies.is_sorted(), "{figures}");
}

#[test]
fn a_bench_over_several_processes_counts_what_the_daemon_committed_and_leaves_no_run_in_use() {
    let store = Store::start();
    let runs_before = store.json(&["runs"])["result"].clone();
    let answer = bench(
        &store,
        &["--mode", "buffered", "--clients", "5", "--processes", "3"],
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    let figures = figures(&answer);
    assert_eq!(
        (&figures["processes"], &figures["errors"]),
        (&3.into(), &0.into())
    );
    // The run was begun, ended and archived; the warm-up was not counted.
    let committed = commit_count(&Client::builder().socket(store.socket()).connect().unwrap());
    let ops = figures["ops"].as_u64().unwrap();
    assert!(0 < ops && ops + 3 <= committed, "{ops} of {committed}");
    assert_eq!(store.json(&["runs"])["result"], runs_before);
}

/// Commits of a daemon so far: their versions are dense.
fn commit_count(client: &Client) -> u64 {
    let measures = client.info().unwrap().measures;
    let version = measures.iter().find(|it| it.name == "commit_version");
    version.unwrap().value
}

/// Waits until the load has committed a thousand times.
fn wait_for_load(client: &Client) {
    let begin = Instant::now();
    while commit_count(client) < 1000 {
        assert!(begin.elapsed() < DEADLINE, "the load does not begin");
    }
}

#[test]
fn an_open_loop_counts_latencies_from_when_a_request_was_due_so_a_pause_shows() {
    let store = Store::start();
    let client = Client::builder().socket(store.socket()).connect().unwrap();
    let mut command = store.command(&["bench", "--json", "--mode", "buffered", "--clients", "2"]);
    command.args([
        "--depth",
        "8",
        "--rate",
        "2000",
        "--seconds",
        "3",
        "--keys",
        "100",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // The 1200th is due after the warm-up of 0.5 s. A machine too slow to get there in time is
    // late with everything, which is what is to be seen too.
    while commit_count(&client) < 1200 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let daemon = Pid::from_raw(i32::try_from(store.daemon_id()).unwrap()).unwrap();
    kill_process(daemon, Signal::STOP).unwrap();
    let pause = Instant::now();
    while pause.elapsed().as_millis() < 300 {
        std::thread::yield_now();
    }
    kill_process(daemon, Signal::CONT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let offered = &figures["offered_per_second"];
    assert_eq!((&figures["loop"], offered), (&"open".into(), &2000.into()));
    // 600 of 6000 requests were due in the pause, and the last of a hundred waited for nearly
    // all of it. Counted from when they were sent, only the 16 on their way would have waited.
    assert!(200_000.0 < figures["p99_us"].as_f64().unwrap(), "{figures}");
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_done() {
    let store = Store::start();
    for words in [
        &["--clients", "2", "--processes", "3"][..],
        &["--clients", "2", "--runs", "3"],
        &["--depth", "100000"],
        &["--depth", "0"],
        &["--rate", "0"],
        &["--op", "delete"],
        &["--run", "default"],
        &["--durability", "strict"],
    ] {
        let answer = bench(&store, words);
        assert_eq!(answer.code, 2, "{words:?}: {answer:?}");
        assert_eq!(answer.out, "", "{words:?}");
    }
    let mut nobody = inmem();
    nobody
        .args(["bench", "--socket"])
        .arg(store.dir.path().join("none"));
    let answer = Answer::of(nobody, b"");
    assert_eq!(answer.code, 30, "{answer:?}");
    assert!(answer.err.starts_with("{\"ok\":false"), "{answer:?}");
}

#[test]
fn a_daemon_that_dies_under_the_load_is_an_error_of_the_bench() {
    let mut store = Store::start();
    let client = Client::builder().socket(store.socket()).connect().unwrap();
    let mut command = store.command(&["bench", "--json", "--mode", "buffered", "--clients", "2"]);
    command.args(["--seconds", "60", "--keys", "100"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_load(&client);
    store.kill();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(2 <= figures["errors"].as_u64().unwrap(), "{figures}");
}

#[test]
fn an_interrupted_bench_ends_its_processes_and_its_run() {
    let store = Store::start();
    let client = Client::builder().socket(store.socket()).connect().unwrap();
    let mut command = store.command(&["bench", "--mode", "buffered", "--clients", "3"]);
    command.args(["--processes", "3", "--seconds", "60", "--keys", "100"]);
    let mut child = command.spawn().unwrap();
    wait_for_load(&client);
    let path = format!("/proc/{0}/task/{0}/children", child.id());
    let children = fs::read_to_string(path).unwrap();
    assert_eq!(children.split_whitespace().count(), 3, "{children}");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(wait(&mut child), 130);
    // They were reaped, so there is nothing of them.
    for child in children.split_whitespace() {
        assert!(!fs::exists(format!("/proc/{child}")).unwrap());
    }
    let runs = store.json(&["runs"]).to_string();
    assert!(!runs.contains("bench-"), "{runs}");
}
