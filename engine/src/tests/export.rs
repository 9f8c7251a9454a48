//! Clones made while others read and write, and what faults leave of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use in_mem_wal::clock::SimClock;
use in_mem_wal::disk::{CrashMode, Fault, FaultRule, OpKind, SimOptions, SimRng, SimWorld};
use parking_lot::Mutex;

use super::checkpoint::{SEED, STRICT, act, open, reopened};
use super::read_only::at;
use super::{drive, in_memory, int, over, text, world};
use crate::{CheckpointError, CompactMode, Database, Driver, ExportError, ExportInfo};

pub(super) const NAME: &str = "clone.inmem";

type Told = Arc<Mutex<Option<Result<ExportInfo, ExportError>>>>;

/// A directory of a world as a world of its own, if it is there.
pub(super) fn directory(world: &SimWorld, name: &str) -> Option<SimWorld> {
    let alone = SimWorld::new(SimOptions::new(SEED));
    let prefix = format!("{name}/");
    let mut is_there = false;
    for path in world.paths() {
        if let Some(rest) = path.strip_prefix(&prefix) {
            alone.write_file(rest, &world.read_file(&path).unwrap());
            is_there = true;
        }
    }
    // A listing knows files only, and one that holds none is made by opening.
    for empty in ["WAL", "SNAPSHOTS"] {
        let path = format!("{empty}/none");
        alone.write_file(&path, b"");
        alone.remove_file(&path);
    }
    is_there.then_some(alone)
}

fn ask(database: &Database, target: &SimWorld) -> Result<Told, ExportError> {
    let told = Told::default();
    let teller = Arc::clone(&told);
    let done = Box::new(move |result| *teller.lock() = Some(result));
    database.start_export_to(Arc::new(target.clone()), NAME, done)?;
    Ok(told)
}

/// Exports from a database that is driven here.
fn export(
    database: &Database,
    driver: &mut Driver,
    target: &SimWorld,
) -> Result<ExportInfo, ExportError> {
    let told = ask(database, target)?;
    loop {
        while driver.drive_background() {}
        drive(driver);
        if let Some(result) = told.lock().take() {
            return result;
        }
    }
}

/// Exports from a database with threads of its own.
fn export_and_wait(database: &Database, target: &SimWorld) -> Result<ExportInfo, ExportError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    database.start_export_to(Arc::new(target.clone()), NAME, done)?;
    receiver.recv().unwrap()
}

#[test]
fn a_clone_made_while_others_write_is_the_state_at_its_watermark() {
    let world = world();
    let database = open(&world);
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = {
        let (database, is_over) = (database.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut rng = SimRng::new(SEED);
            while !is_over.load(Ordering::Relaxed) {
                act(&database, &mut rng);
            }
        })
    };
    let mut clones = Vec::new();
    for round in 0..5 {
        // The writer goes on; it may not have begun yet.
        let begun = database.version();
        while database.version() < begun + 20 {
            thread::yield_now();
        }
        let before = database.version();
        let target = super::world();
        let info = export_and_wait(&database, &target).unwrap();
        assert!(before <= info.watermark_txn + 200, "it is behind");
        clones.push((info, target));
        if round % 2 == 0 {
            database.checkpoint().unwrap();
            database.compact(CompactMode::WALOnly).unwrap();
        }
    }
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(clones[0].0.checkpoint_watermark, 0);
    assert_ne!(clones[4].0.checkpoint_watermark, 0);
    for (info, target) in clones {
        let live = database.digest_at(info.watermark_txn).unwrap();
        let alone = directory(&target, NAME).unwrap();
        let bytes: usize = alone
            .paths()
            .iter()
            .map(|path| alone.read_file(path).unwrap().len())
            .sum();
        assert_eq!(bytes as u64, info.size_bytes);
        let clone = reopened(&alone).unwrap();
        assert_eq!(info.digest, live, "it is told what is inside");
        assert_eq!(clone.digest().unwrap().sha256, live.sha256, "{info:?}");
        assert_eq!(clone.uuid(), database.uuid());
        assert!(info.watermark_txn < clone.version(), "no version repeats");
        clone.default_run().kv().put("own", &int(1)).unwrap();
    }
}

#[test]
fn a_clone_of_a_resting_database_has_its_answers_to_repeats_too() {
    for checkpoints in 0..3 {
        let world = world();
        let database = open(&world);
        let mut rng = SimRng::new(SEED + checkpoints);
        let mut act_often = || (0..60).for_each(|_| act(&database, &mut rng));
        for _ in 0..checkpoints {
            act_often();
            database.checkpoint().unwrap();
        }
        if checkpoints == 1 {
            act_often();
        }
        // Volatile versions are in the state that is compared here, and in no clone.
        drop(database);
        let database = reopened(&world).unwrap();
        let target = super::world();
        export_and_wait(&database, &target).unwrap();
        let clone = reopened(&directory(&target, NAME).unwrap()).unwrap();
        assert_eq!(clone.state_digest(), database.state_digest());
    }
}

/// A driven database whose log does nothing because time goes by.
fn resting(world: &SimWorld) -> (Database, Driver) {
    let builder = over(world, STRICT).clock(Arc::new(SimClock::new()));
    let database = builder.manual().open().unwrap();
    let mut driver = database.take_driver().unwrap().unwrap();
    while driver.drive_background() {}
    (database, driver)
}

/// A database with a snapshot, several segments behind it, and its driver.
pub(super) fn full(world: &SimWorld) -> (Database, Driver) {
    let (database, mut driver) = resting(world);
    let run = database.default_run();
    let collector = Arc::new(super::Collector::default());
    let put = |driver: &mut Driver, count: u64| {
        for number in 0..count {
            let key = format!("k{}", number % 5);
            let value = text(&"v".repeat(20_000));
            let step = crate::Step::Put {
                key: key.as_bytes(),
                value: value.as_ref(),
            };
            let program = crate::Program {
                checks: &[],
                steps: &[step],
            };
            let completion = collector.completion(number);
            let options = crate::CommitOptions::default();
            let _ = run.submit_as(&program, options, None, &completion);
            drive(driver);
            while driver.drive_background() {}
        }
    };
    put(&mut driver, 5);
    database.start_checkpoint(Box::new(drop)).unwrap();
    while driver.drive_background() {}
    drive(&mut driver);
    while driver.drive_background() {}
    put(&mut driver, 20);
    (database, driver)
}

/// Under its name there is nothing, or all of it.
pub(super) fn look(target: &SimWorld, expected: [u8; 32], what: &str) -> bool {
    let Some(alone) = directory(target, NAME) else {
        return false;
    };
    let clone = reopened(&alone).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(clone.digest().unwrap().sha256, expected, "{what}");
    true
}

#[test]
fn a_fault_at_every_operation_leaves_the_source_whole_and_no_half_made_clone() {
    let world = world();
    let (database, mut driver) = full(&world);
    let expected = database.digest().unwrap().sha256;
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::BitRot] {
        for is_target in [true, false] {
            let mut failed_count = 0;
            for step in 0.. {
                let target = super::world();
                let failing = if is_target { &target } else { &world };
                let at = failing.op_count() + step;
                failing.fail_at(at, fault);
                let result = export(&database, &mut driver, &target);
                let is_past = failing.op_count() <= at;
                failing.clear_faults();
                let what = format!("{fault:?} at {step} of the target {is_target}");
                let is_there = look(&target, expected, &what);
                if result.is_ok() {
                    assert!(is_there, "{what}");
                }
                failed_count += u64::from(result.is_err());
                if let Err(ExportError::NoSpace { .. }) = &result {
                    assert_eq!(fault, Fault::NoSpace, "{what}");
                }
                assert!(!database.is_poisoned(), "{what}");
                if is_past {
                    break;
                }
            }
            println!("{fault:?}, target {is_target}: {failed_count} failed");
        }
    }
    assert_eq!(database.digest().unwrap().sha256, expected);
    drop((database, driver));
    assert_eq!(reopened(&world).unwrap().digest().unwrap().sha256, expected);
}

#[test]
fn a_power_loss_at_every_operation_leaves_all_of_the_clone_or_nothing_under_its_name() {
    let world = world();
    let (database, mut driver) = full(&world);
    let expected = database.digest().unwrap().sha256;
    let (target, mut rng, mut whole_count) = (super::world(), SimRng::new(SEED), 0);
    target.record_moments();
    export(&database, &mut driver, &target).unwrap();
    let after = target.crash(SEED, CrashMode::Subset);
    assert!(look(&after, expected, "it was answered"));
    let moments = target.take_moments();
    let count = moments.len();
    for moment in moments {
        for mode in [CrashMode::Prefix, CrashMode::Subset] {
            let image = moment.world.crash(rng.next_u64(), mode);
            let what = format!("operation {}, {mode:?}", moment.op_index);
            whole_count += u64::from(look(&image, expected, &what));
        }
    }
    println!("{count} moments, {whole_count} clones, seed {SEED}");
}

#[test]
fn an_export_that_cannot_be_made_says_why_and_leaves_nothing() {
    let world = world();
    let (database, mut driver) = full(&world);
    let target = super::world();
    target.write_file(&format!("{NAME}/theirs"), b"kept");
    let refused = export(&database, &mut driver, &target).unwrap_err();
    assert!(matches!(refused, ExportError::Exists { .. }), "{refused}");
    assert_eq!(target.paths(), [format!("{NAME}/theirs")]);
    let target = super::world();
    target.set_capacity(Some(100_000));
    let refused = export(&database, &mut driver, &target).unwrap_err();
    assert!(matches!(refused, ExportError::NoSpace { .. }), "{refused}");
    assert!(target.paths().is_empty(), "{:?}", target.paths());
    target.set_capacity(None);
    // What is damaged is not copied.
    world.add_rule(FaultRule::new(Fault::BitRot).on(OpKind::Read).under("WAL"));
    let refused = export(&database, &mut driver, &target).unwrap_err();
    assert!(
        matches!(
            refused,
            ExportError::NotWhole { .. } | ExportError::Io { .. }
        ),
        "{refused}"
    );
    assert!(target.paths().is_empty(), "{:?}", target.paths());
    world.clear_faults();
    let told = ask(&database, &target).unwrap();
    let busy = database.start_checkpoint(Box::new(|_| panic!("refused")));
    assert!(matches!(busy, Err(CheckpointError::AlreadyInProgress)));
    assert!(matches!(
        ask(&database, &target),
        Err(ExportError::AlreadyInProgress)
    ));
    database.shutdown().unwrap();
    drop((database, driver));
    drop(told);
    assert!(target.paths().is_empty());
    let refused = ask(&in_memory(), &target).unwrap_err();
    assert!(
        matches!(refused, ExportError::Refused(CheckpointError::NoLog)),
        "{refused}"
    );
    let reader = over(&world, STRICT).read_only().open().unwrap();
    let refused = ask(&reader, &target).unwrap_err();
    assert!(
        matches!(refused, ExportError::Refused(CheckpointError::ReadOnly)),
        "{refused}"
    );
}

#[test]
fn a_database_in_a_directory_is_exported_beside_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, clone) = (
        scratch.path().join("a.inmem"),
        scratch.path().join("b.inmem"),
    );
    let database = at(&path).create().unwrap();
    let mut rng = SimRng::new(SEED);
    (0..100).for_each(|_| act(&database, &mut rng));
    let info = database.export(&clone).unwrap();
    let digest = database.digest().unwrap();
    assert_eq!(
        (info.path.as_path(), info.checkpoint_watermark),
        (clone.as_path(), 0)
    );
    let again = database.export(&clone).unwrap_err();
    assert!(matches!(again, ExportError::Exists { .. }), "{again}");
    database.checkpoint().unwrap();
    let second = scratch.path().join("c.inmem");
    assert_ne!(database.export(&second).unwrap().checkpoint_watermark, 0);
    for path in [clone, second] {
        let read = at(&path).read_only().open().unwrap();
        assert_eq!(read.digest().unwrap().sha256, digest.sha256);
        drop(read);
        let clone = at(&path).open_existing().unwrap();
        assert_eq!(clone.digest().unwrap().sha256, digest.sha256);
    }
    let absent = database
        .export(scratch.path().join("absent/b.inmem"))
        .unwrap_err();
    assert!(matches!(absent, ExportError::Directory(_)), "{absent}");
    let names = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(names, 3, "nothing partial is left");
}
