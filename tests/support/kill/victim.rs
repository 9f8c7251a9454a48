//! A client process that is killed in the middle of its work, while its daemon lives on.
//!
//! What it had said before it died is in the pipe and is read to the end: every request it had
//! begun is known, and every answer it had seen. The wait before the kill is a part of the moment
//! that is tried, not a synchronisation: whatever the kill meets is looked up in what was said.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use in_mem_client::check::{Call, Outcome, Record};
use rustix::process::{Pid, Signal, kill_process};

use super::client_process::Orders;
use super::daemon::{DEADLINE, spawn_bound, wait_readable};

/// When a victim is killed.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// After it has told of so many requests or steps of transactions.
    pub told_count: u64,
    /// So long after that.
    pub wait: Duration,
}

/// Where in its work a client was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Between two requests.
    Between,
    /// Before the first request.
    Connecting,
    /// A read, a listing or a flush was on its way.
    Looking,
    /// One change was on its way.
    Write,
    /// Several requests were on their way.
    Pipeline,
    /// Several changes in one request were on their way.
    Batch,
    /// A transaction was being begun.
    Begin,
    /// A transaction had begun and read.
    Read,
    /// A transaction was putting changes.
    Change,
    /// The commit of a transaction was on its way.
    Commit,
}

/// What is left of a victim.
pub struct Remains {
    /// Everything it told.
    pub records: Vec<Record>,
    /// Where it was killed.
    pub point: Point,
}

struct Told {
    stdout: ChildStdout,
    bytes: Vec<u8>,
}

impl Told {
    /// Lines that are whole.
    fn lines(&self) -> Vec<&str> {
        let end = self.bytes.iter().rposition(|byte| *byte == b'\n');
        let text = &self.bytes[..end.map_or(0, |end| end + 1)];
        std::str::from_utf8(text)
            .expect("a record is text")
            .lines()
            .collect()
    }

    /// Reads until so many requests and steps were told.
    fn wait(&mut self, told_count: u64) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let lines = self.lines();
            let is_told = |line: &&&str| line.starts_with("S ") || line.starts_with("P ");
            if told_count <= lines.iter().filter(is_told).count() as u64 {
                return;
            }
            let ended = lines.iter().find(|line| line.starts_with(['L', 'F', 'E']));
            assert!(ended.is_none(), "a client got what it must not: {ended:?}");
            assert!(
                wait_readable(&[self.stdout.as_fd()], deadline),
                "a client goes on"
            );
            let mut bytes = [0; 16 << 10];
            let count = self.stdout.read(&mut bytes).expect("a pipe can be read");
            assert_ne!(count, 0, "a client process ended by itself");
            self.bytes.extend_from_slice(&bytes[..count]);
        }
    }
}

/// Starts a client process, lets it work on the daemon behind a socket, and kills it.
pub fn lead(orders: &Orders, socket: &Path, moment: Moment) -> Remains {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .args(orders.to_words())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = spawn_bound(&mut command).expect("a client process starts");
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "go {}", socket.display()).expect("the process listens");
    let stdout = child.stdout.take().unwrap();
    let mut told = Told {
        stdout,
        bytes: Vec::new(),
    };
    told.wait(moment.told_count);
    // Its input stays open, so that it cannot end by itself, and no output can wake this up.
    let until = Instant::now() + moment.wait;
    let is_over = wait_readable(&[], until);
    assert!(!is_over, "nothing is waited for");
    kill(&mut child);
    drop(stdin);
    told.stdout
        .read_to_end(&mut told.bytes)
        .expect("what it told");
    let lines = told.lines();
    let ended = lines.iter().find(|line| line.starts_with(['L', 'F', 'E']));
    assert!(ended.is_none(), "a client got what it must not: {ended:?}");
    let records: Vec<Record> = lines
        .iter()
        .filter_map(|line| Record::parse(line))
        .collect();
    Remains {
        point: point(&lines, &records),
        records,
    }
}

fn kill(child: &mut Child) {
    // Not reaped yet, so the id is still its own.
    kill_process(Pid::from_child(child), Signal::KILL).expect("it has not ended");
    let status = child.wait().expect("a killed process ends");
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(Signal::KILL.as_raw()), "it ends by the kill");
}

/// Where a client was that told this last.
fn point(lines: &[&str], records: &[Record]) -> Point {
    match lines.last() {
        None => return Point::Connecting,
        Some(&"P begin") => return Point::Begin,
        Some(&"P read") => return Point::Read,
        Some(&"P write") => return Point::Change,
        Some(_) => {}
    }
    let mut open: Vec<&Record> = Vec::new();
    for record in records {
        match record {
            Record::Sent { .. } => open.push(record),
            Record::Done { id, outcome, .. } => {
                assert_ne!(*outcome, Outcome::Unknown, "the daemon lives on");
                open.retain(|sent| !matches!(sent, Record::Sent { id: sent, .. } if sent == id));
            }
        }
    }
    match open.as_slice() {
        [] => Point::Between,
        [Record::Sent { call, .. }] => match call {
            Call::Write { expects, .. } if !expects.is_empty() => Point::Commit,
            Call::Write { writes, .. } if 1 < writes.len() => Point::Batch,
            Call::Write { .. } => Point::Write,
            Call::Read { .. } | Call::Flush => Point::Looking,
        },
        _ => Point::Pipeline,
    }
}
