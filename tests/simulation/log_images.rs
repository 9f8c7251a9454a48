//! Power loss and kills at every moment of the log's life, and again inside the recovery from one.

use std::sync::atomic::{AtomicU64, Ordering};

use in_mem_wal::Need;
use in_mem_wal::disk::{CrashMode, SimRng, SimWorld};
use in_mem_wal::harness::{Harness, check, promised, recover, sound};

use super::images::{Images, moment_name};
use super::log_scenario::{Mode, act, check_image, crash_mode, live, world};
use super::scale::{for_each_seed, scaled, start_seed};

/// Images made of each moment; more of one are mostly equal to earlier ones.
const IMAGES_PER_MOMENT: u64 = 12;

#[test]
fn power_loss_at_every_moment_of_the_log_leaves_a_prefix_with_every_strict_commit() {
    let target = scaled(20_000, 400_000, 80_000_000);
    let images = Images::default();
    let is_wanted = |_| images.count() < target;
    let lives = for_each_seed("power_loss_at_every_moment_of_the_log", is_wanted, |seed| {
        crash_everywhere(seed, &images);
    });
    println!(
        "start seed {}: {} distinct images with something unsynced, of {} lives\n{}",
        start_seed(),
        images.count(),
        lives.len(),
        images.table()
    );
    assert!(target <= images.count());
}

fn crash_everywhere(seed: u64, images: &Images) {
    let mode = Mode::of_seed(seed);
    let world = world(seed);
    world.record_moments();
    let life = live(&world, &sound(), seed, mode).expect("no fault was asked for");
    let history = life.history();
    for moment in world.take_moments() {
        if moment.op_index < life.created_at || moment.world.unsynced_is_empty() {
            continue;
        }
        let promised = promised(&history, Need::Synced, moment.op_index);
        for image in 0..IMAGES_PER_MOMENT {
            let after = moment.world.crash(seed ^ image, crash_mode(image));
            if !images.note(moment_name(&moment), mode.name(), after.fingerprint()) {
                continue;
            }
            let line = || format!("seed {seed}, op {}, image {image}", moment.op_index);
            check_image(&after, &history, promised, &line);
        }
    }
}

#[test]
fn a_kill_at_every_moment_of_the_log_keeps_everything_the_kernel_was_given() {
    let count = scaled(10, 200, 20_000);
    let kills = for_each_seed(
        "a_kill_at_every_moment_of_the_log",
        |index| index < count,
        |seed| {
            let world = world(seed);
            world.record_moments();
            let life = live(&world, &sound(), seed, Mode::of_seed(seed)).expect("no fault");
            let history = life.history();
            let mut moments = world.take_moments();
            moments.retain(|moment| life.created_at <= moment.op_index);
            for moment in &moments {
                let promised = promised(&history, Need::Written, moment.op_index);
                let line = || format!("seed {seed}, killed at op {}", moment.op_index);
                check_image(&moment.world.kill(seed), &history, promised, &line);
            }
            moments.len()
        },
    );
    println!(
        "start seed {}: {} kills",
        start_seed(),
        kills.iter().sum::<usize>()
    );
}

#[test]
fn a_crash_inside_recovery_from_a_crash_of_the_log_changes_nothing() {
    let target = scaled(3_000, 50_000, 10_000_000);
    let images = Images::default();
    let is_wanted = |_| images.count() < target;
    for_each_seed(
        "a_crash_inside_recovery_from_a_crash_of_the_log",
        is_wanted,
        |seed| {
            crash_inside_recovery(seed, &images);
        },
    );
    println!(
        "start seed {}: {} distinct images inside recovery\n{}",
        start_seed(),
        images.count(),
        images.table()
    );
    assert!(target <= images.count());
}

/// Takes a few crash images of a life and crashes the recovery of each at every step.
fn crash_inside_recovery(seed: u64, images: &Images) {
    let mode = Mode::of_seed(seed);
    let world = world(seed);
    world.record_moments();
    let life = live(&world, &sound(), seed, mode).expect("no fault was asked for");
    let history = life.history();
    let mut moments = world.take_moments();
    moments.retain(|moment| life.created_at <= moment.op_index);
    let mut rng = SimRng::new(seed ^ 0xDEAD);
    for _ in 0..4 {
        let moment = &moments[rng.index(moments.len())];
        let first = moment
            .world
            .crash(rng.next_u64(), crash_mode(rng.next_u64()));
        let promised = promised(&history, Need::Synced, moment.op_index);
        let line = || format!("seed {seed}, op {}", moment.op_index);
        let fresh = first.crash(0, CrashMode::Prefix);
        let expected = check_image(&fresh, &history, promised, &line);
        for step in 0_u64.. {
            let crashing = first.crash(0, CrashMode::Prefix);
            crashing.record_moments();
            crashing.crash_at(step);
            let _ = recover(&crashing, &sound());
            if !crashing.has_crashed() {
                break;
            }
            let name = crashing.take_moments().last().map_or("other", moment_name);
            for image in 0..4 {
                let after = crashing.crash(rng.next_u64(), crash_mode(image));
                if !crashing.unsynced_is_empty() {
                    images.note(name, mode.name(), after.fingerprint());
                }
                let line = || format!("seed {seed}, op {}, step {step}", moment.op_index);
                let again = check_image(&after, &history, promised, &line);
                assert_eq!(again.records, expected.records, "{}", line());
            }
        }
    }
}

#[test]
fn the_log_lives_on_through_many_crashes_in_one_directory_and_repeats_no_version() {
    let count = scaled(20, 600, 100_000);
    let crashes = AtomicU64::new(0);
    for_each_seed(
        "the_log_lives_on_through_many_crashes",
        |index| index < count,
        |seed| {
            let mode = Mode::of_seed(seed);
            let mut rng = SimRng::new(seed);
            let mut harness = Harness::create(&world(seed), &sound()).expect("no fault");
            let mut issued_max = 0;
            for round in 0..6 {
                harness.prepare();
                act(&mut harness, &mut rng, mode, 20);
                let history = harness.history.lock().clone();
                let before = history
                    .issued
                    .iter()
                    .map(|issued| issued.txn_id)
                    .max()
                    .unwrap_or(0);
                issued_max = before.max(issued_max);
                let after: SimWorld = if rng.below(4) == 0 {
                    harness.world.kill(rng.next_u64())
                } else {
                    harness
                        .world
                        .crash(rng.next_u64(), crash_mode(rng.next_u64()))
                };
                let line = format!("seed {seed}, round {round}");
                let (mut next, recovered) = Harness::open(&after, &sound(), history.clone())
                    .unwrap_or_else(|why| panic!("{line}: {why:?}"));
                check(
                    &history,
                    &recovered,
                    promised(&history, Need::Synced, u64::MAX),
                )
                .unwrap_or_else(|why| panic!("{line}: {why}"));
                if let Ok(version) = next.append(10, Need::Synced) {
                    assert!(issued_max < version, "{line}: {version} after {issued_max}");
                }
                harness = next;
                crashes.fetch_add(1, Ordering::Relaxed);
            }
        },
    );
    println!(
        "start seed {}: {} crashes",
        start_seed(),
        crashes.into_inner()
    );
}
