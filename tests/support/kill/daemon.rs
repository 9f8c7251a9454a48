//! The daemon under attack: a process that is started, waited for, signalled and killed by its id.
//!
//! It dies with the thread that started it. Nothing here sleeps: the ready line, the end of the
//! process and changes of a directory are events of descriptors, waited for with a deadline.
#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec has no safe form"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use in_mem_client::check::Mode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal,
};

/// Longest any one thing may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Where a database and its socket are, with the configuration of its daemon.
#[derive(Debug)]
pub struct Place {
    /// Holds the data directory, the socket, the configuration and the daemon's log.
    pub dir: PathBuf,
    /// Refuses io_uring, so that the log takes the thread disk and the sockets readiness.
    pub is_ringless: bool,
    /// The directory of the database, where it is not `data.inmem` in `dir`.
    data_dir: Option<PathBuf>,
}

impl Place {
    /// Writes the configuration: `mode` is that of writes that ask for none. Segments are as small as they may be unless `segment_len_bytes`
    /// says otherwise.
    pub fn new(dir: &Path, mode: Mode, segment_len_bytes: u64) -> Self {
        let sync_len_bytes = segment_len_bytes.min(4 << 20);
        let mut text = String::from("log = \"warn\"\n");
        let word = match mode {
            Mode::InMemory => "in_memory",
            Mode::Buffered => "buffered",
            Mode::Strict => "strict",
        };
        writeln!(text, "durability = \"{word}\"\n[wal]").unwrap();
        writeln!(text, "segment_len_bytes = {segment_len_bytes}").unwrap();
        writeln!(text, "buffered_sync_bytes = {sync_len_bytes}").unwrap();
        std::fs::write(dir.join("inmemd.toml"), text).unwrap();
        Self {
            dir: dir.to_owned(),
            is_ringless: false,
            data_dir: None,
        }
    }

    /// Its daemons take checkpoints all the time, each followed by a compaction of the log.
    #[must_use]
    pub fn with_checkpoints(self) -> Self {
        self.with_lines("[checkpoint]\ninterval_ms = 1\npoll_ms = 10\n")
    }

    /// More lines at the end of the configuration.
    #[must_use]
    pub fn with_lines(self, lines: &str) -> Self {
        let path = self.dir.join("inmemd.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(lines);
        std::fs::write(&path, text).unwrap();
        self
    }

    /// The database elsewhere.
    #[must_use]
    pub fn with_data_dir(self, path: PathBuf) -> Self {
        Self {
            data_dir: Some(path),
            ..self
        }
    }

    /// The directory of the database.
    pub fn data_dir(&self) -> PathBuf {
        let elsewhere = self.data_dir.clone();
        elsewhere.unwrap_or_else(|| self.dir.join("data.inmem"))
    }

    /// The path clients connect to.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("s.sock")
    }

    /// The last lines the daemons of this place logged.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A daemon process. Killed when dropped.
pub struct Daemon {
    child: Child,
    pidfd: OwnedFd,
    output: Vec<u8>,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon; `fault_point` is armed in it.
    pub fn spawn(place: &Place, fault_point: Option<&str>) -> Self {
        let log = place.dir.join("daemon.log");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
        command.arg("--config").arg(place.dir.join("inmemd.toml"));
        command
            .arg("--data-dir")
            .arg(place.data_dir())
            .arg("--socket")
            .arg(place.socket());
        for name in [
            "INMEM_SOCKET",
            "INMEM_DATA_DIR",
            "RUNTIME_DIRECTORY",
            "STATE_DIRECTORY",
        ] {
            command.env_remove(name);
        }
        match fault_point {
            Some(point) => command.env("INMEM_FAULT_POINT", point),
            None => command.env_remove("INMEM_FAULT_POINT"),
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file);
        if place.is_ringless {
            super::ringless::refuse_rings(&mut command);
        }
        let child = spawn_bound(&mut command).expect("the daemon can be started");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        Self {
            child,
            pidfd,
            output: Vec::new(),
            log,
        }
    }

    /// Starts a daemon and waits until it is ready.
    pub fn start(place: &Place) -> Self {
        let mut daemon = Self::spawn(place, None);
        if !daemon.wait_ready(DEADLINE) {
            let status = daemon.wait_end(Duration::ZERO);
            panic!(
                "the daemon is not ready ({status:?}); log:\n{}",
                place.log_tail()
            );
        }
        daemon
    }

    /// Waits until it is ready; false when it ended, or the time is over, before.
    pub fn wait_ready(&mut self, wait_max: Duration) -> bool {
        let deadline = Instant::now() + wait_max;
        while !self.output.contains(&b'\n') {
            let stdout = self.child.stdout.as_ref().expect("piped");
            if !wait_readable(&[stdout.as_fd()], deadline) {
                return false;
            }
            let mut bytes = [0; 1024];
            match self.child.stdout.as_mut().expect("piped").read(&mut bytes) {
                Ok(count @ 1..) => self.output.extend_from_slice(&bytes[..count]),
                Ok(0) | Err(_) => return false,
            }
        }
        true
    }

    /// A number of the ready line, such as `recovery_us`.
    pub fn ready_number(&self, name: &str) -> u64 {
        let line = String::from_utf8_lossy(&self.output);
        let field = line
            .split_whitespace()
            .find_map(|field| field.strip_prefix(name));
        field
            .and_then(|rest| rest.strip_prefix('=')?.parse().ok())
            .unwrap_or(0)
    }

    /// How long its first thread waited for a CPU so far; others may use the machine.
    pub fn cpu_wait(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let waited_ns = text
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok());
        Duration::from_nanos(waited_ns.unwrap_or(0))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // Not reaped yet, so the id is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait_end(DEADLINE).expect("a killed process ends")
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end(DEADLINE).expect("the daemon stops in time")
    }

    /// Waits for the end, at most so long.
    pub fn wait_end(&mut self, wait_max: Duration) -> Option<ExitStatus> {
        if !wait_readable(&[self.pidfd.as_fd()], Instant::now() + wait_max) {
            return None;
        }
        Some(self.child.wait().unwrap())
    }

    /// Readable when it has ended.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!(
                "end of the log of the daemon:\n{}",
                &text[text.len().saturating_sub(2000)..]
            );
        }
    }
}

/// Starts a child that the kernel kills when the calling thread ends.
///
/// # Errors
/// Whatever the system says.
pub fn spawn_bound(command: &mut Command) -> io::Result<Child> {
    let parent = getpid();
    let bind = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before the line above.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(bind) }.spawn()
}

/// Waits until one of the descriptors is readable or at its end; false when the time is over.
pub fn wait_readable(descriptors: &[BorrowedFd<'_>], deadline: Instant) -> bool {
    let mut fds: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("deadlines are near");
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
