//! Crashes exactly at the points compiled into log, MANIFEST and commit path: the daemon aborts
//! there by itself, is started again, and loses nothing.

use std::time::Duration;

use in_mem_client::check::{History, Mode};
use in_mem_wal::disk::SimRng;
use in_mem_wal::faults::Point;
use rustix::process::Signal;

use crate::kill::daemon::{DEADLINE, Daemon, Place, wait_readable};
use crate::kill::watch::Watch;
use crate::life::{Life, Manner, SEGMENT_LEN_BYTES, ended_by, wait_abort};
use crate::scale::{scaled, start_seed};

/// How often a point is passed before the crash, in turn.
const PASSES: [u64; 3] = [1, 2, 7];

/// Every point of the log, of MANIFEST and of the commit path, by its name.
fn names() -> Vec<String> {
    let of_log = Point::ALL.iter().map(|point| point.name());
    of_log
        .chain(
            in_mem_engine::faults::Point::ALL
                .iter()
                .map(|point| point.name()),
        )
        .collect()
}

/// Each point, after each number of passes, in a life with overrides.
pub fn every_point_loses_nothing() {
    let seed = start_seed();
    println!(
        "{:<40} {:>7} {:>8} {:>8} {:>8}",
        "point", "crashes", "acked", "unknown", "of it in"
    );
    for (index, name) in names().iter().enumerate() {
        let mode = [Mode::Strict, Mode::Buffered][index % 2];
        let (mut life, daemon) = Life::begin(Manner::new(mode, 4), seed + index as u64);
        let mut daemon = Some(daemon);
        let (mut crash_count, mut sums) = (0, [0; 3]);
        let pass_count = usize::try_from(scaled(1, 3, 3)).unwrap();
        for passes in PASSES.iter().take(pass_count) {
            let before = daemon.take().expect("left running by the round before");
            let (after, is_met) = crash_at(&mut life, before, name, *passes, &mut sums);
            daemon = Some(after);
            crash_count += u64::from(is_met);
        }
        println!(
            "{name:<40} {crash_count:>7} {:>8} {:>8} {:>8}",
            sums[0], sums[1], sums[2]
        );
        assert_ne!(crash_count, 0, "{name} was never reached");
    }
}

/// Ends a daemon so that the next one can meet the point, lets that one crash there, and gives the
/// one after it, verified; whether the point was met.
fn crash_at(
    life: &mut Life,
    before: Daemon,
    name: &str,
    passes: u64,
    sums: &mut [usize; 3],
) -> (Daemon, bool) {
    let is_of_recovery = name.starts_with("Recovery");
    if is_of_recovery && 1 < passes {
        // A recovery passes each of its points once.
        return (before, false);
    }
    let mut history = prepare(life, before, name);
    if !is_of_recovery {
        // The armed daemon may be gone before it can be looked at.
        let plain = Daemon::start(&life.place);
        add(sums, life, &history);
        plain.kill();
        history = life.take_history();
    }
    let mut armed = Daemon::spawn(&life.place, Some(&format!("{name}:{passes}")));
    if armed.wait_ready(DEADLINE) {
        assert!(!is_of_recovery, "{name} was not reached by recovery");
        life.crew.go(&life.place.socket());
    }
    let is_met = wait_abort(&mut armed, DEADLINE);
    if !is_of_recovery {
        history = life.take_history();
    }
    let next = Daemon::start(&life.place);
    add(sums, life, &history);
    (next, is_met)
}

/// Ends a daemon under load: by SIGKILL, or so that it leaves an empty newest segment behind where
/// only that leads to the point.
fn prepare(life: &mut Life, before: Daemon, name: &str) -> History {
    if !name.ends_with("Remove") {
        life.work(50);
        if name.ends_with("AfterSnapshot") {
            wait_for_snapshot(&life.place, &before);
        }
        before.kill();
        return life.take_history();
    }
    before.kill();
    let point = Point::DuringSegmentRotationAfterSyncDir.name();
    let mut rotating = Daemon::spawn(&life.place, Some(&point));
    assert!(rotating.wait_ready(DEADLINE), "{}", life.place.log_tail());
    life.crew.go(&life.place.socket());
    assert!(wait_abort(&mut rotating, DEADLINE), "the log rotates");
    life.take_history()
}

/// Waits, under load, until MANIFEST names a snapshot.
fn wait_for_snapshot(place: &Place, daemon: &Daemon) {
    let mut watch = Watch::new(&place.data_dir().join("SNAPSHOTS")).expect("it is there");
    // When the next one gets its name, the one before has been named.
    for _ in 0..2 {
        let is_one = |name: &str| name.starts_with("snap-") && name.ends_with(".chk");
        assert!(
            watch.wait(is_one, daemon.end(), DEADLINE),
            "{}",
            place.log_tail()
        );
    }
}

fn add(sums: &mut [usize; 3], life: &mut Life, history: &History) {
    let summary = life.verify(history).summary;
    sums[0] += summary.acked_count;
    sums[1] += summary.unknown_count;
    sums[2] += summary.unknown_found_count;
}

/// What the one request in flight must have come to after a crash at a point; nothing where both
/// are right.
const MATRIX: [(&str, Option<bool>); 6] = [
    ("BeforeWalWrite", Some(false)),
    ("AfterWalWriteBeforeFsync", None),
    ("AfterFsync", Some(true)),
    ("CommitValidated", Some(false)),
    ("CommitHandedOff", None),
    ("CommitInstalled", None),
];

/// One client, one Strict put at a time: what is recovered of it is decided by the point.
pub fn one_client_by_the_matrix() {
    let manner = Manner {
        depth: 1,
        client_count: 1,
        only_puts: true,
        ..Manner::new(Mode::Strict, 0)
    };
    let mut rng = SimRng::new(start_seed());
    let (mut life, daemon) = Life::begin(manner, start_seed());
    daemon.kill();
    for (name, is_kept) in MATRIX {
        let mut found_count = 0;
        let round_count = scaled(1, 5, 50);
        for _ in 0..round_count {
            let point = format!("{name}:{}", 20 + rng.below(40));
            let mut armed = Daemon::spawn(&life.place, Some(&point));
            assert!(armed.wait_ready(DEADLINE), "{}", life.place.log_tail());
            life.crew.go(&life.place.socket());
            assert!(wait_abort(&mut armed, DEADLINE), "{point} is reached");
            let history = life.take_history();
            let next = Daemon::start(&life.place);
            let summary = life.verify(&history).summary;
            assert_eq!(
                summary.unknown_count, 1,
                "one request was in flight at {point}"
            );
            if let Some(is_kept) = is_kept {
                let found = summary.unknown_found_count == 1;
                assert_eq!(
                    found, is_kept,
                    "{point}: whether the request in flight is there"
                );
            }
            found_count += summary.unknown_found_count;
            next.kill();
        }
        println!(
            "{name:<40} {round_count} crashes, the request in flight kept {found_count} times"
        );
    }
}

/// A directory whose creation was cut off is no database yet, or a whole one.
pub fn creation_can_be_repeated() {
    let points = names()
        .into_iter()
        .filter(|name| name.starts_with("DuringManifestUpdate"));
    for point in points {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), Mode::Strict, SEGMENT_LEN_BYTES);
        let mut armed = Daemon::spawn(&place, Some(&format!("{point}:1")));
        assert!(
            !armed.wait_ready(DEADLINE),
            "{point} is reached by creation"
        );
        assert!(wait_abort(&mut armed, DEADLINE));
        let exists = place.data_dir().join("MANIFEST").exists();
        assert_eq!(exists, point.ends_with("AfterRename"), "{point}");
        live_on(place, dir);
    }
    let mut rng = SimRng::new(start_seed());
    for _ in 0..scaled(3, 20, 1_000) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), Mode::Strict, SEGMENT_LEN_BYTES);
        let daemon = Daemon::spawn(&place, None);
        let moment = Duration::from_micros(rng.below(20_000));
        wait_readable(&[daemon.end()], std::time::Instant::now() + moment);
        assert!(
            ended_by(daemon.kill(), Signal::KILL),
            "creation does not fail"
        );
        live_on(place, dir);
    }
}

/// A new life works in the directory and survives a kill.
fn live_on(place: Place, dir: tempfile::TempDir) {
    let manner = Manner {
        client_count: 1,
        ..Manner::new(Mode::Strict, 0)
    };
    let (mut life, daemon) = Life::begin_at(place, Some(dir), manner, start_seed());
    life.work(5);
    daemon.kill();
    let history = life.take_history();
    let _daemon = Daemon::start(&life.place);
    life.verify(&history);
}
