//! A damaged message gives a typed error or another valid message, never a panic.

use super::golden::frames;
use crate::close::Close;
use crate::codec::{FrameBuffer, WireError, access_request, access_response};
use crate::frame::{Frame, FrameKind, HEADER_LEN_BYTES, parse_frame};
use crate::hello::{Hello, HelloReply};
use crate::request::Request;
use crate::response::Response;

/// Reads a frame to the end, as a peer would; whether it was valid.
fn read(frame: &Frame<'_>) -> bool {
    match frame.header.kind {
        FrameKind::Hello => Hello::decode(frame.body).is_ok(),
        FrameKind::HelloReply => HelloReply::decode(frame.body).is_ok(),
        FrameKind::Close => Close::decode(frame.body).is_ok(),
        FrameKind::Request => access_request(frame.body)
            .is_ok_and(|archived| Request::from_archived(archived).is_ok()),
        FrameKind::Response | FrameKind::Push => access_response(frame.body)
            .is_ok_and(|archived| Response::from_archived(archived).is_ok()),
    }
}

#[test]
fn every_truncation_of_a_frame_waits_for_the_rest() {
    for (name, frame) in frames() {
        for len in 0..frame.len() {
            assert_eq!(parse_frame(&frame[..len]), Ok(None), "{name} cut at {len}");
        }
        assert!(read(&parse_frame(&frame).unwrap().unwrap()), "{name}");
    }
}

#[test]
fn every_truncation_of_a_body_is_refused_or_read_without_panic() {
    let mut refused_count = 0;
    for (_, frame) in frames() {
        let whole = parse_frame(&frame).unwrap().unwrap();
        for len in 0..whole.body.len() {
            let cut = Frame {
                header: whole.header,
                body: &whole.body[..len],
            };
            refused_count += usize::from(!read(&cut));
        }
    }
    assert!(
        refused_count > 1_000,
        "only {refused_count} truncations were refused"
    );
}

#[test]
fn every_byte_set_to_zero_to_ff_and_with_each_bit_flipped_is_refused_or_read_without_panic() {
    let mut refused_count = 0;
    let mut valid_count = 0;
    for (_, frame) in frames() {
        let mut damaged = FrameBuffer::new();
        damaged.extend_from_slice(&frame);
        for index in 0..frame.len() {
            let original = frame[index];
            let flips = (0..8).map(|bit| original ^ (1 << bit));
            for byte in [0x00, 0xff].into_iter().chain(flips) {
                damaged[index] = byte;
                match parse_frame(&damaged) {
                    Err(_) => refused_count += 1,
                    Ok(None) => {}
                    Ok(Some(frame)) if read(&frame) => valid_count += 1,
                    Ok(Some(_)) => refused_count += 1,
                }
            }
            damaged[index] = original;
        }
    }
    println!("{refused_count} refused, {valid_count} still valid");
    assert!(refused_count > 10_000);
    assert!(valid_count > 10_000);
}

#[test]
fn an_empty_body_is_malformed() {
    let empty = FrameBuffer::new();
    assert_eq!(access_request(&empty).err(), Some(WireError::Malformed));
    assert_eq!(access_response(&empty).err(), Some(WireError::Malformed));
}

#[test]
fn a_misaligned_body_gives_a_typed_error_and_reads_after_one_copy() {
    let (_, frame) = frames()
        .into_iter()
        .find(|(name, _)| name == "request:kv.put")
        .unwrap();
    let body = &frame[HEADER_LEN_BYTES..frame.len() - 8];
    for shift in 1..16 {
        let mut shifted = FrameBuffer::new();
        shifted.extend_from_slice(&vec![0; shift]);
        shifted.extend_from_slice(body);
        assert_eq!(
            access_request(&shifted[shift..]).err(),
            Some(WireError::Misaligned)
        );
        let mut copied = FrameBuffer::new();
        copied.extend_from_slice(&shifted[shift..]);
        assert!(access_request(&copied).is_ok());
    }
}

#[test]
fn an_archive_whose_lists_share_bytes_is_refused_so_a_small_frame_cannot_grow_when_copied() {
    let key = [b'k'; 64];
    let keys = crate::request::kv::Keys {
        keys: vec![key[..].into(); 2],
    };
    let request = Request {
        header: crate::request::RequestHeader::default(),
        operation: crate::request::Operation::KvGetMany(keys),
    };
    let mut buffer = FrameBuffer::new();
    crate::codec::encode_request(&request, 1, &mut buffer).unwrap();
    let entries = HEADER_LEN_BYTES + 2 * key.len();
    let pointer = |index: usize| entries + 8 * index..entries + 8 * index + 4;
    let read_pointer = |buffer: &FrameBuffer, index| {
        i32::from_le_bytes(buffer[pointer(index)].try_into().unwrap())
    };
    assert_eq!(read_pointer(&buffer, 0), -128);
    assert_eq!(read_pointer(&buffer, 1), -72);
    buffer[pointer(1)].copy_from_slice(&(-136_i32).to_le_bytes());
    let frame = parse_frame(&buffer).unwrap().unwrap();
    assert_eq!(access_request(frame.body).err(), Some(WireError::Malformed));
}
