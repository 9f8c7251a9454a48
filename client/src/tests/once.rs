//! Writes the server remembers: what is repeated over a new connection, under which sequence, and
//! what is said when the repeat settles nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use in_mem_ipc::hello::Hello;
use in_mem_ipc::request::kv::Increment;
use in_mem_ipc::request::{Operation, RequestHeader};
use in_mem_ipc::response::Response;
use in_mem_ipc::response::system::ErrorBody;
use in_mem_model::{Error, ErrorClass, Outcome, SubCode};

use super::fake::{Fake, Peer, Script, written};
use super::transactions::begun;
use crate::client::Client;
use crate::encoding::Encoding;
use crate::error::ClientError;
use crate::pipeline::{Answers, Ticket};
use crate::results::{Incremented, Receipt};
use crate::retry::{ReconnectPolicy, RetryPolicy};
use crate::transaction::TransactionOptions;

/// What the server says of a new client id.
pub(super) const REGISTERED_AT: u64 = 7;

/// What the server was told in greetings and requests, in this order.
#[derive(Clone, Default)]
pub(super) struct Told {
    hellos: Arc<Mutex<Vec<Hello>>>,
    pub(super) requests: Arc<Mutex<Vec<(RequestHeader, Operation<'static>)>>>,
}

impl Told {
    /// A connection of a client whose writes are remembered.
    pub(super) fn script(&self, script: impl FnOnce(&mut Peer, &Self) + Send + 'static) -> Script {
        let told = self.clone();
        Box::new(move |peer| {
            let hello = peer.greet_remembering(REGISTERED_AT);
            told.hellos.lock().unwrap().push(hello);
            script(peer, &told);
        })
    }

    /// Takes a request; its id.
    pub(super) fn take(&self, peer: &mut Peer) -> u64 {
        let (id, request) = peer.next_request().expect("a request comes");
        let mut requests = self.requests.lock().unwrap();
        requests.push((request.header, request.operation));
        id
    }

    /// Takes so many requests and goes without an answer.
    pub(super) fn losing(&self, count: usize) -> Script {
        self.script(move |peer, told| {
            for _ in 0..count {
                told.take(peer);
            }
        })
    }

    /// Gives these answers, and waits for the end of the client.
    pub(super) fn answering(&self, answers: impl IntoIterator<Item = Response<'static>>) -> Script {
        let answers: Vec<_> = answers.into_iter().collect();
        self.script(move |peer, told| {
            for answer in answers {
                let id = told.take(peer);
                peer.answer(id, &answer);
            }
            peer.expect_end();
        })
    }

    pub(super) fn sequences(&self) -> Vec<u64> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|it| it.0.client_sequence).collect()
    }

    fn client_ids(&self) -> Vec<[u8; 16]> {
        let hellos = self.hellos.lock().unwrap();
        hellos.iter().map(|it| it.client_id.unwrap()).collect()
    }

    fn registrations(&self) -> Vec<Option<u64>> {
        let hellos = self.hellos.lock().unwrap();
        hellos.iter().map(|it| it.registered_at).collect()
    }
}

/// Runs a test in each encoding.
pub(super) fn in_both(test: impl Fn(Encoding)) {
    [Encoding::Rkyv, Encoding::MessagePack]
        .into_iter()
        .for_each(test);
}

pub(super) fn connect(fake: &Fake, encoding: Encoding) -> Client {
    fake.connect_as(Fake::builder().encoding(encoding)).unwrap()
}

pub(super) fn refusal(sub: SubCode, outcome: Outcome) -> Response<'static> {
    let error = Error::new(sub, "refused").with_outcome(outcome);
    let body = ErrorBody::from(&error);
    Response::Error(ErrorBody {
        class: body.class,
        sub: body.sub,
        outcome: body.outcome,
        retry: body.retry,
        message: "refused".into(),
        details: Vec::new(),
    })
}

fn expired() -> Response<'static> {
    refusal(SubCode::SessionExpired, Outcome::OutcomeUnknown)
}

fn incremented(version: u64) -> Response<'static> {
    let Response::Written(receipt) = written(version) else {
        unreachable!("it is written")
    };
    let value = 5;
    Response::Incremented(in_mem_ipc::response::kv::Incremented { value, receipt })
}

#[test]
fn a_lost_answer_is_repeated_under_its_sequence_and_is_the_first_answer() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([
            told.losing(1),
            told.losing(1),
            told.answering([incremented(9), written(10)]),
        ]);
        let client = connect(&fake, encoding);
        let answer: Incremented = client.kv().incr("n", 5).unwrap();
        assert_eq!((answer.value, answer.receipt.commit_version), (5, 9));
        client.kv().put("key", &1).unwrap();
        assert_eq!(client.identity().unwrap().last_sequence, 2);
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [1, 1, 1, 2]);
        let requests = told.requests.lock().unwrap();
        let expected = Operation::KvIncr(Increment {
            key: "n".into(),
            delta: 5,
        });
        for (header, operation) in &requests[..3] {
            assert_eq!((header, operation), (&requests[0].0, &expected));
        }
        let ids = told.client_ids();
        assert!(ids.iter().all(|id| *id == ids[0]), "one client id");
        let known = Some(REGISTERED_AT);
        assert_eq!(told.registrations(), [None, known, known]);
    });
}

#[test]
fn a_client_that_forbids_it_numbers_and_repeats_nothing() {
    let told = Told::default();
    let script: Script = {
        let told = told.clone();
        Box::new(move |peer| {
            peer.greet();
            told.take(peer);
        })
    };
    let fake = Fake::new([script]);
    let builder = Fake::builder().at_most_once();
    let client = fake.connect_as(builder).unwrap();
    let error = client.kv().put("key", &1).unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    assert_eq!(client.identity(), None);
    fake.finish();
    assert_eq!(told.sequences(), [0]);
}

#[test]
fn two_clients_of_one_builder_are_two_clients_to_the_server() {
    let told = Told::default();
    let fake = Fake::new([told.answering([]), told.answering([])]);
    let builder = Fake::builder();
    let first = fake.connect_as(builder.clone()).unwrap();
    let second = fake.connect_as(builder).unwrap();
    drop((first, second));
    fake.finish();
    let ids = told.client_ids();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_client_that_goes_on_repeats_under_the_sequence_it_names() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([told.losing(1), told.answering([written(9), written(10)])]);
        let builder = Fake::builder().encoding(encoding);
        let once = builder.clone().reconnect(ReconnectPolicy::NONE);
        let client = fake.connect_as(once).unwrap();
        let error = client.kv().put("key", &1).unwrap_err();
        assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
        let identity = client.identity().unwrap();
        drop(client);

        let client = fake.connect_as(builder.identity(identity)).unwrap();
        let repeated = client.repeat(identity.last_sequence);
        assert_eq!(repeated.kv().put("key", &1).unwrap().commit_version, 9);
        client.kv().put("key", &2).unwrap();
        drop((repeated, client));
        fake.finish();
        assert_eq!(told.sequences(), [1, 1, 2]);
        assert_eq!(told.registrations(), [None, Some(REGISTERED_AT)]);
        assert_eq!(told.client_ids()[0], told.client_ids()[1]);
    });
}

/// Six puts; what each was told.
fn six_puts(client: &Client) -> Vec<Result<Receipt, ClientError>> {
    let mut pipeline = client.pipeline();
    let tickets: Vec<Ticket<Receipt>> = (0..6)
        .map(|n| pipeline.put(&format!("key/{n}"), &n).unwrap())
        .collect();
    let mut answers: Answers = pipeline.send().unwrap();
    let taken = tickets.into_iter().map(|ticket| answers.take(ticket));
    taken.collect()
}

/// Answers the second of three, takes the fourth, and goes.
fn losing_all_but_the_second(told: &Told) -> Script {
    told.script(|peer, told| {
        let ids: Vec<u64> = (0..3).map(|_| told.take(peer)).collect();
        peer.answer(ids[1], &written(20));
        told.take(peer);
    })
}

#[test]
fn of_a_pipeline_only_what_is_unanswered_is_repeated_and_in_order() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([
            losing_all_but_the_second(&told),
            told.answering([21, 22, 23, 24, 25].map(written)),
        ]);
        let client = connect(&fake, encoding);
        let taken = six_puts(&client);
        let versions: Vec<u64> = taken
            .iter()
            .map(|it| it.as_ref().unwrap().commit_version)
            .collect();
        assert_eq!(versions, [21, 20, 22, 23, 24, 25]);
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [1, 2, 3, 4, 1, 3, 4, 5, 6]);
        let requests = told.requests.lock().unwrap();
        for (header, operation) in requests.iter() {
            // The first of the pipeline is still awaited with each of them.
            let sequence = header.client_sequence;
            assert_eq!(u64::from(header.client_sequence_lag), sequence - 1);
            let Operation::KvPut(entry) = operation else {
                panic!("{operation:?}");
            };
            let key = format!("key/{}", sequence - 1);
            assert_eq!(&*entry.key, key.as_bytes());
        }
    });
}

#[test]
fn a_pipeline_without_a_way_back_is_in_doubt_as_far_as_it_was_sent() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([losing_all_but_the_second(&told)]);
        let client = connect(&fake, encoding);
        let taken = six_puts(&client);
        let outcomes: Vec<Option<Outcome>> = taken
            .iter()
            .map(|it| it.as_ref().err().and_then(ClientError::outcome))
            .collect();
        let (unknown, never) = (Some(Outcome::OutcomeUnknown), Some(Outcome::NotCommitted));
        assert_eq!(outcomes, [unknown, None, unknown, unknown, never, never]);
        fake.finish();
    });
}

#[test]
fn a_pipeline_whose_repeat_is_refused_without_a_look_stays_in_doubt() {
    in_both(|encoding| {
        let told = Told::default();
        let refused = refusal(SubCode::Unavailable, Outcome::NotCommitted);
        let fake = Fake::new([
            losing_all_but_the_second(&told),
            told.answering(vec![refused; 5]),
        ]);
        let client = connect(&fake, encoding);
        let taken = six_puts(&client);
        for position in [0, 2, 3] {
            let error = taken[position].as_ref().unwrap_err();
            assert_eq!(error.sub(), Some(SubCode::ConnectionLost));
            assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
        }
        for position in [4, 5] {
            let error = taken[position].as_ref().unwrap_err();
            assert_eq!(error.sub(), Some(SubCode::Unavailable));
            assert_eq!(error.outcome(), Some(Outcome::NotCommitted));
        }
        drop(client);
        fake.finish();
    });
}

/// Puts once in a transaction; what came of it, and how often the closure ran.
fn transact(client: &Client) -> (Result<u64, ClientError>, u32) {
    let retry = RetryPolicy {
        retry_count_max: 2,
        delay_base: Duration::from_micros(1),
        delay_max: Duration::from_micros(1),
    };
    let options = TransactionOptions {
        retry,
        ..TransactionOptions::default()
    };
    let mut count = 0;
    let run = client.default_run();
    let committed = run.transaction(&options, |_| {
        count += 1;
        Ok::<_, ClientError>(())
    });
    (committed.map(|it| it.receipt.commit_version), count)
}

/// Begins a transaction, takes its commit, and goes.
fn losing_a_commit(told: &Told) -> Script {
    told.script(|peer, told| {
        let id = told.take(peer);
        peer.answer(id, &begun(4));
        told.take(peer);
    })
}

#[test]
fn a_lost_commit_is_repeated_with_its_transaction_over_the_new_connection() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([losing_a_commit(&told), told.answering([written(8)])]);
        let client = connect(&fake, encoding);
        let (committed, count) = transact(&client);
        assert_eq!((committed.unwrap(), count), (8, 1));
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [0, 1, 1]);
        let requests = told.requests.lock().unwrap();
        assert_eq!(requests[1], requests[2]);
        assert_eq!(requests[2].0.txn_id, 4);
        assert_eq!(requests[2].1, Operation::TxnCommit);
    });
}

#[test]
fn a_lost_commit_that_did_not_happen_runs_the_closure_again() {
    in_both(|encoding| {
        let told = Told::default();
        let gone = refusal(SubCode::TransactionNotActive, Outcome::NotCommitted);
        let fake = Fake::new([
            losing_a_commit(&told),
            told.answering([gone, begun(1), written(9)]),
        ]);
        let client = connect(&fake, encoding);
        let (committed, count) = transact(&client);
        assert_eq!((committed.unwrap(), count), (9, 2));
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [0, 1, 1, 0, 2]);
    });
}

#[test]
fn a_commit_without_a_way_back_is_in_doubt_and_the_closure_does_not_run_again() {
    let told = Told::default();
    let fake = Fake::new([losing_a_commit(&told)]);
    let (committed, count) = transact(&connect(&fake, Encoding::Rkyv));
    let error = committed.unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    assert_eq!(count, 1);
    fake.finish();
}

#[test]
fn a_forgotten_client_whose_write_was_sent_once_goes_on_as_a_new_one() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([
            told.answering([written(8), expired()]),
            told.answering([written(9)]),
        ]);
        let client = connect(&fake, encoding);
        client.kv().put("key", &1).unwrap();
        assert_eq!(client.kv().put("key", &2).unwrap().commit_version, 9);
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [1, 2, 1]);
        assert_ne!(told.client_ids()[0], told.client_ids()[1]);
        assert_eq!(told.registrations(), [None, None]);
    });
}

#[test]
fn a_client_forgotten_twice_says_that_nothing_was_executed() {
    let told = Told::default();
    let fake = Fake::new([told.answering([expired()]), told.answering([expired()])]);
    let client = connect(&fake, Encoding::Rkyv);
    let error = client.kv().put("key", &1).unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::NotCommitted), "{error}");
    fake.finish();
}

#[test]
fn a_forgotten_client_in_doubt_is_told_so_and_is_a_new_one_from_then_on() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([
            told.losing(1),
            told.answering([expired()]),
            told.answering([written(9)]),
        ]);
        let client = connect(&fake, encoding);
        let error = client.kv().put("key", &1).unwrap_err();
        assert_eq!(error.sub(), Some(SubCode::SessionExpired));
        assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
        client.kv().put("key", &2).unwrap();
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [1, 1, 1]);
        let ids = told.client_ids();
        assert_eq!(ids[0], ids[1]);
        assert_ne!(ids[1], ids[2]);
    });
}

#[test]
fn a_pipeline_of_a_forgotten_client_knows_which_writes_are_in_doubt() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([
            losing_all_but_the_second(&told),
            told.answering(vec![expired(); 5]),
            told.answering([written(30)]),
        ]);
        let client = connect(&fake, encoding);
        let taken = six_puts(&client);
        for position in [0, 2, 3] {
            let error = taken[position].as_ref().unwrap_err();
            assert_eq!(error.sub(), Some(SubCode::SessionExpired));
            assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
        }
        for position in [4, 5] {
            let error = taken[position].as_ref().unwrap_err();
            assert_eq!(error.outcome(), Some(Outcome::NotCommitted));
        }
        client.kv().put("key", &2).unwrap();
        assert_ne!(told.client_ids()[1], told.client_ids()[2]);
        drop(client);
        fake.finish();
    });
}

#[test]
fn a_refusal_of_a_repeat_that_was_not_looked_at_leaves_the_doubt() {
    let refusals = [
        SubCode::Unavailable,
        SubCode::DatabaseClosed,
        SubCode::ResourceExhausted,
        SubCode::Timeout,
        SubCode::PermissionDenied,
    ];
    for sub in refusals {
        in_both(|encoding| {
            let told = Told::default();
            let refused = || refusal(sub, Outcome::NotCommitted);
            let fake = Fake::new([told.losing(1), told.answering([refused(), refused()])]);
            let client = connect(&fake, encoding);
            let error = client.kv().put("key", &1).unwrap_err();
            assert_eq!(error.sub(), Some(SubCode::ConnectionLost), "{sub:?}");
            assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown), "{sub:?}");
            // Of a write that was sent once only it is the whole truth.
            let error = client.kv().put("key", &1).unwrap_err();
            assert_eq!(error.sub(), Some(sub));
            assert_eq!(error.outcome(), Some(Outcome::NotCommitted), "{sub:?}");
            drop(client);
            fake.finish();
        });
    }
}

#[test]
fn a_refusal_of_a_repeat_that_was_looked_at_ends_the_doubt() {
    in_both(|encoding| {
        let told = Told::default();
        let conflict = refusal(SubCode::ReadConflict, Outcome::NotCommitted);
        let fake = Fake::new([told.losing(1), told.answering([conflict])]);
        let client = connect(&fake, encoding);
        let error = client.kv().put("key", &1).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict);
        assert_eq!(error.outcome(), Some(Outcome::NotCommitted));
        drop(client);
        fake.finish();
    });
}
