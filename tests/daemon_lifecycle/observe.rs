//! What a daemon says about itself when something is wrong, and to whom.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use in_mem_ipc::response::observe::{HealthReport, HealthState};
use in_mem_ipc::response::system::Health;
use in_mem_ipc::{Operation, RequestHeader, Response};

use crate::daemon_process::Daemon;
use crate::exposition::Exposition;
use crate::raw_client::{RawClient, put};

/// Puts until the log has failed, at most.
const PUT_COUNT_MAX: usize = 10_000;

fn health(client: &mut RawClient) -> HealthReport<'static> {
    match client.call(Operation::SystemHealth) {
        Response::Health(report) => report,
        other => panic!("{other:?}"),
    }
}

fn start(directory: &Path, configuration: &str, fault: Option<String>) -> Daemon {
    let file = directory.join("inmemd.toml");
    std::fs::write(&file, configuration).unwrap();
    let socket = directory.join("s.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
    command
        .env_remove("INMEM_SOCKET")
        .env_remove("INMEM_DATA_DIR");
    command.arg("--data-dir").arg(directory.join("data.inmem"));
    command
        .arg("--socket")
        .arg(&socket)
        .arg("--config")
        .arg(&file);
    if let Some(fault) = fault {
        command.env("INMEM_FAULT_POINT", fault);
    }
    Daemon::spawn(command, socket).unwrap_or_else(|failed| panic!("not ready: {failed:?}"))
}

/// Whether the log thread has opened a spare segment: for writes through the cache, and then around
/// it. Who prepares a spare opens it around the cache alone.
fn log_holds_spare(daemon: &Daemon) -> bool {
    let (mut cached, mut direct) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap() {
        let path = entry.unwrap().path();
        let number = path.file_name().unwrap().to_str().unwrap();
        let info = format!("/proc/{}/fdinfo/{number}", daemon.pid());
        let (Ok(target), Ok(info)) = (std::fs::read_link(&path), std::fs::read_to_string(info))
        else {
            continue;
        };
        if !target.to_string_lossy().contains("/WAL/spare-") {
            continue;
        }
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        match flags & libc::O_DIRECT {
            0 => cached.push(target),
            _ => direct.push(target),
        }
    }
    cached.iter().any(|target| direct.contains(target))
}

#[test]
fn health_tells_of_a_directory_that_was_removed_and_of_the_log_that_fails_because_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let segments = "[wal]\nsegment_len_bytes = 65536\nbuffered_sync_bytes = 65536\n";
    let daemon = start(directory.path(), segments, None);
    let mut client = RawClient::connect(daemon.socket());
    let info = |client: &mut RawClient| match client.call(Operation::SystemInfo) {
        Response::Info(info) => info,
        other => panic!("{other:?}"),
    };
    client.put("key", &[7]);
    assert_eq!(info(&mut client).health, Health::Ok);
    assert_eq!(health(&mut client).state, HealthState::Ok);
    let data = directory.path().join("data.inmem");
    // A log without a spare would refuse what does not fit, and go on.
    let end = Instant::now() + crate::DEADLINE;
    while !log_holds_spare(&daemon) {
        assert!(Instant::now() < end, "no spare is made");
        assert_eq!(info(&mut client).health, Health::Ok);
    }
    // The daemon may be making another file there.
    let is_removed = (0..PUT_COUNT_MAX).any(|_| std::fs::remove_dir_all(&data).is_ok());
    assert!(is_removed, "{} cannot be removed", data.display());
    let told = info(&mut client);
    assert_eq!(told.health, Health::Degraded, "info knows it, too");
    assert!(told.health_reason.0.contains("removed"), "{told:?}");
    let removed = health(&mut client);
    assert_eq!(removed.state, HealthState::Degraded);
    assert_eq!(&*removed.faults[0].name.0, "data_directory");
    assert!(
        removed.faults[0].reason.0.contains("removed"),
        "{removed:?}"
    );
    std::fs::create_dir(&data).unwrap();
    let replaced = health(&mut client);
    assert!(
        replaced.faults[0].reason.0.contains("another directory"),
        "{replaced:?}"
    );
    // The next segment cannot get its name where there is no directory.
    let mut value = vec![0xc5, 0x10, 0];
    value.resize(3 + 4096, 0);
    let has_failed = (0..PUT_COUNT_MAX).any(|_| {
        matches!(client.call(put("key", &value)), Response::Error(error) if error.sub != 0)
            && health(&mut client).state == HealthState::Poisoned
    });
    assert!(has_failed, "the log goes on without its directory");
    assert_eq!(info(&mut client).health, Health::Poisoned);
    let poisoned = health(&mut client);
    assert_eq!(&*poisoned.faults[0].name.0, "log");
    assert_eq!(&*poisoned.faults[1].name.0, "data_directory");
    assert_eq!(
        client.get("key").map(|value| value.is_empty()),
        Some(false),
        "reads go on"
    );
    let Response::Metrics(text) = client.call(Operation::SystemMetrics) else {
        panic!("no metrics")
    };
    let metrics = Exposition::parse(&text.0);
    assert_eq!(metrics.get("inmem_poisoned"), 1.0);
    assert_eq!(metrics.get("inmem_health_state{state=\"poisoned\"}"), 1.0);
}

#[test]
fn the_metrics_socket_answers_bare_readers_and_http_and_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let configuration = format!("metrics_socket = {:?}\n", path.to_str().unwrap());
    let daemon = start(directory.path(), &configuration, None);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ask = |request: &[u8]| {
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.write_all(request).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        answer
    };
    let bare = Exposition::parse(&ask(b""));
    assert_eq!(bare.get("inmem_health_state{state=\"ok\"}"), 1.0);
    let answer = ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{head}"
    );
    Exposition::parse(body);
    assert!(ask(b"GET /secret HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404"));
    // Whoever keeps quiet keeps nobody else from the store.
    let silent = UnixStream::connect(&path).unwrap();
    RawClient::connect(daemon.socket()).put("key", &[7]);
    drop(silent);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!path.exists(), "a clean stop removes the socket");
}

/// Where a fault point waits: a FIFO.
fn hold(directory: &Path) -> PathBuf {
    let path = directory.join("hold");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

#[test]
fn a_slow_request_is_written_down_with_its_steps_and_without_its_value() {
    const THRESHOLD: Duration = Duration::from_millis(20);
    let directory = tempfile::tempdir().unwrap();
    start(directory.path(), "", None).terminate();
    let fifo = hold(directory.path());
    let point = format!("AfterWalWriteBeforeFsync:1:{}", fifo.display());
    let configuration = format!("slow_request_us = {}\n", THRESHOLD.as_micros());
    let daemon = start(directory.path(), &configuration, Some(point));
    let mut client = RawClient::connect(daemon.socket());
    let sent = Instant::now();
    // The first commit of this start. A string whose letters would be seen.
    client.start(
        RequestHeader::default(),
        put("key-in-secret", b"\xa6secret"),
    );
    while sent.elapsed() < 2 * THRESHOLD {
        std::thread::yield_now();
    }
    // Opening waits for whoever is held.
    drop(std::fs::OpenOptions::new().write(true).open(&fifo).unwrap());
    let reply = client.read().unwrap().expect("an answer");
    assert!(
        matches!(reply.response(), Response::Written(_)),
        "{:?}",
        reply.response()
    );
    let Response::Metrics(text) = client.call(Operation::SystemMetrics) else {
        panic!("no metrics")
    };
    assert!(1.0 <= Exposition::parse(&text.0).get("inmem_slow_requests_total"));
    let end = Instant::now() + crate::DEADLINE;
    let line = loop {
        let log = daemon.log();
        let found = log
            .lines()
            .find(|line| line.contains("slow request") && line.contains("request_id=1 "));
        if let Some(line) = found {
            break line.to_owned();
        }
        assert!(Instant::now() < end, "no line in {log}");
        std::thread::yield_now();
    };
    for field in [
        "operation=\"kv.put\"",
        "total_us=",
        "started_us=",
        "decided_us=",
        "written_us=",
        "synced_us=",
        "run=",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
    assert!(!daemon.log().contains("secret"), "{}", daemon.log());
}
