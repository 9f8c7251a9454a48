//! The processes that put on the load, seen from the one that started them.
//!
//! A child says `ready` when it is connected, is told when to begin, and says its tally when it
//! is done; before that it may say `error` and why. One that ends without a tally counts as an
//! error. Children are ended by their ids, which stay theirs until they are reaped; reaping
//! happens under the lock. No child outlives the crew.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::load::now_ns;
use super::tally::Tally;

/// What a child says when it is connected.
pub(crate) const READY: &str = "ready";

/// What a child says before the first error it met.
pub(crate) const ERROR: &str = "error ";

/// Time between the word and the beginning, nanoseconds: every process is to hear it first.
const START_DELAY_NS: u64 = 20_000_000;

/// How often a wait for the end of a child looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Ends the children from another thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    children: Vec<Pid>,
    is_stopped: bool,
}

impl Stop {
    /// Kills all children, and lets none be started any more; whether it was done before.
    pub(crate) fn stop(&self) -> bool {
        let mut state = self.lock();
        for child in &state.children {
            // It may have ended by itself and not be reaped yet.
            let _ = kill_process(*child, Signal::KILL);
        }
        std::mem::replace(&mut state.is_stopped, true)
    }

    /// Whether everything was ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The children.
pub(crate) struct Crew {
    members: Vec<Member>,
    stop: Stop,
}

struct Member {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Crew {
    /// Starts a child for each command.
    pub(crate) fn start(
        commands: impl IntoIterator<Item = Command>,
        stop: &Stop,
    ) -> io::Result<Self> {
        let mut crew = Self {
            members: Vec::new(),
            stop: stop.clone(),
        };
        for mut command in commands {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut state = crew.stop.lock();
            if state.is_stopped {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut child = command.spawn()?;
            state.children.push(Pid::from_child(&child));
            drop(state);
            let (input, output) = (child.stdin.take(), child.stdout.take());
            let output = BufReader::new(output.ok_or(io::ErrorKind::BrokenPipe)?);
            crew.members.push(Member {
                child,
                input,
                output,
            });
        }
        Ok(crew)
    }

    /// Lets all begin together when all are ready, and adds up what they counted.
    pub(crate) fn run(mut self) -> io::Result<Tally> {
        let mut tally = Tally::new()?;
        for member in &mut self.members {
            // One that is not ready says why where its tally is read.
            member.say_if_ready()?;
        }
        let start_ns = now_ns() + START_DELAY_NS;
        for member in &mut self.members {
            if let Some(input) = &mut member.input {
                // One that has ended is noticed where its tally is read.
                let _ = writeln!(input, "{start_ns}");
            }
        }
        for mut member in std::mem::take(&mut self.members) {
            let counted = member.tally();
            let status = member.reap(&self.stop)?;
            match counted {
                Ok(counted) => tally.add(counted),
                Err(error) => tally.fail(1, || match status.success() {
                    true => error.to_string(),
                    false => format!("a process of the load ended with {status}: {error}"),
                }),
            }
        }
        Ok(tally)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Only what was not reaped is left here.
            let _ = member.child.kill();
            let _ = member.reap(&self.stop);
        }
    }
}

impl Member {
    /// Waits until it is ready; drops its input if it is not.
    fn say_if_ready(&mut self) -> io::Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.trim_end() != READY {
            self.input = None;
        }
        Ok(())
    }

    fn tally(&mut self) -> io::Result<Tally> {
        let mut error_first = None;
        let mut line = String::new();
        while self.output.read_line(&mut line)? != 0 {
            match line.strip_prefix(ERROR) {
                Some(message) => error_first = Some(message.trim_end().to_owned()),
                None => {
                    let mut tally = Tally::from_line(&line)?;
                    tally.error_first = error_first;
                    return Ok(tally);
                }
            }
            line.clear();
        }
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it did not say what it counted",
        ))
    }

    fn reap(&mut self, stop: &Stop) -> io::Result<std::process::ExitStatus> {
        self.input = None;
        let pid = Pid::from_child(&self.child);
        loop {
            let mut state = stop.lock();
            if let Some(status) = self.child.try_wait()? {
                state.children.retain(|child| *child != pid);
                return Ok(status);
            }
            drop(state);
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The side of a child: says that it is ready, and waits to be told when to begin.
pub(crate) fn wait_for_start() -> io::Result<u64> {
    let mut out = io::stdout().lock();
    writeln!(out, "{READY}")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let bad = |_| io::Error::new(io::ErrorKind::UnexpectedEof, "there is no start");
    line.trim().parse().map_err(bad)
}

/// The side of a child: says what it counted.
pub(crate) fn report(tally: &Tally) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(message) = &tally.error_first {
        writeln!(out, "{ERROR}{}", message.replace('\n', " "))?;
    }
    writeln!(out, "{}", tally.to_line())?;
    out.flush()
}
