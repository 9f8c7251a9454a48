//! Examining damaged databases, and what repair makes of them.

use std::sync::Arc;

use in_mem_model::RunId;
use in_mem_snapshot::snapshot_path;
use in_mem_wal::disk::{CrashMode, Fault, SimRng, SimWorld};
use in_mem_wal::names::segment_path;

use super::checkpoint::{SEED, STRICT, act, open, reopened};
use super::export::{NAME, directory, full, look};
use super::read_only::{at, files_of, make, untidy};
use super::{int, over, world};
use crate::{CheckReport, CompactMode, Database, ExportError, OpenError, RepairError, RepairInfo};

fn check(world: &SimWorld) -> CheckReport {
    over(world, STRICT).check().unwrap()
}

fn repair(world: &SimWorld, target: &SimWorld) -> Result<RepairInfo, RepairError> {
    over(world, STRICT).repair_to(Arc::new(target.clone()), NAME)
}

/// A closed database of several segments behind a snapshot, with an older one beside it, and the
/// database, still readable.
fn several() -> (SimWorld, Database) {
    let world = world();
    let (database, driver) = full(&world);
    drop((database, driver));
    let database = reopened(&world).unwrap();
    let mut rng = SimRng::new(SEED);
    (0..40).for_each(|_| act(&database, &mut rng));
    database.checkpoint().unwrap();
    for number in 0..30 {
        act(&database, &mut rng);
        let value = super::text(&"w".repeat(20_000));
        database
            .default_run()
            .kv()
            .put(format!("w{number}"), &value)
            .unwrap();
    }
    database.shutdown().unwrap();
    (world, database)
}

/// The segments of a world that hold anything, ascending.
fn segments(world: &SimWorld) -> Vec<String> {
    let mut paths = world.paths();
    paths.retain(|path| path.ends_with(".seg"));
    paths
}

#[test]
fn a_sound_database_is_sound_and_what_crashes_leave_is_no_fault() {
    let world = untidy();
    let fingerprint = world.fingerprint();
    let report = check(&world);
    assert!(report.is_sound(), "{:?}", report.faults);
    assert!(!report.notes.is_empty());
    assert_eq!(world.fingerprint(), fingerprint);
    assert_eq!(report.loss, None);
    let database = over(&world, STRICT).read_only().open().unwrap();
    let state = report.state.unwrap();
    assert_eq!(state.digest.sha256, database.digest().unwrap().sha256);
    assert_eq!(state.counts, database.state_counts());
    assert_eq!((report.snapshots.len(), state.snapshot_used), (2, 2));
    let target = super::world();
    let info = repair(&world, &target).unwrap();
    assert_eq!(info.report, report);
    assert!(look(&target, state.digest.sha256, "repaired"));
}

/// One byte changed anywhere is found, named, and costs no more than what stands behind it.
#[test]
fn damage_anywhere_is_named_and_repair_keeps_every_commit_before_it() {
    let (world, database) = several();
    let whole = check(&world);
    assert!(whole.is_sound(), "{:?}", whole.faults);
    let last = whole.state.unwrap().digest.watermark;
    let mut rng = SimRng::new(SEED);
    let (mut lost_count, mut whole_count) = (0, 0);
    let mut paths = world.paths();
    paths.retain(|path| !matches!(path.as_str(), "RESERVE" | "LOCK") && !path.contains("spare"));
    for path in paths {
        let bytes = world.read_file(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        for _ in 0..6 {
            let (offset, mask) = (rng.below(used), 1 << rng.below(8));
            let damaged = world.kill(SEED);
            assert!(damaged.flip_byte(&path, offset, mask));
            let what = format!("{path} at {offset}, mask {mask}");
            let report = check(&damaged);
            let is_named = report.faults.iter().any(|fault| fault.path == path);
            let is_noted = report.notes.iter().any(|note| note.path == path);
            assert!(is_named || is_noted, "{what}: {report:?}");
            let state = report.state.unwrap_or_else(|| panic!("{what}"));
            let kept = database.digest_at(state.digest.watermark).unwrap();
            assert_eq!(kept.sha256, state.digest.sha256, "{what}");
            match &report.loss {
                Some(loss) => {
                    assert_eq!(loss.after_version, state.digest.watermark, "{what}");
                    assert!(loss.last_version <= last, "{what}");
                    lost_count += 1;
                }
                None => whole_count += 1,
            }
            let target = super::world();
            let info = repair(&damaged, &target).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(info.digest.sha256, state.digest.sha256, "{what}");
            let fixed = reopened(&directory(&target, NAME).unwrap()).unwrap();
            assert_eq!(fixed.digest().unwrap().sha256, kept.sha256, "{what}");
            let put = fixed.default_run().kv().put("new", &int(1)).unwrap();
            assert!(last < put, "{what}: version {put} was issued before");
        }
    }
    println!("{lost_count} with loss, {whole_count} without, seed {SEED}");
    assert!(lost_count != 0 && whole_count != 0);
}

#[test]
fn what_is_lost_is_counted_with_its_versions_and_runs() {
    let world = world();
    let (database, driver) = full(&world);
    drop((database, driver));
    let database = reopened(&world).unwrap();
    database.shutdown().unwrap();
    let sound = check(&world);
    let last = sound.state.unwrap().digest.watermark;
    let middle = sound.segments.iter().find(|it| 1 < it.number).unwrap();
    let path = segment_path(middle.number);
    let (first_lost, _) = middle.versions.unwrap();
    let damaged = world.kill(SEED);
    assert!(damaged.flip_byte(&path, 4096 + 100, 1));
    let report = check(&damaged);
    let loss = report.loss.clone().unwrap();
    assert_eq!(
        (loss.after_version, loss.last_version),
        (first_lost - 1, last)
    );
    // All but the one whose bytes changed.
    assert_eq!(loss.record_count, last - first_lost);
    assert_eq!(loss.runs, [RunId::DEFAULT]);
    assert_eq!(report.faults[0].path, path);
    assert!(report.faults[0].offset.is_some());
    let refused = reopened(&damaged).err().unwrap();
    assert!(matches!(refused, OpenError::Scan(_)), "{refused}");
    let gone = world.kill(SEED);
    gone.remove_file(&path);
    let report = check(&gone);
    assert!(
        report.faults.iter().any(|fault| fault.path == path),
        "{report:?}"
    );
    assert_eq!(report.loss.unwrap().after_version, first_lost - 1);
}

#[test]
fn without_manifest_or_with_a_damaged_one_everything_is_still_found() {
    let (world, _) = several();
    let expected = check(&world).state.unwrap().digest.sha256;
    for is_missing in [true, false] {
        let damaged = world.kill(SEED);
        match is_missing {
            true => damaged.remove_file("MANIFEST"),
            false => assert!(damaged.flip_byte("MANIFEST", 10, 1)),
        }
        let report = check(&damaged);
        assert_eq!(report.faults[0].path, "MANIFEST");
        assert_eq!((report.faults.len(), report.loss.is_none()), (1, true));
        let target = super::world();
        repair(&damaged, &target).unwrap();
        assert!(look(&target, expected, "repaired"));
    }
}

#[test]
fn when_no_beginning_is_left_repair_makes_nothing() {
    let world = world();
    let (database, driver) = full(&world);
    drop((database, driver));
    let database = reopened(&world).unwrap();
    database.checkpoint().unwrap();
    database.checkpoint().unwrap();
    database.compact(CompactMode::WALOnly).unwrap();
    drop(database);
    for id in 2..=3 {
        assert!(world.flip_byte(&snapshot_path(id), 100, 1));
    }
    assert!(!segments(&world).contains(&segment_path(1)), "it is gone");
    let report = check(&world);
    assert_eq!(report.state, None, "{report:?}");
    assert!(report.loss.is_some());
    let target = super::world();
    let refused = repair(&world, &target).unwrap_err();
    assert!(matches!(refused, RepairError::Nothing { .. }), "{refused}");
    assert!(target.paths().is_empty());
    let nothing = over(&super::world(), STRICT).check().err().unwrap();
    assert!(matches!(nothing, OpenError::NotFound), "{nothing}");
}

#[test]
fn a_fault_at_every_operation_of_repair_leaves_no_half_made_database() {
    let world = world();
    let database = open(&world);
    let mut rng = SimRng::new(SEED);
    (0..60).for_each(|_| act(&database, &mut rng));
    drop(database);
    let expected = check(&world).state.unwrap().digest.sha256;
    let fingerprint = world.fingerprint();
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::BitRot] {
        for step in 0.. {
            let target = super::world();
            target.fail_at(step, fault);
            let result = repair(&world, &target);
            let is_past = target.op_count() <= step;
            target.clear_faults();
            let what = format!("{fault:?} at {step}");
            let is_there = look(&target, expected, &what);
            assert!(is_there || result.is_err(), "{what}");
            if is_past {
                break;
            }
        }
    }
    for fault in [Fault::Io, Fault::ShortRead] {
        for step in 0.. {
            let (target, source) = (super::world(), world.kill(SEED));
            source.fail_at(source.op_count() + step, fault);
            let at = source.op_count() + step;
            let result = repair(&source, &target);
            source.clear_faults();
            assert_eq!(source.fingerprint(), fingerprint);
            let what = format!("{fault:?} at {step} of the source");
            assert_eq!(look(&target, expected, &what), result.is_ok(), "{what}");
            if source.op_count() <= at {
                break;
            }
        }
    }
    let target = super::world();
    target.record_moments();
    repair(&world, &target).unwrap();
    for moment in target.take_moments() {
        let image = moment.world.crash(rng.next_u64(), CrashMode::Subset);
        look(&image, expected, &format!("operation {}", moment.op_index));
    }
}

#[test]
fn a_database_in_a_directory_is_checked_and_repaired_beside_it_and_never_in_place() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, fixed) = (
        scratch.path().join("a.inmem"),
        scratch.path().join("b.inmem"),
    );
    let digest = make(&path);
    let before = files_of(&path);
    let report = at(&path).check().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    let info = at(&path).repair(&fixed).unwrap();
    assert_eq!(
        (info.digest.sha256, info.path.as_path()),
        (digest, fixed.as_path())
    );
    let refused = at(&path).repair(&fixed).unwrap_err();
    let RepairError::Write(ExportError::Exists { .. }) = refused else {
        panic!("{refused}")
    };
    let refused = at(&path).repair(&path).unwrap_err();
    assert!(
        matches!(refused, RepairError::Write(ExportError::Exists { .. })),
        "{refused}"
    );
    assert_eq!(files_of(&path), before);
    let database = at(&path).open_existing().unwrap();
    let locked = at(&path).check().err().unwrap();
    assert!(matches!(locked, OpenError::DatabaseLocked), "{locked}");
    let repaired = at(&fixed).open_existing().unwrap();
    assert_eq!(repaired.digest().unwrap().sha256, digest);
    assert_eq!(repaired.uuid(), database.uuid());
}
