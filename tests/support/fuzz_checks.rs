//! What hostile bytes may do to each decoder: be refused, or be understood, and nothing else.
//!
//! One function for each target; the fuzzer calls it with what it invents, a plain test with what
//! is kept. A function panics where a decoder does, or where one of these does not hold: what was
//! understood is encoded again and understood as the same; what has only one encoding comes back
//! byte for byte; a decoder does not ask for more memory than its bound. Bounds count every byte
//! asked for, also what was given back, for the check as a whole.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected is to fail where it does"
)]

use in_mem_engine::entry_type;
use in_mem_engine::faults::read_writeset;
use in_mem_engine::model::json::{encoded_to_text, from_text, to_text};
use in_mem_engine::model::{Limits, PrimitiveId, RunId, decode, encode, encoded_equal, validate};
use in_mem_ipc::close::Close;
use in_mem_ipc::codec::{access_request, access_response, encode_request, encode_response};
use in_mem_ipc::frame::{FRAME_ALIGN_BYTES, HEADER_LEN_BYTES, parse_frame, parse_header};
use in_mem_ipc::hello::{Hello, HelloReply};
use in_mem_ipc::message_pack::{self, decode_request, decode_response};
use in_mem_ipc::{FrameBuffer, Request, Response};
use in_mem_snapshot::{MANIFEST_LEN_BYTES_MAX, Manifest};
use in_mem_wal::disk::{OpenDisk, SimOptions, SimWorld};
use in_mem_wal::format::header::SegmentHeader;
use in_mem_wal::recover::{RecoveredRecord, ScanError, ScanOptions, scan};
use in_mem_wal::{IdentityCodec, Lsn};

use crate::counting::asked_by;

/// A check of hostile bytes.
pub(crate) type Check = fn(&[u8]);

/// Every target: its name, its check, and the memory it may ask for: bytes, and bytes for each
/// byte of input.
pub(crate) const TARGETS: [(&str, Check, u64, u64); 11] = [
    ("frame", frame, 0, 0),
    // Each of two understandings is encoded, into buffers that grow by doubling.
    ("request", request, 16 << 10, 64),
    ("response", response, 16 << 10, 64),
    ("request_message_pack", request_message_pack, 16 << 10, 256),
    (
        "response_message_pack",
        response_message_pack,
        16 << 10,
        256,
    ),
    ("greeting", greeting, 64 << 10, 256),
    // A byte of an array becomes a value of 32; text doubles while it grows.
    ("value", value, 16 << 10, 1024),
    ("json", json, 16 << 10, 1024),
    ("manifest", manifest, 16 << 10, 16),
    ("writeset", writeset, 8 << 10, 256),
    // The simulated disk and its pages are most of it.
    ("segment", segment, 8 << 20, 64),
];

/// Runs a target by its name, and holds it to its bound.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.0 == name);
    let (_, check, base, each) = target.expect("a target of this name");
    let asked = asked_by(|| check(bytes)).len_bytes;
    let bound = base + each * bytes.len() as u64;
    assert!(
        asked <= bound,
        "{name} asked for {asked} bytes, its bound is {bound}"
    );
}

/// The bytes at an address that frames have.
fn aligned(bytes: &[u8]) -> FrameBuffer {
    let mut buffer = FrameBuffer::with_capacity(bytes.len());
    buffer.extend_from_slice(bytes);
    buffer
}

/// The body of a frame that this build wrote.
fn body(frame: &[u8]) -> FrameBuffer {
    aligned(parse_frame(frame).unwrap().expect("it is whole").body)
}

/// A header says its own length, and a frame is refused or whole.
fn frame(bytes: &[u8]) {
    let Ok(Some(header)) = parse_header(bytes) else {
        assert!(!matches!(parse_frame(bytes), Ok(Some(_))));
        return;
    };
    assert!(header.body_len_bytes <= header.kind.body_len_bytes_max());
    assert!(header.frame_len_bytes().is_multiple_of(FRAME_ALIGN_BYTES));
    assert_eq!(header.encode(), bytes[..HEADER_LEN_BYTES]);
    match parse_frame(bytes) {
        Ok(Some(frame)) => {
            assert_eq!(frame.header, header);
            assert_eq!(frame.body.len(), header.body_len_bytes as usize);
        }
        Ok(None) => assert!(bytes.len() < header.frame_len_bytes() as usize),
        Err(_) => {}
    }
}

/// A request that is understood reads the same after it was written again.
fn request(bytes: &[u8]) {
    let bytes = aligned(bytes);
    let Ok(archived) = access_request(&bytes) else {
        return;
    };
    let Ok(request) = Request::from_archived(archived) else {
        return;
    };
    let mut frame = FrameBuffer::new();
    encode_request(&request, 1, &mut frame).unwrap();
    let again = body(&frame);
    let again = Request::from_archived(access_request(&again).unwrap()).unwrap();
    assert_eq!(again, request);
}

/// The same of responses.
fn response(bytes: &[u8]) {
    let bytes = aligned(bytes);
    let Ok(archived) = access_response(&bytes) else {
        return;
    };
    let Ok(response) = Response::from_archived(archived) else {
        return;
    };
    let mut frame = FrameBuffer::new();
    encode_response(&response, 1, &mut frame).unwrap();
    let again = body(&frame);
    let again = Response::from_archived(access_response(&again).unwrap()).unwrap();
    assert_eq!(again, response);
}

/// A request in the other encoding; written in either, it reads the same.
fn request_message_pack(bytes: &[u8]) {
    let Ok(request) = decode_request(bytes) else {
        return;
    };
    let mut frame = FrameBuffer::new();
    message_pack::encode_request(&request, 1, &mut frame).unwrap();
    assert_eq!(decode_request(&body(&frame)).unwrap(), request);
    frame.clear();
    encode_request(&request, 1, &mut frame).unwrap();
    let archive = body(&frame);
    let again = Request::from_archived(access_request(&archive).unwrap()).unwrap();
    assert_eq!(again, request);
}

/// The same of responses.
fn response_message_pack(bytes: &[u8]) {
    let Ok(response) = decode_response(bytes) else {
        return;
    };
    let mut frame = FrameBuffer::new();
    message_pack::encode_response(&response, 1, &mut frame).unwrap();
    assert_eq!(decode_response(&body(&frame)).unwrap(), response);
    frame.clear();
    encode_response(&response, 1, &mut frame).unwrap();
    let archive = body(&frame);
    let again = Response::from_archived(access_response(&archive).unwrap()).unwrap();
    assert_eq!(again, response);
}

/// The bodies of the frames before and after requests.
fn greeting(bytes: &[u8]) {
    // A hello may be understood and be too long to be sent: unknown fields are not kept.
    let mut frame = FrameBuffer::new();
    if let Ok(hello) = Hello::decode(bytes)
        && hello.encode(&mut frame).is_ok()
    {
        assert_eq!(Hello::decode(&body(&frame)).as_ref(), Ok(&hello));
    }
    let mut frame = FrameBuffer::new();
    if let Ok(reply) = HelloReply::decode(bytes)
        && reply.encode(&mut frame).is_ok()
    {
        assert_eq!(HelloReply::decode(&body(&frame)).as_ref(), Ok(&reply));
    }
    let mut frame = FrameBuffer::new();
    if let Ok(close) = Close::decode(bytes)
        && close.encode(&mut frame).is_ok()
    {
        assert_eq!(Close::decode(&body(&frame)).as_ref(), Ok(&close));
    }
}

/// What is valid is decoded, and has one shortest form, which is stable.
fn value(bytes: &[u8]) {
    if validate(bytes, &Limits::default()).is_err() {
        assert!(decode(bytes).is_err(), "what is not valid is not decoded");
        return;
    }
    let decoded = decode(bytes).unwrap();
    let shortest = encode(&decoded).unwrap();
    assert!(shortest.as_bytes().len() <= bytes.len());
    let again = encode(&decode(shortest.as_bytes()).unwrap()).unwrap();
    assert_eq!(again.as_bytes(), shortest.as_bytes());
    let text = encoded_to_text(bytes).unwrap();
    assert_eq!(text, to_text(&decoded));
    assert_eq!(to_text(&from_text(&text).unwrap()), text);
    // A value that holds a NaN equals nothing.
    if !text.contains("NaN") {
        assert!(encoded_equal(bytes, shortest.as_bytes()));
        assert_eq!(from_text(&text).unwrap(), decoded);
    }
}

/// What is read from text is printed as a text that reads the same.
fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(read) = from_text(text) else {
        return;
    };
    let printed = to_text(&read);
    let again = from_text(&printed).unwrap();
    assert_eq!(to_text(&again), printed);
    if !printed.contains("NaN") {
        assert_eq!(again, read);
    }
    if let Ok(encoded) = encode(&read) {
        assert_eq!(to_text(&decode(encoded.as_bytes()).unwrap()), printed);
    }
}

/// MANIFEST has one form: what is understood is what would be written. The bytes are also tried
/// with the checksum they should have, which chance does not find.
fn manifest(bytes: &[u8]) {
    let mut repaired = bytes[..bytes.len().min(MANIFEST_LEN_BYTES_MAX)].to_vec();
    let covered = repaired.len().saturating_sub(size_of::<u32>());
    let crc = crc32fast::hash(&repaired[..covered]).to_le_bytes();
    let crc_len = repaired.len() - covered;
    repaired[covered..].copy_from_slice(&crc[..crc_len]);
    for bytes in [bytes, &repaired] {
        if let Ok(manifest) = Manifest::decode(bytes) {
            assert_eq!(manifest.encode(), bytes);
        }
    }
}

/// The run and the commit version that the writesets of the corpus belong to.
const WRITESET_RUN: RunId = RunId([7; 16]);
const WRITESET_VERSION: u64 = 300;

/// A writeset of nothing but mutations and the marker has one form, written here by hand.
fn writeset(bytes: &[u8]) {
    let Ok(entries) = read_writeset(bytes, WRITESET_RUN, WRITESET_VERSION) else {
        return;
    };
    let count = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert!(entries.len() < count as usize, "the marker counts too");
    // Attributes, and entries that say nothing, are read and not kept.
    if entries.len() + 1 < count as usize {
        return;
    }
    let mut written = count.to_le_bytes().to_vec();
    for entry in entries {
        let is_run = (entry_type::RUN_CREATE..=entry_type::RUN_BEGIN).contains(&entry.entry_type);
        let primitive = if is_run {
            PrimitiveId::Run
        } else {
            PrimitiveId::Kv
        };
        // The kind is a number that the reader has, in the order the format gives them.
        let kind = entry.kind as u8;
        written.extend_from_slice(&[kind, entry.entry_type, 1, primitive.number()]);
        written.extend_from_slice(entry.run_id.as_bytes());
        if !is_run {
            written.extend_from_slice(&u32::try_from(entry.body.len()).unwrap().to_le_bytes());
            written.extend_from_slice(entry.body);
        }
        written.extend_from_slice(&entry.version.to_le_bytes());
        written.extend_from_slice(&u32::try_from(entry.value.len()).unwrap().to_le_bytes());
        written.extend_from_slice(entry.value);
    }
    written.extend_from_slice(&[0, entry_type::TRANSACTION_COMMIT, 1]);
    written.extend_from_slice(&WRITESET_VERSION.to_le_bytes());
    written.extend_from_slice(&[0; 4]);
    assert_eq!(written, bytes);
}

/// Where batches begin in a segment file, bytes.
const SEGMENT_DATA_OFFSET: usize = 4096;

/// Longest segment made of an input, bytes.
const SEGMENT_LEN_BYTES_MAX: usize = 64 << 10;

/// The database the segments belong to.
const DATABASE: [u8; 16] = [0xDB; 16];

/// A log of one or two segments is read to its end, or refused; reading it twice gives the same.
/// Of the first byte, bit 0 repairs checksums and places, bit 1 makes two segments, bit 2 reads
/// damaged logs as far as they go.
fn segment(bytes: &[u8]) {
    let Some((control, content)) = bytes.split_first() else {
        return;
    };
    let content = &content[..content.len().min(SEGMENT_LEN_BYTES_MAX)];
    let cut = if control & 2 == 0 {
        content.len()
    } else {
        content.len() / 2
    };
    let (first, second) = content.split_at(cut);
    let world = SimWorld::new(SimOptions::new(1));
    let mut parts = vec![first];
    parts.extend((control & 2 != 0).then_some(second));
    for (number, part) in (1..).zip(parts) {
        let file = segment_file(number, part, control & 1 != 0);
        world.write_file(&format!("WAL/wal-{number:06}.seg"), &file);
    }
    let one = read_log(&world, control & 4 != 0);
    assert_eq!(one, read_log(&world, control & 4 != 0));
}

/// A file with a valid header, and this behind it.
fn segment_file(number: u64, part: &[u8], is_repaired: bool) -> Vec<u8> {
    let header = SegmentHeader {
        segment: number,
        database_uuid: DATABASE,
    };
    let mut file = header.encode().to_vec();
    file.resize(SEGMENT_DATA_OFFSET, 0);
    file.extend_from_slice(part);
    file.resize(file.len().next_multiple_of(SEGMENT_DATA_OFFSET), 0);
    if is_repaired {
        repair(&mut file, number);
    }
    file
}

/// Gives what looks like a record the checksum it should have, and what looks like a mark its
/// database and its place.
fn repair(file: &mut [u8], number: u64) {
    let mut at = SEGMENT_DATA_OFFSET;
    while at + 41 <= file.len() {
        let length = u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        if length < 37 || file.len() - at - 4 < length {
            at = (at + 1).next_multiple_of(512);
            continue;
        }
        let record = &mut file[at..at + 4 + length];
        if record[5..13] == [0; 8] {
            record[13..29].copy_from_slice(&DATABASE);
            if 72 <= record.len() {
                let lsn = (number << 32) + at as u64;
                record[44..52].copy_from_slice(&lsn.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&record[4..length]).to_le_bytes();
        record[length..].copy_from_slice(&crc);
        at += 4 + length;
    }
}

/// What a scan came to, in short, with the commit versions it met.
fn read_log(world: &SimWorld, is_permissive: bool) -> (Vec<u64>, String) {
    let options = ScanOptions {
        database_uuid: DATABASE,
        record_len_bytes_max: 1 << 20,
        snapshot_end: Lsn::ZERO,
        manifest_active_segment: 1,
        is_permissive,
        planted: in_mem_wal::faults::Planted::default(),
    };
    let mut disk = world.open_disk().unwrap();
    let mut versions = Vec::new();
    let visit = |record: RecoveredRecord<'_>| {
        assert!(record.lsn < record.end_lsn);
        versions.push(record.txn_id);
        Ok::<(), ()>(())
    };
    let found = match scan(&mut *disk, &options, &IdentityCodec, visit) {
        Ok(found) => {
            assert_eq!(found.record_count, versions.len() as u64);
            assert!(is_permissive || found.damage.is_none());
            format!("{:?} {:?} {:?}", found.end_lsn, found.tail, found.damage)
        }
        Err(ScanError::Visitor { .. }) => unreachable!("the visitor refuses nothing"),
        Err(error) => format!("{error:?}"),
    };
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    (versions, found)
}
