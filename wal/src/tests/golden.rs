//! Whole formats against bytes that were made by hand (Python's struct and zlib), not by this code.

use crate::format::header::SegmentHeader;
use crate::format::mark::{Mark, MarkKind};
use crate::format::record::RecordHead;
use crate::lsn::Lsn;

const UUID: [u8; 16] = *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_segment_header_has_these_bytes() {
    let header = SegmentHeader {
        segment: 0x01_0203_0405,
        database_uuid: UUID,
    };
    let expected = "494d574c010000000504030201000000a0a1a2a3a4a5a6a7a8a9aaabacadaeaf";
    assert_eq!(hex(&header.encode()), expected);
}

#[test]
fn a_record_has_these_bytes() {
    let head = RecordHead {
        txn_id: 0x0102_0304_0506_0708,
        run_id: *b"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f",
        timestamp_us: 0x1112_1314_1516_1718,
    };
    let mut bytes = Vec::new();
    head.encode_into(b"ws", &mut bytes);
    let expected = "2700000001080706050403020110111213141516171819\
        1a1b1c1d1e1f18171615141312117773cf2bb556";
    assert_eq!(hex(&bytes), expected);
}

#[test]
fn a_mark_has_these_bytes() {
    let mark = Mark {
        kind: MarkKind::Close,
        log_block_len_bytes: 4096,
        batch_len_bytes: 0x0102_0304,
        own_lsn: Lsn::new(3, 0x2000),
        durable_lsn: Lsn::new(2, 0x1fff),
        version_floor: 0x0807_0605_0403_0201,
    };
    let expected = "44000000010000000000000000a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0000000000000000\
        020010040302010020000003000000ff1f000002000000010203040506070816abc0de";
    assert_eq!(hex(&mark.encode(UUID)), expected);
}
