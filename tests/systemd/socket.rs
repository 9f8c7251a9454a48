//! Socket activation: the daemon on a socket that somebody else listens at.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use in_mem_ipc::Response;
use in_mem_ipc::frame::FrameKind;
use in_mem_ipc::request::RequestHeader;
use rustix::process::{Pid, Signal, kill_process};

use crate::SEVEN;
use crate::daemon_process::DEADLINE;
use crate::notified::Hold;
use crate::raw_client::{RawClient, hello_frame, put};

/// Runs the daemon twice on one passed socket; in between it waits at a FIFO, as a manager that
/// restarts a service does.
const TWICE: &str = r#"
gate=$0
once='LISTEN_PID=$$ exec "$0" "$@"'
sh -c "$once" "$@"; echo "ended $?"
read line < "$gate"
sh -c "$once" "$@"; echo "ended $?"
"#;

/// A shell that stands for the manager, with a socket listened at by `systemd-socket-activate`.
struct Activated {
    child: Child,
    lines: Receiver<String>,
    socket: PathBuf,
}

impl Activated {
    /// None without the tool.
    fn start(directory: &Path, gate: &Path, arguments: &[&str]) -> Option<Self> {
        let socket = directory.join("s.sock");
        let spawned = Command::new("systemd-socket-activate")
            .arg("--fdname=inmem")
            .arg("-l")
            .arg(&socket)
            .args(["sh", "-c", TWICE])
            .arg(gate)
            .arg(env!("CARGO_BIN_EXE_inmemd"))
            .arg("--data-dir")
            .arg(directory.join("data.inmem"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                println!("SKIPPED: needs systemd-socket-activate: {error}");
                return None;
            }
        };
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Some(Self {
            child,
            lines,
            socket,
        })
    }

    /// Connects as soon as somebody listens.
    fn connect(&self) -> RawClient {
        let end = Instant::now() + DEADLINE;
        loop {
            match RawClient::connect_silent(&self.socket) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            std::thread::yield_now();
        }
    }

    fn expect_line(&self, start: &str) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|_| panic!("nothing instead of {start:?}"));
        assert!(line.starts_with(start), "{line:?} instead of {start:?}");
        line
    }

    /// Ends the daemon the way a manager does.
    fn terminate(&self) {
        let shell = self.child.id();
        let children = format!("/proc/{shell}/task/{shell}/children");
        let text = std::fs::read_to_string(children).unwrap();
        let pid = text.split_whitespace().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        self.expect_line("ended 0");
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let shell = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        for pid in children.unwrap_or_default().split_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the greeting and a put without waiting for anybody.
fn ask(client: &mut RawClient, key: &str) {
    client.send(&hello_frame());
    client.start(RequestHeader::default(), put(key, SEVEN));
}

/// Takes the answers of [`ask`].
fn hear(client: &mut RawClient) {
    let hello = client.read().unwrap().expect("the greeting is answered");
    assert_eq!(hello.header.kind, FrameKind::HelloReply, "{hello:?}");
    let answer = client.read().unwrap().expect("the put is answered");
    assert!(matches!(answer.response(), Response::Written(_)));
}

#[test]
fn clients_that_come_while_the_daemon_restarts_wait_in_the_backlog_and_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("hold");
    let hold = Hold::new(directory.path());
    let Some(activated) = Activated::start(directory.path(), &gate, &[]) else {
        return;
    };
    let mut first = activated.connect();
    ask(&mut first, "before");
    hear(&mut first);
    let ready = activated.expect_line("ready ");
    let path = activated.socket.display().to_string();
    assert!(ready.contains(&format!("socket={path} ")), "{ready}");
    activated.terminate();
    assert!(
        activated.socket.exists(),
        "the socket is not ours to remove"
    );

    let mut waiting: Vec<RawClient> = (0..5).map(|_| activated.connect()).collect();
    for (number, client) in waiting.iter_mut().enumerate() {
        ask(client, &format!("while-down-{number}"));
    }
    hold.release();
    activated.expect_line("ready ");
    for client in &mut waiting {
        hear(client);
    }
    assert_eq!(waiting[0].get("before").as_deref(), Some(SEVEN));
    activated.terminate();
    assert!(activated.socket.exists());
}

#[test]
fn a_passed_socket_that_is_not_the_configured_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("hold");
    let _hold = Hold::new(directory.path());
    let other = directory.path().join("other.sock");
    let arguments = ["--socket", other.to_str().unwrap()];
    let Some(activated) = Activated::start(directory.path(), &gate, &arguments) else {
        return;
    };
    let _client = activated.connect();
    activated.expect_line("ended 2");
}
