//! Greetings: round trips, skipped unknown fields, refused forms, the choice of a version.

use crate::close::{Close, CloseReason};
use crate::codec::FrameBuffer;
use crate::encoding::Encoding;
use crate::fields::{FieldError, write_field};
use crate::frame::{PROTOCOL_VERSION, parse_frame};
use crate::hello::{
    ENCODING_MESSAGE_PACK, ENCODING_RKYV, Hello, HelloReply, HelloRun, Limit, choose_encoding,
    choose_version,
};
use crate::operation::OPERATIONS;
use crate::request::DurabilityChoice;

pub(super) fn hello() -> Hello {
    Hello {
        encodings: vec![ENCODING_MESSAGE_PACK, ENCODING_RKYV],
        features: vec!["push".to_owned(), "shm".to_owned()],
        run: HelloRun::Name("planner".to_owned()),
        durability: DurabilityChoice::Buffered,
        client_id: Some([0x5a; 16]),
        registered_at: Some(99),
        client_name: "test".to_owned(),
        client_version: "0.1.0".to_owned(),
        ..Hello::default()
    }
}

pub(super) fn hello_reply() -> HelloReply {
    HelloReply {
        protocol_version: PROTOCOL_VERSION,
        encoding: ENCODING_RKYV,
        server_version: "0.1.0".to_owned(),
        features: vec!["push".to_owned()],
        run_id: [3; 16],
        durability: DurabilityChoice::Strict,
        durability_modes: vec![
            DurabilityChoice::InMemory,
            DurabilityChoice::Buffered,
            DurabilityChoice::Strict,
        ],
        operations: OPERATIONS
            .iter()
            .map(|operation| operation.name.to_owned())
            .collect(),
        limits: vec![Limit {
            name: "key_len_bytes_max".to_owned(),
            value: 1024,
        }],
        registered_at: Some(99),
    }
}

pub(super) fn close() -> Close {
    Close::new(
        CloseReason::ProtocolMismatch,
        "this server speaks protocol 1",
    )
}

fn body_of(encode: impl Fn(&mut FrameBuffer) -> Result<(), FieldError>) -> Vec<u8> {
    let mut buffer = FrameBuffer::new();
    encode(&mut buffer).unwrap();
    parse_frame(&buffer).unwrap().unwrap().body.to_vec()
}

#[test]
fn greetings_are_read_back_as_they_were_written() {
    assert_eq!(
        Hello::decode(&body_of(|buffer| hello().encode(buffer))),
        Ok(hello())
    );
    let bare = Hello::default();
    assert_eq!(
        Hello::decode(&body_of(|buffer| bare.encode(buffer))),
        Ok(bare)
    );
    let by_id = Hello {
        run: HelloRun::Id([9; 16]),
        ..Hello::default()
    };
    assert_eq!(
        Hello::decode(&body_of(|buffer| by_id.encode(buffer))),
        Ok(by_id)
    );
    let reply = hello_reply();
    assert_eq!(
        HelloReply::decode(&body_of(|buffer| reply.encode(buffer))),
        Ok(reply)
    );
    for reason in [
        CloseReason::Goodbye,
        CloseReason::Draining,
        CloseReason::ProtocolMismatch,
        CloseReason::Malformed,
        CloseReason::PermissionDenied,
        CloseReason::LimitExceeded,
        CloseReason::Refused,
        CloseReason::Other(200),
    ] {
        let close = Close::new(reason, "why");
        assert_eq!(
            Close::decode(&body_of(|buffer| close.encode(buffer))),
            Ok(close)
        );
    }
}

#[test]
fn fields_of_later_versions_are_skipped() {
    let mut body = body_of(|buffer| hello().encode(buffer));
    write_field(&mut body, 60_000, b"something new").unwrap();
    assert_eq!(Hello::decode(&body), Ok(hello()));
    let mut body = body_of(|buffer| hello_reply().encode(buffer));
    write_field(&mut body, 60_000, b"something new").unwrap();
    assert_eq!(HelloReply::decode(&body), Ok(hello_reply()));
    let mut body = body_of(|buffer| close().encode(buffer));
    write_field(&mut body, 60_000, b"something new").unwrap();
    assert_eq!(Close::decode(&body), Ok(close()));
}

#[test]
fn fields_of_the_wrong_form_are_refused_by_name() {
    let decode = |id: u16, bytes: &[u8]| {
        let mut body = body_of(|buffer| hello().encode(buffer));
        write_field(&mut body, id, bytes).unwrap();
        Hello::decode(&body)
    };
    for (id, bytes) in [
        (1, &b"x"[..]),
        (3, b"xx"),
        (4, b"\xff"),
        (5, b"short"),
        (6, b"\xff"),
        (7, b"\x03"),
        (8, b"short"),
        (9, b"short"),
    ] {
        assert_eq!(decode(id, bytes), Err(FieldError::Content { id }));
    }
    assert_eq!(Hello::decode(&[]), Err(FieldError::Missing { id: 1 }));
    assert_eq!(HelloReply::decode(&[]), Err(FieldError::Missing { id: 1 }));
    assert_eq!(Close::decode(&[]), Err(FieldError::Missing { id: 1 }));
    assert_eq!(
        Close::decode(&[1, 0, 200]),
        Err(FieldError::Truncated { offset: 0 })
    );
    assert_eq!(
        Close::decode(&[1, 0, 2, 0, 0]),
        Err(FieldError::Truncated { offset: 0 })
    );
}

#[test]
fn a_greeting_that_is_too_long_is_refused_and_leaves_the_buffer_as_it_was() {
    let mut buffer = FrameBuffer::new();
    let long = Hello {
        client_name: "x".repeat(70_000),
        ..Hello::default()
    };
    let refused = FieldError::TooLong {
        id: 10,
        len_bytes: 70_000,
    };
    assert_eq!(long.encode(&mut buffer), Err(refused));
    let long = Hello {
        client_name: "x".repeat(16_384),
        ..Hello::default()
    };
    assert!(matches!(
        long.encode(&mut buffer),
        Err(FieldError::BodyTooLong { .. })
    ));
    assert!(buffer.is_empty());
}

#[test]
fn the_newest_common_version_is_chosen() {
    let with = |version_min, version_max| {
        choose_version(&Hello {
            version_min,
            version_max,
            ..Hello::default()
        })
    };
    assert_eq!(with(1, 1), Some(1));
    assert_eq!(with(0, 9), Some(1));
    assert_eq!(with(2, 9), None);
    assert_eq!(with(0, 0), None);
    assert_eq!(with(9, 1), None);
}

#[test]
fn the_first_encoding_this_build_has_is_chosen() {
    assert_eq!(choose_encoding(&hello()), Some(Encoding::MessagePack));
    assert_eq!(choose_encoding(&Hello::default()), Some(Encoding::Rkyv));
    let skipped = Hello {
        encodings: vec![200, ENCODING_RKYV, ENCODING_MESSAGE_PACK],
        ..Hello::default()
    };
    assert_eq!(choose_encoding(&skipped), Some(Encoding::Rkyv));
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::from_wire(encoding.to_wire()), Some(encoding));
    }
    let none = Hello {
        encodings: vec![2, 200],
        ..Hello::default()
    };
    assert_eq!(choose_encoding(&none), None);
}
