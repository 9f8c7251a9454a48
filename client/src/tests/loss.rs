//! The connection lost at every point of a request: what is sent again, and what is said.

use std::time::Duration;

use in_mem_ipc::frame::{FrameKind, Header};
use in_mem_ipc::request::Operation;
use in_mem_ipc::response::Response;
use in_mem_model::{ErrorClass, Outcome, SubCode, Version};

use super::fake::{Fake, Peer, Script, frame_of, value, written};
use crate::error::ClientError;
use crate::retry::ReconnectPolicy;

/// Takes a request and goes without an answer.
fn losing() -> Script {
    Box::new(|peer| {
        peer.greet();
        peer.request();
    })
}

/// Answers a ping and nothing else.
fn pinged() -> Script {
    Box::new(|peer| {
        peer.greet();
        assert_eq!(peer.serve(&Response::Done), Operation::SystemPing);
        peer.expect_end();
    })
}

#[test]
fn a_write_whose_answer_was_lost_is_outcome_unknown_and_never_sent_again() {
    let fake = Fake::new([losing(), pinged()]);
    let client = fake.connect().unwrap();
    let error = client.kv().put("key", &1).unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost { .. }));
    assert_eq!(error.sub(), Some(SubCode::ConnectionLost));
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    client.ping().unwrap();
    assert_eq!(client.connection_number(), 2);
    drop(client);
    fake.finish();
}

#[test]
fn a_read_whose_answer_was_lost_is_asked_again() {
    let answering: Script = Box::new(|peer| {
        peer.greet();
        assert!(matches!(peer.serve(&value(5)), Operation::KvGet(_)));
        peer.expect_end();
    });
    let fake = Fake::new([losing(), losing(), answering]);
    let client = fake.connect().unwrap();
    assert_eq!(client.kv().get::<i64>("key").unwrap(), Some(5));
    drop(client);
    fake.finish();
}

#[test]
fn nothing_is_sent_again_where_the_caller_records_what_it_sent() {
    let fake = Fake::new([losing(), pinged()]);
    let policy = ReconnectPolicy {
        resends: false,
        ..ReconnectPolicy::default()
    };
    let client = fake.connect_as(Fake::builder().reconnect(policy)).unwrap();
    let error = client.kv().get::<i64>("key").unwrap_err();
    assert_eq!(error.sub(), Some(SubCode::ConnectionLost));
    assert_eq!(error.outcome(), None);
    client.ping().unwrap();
    drop(client);
    fake.finish();
}

#[test]
fn a_write_the_server_cannot_have_got_is_sent_over_the_new_connection() {
    let gone: Script = Box::new(Peer::greet);
    let answering: Script = Box::new(|peer| {
        peer.greet();
        assert!(matches!(peer.serve(&written(9)), Operation::KvPut(_)));
        peer.expect_end();
    });
    let fake = Fake::new([gone, answering]);
    let client = fake.connect().unwrap();
    fake.wait();
    let receipt = client.kv().put("key", &1).unwrap();
    assert_eq!(receipt.version, Version::Txn(9));
    drop(client);
    fake.finish();
}

#[test]
fn an_answer_cut_anywhere_leaves_the_outcome_of_a_write_unknown() {
    let len = frame_of(1, &written(9)).len();
    for cut in 0..len {
        let cutting: Script = Box::new(move |peer| {
            peer.greet();
            let (id, _) = peer.request();
            peer.send(&frame_of(id, &written(9))[..cut]);
        });
        let fake = Fake::new([cutting]);
        let client = fake.connect().unwrap();
        let error = client.kv().put("key", &1).unwrap_err();
        assert_eq!(
            error.outcome(),
            Some(Outcome::OutcomeUnknown),
            "cut at {cut}"
        );
        assert_eq!(error.sub(), Some(SubCode::ConnectionLost), "cut at {cut}");
        fake.finish();
    }
}

#[test]
fn an_answer_damaged_anywhere_is_never_a_panic() {
    let len = frame_of(1, &value(7)).len();
    for at in 0..len {
        for flip in [0x01, 0x80, 0xFF] {
            let damaging: Script = Box::new(move |peer| {
                peer.greet();
                let (id, _) = peer.request();
                let mut frame = frame_of(id, &value(7)).to_vec();
                frame[at] ^= flip;
                peer.send(&frame);
            });
            let fake = Fake::new([damaging]);
            let policy = ReconnectPolicy::NONE;
            let client = fake.connect_as(Fake::builder().reconnect(policy)).unwrap();
            let _ = client.kv().get::<i64>("key");
            fake.wait();
        }
    }
}

#[test]
fn an_answer_that_claims_more_than_a_frame_may_hold_is_refused_before_memory_is_taken() {
    let claiming: Script = Box::new(|peer| {
        peer.greet();
        let (id, _) = peer.request();
        let header = Header {
            request_id: id,
            ..Header::new(FrameKind::Response, 0)
        };
        let mut bytes = header.encode();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        peer.send(&bytes);
    });
    let fake = Fake::new([claiming]);
    let client = fake.connect().unwrap();
    let error = client.kv().put("key", &1).unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }));
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    fake.finish();
}

#[test]
fn a_large_answer_arrives_whole_and_the_next_one_too() {
    let large = "x".repeat(3 << 20);
    let expected = large.clone();
    let answering: Script = Box::new(move |peer| {
        peer.greet();
        let encoded = in_mem_model::to_encoded(&large).unwrap();
        peer.serve(&Response::Value(encoded.as_bytes().into()));
        peer.serve(&value(2));
        peer.expect_end();
    });
    let fake = Fake::new([answering]);
    let client = fake.connect().unwrap();
    assert_eq!(client.kv().get::<String>("large").unwrap(), Some(expected));
    assert_eq!(client.kv().get::<i64>("small").unwrap(), Some(2));
    drop(client);
    fake.finish();
}

#[test]
fn a_request_larger_than_a_frame_is_refused_and_the_connection_stays() {
    let fake = Fake::new([pinged()]);
    let client = fake.connect().unwrap();
    let part = "x".repeat(16 << 20);
    let entries = [
        ("a", &part),
        ("b", &part),
        ("c", &part),
        ("d", &part),
        ("e", &part),
    ];
    let error = client.kv().put_many(entries).unwrap_err();
    assert_eq!(error.class(), ErrorClass::ConstraintViolation);
    assert_eq!(error.outcome(), Some(Outcome::NotCommitted));
    client.ping().unwrap();
    assert_eq!(client.connection_number(), 1);
    drop(client);
    fake.finish();
}

#[test]
fn a_silent_server_is_given_up_with_the_outcome_of_a_write_unknown() {
    let silent: Script = Box::new(|peer| {
        peer.greet();
        peer.request();
        peer.expect_end();
    });
    let fake = Fake::new([silent]);
    let builder = Fake::builder().silence_max(Some(Duration::from_millis(20)));
    let client = fake.connect_as(builder).unwrap();
    let error = client.kv().put("key", &1).unwrap_err();
    assert_eq!(error.sub(), Some(SubCode::Timeout));
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    fake.finish();
}

#[test]
fn an_answer_of_another_kind_is_an_error_and_not_a_default() {
    let confused: Script = Box::new(|peer| {
        peer.greet();
        peer.serve(&Response::Done);
        peer.serve(&value(1));
        peer.expect_end();
    });
    let fake = Fake::new([confused]);
    let client = fake.connect().unwrap();
    assert_eq!(
        client.kv().get::<i64>("key").unwrap_err().sub(),
        Some(SubCode::ProtocolViolation)
    );
    let error = client.kv().get::<String>("key").unwrap_err();
    assert_eq!(error.class(), ErrorClass::WrongType);
    drop(client);
    fake.finish();
}
