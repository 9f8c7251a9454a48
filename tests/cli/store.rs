//! A daemon for one test, started as `inmem daemon`, and the command line asked of it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The command line, without what the environment of the tests could add to it.
pub(crate) fn inmem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inmem"));
    for name in [
        "INMEM_SOCKET",
        "INMEM_DATA_DIR",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
    ] {
        command.env_remove(name);
    }
    command
}

/// A database, and the daemon that serves it.
pub(crate) struct Store {
    pub(crate) dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Store {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Self { dir, daemon: None };
        std::fs::create_dir(store.exports()).unwrap();
        store.restart();
        store
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        self.start_daemon(inmem(), None);
    }

    /// Starts a daemon that aborts at a fault point.
    pub(crate) fn restart_dying_at(&mut self, point: &str) {
        let mut command = inmem();
        command.env("INMEM_FAULT_POINT", point);
        self.start_daemon(command, None);
    }

    /// Starts a daemon with settings of its own.
    pub(crate) fn restart_with(&mut self, settings: &str) {
        let file = self.dir.path().join("inmemd.toml");
        std::fs::write(&file, settings).unwrap();
        self.start_daemon(inmem(), Some(&file));
    }

    fn start_daemon(&mut self, mut command: Command, config: Option<&Path>) {
        command
            .arg("daemon")
            .arg("--data-dir")
            .arg(self.dir.path().join("data"));
        command.arg("--socket").arg(self.socket());
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.arg("--export-dir").arg(self.exports());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut daemon = command.spawn().unwrap();
        let line = first_line(daemon.stdout.take().unwrap());
        self.daemon = Some(daemon);
        assert!(line.starts_with("ready"), "the daemon said {line:?}");
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// The process id of the daemon.
    pub(crate) fn daemon_id(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// The directory the daemon exports to.
    pub(crate) fn exports(&self) -> PathBuf {
        self.dir.path().join("exports")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("inmem.sock")
    }

    /// Runs one command to its end.
    pub(crate) fn ask(&self, words: &[&str]) -> Answer {
        self.ask_with(words, b"")
    }

    /// Runs one command with this on its standard input.
    pub(crate) fn ask_with(&self, words: &[&str], input: &[u8]) -> Answer {
        Answer::of(self.command(words), input)
    }

    /// A command to be run against the daemon.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = inmem();
        command
            .env("INMEM_SOCKET", self.socket())
            .args(words)
            .current_dir(self.dir.path());
        command
    }

    /// Runs one command and gives its result as JSON; it has to succeed.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let answer = self.ask(&[&["--json"], words].concat());
        assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
        serde_json::from_str(&answer.out).unwrap()
    }

    /// Sends lines through the pipe and gives the answers.
    pub(crate) fn pipe(&self, lines: &str) -> Vec<Value> {
        let answer = self.ask_with(&["--json"], lines.as_bytes());
        assert_eq!(
            (answer.code, answer.err.as_str()),
            (0, ""),
            "the pipe ends well"
        );
        answer
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn of(mut command: Command, input: &[u8]) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = thread::spawn(move || {
            // A command that does not read its input may be gone.
            let _ = stdin.write_all(&input);
        });
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Self {
            code: status.code().expect("the command ends by itself"),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }
}

/// A pipe that stays open.
pub(crate) struct Pipe {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
}

impl Pipe {
    pub(crate) fn open(socket: &Path) -> Self {
        let mut command = inmem();
        command.arg("--socket").arg(socket).arg("--json");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = lines_of(child.stdout.take().unwrap());
        Self {
            stdin: child.stdin.take(),
            child,
            answers,
        }
    }

    /// Sends a line and waits for its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.say(line);
        self.hear()
    }

    /// Sends a line.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for an answer.
    pub(crate) fn hear(&mut self) -> Value {
        let answer = self
            .answers
            .recv_timeout(DEADLINE)
            .expect("an answer comes in time");
        serde_json::from_str(&answer).unwrap()
    }

    /// Ends the input, and gives the exit code.
    pub(crate) fn finish(mut self) -> i32 {
        drop(self.stdin.take());
        self.child.wait().unwrap().code().unwrap()
    }
}

/// Waits for a child to end, at most the deadline.
pub(crate) fn wait(child: &mut Child) -> i32 {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().expect("it ends by itself");
        }
        assert!(Instant::now() < end, "it does not end");
        thread::yield_now();
    }
}

pub(crate) fn lines_of(out: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(out).lines();
        while let Some(Ok(line)) = lines.next() {
            if sender.send(line).is_err() {
                // Nobody listens any more; what comes is read so that the writer does not wait.
                let _ = lines.by_ref().count();
            }
        }
    });
    receiver
}

fn first_line(out: ChildStdout) -> String {
    lines_of(out).recv_timeout(DEADLINE).unwrap_or_default()
}
