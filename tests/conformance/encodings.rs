//! Every operation over the socket, in both encodings: the answers are the same.
//!
//! One script is played to two daemons, one per encoding, with every operation in it, good and
//! bad. What differs between any two daemons (times, random ids) is taken out before the answers
//! are compared. Then both encodings read one of the daemons, and what they are told must be equal
//! to the byte.

use std::collections::HashSet;

use in_mem_engine::model::{RunInfo, Value, encode};
use in_mem_ipc::operation::OPERATIONS;
use in_mem_ipc::request::db::{Compact, DeleteSnapshot, Unsubscribe, WaitDurable};
use in_mem_ipc::request::kv::{
    CasValue, CasVersion, ExpectedVersion, GetAt, History, Increment, Key, KeyValue, KeyValues,
    Keys, List, Prefix, Scan,
};
use in_mem_ipc::request::run::{
    RunBegin, RunFailure, RunList, RunMetadata, RunName, RunState, RunTags,
};
use in_mem_ipc::request::txn::{Batch, BatchOperation, BatchRead, ReadCheck, TxnBegin};
use in_mem_ipc::request::version::TaggedVersion;
use in_mem_ipc::request::{DurabilityChoice, RunChoice};
use in_mem_ipc::response::Response;
use in_mem_ipc::{Bytes, Encoding, Operation, OperationKind, RequestHeader};

#[path = "retention.rs"]
mod retention;

use crate::daemon_process::Daemon;
use crate::exports;
use crate::raw_client::RawClient;

/// The script on one daemon.
struct Play {
    client: RawClient,
    header: RequestHeader,
    seen: HashSet<OperationKind>,
    /// What was asked and answered, as far as it does not differ between daemons.
    answers: Vec<String>,
}

impl Play {
    fn ask(&mut self, operation: Operation<'_>) -> Response<'static> {
        let kind = operation.kind();
        self.seen.insert(kind);
        let response = self.client.call_with(self.header, operation);
        self.answers
            .push(format!("{}: {}", kind.name(), shown(&response)));
        response
    }
}

/// A response without what differs between any two daemons.
fn shown(response: &Response<'_>) -> String {
    let mut response = response.clone();
    match &mut response {
        Response::Versioned(found) => found.timestamp_us = 0,
        Response::History(history) => {
            for version in &mut history.versions {
                version.timestamp_us = 0;
            }
        }
        Response::Txn(info) => {
            info.started_at_us = 0;
            info.run = [0; 16];
        }
        Response::Info(info) => {
            info.uptime_us = 0;
            for measure in &mut info.measures {
                measure.value = 0;
            }
        }
        // Numbers and texts that differ between two daemons; what they say has tests of its own.
        Response::Health(health) => health.free_len_bytes = None,
        Response::Metrics(_) => return "Metrics".to_owned(),
        Response::Description(_) => return "Description".to_owned(),
        Response::Checkpoint(info) => info.timestamp_us = 0,
        Response::Exported(info) => exports::forget_what_differs(info),
        Response::Compacted(info) => (info.timestamp_us, info.duration_ms) = (0, 0),
        Response::Snapshots(snapshots) => {
            for info in snapshots {
                info.created_at_us = 0;
            }
        }
        Response::Retention(found) => found.own.iter_mut().for_each(|own| own.timestamp_us = 0),
        Response::RetentionStats(stats) => stats.now_us = 0,
        Response::RunId(id) => *id = [0; 16],
        Response::Run(run) => return format!("Run {}", shown_run(run)),
        Response::RunBegun(begun) => {
            return format!("{} {:?}", shown_run(&begun.run), begun.receipt);
        }
        Response::Runs(page) => {
            let mut runs: Vec<String> = page.runs.iter().map(|run| shown_run(run)).collect();
            runs.sort();
            return format!("{runs:?} {}", page.has_more);
        }
        Response::Error(error) => {
            return format!(
                "{} {} {:?} {:?}",
                error.class, error.sub, error.outcome, error.retry
            );
        }
        _ => {}
    }
    format!("{response:?}")
}

fn shown_run(run: &Bytes<'_>) -> String {
    let info = RunInfo::decode(run).expect("the metadata of a run");
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {}",
        info.name,
        info.status,
        info.tags,
        info.metadata,
        info.error,
        info.description,
        info.parent.is_some()
    )
}

fn encoded(value: impl Into<Value>) -> Bytes<'static> {
    encode(&value.into())
        .expect("small")
        .into_bytes()
        .into_vec()
        .into()
}

fn key(key: &'static str) -> Key<'static> {
    Key { key: key.into() }
}

fn entry(key: &'static str, value: Bytes<'static>) -> KeyValue<'static> {
    KeyValue {
        key: key.into(),
        value,
    }
}

fn keys(keys: &[&'static str]) -> Keys<'static> {
    Keys {
        keys: keys.iter().map(|key| (*key).into()).collect(),
    }
}

/// Values of every type, also such as other encoders write.
fn values() -> Vec<Bytes<'static>> {
    let deep = [&[0x91; 100][..], &[0xc0]].concat();
    vec![
        encoded(Value::Null),
        encoded(true),
        encoded(7_i64),
        encoded(i64::MIN),
        encoded(1.0_f64),
        encoded(f64::NAN),
        encoded(-0.0_f64),
        encoded("text \u{fc}"),
        encoded(Value::Bytes(vec![0, 255])),
        vec![0xcf, 0, 0, 0, 0, 0, 0, 0, 5].into(),
        vec![
            0x82, 0xa1, b'b', 0x93, 1, 0xc0, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 1, 0xa1, b'a', 0x80,
        ]
        .into(),
        deep.into(),
        vec![7; 1].into(),
    ]
}

/// Bytes that are items of MessagePack and no values.
fn no_values() -> Vec<Bytes<'static>> {
    vec![
        vec![0xca, 0, 0, 0, 0].into(),
        vec![0xd4, 5, 9].into(),
        vec![0x82, 0xa1, b'a', 1, 0xa1, b'a', 2].into(),
        vec![0xa1, 0xff].into(),
        vec![0xcf, 0xff, 0, 0, 0, 0, 0, 0, 0].into(),
        vec![0x81, 1, 2].into(),
        [&[0x91; 200][..], &[0xc0]].concat().into(),
    ]
}

fn play_reads(play: &mut Play) {
    for name in ["a", "b", "n", "missing", "v/0", ""] {
        play.ask(Operation::KvGet(key(name)));
        play.ask(Operation::KvGetVersioned(key(name)));
        play.ask(Operation::KvExists(key(name)));
        play.ask(Operation::KvLatestVersion(key(name)));
        for (limit, before) in [(0, None), (1, None), (5, Some(9))] {
            let key = name.into();
            play.ask(Operation::KvHistory(History { key, limit, before }));
        }
        for version in [
            TaggedVersion::Txn(6),
            TaggedVersion::Txn(u64::MAX),
            TaggedVersion::Counter(1),
            TaggedVersion::Sequence(1),
        ] {
            let key = name.into();
            play.ask(Operation::KvGetAt(GetAt { key, version }));
        }
    }
    play.ask(Operation::KvGetMany(keys(&["a", "missing", "v/0", "a"])));
    play.ask(Operation::KvGetMany(keys(&[])));
    play.ask(Operation::KvExistsMany(keys(&["a", "missing", "n"])));
    for prefix in ["", "v/", "zzz"] {
        let prefix: Bytes<'static> = prefix.into();
        play.ask(Operation::KvCount(Prefix {
            prefix: prefix.clone(),
        }));
        for with_values in [false, true] {
            let mut cursor = Bytes::default();
            loop {
                let list = List {
                    prefix: prefix.clone(),
                    cursor,
                    limit: 4,
                    with_values,
                };
                let Response::Page(page) = play.ask(Operation::KvList(list)) else {
                    panic!("not a page")
                };
                cursor = page.cursor;
                if !page.has_more {
                    break;
                }
            }
        }
        play.ask(Operation::KvScan(Scan {
            prefix,
            start: "v/3".into(),
            cursor: Bytes::default(),
            limit: 3,
        }));
    }
    let cursor: Bytes<'static> = vec![0xde, 0xad].into();
    play.ask(Operation::KvScan(Scan {
        prefix: "v/".into(),
        start: "v/3".into(),
        cursor,
        limit: 3,
    }));
}

fn play_writes(play: &mut Play) {
    play.ask(Operation::KvPut(entry("a", encoded(1_i64))));
    play.ask(Operation::KvPut(entry("", encoded(1_i64))));
    play.ask(Operation::KvPut(KeyValue {
        key: vec![0xff, 0xfe].into(),
        value: encoded(1_i64),
    }));
    for (number, value) in values().into_iter().enumerate() {
        let name = format!("v/{number}");
        let key = Bytes::from(name.into_bytes());
        play.ask(Operation::KvPut(KeyValue {
            key: key.clone(),
            value: value.clone(),
        }));
        assert_eq!(
            play.ask(Operation::KvGet(Key { key })),
            Response::Value(value)
        );
    }
    for value in no_values() {
        play.ask(Operation::KvPut(entry("a", value)));
    }
    let expected = |expected| CasVersion {
        key: "a".into(),
        value: encoded("swapped"),
        expected,
    };
    for version in [
        ExpectedVersion::Absent,
        ExpectedVersion::Raw(0),
        ExpectedVersion::Raw(1),
    ] {
        play.ask(Operation::KvCasVersion(expected(version)));
    }
    for wanted in [
        None,
        Some(encoded(5_i64)),
        Some(encoded(1_i64)),
        Some(encoded("swapped")),
    ] {
        play.ask(Operation::KvCasValue(CasValue {
            key: "a".into(),
            value: encoded(2_i64),
            expected: wanted,
        }));
    }
    for name in ["a", "b"] {
        play.ask(Operation::KvPutIfAbsent(entry(name, encoded(3_i64))));
        play.ask(Operation::KvGetAndSet(entry(name, encoded(4_i64))));
    }
    for (name, delta) in [
        ("n", 5),
        ("n", -7),
        ("n", i64::MAX),
        ("n", i64::MAX),
        ("v/7", 1),
    ] {
        let key = name.into();
        play.ask(Operation::KvIncr(Increment { key, delta }));
    }
    play.ask(Operation::KvPutMany(KeyValues {
        entries: vec![entry("m/1", encoded(1_i64)), entry("m/2", encoded(2_i64))],
    }));
    play.ask(Operation::KvDelete(key("b")));
    play.ask(Operation::KvDelete(key("b")));
    play.ask(Operation::KvGetAndDelete(key("m/1")));
    play.ask(Operation::KvGetAndDelete(key("m/1")));
    play.ask(Operation::KvDeleteMany(keys(&["m/2", "missing"])));
}

fn play_batches(play: &mut Play) {
    let operations = || {
        vec![
            BatchOperation::Put(entry("b/1", encoded(1_i64))),
            BatchOperation::Delete(key("b/none")),
            BatchOperation::PutIfAbsent(entry("b/2", encoded(2_i64))),
            BatchOperation::Increment(Increment {
                key: "b/n".into(),
                delta: 3,
            }),
            BatchOperation::CasVersion(CasVersion {
                key: "b/3".into(),
                value: encoded(3_i64),
                expected: ExpectedVersion::Absent,
            }),
            BatchOperation::CasValue(CasValue {
                key: "b/1".into(),
                value: encoded(4_i64),
                expected: Some(encoded(1_i64)),
            }),
        ]
    };
    for (start_version, check) in [
        (None, ReadCheck::Version(0)),
        (None, ReadCheck::SinceStart),
        (Some(1), ReadCheck::SinceStart),
        (None, ReadCheck::Version(77)),
    ] {
        let key = "b/read".into();
        play.ask(Operation::Batch(Batch {
            start_version,
            reads: vec![BatchRead { key, check }],
            operations: operations(),
        }));
    }
}

fn play_runs(play: &mut Play) {
    let begin = RunBegin {
        name: Some("planner".into()),
        tags: vec!["x".into(), "y".into()],
        metadata: Some(encoded(Value::Object(
            [("k".to_owned(), Value::Null)].into_iter().collect(),
        ))),
        description: Some("what for".into()),
        ..RunBegin::default()
    };
    let Response::RunBegun(begun) = play.ask(Operation::RunBegin(begin.clone())) else {
        panic!("not begun")
    };
    let id = RunInfo::decode(&begun.run).expect("metadata").id;
    play.ask(Operation::RunBegin(begin.clone()));
    play.ask(Operation::RunBegin(RunBegin {
        if_missing: true,
        ..begin
    }));
    play.ask(Operation::RunBegin(RunBegin {
        parent: Some(id.0),
        ..RunBegin::default()
    }));
    for name in ["planner", "nobody"] {
        play.ask(Operation::RunResolve(RunName { name: name.into() }));
    }
    play_one_run(play, id.0);
    play.header.run = RunChoice::Id([9; 16]);
    play.ask(Operation::RunStatus);
    play.ask(Operation::RunExists);
    play.ask(Operation::RunGet);
    play.ask(Operation::KvGet(key("in-run")));
    play.header.run = RunChoice::Session;
    for (status, include_archived) in [(None, false), (None, true), (Some(RunState::Active), true)]
    {
        play.ask(Operation::RunList(RunList {
            status,
            include_archived,
            ..RunList::default()
        }));
    }
}

fn play_one_run(play: &mut Play, id: [u8; 16]) {
    play.header.run = RunChoice::Id(id);
    let tags = |tag: &'static str| RunTags {
        tags: vec![tag.into()],
    };
    let why = || RunFailure {
        message: "why".into(),
    };
    play.ask(Operation::KvPut(entry("in-run", encoded(1_i64))));
    play.ask(Operation::RunAddTags(tags("z")));
    play.ask(Operation::RunRemoveTags(tags("x")));
    play.ask(Operation::RunUpdateMetadata(RunMetadata {
        metadata: encoded(Value::Null),
    }));
    play.ask(Operation::RunUpdateMetadata(RunMetadata {
        metadata: encoded(1_i64),
    }));
    for operation in [
        Operation::RunStatus,
        Operation::RunGet,
        Operation::RunExists,
        Operation::RunPause,
        Operation::RunResume,
        Operation::RunFail(why()),
        Operation::RunGet,
        Operation::RunEnd,
        Operation::RunAbort(why()),
        Operation::RunCancel,
        Operation::RunArchive,
        Operation::RunStatus,
        Operation::KvGet(key("in-run")),
        Operation::KvPut(entry("in-run", encoded(2_i64))),
        Operation::RunOrphaned,
    ] {
        play.ask(operation);
    }
}

fn play_transactions(play: &mut Play) {
    let begin = |read_only| {
        Operation::TxnBegin(TxnBegin {
            read_only,
            timeout_ms: 20_000,
            durability: DurabilityChoice::Buffered,
        })
    };
    for (read_only, ends) in [(false, true), (false, false), (true, true)] {
        let Response::TxnBegun(begun) = play.ask(begin(read_only)) else {
            panic!("not begun")
        };
        play.header.txn_id = begun.txn_id;
        play.ask(Operation::KvPut(entry("t", encoded(1_i64))));
        play.ask(Operation::KvGet(key("t")));
        play.ask(Operation::TxnInfo);
        play.ask(begin(false));
        play.ask(Operation::DbFlush);
        play.ask(Operation::DbCheckpoint);
        play.ask(Operation::DbListSnapshots);
        play.ask(if ends {
            Operation::TxnCommit
        } else {
            Operation::TxnRollback
        });
        play.ask(Operation::TxnCommit);
        play.header.txn_id = 0;
    }
    play.ask(Operation::TxnInfo);
}

fn play_snapshots(play: &mut Play) {
    let compact = |mode: &'static str| Operation::DbCompact(Compact { mode: mode.into() });
    let delete = |snapshot_id| Operation::DbDeleteSnapshot(DeleteSnapshot { snapshot_id });
    for operation in [
        Operation::DbListSnapshots,
        compact("wal_only"),
        Operation::DbCheckpoint,
        Operation::DbCheckpoint,
        Operation::DbListSnapshots,
        delete(1),
        delete(1),
        delete(2),
        compact("wal_only"),
        compact("all \u{fc}"),
        Operation::DbListSnapshots,
        Operation::SystemInfo,
    ] {
        play.ask(operation);
    }
}

fn play(encoding: Encoding) -> (tempfile::TempDir, Daemon, Play) {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = exports::start(directory.path());
    let mut play = Play {
        client: RawClient::connect_with(daemon.socket(), encoding),
        header: RequestHeader::default(),
        seen: HashSet::new(),
        answers: Vec::new(),
    };
    play.ask(Operation::SystemPing);
    play.ask(Operation::SystemInfo);
    play.ask(Operation::SystemCapabilities);
    play.ask(Operation::SystemHealth);
    play.ask(Operation::SystemMetrics);
    play.ask(Operation::SystemDescribe);
    for durability in [
        DurabilityChoice::Session,
        DurabilityChoice::Buffered,
        DurabilityChoice::InMemory,
    ] {
        play.header.durability = durability;
        play_writes(&mut play);
    }
    play.header.durability = DurabilityChoice::Session;
    play_reads(&mut play);
    play_batches(&mut play);
    play_transactions(&mut play);
    play_runs(&mut play);
    play_snapshots(&mut play);
    retention::play(&mut play);
    for operation in exports::operations() {
        play.ask(operation);
    }
    // All is on disk then: nothing is pushed to the subscription.
    play.ask(Operation::DbFlush);
    for version in [0, 3] {
        play.ask(Operation::DbWaitDurable(WaitDurable { version }));
    }
    let Response::Subscribed(subscribed) = play.ask(Operation::DbSubscribeDurable) else {
        panic!("not subscribed")
    };
    let subscription_id = subscribed.subscription_id;
    for subscription_id in [subscription_id, subscription_id, 77] {
        play.ask(Operation::DbUnsubscribe(Unsubscribe { subscription_id }));
    }
    (directory, daemon, play)
}

#[test]
fn every_operation_answers_the_same_in_both_encodings() {
    let (_archive_directory, archive_daemon, archive) = play(Encoding::Rkyv);
    let (_map_directory, _map_daemon, map) = play(Encoding::MessagePack);
    for (archive, map) in archive.answers.iter().zip(&map.answers) {
        assert_eq!(archive, map);
    }
    assert_eq!(archive.answers.len(), map.answers.len());
    for operation in OPERATIONS {
        assert!(
            map.seen.contains(&operation.kind),
            "add {} to the script",
            operation.name
        );
    }

    // The same state, read in both: times and ids too.
    let mut same = [Encoding::Rkyv, Encoding::MessagePack].map(|encoding| Play {
        client: RawClient::connect_with(archive_daemon.socket(), encoding),
        header: RequestHeader::default(),
        seen: HashSet::new(),
        answers: Vec::new(),
    });
    for operation in [
        Operation::KvGetVersioned(key("a")),
        Operation::KvHistory(History {
            key: "a".into(),
            limit: 0,
            before: None,
        }),
        Operation::RunList(RunList::default()),
        Operation::RunResolve(RunName {
            name: "planner".into(),
        }),
    ] {
        let [archive, map] = same.each_mut().map(|play| play.ask(operation.clone()));
        assert_eq!(archive, map);
    }
}

/// A large request is translated by a worker and keeps its place in the order of its session.
#[test]
fn a_large_message_pack_request_starts_before_the_ones_behind_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect_with(daemon.socket(), Encoding::MessagePack);
    let mut versions = Vec::new();
    for round in 0..5_u8 {
        let large = encoded(Value::Bytes(vec![round; 300 << 10]));
        for value in [encoded(i64::from(round)), large, encoded("small")] {
            let put = KeyValue {
                key: "k".into(),
                value,
            };
            client.start(RequestHeader::default(), Operation::KvPut(put));
        }
    }
    let mut answers = Vec::new();
    for _ in 0..15 {
        let reply = client.read().expect("readable").expect("open");
        let Response::Written(receipt) = reply.response() else {
            panic!("not written")
        };
        answers.push((reply.header.request_id, receipt.commit_version));
    }
    answers.sort_unstable();
    versions.extend(answers.iter().map(|(_, version)| *version));
    assert!(versions.is_sorted_by(|a, b| a < b), "{answers:?}");
}
