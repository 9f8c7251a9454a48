//! Fault points stop the process exactly where they are.
//!
//! Each test runs itself again as a child with a point armed; the child writes one line per ack.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::disk::{SimOptions, SimWorld};
use crate::faults::Point;
use crate::harness::{Harness, recover, sound};
use crate::names::segment_path;
use crate::sink::Need;

const SETTING: &str = "INMEM_FAULT_POINT";

/// What the child does: commits until segments rotate, then recovers the log.
fn run_as_child() {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(1)), &sound()).unwrap();
    for _ in 0..20 {
        harness.prepare();
        harness.append(3000, Need::Synced).unwrap();
        harness.settle_down();
        println!("ack");
    }
    // An empty newest segment and a left-over: every step of recovery has something to do.
    let newest = harness.handle.metrics().rotation_count + 2;
    harness.world.write_file(&segment_path(newest), &[]);
    harness.world.write_file("WAL/wal-000099.tmp", &[1]);
    recover(&harness.world, &sound()).unwrap();
    println!("end");
}

/// Runs the child with a point armed: how often it acknowledged, and whether it was aborted.
fn acks_until(setting: &str) -> (usize, bool) {
    let name = "tests::fault_points::a_point_stops_the_process_at_its_nth_pass";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(SETTING, setting)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let was_aborted = output.status.signal() == Some(6);
    (text.matches("ack").count(), was_aborted)
}

#[test]
fn a_point_stops_the_process_at_its_nth_pass() {
    if std::env::var(SETTING).is_ok() {
        run_as_child();
        return;
    }
    assert_eq!(acks_until("NoSuchPoint:1"), (20, false));
    let rows = [
        (Point::BeforeWalWrite, 3, 2),
        (Point::AfterWalWriteBeforeFsync, 3, 2),
        (Point::AfterFsync, 1, 0),
        (Point::AfterFsync, 20, 19),
        // Three records to a segment of 16 KiB, the mark of opening beside them.
        (Point::DuringSegmentRotationBeforeRename, 1, 3),
        (Point::DuringSegmentRotationAfterRename, 1, 3),
        (Point::DuringSegmentRotationAfterSyncDir, 1, 3),
        (Point::DuringSpareBeforeHeader, 1, 0),
        // Passed once when the log is created.
        (Point::RecoveryAfterScan, 2, 20),
        (Point::RecoveryAfterTemps, 2, 20),
        (Point::RecoveryAfterQuarantine, 2, 20),
        (Point::RecoveryBeforeRemove, 1, 20),
        (Point::RecoveryAfterRemove, 1, 20),
        (Point::RecoveryBeforeRewriteSync, 2, 20),
        (Point::RecoveryBeforeRewriteRename, 2, 20),
        (Point::RecoveryAfterRewriteRename, 2, 20),
        (Point::RecoveryAfterSettle, 2, 20),
    ];
    for (point, nth, acks) in rows {
        let setting = format!("{}:{nth}", point.name());
        assert_eq!(acks_until(&setting), (acks, true), "{setting}");
    }
}
