//! The same messages in MessagePack: equal in both encodings, pinned, and safe to read whatever a
//! peer sends.

use proptest::prelude::*;

use super::roundtrip::{material, runner};
use super::samples::{Material, operations, requests, responses};
use crate::codec::{self, FrameBuffer, access_request, access_response};
use crate::encoding::Encoding;
use crate::frame::{BODY_LEN_BYTES_MAX, FRAME_LEN_BYTES_MAX, FrameKind, parse_frame};
use crate::message_pack::{
    LIST_COUNT_MAX, MessageError, Refusal, decode_request, decode_response, encode_push,
    encode_request, encode_response,
};
use crate::request::kv::{KeyValue, Keys};
use crate::request::version::TaggedVersion;
use crate::request::{Operation, Request, RequestHeader};
use crate::response::Response;

/// Material whose bytes are items of MessagePack, as values always are.
fn of_items(mut material: Material) -> Material {
    for bytes in &mut material.bytes {
        let mut item = Vec::new();
        rmp::encode::write_bin(&mut item, bytes).unwrap();
        *bytes = item;
    }
    material
}

/// The material of the pinned bytes: keys of one letter, which are items too, and a value.
fn fixed() -> Material {
    let mut value = vec![0x82, 0xa1, b'n', 0x07, 0xa1, b'x', 0xcb];
    value.extend(0.5_f64.to_be_bytes());
    Material {
        bytes: vec![b"k".to_vec(), value, b"p".to_vec()],
        ..Material::fixed()
    }
}

/// The frames of all samples, by name.
fn frames() -> Vec<(String, FrameBuffer)> {
    let material = fixed();
    let requests = requests(&material).into_iter().map(|request| {
        let mut buffer = FrameBuffer::new();
        encode_request(&request, 0x1122_3344_5566_7788, &mut buffer).unwrap();
        let name = format!("request:{}", request.operation.kind().name());
        (name, buffer)
    });
    let responses = responses(&material).into_iter().map(|(name, response)| {
        let mut buffer = FrameBuffer::new();
        encode_response(&response, 0x1122_3344_5566_7788, &mut buffer).unwrap();
        (format!("response:{name}"), buffer)
    });
    let mut push = FrameBuffer::new();
    let version = Response::Version(TaggedVersion::Txn(0x0102_0304_0506_0708));
    encode_push(&version, 0x1122_3344_5566_7788, &mut push).unwrap();
    let push = [("push".to_owned(), push)];
    requests.chain(responses).chain(push).collect()
}

/// Reads a body to the end, as a peer would.
fn read(kind: FrameKind, body: &[u8]) -> Result<(), MessageError> {
    match kind {
        FrameKind::Request => decode_request(body).map(drop),
        _ => decode_response(body).map(drop),
    }
}

#[test]
fn every_request_is_equal_in_both_encodings() {
    runner(64)
        .run(&material(), |material| {
            for request in requests(&of_items(material)) {
                let (mut archive, mut map) = (FrameBuffer::new(), FrameBuffer::new());
                codec::encode_request(&request, 7, &mut archive).unwrap();
                encode_request(&request, 7, &mut map).unwrap();
                let archive = parse_frame(&archive).unwrap().unwrap();
                let frame = parse_frame(&map).unwrap().unwrap();
                prop_assert_eq!(frame.header.kind, FrameKind::Request);
                prop_assert_eq!(frame.header.request_id, 7);
                let from_map = decode_request(frame.body).unwrap();
                let from_archive =
                    Request::from_archived(access_request(archive.body).unwrap()).unwrap();
                prop_assert_eq!(&from_map, &from_archive);
                prop_assert_eq!(&from_map, &request);
                let mut again = FrameBuffer::new();
                codec::encode_request(&from_map, 7, &mut again).unwrap();
                prop_assert_eq!(parse_frame(&again).unwrap().unwrap().body, archive.body);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_response_is_equal_in_both_encodings() {
    runner(64)
        .run(&material(), |material| {
            for (name, response) in responses(&of_items(material)) {
                let (mut archive, mut map) = (FrameBuffer::new(), FrameBuffer::new());
                codec::encode_response(&response, 7, &mut archive).unwrap();
                encode_response(&response, 7, &mut map).unwrap();
                let archive = parse_frame(&archive).unwrap().unwrap();
                let frame = parse_frame(&map).unwrap().unwrap();
                prop_assert_eq!(frame.header.kind, FrameKind::Response);
                let from_map = decode_response(frame.body).unwrap();
                let from_archive =
                    Response::from_archived(access_response(archive.body).unwrap()).unwrap();
                prop_assert_eq!(&from_map, &from_archive, "{}", name);
                prop_assert_eq!(&from_map, &response, "{}", name);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_bytes_of_one_message_pack_message_of_each_kind_are_pinned() {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let actual: Vec<String> = frames()
        .iter()
        .map(|(name, frame)| format!("{name} {}", hex(frame)))
        .collect();
    let pinned: Vec<&str> = include_str!("../../fixtures/golden_message_pack.txt")
        .lines()
        .collect();
    let changed: Vec<&String> = actual
        .iter()
        .filter(|line| !pinned.contains(&line.as_str()))
        .collect();
    for line in &changed {
        println!("{line}");
    }
    assert!(changed.is_empty(), "{} frames differ", changed.len());
    assert_eq!(actual.len(), pinned.len(), "a pinned frame is gone");
}

#[test]
fn a_put_reads_as_anyone_would_write_it_by_hand() {
    let mut body = vec![0x82, 0xa2];
    body.extend(b"op\xa6kv.put\xa6params\x82\xa3key\xa1k\xa5value\x93\x01\xc0\xc3");
    let put = KeyValue {
        key: "k".into(),
        value: [0x93, 0x01, 0xc0, 0xc3][..].into(),
    };
    let request = Request {
        header: RequestHeader::default(),
        operation: Operation::KvPut(put),
    };
    assert_eq!(decode_request(&body), Ok(request.clone()));
    let mut buffer = FrameBuffer::new();
    encode_request(&request, 1, &mut buffer).unwrap();
    assert_eq!(parse_frame(&buffer).unwrap().unwrap().body, body);
}

#[test]
fn a_value_is_carried_as_it_came_whatever_its_form() {
    // An integer in a long form, a float of 32 bits, an extension, a map with a key twice, invalid
    // UTF-8: what of this a value may be is not for the envelope to say.
    for value in [
        &[0xd3, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0xca, 0, 0, 0, 0],
        &[0xd4, 5, 9],
        &[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2],
        &[0xa1, 0xff],
    ] {
        let mut body = b"\x82\xa2op\xa6kv.put\xa6params\x82\xa3key\xa1k\xa5value".to_vec();
        body.extend(value);
        let Operation::KvPut(put) = decode_request(&body).unwrap().operation else {
            panic!("not a put")
        };
        assert_eq!(&put.value[..], value);
    }
}

#[test]
fn every_truncation_of_a_message_pack_body_is_malformed() {
    for (name, frame) in frames() {
        let whole = parse_frame(&frame).unwrap().unwrap();
        for len in 0..whole.body.len() {
            let refused = read(whole.header.kind, &whole.body[..len]);
            assert!(
                matches!(refused, Err(MessageError::Malformed { .. })),
                "{name} cut at {len}: {refused:?}"
            );
        }
        let mut longer = whole.body.to_vec();
        longer.push(0);
        let refused = read(whole.header.kind, &longer);
        assert_eq!(
            refused,
            Err(MessageError::Malformed {
                offset: whole.body.len()
            })
        );
    }
}

#[test]
fn every_damaged_byte_of_a_message_pack_body_is_refused_or_read_without_panic() {
    let (mut malformed_count, mut refused_count, mut valid_count) = (0, 0, 0);
    for (name, frame) in frames() {
        let whole = parse_frame(&frame).unwrap().unwrap();
        let mut damaged = whole.body.to_vec();
        for index in 0..damaged.len() {
            let original = damaged[index];
            let flips = (0..8).map(|bit| original ^ (1 << bit));
            for byte in [0x00, 0xff].into_iter().chain(flips) {
                damaged[index] = byte;
                match read(whole.header.kind, &damaged) {
                    Err(MessageError::Malformed { offset }) => {
                        assert!(offset <= damaged.len(), "{name}");
                        malformed_count += 1;
                    }
                    Err(MessageError::Refused(refusal)) => {
                        let is_named = matches!(refusal, Refusal::UnknownKey { .. })
                            || refusal.key() != Some("");
                        assert!(is_named, "{name}: {refusal}");
                        refused_count += 1;
                    }
                    Ok(()) => valid_count += 1,
                }
            }
            damaged[index] = original;
        }
    }
    println!("{malformed_count} malformed, {refused_count} refused, {valid_count} still valid");
    assert!(1_000 < malformed_count);
    assert!(1_000 < refused_count);
    assert!(1_000 < valid_count);
}

#[test]
fn random_bytes_are_never_read_beyond_and_never_panic_as_message_pack() {
    runner(20_000)
        .run(&proptest::collection::vec(any::<u8>(), 0..256), |bytes| {
            let _ = decode_request(&bytes);
            let _ = decode_response(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_refusal_names_the_key_at_fault() {
    let refusal = |body: &[u8]| match decode_request(body) {
        Err(MessageError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let get = |params: &[u8]| [b"\x82\xa2op\xa6kv.get\xa6params", params].concat();
    let missing = |key| Refusal::MissingKey { key };
    assert_eq!(refusal(b"\x80"), missing("op"));
    assert_eq!(refusal(b"\x81\xa2op\xa6kv.get"), missing("key"));
    assert_eq!(refusal(&get(b"\x80")), missing("key"));
    let name = "kv.got".to_owned();
    assert_eq!(
        refusal(b"\x81\xa2op\xa6kv.got"),
        Refusal::UnknownOperation { name }
    );
    let key = "kex".to_owned();
    assert_eq!(
        refusal(&get(b"\x82\xa3key\xa1k\xa3kex\xc0")),
        Refusal::UnknownKey { key: key.clone() }
    );
    assert_eq!(
        refusal(b"\x82\xa2op\xabsystem.ping\xa6params\x81\xa3kex\xc0"),
        Refusal::UnknownKey { key: key.clone() }
    );
    assert_eq!(
        refusal(b"\x82\xa2op\xabsystem.ping\xa3kex\xc0"),
        Refusal::UnknownKey { key }
    );
    assert_eq!(
        refusal(&get(b"\x82\xa3key\xa1k\xa3key\xa1k")),
        Refusal::DuplicateKey { key: "key" }
    );
    assert_eq!(
        refusal(b"\x82\xa2op\xabsystem.ping\xa2op\xabsystem.ping"),
        Refusal::DuplicateKey { key: "op" }
    );
    let expected = "str or bin";
    for wrong in [&b"\xc0"[..], b"\x01", b"\x90", b"\x80", b"\xc2"] {
        let params = [b"\x81\xa3key", wrong].concat();
        let key = "key";
        assert_eq!(refusal(&get(&params)), Refusal::WrongType { key, expected });
    }
    let wrong = |key, expected| Refusal::WrongType { key, expected };
    assert_eq!(refusal(&get(b"\x01")), wrong("params", "map"));
    assert_eq!(refusal(b"\xc0"), wrong("body", "map"));
    assert_eq!(refusal(b"\x81\x01\x02"), Refusal::KeyNotText);
    assert_eq!(refusal(b"\x81\xa1\xff\x02"), Refusal::KeyNotText);
    assert_eq!(
        refusal(b"\x82\xa2op\xabsystem.ping\xa3run\xc4\x01a"),
        wrong("run", "bin of 16 bytes")
    );
    assert_eq!(
        refusal(b"\x82\xa2op\xabsystem.ping\xabdeadline_us\xcf\0\0\0\x01\0\0\0\0"),
        wrong("deadline_us", "an integer that fits u32")
    );
    let (key, name) = ("durability", "eager".to_owned());
    assert_eq!(
        refusal(b"\x82\xa2op\xabsystem.ping\xaadurability\xa5eager"),
        Refusal::UnknownName { key, name }
    );
}

#[test]
fn an_operation_of_a_batch_says_what_it_does_with_one_key() {
    let batch = |operation: &[u8]| {
        let head = &b"\x82\xa2op\xa5batch\xa6params\x81\xaaoperations\x91"[..];
        decode_request(&[head, operation].concat()).map(drop)
    };
    assert!(batch(b"\x81\xa6delete\x81\xa3key\xa1k").is_ok());
    let refused = |body: &[u8]| match batch(body) {
        Err(MessageError::Refused(refusal)) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(b"\x80"),
        "\"operations\" has to be a list of maps with one key each"
    );
    assert_eq!(refused(b"\x81\xa4drop\x80"), "key \"drop\" is unknown");
    assert_eq!(refused(b"\x81\xa6delete\x80"), "key \"key\" is missing");
}

#[test]
fn what_is_no_message_pack_is_malformed_even_behind_a_refusal() {
    let malformed = |body: &[u8], offset| {
        assert_eq!(
            decode_request(body),
            Err(MessageError::Malformed { offset })
        );
    };
    malformed(b"", 0);
    malformed(b"\xc1", 0);
    malformed(b"\x82\xa3kex\xc0\xa2op", 9);
    malformed(b"\x81\xa3kex\xc1", 5);
    malformed(b"\x81\xa3kex\xc0\xc0", 6);
}

#[test]
fn claims_larger_than_the_body_are_refused_before_memory_is_taken() {
    let with = |params: &[u8]| {
        let head = &b"\x82\xa2op\xabkv.get_many\xa6params\x81\xa4keys"[..];
        decode_request(&[head, params].concat()).map(drop)
    };
    for claim in [
        // Arrays, maps, strings, bytes and extensions of 4 GiB.
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ] {
        let refused = with(claim);
        assert!(
            matches!(refused, Err(MessageError::Malformed { .. })),
            "{refused:?}"
        );
    }
    let long = |count: u32| {
        let keys = vec![0xa0; count as usize];
        with(&[&[0xdd][..], &count.to_be_bytes(), &keys].concat())
    };
    assert_eq!(long(LIST_COUNT_MAX), Ok(()));
    let (key, count, max) = ("keys", LIST_COUNT_MAX + 1, LIST_COUNT_MAX);
    assert_eq!(
        long(LIST_COUNT_MAX + 1),
        Err(Refusal::TooMany { key, count, max }.into())
    );
}

#[test]
fn nesting_of_any_depth_is_passed_over_without_recursion() {
    let depth = 8 << 20;
    let mut body = b"\x82\xa2op\xa6kv.put\xa6params\x82\xa3key\xa1k\xa5value".to_vec();
    body.resize(body.len() + depth, 0x91);
    assert!(matches!(
        decode_request(&body),
        Err(MessageError::Malformed { .. })
    ));
    body.push(0xc0);
    let Operation::KvPut(put) = decode_request(&body).unwrap().operation else {
        panic!("not a put")
    };
    assert_eq!(put.value.len(), depth + 1);
    // The same where no value belongs.
    let mut unknown = b"\x81\xa3kex".to_vec();
    unknown.resize(unknown.len() + depth, 0x91);
    unknown.push(0xc0);
    let key = "kex".to_owned();
    assert_eq!(
        decode_request(&unknown),
        Err(Refusal::UnknownKey { key }.into())
    );
}

#[test]
fn a_message_pack_message_above_the_frame_limit_leaves_the_buffer_as_it_was() {
    let mut buffer = FrameBuffer::new();
    encode_response(&Response::Done, 1, &mut buffer).unwrap();
    let before = buffer.to_vec();
    let key = vec![b'k'; BODY_LEN_BYTES_MAX as usize - 36];
    let get = |keys| Request {
        header: RequestHeader::default(),
        operation: Operation::KvGetMany(Keys { keys }),
    };
    encode_request(&get(vec![key.as_slice().into()]), 2, &mut buffer).unwrap();
    assert_eq!(buffer.len() - before.len(), FRAME_LEN_BYTES_MAX as usize);
    buffer.resize(before.len(), 0);
    let too_large = get(vec![key.as_slice().into(), "k".into()]);
    for encoding in Encoding::ALL {
        assert!(encoding.encode_request(&too_large, 2, &mut buffer).is_err());
        assert_eq!(buffer.to_vec(), before);
    }
}

#[test]
fn every_operation_has_a_message_pack_form_of_its_name() {
    for operation in operations(&fixed()) {
        let name = operation.kind().name();
        let mut buffer = FrameBuffer::new();
        let request = Request {
            header: RequestHeader::default(),
            operation,
        };
        encode_request(&request, 1, &mut buffer).unwrap();
        let body = parse_frame(&buffer).unwrap().unwrap().body.to_vec();
        let len = u8::try_from(name.len()).unwrap();
        let head = [&b"\xa2op"[..], &[0xa0 | len], name.as_bytes()].concat();
        assert_eq!(body[1..=head.len()], head, "{name}");
    }
}
