//! A panic on the log thread ends the process: nobody is left waiting for a log that is gone.
//!
//! The test runs itself again as a child whose sink panics.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::codec::IdentityCodec;
use crate::disk::{SimOptions, SimWorld};
use crate::driver::spawn_log_thread;
use crate::handle::Append;
use crate::harness::{UUID, recover, sound};
use crate::lsn::Lsn;
use crate::recover::create_log;
use crate::sink::{Need, PoisonCause, Sink};
use crate::writer::start;

const SETTING: &str = "INMEM_TEST_SINK_PANICS";
const SIGABRT: i32 = 6;

/// Seconds until a child that hangs is ended by the alarm, whose signal is another one.
const HANG_S: u32 = 60;

struct Panics;

impl Sink<u64> for Panics {
    fn reached(&mut self, token: u64, _end_lsn: Lsn) {
        panic!("the sink was told of {token}");
    }

    fn poisoned(&mut self, _cause: &PoisonCause) {}

    fn failed(&mut self, _token: u64) {}
}

/// What the child does: commits, and waits for what the log thread can no longer tell.
fn run_as_child() {
    nix::unistd::alarm::set(HANG_S);
    let world = SimWorld::new(SimOptions::new(1));
    create_log(&mut world.disk(), UUID).unwrap();
    let (_, settled) = recover(&world, &sound()).unwrap();
    let (handle, seed) = start(sound(), Arc::new(IdentityCodec), &settled).unwrap();
    let clock = Arc::new(SystemClock);
    let mut log = spawn_log_thread(seed, Arc::new(world), clock, Panics).unwrap();
    let reservation = handle.reserve(20).unwrap();
    let append = Append {
        txn_id: 1 << 40,
        run_id: [0; 16],
        timestamp_us: 0,
        writeset: vec![1; 20],
        need: Need::Synced,
        token: 1,
    };
    handle.appender().unwrap().append(reservation, append);
    log.join();
    println!("outlived the log");
}

#[test]
fn a_panic_on_the_log_thread_aborts_the_process_and_leaves_nobody_waiting() {
    if std::env::var_os(SETTING).is_some() {
        run_as_child();
        return;
    }
    let name =
        "tests::log_panic::a_panic_on_the_log_thread_aborts_the_process_and_leaves_nobody_waiting";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(SETTING, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("the sink was told of 1"),
        "{stdout}{stderr}"
    );
    assert_eq!(
        output.status.signal(),
        Some(SIGABRT),
        "{}: {stdout}{stderr}",
        output.status
    );
    assert!(!stdout.contains("outlived"), "{stdout}");
}
