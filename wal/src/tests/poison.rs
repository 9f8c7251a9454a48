//! The first write, sync or rotation error ends the log, seen from every entry.

use std::sync::Arc;

use crate::codec::IdentityCodec;
use crate::disk::{Fault, FaultRule, OpKind, SimOptions, SimWorld};
use crate::handle::{AppendError, FlushError, ReserveError};
use crate::harness::{Harness, check, promised, recover, sound};
use crate::sink::{LogStatus, Need, Stage};
use crate::writer::Turn;

fn open() -> Harness {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(42)), &sound()).unwrap();
    harness.prepare();
    harness
}

fn poison_by(fault: Fault, kind: OpKind, path: &str, need: Need) -> Harness {
    let mut harness = open();
    harness.append(50, Need::Synced).unwrap();
    harness.settle_down();
    harness
        .world
        .add_rule(FaultRule::new(fault).on(kind).under(path));
    for _ in 0..40 {
        let _ = harness.append(900, need);
        harness.now_us += 200_000;
        harness.settle_down();
    }
    harness
}

fn stage(harness: &Harness) -> Stage {
    match harness.handle.status() {
        LogStatus::Poisoned(cause) => cause.stage,
        other => panic!("not poisoned: {other:?}"),
    }
}

#[test]
fn every_failing_step_poisons_and_names_its_stage() {
    let rows = [
        (
            Fault::Io,
            OpKind::WriteSynced,
            "WAL/wal-",
            Need::Synced,
            Stage::Write,
        ),
        (
            Fault::NoSpace,
            OpKind::WriteSynced,
            "WAL/wal-",
            Need::Synced,
            Stage::Write,
        ),
        (
            Fault::Interrupted,
            OpKind::WriteSynced,
            "WAL/wal-",
            Need::Synced,
            Stage::Write,
        ),
        (
            Fault::Io,
            OpKind::Write,
            "WAL/wal-",
            Need::Written,
            Stage::Write,
        ),
        (
            Fault::Io,
            OpKind::Sync,
            "WAL/wal-",
            Need::Written,
            Stage::Sync,
        ),
        (
            Fault::WritebackError,
            OpKind::Write,
            "WAL/wal-",
            Need::Written,
            Stage::Sync,
        ),
        (
            Fault::Io,
            OpKind::Rename,
            "WAL/",
            Need::Synced,
            Stage::RotateRename,
        ),
        (
            Fault::Io,
            OpKind::SyncDir,
            "WAL",
            Need::Synced,
            Stage::RotateSyncDir,
        ),
    ];
    for (fault, kind, path, need, expected) in rows {
        let harness = poison_by(fault, kind, path, need);
        assert_eq!(stage(&harness), expected, "{fault:?} of {kind:?}");
    }
}

#[test]
fn after_poisoning_every_entry_fails_and_nothing_more_is_written() {
    let mut harness = poison_by(Fault::Io, OpKind::WriteSynced, "WAL/wal-", Need::Synced);
    harness.world.clear_faults();
    let before = harness.world.op_count();
    assert_eq!(
        harness.handle.reserve(10).err(),
        Some(ReserveError::Poisoned)
    );
    assert_eq!(harness.handle.appender().err(), Some(AppendError::Poisoned));
    assert_eq!(
        harness.append(10, Need::Synced),
        Err(ReserveError::Poisoned)
    );
    assert_eq!(
        harness.handle.reserve_wait(60_000).err(),
        Some(ReserveError::Poisoned)
    );
    assert_eq!(harness.writer.turn(u64::MAX / 2), Turn::Poisoned);
    harness.handle.set_version_floor(u64::MAX);
    harness.handle.close(1);
    assert_eq!(harness.writer.turn(u64::MAX / 2), Turn::Poisoned);
    assert!(matches!(harness.handle.status(), LogStatus::Poisoned(_)));
    assert_eq!(harness.world.op_count(), before, "nothing more is written");
}

#[test]
fn every_token_comes_back_exactly_once() {
    let mut harness = open();
    let mut appended = Vec::new();
    for round in 0..6 {
        for _ in 0..5 {
            appended.push(harness.append(50, Need::Synced).unwrap());
        }
        if round == 3 {
            harness
                .world
                .add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
        }
        harness.writer.turn(0);
        if harness.is_poisoned() {
            break;
        }
    }
    let history = harness.history.lock().clone();
    let mut back: Vec<u64> = history
        .promises
        .iter()
        .map(|promise| promise.txn_id)
        .collect();
    assert_eq!(back.len(), 15, "three batches were durable");
    back.extend(&history.failed);
    assert_eq!(back, appended);
    assert!(history.violations.is_empty());
}

#[test]
fn a_flush_that_waits_fails_with_the_cause() {
    let mut harness = open();
    harness.append(50, Need::Written).unwrap();
    let ticket = harness.handle.flush_start();
    harness
        .world
        .add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
    harness.settle_down();
    let Err(FlushError::Poisoned(cause)) = harness.handle.flush_poll(ticket) else {
        panic!("the flush did not happen")
    };
    assert_eq!(cause.stage, Stage::Sync);
    assert_eq!(
        cause.source.raw_os_error(),
        Some(rustix::io::Errno::IO.raw_os_error())
    );
    assert!(harness.handle.flush_wait(ticket).is_err());
}

#[test]
fn reopening_after_poison_gives_a_consistent_prefix_and_goes_on() {
    for (kind, need) in [
        (OpKind::WriteSynced, Need::Synced),
        (OpKind::Sync, Need::Written),
    ] {
        let harness = poison_by(Fault::Io, kind, "WAL/wal-", need);
        harness.world.clear_faults();
        let history = harness.history.lock().clone();
        let (mut again, recovered) =
            Harness::open(&harness.world.kill(7), &sound(), history.clone()).unwrap();
        check(
            &history,
            &recovered,
            promised(&history, Need::Synced, u64::MAX),
        )
        .unwrap();
        again.prepare();
        again.append(10, Need::Synced).unwrap();
        again.settle_down();
        let expected = recovered.records.len() + 1;
        assert_eq!(
            recover(&again.world, &sound()).unwrap().0.records.len(),
            expected
        );
    }
}

/// Notes what it is told, in order.
struct Told(Arc<parking_lot::Mutex<Vec<&'static str>>>);

impl crate::sink::Sink<u64> for Told {
    fn reached(&mut self, _token: u64, _end_lsn: crate::lsn::Lsn) {}

    fn space_freed(&mut self) {
        self.0.lock().push("room");
    }

    fn poisoned(&mut self, _cause: &crate::sink::PoisonCause) {
        self.0.lock().push("poisoned");
    }

    fn failed(&mut self, _token: u64) {
        self.0.lock().push("failed");
    }
}

/// What was lost: room was announced just before a log became poisoned; whoever was refused again in
/// between, as busy, waited for an announcement that never came.
#[test]
fn whoever_waits_for_room_in_a_log_that_fails_is_told_to_look_again() {
    let world = SimWorld::new(SimOptions::new(1));
    crate::recover::create_log(&mut world.disk(), crate::harness::UUID).unwrap();
    let (_, settled) = recover(&world, &sound()).unwrap();
    let codec = Arc::new(IdentityCodec);
    let (handle, seed) = crate::writer::start::<u64>(sound(), codec, &settled).unwrap();
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let disk = Box::new(world.disk());
    let mut writer = seed.open(disk, Told(Arc::clone(&told))).unwrap();
    let reservation = handle.reserve(20).unwrap();
    let append = crate::handle::Append {
        txn_id: 1 << 50,
        run_id: [0; 16],
        timestamp_us: 0,
        writeset: vec![1; 20],
        need: Need::Synced,
        token: 1,
    };
    handle.appender().unwrap().append(reservation, append);
    for kind in [OpKind::Write, OpKind::WriteSynced, OpKind::Sync] {
        world.add_rule(FaultRule::new(Fault::Io).on(kind));
    }
    let has_failed = (0..10).any(|_| writer.turn(0) == crate::writer::Turn::Poisoned);
    assert!(has_failed);
    assert_eq!(*told.lock(), ["poisoned", "failed", "room"]);
}
