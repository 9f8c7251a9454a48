//! A hundred clients that send the largest frame there is at the same time.
//!
//! 6.5 GiB pass the socket over either reactor, so it takes seconds whatever the daemon does.
//! `IN_MEM_TEST=soak` has the clients come back again and again, `IN_MEM_TEST=quick` has fewer.

use std::io::Write;
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use in_mem_ipc::frame::FRAME_LEN_BYTES_MAX;
use in_mem_ipc::{FrameBuffer, RequestHeader, Response};
use rustix::process::Signal;

use crate::daemon_process::{DEADLINE, Daemon};
use crate::raw_client::{RawClient, put, request_frame};
use crate::witness::Witness;
use crate::{daemon_with_config, scaled};

/// Clients at a time.
const CLIENT_COUNT: usize = 100;

/// Frames that fit in what frames may take at a time.
const FITTING_COUNT: u64 = 4;

/// What frames may take at a time, bytes: half a frame stays free.
const GATHER_LEN_BYTES_MAX: u64 = FITTING_COUNT * FRAME_LEN_BYTES_MAX as u64 + (32 << 20);

/// What may come on top, KiB: the buffers of reactor and log, and of each client what the kernel
/// gave us of its frame before its socket was left alone.
const SLACK_KIB: u64 = (32 << 10) + CLIENT_COUNT as u64 * (1 << 10);

/// Longest any one frame may take, on a machine that does everything else before.
const FRAME_DEADLINE: Duration = DEADLINE.saturating_mul(10);

/// One frame for all clients of all tests.
static FRAME: LazyLock<FrameBuffer> = LazyLock::new(largest_frame);

over_both_reactors!(
    a_hundred_frames_of_the_largest_length_wait_for_each_other_within_the_memory_they_may_take,
);

/// A put whose frame is as long as a frame may be. It is refused, once it is there: its value is
/// above the limit.
fn largest_frame() -> FrameBuffer {
    let frame_of = |value_len_bytes: usize| {
        let mut value = vec![0xc6];
        value.extend_from_slice(&u32::try_from(value_len_bytes).unwrap().to_be_bytes());
        value.resize(value.len() + value_len_bytes, 7);
        request_frame(1, RequestHeader::default(), put("large", &value))
    };
    let largest = FRAME_LEN_BYTES_MAX as usize;
    let around_it = frame_of(1 << 20).len() - (1 << 20);
    let frame = frame_of((largest - around_it) / 16 * 16);
    assert_eq!(frame.len(), largest, "{around_it} bytes around the value");
    frame
}

/// One client: connects, sends its frame as fast as it is taken, reads the answer.
fn send_largest(daemon: &Daemon, answered: &Sender<()>) {
    let mut client = RawClient::connect(daemon.socket());
    // It waits for all before it: how long is watched by whoever counts the answers.
    client.stream.set_write_timeout(None).unwrap();
    client.stream.set_read_timeout(None).unwrap();
    client.stream.write_all(&FRAME).unwrap();
    let reply = client.read().unwrap().expect("an answer").response();
    let Response::Error(refusal) = reply else {
        panic!("{reply:?}")
    };
    assert!(refusal.message.contains("value"), "{refusal:?}");
    answered.send(()).unwrap();
}

/// The answers come one by one, and the witness is served between any two of them.
fn await_answers(daemon: &Daemon, witness: &mut Witness, answers: &Receiver<()>, count: usize) {
    for number in 0..count {
        if answers.recv_timeout(FRAME_DEADLINE).is_err() {
            // The clients that wait are set free, so that their threads end.
            daemon.signal(Signal::KILL);
            panic!("{number} of {count} clients are answered, and then none in {FRAME_DEADLINE:?}");
        }
        witness.check();
    }
}

fn a_hundred_frames_of_the_largest_length_wait_for_each_other_within_the_memory_they_may_take() {
    // How long a frame takes, and whose it is, does not matter here.
    let limits = format!(
        "[limits]\ngather_len_bytes_max = {GATHER_LEN_BYTES_MAX}\n\
         gather_len_bytes_per_user_max = {}\nframe_timeout_ms = 600000\n",
        2 * GATHER_LEN_BYTES_MAX
    );
    let (_directory, daemon) = daemon_with_config(&limits);
    let mut witness = Witness::new(&daemon);
    let count = scaled(CLIENT_COUNT).min(CLIENT_COUNT);
    LazyLock::force(&FRAME);
    let peak_before_kib = daemon.status_number("VmHWM:");
    for _ in 0..scaled(1) {
        let started = Instant::now();
        let (answered, answers) = channel();
        thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| send_largest(&daemon, &answered));
            }
            await_answers(&daemon, &mut witness, &answers, count);
        });
        let grown_kib = daemon.status_number("VmHWM:") - peak_before_kib;
        println!(
            "{count} frames of {FRAME_LEN_BYTES_MAX} bytes in {:?}: {grown_kib} KiB at the peak",
            started.elapsed()
        );
        let allowed_kib = ((FITTING_COUNT * u64::from(FRAME_LEN_BYTES_MAX)) >> 10) + SLACK_KIB;
        assert!(
            grown_kib < allowed_kib,
            "the peak grew by {grown_kib} KiB, {allowed_kib} KiB are allowed"
        );
    }
    witness.check();
    let kept_kib = daemon.resident_kib().saturating_sub(peak_before_kib);
    assert!(kept_kib < SLACK_KIB, "{kept_kib} KiB are kept afterwards");
}
