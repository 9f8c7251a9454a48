//! Calls that another thread gives up.

use std::sync::mpsc;

use in_mem_model::{Outcome, SubCode};

use super::fake::{Fake, value, written};
use crate::cancel::Canceller;
use crate::transaction::TransactionOptions;

#[test]
fn a_write_given_up_has_an_unknown_outcome_and_the_next_call_a_new_connection() {
    let (asked, was_asked) = mpsc::channel();
    let fake = Fake::new([
        Box::new(move |peer: &mut super::fake::Peer| {
            peer.greet();
            peer.request();
            asked.send(()).unwrap();
            peer.expect_end();
        }) as super::fake::Script,
        Box::new(|peer| {
            peer.greet();
            peer.serve(&value(7));
        }),
    ]);
    let canceller = Canceller::new();
    let client = fake
        .connect_as(Fake::builder().canceller(&canceller))
        .unwrap();
    let other = canceller.clone();
    let interrupter = std::thread::spawn(move || {
        was_asked.recv().unwrap();
        other.cancel();
    });
    let error = client.kv().put("key", &1).unwrap_err();
    interrupter.join().unwrap();
    assert_eq!(error.sub(), Some(SubCode::Cancelled), "{error}");
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown), "{error}");

    let refused = client.kv().put("key", &1).unwrap_err();
    assert_eq!(refused.sub(), Some(SubCode::Cancelled), "{refused}");
    assert_eq!(refused.outcome(), Some(Outcome::NotCommitted), "{refused}");
    canceller.reset();
    assert_eq!(client.kv().get::<i64>("key").unwrap(), Some(7));
    drop(client);
    fake.finish();
}

#[test]
fn a_connection_at_rest_keeps_its_transaction_when_calls_are_given_up() {
    let fake = Fake::new([Box::new(|peer: &mut super::fake::Peer| {
        peer.greet();
        peer.serve(&super::transactions::begun(5));
        peer.serve(&written(9));
    }) as super::fake::Script]);
    let canceller = Canceller::new();
    let client = fake
        .connect_as(Fake::builder().canceller(&canceller))
        .unwrap();
    let transaction = client
        .default_run()
        .begin_transaction(&TransactionOptions::default())
        .unwrap();
    canceller.cancel();
    let refused = transaction.kv().put("key", &1).unwrap_err();
    assert_eq!(refused.outcome(), Some(Outcome::NotCommitted), "{refused}");
    canceller.reset();
    assert_eq!(transaction.commit().unwrap().commit_version, 9);
    drop(client);
    fake.finish();
}
