//! Invariants of recovery and storage on a simulated disk, each under its number.

use std::collections::BTreeMap;

use in_mem_client::check::{Checker, Survival};
use in_mem_wal::disk::{CrashMode, SimOptions, SimRng, SimWorld};

use super::data_set::{DataSet, MANIFEST, Opened, options};
use super::engine::{Engine, check_image, dump, history_at, open_to_look};
use super::scale::start_seed;

fn files(world: &SimWorld) -> BTreeMap<String, Vec<u8>> {
    let paths = world.paths().into_iter().filter(|path| path != "LOCK");
    paths
        .map(|path| (path.clone(), world.read_file(&path).expect("listed")))
        .collect()
}

/// R1.
#[test]
fn recovery_invariant_r1_two_copies_of_the_files_recover_to_one_state() {
    for is_closed in [false, true] {
        let set = DataSet::new(start_seed(), is_closed);
        let digests: Vec<u64> = (0..2)
            .map(|_| {
                open_to_look(&set.copy(), &options())
                    .expect("whole")
                    .state_digest()
            })
            .collect();
        assert_eq!(digests[0], digests[1]);
    }
}

/// R2: the files too, but for the last segment, whose marks raise the floor and close the log.
#[test]
fn recovery_invariant_r2_recovering_again_and_again_changes_neither_state_nor_files() {
    let set = DataSet::new(start_seed(), false);
    let copy = set.copy();
    let digest = open_to_look(&copy, &options())
        .expect("whole")
        .state_digest();
    let first = files(&copy);
    let last = set.segments.last().expect("segments");
    for _ in 0..5 {
        let database = open_to_look(&copy, &options()).expect("whole");
        assert_eq!(database.state_digest(), digest);
        drop(database);
        let again = files(&copy);
        assert_eq!(
            first.keys().collect::<Vec<_>>(),
            again.keys().collect::<Vec<_>>()
        );
        for (path, bytes) in &first {
            assert!(path == last || again[path] == *bytes, "{path} changed");
        }
    }
}

/// R4.
#[test]
fn recovery_invariant_r4_an_empty_log_gives_an_empty_state() {
    let world = SimWorld::new(SimOptions::new(start_seed()));
    for _ in 0..3 {
        let database = open_to_look(&world, &options()).expect("created, then opened");
        assert!(dump(&database).runs.is_empty());
    }
}

/// RS5.
#[test]
fn recovery_invariant_rs5_the_last_record_cut_anywhere_recovers_to_the_one_before() {
    let set = DataSet::new(start_seed(), false);
    let last = set.segments.last().expect("segments");
    let end = set.end_of(last);
    for cut in 1..200 {
        let copy = set.copy();
        copy.truncate(last, (end - cut) as u64);
        let Opened::State(count) = set.open(&copy, &|| format!("cut by {cut}")) else {
            panic!("cut by {cut}: refused");
        };
        assert!(
            count < set.commit_count,
            "cut by {cut}: the last commit is still there"
        );
        assert!(
            set.commit_count - count <= 2,
            "cut by {cut}: {count} of {}",
            set.commit_count
        );
    }
}

/// S1 and S2: what is written stays as it is, through commits, rotations and recoveries.
#[test]
fn storage_invariant_s1_bytes_of_the_log_never_change_once_written() {
    let mut world = SimWorld::new(SimOptions::new(start_seed()));
    let mut rng = SimRng::new(start_seed());
    let mut written: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for round in 0..4_u64 {
        let mut engine = Engine::open(&world, options(), round * 1_000).expect("whole");
        for _ in 0..40 {
            engine.commit_one(&mut rng);
            for (path, bytes) in files(&world) {
                if !path.starts_with("WAL/wal-") {
                    continue;
                }
                let end = bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1);
                let before = written.insert(path.clone(), bytes[..end].to_vec());
                let before = before.unwrap_or_default();
                let kept = bytes.get(..before.len());
                assert_eq!(
                    kept,
                    Some(before.as_slice()),
                    "round {round}: {path} changed"
                );
            }
        }
        drop(engine);
        world = world.kill(round);
        // The rewritten tail keeps the records; its marks state another floor.
        let last = written.keys().next_back().cloned();
        last.and_then(|last| written.remove(&last));
    }
}

/// S3 for the whole path: a segment's file under another number is not taken.
#[test]
fn storage_invariant_a_segment_is_bound_to_its_number_and_its_database() {
    let set = DataSet::new(start_seed(), true);
    let other = DataSet::new(start_seed() + 1, true);
    let (first, second) = (&set.segments[0], &set.segments[1]);
    for (target, bytes) in [
        (first, set.read_file(second)),
        (second, set.read_file(first)),
        (second, other.read_file(&other.segments[1])),
    ] {
        let copy = set.copy();
        copy.write_file(target, &bytes);
        let opened = set.open(&copy, &|| format!("{target} exchanged"));
        assert!(matches!(opened, Opened::Refused(_)), "{target}: {opened:?}");
    }
}

/// S7: whatever a crash leaves of MANIFEST and its successor, one of them opens.
#[test]
fn storage_invariant_s7_a_half_written_successor_of_the_manifest_is_ignored() {
    let set = DataSet::new(start_seed(), true);
    let manifest = set.read_file(MANIFEST);
    for len in 0..=manifest.len() {
        let copy = set.copy();
        copy.write_file("MANIFEST.new", &manifest[..len]);
        let opened = set.open(&copy, &|| format!("MANIFEST.new of {len} bytes"));
        assert!(
            matches!(opened, Opened::State(count) if count == set.commit_count),
            "{opened:?}"
        );
    }
}

/// Left-overs of preparation, of the tail rewrite and of quarantine do no harm.
#[test]
fn recovery_invariant_left_over_temporary_files_are_cleared_away() {
    let set = DataSet::new(start_seed(), false);
    let last = set.segments.last().expect("segments");
    let names = ["WAL/spare-7.tmp", "WAL/rewrite.tmp", "WAL/wal-000009.tmp"];
    for bytes in [Vec::new(), vec![0; 5_000], set.read_file(last)] {
        let copy = set.copy();
        for name in names {
            copy.write_file(name, &bytes);
        }
        let opened = set.open(&copy, &|| "left-over files".to_owned());
        assert!(
            matches!(opened, Opened::State(count) if count == set.commit_count),
            "{opened:?}"
        );
        let left: Vec<String> = copy
            .paths()
            .into_iter()
            .filter(|path| path.ends_with(".tmp"))
            .collect();
        assert!(
            left.iter().all(|path| path.starts_with("WAL/spare-")),
            "{left:?}"
        );
    }
}

/// A torn tail is kept aside before it goes.
#[test]
fn recovery_invariant_what_follows_the_end_of_the_log_goes_to_quarantine() {
    let set = DataSet::new(start_seed(), false);
    let last = set.segments.last().expect("segments");
    let end = set.end_of(last).next_multiple_of(512);
    let mut bytes = set.read_file(last);
    bytes[end..end + 100].fill(0x5A);
    let copy = set.copy();
    copy.write_file(last, &bytes);
    let opened = set.open(&copy, &|| "garbage behind the end".to_owned());
    assert!(
        matches!(opened, Opened::State(count) if count == set.commit_count),
        "{opened:?}"
    );
    let kept = copy
        .paths()
        .into_iter()
        .find(|path| path.starts_with("QUARANTINE/"));
    let kept = copy
        .read_file(&kept.expect("a quarantine file"))
        .expect("it can be read");
    assert!(
        kept.starts_with(&[0x5A; 100]),
        "the dropped bytes are in it"
    );
}

/// RS1, RS2 over a few lives; the simulation target does this half a million times.
#[test]
fn recovery_invariant_rs2_every_strict_commit_survives_every_moment_in_commit_order() {
    let world = SimWorld::new(SimOptions::new(start_seed()));
    world.record_moments();
    let mut rng = SimRng::new(start_seed());
    let mut engine = Engine::open(&world, options(), 0).expect("no fault");
    engine.act(&mut rng, 80);
    for moment in world.take_moments() {
        let history = history_at(&engine.notes, moment.op_index);
        let survival = Survival::Restart {
            buffered_acked_before_ns: 0,
        };
        let after = moment.world.crash(moment.op_index, CrashMode::Subset);
        let line = || format!("op {}", moment.op_index);
        check_image(
            &after,
            &options(),
            &Checker::new(),
            &history,
            survival,
            &line,
        );
    }
}
