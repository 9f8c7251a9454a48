//! Transactions: what is repeated, what never is, and what a lost connection means.

use std::time::Duration;

use in_mem_ipc::request::Operation;
use in_mem_ipc::response::run::TxnBegun;
use in_mem_ipc::response::system::ErrorBody;
use in_mem_ipc::response::{Receipt, Response};
use in_mem_model::{Error, Outcome, SubCode};

use super::fake::{Fake, Peer, Script, value, written};
use crate::error::ClientError;
use crate::retry::RetryPolicy;
use crate::transaction::TransactionOptions;

pub(super) fn begun(txn_id: u64) -> Response<'static> {
    Response::TxnBegun(TxnBegun {
        txn_id,
        start_version: 3,
    })
}

fn conflict() -> Error {
    Error::new(SubCode::ReadConflict, "changed").with_outcome(Outcome::NotCommitted)
}

fn fast() -> TransactionOptions {
    let retry = RetryPolicy {
        retry_count_max: 2,
        delay_base: Duration::from_micros(1),
        delay_max: Duration::from_micros(1),
    };
    TransactionOptions {
        retry,
        ..TransactionOptions::default()
    }
}

/// Begins, takes one put in the transaction, and answers the commit.
fn serve_attempt(peer: &mut Peer, txn_id: u64, committed: &Response<'_>) {
    assert!(matches!(peer.serve(&begun(txn_id)), Operation::TxnBegin(_)));
    let (id, put) = peer.next_request().unwrap();
    assert_eq!(put.header.txn_id, txn_id);
    peer.answer(id, &Response::Written(Receipt::NOTHING));
    assert_eq!(peer.serve(committed), Operation::TxnCommit);
}

#[test]
fn a_conflict_runs_the_closure_again_until_the_commit_stands() {
    let script: Script = Box::new(|peer| {
        peer.greet();
        let error = conflict();
        serve_attempt(peer, 1, &Response::Error(ErrorBody::from(&error)));
        serve_attempt(peer, 2, &written(8));
        peer.expect_end();
    });
    let fake = Fake::new([script]);
    let client = fake.connect().unwrap();
    let mut attempt_count = 0;
    let committed = client
        .default_run()
        .transaction(&fast(), |transaction| {
            attempt_count += 1;
            let receipt = transaction.kv().put("key", &attempt_count)?;
            assert!(!receipt.is_committed());
            Ok::<_, ClientError>(attempt_count)
        })
        .unwrap();
    assert_eq!((committed.value, committed.receipt.commit_version), (2, 8));
    drop(client);
    fake.finish();
}

#[test]
fn conflicts_end_after_the_last_retry() {
    let script: Script = Box::new(|peer| {
        peer.greet();
        for txn_id in 1..=3 {
            let error = conflict();
            serve_attempt(peer, txn_id, &Response::Error(ErrorBody::from(&error)));
        }
        peer.expect_end();
    });
    let fake = Fake::new([script]);
    let client = fake.connect().unwrap();
    let error = client
        .default_run()
        .transaction(&fast(), |transaction| {
            transaction.kv().put("key", &1).map(drop)
        })
        .unwrap_err();
    assert!(error.is_conflict());
    drop(client);
    fake.finish();
}

#[test]
fn a_commit_whose_answer_was_lost_is_never_repeated() {
    let losing: Script = Box::new(|peer| {
        peer.greet();
        peer.serve(&begun(1));
        assert_eq!(peer.request().1, Operation::TxnCommit);
    });
    let fake = Fake::new([losing]);
    let client = fake.connect().unwrap();
    let mut attempt_count = 0;
    let error = client
        .default_run()
        .transaction(&fast(), |_| {
            attempt_count += 1;
            Ok::<_, ClientError>(())
        })
        .unwrap_err();
    assert_eq!(attempt_count, 1);
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    fake.finish();
}

#[test]
fn a_connection_lost_before_the_commit_runs_the_closure_again() {
    let losing: Script = Box::new(|peer| {
        peer.greet();
        peer.serve(&begun(1));
        assert!(matches!(peer.request().1, Operation::KvGet(_)));
    });
    let answering: Script = Box::new(|peer| {
        peer.greet();
        peer.serve(&begun(1));
        assert!(matches!(peer.serve(&value(4)), Operation::KvGet(_)));
        assert_eq!(peer.serve(&written(9)), Operation::TxnCommit);
        peer.expect_end();
    });
    let fake = Fake::new([losing, answering]);
    let client = fake.connect().unwrap();
    let committed = client
        .default_run()
        .transaction(&fast(), |transaction| transaction.kv().get::<i64>("key"))
        .unwrap();
    assert_eq!(committed.value, Some(4));
    drop(client);
    fake.finish();
}

#[test]
fn a_transaction_never_goes_over_another_connection() {
    let losing: Script = Box::new(|peer| {
        peer.greet();
        peer.serve(&begun(1));
        peer.request();
    });
    let next: Script = Box::new(|peer| {
        peer.greet();
        assert_eq!(peer.serve(&Response::Done), Operation::SystemPing);
        peer.expect_end();
    });
    let fake = Fake::new([losing, next]);
    let client = fake.connect().unwrap();
    let transaction = client.default_run().begin_transaction(&fast()).unwrap();
    assert_eq!(transaction.start_version(), 3);
    let error = transaction.kv().put("key", &1).unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::NotCommitted));
    client.ping().unwrap();
    assert!(!transaction.is_bound());
    let error = transaction.commit().unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::NotCommitted));
    drop(client);
    fake.finish();
}

#[test]
fn an_error_of_the_closure_and_a_drop_roll_back() {
    let script: Script = Box::new(|peer| {
        peer.greet();
        for txn_id in 1..=2 {
            peer.serve(&begun(txn_id));
            assert_eq!(peer.serve(&Response::Done), Operation::TxnRollback);
        }
        peer.expect_end();
    });
    let fake = Fake::new([script]);
    let client = fake.connect().unwrap();
    let run = client.default_run();
    let missing = || Error::new(SubCode::KeyNotFound, "mine");
    let failed = run.transaction(&fast(), |_| {
        Err::<(), _>(ClientError::Server(Box::new(missing())))
    });
    assert_eq!(failed.unwrap_err().sub(), Some(SubCode::KeyNotFound));
    drop(run.begin_transaction(&fast()).unwrap());
    drop((run, client));
    fake.finish();
}
