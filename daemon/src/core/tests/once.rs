//! Exactly-once requests over connections that come and go.

use in_mem_ipc::Encoding;
use in_mem_ipc::close::{Close, CloseReason};
use in_mem_ipc::hello::HelloReply;
use in_mem_ipc::request::kv::Increment;
use in_mem_ipc::request::run::RunBegin;
use in_mem_ipc::response::kv::Incremented;
use in_mem_model::Outcome;

use super::*;

/// What the server answers to a hello of client 1 on a new connection.
fn greet(
    fixture: &mut Fixture,
    slot: u32,
    registered_at: Option<u64>,
) -> Result<HelloReply, Close> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let credentials = Credentials {
        process: 1,
        user,
        group,
    };
    fixture.core.connect(slot, credentials);
    let hello = Hello {
        client_id: Some([1; 16]),
        registered_at,
        ..Hello::default()
    };
    let mut bytes = FrameBuffer::new();
    hello.encode(&mut bytes).expect("fits");
    fixture.core.receive(slot, &bytes);
    let session = fixture.core.session_mut(slot).expect("there");
    session.say_farewell();
    let sent = session.outbound.drain();
    let frame = parse_frame(&sent).expect("our own").expect("whole");
    match frame.header.kind {
        FrameKind::HelloReply => Ok(HelloReply::decode(frame.body).expect("our own")),
        _ => Err(Close::decode(frame.body).expect("our own")),
    }
}

/// Sends an operation under a sequence, lets the log run, and takes the answer.
fn ask(
    fixture: &mut Fixture,
    slot: u32,
    (txn_id, client_sequence): (u64, u64),
    operation: Operation<'_>,
) -> Response<'static> {
    let header = RequestHeader {
        txn_id,
        client_sequence,
        ..RequestHeader::default()
    };
    let bytes = frame_with(client_sequence, header, operation);
    fixture.core.receive(slot, &bytes);
    fixture.drive();
    fixture.core.finish_turn();
    let (_, response) = fixture.answers(slot).pop().expect("an answer");
    response
}

fn incr(delta: i64) -> Operation<'static> {
    Operation::KvIncr(Increment {
        key: "n".into(),
        delta,
    })
}

fn error_of(response: Response<'static>) -> in_mem_model::Error {
    match response {
        Response::Error(body) => body.try_into().expect("our own"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_id_is_told_the_version_counter_once_and_keeps_it() {
    let mut fixture = Fixture::new(1);
    assert_eq!(ask(&mut fixture, 0, (0, 0), incr(1)).version(), 1);
    assert_eq!(greet(&mut fixture, 1, None).unwrap().registered_at, Some(1));
    ask(&mut fixture, 0, (0, 0), incr(1));
    assert_eq!(
        greet(&mut fixture, 2, Some(1)).unwrap().registered_at,
        Some(1)
    );
    // Of a database whose counter is lost: the client is as good as new.
    assert_eq!(
        greet(&mut fixture, 3, Some(99)).unwrap().registered_at,
        Some(2)
    );
    let refused = error_of(ask(&mut fixture, 0, (0, 1), incr(1)));
    assert_eq!(refused.sub, Some(SubCode::InvalidArgument));
    assert_eq!(refused.outcome, Some(Outcome::NotCommitted));
}

trait Versioned {
    fn version(&self) -> u64;
}

impl Versioned for Response<'_> {
    fn version(&self) -> u64 {
        match self {
            Response::Incremented(Incremented { receipt, .. }) => receipt.commit_version,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_repeat_over_another_connection_has_one_effect_and_ends_the_earlier_one() {
    let mut fixture = Fixture::new(0);
    greet(&mut fixture, 0, None).unwrap();
    let first = ask(&mut fixture, 0, (0, 1), incr(5));
    let begin = TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: DurabilityChoice::Session,
    };
    let Response::TxnBegun(begun) = ask(&mut fixture, 0, (0, 0), Operation::TxnBegin(begin)) else {
        panic!("begun");
    };
    ask(&mut fixture, 0, (begun.txn_id, 0), incr(1));

    greet(&mut fixture, 1, Some(0)).unwrap();
    let session = fixture.core.session_mut(0).expect("there");
    assert!(session.phase == Phase::Closing);
    let late = frame_with(9, RequestHeader::default(), incr(100));
    fixture.core.receive(0, &late);
    assert_eq!(ask(&mut fixture, 1, (0, 1), incr(5)), first);
    let other = error_of(ask(&mut fixture, 1, (0, 1), incr(6)));
    assert_eq!(other.sub, Some(SubCode::InvalidArgument));
    assert_eq!(other.outcome, Some(Outcome::NotCommitted));
    let gone = error_of(ask(
        &mut fixture,
        1,
        (begun.txn_id, 2),
        Operation::TxnCommit,
    ));
    assert_eq!(gone.sub, Some(SubCode::TransactionNotActive));
    assert_eq!(gone.outcome, Some(Outcome::NotCommitted));
    let Response::Incremented(second) = ask(&mut fixture, 1, (0, 3), incr(1)) else {
        panic!("incremented");
    };
    assert_eq!(second.value, 6);
}

#[test]
fn a_commit_and_a_beginning_are_repeated_where_their_first_connection_is_gone() {
    let mut fixture = Fixture::new(0);
    greet(&mut fixture, 0, None).unwrap();
    let begin = TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: DurabilityChoice::Session,
    };
    let Response::TxnBegun(begun) = ask(&mut fixture, 0, (0, 0), Operation::TxnBegin(begin)) else {
        panic!("begun");
    };
    ask(&mut fixture, 0, (begun.txn_id, 0), incr(1));
    let committed = ask(&mut fixture, 0, (begun.txn_id, 1), Operation::TxnCommit);
    let begin = || {
        Operation::RunBegin(RunBegin {
            name: Some("work".into()),
            ..RunBegin::default()
        })
    };
    let run = ask(&mut fixture, 0, (0, 2), begin());
    assert!(matches!(run, Response::RunBegun(_)), "{run:?}");
    fixture.core.disconnect(0);

    greet(&mut fixture, 1, Some(0)).unwrap();
    let again = ask(&mut fixture, 1, (begun.txn_id, 1), Operation::TxnCommit);
    assert_eq!(again, committed);
    let other = error_of(ask(
        &mut fixture,
        1,
        (begun.txn_id + 1, 1),
        Operation::TxnCommit,
    ));
    assert_eq!(other.sub, Some(SubCode::InvalidArgument));
    assert_eq!(ask(&mut fixture, 1, (0, 2), begin()), run);
    let taken = error_of(ask(&mut fixture, 1, (0, 3), begin()));
    assert_eq!(taken.sub, Some(SubCode::AlreadyExists));
}

const FIRST: RequestHeader = RequestHeader {
    txn_id: 0,
    client_sequence: 1,
    deadline_us: 0,
    client_sequence_lag: 0,
    durability: DurabilityChoice::Session,
    run: RunChoice::Session,
};

/// A write that is for the workers.
fn many() -> Operation<'static> {
    let value = vec![0xc0];
    let entries = (0..2_000).map(|n| KeyValue {
        key: format!("many/{n:020}").into_bytes().into(),
        value: value.clone().into(),
    });
    Operation::KvPutMany(in_mem_ipc::request::kv::KeyValues {
        entries: entries.collect(),
    })
}

/// A request that was being translated when its connection went was never started: once that is
/// known the client is welcome again. It was kept out for ever.
#[test]
fn a_hello_waits_for_the_translation_of_the_earlier_connection_and_no_longer() {
    let mut fixture = Fixture::new(0);
    greet(&mut fixture, 0, None).unwrap();
    fixture.core.session_mut(0).expect("there").encoding = Encoding::MessagePack;
    fixture.start_turn();
    let mut bytes = FrameBuffer::new();
    let request = Request {
        header: FIRST,
        operation: many(),
    };
    Encoding::MessagePack
        .encode_request(&request, 1, &mut bytes)
        .expect("fits");
    fixture.core.receive(0, &bytes);
    fixture.core.disconnect(0);
    let refused = greet(&mut fixture, 1, None).unwrap_err();
    assert_eq!(refused.reason, CloseReason::Goodbye);
    let is_done = (0..LOOK_COUNT_MAX).any(|_| {
        std::thread::yield_now();
        fixture.core.translation.inbox.has_items()
    });
    assert!(is_done, "the worker has not answered");
    fixture.core.finish_turn();
    greet(&mut fixture, 2, None).unwrap();
    let Response::Written(receipt) = ask(&mut fixture, 2, (0, 1), small_put()) else {
        panic!("written")
    };
    assert_eq!(receipt.commit_version, 1);
}

/// A small put.
fn small_put() -> Operation<'static> {
    Operation::KvPut(KeyValue {
        key: "k".into(),
        value: SEVEN.into(),
    })
}

#[test]
fn a_hello_waits_for_the_workers_of_the_earlier_connection() {
    let mut fixture = Fixture::new(0);
    greet(&mut fixture, 0, None).unwrap();
    fixture.start_turn();
    let bytes = frame_with(1, FIRST, many());
    fixture.core.receive(0, &bytes);
    fixture.core.disconnect(0);
    let refused = greet(&mut fixture, 1, None).unwrap_err();
    assert_eq!(refused.reason, CloseReason::Goodbye);
    fixture.wait_for_worker();
    fixture.core.finish_turn();
    greet(&mut fixture, 2, None).unwrap();
}
