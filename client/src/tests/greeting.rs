//! The greeting: what a client makes of every way it can go wrong.

use in_mem_ipc::FrameBuffer;
use in_mem_ipc::close::{Close, CloseReason};
use in_mem_model::SubCode;

use super::fake::{Fake, Script, reply};
use crate::error::ClientError;
use crate::retry::ReconnectPolicy;

fn closing(reason: CloseReason) -> Script {
    Box::new(move |peer| {
        peer.take_hello();
        let mut frame = FrameBuffer::new();
        Close::new(reason, "because").encode(&mut frame).unwrap();
        peer.send(&frame);
    })
}

#[test]
fn a_server_that_closes_instead_of_greeting_is_a_readable_error() {
    let cases = [
        (CloseReason::ProtocolMismatch, SubCode::ProtocolMismatch),
        (CloseReason::PermissionDenied, SubCode::PermissionDenied),
        (CloseReason::LimitExceeded, SubCode::ResourceExhausted),
        (CloseReason::Draining, SubCode::Unavailable),
        (CloseReason::Refused, SubCode::InvalidArgument),
        (CloseReason::Other(200), SubCode::InvalidArgument),
    ];
    for (reason, sub) in cases {
        let fake = Fake::new([closing(reason)]);
        let error = fake.connect().unwrap_err();
        assert_eq!(error.sub(), Some(sub), "{reason:?}");
        assert!(error.body().message.contains("because"));
        let is_protocol = matches!(error, ClientError::Protocol { .. });
        assert_eq!(is_protocol, reason == CloseReason::ProtocolMismatch);
        fake.finish();
    }
}

#[test]
fn a_refused_run_is_a_run_that_was_not_found() {
    let fake = Fake::new([closing(CloseReason::Refused)]);
    let error = fake.connect_as(Fake::builder().run("nobody")).unwrap_err();
    assert_eq!(error.sub(), Some(SubCode::RunNotFound));
    fake.finish();
}

#[test]
fn a_greeting_cut_anywhere_or_damaged_anywhere_is_an_error_and_never_a_panic() {
    let mut whole = FrameBuffer::new();
    reply().encode(&mut whole).unwrap();
    for cut in 0..whole.len() {
        let part = whole[..cut].to_vec();
        let fake = Fake::new([Box::new(move |peer: &mut super::fake::Peer| {
            peer.take_hello();
            peer.send(&part);
        }) as Script]);
        let error = fake.connect().unwrap_err();
        assert_eq!(
            error.sub(),
            Some(SubCode::ConnectionRefused),
            "cut at {cut}"
        );
        fake.finish();
    }
    for at in 0..64 {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x80;
        let fake = Fake::new([Box::new(move |peer: &mut super::fake::Peer| {
            peer.take_hello();
            peer.send(&damaged);
        }) as Script]);
        // Some bits are free: a version text reads as another text.
        let _ = fake.connect();
        fake.finish();
    }
}

#[test]
fn a_first_connection_waits_only_if_it_is_told_to() {
    let fake = Fake::new([]);
    let error = fake.connect().unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));

    let gone: Script = Box::new(|_| {});
    let there: Script = Box::new(|peer| {
        peer.greet();
        peer.expect_end();
    });
    let fake = Fake::new([gone, there]);
    let client = fake.connect_as(Fake::builder().wait()).unwrap();
    assert_eq!(client.connection_number(), 1);
    drop(client);
    fake.finish();
}

#[test]
fn waiting_for_a_lost_server_ends() {
    let fake = Fake::new([Box::new(|peer: &mut super::fake::Peer| peer.greet()) as Script]);
    let client = fake
        .connect_as(Fake::builder().reconnect(ReconnectPolicy::NONE))
        .unwrap();
    fake.wait();
    // The first call finds the connection gone, the second finds nobody.
    assert_eq!(
        client.ping().unwrap_err().sub(),
        Some(SubCode::ConnectionLost)
    );
    assert_eq!(
        client.ping().unwrap_err().sub(),
        Some(SubCode::ConnectionRefused)
    );
    fake.finish();
}
