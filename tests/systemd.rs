//! The daemon under systemd, without systemd as the first process: what it tells its manager, the
//! socket it is passed, the configuration it reads again, the journal it writes, and its units.

#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should; support files serve several tests"
)]

#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "support/frozen.rs"]
mod frozen;
#[path = "systemd/notified.rs"]
mod notified;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "systemd/socket.rs"]
mod socket;
#[path = "systemd/units.rs"]
mod units;

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon_process::{DEADLINE, Daemon};
use in_mem_ipc::request::RequestHeader;
use in_mem_ipc::{Operation, Response};
use notified::{Hold, Manager};
use raw_client::{RawClient, put};
use rustix::process::Signal;

/// The value `Int 7`, encoded.
const SEVEN: &[u8] = &[7];

/// After which the manager would give up, microseconds: a sign of life each 100 ms.
const WATCHDOG_US: &str = "300000";

/// As long as ten signs of life.
const SILENCE: Duration = Duration::from_secs(1);

fn start(command: Command, directory: &Path) -> Daemon {
    Daemon::spawn(command, directory.join("s.sock")).unwrap()
}

/// Waits until the log says something: it is read on another thread.
fn expect_log(daemon: &Daemon, text: &str) {
    let end = Instant::now() + DEADLINE;
    while !daemon.log().contains(text) {
        assert!(Instant::now() < end, "no {text:?} in {}", daemon.log());
        std::thread::yield_now();
    }
}

#[test]
fn ready_is_said_after_recovery_and_recovery_says_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    for number in 0..20 {
        client.put(&format!("key-{number}"), SEVEN);
    }
    daemon.kill();
    let manager = Manager::listen(directory.path());
    let hold = Hold::new(directory.path());
    let mut command = manager.command(directory.path());
    command.env("INMEM_FAULT_POINT", hold.setting("RecoveryAfterScan"));
    std::thread::scope(|scope| {
        let started = scope.spawn(|| start(command, directory.path()));
        let (first, _) = manager.expect("STATUS=recovering");
        assert!(first.contains("EXTEND_TIMEOUT_USEC="), "{first}");
        let (_, before) = manager.expect("20 records, segment 1 of ");
        assert!(
            !before.iter().any(|message| message.contains("READY=1")),
            "{before:?}"
        );
        // Held, it makes no progress: more time is not asked for, and ready is not said.
        let (held, _) = manager.expect("STATUS=recovering");
        assert!(!held.contains("EXTEND_TIMEOUT_USEC="), "{held}");
        hold.release();
        let (ready, before) = manager.expect("READY=1");
        assert!(ready.contains("STATUS=serving: "), "{ready}");
        assert!(
            before.iter().all(|message| message.contains("recovering")),
            "{before:?}"
        );
        let daemon = started.join().unwrap();
        let mut client = RawClient::connect(daemon.socket());
        assert_eq!(client.get("key-19").as_deref(), Some(SEVEN));
    });
}

/// What was lost: a stop during a recovery was served only after it.
#[test]
fn a_stop_during_the_recovery_ends_the_daemon_before_it_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    RawClient::connect(daemon.socket()).put("key", SEVEN);
    daemon.kill();
    let manager = Manager::listen(directory.path());
    let hold = Hold::new(directory.path());
    let mut command = manager.command(directory.path());
    command.env("INMEM_FAULT_POINT", hold.setting("RecoveryAfterScan"));
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The last record is read: the stop comes too late to end the replay, and is honoured behind it.
    manager.expect(": 1 records, segment ");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    manager.expect("STATUS=stopping");
    hold.release();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "", "it is never ready");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    assert_eq!(client.get("key").as_deref(), Some(SEVEN));
}

#[test]
fn a_start_that_fails_tells_the_manager_why() {
    let directory = tempfile::tempdir().unwrap();
    let first = Daemon::start(directory.path());
    let manager = Manager::listen(directory.path());
    let command = manager.command(directory.path());
    let refused = Daemon::spawn(command, directory.path().join("s.sock"));
    assert_eq!(refused.err().unwrap().status.code(), Some(3));
    manager.expect("STATUS=failed: ");
    drop(first);
}

#[test]
fn signs_of_life_go_on_while_the_log_is_idle_and_stop_when_its_thread_is_stuck() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::listen(directory.path());
    let mut command = manager.command(directory.path());
    command.env("WATCHDOG_USEC", WATCHDOG_US);
    let daemon = start(command, directory.path());
    for _ in 0..5 {
        manager.expect("WATCHDOG=1");
    }
    match frozen::freeze(daemon.pid(), "inmem-log") {
        Ok(count) => assert_eq!(count, 1),
        Err(error) => {
            println!("SKIPPED: needs the right to trace a child process: {error}");
            return;
        }
    }
    let mut client = RawClient::connect(daemon.socket());
    client.start(RequestHeader::default(), put("key", SEVEN));
    let before = manager.expect_silence(SILENCE);
    let status = before.iter().rev().find(|text| text.contains("STATUS="));
    assert!(
        status.is_some_and(|status| status.contains("DOES NOT GET ON")),
        "{before:?}"
    );
    // The reactor is well: it answers what needs no log.
    let mut other = RawClient::connect(daemon.socket());
    assert_eq!(other.get("absent"), None);
}

/// What was lost: the status line knew nothing of what lies outside the process.
#[test]
fn the_status_line_says_degraded_when_the_directory_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::listen(directory.path());
    let mut command = manager.command(directory.path());
    command.env("WATCHDOG_USEC", WATCHDOG_US);
    let daemon = start(command, directory.path());
    let (ready, _) = manager.expect("READY=1");
    assert!(ready.contains("STATUS=serving: "), "{ready}");
    std::fs::remove_dir_all(directory.path().join("data.inmem")).unwrap();
    let (status, _) = manager.expect("STATUS=DEGRADED: ");
    assert!(status.contains("removed"), "{status}");
    drop(daemon);
}

#[test]
fn signs_of_life_stop_with_a_sync_that_does_not_return_and_go_on_when_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::listen(directory.path());
    let hold = Hold::new(directory.path());
    let mut command = manager.command(directory.path());
    command.env("WATCHDOG_USEC", WATCHDOG_US).env(
        "INMEM_FAULT_POINT",
        hold.setting("AfterWalWriteBeforeFsync"),
    );
    let daemon = start(command, directory.path());
    let mut client = RawClient::connect(daemon.socket());
    client.start(RequestHeader::default(), put("key", SEVEN));
    manager.expect("DOES NOT GET ON");
    manager.expect_silence(SILENCE);
    hold.release();
    manager.expect("WATCHDOG=1");
    let (status, _) = manager.expect("STATUS=");
    assert!(!status.contains("DOES NOT GET ON"), "{status}");
    let answer = client.read().unwrap().unwrap().response();
    assert!(matches!(answer, Response::Written(_)), "{answer:?}");
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn signs_of_life_stop_with_the_reactor() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::listen(directory.path());
    let mut command = manager.command(directory.path());
    command.env("WATCHDOG_USEC", WATCHDOG_US);
    let daemon = start(command, directory.path());
    manager.expect("WATCHDOG=1");
    if let Err(error) = frozen::freeze_first(daemon.pid()) {
        println!("SKIPPED: needs the right to trace a child process: {error}");
        return;
    }
    manager.expect_silence(SILENCE);
}

#[test]
fn a_stop_under_load_is_announced_loses_nothing_and_is_clean() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::listen(directory.path());
    let mut daemon = start(manager.command(directory.path()), directory.path());
    let mut client = RawClient::connect(daemon.socket());
    let keys: Vec<String> = (0..200).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        client.start(RequestHeader::default(), put(key, SEVEN));
    }
    client.read().unwrap().unwrap().response();
    daemon.signal(Signal::TERM);
    let (stopping, _) = manager.expect("STOPPING=1");
    assert!(stopping.contains("STATUS=stopping: "), "{stopping}");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC="), "{stopping}");
    let replies = client.read_to_end();
    let is_written = |reply: &&raw_client::Reply| {
        reply.close().is_none() && matches!(reply.response(), Response::Written(_))
    };
    let acked = 1 + replies.iter().filter(is_written).count();
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    drop(daemon);
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    let found = keys.iter().filter(|key| client.get(key).is_some()).count();
    assert!(found >= acked, "{acked} acknowledged, {found} found");
}

#[test]
fn a_log_that_fails_shows_in_the_status_line_while_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::listen(directory.path());
    let hold = Hold::new(directory.path());
    let file = directory.path().join("c.toml");
    let small = "[wal]\nsegment_len_bytes = 65536\nbuffered_sync_bytes = 65536\n";
    std::fs::write(&file, small).unwrap();
    let mut command = manager.command(directory.path());
    command
        .arg("--config")
        .arg(&file)
        .env("WATCHDOG_USEC", WATCHDOG_US)
        .env(
            "INMEM_FAULT_POINT",
            hold.setting("DuringSegmentRotationBeforeRename"),
        );
    let daemon = start(command, directory.path());
    let mut client = RawClient::connect(daemon.socket());
    client.put("first", SEVEN);
    // A string of 30,000 bytes; three of them fill a segment.
    let mut large = vec![0xda, 0x75, 0x30];
    large.resize(3 + 30_000, b'x');
    for number in 0..3 {
        let key = format!("large-{number}");
        client.start(RequestHeader::default(), put(&key, &large));
    }
    // Held before the spare takes the segment's name: now it has no file to give it.
    manager.expect("DOES NOT GET ON");
    for entry in std::fs::read_dir(directory.path().join("data.inmem/WAL")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            std::fs::remove_file(path).unwrap();
        }
    }
    hold.release();
    let (status, _) = manager.expect("STATUS=POISONED");
    assert!(status.contains("writes are refused"), "{status}");
    // A log that has ended has nothing to get on with: the process is well.
    manager.expect("WATCHDOG=1");
    let mut other = RawClient::connect(daemon.socket());
    assert_eq!(other.get("first").as_deref(), Some(SEVEN));
}

/// A limit as a client is told it.
fn limit(daemon: &Daemon, name: &str) -> u64 {
    let mut client = RawClient::connect(daemon.socket());
    let Response::Capabilities(told) = client.call(Operation::SystemCapabilities) else {
        panic!("no capabilities");
    };
    let found = told.limits.iter().find(|limit| &*limit.name == name);
    found.unwrap_or_else(|| panic!("no {name}")).value
}

#[test]
fn a_reload_takes_what_it_can_says_what_needs_a_restart_and_refuses_a_broken_file_whole() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::listen(directory.path());
    let file = directory.path().join("c.toml");
    std::fs::write(&file, "").unwrap();
    let mut command = manager.command(directory.path());
    command.arg("--config").arg(&file);
    let daemon = start(command, directory.path());
    manager.expect("READY=1");
    let name = "transaction_idle_ms";
    let before = limit(&daemon, name);

    let text = "log = \"debug\"\non_poison = \"exit\"\n[limits]\ntransaction_idle_ms = 777\n";
    std::fs::write(&file, text).unwrap();
    daemon.signal(Signal::HUP);
    let (reloading, _) = manager.expect("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    let (ready, _) = manager.expect("READY=1");
    assert!(ready.contains("STATUS=serving: "), "{ready}");
    assert_ne!(before, 777);
    assert_eq!(limit(&daemon, name), 777);
    expect_log(&daemon, "changed=log, limits.transaction_idle_ms");
    expect_log(&daemon, "settings=on_poison");

    let broken = "log = \"warn\"\n[limits]\ntransaction_idle_ms = 888\nno_such = 1\n";
    std::fs::write(&file, broken).unwrap();
    daemon.signal(Signal::HUP);
    manager.expect("RELOADING=1");
    let (ready, _) = manager.expect("READY=1");
    assert!(ready.contains("the last reload was refused"), "{ready}");
    assert_eq!(limit(&daemon, name), 777);
    expect_log(&daemon, "the configuration is left as it was");
    expect_log(&daemon, "no_such");
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn events_go_to_the_journal_with_their_fields_when_stderr_is_connected_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = UnixDatagram::bind(directory.path().join("socket")).unwrap();
    journal.set_read_timeout(Some(DEADLINE)).unwrap();
    let stderr = std::fs::File::create(directory.path().join("stderr")).unwrap();
    let stream = stderr.metadata().unwrap();
    // A mount namespace of its own: the journal's socket has a fixed place.
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal \
                  && mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]);
    let mut inner = command;
    inner
        .arg(directory.path())
        .arg(env!("CARGO_BIN_EXE_inmemd"))
        .arg("--data-dir")
        .arg(directory.path().join("data.inmem"))
        .arg("--socket")
        .arg(directory.path().join("s.sock"))
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", stream.dev(), stream.ino()),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let probe = Command::new("unshare").args(["--mount", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: needs the right to a mount namespace");
        return;
    }
    let mut child = inner.spawn().unwrap();
    let mut bytes = vec![0; 1 << 16];
    let entry = loop {
        let count = journal.recv(&mut bytes).expect("the journal is written to");
        let entry = String::from_utf8_lossy(&bytes[..count]).into_owned();
        if entry.contains("ready socket=") {
            break entry;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    for field in [
        "SYSLOG_IDENTIFIER",
        "PRIORITY",
        "TARGET",
        "INMEM_REACTOR",
        "INMEM_CONNECTIONS",
    ] {
        assert!(entry.contains(field), "no {field} in {entry}");
    }
    let text = std::fs::read_to_string(directory.path().join("stderr")).unwrap();
    assert_eq!(text, "", "nothing is said twice");
}

#[test]
fn a_stream_that_is_not_the_journals_gets_text() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
    command
        .env("JOURNAL_STREAM", "1:1")
        .arg("--data-dir")
        .arg(directory.path().join("data.inmem"))
        .arg("--socket")
        .arg(directory.path().join("s.sock"));
    let daemon = start(command, directory.path());
    expect_log(&daemon, "ready socket=");
}
