//! The frame header: what it accepts, what it refuses, and that it refuses before allocating.

use super::samples::{Material, requests};
use crate::bytes::Bytes;
use crate::codec::{EncodeError, FrameBuffer, access_request, encode_request, encode_response};
use crate::frame::{
    BODY_LEN_BYTES_MAX, FRAME_LEN_BYTES_MAX, FrameError, FrameKind, GREETING_LEN_BYTES_MAX,
    HEADER_LEN_BYTES, Header, PROTOCOL_VERSION, parse_frame, parse_header,
};
use crate::request::kv::{CasVersion, ExpectedVersion};
use crate::request::txn::{Batch, BatchOperation};
use crate::request::{Operation, Request, RequestHeader};
use crate::response::Response;

fn header_bytes(kind: FrameKind) -> [u8; HEADER_LEN_BYTES] {
    Header::new(kind, 0).encode()
}

#[test]
fn a_header_is_read_back_as_it_was_written() {
    for kind in [FrameKind::Request, FrameKind::Response] {
        let header = Header {
            request_id: u64::MAX - 1,
            ..Header::new(kind, 1_000)
        };
        assert_eq!(parse_header(&header.encode()), Ok(Some(header)));
        assert_eq!(header.frame_len_bytes(), 32 + 1_000 + 8);
    }
    let push = Header {
        subscription_id: 77,
        ..Header::new(FrameKind::Push, 16)
    };
    assert_eq!(parse_header(&push.encode()), Ok(Some(push)));
    assert_eq!(push.frame_len_bytes(), 48);
    for kind in [FrameKind::Hello, FrameKind::HelloReply, FrameKind::Close] {
        assert_eq!(
            parse_header(&header_bytes(kind)),
            Ok(Some(Header::new(kind, 0)))
        );
    }
}

#[test]
fn a_header_is_laid_out_as_its_comment_draws_it() {
    let header = Header {
        protocol_version: 1,
        kind: FrameKind::Request,
        body_len_bytes: 0x0000_0203,
        request_id: 0x1112_1314_1516_1718,
        subscription_id: 0,
    };
    let mut expected = b"IMFR".to_vec();
    expected.extend([1, 0, 3, 0, 3, 2, 0, 0, 0, 0, 0, 0]);
    expected.extend([0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
    expected.extend([0; 8]);
    assert_eq!(header.encode().to_vec(), expected);
}

#[test]
fn a_length_above_the_limit_is_refused_from_the_header_alone() {
    for len in [
        BODY_LEN_BYTES_MAX + 1,
        FRAME_LEN_BYTES_MAX + 1,
        1 << 31,
        u32::MAX,
    ] {
        let mut bytes = header_bytes(FrameKind::Request);
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        let refused = FrameError::TooLarge {
            body_len_bytes: len,
            max: BODY_LEN_BYTES_MAX,
        };
        assert_eq!(parse_header(&bytes), Err(refused));
        assert_eq!(parse_frame(&bytes), Err(refused));
    }
    let mut bytes = header_bytes(FrameKind::Request);
    bytes[8..12].copy_from_slice(&BODY_LEN_BYTES_MAX.to_le_bytes());
    let largest = parse_header(&bytes).unwrap().unwrap();
    assert_eq!(largest.frame_len_bytes(), FRAME_LEN_BYTES_MAX);
    assert_eq!(parse_frame(&bytes), Ok(None));
}

#[test]
fn a_greeting_is_bounded_more_tightly_than_a_request() {
    for kind in [FrameKind::Hello, FrameKind::HelloReply, FrameKind::Close] {
        let mut bytes = header_bytes(kind);
        bytes[8..12].copy_from_slice(&(GREETING_LEN_BYTES_MAX + 1).to_le_bytes());
        let max = GREETING_LEN_BYTES_MAX;
        let refused = FrameError::TooLarge {
            body_len_bytes: max + 1,
            max,
        };
        assert_eq!(parse_header(&bytes), Err(refused));
    }
}

#[test]
fn another_protocol_version_is_readable_in_greetings_only() {
    for (kind, is_readable) in [
        (FrameKind::Hello, true),
        (FrameKind::HelloReply, true),
        (FrameKind::Close, true),
        (FrameKind::Request, false),
        (FrameKind::Response, false),
        (FrameKind::Push, false),
    ] {
        let found = PROTOCOL_VERSION + 1;
        let header = Header {
            protocol_version: found,
            ..Header::new(kind, 0)
        };
        let parsed = parse_header(&header.encode());
        if is_readable {
            assert_eq!(parsed, Ok(Some(header)));
        } else {
            assert_eq!(parsed, Err(FrameError::Version { found }));
        }
    }
}

#[test]
fn unknown_kinds_magics_and_reserved_bytes_are_refused() {
    let good = header_bytes(FrameKind::Request);
    let with = |index: usize, byte: u8| {
        let mut bytes = good;
        bytes[index] = byte;
        parse_header(&bytes)
    };
    assert_eq!(with(0, b'X'), Err(FrameError::Magic { found: *b"XMFR" }));
    assert_eq!(with(6, 0), Err(FrameError::Kind { found: 0 }));
    assert_eq!(with(6, 7), Err(FrameError::Kind { found: 7 }));
    assert_eq!(with(7, 1), Err(FrameError::Reserved { offset: 7 }));
    assert_eq!(with(12, 1), Err(FrameError::Reserved { offset: 12 }));
    assert_eq!(with(24, 1), Err(FrameError::Reserved { offset: 24 }));
    let mut hello = header_bytes(FrameKind::Hello);
    hello[16] = 1;
    assert_eq!(
        parse_header(&hello),
        Err(FrameError::Reserved { offset: 16 })
    );
}

#[test]
fn padding_has_to_be_zero() {
    let mut buffer = FrameBuffer::new();
    encode_response(
        &Response::Value(Bytes::from(&[1_u8; 3][..])),
        1,
        &mut buffer,
    )
    .unwrap();
    let header = parse_header(&buffer).unwrap().unwrap();
    assert_eq!(header.padding_len_bytes(), 8);
    let last = buffer.len() - 1;
    buffer[last] = 1;
    let refused = FrameError::Reserved {
        offset: buffer.len() - 8,
    };
    assert_eq!(parse_frame(&buffer), Err(refused));
}

#[test]
fn every_frame_and_body_of_a_buffer_begins_at_a_multiple_of_16() {
    let mut buffer = FrameBuffer::new();
    for request in requests(&Material::fixed()) {
        encode_request(&request, 1, &mut buffer).unwrap();
        assert!(buffer.len().is_multiple_of(16));
    }
    let mut rest = &buffer[..];
    while let Some(frame) = parse_frame(rest).unwrap() {
        assert!(frame.body.as_ptr().addr().is_multiple_of(16));
        rest = &rest[frame.header.frame_len_bytes() as usize..];
    }
    assert!(rest.is_empty());
}

#[test]
fn a_message_above_the_frame_limit_is_refused_and_leaves_the_buffer_as_it_was() {
    let mut buffer = FrameBuffer::new();
    encode_response(&Response::Done, 1, &mut buffer).unwrap();
    let before = buffer.to_vec();
    let root = 32;
    let value = vec![7_u8; BODY_LEN_BYTES_MAX as usize - root];
    encode_response(&Response::Value(value.as_slice().into()), 2, &mut buffer).unwrap();
    assert_eq!(buffer.len() - before.len(), FRAME_LEN_BYTES_MAX as usize);
    assert!(parse_frame(&buffer[before.len()..]).unwrap().is_some());

    buffer.resize(before.len(), 0);
    let value = vec![7_u8; BODY_LEN_BYTES_MAX as usize - root + 1];
    let refused = encode_response(&Response::Value(value.as_slice().into()), 3, &mut buffer);
    assert_eq!(
        refused,
        Err(EncodeError::TooLarge {
            max: FRAME_LEN_BYTES_MAX
        })
    );
    assert_eq!(buffer.to_vec(), before);
}

#[test]
fn a_batch_of_the_largest_transaction_fits_a_frame() {
    let (mutation_count, writeset_len_bytes) = (100_000, 64 << 20);
    let record_overhead_bytes = 36;
    let payload_len_bytes = writeset_len_bytes / mutation_count - record_overhead_bytes;
    let key = b"sixteen byte key";
    let value = vec![7_u8; payload_len_bytes - key.len()];
    let operation = BatchOperation::CasVersion(CasVersion {
        key: key[..].into(),
        value: value.as_slice().into(),
        expected: ExpectedVersion::Raw(1),
    });
    let batch = Batch {
        operations: vec![operation; mutation_count],
        ..Batch::default()
    };
    let request = Request {
        header: RequestHeader::default(),
        operation: Operation::Batch(batch),
    };
    let mut buffer = FrameBuffer::new();
    encode_request(&request, 1, &mut buffer).unwrap();
    let frame = parse_frame(&buffer).unwrap().unwrap();
    assert!(access_request(frame.body).is_ok());
}
