//! The same rubbish from peers that speak MessagePack.

use in_mem_ipc::close::CloseReason;
use in_mem_ipc::frame::{FrameKind, Header, parse_frame};
use in_mem_ipc::request::kv::Key;
use in_mem_ipc::request::run::RunBegin;
use in_mem_ipc::request::txn::{Batch, BatchOperation};
use in_mem_ipc::{Encoding, FrameBuffer, Operation, Request, RequestHeader, Response};
use in_mem_model::SubCode;

use super::{Random, SEVEN, Witness, abuse, daemon};
use crate::raw_client::{RawClient, Reply, hello_frame_with, put};

/// A frame around any body.
fn frame_of(body: &[u8], id: u64) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    let header = Header {
        request_id: id,
        ..Header::new(FrameKind::Request, len)
    };
    let mut frame = header.encode().to_vec();
    frame.extend_from_slice(body);
    frame.resize(header.frame_len_bytes() as usize, 0);
    frame
}

fn encoded(operation: Operation<'_>) -> FrameBuffer {
    let header = RequestHeader::default();
    let mut frame = FrameBuffer::new();
    Encoding::MessagePack
        .encode_request(&Request { header, operation }, 1, &mut frame)
        .unwrap();
    frame
}

fn greeted(socket: &std::path::Path) -> RawClient {
    RawClient::connect_with(socket, Encoding::MessagePack)
}

#[test]
fn every_byte_of_a_message_pack_frame_may_be_wrong_or_missing() {
    let (_directory, daemon) = daemon(&[]);
    let mut witness = Witness::new(&daemon);
    let mut random = Random::from_environment();
    let hello = hello_frame_with(Encoding::MessagePack);
    let begin = RunBegin {
        tags: vec!["t".into()],
        if_missing: true,
        ..RunBegin::default()
    };
    let mut count = 0;
    let batch = Batch {
        operations: vec![BatchOperation::Delete(Key { key: "k".into() })],
        ..Batch::default()
    };
    for frame in [
        encoded(put("key", SEVEN)),
        encoded(Operation::Batch(batch)),
        encoded(Operation::RunBegin(begin)),
    ] {
        for index in 0..frame.len() {
            let flipped = frame[index] ^ (1 << random.below(8));
            for wrong in [0x00, 0xFF, flipped] {
                let mut mutated = frame.to_vec();
                mutated[index] = wrong;
                abuse(&daemon, &[&hello, &mutated]);
                count += 1;
            }
            abuse(&daemon, &[&hello, &frame[..index]]);
            // A body cut short in a frame that says so.
            let body = parse_frame(&frame).unwrap().unwrap().body;
            let cut = frame_of(&body[..index.min(body.len())], 1);
            abuse(&daemon, &[&hello, &cut]);
        }
        witness.check();
    }
    println!("{count} mutated frames");
    assert!(500 < count);
    witness.finish(&daemon);
}

#[test]
fn message_pack_that_is_none_closes_its_connection_only_and_says_where() {
    let (_directory, daemon) = daemon(&[]);
    let witness = Witness::new(&daemon);
    for body in [
        &b""[..],
        b"\xc1",
        b"\x82\xa2op\xabsystem.ping",
        b"\x81\xa2op\xabsystem.ping\xc0",
        b"\xdf\xff\xff\xff\xff",
        b"\x82\xa2op\xabkv.get_many\xa6params\x81\xa4keys\xdd\xff\xff\xff\xff",
        b"\x82\xa2op\xa6kv.put\xa6params\x82\xa3key\xa1k\xa5value\xc6\xff\xff\xff\xff",
        &[0x91; 100_000],
    ] {
        let mut client = greeted(daemon.socket());
        client.send(&frame_of(body, 1));
        let replies = client.read_to_end();
        let close = replies.last().and_then(Reply::close).expect("a close");
        assert_eq!(close.reason, CloseReason::Malformed);
        assert!(close.message.contains("offset"), "{}", close.message);
        assert_eq!(replies.len(), 1);
    }
    witness.finish(&daemon);
}

#[test]
fn a_message_pack_request_that_is_wrong_is_refused_by_name_and_the_connection_goes_on() {
    let (_directory, daemon) = daemon(&[]);
    let witness = Witness::new(&daemon);
    let mut client = greeted(daemon.socket());
    let deep = [
        b"\x82\xa2op\xa6kv.put\xa6params\x82\xa3key\xa1k\xa5value".to_vec(),
        vec![0x91; 100_000],
        vec![0xc0],
    ]
    .concat();
    for (body, sub, named) in [
        (&b"\x80"[..], SubCode::InvalidArgument, "\"op\""),
        (
            b"\x81\xa2op\xa6kv.got",
            SubCode::InvalidArgument,
            "\"kv.got\"",
        ),
        (b"\x81\xa2op\xa6kv.get", SubCode::InvalidArgument, "\"key\""),
        (
            b"\x82\xa2op\xa6kv.get\xa6params\x82\xa3key\xa1k\xa3kex\x01",
            SubCode::InvalidArgument,
            "\"kex\"",
        ),
        (
            b"\x82\xa2op\xa6kv.get\xa6params\x81\xa3key\xa1\xff",
            SubCode::InvalidUtf8,
            "utf-8",
        ),
        (&deep, SubCode::NestingTooDeep, "128"),
    ] {
        client.send(&frame_of(body, 5));
        let reply = client.read().unwrap().expect("the connection is open");
        assert_eq!(reply.header.request_id, 5);
        let Response::Error(error) = reply.response() else {
            panic!("not refused")
        };
        assert_eq!(error.sub, sub.number(), "{}", &*error.message);
        assert!(error.message.contains(named), "{}", &*error.message);
    }
    client.put("key", SEVEN);
    assert_eq!(client.get("key"), Some(SEVEN.to_vec()));
    drop(client);
    witness.finish(&daemon);
}
