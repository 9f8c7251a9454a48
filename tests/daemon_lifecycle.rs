//! How a daemon starts, refuses to start, stops, dies and comes back.

#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should; support files serve several tests"
)]

#[path = "daemon_lifecycle/codec.rs"]
mod codec;
#[macro_use]
#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "daemon_lifecycle/disk.rs"]
mod disk;
#[path = "daemon_lifecycle/durable.rs"]
mod durable;
#[path = "daemon_lifecycle/exports.rs"]
mod exports;
#[path = "support/exposition.rs"]
mod exposition;
#[path = "support/frozen.rs"]
mod frozen;
#[path = "support/interrupting.rs"]
mod interrupting;
#[path = "daemon_lifecycle/limits.rs"]
mod limits;
#[path = "daemon_lifecycle/observe.rs"]
mod observe;
#[path = "daemon_lifecycle/peers.rs"]
mod peers;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "daemon_lifecycle/snapshots.rs"]
mod snapshots;
#[path = "daemon_lifecycle/without_rings.rs"]
mod without_rings;
#[path = "daemon_lifecycle/without_sync.rs"]
mod without_sync;

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::time::Duration;

use daemon_process::{DEADLINE, Daemon};
use in_mem_ipc::close::CloseReason;
use in_mem_ipc::request::kv::Key;
use in_mem_ipc::request::run::{RunBegin, RunName};
use in_mem_ipc::request::txn::TxnBegin;
use in_mem_ipc::request::{DurabilityChoice, RunChoice};
use in_mem_ipc::response::ReachedLevel;
use in_mem_ipc::{Operation, RequestHeader, Response};
use in_mem_model::{RunStatus, SubCode};
use raw_client::{RawClient, put, request_frame};
use rustix::process::Signal;

/// The value `Int 7`, encoded.
const SEVEN: &[u8] = &[7];

over_both_reactors!(
    terminating_finishes_and_answers_everything_in_flight,
    terminating_rolls_back_open_transactions,
    killing_loses_no_acknowledged_strict_or_buffered_commit,
    an_idle_daemon_uses_no_cpu_and_does_not_wake,
    a_second_signal_or_the_deadline_ends_a_stop_that_cannot_finish,
    a_stop_that_is_cut_off_does_not_wait_for_a_worker_that_is_stuck,
    a_transaction_left_alone_expires_and_its_next_use_says_so,
);

fn inmemd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
    command
        .env_remove("INMEM_SOCKET")
        .env_remove("INMEM_DATA_DIR");
    command
        .args(arguments)
        .output()
        .expect("the daemon can be run")
}

fn begin() -> Operation<'static> {
    Operation::TxnBegin(TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: DurabilityChoice::Session,
    })
}

/// Changes the files of a stopped database, and gives the code of the daemon that is started on them
/// and its log.
fn refused_after(change: impl FnOnce(&std::path::Path)) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let first = Daemon::start(directory.path());
    RawClient::connect(first.socket()).put("key", SEVEN);
    assert_eq!(first.terminate().code(), Some(0));
    change(&directory.path().join("data.inmem"));
    let refused = Daemon::start_with(directory.path(), &[]);
    let refused = refused.err().expect("it does not start");
    (refused.status.code(), refused.log)
}

#[test]
fn damage_and_a_foreign_codec_and_a_directory_of_others_have_exit_codes_of_their_own() {
    let (code, log) = refused_after(|data| {
        let manifest = data.join("MANIFEST");
        let mut bytes = std::fs::read(&manifest).unwrap();
        bytes.extend([0; 8]);
        std::fs::write(&manifest, bytes).unwrap();
    });
    assert_eq!(code, Some(4), "{log}");
    assert!(log.contains("MANIFEST"), "{log}");
    let (code, log) = refused_after(|data| {
        let manifest = data.join("MANIFEST");
        let bytes = std::fs::read(&manifest).unwrap();
        let mut manifest_of_other = in_mem_snapshot::Manifest::decode(&bytes).unwrap();
        manifest_of_other.codec_id = "of another build".to_owned();
        std::fs::write(&manifest, manifest_of_other.encode()).unwrap();
    });
    assert_eq!(code, Some(8), "{log}");
    assert!(log.contains("of another build"), "{log}");
    let (code, log) = refused_after(|data| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(data, mode).unwrap();
    });
    assert_eq!(code, Some(5), "{log}");
}

#[test]
fn a_second_daemon_on_the_directory_is_refused_and_the_first_is_unhurt() {
    let directory = tempfile::tempdir().unwrap();
    let first = Daemon::start(directory.path());
    let other = directory.path().join("other.sock");
    let refused = Daemon::start_with(directory.path(), &["--socket", other.to_str().unwrap()]);
    let refused = refused.err().expect("only one daemon owns a directory");
    assert_eq!(refused.status.code(), Some(3), "{}", refused.log);
    RawClient::connect(first.socket()).put("key", SEVEN);
    assert_eq!(first.terminate().code(), Some(0));
}

#[test]
fn a_live_socket_is_refused_and_stays_alive() {
    let directory = tempfile::tempdir().unwrap();
    let first = Daemon::start(directory.path());
    let other = directory.path().join("other.inmem");
    let refused = Daemon::start_with(directory.path(), &["--data-dir", other.to_str().unwrap()]);
    let refused = refused.err().expect("a live socket is not taken over");
    assert_eq!(refused.status.code(), Some(7), "{}", refused.log);
    assert!(refused.log.contains("socket in use"), "{}", refused.log);
    RawClient::connect(first.socket()).put("key", SEVEN);
}

#[test]
fn a_stale_socket_is_replaced_and_another_kind_of_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(
        path.exists(),
        "a dropped listener leaves its file: this is what a kill leaves"
    );
    let daemon = Daemon::start(directory.path());
    RawClient::connect(daemon.socket()).put("key", SEVEN);
    daemon.terminate();
    assert!(!path.exists(), "a clean stop removes the socket");
    std::fs::write(&path, b"precious").unwrap();
    let refused = Daemon::start_with(directory.path(), &[])
        .err()
        .expect("a file is in the way");
    assert_eq!(refused.status.code(), Some(7), "{}", refused.log);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

fn terminating_finishes_and_answers_everything_in_flight() {
    for durability in ["strict", "buffered", "in_memory"] {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Daemon::start_with(directory.path(), &["--durability", durability]).unwrap();
        let mut client = RawClient::connect(daemon.socket());
        client.put("before", SEVEN);
        let keys: Vec<String> = (0..500).map(|number| format!("key-{number}")).collect();
        for key in &keys {
            client.start(RequestHeader::default(), put(key, SEVEN));
        }
        // One answer proves that the rest is on its way.
        client.read().unwrap().unwrap().response();
        daemon.signal(Signal::TERM);
        let mut acked = 1;
        let mut is_told = false;
        for reply in client.read_to_end() {
            match reply.close() {
                None => acked += u32::from(matches!(reply.response(), Response::Written(_))),
                Some(close) => is_told = close.reason == CloseReason::Draining,
            }
        }
        assert!(is_told, "the last word is that the server is shutting down");
        let mut daemon = daemon;
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
        drop(daemon);
        if durability == "in_memory" {
            continue;
        }
        let daemon = Daemon::start(directory.path());
        let mut client = RawClient::connect(daemon.socket());
        let found = keys.iter().filter(|key| client.get(key).is_some()).count();
        assert!(
            found >= acked as usize,
            "{durability}: {acked} acknowledged, {found} found"
        );
        assert_eq!(client.get("before").as_deref(), Some(SEVEN));
    }
}

fn terminating_rolls_back_open_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    let Response::TxnBegun(begun) = client.call(begin()) else {
        panic!("no transaction")
    };
    let header = RequestHeader {
        txn_id: begun.txn_id,
        ..RequestHeader::default()
    };
    client.call_with(header, put("open", SEVEN));
    assert_eq!(daemon.terminate().code(), Some(0));
    let daemon = Daemon::start(directory.path());
    assert_eq!(RawClient::connect(daemon.socket()).get("open"), None);
}

fn killing_loses_no_acknowledged_strict_or_buffered_commit() {
    let directory = tempfile::tempdir().unwrap();
    let mut last: Vec<String> = Vec::new();
    for (round, durability) in ["strict", "buffered", "strict"].into_iter().enumerate() {
        let daemon = Daemon::start_with(directory.path(), &["--durability", durability]).unwrap();
        let mut client = RawClient::connect(daemon.socket());
        for key in &last {
            assert_eq!(
                client.get(key).as_deref(),
                Some(SEVEN),
                "{key} was acknowledged"
            );
        }
        for number in 0..100 {
            let key = format!("{round}-{number}");
            client.put(&key, SEVEN);
            last.push(key);
        }
        // Unanswered ones may be in or out.
        for number in 0..50 {
            let key = format!("unknown-{round}-{number}");
            client.start(RequestHeader::default(), put(&key, SEVEN));
        }
        daemon.kill();
    }
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    for key in &last {
        assert_eq!(
            client.get(key).as_deref(),
            Some(SEVEN),
            "{key} was acknowledged"
        );
    }
    assert!(
        daemon.ready_line.contains("recovered="),
        "{}",
        daemon.ready_line
    );
}

#[test]
fn commits_that_were_only_volatile_are_gone_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    let header = RequestHeader {
        durability: DurabilityChoice::InMemory,
        ..RequestHeader::default()
    };
    let Response::Written(receipt) = client.call_with(header, put("volatile", SEVEN)) else {
        panic!("not written");
    };
    assert_eq!(receipt.level, ReachedLevel::Volatile);
    let Response::Written(receipt) = client.call(put("durable", SEVEN)) else {
        panic!("not written");
    };
    assert_eq!(receipt.level, ReachedLevel::Synced);
    daemon.terminate();
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    assert_eq!(client.get("volatile"), None);
    assert_eq!(client.get("durable").as_deref(), Some(SEVEN));
}

fn an_idle_daemon_uses_no_cpu_and_does_not_wake() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    client.put("key", SEVEN);
    let Response::TxnBegun(begun) = client.call(begin()) else {
        panic!("no transaction")
    };
    let header = RequestHeader {
        txn_id: begun.txn_id,
        ..RequestHeader::default()
    };
    client.call_with(header, Operation::TxnRollback);
    // A read that nothing answers ends when its time is over: that is the interval. The first
    // lets what follows the commit settle (the log closes its last batch a second later).
    let mut wait = |interval: Duration| {
        client.stream.set_read_timeout(Some(interval)).unwrap();
        let waited = client.stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(waited.kind(), ErrorKind::WouldBlock);
    };
    wait(Duration::from_millis(1_500));
    // Zeroing spare segments after the start takes as long as the disk takes: a few intervals may
    // show it. A timer that never stops shows in all of them.
    let mut seen = Vec::new();
    let is_idle = (0..6).any(|_| {
        let (switches_before, ticks_before) = daemon.activity();
        wait(Duration::from_secs(2));
        let (switches_after, ticks_after) = daemon.activity();
        seen.push((switches_after - switches_before, ticks_after - ticks_before));
        seen.last() == Some(&(0, 0))
    });
    assert!(
        is_idle,
        "an idle daemon woke and worked (switches, ticks) in every interval: {seen:?}"
    );
    client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(client.get("key").as_deref(), Some(SEVEN));
}

fn a_second_signal_or_the_deadline_ends_a_stop_that_cannot_finish() {
    for is_signalled_twice in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        let timeout_ms = if is_signalled_twice { 60_000 } else { 500 };
        std::fs::write(
            &path,
            format!("[limits]\nshutdown_timeout_ms = {timeout_ms}\n"),
        )
        .unwrap();
        let arguments = [
            "--config",
            path.to_str().unwrap(),
            "--durability",
            "buffered",
        ];
        let mut daemon = Daemon::start_with(directory.path(), &arguments).unwrap();
        let mut client = RawClient::connect(daemon.socket());
        let mut value = vec![0xc6, 0, 8, 0, 0];
        value.extend_from_slice(&vec![5; 8 << 16]);
        client.put("large", &value);
        // A reply larger than the socket's buffer, to a peer that does not read it.
        let get = Operation::KvGet(Key {
            key: "large".into(),
        });
        client.send(&request_frame(9, RequestHeader::default(), get));
        client.start(RequestHeader::default(), Operation::SystemPing);
        daemon.signal(Signal::TERM);
        if is_signalled_twice {
            daemon.signal(Signal::INT);
        }
        let status = daemon.wait();
        assert!(
            matches!(status.code(), Some(0 | 1)),
            "{status:?} {}",
            daemon.log()
        );
        let daemon = Daemon::start(directory.path());
        assert_eq!(
            RawClient::connect(daemon.socket()).get("large"),
            Some(value)
        );
    }
}

/// What was lost: the stop waited for the worker it had given up.
fn a_stop_that_is_cut_off_does_not_wait_for_a_worker_that_is_stuck() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "[limits]\nshutdown_timeout_ms = 300\n").unwrap();
    let arguments = [
        "--config",
        path.to_str().unwrap(),
        "--durability",
        "buffered",
    ];
    let mut daemon = Daemon::start_with(directory.path(), &arguments).unwrap();
    let mut client = RawClient::connect(daemon.socket());
    client.put("acknowledged", SEVEN);
    match frozen::freeze(daemon.pid(), "inmem-worker") {
        Ok(count) => assert_eq!(count, 2, "both workers"),
        Err(error) => {
            println!("SKIPPED: needs the right to trace a child process: {error}");
            return;
        }
    }
    let all = in_mem_ipc::request::kv::Prefix {
        prefix: in_mem_ipc::Bytes::default(),
    };
    client.start(RequestHeader::default(), Operation::KvCount(all));
    client.put("behind", SEVEN);
    daemon.signal(Signal::TERM);
    let status = daemon.wait();
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert!(daemon.log().contains("unfinished=1"), "{}", daemon.log());
    assert!(
        daemon.log().contains("the log is synced"),
        "{}",
        daemon.log()
    );
    drop(daemon);
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    assert_eq!(client.get("acknowledged").as_deref(), Some(SEVEN));
    assert_eq!(client.get("behind").as_deref(), Some(SEVEN));
}

#[test]
fn the_log_is_written_in_blocks_of_the_device_below() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    RawClient::connect(daemon.socket()).put("key", SEVEN);
    daemon.terminate();
    let data = directory.path().join("data.inmem");
    let segment = std::fs::read(data.join("WAL/wal-000001.seg")).unwrap();
    // The first mark stands behind the header; its block follows the head of a record and a kind.
    let at = 4096 + 37 + 1;
    let block = u16::from_le_bytes([segment[at], segment[at + 1]]);
    let device = in_mem_wal::disk::RealRoot::open(&data).unwrap();
    assert_eq!(u32::from(block), device.block_bytes());
}

#[test]
fn the_log_names_the_data_directory_as_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path());
    daemon.signal(Signal::TERM);
    daemon.wait();
    let log = daemon.log();
    let data = directory.path().join("data.inmem").display().to_string();
    assert!(log.contains(&format!("directory={data}")), "{log}");
    assert!(!log.contains("Some(") && !log.contains("None"), "{log}");
}

#[test]
fn wrong_flags_and_settings_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "sokcet = \"/tmp/x\"\n").unwrap();
    let config = path.to_str().unwrap();
    let output = inmemd(&["--config", config, "--check-config"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("sokcet") && text.contains("`socket`"),
        "{text}"
    );
    assert_eq!(inmemd(&["--no-such-flag"]).status.code(), Some(2));
    assert_eq!(inmemd(&["--durability", "paranoid"]).status.code(), Some(2));
    std::fs::write(&path, "[limits]\nconnection_count_max = 7\n").unwrap();
    assert_eq!(
        inmemd(&["--config", config, "--check-config"])
            .status
            .code(),
        Some(0)
    );
    let output = inmemd(&[
        "--config",
        config,
        "--print-config",
        "--socket",
        "/tmp/printed",
    ]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains(&format!("connection_count_max = 7  # file {config}")),
        "{text}"
    );
    assert!(
        text.contains("socket = \"/tmp/printed\"  # flag --socket"),
        "{text}"
    );
    assert!(
        text.contains("durability = \"strict\"  # default"),
        "{text}"
    );
    let output = inmemd(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("protocol 1"));
}

fn a_transaction_left_alone_expires_and_its_next_use_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "[limits]\ntransaction_idle_ms = 200\n").unwrap();
    let daemon =
        Daemon::start_with(directory.path(), &["--config", path.to_str().unwrap()]).unwrap();
    let mut client = RawClient::connect(daemon.socket());
    let Response::TxnBegun(begun) = client.call(begin()) else {
        panic!("no transaction")
    };
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert_eq!(
        client.stream.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let header = RequestHeader {
        txn_id: begun.txn_id,
        ..RequestHeader::default()
    };
    match client.call_with(header, put("late", SEVEN)) {
        Response::Error(error) => {
            assert_eq!(
                error.sub,
                SubCode::TransactionNotActive.number(),
                "{}",
                &*error.message
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.get("late"), None);
}

#[test]
fn with_orphan_on_recovery_a_run_left_active_is_closed_until_it_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "orphan_on_recovery = true\n").unwrap();
    let arguments = ["--config", path.to_str().unwrap()];
    let daemon = Daemon::start_with(directory.path(), &arguments).unwrap();
    let mut client = RawClient::connect(daemon.socket());
    let run_begin = Operation::RunBegin(RunBegin {
        name: Some("left".into()),
        ..RunBegin::default()
    });
    assert!(matches!(client.call(run_begin), Response::RunBegun(_)));
    daemon.kill();
    let daemon = Daemon::start_with(directory.path(), &arguments).unwrap();
    let mut client = RawClient::connect(daemon.socket());
    let resolve = Operation::RunResolve(RunName {
        name: "left".into(),
    });
    let Response::RunId(run) = client.call(resolve) else {
        panic!("the run is gone")
    };
    let header = RequestHeader {
        run: RunChoice::Id(run),
        ..RequestHeader::default()
    };
    let status = |client: &mut RawClient| match client.call_with(header, Operation::RunStatus) {
        Response::RunStatus(reply) => reply.status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(&mut client), Some(RunStatus::Orphaned).into());
    match client.call_with(header, put("key", SEVEN)) {
        Response::Error(error) => assert_eq!(error.sub, SubCode::RunClosed.number()),
        other => panic!("{other:?}"),
    }
    let resumed = client.call_with(header, Operation::RunResume);
    assert!(matches!(resumed, Response::Written(_)), "{resumed:?}");
    assert_eq!(status(&mut client), Some(RunStatus::Active).into());
    let written = client.call_with(header, put("key", SEVEN));
    assert!(matches!(written, Response::Written(_)), "{written:?}");
}
