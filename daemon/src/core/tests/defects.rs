//! Requests that strike a defect: each loses itself and nothing else.

use in_mem_model::{ErrorClass, Outcome};

use super::*;
use crate::defect::Defect;

fn error_of(answers: &[(u64, Response<'static>)], id: u64) -> in_mem_model::Error {
    match answers {
        [(got, Response::Error(body))] if *got == id => body.clone().try_into().expect("our own"),
        other => panic!("{other:?}"),
    }
}

/// Whether the session still takes requests, of all kinds, and both workers are there.
fn is_served(this: &mut Fixture, slot: u32) {
    // What had been handed over makes room: nothing has to wait for it twice.
    this.drive();
    this.core.finish_turn();
    for id in 50..54 {
        this.core.receive(slot, &large_put(id, 0, "after"));
        this.wait_for_worker();
        this.drive();
        this.core.finish_turn();
        this.drive();
        this.core.finish_turn();
        assert!(is_written(&this.answers(slot), id));
    }
    let session = this.core.session_mut(slot).expect("there");
    assert_eq!((session.job_count, session.commit_job_count), (0, 0));
    assert_eq!((session.in_flight_count, session.is_blocked), (0, false));
    assert_eq!(this.core.workers.run(Lane::Data, Box::new(|| ())), Ok(()));
}

/// What was lost: a panic on a worker outside a handler took the request along, and its session
/// waited for it for ever.
#[test]
fn a_defect_on_a_worker_outside_a_handler_ends_its_request_and_nothing_else() {
    let mut this = Fixture::new(1);
    this.start_turn();
    this.core.store.defects.plant(Defect::OnWorker);
    this.core.receive(0, &large_put(1, 0, "large"));
    this.wait_for_worker();
    this.core.finish_turn();
    let error = error_of(&this.answers(0), 1);
    assert_eq!(error.class, ErrorClass::InternalError);
    assert_eq!(error.outcome, Some(Outcome::OutcomeUnknown));
    is_served(&mut this, 0);
    // The commit had been handed over, and its answer finds nobody.
    let scan = Operation::KvCount(in_mem_ipc::request::kv::Prefix {
        prefix: in_mem_ipc::Bytes::default(),
    });
    this.core.store.defects.plant(Defect::OnWorker);
    this.core.receive(0, &frame(2, 0, scan));
    this.wait_for_worker();
    this.core.finish_turn();
    let error = error_of(&this.answers(0), 2);
    assert_eq!(error.outcome, Some(Outcome::NotCommitted), "it only read");
    is_served(&mut this, 0);
}

#[test]
fn a_defect_in_a_handler_tells_whether_a_commit_had_been_handed_over() {
    let mut this = Fixture::new(1);
    this.start_turn();
    for (id, defect, outcome) in [
        (1, Defect::AfterSubmit, Outcome::OutcomeUnknown),
        (2, Defect::AfterSubmit, Outcome::OutcomeUnknown),
    ] {
        this.core.store.defects.plant(defect);
        let is_large = id == 1;
        if is_large {
            this.core.receive(0, &large_put(id, 0, "k"));
            this.wait_for_worker();
        } else {
            this.core.receive(0, &put(id, 0, "k"));
        }
        this.core.take_finished_jobs();
        let error = error_of(&this.answers(0), id);
        assert_eq!(error.class, ErrorClass::InternalError);
        assert_eq!(error.outcome, Some(outcome));
        this.drive();
        this.core.finish_turn();
        assert!(this.answers(0).is_empty(), "one answer for each request");
    }
    this.core.store.defects.plant(Defect::InHandler);
    this.core.receive(0, &frame(3, 0, Operation::SystemPing));
    let error = error_of(&this.answers(0), 3);
    assert_eq!(error.outcome, Some(Outcome::NotCommitted));
    is_served(&mut this, 0);
}

#[test]
fn a_transaction_that_a_defect_took_is_rolled_back() {
    let mut this = Fixture::new(1);
    this.start_turn();
    let begin = Operation::TxnBegin(TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: DurabilityChoice::Session,
    });
    this.core.receive(0, &frame(1, 0, begin));
    let answers = this.answers(0);
    let [(1, Response::TxnBegun(begun))] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    let header = RequestHeader {
        txn_id: begun.txn_id,
        ..RequestHeader::default()
    };
    this.core.store.defects.plant(Defect::OnWorker);
    let large = frame_with(2, header, large("large"));
    this.core.receive(0, &large);
    this.wait_for_worker();
    this.core.finish_turn();
    let error = error_of(&this.answers(0), 2);
    assert_eq!(error.outcome, Some(Outcome::NotCommitted));
    assert_eq!(this.core.store.metrics.views.transaction_count(), 0);
    let commit = frame_with(3, header, Operation::TxnCommit);
    this.core.receive(0, &commit);
    let error = error_of(&this.answers(0), 3);
    assert_eq!(error.sub, Some(SubCode::TransactionNotActive));
    is_served(&mut this, 0);
    assert_eq!(this.value_of(0, "large"), Response::Missing);
}

#[test]
fn a_defect_in_a_translation_ends_its_request_and_nothing_else() {
    let mut this = Fixture::new(1);
    this.start_turn();
    let encoding = in_mem_ipc::Encoding::MessagePack;
    this.core.session_mut(0).expect("there").encoding = encoding;
    this.core.store.defects.plant(Defect::InTranslation);
    let request = Request {
        header: RequestHeader::default(),
        operation: large("large"),
    };
    let mut bytes = FrameBuffer::new();
    encoding
        .encode_request(&request, 1, &mut bytes)
        .expect("fits");
    this.core.receive(0, &bytes);
    let is_done = (0..LOOK_COUNT_MAX).any(|_| {
        std::thread::yield_now();
        this.core.translation.inbox.has_items()
    });
    assert!(is_done, "the worker has not answered");
    this.core.finish_turn();
    let session = this.core.session_mut(0).expect("there");
    assert!(!session.outbound.buffer().is_empty(), "it is answered");
    session.outbound.buffer().clear();
    session.encoding = in_mem_ipc::Encoding::Rkyv;
    is_served(&mut this, 0);
}
