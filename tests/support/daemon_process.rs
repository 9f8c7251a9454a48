//! A daemon as its own process, started for one test and gone with it.
//!
//! Waits for the ready line with a deadline, never by sleeping; keeps what the daemon logged and
//! shows it when a test fails.

#![allow(
    dead_code,
    reason = "each test that includes this file uses a part of it"
)]

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest a start, a stop or one answer may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

thread_local! {
    /// How the daemons this thread starts drive their sockets and log; as they choose if unset.
    static IO: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs a test whose daemons are started with `--io`.
pub fn with_io(io: &'static str, test: fn()) {
    IO.set(Some(io));
    test();
    IO.set(None);
}

/// Makes each claim a test over the reactor of completions and one over that of readiness.
#[allow(unused_macros, reason = "not every target runs over both")]
macro_rules! over_both_reactors {
    ($($claim:ident),* $(,)?) => {
        mod over_io_uring {
            $(
                #[test]
                fn $claim() {
                    crate::daemon_process::with_io("io_uring", super::$claim);
                }
            )*
        }

        mod over_readiness {
            $(
                #[test]
                fn $claim() {
                    crate::daemon_process::with_io("readiness", super::$claim);
                }
            )*
        }
    };
}

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    /// The ready line, without its end.
    pub ready_line: String,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

/// How a daemon that did not become ready ended.
#[derive(Debug)]
pub struct NotReady {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it logged.
    pub log: String,
}

impl Daemon {
    /// Starts a daemon on a directory with its socket beside it, and waits until it accepts.
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[]).unwrap_or_else(|failed| panic!("not ready: {failed:?}"))
    }

    /// The same with further arguments; gives the end of a daemon that refuses.
    pub fn start_with(directory: &Path, arguments: &[&str]) -> Result<Self, NotReady> {
        let socket = directory.join("s.sock");
        let data = directory.join("data.inmem");
        let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
        command
            .arg("--data-dir")
            .arg(&data)
            .arg("--socket")
            .arg(&socket)
            .args(arguments);
        command
            .env_remove("INMEM_SOCKET")
            .env_remove("INMEM_DATA_DIR")
            .env_remove("CREDENTIALS_DIRECTORY");
        Self::spawn(command, socket)
    }

    /// Starts any command that becomes a daemon listening at `socket`.
    pub fn spawn(mut command: Command, socket: PathBuf) -> Result<Self, NotReady> {
        if let Some(io) = IO.get() {
            command.args(["--io", io]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon can be started");
        let log = Arc::new(Mutex::new(String::new()));
        let log_reader = collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let lines = lines_of(child.stdout.take().unwrap());
        let mut this = Self {
            child,
            socket,
            ready_line: String::new(),
            log,
            log_reader: Some(log_reader),
        };
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                assert!(line.starts_with("ready "), "unexpected output {line:?}");
                this.ready_line = line;
                Ok(this)
            }
            Err(_) => {
                let status = this.wait();
                let log = this.log();
                Err(NotReady { status, log })
            }
        }
    }

    /// The path clients connect to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).expect("the daemon is ours and was not waited for");
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end, at most the deadline.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < end,
                "the daemon did not end; log:\n{}",
                self.log()
            );
            std::thread::yield_now();
        };
        if let Some(reader) = self.log_reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// Its open descriptors, without those of its log: how many segments it prepares, and when, is
    /// its own affair.
    pub fn descriptor_count(&self) -> usize {
        self.descriptors().len()
    }

    /// What these descriptors are.
    pub fn descriptors(&self) -> Vec<PathBuf> {
        let is_of_log = |target: &Path| {
            let of = |name: &str| target.components().any(|part| part.as_os_str() == name);
            of("WAL") || target.file_name().is_some_and(|name| name == "RESERVE")
        };
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            // One that was closed meanwhile names nothing.
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| !is_of_log(target))
            .collect()
    }

    /// Its resident memory, KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    /// A number of `/proc/<pid>/status`.
    pub fn status_number(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Voluntary context switches and CPU time (clock ticks) of all its threads.
    pub fn activity(&self) -> (u64, u64) {
        let mut total = (0, 0);
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let path = task.unwrap().path();
            let status = std::fs::read_to_string(path.join("status")).unwrap();
            let switches = status
                .lines()
                .find(|line| line.starts_with("voluntary"))
                .unwrap();
            total.0 += switches
                .split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap();
            let stat = std::fs::read_to_string(path.join("stat")).unwrap();
            let fields: Vec<&str> = stat
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .collect();
            total.1 += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
        total
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
    }
}

fn collect(mut stderr: ChildStderr, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut bytes) {
            log.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
}

fn lines_of(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
