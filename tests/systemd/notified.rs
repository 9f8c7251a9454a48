//! A service manager as the daemon sees it: the socket it is told things on, and a FIFO that holds
//! it at a fault point.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::daemon_process::DEADLINE;

/// The manager's socket; what comes is read at once, so that nothing waits for the test.
pub struct Manager {
    path: PathBuf,
    messages: Receiver<String>,
}

impl Manager {
    /// Listens in a directory.
    pub fn listen(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = socket.recv(&mut bytes) {
                let message = String::from_utf8_lossy(&bytes[..count]).into_owned();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { path, messages }
    }

    /// A daemon on a directory that is told of this manager.
    pub fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
        command
            .env_remove("INMEM_SOCKET")
            .env_remove("INMEM_DATA_DIR")
            .env("NOTIFY_SOCKET", &self.path)
            .arg("--data-dir")
            .arg(directory.join("data.inmem"))
            .arg("--socket")
            .arg(directory.join("s.sock"));
        command
    }

    /// The next message that contains `text`, and all that came before it.
    pub fn expect(&self, text: &str) -> (String, Vec<String>) {
        let end = Instant::now() + DEADLINE;
        let mut before = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) if message.contains(text) => return (message, before),
                Ok(message) => before.push(message),
                Err(_) => panic!("nothing with {text:?} came, but {before:?}"),
            }
        }
    }

    /// Waits until nothing has come for `interval`; gives what came before.
    pub fn expect_silence(&self, interval: Duration) -> Vec<String> {
        let end = Instant::now() + DEADLINE;
        let mut before = Vec::new();
        while let Ok(message) = self.messages.recv_timeout(interval) {
            before.push(message);
            assert!(Instant::now() < end, "no silence: {before:?}");
        }
        before
    }
}

/// Where a fault point waits.
pub struct Hold(PathBuf);

impl Hold {
    /// A FIFO in a directory.
    pub fn new(directory: &Path) -> Self {
        let path = directory.join("hold");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self(path)
    }

    /// The setting that holds whoever passes `point` for the first time.
    pub fn setting(&self, point: &str) -> String {
        format!("{point}:1:{}", self.0.display())
    }

    /// Waits until somebody is held, and lets it go on.
    pub fn release(&self) {
        std::fs::OpenOptions::new()
            .write(true)
            .open(&self.0)
            .unwrap();
    }
}
