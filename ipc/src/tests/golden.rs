//! The bytes of one message of each kind are pinned in `fixtures/golden.txt`.
//!
//! A line is a name and the frame in hex. A change of these bytes is a change of the protocol:
//! it needs a new protocol version, not a new fixture.

use super::greetings::{close, hello, hello_reply};
use super::samples::{Material, operations, requests, responses};
use crate::codec::{FrameBuffer, encode_push, encode_request, encode_response};
use crate::operation::{OPERATIONS, OperationKind};
use crate::request::version::TaggedVersion;
use crate::request::{ArchivedRequest, Operation, Request, RequestHeader};
use crate::response::{ArchivedResponse, Response};

/// The frames of all samples, by name.
pub(super) fn frames() -> Vec<(String, FrameBuffer)> {
    let material = Material::fixed();
    let mut frames = Vec::new();
    let mut add = |name: String, encode: &dyn Fn(&mut FrameBuffer)| {
        let mut buffer = FrameBuffer::new();
        encode(&mut buffer);
        frames.push((name, buffer));
    };
    add("hello".to_owned(), &|buffer| {
        hello().encode(buffer).unwrap()
    });
    add("hello_reply".to_owned(), &|buffer| {
        hello_reply().encode(buffer).unwrap()
    });
    add("close".to_owned(), &|buffer| {
        close().encode(buffer).unwrap()
    });
    for request in requests(&material) {
        let name = format!("request:{}", request.operation.kind().name());
        add(name, &|buffer| {
            encode_request(&request, 0x1122_3344_5566_7788, buffer).unwrap()
        });
    }
    for (name, response) in responses(&material) {
        let name = format!("response:{name}");
        add(name, &|buffer| {
            encode_response(&response, 0x1122_3344_5566_7788, buffer).unwrap()
        });
    }
    add("push".to_owned(), &|buffer| {
        let version = Response::Version(TaggedVersion::Txn(0x0102_0304_0506_0708));
        encode_push(&version, 0x1122_3344_5566_7788, buffer).unwrap()
    });
    frames
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_one_message_of_each_kind_are_pinned() {
    let actual: Vec<String> = frames()
        .iter()
        .map(|(name, frame)| format!("{name} {}", hex(frame)))
        .collect();
    let pinned: Vec<&str> = include_str!("../../fixtures/golden.txt").lines().collect();
    let changed: Vec<&String> = actual
        .iter()
        .filter(|line| !pinned.contains(&line.as_str()))
        .collect();
    for line in &changed {
        println!("{line}");
    }
    assert!(
        changed.is_empty(),
        "{} frames differ from fixtures/golden.txt",
        changed.len()
    );
    assert_eq!(
        actual.len(),
        pinned.len(),
        "a pinned frame is no longer made"
    );
}

#[test]
fn the_table_of_operations_is_in_the_order_of_the_wire_tags() {
    let operations = operations(&Material::fixed());
    assert_eq!(operations.len(), OPERATIONS.len());
    for (index, (operation, properties)) in operations.iter().zip(OPERATIONS).enumerate() {
        assert_eq!(operation.kind(), properties.kind);
        assert_eq!(usize::from(properties.kind as u8), index);
        assert_eq!(properties.kind.properties(), *properties);
        assert_eq!(
            OperationKind::from_name(properties.name),
            Some(properties.kind)
        );
        let mut buffer = FrameBuffer::new();
        let request = Request {
            header: RequestHeader::default(),
            operation: operation.clone(),
        };
        encode_request(&request, 1, &mut buffer).unwrap();
        let body = crate::frame::parse_frame(&buffer).unwrap().unwrap().body;
        assert_eq!(
            usize::from(body[body.len() - 40]),
            index,
            "wire tag of {}",
            properties.name
        );
        assert_eq!(
            crate::codec::access_request(body).unwrap().operation.kind(),
            properties.kind
        );
    }
    assert_eq!(OperationKind::from_name("kv.unknown"), None);
    assert_eq!(OperationKind::from_name("KV.PUT"), None);
}

#[test]
fn archives_have_the_sizes_their_comments_state() {
    assert_eq!(size_of::<ArchivedRequest<'static>>(), 80);
    assert_eq!(size_of::<ArchivedResponse<'static>>(), 32);
    assert_eq!(
        size_of::<crate::request::txn::ArchivedBatchOperation<'static>>(),
        40
    );
}

#[test]
fn a_put_of_a_100_byte_value_takes_240_bytes_and_its_answer_64() {
    let find = |wanted: &str| {
        frames()
            .into_iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, frame)| frame.len())
    };
    assert_eq!(find("request:kv.put"), Some(240));
    assert_eq!(find("request:kv.get"), Some(128));
    assert_eq!(find("response:Written"), Some(64));
    assert_eq!(find("response:Value"), Some(176));
}

#[test]
fn borrowed_and_owned_messages_have_the_same_bytes() {
    let (key, value) = (vec![7; 16], vec![9; 100]);
    let borrowed = crate::request::kv::KeyValue {
        key: key.as_slice().into(),
        value: value.as_slice().into(),
    };
    let owned = crate::request::kv::KeyValue {
        key: key.clone().into(),
        value: value.clone().into(),
    };
    let (mut first, mut second) = (FrameBuffer::new(), FrameBuffer::new());
    let header = RequestHeader::default();
    encode_request(
        &Request {
            header,
            operation: Operation::KvPut(borrowed),
        },
        1,
        &mut first,
    )
    .unwrap();
    encode_request(
        &Request {
            header,
            operation: Operation::KvPut(owned),
        },
        1,
        &mut second,
    )
    .unwrap();
    assert_eq!(&first[..], &second[..]);
    first.clear();
    second.clear();
    encode_response(&Response::Value(value.as_slice().into()), 1, &mut first).unwrap();
    encode_response(&Response::Value(value.clone().into()), 1, &mut second).unwrap();
    assert_eq!(&first[..], &second[..]);
}
