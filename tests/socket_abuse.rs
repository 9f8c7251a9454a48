//! Peers that send rubbish, vanish, dawdle or never read, against a live daemon.
//!
//! Whatever they do, the daemon answers with one readable error or closes their connection, other
//! clients are unhurt, and its memory and descriptors are where they were.

#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should; support files serve several tests"
)]

#[macro_use]
#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "socket_abuse/descriptors.rs"]
mod descriptors;
#[path = "socket_abuse/large.rs"]
mod large;
#[path = "socket_abuse/message_pack.rs"]
mod message_pack;
#[path = "socket_abuse/random.rs"]
mod random;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "socket_abuse/slow.rs"]
mod slow;
#[path = "socket_abuse/witness.rs"]
mod witness;

use std::io::{ErrorKind, Write};
use std::net::Shutdown;

use daemon_process::{DEADLINE, Daemon};
use in_mem_ipc::close::CloseReason;
use in_mem_ipc::frame::{FRAME_LEN_BYTES_MAX, FrameKind, HEADER_LEN_BYTES};
use in_mem_ipc::request::kv::{
    CasValue, CasVersion, ExpectedVersion, Increment, Key, KeyValue, KeyValues, Keys, List, Prefix,
};
use in_mem_ipc::request::run::{RunBegin, RunFailure, RunTags};
use in_mem_ipc::request::txn::{Batch, BatchOperation, BatchRead, ReadCheck, TxnBegin};
use in_mem_ipc::{FrameBuffer, Operation, RequestHeader, Response};
use random::Random;
use raw_client::{RawClient, hello_frame, put, request_frame};
use witness::Witness;

/// The value `Int 7`, encoded.
const SEVEN: &[u8] = &[7];

/// How many times fewer in the quick run, and more in the soak.
fn scaled(count: usize) -> usize {
    match std::env::var("IN_MEM_TEST").as_deref() {
        Ok("quick") => count.div_ceil(10),
        Ok("soak") => count * 100,
        _ => count,
    }
}

/// One valid request of each shape.
fn valid_requests() -> Vec<FrameBuffer> {
    let key = || Key { key: "key".into() };
    let entry = || KeyValue {
        key: "key".into(),
        value: SEVEN.into(),
    };
    let operations = vec![
        Operation::SystemPing,
        Operation::SystemInfo,
        put("key", SEVEN),
        Operation::KvGet(key()),
        Operation::KvGetMany(Keys {
            keys: vec!["a".into(), "b".into()],
        }),
        Operation::KvDelete(key()),
        Operation::KvPutMany(KeyValues {
            entries: vec![entry(), entry()],
        }),
        Operation::KvIncr(Increment {
            key: "n".into(),
            delta: 3,
        }),
        Operation::KvCasVersion(CasVersion {
            key: "key".into(),
            value: SEVEN.into(),
            expected: ExpectedVersion::Raw(4),
        }),
        Operation::KvCasValue(CasValue {
            key: "key".into(),
            value: SEVEN.into(),
            expected: Some(SEVEN.into()),
        }),
        Operation::KvList(List {
            prefix: "k".into(),
            cursor: in_mem_ipc::Bytes::default(),
            limit: 10,
            with_values: true,
        }),
        Operation::KvCount(Prefix { prefix: "k".into() }),
        Operation::RunBegin(RunBegin {
            tags: vec!["t".into()],
            ..RunBegin::default()
        }),
        Operation::RunFail(RunFailure {
            message: "why".into(),
        }),
        Operation::RunAddTags(RunTags {
            tags: vec!["t".into()],
        }),
        Operation::TxnBegin(TxnBegin {
            read_only: false,
            timeout_ms: 5,
            durability: in_mem_ipc::request::DurabilityChoice::Session,
        }),
        Operation::TxnCommit,
        Operation::Batch(Batch {
            start_version: Some(1),
            reads: vec![BatchRead {
                key: "key".into(),
                check: ReadCheck::Version(9),
            }],
            operations: vec![BatchOperation::Put(entry()), BatchOperation::Delete(key())],
        }),
    ];
    operations
        .into_iter()
        .enumerate()
        .map(|(id, operation)| request_frame(id as u64 + 1, RequestHeader::default(), operation))
        .collect()
}

/// A frame of every operation there is, as they are pinned.
fn pinned_requests() -> Vec<Vec<u8>> {
    let lines = include_str!("../ipc/fixtures/golden.txt").lines();
    let requests = lines.filter_map(|line| line.strip_prefix("request:")?.split_once(' '));
    let byte = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).unwrap();
        u8::from_str_radix(digits, 16).unwrap()
    };
    let frames: Vec<Vec<u8>> = requests
        .map(|(_, digits)| digits.as_bytes().chunks(2).map(byte).collect())
        .collect();
    assert_eq!(frames.len(), in_mem_ipc::operation::OPERATIONS.len());
    frames
}

over_both_reactors!(
    every_byte_of_every_valid_frame_may_be_wrong,
    ten_thousand_malformed_frames_hurt_nobody,
    frames_that_claim_too_much_are_refused_before_anything_is_allocated,
    a_client_may_vanish_at_every_byte_of_a_request,
    a_transaction_whose_client_vanishes_is_in_or_out_as_a_whole,
    clients_that_send_half_a_frame_are_closed_and_slow_nobody,
    clients_that_never_read_are_not_read_from_and_their_replies_are_capped,
);

fn daemon(arguments: &[&str]) -> (tempfile::TempDir, Daemon) {
    let directory = tempfile::tempdir().unwrap();
    let mut all = vec!["--durability", "buffered"];
    all.extend_from_slice(arguments);
    let daemon = Daemon::start_with(directory.path(), &all).expect("the daemon starts");
    (directory, daemon)
}

fn daemon_with_config(text: &str) -> (tempfile::TempDir, Daemon) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let arguments = [
        "--durability",
        "buffered",
        "--config",
        path.to_str().unwrap(),
    ];
    let daemon = Daemon::start_with(directory.path(), &arguments).expect("the daemon starts");
    (directory, daemon)
}

/// Shows what was being sent when a test failed.
struct Sending<'a>(&'a [&'a [u8]]);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("while sending {:02x?}", self.0);
        }
    }
}

/// Sends bytes on a connection of their own and reads until the daemon closed it. Returns how
/// many frames came back; the last of a refused connection is a close with a reason.
fn abuse(daemon: &Daemon, frames: &[&[u8]]) -> usize {
    let _sending = Sending(frames);
    let mut client = RawClient::connect_silent(daemon.socket()).unwrap();
    for frame in frames {
        match client.stream.write_all(frame) {
            Ok(()) => {}
            // The daemon closed already: a later write finds nobody.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => panic!("{error}"),
        }
    }
    let _ = client.stream.shutdown(Shutdown::Write);
    let replies = client.read_to_end();
    for reply in &replies {
        if let Some(close) = reply.close() {
            assert!(!close.message.is_empty());
        }
    }
    replies.len()
}

fn every_byte_of_every_valid_frame_may_be_wrong() {
    let (_directory, daemon) = daemon(&[]);
    let mut witness = Witness::new(&daemon);
    let mut random = Random::from_environment();
    let hello = hello_frame();
    let requests = valid_requests();
    let requests = requests.iter().map(|frame| frame.to_vec());
    let frames: Vec<Vec<u8>> = std::iter::once(hello.to_vec())
        .chain(requests)
        .chain(pinned_requests())
        .collect();
    let mut count = 0;
    for (number, frame) in frames.iter().enumerate() {
        let is_hello = number == 0;
        for index in 0..frame.len() {
            let original = frame[index];
            let flipped = original ^ (1 << random.below(8));
            for wrong in [0x00, 0xFF, flipped] {
                let mut mutated = frame.to_vec();
                mutated[index] = wrong;
                if is_hello {
                    abuse(&daemon, &[&mutated]);
                } else {
                    abuse(&daemon, &[&hello, &mutated]);
                }
                count += 1;
            }
            if index % 64 == 0 {
                witness.check();
            }
        }
    }
    println!("{count} mutated frames");
    assert!(count > 30_000);
    witness.finish(&daemon);
}

fn ten_thousand_malformed_frames_hurt_nobody() {
    let (_directory, daemon) = daemon(&[]);
    let mut witness = Witness::new(&daemon);
    let mut random = Random::from_environment();
    let hello = hello_frame();
    let requests = valid_requests();
    let count = scaled(10_000);
    for number in 0..count {
        let mut frame = requests[random.below(requests.len())].to_vec();
        match random.below(4) {
            // Rubbish from the first byte on.
            0 => frame
                .iter_mut()
                .for_each(|byte| *byte = random.next().to_le_bytes()[0]),
            // A valid header before rubbish.
            1 => frame
                .iter_mut()
                .skip(HEADER_LEN_BYTES)
                .for_each(|byte| *byte = random.next().to_le_bytes()[3]),
            // Several bytes wrong.
            2 => {
                for _ in 0..=random.below(8) {
                    let index = random.below(frame.len());
                    frame[index] = random.next().to_le_bytes()[5];
                }
            }
            // Cut, and another frame behind the cut.
            _ => {
                frame.truncate(random.below(frame.len()));
                frame.extend_from_slice(&requests[random.below(requests.len())]);
            }
        }
        abuse(&daemon, &[&hello, &frame]);
        if number % 500 == 0 {
            witness.check();
        }
    }
    witness.finish(&daemon);
}

fn frames_that_claim_too_much_are_refused_before_anything_is_allocated() {
    let (_directory, daemon) = daemon(&[]);
    let witness = Witness::new(&daemon);
    let hello = hello_frame();
    for claimed in [
        FRAME_LEN_BYTES_MAX - 31,
        FRAME_LEN_BYTES_MAX + 1,
        1 << 31,
        u32::MAX,
    ] {
        for frame_kind in [FrameKind::Request, FrameKind::Hello] {
            let mut frame = request_frame(1, RequestHeader::default(), Operation::SystemPing);
            frame[6] = frame_kind as u8;
            frame[8..12].copy_from_slice(&claimed.to_le_bytes());
            frame[16..24].copy_from_slice(&[0; 8]);
            let mut client = RawClient::connect_silent(daemon.socket()).unwrap();
            if frame_kind == FrameKind::Request {
                client.send(&hello);
                assert_eq!(
                    client.read().unwrap().unwrap().header.kind,
                    FrameKind::HelloReply
                );
            }
            // Only the header: the daemon must not wait for what it claims.
            client.send(&frame[..HEADER_LEN_BYTES]);
            let replies = client.read_to_end();
            let close = replies
                .last()
                .and_then(raw_client::Reply::close)
                .expect("a reason");
            assert_eq!(close.reason, CloseReason::LimitExceeded, "{close:?}");
        }
    }
    // 2^63 in every field that could be taken for a length.
    let mut frame = request_frame(1, RequestHeader::default(), Operation::SystemPing);
    frame[8..16].copy_from_slice(&(1u64 << 63).to_le_bytes());
    abuse(&daemon, &[&hello, &frame]);
    // The largest claim that is allowed costs nothing until bytes come.
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut frame = request_frame(1, RequestHeader::default(), Operation::SystemPing);
        frame[8..12].copy_from_slice(&(FRAME_LEN_BYTES_MAX - 32).to_le_bytes());
        let mut client = RawClient::connect(daemon.socket());
        client.send(&frame[..HEADER_LEN_BYTES]);
        clients.push(client);
    }
    let mut probe = RawClient::connect(daemon.socket());
    probe.put("probe", SEVEN);
    drop(probe);
    drop(clients);
    witness.finish(&daemon);
}

fn a_client_may_vanish_at_every_byte_of_a_request() {
    let (_directory, daemon) = daemon(&[]);
    let mut witness = Witness::new(&daemon);
    let mut stream = hello_frame().to_vec();
    stream.extend_from_slice(&request_frame(
        1,
        RequestHeader::default(),
        put("gone", SEVEN),
    ));
    for count in 0..scaled(1_000) {
        let cut = count % (stream.len() + 1);
        let mut client = RawClient::connect_silent(daemon.socket()).unwrap();
        client.send(&stream[..cut]);
        drop(client);
        if cut == stream.len() {
            witness.check();
        }
    }
    assert!(matches!(witness.client.get("gone"), None | Some(_)));
    witness.finish(&daemon);
}

fn a_transaction_whose_client_vanishes_is_in_or_out_as_a_whole() {
    let (_directory, daemon) = daemon(&[]);
    let mut witness = Witness::new(&daemon);
    for count in 0..scaled(1_000) {
        let mut client = RawClient::connect(daemon.socket());
        let begin = Operation::TxnBegin(TxnBegin {
            read_only: false,
            timeout_ms: 0,
            durability: in_mem_ipc::request::DurabilityChoice::Session,
        });
        let Response::TxnBegun(begun) = client.call(begin) else {
            panic!("no transaction")
        };
        let header = RequestHeader {
            txn_id: begun.txn_id,
            ..RequestHeader::default()
        };
        let value = [0xcd, count.to_be_bytes()[6], count.to_be_bytes()[7]];
        let mut stream = Vec::new();
        stream.extend_from_slice(&request_frame(10, header, put("left", &value)));
        stream.extend_from_slice(&request_frame(11, header, put("right", &value)));
        stream.extend_from_slice(&request_frame(12, header, Operation::TxnCommit));
        let cut = (count * 7) % (stream.len() + 1);
        client.send(&stream[..cut]);
        drop(client);
        let batch = Operation::KvGetMany(Keys {
            keys: vec!["left".into(), "right".into()],
        });
        let Response::Values(values) = witness.client.call(batch) else {
            panic!("no values")
        };
        assert_eq!(values[0], values[1], "half a transaction is visible");
    }
    witness.finish(&daemon);
}

fn clients_that_send_half_a_frame_are_closed_and_slow_nobody() {
    let (_directory, daemon) = daemon_with_config("[limits]\nframe_timeout_ms = 300\n");
    let mut witness = Witness::new(&daemon);
    let request = request_frame(1, RequestHeader::default(), put("slow", SEVEN));
    let mut slow: Vec<RawClient> = (0..scaled(200))
        .map(|number| {
            let mut client = RawClient::connect(daemon.socket());
            client.send(&request[..1 + number % (request.len() - 1)]);
            client
        })
        .collect();
    let mut silent = RawClient::connect_silent(daemon.socket()).unwrap();
    for _ in 0..200 {
        witness.check();
    }
    for client in &mut slow {
        let replies = client.read_to_end();
        let close = replies
            .last()
            .and_then(raw_client::Reply::close)
            .expect("a reason");
        assert_eq!(close.reason, CloseReason::LimitExceeded);
    }
    assert!(
        silent.read_to_end().last().unwrap().close().is_some(),
        "no hello, no session"
    );
    drop((slow, silent));
    witness.finish(&daemon);
}

fn clients_that_never_read_are_not_read_from_and_their_replies_are_capped() {
    let (_directory, daemon) = daemon(&[]);
    let mut witness = Witness::new(&daemon);
    let mut value = vec![0xc6, 0, 1, 0, 0];
    value.extend_from_slice(&vec![5; 1 << 16]);
    witness.client.put("large", &value);
    let before_kib = daemon.resident_kib();
    let get = Operation::KvGet(Key {
        key: "large".into(),
    });
    let frame = request_frame(1, RequestHeader::default(), get);
    let count = scaled(30);
    let clients: Vec<RawClient> = (0..count)
        .map(|_| {
            let mut client = RawClient::connect(daemon.socket());
            // Each frame asks for 64 KiB; the daemon stops reading long before 64 MiB are asked.
            client.stream.set_nonblocking(true).unwrap();
            let mut asked = 0;
            while asked < 1_000_000 {
                match client.stream.write(&frame) {
                    Ok(len) => asked += len / frame.len(),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
                if asked % 100 == 0 {
                    std::thread::yield_now();
                }
            }
            assert!(asked < 1_000_000, "the daemon never stopped reading");
            client
        })
        .collect();
    for _ in 0..200 {
        witness.check();
    }
    let grown_kib = daemon.resident_kib() - before_kib;
    let allowed_kib = count as u64 * 4 * 1_024 + 16 * 1_024;
    assert!(
        grown_kib < allowed_kib,
        "{count} clients cost {grown_kib} KiB"
    );
    drop(clients);
    let end = std::time::Instant::now() + DEADLINE;
    while daemon.descriptor_count() > witness.descriptors_before {
        assert!(
            std::time::Instant::now() < end,
            "descriptors are not given back"
        );
        witness.check();
    }
}

/// Puts and gets so many keys; the CPU time of the daemon for it, in ticks of the kernel.
fn ticks_of_keys(daemon: &Daemon, key: impl Fn(usize) -> String, count: usize) -> u64 {
    let client = in_mem_client::Client::builder()
        .socket(daemon.socket())
        .connect()
        .unwrap();
    let (_, before) = daemon.activity();
    for first in (0..count).step_by(5_000) {
        let numbers = first..count.min(first + 5_000);
        let mut pipeline = client.pipeline();
        for number in numbers.clone() {
            pipeline.put(&key(number), &7).unwrap();
        }
        pipeline.send().unwrap();
        let mut pipeline = client.pipeline();
        let tickets: Vec<_> = numbers
            .map(|number| pipeline.get::<i64>(&key(number)).unwrap())
            .collect();
        let mut answers = pipeline.send().unwrap();
        for ticket in tickets {
            assert_eq!(answers.take(ticket).unwrap(), Some(7));
        }
    }
    daemon.activity().1 - before
}

/// The unkeyed hash that spreads keys over partitions sees their length, 8 bytes at their
/// beginning and 16 at their end. CPU time is compared, not time: neighbours do not count.
#[test]
fn keys_prepared_to_collide_under_the_unkeyed_hash_cost_what_random_keys_cost() {
    let (_directory, daemon) = daemon(&["--durability", "in_memory"]);
    let mut random = Random::from_environment();
    let salt = random.next();
    let count = scaled(100_000);
    let spread = |number: usize| {
        let mixed = (number as u64 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!("{mixed:016x}{number:08x}{mixed:016x}")
    };
    let alike = |number: usize| format!("prepared{salt:016x}{number:08x}prepared-the-end");
    let random_ticks = ticks_of_keys(&daemon, spread, count);
    let alike_ticks = ticks_of_keys(&daemon, alike, count);
    println!("{count} random keys: {random_ticks} ticks; prepared ones: {alike_ticks}");
    assert!(
        alike_ticks <= 3 * random_ticks.max(10),
        "{alike_ticks} ticks for prepared keys, {random_ticks} for random ones"
    );
}
