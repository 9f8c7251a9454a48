//! Checkpoints over the socket: what a start after them reads, what becomes of the log, and what
//! goes on while one is taken.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use in_mem_client::model::{Durability, SubCode};
use in_mem_client::{Client, ClientError, CompactMode, ListOptions};
use in_mem_ipc::request::db::Compact;

use super::*;

/// A log of small segments.
const SMALL_SEGMENTS: &str = "[wal]\nsegment_len_bytes = 65536\nbuffered_sync_bytes = 65536\n";

fn start(directory: &Path, configuration: &str, fault: Option<String>) -> Daemon {
    let file = directory.join("inmemd.toml");
    std::fs::write(&file, format!("{SMALL_SEGMENTS}{configuration}")).unwrap();
    let socket = directory.join("s.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
    command
        .env_remove("INMEM_SOCKET")
        .env_remove("INMEM_DATA_DIR");
    command.arg("--data-dir").arg(directory.join("data.inmem"));
    command.arg("--socket").arg(&socket);
    command.arg("--config").arg(&file);
    if let Some(fault) = fault {
        command.env("INMEM_FAULT_POINT", fault);
    }
    Daemon::spawn(command, socket).unwrap_or_else(|failed| panic!("not ready: {failed:?}"))
}

fn client_of(daemon: &Daemon) -> Client {
    Client::builder().socket(daemon.socket()).connect().unwrap()
}

/// A counter or a fact of `system.info`; none if it says nothing of it.
fn measure(client: &Client, name: &str) -> Option<u64> {
    let info = client.info().unwrap();
    let found = info.measures.iter().find(|measure| measure.name == name);
    found.map(|measure| measure.value)
}

/// Asks until something is so.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
    }
}

fn content(client: &Client) -> BTreeMap<String, i64> {
    let page = client.kv().list(ListOptions {
        limit: 1_000,
        ..ListOptions::default()
    });
    let keys = page.unwrap().entries.into_iter();
    let value = |key: &str| client.kv().get(key).unwrap().unwrap();
    keys.map(|key| (key.clone(), value(&key))).collect()
}

fn sub_of<T: std::fmt::Debug>(result: Result<T, ClientError>) -> SubCode {
    result.unwrap_err().sub().expect("a sub-code")
}

/// A FIFO at which a fault point waits.
fn hold(directory: &Path) -> PathBuf {
    let path = directory.join("hold");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

fn release(fifo: &Path) {
    // Opening waits for whoever is held.
    drop(OpenOptions::new().write(true).open(fifo).unwrap());
}

#[test]
fn a_killed_daemon_starts_with_the_snapshot_a_client_asked_for_and_the_log_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let client = client_of(&daemon);
    for number in 0..20 {
        client.kv().put(&format!("k{number}"), &number).unwrap();
    }
    client.kv().delete("k0").unwrap();
    let last = client.kv().put("k1", &100).unwrap().commit_version;
    let taken = client.checkpoint().unwrap();
    assert_eq!((taken.snapshot_id, taken.watermark_txn), (1, last));
    assert_eq!(measure(&client, "snapshot_id"), Some(1));
    assert_eq!(
        measure(&client, "snapshot_len_bytes"),
        Some(taken.size_bytes)
    );
    client.kv().put("behind", &1).unwrap();
    client.kv().put("k2", &200).unwrap();
    let before = content(&client);
    daemon.kill();
    let daemon = Daemon::start(directory.path());
    assert!(
        daemon.ready_line.contains(" recovered=2 "),
        "{}",
        daemon.ready_line
    );
    assert!(
        daemon.ready_line.ends_with(" snapshot=1"),
        "{}",
        daemon.ready_line
    );
    let client = client_of(&daemon);
    assert_eq!(content(&client), before);
    assert_eq!(
        client
            .kv()
            .history::<i64>("k1", 0, None)
            .unwrap()
            .versions
            .len(),
        2
    );
    assert_eq!(measure(&client, "recovery_snapshot_id"), Some(1));
    assert_eq!(measure(&client, "recovery_snapshot_watermark"), Some(last));
    assert_eq!(measure(&client, "snapshot_watermark"), Some(last));
    let listed = client.list_snapshots().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].size_bytes, taken.size_bytes);
    assert_eq!(listed[0].created_at_us, taken.timestamp_us);
    assert_eq!(listed[0].path, "SNAPSHOTS/snap-000001.chk");
}

#[test]
fn an_automatic_checkpoint_shrinks_the_log_once_a_reload_allows_it() {
    let rule = |automatic: bool| {
        format!(
            "[checkpoint]\nautomatic = {automatic}\nlog_len_bytes_min = 262144\nlog_factor = 1\n\
             poll_ms = 1\n"
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), &rule(false), None);
    let client = client_of(&daemon);
    let value = "v".repeat(8 << 10);
    let put = |number: u32| {
        client
            .kv()
            .put("key", &format!("{number} {value}"))
            .unwrap()
    };
    for number in 0..60 {
        put(number);
    }
    assert_eq!(client.list_snapshots().unwrap(), [], "it is switched off");
    let file = directory.path().join("inmemd.toml");
    std::fs::write(&file, format!("{SMALL_SEGMENTS}{}", rule(true))).unwrap();
    daemon.signal(Signal::HUP);
    let mut number = 60;
    let mut longest = 0;
    until("two checkpoints by itself", || {
        put(number);
        number += 1;
        longest = longest.max(measure(&client, "log_len_bytes").unwrap());
        (2 <= measure(&client, "automatic_checkpoint_count").unwrap()).then_some(())
    });
    let left = measure(&client, "log_len_bytes").unwrap();
    assert!(left < longest, "{left} of {longest} bytes");
    let first = directory.path().join("data.inmem/WAL/wal-000001.seg");
    assert!(!first.exists(), "the log still begins at its beginning");
    let health = client.health().unwrap();
    assert_eq!(health.faults, []);
    daemon.kill();
    let daemon = start(directory.path(), &rule(true), None);
    assert!(
        !daemon.ready_line.ends_with(" snapshot=0"),
        "{}",
        daemon.ready_line
    );
    let found: String = client_of(&daemon).kv().get("key").unwrap().unwrap();
    assert_eq!(found, format!("{} {value}", number - 1));
}

#[test]
fn checkpoints_and_compactions_while_writers_write_strict_lose_nothing_of_a_killed_daemon() {
    const WRITERS: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), "", None);
    let mut removed_count = 0;
    let acked: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (writer, acked) in acked.iter().enumerate() {
            let builder = Client::builder().socket(daemon.socket());
            let client = builder.durability(Durability::Strict).connect().unwrap();
            let is_over = &is_over;
            scope.spawn(move || {
                let kv = client.kv();
                // The log rotates every few of them.
                let filler = "x".repeat(8_000);
                while !is_over.load(Ordering::SeqCst) {
                    // The daemon is killed under it.
                    let Ok(done) = kv.incr(&format!("w{writer}"), 1) else {
                        return;
                    };
                    acked.store(u64::try_from(done.value).unwrap(), Ordering::SeqCst);
                    if kv.put("filler", &filler).is_err() {
                        return;
                    }
                }
            });
        }
        let client = client_of(&daemon);
        let all = || acked.iter().map(|acked| acked.load(Ordering::SeqCst));
        for round in 1..=3 {
            let before: u64 = all().sum();
            let taken = client.checkpoint().unwrap();
            assert_eq!(taken.snapshot_id, round);
            let compacted = client.compact(CompactMode::WalOnly).unwrap();
            assert_eq!(compacted.snapshot_watermark, taken.watermark_txn);
            removed_count += compacted.wal_segments_removed;
            assert_eq!(
                (&*compacted.mode, compacted.versions_removed),
                ("wal_only", 0)
            );
            until("writers go on", || {
                (before + 20 < all().sum()).then_some(())
            });
        }
        daemon.signal(Signal::KILL);
        is_over.store(true, Ordering::SeqCst);
    });
    assert_ne!(removed_count, 0, "the log was compacted");
    drop(daemon);
    let daemon = start(directory.path(), "", None);
    assert!(
        daemon.ready_line.ends_with(" snapshot=3"),
        "{}",
        daemon.ready_line
    );
    let client = client_of(&daemon);
    for (writer, acked) in acked.iter().enumerate() {
        let found: i64 = client.kv().get(&format!("w{writer}")).unwrap().unwrap();
        let acked = i64::try_from(acked.load(Ordering::SeqCst)).unwrap();
        // One that was on its way may be there.
        assert!(
            (acked..=acked + 1).contains(&found),
            "{found}, acked {acked}"
        );
    }
}

#[test]
fn a_checkpoint_under_way_holds_nobody_up_and_goes_on_without_who_asked_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = hold(directory.path());
    let point = format!("DuringSnapshotBeforeRename:1:{}", fifo.display());
    let daemon = start(directory.path(), "", Some(point));
    let client = client_of(&daemon);
    client.kv().put("key", &1).unwrap();
    let mut asks = RawClient::connect(daemon.socket());
    let checkpoint = asks.start(RequestHeader::default(), Operation::DbCheckpoint);
    until("it is written", || {
        measure(&client, "checkpoint_is_publishing")
    });
    assert!(0 < measure(&client, "checkpoint_written_len_bytes").unwrap());
    // Reads, writes and looks go on, also of the session that waits.
    client.kv().put("key", &2).unwrap();
    assert!(matches!(
        asks.call(put("other", SEVEN)),
        Response::Written(_)
    ));
    assert_eq!(client.list_snapshots().unwrap(), []);
    let metrics = exposition::Exposition::parse(&client.metrics().unwrap());
    assert_eq!(
        metrics.get("inmem_checkpoint_phase{phase=\"publishing\"}"),
        1.0
    );
    // There is one at a time.
    assert_eq!(sub_of(client.checkpoint()), SubCode::AlreadyInProgress);
    let compacted = client.compact(CompactMode::WalOnly);
    assert_eq!(sub_of(compacted), SubCode::AlreadyInProgress);
    assert_eq!(
        sub_of(client.delete_snapshot(1)),
        SubCode::AlreadyInProgress
    );
    release(&fifo);
    let reply = asks.read().unwrap().expect("an answer");
    assert_eq!(reply.header.request_id, checkpoint);
    assert!(matches!(reply.response(), Response::Checkpoint(_)));
    // Who asks and leaves at once gets a snapshot, too; nobody hears of it.
    let mut leaves = RawClient::connect(daemon.socket());
    leaves.start(RequestHeader::default(), Operation::DbCheckpoint);
    drop(leaves);
    until("the second", || {
        measure(&client, "snapshot_id").filter(|id| *id == 2)
    });
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn who_is_out_of_time_is_told_and_the_checkpoint_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = hold(directory.path());
    let point = format!("DuringSnapshotBeforeRename:1:{}", fifo.display());
    let daemon = start(directory.path(), "", Some(point));
    let client = client_of(&daemon);
    client.kv().put("key", &1).unwrap();
    let header = RequestHeader {
        deadline_us: 1_000,
        ..RequestHeader::default()
    };
    let mut asks = RawClient::connect(daemon.socket());
    match asks.call_with(header, Operation::DbCheckpoint) {
        Response::Error(error) => assert_eq!(error.sub, SubCode::Timeout.number()),
        other => panic!("{other:?}"),
    }
    release(&fifo);
    until("the snapshot", || measure(&client, "snapshot_id"));
    assert_eq!(client.list_snapshots().unwrap().len(), 1);
}

#[test]
fn each_refusal_says_what_there_is_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(directory.path(), &["--durability", "in_memory"]).unwrap();
    let client = client_of(&daemon);
    client.kv().put("key", &1).unwrap();
    assert_eq!(sub_of(client.checkpoint()), SubCode::Unavailable, "no log");
    assert_eq!(client.list_snapshots().unwrap(), []);
    let logged = client.kv().with_durability(Durability::Strict);
    logged.put("key", &2).unwrap();
    let refused = client.compact(CompactMode::WalOnly);
    assert_eq!(sub_of(refused), SubCode::NoSnapshot);
    client.checkpoint().unwrap();
    client.checkpoint().unwrap();
    let newest = client.delete_snapshot(2);
    assert_eq!(sub_of(newest), SubCode::InvalidArgument);
    assert!(!client.delete_snapshot(77).unwrap());
    assert!(client.delete_snapshot(1).unwrap());
    let left = client.list_snapshots().unwrap();
    assert_eq!(
        left.iter().map(|info| info.snapshot_id).collect::<Vec<_>>(),
        [2]
    );
    let mut raw = RawClient::connect(daemon.socket());
    let compact = |mode: &'static str| Operation::DbCompact(Compact { mode: mode.into() });
    match raw.call(compact("everything")) {
        Response::Error(error) => {
            assert_eq!(error.sub, SubCode::InvalidArgument.number());
            assert!(error.message.contains("wal_only"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let Response::TxnBegun(begun) = raw.call(begin()) else {
        panic!("not begun")
    };
    let inside = RequestHeader {
        txn_id: begun.txn_id,
        ..RequestHeader::default()
    };
    for operation in [
        Operation::DbCheckpoint,
        compact("wal_only"),
        Operation::DbListSnapshots,
    ] {
        match raw.call_with(inside, operation) {
            Response::Error(error) => {
                assert_eq!(error.sub, SubCode::NotInTransaction.number());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_automatic_checkpoint_that_fails_is_logged_once_and_shows_in_health_until_one_succeeds() {
    let rule = "[checkpoint]\nlog_len_bytes_min = 4096\nlog_factor = 1\npoll_ms = 1\n";
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), "[checkpoint]\nautomatic = false\n", None);
    let client = client_of(&daemon);
    let snapshots = directory.path().join("data.inmem/SNAPSHOTS");
    let aside = directory.path().join("data.inmem/aside");
    std::fs::rename(&snapshots, &aside).unwrap();
    let file = directory.path().join("inmemd.toml");
    std::fs::write(&file, format!("{SMALL_SEGMENTS}{rule}")).unwrap();
    daemon.signal(Signal::HUP);
    let value = "v".repeat(4 << 10);
    let put = || client.kv().put("key", &value).unwrap();
    let failed = until("two failures", || {
        put();
        let failed = measure(&client, "automatic_checkpoint_failed_count").unwrap();
        (2 <= failed).then(|| client.health().unwrap())
    });
    assert_eq!(failed.state.name(), "degraded");
    let fault = failed.faults.iter().find(|fault| fault.name == "snapshot");
    let reason = &fault.expect("the fault").reason;
    assert!(reason.contains("SNAPSHOTS"), "{reason}");
    std::fs::rename(&aside, &snapshots).unwrap();
    until("healthy again", || {
        put();
        let report = client.health().unwrap();
        (report.faults.is_empty() && report.state.name() == "ok").then_some(())
    });
    assert!(measure(&client, "snapshot_id").is_some());
    let log = daemon.log();
    let said = log.matches("the automatic checkpoint failed").count();
    assert_eq!(said, 1, "{log}");
}
