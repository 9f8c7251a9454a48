//! What tells a repeated request from another.

use crate::codec::{FrameBuffer, access_request, encode_request};
use crate::frame::parse_frame;
use crate::once::{fingerprint, stamp_sequence, xxh64};
use crate::request::{DurabilityChoice, Operation, Request, RequestHeader, RunChoice, kv};

fn framed(header: RequestHeader, operation: Operation<'_>) -> FrameBuffer {
    let mut frame = FrameBuffer::new();
    encode_request(&Request { header, operation }, 9, &mut frame).unwrap();
    frame
}

fn fingerprint_of(header: RequestHeader, operation: Operation<'_>) -> u64 {
    let frame = framed(header, operation);
    let whole = parse_frame(&frame).unwrap().unwrap();
    fingerprint(whole.body, header.txn_id)
}

fn put<'a>(key: &'a str, value: &'a [u8]) -> Operation<'a> {
    Operation::KvPut(kv::KeyValue {
        key: key.into(),
        value: value.into(),
    })
}

#[test]
fn the_hash_is_the_published_one() {
    let text = "Nobody inspects the spammish repetition";
    for (bytes, seed, expected) in [
        ("", 0, 0xEF46_DB37_51D8_E999),
        ("a", 0, 0xD24E_C4F1_A98C_6E5B),
        ("abc", 0, 0x44BC_2CF5_AD77_0999),
        (text, 0, 0xFBCE_A83C_8A37_8BF1),
    ] {
        assert_eq!(xxh64(bytes.as_bytes(), seed), expected, "{bytes:?}");
    }
    assert_ne!(xxh64(b"abc", 1), xxh64(b"abc", 0));
}

#[test]
fn a_fingerprint_covers_operation_parameters_and_transaction_and_nothing_else() {
    let first = fingerprint_of(RequestHeader::default(), put("key", b"value"));
    let repeated = RequestHeader {
        client_sequence: 7,
        client_sequence_lag: 3,
        deadline_us: 5,
        durability: DurabilityChoice::Strict,
        run: RunChoice::Id([1; 16]),
        ..RequestHeader::default()
    };
    assert_eq!(fingerprint_of(repeated, put("key", b"value")), first);
    let in_another_transaction = RequestHeader {
        txn_id: 1,
        ..RequestHeader::default()
    };
    let absent = Operation::KvPutIfAbsent(kv::KeyValue {
        key: "key".into(),
        value: b"value"[..].into(),
    });
    let many = |delta| {
        Operation::KvIncr(kv::Increment {
            key: "key".into(),
            delta,
        })
    };
    let others = [
        fingerprint_of(RequestHeader::default(), put("kez", b"value")),
        fingerprint_of(RequestHeader::default(), put("key", b"walue")),
        fingerprint_of(RequestHeader::default(), put("keyv", b"alue")),
        fingerprint_of(RequestHeader::default(), put(&"k".repeat(99), b"value")),
        fingerprint_of(RequestHeader::default(), put(&"k".repeat(98), b"value")),
        fingerprint_of(RequestHeader::default(), absent),
        fingerprint_of(RequestHeader::default(), many(1)),
        fingerprint_of(RequestHeader::default(), many(2)),
        fingerprint_of(in_another_transaction, put("key", b"value")),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, first, "{index}");
        assert!(!others[..index].contains(other), "{index}");
    }
}

/// Records hold it: it may never change. The bytes of requests are pinned in `golden.rs`.
#[test]
fn a_fingerprint_is_pinned() {
    let found = fingerprint_of(RequestHeader::default(), put("greeting", b"\xa5hello"));
    assert_eq!(found, PINNED, "{found:#x}");
}

const PINNED: u64 = 0x743e_c251_8974_bc40;

#[test]
fn a_sequence_is_stamped_into_an_encoded_request() {
    for value in [&b"v"[..], &[7; 300]] {
        let mut stamped = framed(RequestHeader::default(), put("key", value));
        stamp_sequence(&mut stamped, 0x0102_0304_0506_0708, 63);
        let header = RequestHeader {
            client_sequence: 0x0102_0304_0506_0708,
            client_sequence_lag: 63,
            ..RequestHeader::default()
        };
        assert_eq!(&stamped[..], &framed(header, put("key", value))[..]);
        let body = parse_frame(&stamped).unwrap().unwrap().body;
        assert_eq!(access_request(body).unwrap().header.to_native(), header);
    }
    let mut none = [0; 40];
    stamp_sequence(&mut none, 1, 1);
    assert_eq!(none, [0; 40]);
}
