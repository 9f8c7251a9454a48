//! Writes a caller repeats by their sequence: every error speaks of the first attempt too, and one
//! repeat is for one write.

use in_mem_ipc::request::Operation;
use in_mem_ipc::response::Response;
use in_mem_model::{Outcome, RunId, SubCode};

use super::fake::{Fake, Peer, Script, written};
use super::once::{REGISTERED_AT, Told, connect, in_both, refusal};
use crate::cancel::Canceller;
use crate::client::Client;
use crate::encoding::Encoding;
use crate::error::ClientError;
use crate::identity::Identity;
use crate::results::Receipt;
use crate::retry::ReconnectPolicy;
use crate::transaction::TransactionOptions;

const UNKNOWN: Option<Outcome> = Some(Outcome::OutcomeUnknown);
const NEVER: Option<Outcome> = Some(Outcome::NotCommitted);

/// Puts once.
fn put(client: &Client) -> Result<Receipt, ClientError> {
    client.kv().put("key", &1)
}

/// Greets, remembering, and goes.
fn gone() -> Script {
    Box::new(|peer| {
        peer.greet_remembering(REGISTERED_AT);
    })
}

/// One put in a pipeline; what sending or the put itself met.
fn put_in_pipeline(client: &Client) -> Result<Receipt, ClientError> {
    let mut pipeline = client.pipeline();
    let ticket = pipeline.put("key", &1)?;
    pipeline.send()?.take(ticket)
}

#[test]
fn a_repeat_that_finds_no_daemon_leaves_the_first_attempt_in_doubt() {
    in_both(|encoding| {
        for attempt in [put, put_in_pipeline] {
            let fake = Fake::new([gone()]);
            let client = connect(&fake, encoding);
            fake.wait();
            let error = attempt(&client.repeat(1)).unwrap_err();
            assert_eq!(error.outcome(), UNKNOWN, "{error}");
            // From here on without a connection to be had at all.
            let error = attempt(&client.repeat(1)).unwrap_err();
            assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
            assert_eq!(error.outcome(), UNKNOWN, "{error}");
            let error = attempt(&client).unwrap_err();
            assert_eq!(error.outcome(), NEVER, "{error}");
        }
    });
}

#[test]
fn a_repeat_the_kernel_did_not_take_leaves_the_first_attempt_in_doubt() {
    for attempt in [put, put_in_pipeline] {
        for (sequence, outcome) in [(1, UNKNOWN), (0, NEVER)] {
            let fake = Fake::new([gone()]);
            let builder = Fake::builder().reconnect(ReconnectPolicy::NONE);
            let client = fake.connect_as(builder).unwrap();
            fake.wait();
            let client = match sequence {
                0 => client,
                sequence => client.repeat(sequence),
            };
            let error = attempt(&client).unwrap_err();
            assert!(matches!(error, ClientError::ConnectionLost { .. }));
            assert_eq!(error.outcome(), outcome, "{error}");
        }
    }
}

#[test]
fn a_repeat_given_up_before_it_was_sent_leaves_the_first_attempt_in_doubt() {
    let told = Told::default();
    let fake = Fake::new([told.answering([])]);
    let canceller = Canceller::new();
    let client = fake
        .connect_as(Fake::builder().canceller(&canceller))
        .unwrap();
    canceller.cancel();
    let error = put(&client.repeat(1)).unwrap_err();
    assert_eq!(error.sub(), Some(SubCode::Cancelled));
    assert_eq!(error.outcome(), UNKNOWN, "{error}");
    assert_eq!(put(&client).unwrap_err().outcome(), NEVER);
    drop(client);
    fake.finish();
}

#[test]
fn a_repeat_refused_without_a_look_leaves_the_first_attempt_in_doubt() {
    let refusals = [
        (SubCode::Unavailable, UNKNOWN),
        (SubCode::ResourceExhausted, UNKNOWN),
        (SubCode::Timeout, UNKNOWN),
        // The server has looked: neither attempt committed anything.
        (SubCode::ReadConflict, NEVER),
    ];
    for (sub, outcome) in refusals {
        in_both(|encoding| {
            for attempt in [put, put_in_pipeline] {
                let told = Told::default();
                let refused = || refusal(sub, Outcome::NotCommitted);
                let fake = Fake::new([told.answering([refused(), refused()])]);
                let client = connect(&fake, encoding);
                let error = attempt(&client.repeat(1)).unwrap_err();
                assert_eq!(error.sub(), Some(sub), "{error}");
                assert_eq!(error.outcome(), outcome, "{error}");
                // Of a write that was never sent before it is the whole truth.
                let error = attempt(&client).unwrap_err();
                assert_eq!(error.outcome(), NEVER, "{sub:?}: {error}");
                drop(client);
                fake.finish();
            }
        });
    }
}

fn assert_refused(error: &ClientError) {
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    assert_eq!(error.sub(), Some(SubCode::InvalidArgument), "{error}");
    assert_eq!(error.outcome(), NEVER, "{error}");
}

#[test]
fn a_repeat_is_for_one_write() {
    in_both(|encoding| {
        let told = Told::default();
        let fake = Fake::new([told.answering([written(9), Response::Missing, written(10)])]);
        let client = connect(&fake, encoding);
        let repeated = client.repeat(1);
        put(&repeated).unwrap();
        // Also an equal one: the server would not add a second time.
        assert_refused(&put(&repeated).unwrap_err());
        assert_refused(&put_in_pipeline(&repeated).unwrap_err());
        assert_refused(&repeated.kv().put("other", &1).unwrap_err());
        assert_eq!(repeated.kv().get::<i64>("key").unwrap(), None);
        put(&client).unwrap();
        drop((repeated, client));
        fake.finish();
        let requests = told.requests.lock().unwrap();
        let writes = requests
            .iter()
            .filter(|it| matches!(it.1, Operation::KvPut(_)));
        let sequences: Vec<u64> = writes.map(|it| it.0.client_sequence).collect();
        assert_eq!(sequences, [1, 2]);
    });
}

#[test]
fn a_repeat_without_an_answer_can_be_asked_for_again_and_for_nothing_else() {
    let told = Told::default();
    let fake = Fake::new([told.losing(1), told.answering([written(9)])]);
    let once = Fake::builder().reconnect(ReconnectPolicy::NONE);
    let client = fake.connect_as(once).unwrap();
    let repeated = client.repeat(1);
    assert_eq!(put(&repeated).unwrap_err().outcome(), UNKNOWN);
    assert_refused(&repeated.kv().put("other", &1).unwrap_err());
    let mut pipeline = repeated.pipeline();
    pipeline.put("other", &1).unwrap();
    assert_refused(&pipeline.send().unwrap_err());
    let elsewhere = repeated.scope().with_run(RunId([7; 16]));
    let error = crate::kv::Kv::new(elsewhere).put("key", &1).unwrap_err();
    assert_refused(&error);
    assert_eq!(put(&repeated).unwrap().commit_version, 9);
    drop((repeated, client));
    fake.finish();
    assert_eq!(told.sequences(), [1, 1]);
}

#[test]
fn a_pipeline_of_a_repeat_takes_one_write_and_any_reads() {
    let told = Told::default();
    let fake = Fake::new([told.answering([Response::Missing, written(9)])]);
    let client = connect(&fake, Encoding::Rkyv);
    let mut pipeline = client.repeat(3).pipeline();
    let read = pipeline.get::<i64>("key").unwrap();
    let write = pipeline.put("key", &1).unwrap();
    assert_refused(&pipeline.put("other", &1).unwrap_err());
    assert_refused(&pipeline.incr("key", 1).unwrap_err());
    let mut answers = pipeline.send().unwrap();
    assert_eq!(answers.take(read).unwrap(), None);
    assert_eq!(answers.take(write).unwrap().commit_version, 9);
    drop(client);
    fake.finish();
    let requests = told.requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].0.client_sequence, 3);
}

#[test]
fn a_transaction_is_no_repeat() {
    let told = Told::default();
    let fake = Fake::new([told.answering([])]);
    let client = connect(&fake, Encoding::Rkyv);
    let run = client.repeat(1).default_run();
    let options = TransactionOptions::default();
    assert_refused(&run.begin_transaction(&options).unwrap_err());
    let ran = run.transaction(&options, |_| Ok::<_, ClientError>(()));
    assert_refused(&ran.unwrap_err());
    drop((run, client));
    fake.finish();
}

#[test]
fn a_client_at_the_end_of_its_sequences_says_so_and_sends_nothing() {
    for attempt in [put, put_in_pipeline] {
        let told = Told::default();
        let fake = Fake::new([told.answering([written(9)])]);
        let identity = Identity {
            last_sequence: u64::MAX - 1,
            ..Identity::new()
        };
        let client = fake.connect_as(Fake::builder().identity(identity)).unwrap();
        attempt(&client).unwrap();
        assert_refused(&attempt(&client).unwrap_err());
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [u64::MAX]);
    }
}

/// Takes one write without a sequence over a connection whose server remembers nothing, and goes.
fn forgetting(told: &Told) -> Script {
    let told = told.clone();
    Box::new(move |peer| {
        peer.greet();
        told.take(peer);
    })
}

/// A server that remembers nothing, and is asked whether it is there and nothing else.
fn only_pinged() -> Script {
    Box::new(|peer: &mut Peer| {
        peer.greet();
        assert_eq!(peer.serve(&Response::Done), Operation::SystemPing);
        peer.expect_end();
    })
}

#[test]
fn nothing_is_repeated_over_a_connection_that_does_not_remember() {
    for attempt in [put, put_in_pipeline] {
        let told = Told::default();
        let fake = Fake::new([told.losing(1), only_pinged()]);
        let client = connect(&fake, Encoding::Rkyv);
        let error = attempt(&client).unwrap_err();
        assert_eq!(error.outcome(), UNKNOWN, "{error}");
        client.ping().unwrap();
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [1]);
    }
}

#[test]
fn a_write_over_a_connection_that_does_not_remember_is_not_repeated() {
    for attempt in [put, put_in_pipeline] {
        let told = Told::default();
        let fake = Fake::new([gone(), forgetting(&told), only_pinged()]);
        let client = connect(&fake, Encoding::Rkyv);
        // The first connection is over before anything is sent.
        fake.wait();
        let error = attempt(&client).unwrap_err();
        assert_eq!(error.outcome(), UNKNOWN, "{error}");
        client.ping().unwrap();
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [0]);
    }
}

#[test]
fn a_write_over_a_connection_that_remembers_is_repeated_whatever_the_one_before_did() {
    for attempt in [put, put_in_pipeline] {
        let told = Told::default();
        let forgetful: Script = Box::new(Peer::greet);
        let fake = Fake::new([forgetful, told.losing(1), told.answering([written(9)])]);
        let client = connect(&fake, Encoding::Rkyv);
        fake.wait();
        assert_eq!(attempt(&client).unwrap().commit_version, 9);
        drop(client);
        fake.finish();
        assert_eq!(told.sequences(), [1, 1]);
    }
}

#[test]
fn a_repeat_is_refused_in_doubt_where_nothing_is_remembered() {
    for attempt in [put, put_in_pipeline] {
        let fake = Fake::new([only_pinged()]);
        let client = connect(&fake, Encoding::Rkyv);
        let error = attempt(&client.repeat(1)).unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{error}");
        assert_eq!(error.outcome(), UNKNOWN, "{error}");
        client.ping().unwrap();
        drop(client);
        fake.finish();
    }
}
