//! What was encoded is read back equal, for random messages of every kind.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::samples::{Material, requests, responses};
use crate::codec::{FrameBuffer, access_request, access_response, encode_request, encode_response};
use crate::frame::{FrameKind, parse_frame};
use crate::request::{ArchivedOperation, Operation, Request};
use crate::response::{ArchivedResponse, Response};

pub(super) fn material() -> impl Strategy<Value = Material> {
    (
        vec(vec(any::<u8>(), 0..200), 1..5),
        vec("\\PC{0,40}", 1..5),
        any::<[u64; 4]>(),
        any::<[u8; 16]>(),
        any::<u8>(),
    )
        .prop_map(|(bytes, texts, numbers, id, choice)| Material {
            bytes,
            texts,
            numbers,
            id,
            choice,
        })
}

/// A runner whose seed is printed; `IN_MEM_SEED` repeats a run.
pub(super) fn runner(cases: u32) -> TestRunner {
    let seed = std::env::var("IN_MEM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("IN_MEM_SEED={seed}");
    TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn every_request_is_read_back_as_it_was_written() {
    runner(64)
        .run(&material(), |material| {
            let mut buffer = FrameBuffer::new();
            let requests = requests(&material);
            for (id, request) in requests.iter().enumerate() {
                encode_request(request, id as u64, &mut buffer).unwrap();
            }
            let mut rest = &buffer[..];
            for (id, request) in requests.iter().enumerate() {
                let frame = parse_frame(rest).unwrap().unwrap();
                prop_assert_eq!(frame.header.kind, FrameKind::Request);
                prop_assert_eq!(frame.header.request_id, id as u64);
                let archived = access_request(frame.body).unwrap();
                prop_assert_eq!(archived.operation.kind(), request.operation.kind());
                prop_assert_eq!(archived.header.to_native(), request.header);
                if let (ArchivedOperation::KvCasVersion(archived), Operation::KvCasVersion(cas)) =
                    (&archived.operation, &request.operation)
                {
                    prop_assert_eq!(archived.expected.to_native(), cas.expected);
                }
                prop_assert_eq!(&Request::from_archived(archived).unwrap(), request);
                rest = &rest[frame.header.frame_len_bytes() as usize..];
            }
            prop_assert!(rest.is_empty());
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_response_is_read_back_as_it_was_written() {
    runner(64)
        .run(&material(), |material| {
            for (name, response) in responses(&material) {
                let mut buffer = FrameBuffer::new();
                encode_response(&response, 9, &mut buffer).unwrap();
                let frame = parse_frame(&buffer).unwrap().unwrap();
                prop_assert_eq!(frame.header.kind, FrameKind::Response);
                let archived = access_response(frame.body).unwrap();
                if let (ArchivedResponse::Written(archived), Response::Written(receipt)) =
                    (archived, &response)
                {
                    prop_assert_eq!(archived.to_native(), *receipt);
                }
                if let (ArchivedResponse::Version(archived), Response::Version(version)) =
                    (archived, &response)
                {
                    prop_assert_eq!(archived.to_native(), *version);
                }
                prop_assert_eq!(
                    Response::from_archived(archived).unwrap(),
                    response,
                    "{}",
                    name
                );
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_bytes_are_never_read_beyond_and_never_panic() {
    runner(20_000)
        .run(&vec(any::<u8>(), 0..256), |bytes| {
            let mut aligned = FrameBuffer::new();
            aligned.extend_from_slice(&bytes);
            if let Ok(archived) = access_request(&aligned) {
                let _ = Request::from_archived(archived);
            }
            if let Ok(archived) = access_response(&aligned) {
                let _ = Response::from_archived(archived);
            }
            let _ = parse_frame(&aligned);
            let _ = crate::hello::Hello::decode(&aligned);
            let _ = crate::hello::HelloReply::decode(&aligned);
            let _ = crate::close::Close::decode(&aligned);
            Ok(())
        })
        .unwrap();
}
