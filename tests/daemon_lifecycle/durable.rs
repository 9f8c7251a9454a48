//! Durability as a dial, over the socket: what every write says it reached, and the fence.

use in_mem_client::Client;
use in_mem_client::model::{Durability, Level};
use in_mem_ipc::request::kv::{CasValue, CasVersion, ExpectedVersion, Increment, KeyValue};
use in_mem_ipc::request::kv::{KeyValues, Keys};
use in_mem_ipc::request::txn::{Batch, BatchOperation};
use in_mem_ipc::response::Receipt;

use super::*;
use crate::interrupting;

fn client_of(daemon: &Daemon, durability: Durability) -> Client {
    let builder = Client::builder().socket(daemon.socket());
    builder.durability(durability).connect().unwrap()
}

#[test]
fn thousands_of_buffered_writes_are_durable_behind_one_fence() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let client = client_of(&daemon, Durability::Buffered);
    let mut watch = client.watch_durable().unwrap();
    let mut pipeline = client.pipeline();
    let tickets: Vec<_> = (0..3_000)
        .map(|step| pipeline.put(&format!("step/{step}"), &step).unwrap())
        .collect();
    let mut answers = pipeline.send().unwrap();
    let fence = answers.fence().unwrap();
    for ticket in tickets {
        let receipt = answers.take(ticket).unwrap();
        assert_eq!(receipt.level, Some(Level::Logged));
        assert!(receipt.commit_version <= fence.version());
    }
    let durable = client.pass(&fence).unwrap();
    assert!(fence.version() <= durable);
    let told = watch.wait(fence.version(), DEADLINE).unwrap();
    assert!(fence.version() <= told && told <= durable);
    assert!(told <= watch.newest().unwrap());
    watch.unsubscribe().unwrap();
    assert_eq!(client.wait_durable(0, None).unwrap(), durable);

    let last = client.kv().put("last", &1).unwrap().commit_version;
    client.flush().unwrap();
    assert!(last <= client.wait_durable(last, Some(DEADLINE)).unwrap());
    let info = client.info().unwrap();
    let measure = |name: &str| info.measures.iter().find(|m| m.name == name).unwrap().value;
    assert!(last <= measure("durable_version"));
    assert_eq!(measure("durable_wait_count"), 0);
}

#[test]
fn a_signal_does_not_end_the_wait_of_a_watch() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let client = client_of(&daemon, Durability::Strict);
    let version = client.kv().put("key", &1).unwrap().commit_version;
    let mut watch = client_of(&daemon, Durability::Strict)
        .watch_durable()
        .unwrap();
    interrupting::prepare();
    let (teller, told) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        teller.send(nix::unistd::gettid()).unwrap();
        watch.wait(version + 1, DEADLINE)
    });
    let thread = told.recv_timeout(DEADLINE).unwrap();
    for _ in 0..3 {
        interrupting::interrupt(thread);
    }
    client.kv().put("key", &2).unwrap();
    let reached = waiting.join().unwrap().unwrap();
    assert!(version < reached, "{reached}");
}

#[test]
fn a_fence_around_a_volatile_or_a_failed_write_is_not_passed() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let client = client_of(&daemon, Durability::InMemory);
    let mut pipeline = client.pipeline();
    pipeline.put("k", &1).unwrap();
    let fence = pipeline.send().unwrap().fence().unwrap();
    let volatile = fence.volatile_version().unwrap();
    let refused = client.pass(&fence).unwrap_err();
    assert_eq!(refused.sub(), Some(SubCode::NotLogged));
    let refused = client.wait_durable(volatile, None).unwrap_err();
    assert_eq!(refused.sub(), Some(SubCode::NotLogged));
    let refused = client.wait_durable(volatile + 1_000, None).unwrap_err();
    assert_eq!(refused.sub(), Some(SubCode::InvalidArgument));

    let client = client_of(&daemon, Durability::Buffered);
    client.kv().put("text", "no number").unwrap();
    let mut pipeline = client.pipeline();
    pipeline.put("fine", &1).unwrap();
    pipeline.incr("text", 1).unwrap();
    let failed = pipeline.send().unwrap().fence().unwrap_err();
    assert_eq!(failed.class(), in_mem_model::ErrorClass::WrongType);
}

fn receipt_of(response: &Response<'_>) -> Receipt {
    match response {
        Response::Written(receipt) => *receipt,
        Response::Deleted(deleted) => deleted.receipt,
        Response::Incremented(incremented) => incremented.receipt,
        Response::Replaced(replaced) => replaced.receipt,
        Response::Batch(batch) => batch.receipt,
        other => panic!("{other:?}"),
    }
}

/// Every operation that writes keys, each so that it commits.
fn writes() -> Vec<Operation<'static>> {
    let key = |key: &'static str| Key { key: key.into() };
    let pair = |key: &'static str| KeyValue {
        key: key.into(),
        value: SEVEN.into(),
    };
    let increment = || Increment {
        key: "n".into(),
        delta: 1,
    };
    vec![
        Operation::KvPut(pair("a")),
        Operation::KvPutMany(KeyValues {
            entries: vec![pair("b"), pair("c"), pair("d"), pair("e")],
        }),
        Operation::KvPutIfAbsent(pair("f")),
        Operation::KvIncr(increment()),
        Operation::KvCasVersion(CasVersion {
            key: "g".into(),
            value: SEVEN.into(),
            expected: ExpectedVersion::Absent,
        }),
        Operation::KvCasValue(CasValue {
            key: "g".into(),
            value: SEVEN.into(),
            expected: Some(SEVEN.into()),
        }),
        Operation::KvGetAndSet(pair("g")),
        Operation::KvGetAndDelete(key("g")),
        Operation::Batch(Batch {
            start_version: None,
            reads: Vec::new(),
            operations: vec![
                BatchOperation::Put(pair("h")),
                BatchOperation::Increment(increment()),
            ],
        }),
        Operation::KvDelete(key("a")),
        Operation::KvDeleteMany(Keys {
            keys: vec!["b".into(), "f".into(), "h".into(), "n".into()],
        }),
    ]
}

#[test]
fn every_write_says_which_commit_it_made_and_what_that_survives() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    let modes = [
        (DurabilityChoice::InMemory, ReachedLevel::Volatile),
        (DurabilityChoice::Buffered, ReachedLevel::Logged),
        (DurabilityChoice::Strict, ReachedLevel::Synced),
    ];
    let mut last = 0;
    for (durability, level) in modes {
        let header = RequestHeader {
            durability,
            ..RequestHeader::default()
        };
        for write in writes() {
            let name = write.kind().name();
            let receipt = receipt_of(&client.call_with(header, write));
            assert_eq!(receipt.level, level, "{name}");
            assert!(last < receipt.commit_version, "{name}");
            last = receipt.commit_version;
        }
        let begin = Operation::TxnBegin(TxnBegin {
            read_only: false,
            timeout_ms: 0,
            durability,
        });
        let txn_id = match client.call(begin) {
            Response::TxnBegun(begun) => begun.txn_id,
            other => panic!("{other:?}"),
        };
        let inside = RequestHeader {
            txn_id,
            ..RequestHeader::default()
        };
        let receipt = receipt_of(&client.call_with(inside, put("t", SEVEN)));
        assert_eq!(receipt.level, ReachedLevel::Nothing, "not committed yet");
        let receipt = receipt_of(&client.call_with(inside, Operation::TxnCommit));
        assert_eq!(receipt.level, level, "txn.commit");
        assert!(last < receipt.commit_version);
        last = receipt.commit_version;
    }
}
