//! A thousand clients that send one byte at a time, and a thousand that never read, beside a good
//! one; and descriptors nobody asked for.
//!
//! What is checked is that everybody is served and what it costs the daemon, not how fast: how long
//! a good client waits beside them is measured by `cargo bench --bench fairness`. The clients are
//! driven in rounds without pause; `IN_MEM_SLOW_SECONDS=60` gives each round its second and makes
//! as many of them:
//!
//! ```text
//! IN_MEM_SLOW_SECONDS=60 cargo test --test socket_abuse slow
//! ```

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use in_mem_ipc::frame::FrameKind;
use in_mem_ipc::request::kv::Key;
use in_mem_ipc::{Operation, RequestHeader, Response};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::daemon_process::DEADLINE;
use crate::raw_client::{RawClient, put, request_frame};
use crate::witness::Witness;
use crate::{SEVEN, daemon, daemon_with_config, scaled};

/// Clients of each test.
const CLIENT_COUNT: usize = 1_000;

/// Bytes each slow client sends before it sends the rest, unless a longer run is asked for.
const ROUND_COUNT: usize = 20;

/// What the good client does in each round.
const CHECK_COUNT: usize = 3;

/// One of these tests at a time: each needs a thousand descriptors of this process.
static DESCRIPTORS: Mutex<()> = Mutex::new(());

over_both_reactors!(
    a_thousand_clients_at_a_byte_a_time_slow_nobody_and_are_served_themselves,
    a_thousand_clients_that_never_read_cost_what_their_user_may_take,
    descriptors_that_are_passed_are_not_received,
);

fn alone() -> MutexGuard<'static, ()> {
    // A test that failed leaves nothing behind here.
    DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises the limit of descriptors as far as it goes; why not, if that is not enough.
fn may_have_descriptors(count: usize) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < count as u64 {
        println!("SKIPPED: needs {count} descriptors, and {allowed} are allowed (ulimit -Hn)");
    }
    count as u64 <= allowed
}

/// Rounds, and whether each takes its second.
fn rounds() -> (usize, bool) {
    let seconds = std::env::var("IN_MEM_SLOW_SECONDS").ok();
    match seconds.and_then(|text| text.parse().ok()) {
        Some(seconds) => (seconds, true),
        None => (ROUND_COUNT, false),
    }
}

/// Lets a second pass: a read that nobody answers.
fn pause(witness: &mut Witness) {
    let stream = &mut witness.client.stream;
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let waited = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
}

/// A number that `system.info` tells.
fn measure(client: &mut RawClient, name: &str) -> u64 {
    match client.call(Operation::SystemInfo) {
        Response::Info(info) => {
            let found = info.measures.iter().find(|measure| &*measure.name == name);
            found.map_or(0, |measure| measure.value)
        }
        other => panic!("{other:?}"),
    }
}

fn a_thousand_clients_at_a_byte_a_time_slow_nobody_and_are_served_themselves() {
    let _alone = alone();
    let count = scaled(CLIENT_COUNT);
    if !may_have_descriptors(count + 200) {
        return;
    }
    // Longer than the test: here nobody is closed for being slow.
    let (_directory, daemon) = daemon_with_config("[limits]\nframe_timeout_ms = 600000\n");
    let mut witness = Witness::new(&daemon);
    let before_kib = daemon.resident_kib();
    let request = request_frame(1, RequestHeader::default(), put("slow", SEVEN));
    let mut slow: Vec<RawClient> = (0..count)
        .map(|_| RawClient::connect(daemon.socket()))
        .collect();
    let (round_count, is_paced) = rounds();
    let round_count = round_count.min(request.len() - 1);
    for byte in request.iter().take(round_count) {
        for client in &mut slow {
            client.send(&[*byte]);
        }
        for _ in 0..CHECK_COUNT {
            witness.check();
        }
        if is_paced {
            pause(&mut witness);
        }
    }
    let grown_kib = daemon.resident_kib().saturating_sub(before_kib);
    // Sessions and parts of frames: a few KiB each.
    let allowed_kib = 16 * count as u64 + (32 << 10);
    assert!(
        grown_kib < allowed_kib,
        "{count} clients cost {grown_kib} KiB"
    );
    let open = daemon.descriptor_count();
    assert!(
        open <= witness.descriptors_before + count,
        "{open} descriptors"
    );
    for client in &mut slow {
        client.send(&request[round_count..]);
    }
    for client in &mut slow {
        let reply = client.read().unwrap().expect("it is served");
        assert!(matches!(reply.response(), Response::Written(_)));
    }
    drop(slow);
    witness.finish(&daemon);
}

fn a_thousand_clients_that_never_read_cost_what_their_user_may_take() {
    let _alone = alone();
    let count = scaled(CLIENT_COUNT);
    if !may_have_descriptors(count + 200) {
        return;
    }
    let user_max: u64 = 64 << 20;
    let limits = format!("[limits]\nreply_len_bytes_per_user_max = {user_max}\n");
    let (_directory, daemon) = daemon_with_config(&limits);
    let mut witness = Witness::new(&daemon);
    let mut value = vec![0xc6, 0, 1, 0, 0];
    value.extend_from_slice(&vec![5; 1 << 16]);
    witness.client.put("large", &value);
    let before_kib = daemon.resident_kib();
    let get = Operation::KvGet(Key {
        key: "large".into(),
    });
    // Together 4 MiB of replies for each client: four times what a session may have unread.
    let request = request_frame(1, RequestHeader::default(), get);
    let asked = request.repeat(64);
    let mut deaf: Vec<RawClient> = (0..count)
        .map(|_| RawClient::connect(daemon.socket()))
        .collect();
    for client in &mut deaf {
        client.send(&asked);
    }
    let (round_count, is_paced) = rounds();
    for _ in 0..round_count {
        for _ in 0..CHECK_COUNT {
            witness.check();
        }
        if is_paced {
            pause(&mut witness);
        }
    }
    let queued = measure(&mut witness.client, "reply_len_bytes");
    // What one turn adds before it is counted, and the short answers of each.
    let allowed = user_max + (32 << 20) + 32 * 1_024 * count as u64;
    assert!(queued <= allowed, "{queued} bytes of replies wait");
    let grown_kib = daemon.resident_kib().saturating_sub(before_kib);
    let allowed_kib = 2 * (allowed >> 10) + (64 << 10);
    assert!(
        grown_kib < allowed_kib,
        "{count} clients cost {grown_kib} KiB"
    );
    drop(deaf);
    let end = std::time::Instant::now() + DEADLINE;
    while daemon.descriptor_count() > witness.descriptors_before
        || measure(&mut witness.client, "reply_len_bytes") > 1 << 16
    {
        assert!(std::time::Instant::now() < end, "something is left behind");
        witness.check();
    }
    assert_eq!(witness.client.get("large"), Some(value), "served again");
}

/// The daemon receives without a control buffer: the kernel drops what is passed.
fn descriptors_that_are_passed_are_not_received() {
    let (_directory, daemon) = daemon(&[]);
    let mut witness = Witness::new(&daemon);
    let mut client = RawClient::connect(daemon.socket());
    let before = daemon.descriptor_count();
    let passed = std::fs::File::open("/dev/null").unwrap();
    for number in 0..scaled(1_000) {
        let frame = request_frame(1, RequestHeader::default(), put("passed", SEVEN));
        send_with(&client, &frame, &passed, 1 + number % 64);
        let reply = client.read().unwrap().expect("the connection goes on");
        assert_eq!(reply.header.kind, FrameKind::Response);
        assert!(matches!(reply.response(), Response::Written(_)));
        if number % 50 == 0 {
            assert_eq!(daemon.descriptor_count(), before);
            witness.check();
        }
    }
    assert_eq!(daemon.descriptor_count(), before);
    drop(client);
    witness.finish(&daemon);
}

/// Sends bytes with so many descriptors beside them.
fn send_with(client: &RawClient, bytes: &[u8], passed: &impl AsFd, count: usize) {
    let descriptors = vec![passed.as_fd(); count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(
        &client.stream,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .unwrap();
    (&client.stream).write_all(&bytes[sent..]).unwrap();
}
