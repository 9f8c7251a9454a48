//! The demo: it proves what it says, it can fail, and it leaves nothing behind.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::store::{Answer, DEADLINE, inmem, lines_of, wait};

fn demo(dir: &std::path::Path) -> Command {
    let mut command = inmem();
    command
        .args(["demo", "--seconds", "2", "--seed", "7", "--dir"])
        .arg(dir);
    command
}

fn is_empty(dir: &std::path::Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn the_demo_proves_that_nothing_was_lost_and_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let answer = Answer::of(demo(dir.path()), b"");
    assert_eq!(answer.code, 0, "{answer:?}");
    for said in [
        "killed with SIGKILL under the load",
        "p50",
        "p99",
        "nothing acknowledged was lost",
    ] {
        assert!(answer.out.contains(said), "{said}: {}", answer.out);
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn the_demo_fails_when_one_acknowledged_commit_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = demo(dir.path());
    command.arg("--plant-loss");
    let answer = Answer::of(command, b"");
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(!answer.out.contains("nothing acknowledged was lost"));
    assert!(is_empty(dir.path()));
}

#[test]
fn an_interrupted_demo_ends_its_children_and_removes_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = demo(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = lines_of(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("workers work") {
        said = lines.recv_timeout(DEADLINE).expect("the workers begin");
    }
    let children = children_of(child.id());
    assert!(
        9 <= children.len(),
        "a daemon and eight workers: {children:?}"
    );
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(wait(&mut child), 130);
    let end = std::time::Instant::now() + DEADLINE;
    while children.iter().any(|child| is_running(*child)) {
        assert!(std::time::Instant::now() < end, "children are left");
        std::thread::yield_now();
    }
    assert!(is_empty(dir.path()));
}

fn children_of(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Whether a process runs; one that waits to be reaped does not.
fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| {
        let state = rest.trim_start().chars().next();
        state.is_some_and(|state| state != 'Z' && state != 'X')
    })
}
