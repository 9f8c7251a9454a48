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

/// What was lost: a worker that found no room for a write of a displaced connection had it wait for
/// room, and it was executed after its repeat had been told that nothing was committed.
#[test]
fn a_write_of_a_displaced_connection_that_found_no_room_is_never_executed() {
    let mut fixture = Fixture::new(1);
    greet(&mut fixture, 1, None).unwrap();
    fixture.start_turn();
    fixture.core.receive(0, &put(1, 0, "first"));
    fixture.core.receive(1, &frame_with(1, FIRST, many()));
    fixture.wait_for_worker();
    let refused = greet(&mut fixture, 2, Some(0)).unwrap_err();
    assert_eq!(refused.reason, CloseReason::Goodbye);
    fixture.core.take_finished_jobs();
    assert!(!fixture.is_parked(1));
    assert!(fixture.core.waiting_for_room.is_empty());
    greet(&mut fixture, 3, Some(0)).unwrap();
    for _ in 0..2 {
        fixture.drive();
        fixture.start_turn();
        fixture.core.finish_turn();
    }
    assert_eq!(fixture.core.unfinished_count(), 0);
    fixture.answers(0);
    let key = format!("many/{:020}", 0);
    assert_eq!(fixture.value_of(0, &key), Response::Missing);
}

/// The same for a commit, whose transaction is rolled back with its connection.
#[test]
fn a_commit_of_a_displaced_connection_that_found_no_room_is_never_executed() {
    let mut fixture = Fixture::new(1);
    greet(&mut fixture, 1, None).unwrap();
    let txn_id = begin(&mut fixture, 1, RunChoice::Session);
    let inside = RequestHeader {
        txn_id,
        ..RequestHeader::default()
    };
    fixture.start_turn();
    let written = frame_with(2, inside, large("large"));
    fixture.core.receive(1, &written);
    fixture.wait_for_worker();
    fixture.core.take_finished_jobs();
    fixture.core.receive(0, &put(1, 0, "first"));
    let commit = RequestHeader {
        client_sequence: 1,
        ..inside
    };
    let bytes = frame_with(3, commit, Operation::TxnCommit);
    fixture.core.receive(1, &bytes);
    fixture.wait_for_worker();
    greet(&mut fixture, 2, Some(0)).unwrap_err();
    fixture.core.take_finished_jobs();
    assert!(!fixture.is_parked(1));
    let session = fixture.core.session_mut(1).expect("there");
    assert!(session.caller.transactions.is_empty());
    greet(&mut fixture, 3, Some(0)).unwrap();
    let gone = error_of(ask(&mut fixture, 3, (txn_id, 1), Operation::TxnCommit));
    assert_eq!(gone.sub, Some(SubCode::TransactionNotActive));
    fixture.start_turn();
    fixture.core.finish_turn();
    fixture.drive();
    fixture.answers(0);
    assert_eq!(fixture.value_of(0, "large"), Response::Missing);
}

/// What was lost: the repeat of a commit is looked up in the run it names, and that of another run
/// knows nothing of it: it was told that nothing was committed.
#[test]
fn a_commit_with_a_sequence_names_the_run_of_its_transaction() {
    let mut fixture = Fixture::new(0);
    greet(&mut fixture, 0, None).unwrap();
    let Response::RunBegun(_) = ask(
        &mut fixture,
        0,
        (0, 1),
        Operation::RunBegin(RunBegin {
            name: Some("work".into()),
            ..RunBegin::default()
        }),
    ) else {
        panic!("begun")
    };
    let work = RunChoice::Id(fixture.core.store.resolve_run("work").expect("there").0);
    let txn_id = begin(&mut fixture, 0, work);
    let commit = |fixture: &mut Fixture, slot: u32, run: RunChoice, client_sequence: u64| {
        let header = RequestHeader {
            txn_id,
            client_sequence,
            run,
            ..RequestHeader::default()
        };
        let bytes = frame_with(9, header, Operation::TxnCommit);
        fixture.core.receive(slot, &bytes);
        fixture.drive();
        fixture.core.finish_turn();
        fixture.answers(slot).pop().expect("an answer").1
    };
    let inside = RequestHeader {
        txn_id,
        ..RequestHeader::default()
    };
    let incremented = frame_with(8, inside, incr(1));
    fixture.core.receive(0, &incremented);
    let refused = error_of(commit(&mut fixture, 0, RunChoice::Session, 2));
    assert_eq!(refused.sub, Some(SubCode::CrossRunWrite));
    assert_eq!(refused.outcome, Some(Outcome::NotCommitted));
    let committed = commit(&mut fixture, 0, work, 2);
    assert!(matches!(committed, Response::Written(_)), "{committed:?}");
    greet(&mut fixture, 1, Some(0)).unwrap();
    assert_eq!(commit(&mut fixture, 1, work, 2), committed);
    // Without a sequence nothing is looked up, and the session's run may be another.
    let txn_id = begin(&mut fixture, 1, work);
    let done = ask(&mut fixture, 1, (txn_id, 0), Operation::TxnCommit);
    assert!(matches!(done, Response::Written(_)), "{done:?}");
}

/// What was lost: every job counted, so a long scan kept a client from coming back.
#[test]
fn a_hello_does_not_wait_for_what_the_earlier_connection_only_reads() {
    let count = || {
        let prefix = in_mem_ipc::Bytes::default();
        Operation::KvCount(in_mem_ipc::request::kv::Prefix { prefix })
    };
    let mut fixture = Fixture::new(0);
    greet(&mut fixture, 0, None).unwrap();
    fixture.start_turn();
    fixture.core.receive(0, &frame(1, 0, count()));
    let session = fixture.core.session_mut(0).expect("there");
    assert_eq!(session.job_count, 1);
    greet(&mut fixture, 1, Some(0)).unwrap();
    fixture.core.receive(1, &frame(2, 0, count()));
    fixture.core.disconnect(1);
    greet(&mut fixture, 2, Some(0)).unwrap();
    // Their ends are nobody's any more, and those that commit still count.
    fixture.core.receive(2, &frame_with(1, FIRST, many()));
    fixture.core.disconnect(2);
    greet(&mut fixture, 3, Some(0)).unwrap_err();
    while !fixture.core.departed.is_empty() {
        fixture.wait_for_worker();
        fixture.core.take_finished_jobs();
    }
    greet(&mut fixture, 4, Some(0)).unwrap();
}

/// Begins a transaction in a run; gives its id.
fn begin(fixture: &mut Fixture, slot: u32, run: RunChoice) -> u64 {
    let header = RequestHeader {
        run,
        ..RequestHeader::default()
    };
    let begin = Operation::TxnBegin(TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: DurabilityChoice::Session,
    });
    let bytes = frame_with(7, header, begin);
    fixture.core.receive(slot, &bytes);
    let answers = fixture.answers(slot);
    let [(7, Response::TxnBegun(begun))] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    begun.txn_id
}
