//! Faults of the disk under the log: each at every operation, and at random.
//!
//! A fault may cost availability, never an acknowledged commit: after it, whether the machine goes
//! down at once or the process is started again on the same page cache first, the log is a prefix
//! with every promise.

use std::sync::atomic::{AtomicU64, Ordering};

use in_mem_wal::Need;
use in_mem_wal::disk::{Fault, FaultRule, SimRng};
use in_mem_wal::harness::{Harness, check, promised, sound};

use super::log_scenario::{Mode, act, check_image, crash_mode, live, world};
use super::scale::{for_each_seed, scaled, start_seed};

/// Faults that are reported, so that nothing acknowledged may be lost. A lost sync error and bit
/// rot lie: nobody can promise anything after them.
const HONEST: [Fault; 8] = [
    Fault::Io,
    Fault::NoSpace,
    Fault::ShortWrite,
    Fault::ShortRead,
    Fault::Interrupted,
    Fault::BrokenLink,
    Fault::Delay,
    Fault::WritebackError,
];

#[test]
fn every_fault_at_every_operation_of_the_log_loses_nothing_acknowledged() {
    let seeds = scaled(1, 8, 1_000);
    let count = seeds * HONEST.len() as u64;
    let fired = AtomicU64::new(0);
    let refused = AtomicU64::new(0);
    for_each_seed(
        "every_fault_at_every_operation_of_the_log",
        |index| index < count,
        |seed| {
            let fault = HONEST[usize::try_from(seed % HONEST.len() as u64).expect("small")];
            for op_index in 0.. {
                let world = world(seed);
                world.fail_at(op_index, fault);
                let life = live(&world, &sound(), seed, Mode::of_seed(seed));
                fired.fetch_add(world.fired().len() as u64, Ordering::Relaxed);
                let is_over = world.op_count() <= op_index;
                world.clear_faults();
                if let Some(life) = life {
                    let history = life.history();
                    refused.fetch_add(u64::from(life.harness.is_poisoned()), Ordering::Relaxed);
                    let promised = promised(&history, Need::Synced, u64::MAX);
                    for image in 0..3 {
                        let line =
                            || format!("seed {seed}, {fault:?} at {op_index}, image {image}");
                        let after = world.crash(image, crash_mode(image));
                        check_image(&after, &history, promised, &line);
                    }
                }
                if is_over {
                    break;
                }
            }
        },
    );
    println!(
        "start seed {}: {} faults fired, {} poisoned the log",
        start_seed(),
        fired.load(Ordering::Relaxed),
        refused.load(Ordering::Relaxed)
    );
    assert!(250 * seeds < fired.into_inner());
}

#[test]
fn after_a_failed_write_or_sync_a_restart_without_reboot_then_a_power_loss_leaves_no_hole() {
    let target = scaled(100, 1_000, 1_000_000);
    let restarts = AtomicU64::new(0);
    let is_wanted = |_| restarts.load(Ordering::Relaxed) < target;
    for_each_seed(
        "after_a_failed_write_or_sync_a_restart_without_reboot",
        is_wanted,
        |seed| {
            let mut rng = SimRng::new(seed);
            let fault = [
                Fault::Io,
                Fault::NoSpace,
                Fault::ShortWrite,
                Fault::WritebackError,
            ][rng.index(4)];
            let world = world(seed);
            // Past the creation of the log, inside its life.
            let op_index = 20 + rng.below(120);
            world.fail_at(op_index, fault);
            let Some(life) = live(&world, &sound(), seed, Mode::of_seed(seed)) else {
                return;
            };
            if !life.harness.is_poisoned() {
                return;
            }
            world.clear_faults();
            let before = life.history();
            drop(life);
            let restarted = world.kill(seed);
            let line = format!("seed {seed}, {fault:?} at {op_index}, restarted");
            let (mut second, recovered) = Harness::open(&restarted, &sound(), before.clone())
                .unwrap_or_else(|why| panic!("{line}: {why:?}"));
            check(
                &before,
                &recovered,
                promised(&before, Need::Synced, u64::MAX),
            )
            .unwrap_or_else(|why| panic!("{line}: {why}"));
            second.prepare();
            act(&mut second, &mut rng, Mode::Strict, 10);
            let history = second.history.lock().clone();
            let promised = promised(&history, Need::Synced, u64::MAX);
            for image in 0..4 {
                let after = restarted.crash(rng.next_u64(), crash_mode(image));
                check_image(&after, &history, promised, &|| {
                    format!("{line}, image {image}")
                });
            }
            restarts.fetch_add(1, Ordering::Relaxed);
        },
    );
    println!(
        "start seed {}: {} restarts",
        start_seed(),
        restarts.into_inner()
    );
}

#[test]
fn random_faults_in_random_places_lose_nothing_acknowledged() {
    let count = scaled(100, 6_000, 1_000_000);
    let fired = AtomicU64::new(0);
    for_each_seed(
        "random_faults_in_random_places",
        |index| index < count,
        |seed| {
            let mut rng = SimRng::new(seed ^ 0xFA17);
            let world = world(seed);
            for fault in HONEST {
                if rng.below(3) == 0 {
                    let chance = u16::try_from(1 + rng.below(60)).expect("small");
                    world.add_rule(FaultRule::new(fault).after(rng.below(80)).chance(chance));
                }
            }
            let Some(life) = live(&world, &sound(), seed, Mode::of_seed(seed)) else {
                return;
            };
            fired.fetch_add(world.fired().len() as u64, Ordering::Relaxed);
            world.clear_faults();
            let history = life.history();
            let promised = promised(&history, Need::Synced, u64::MAX);
            for image in 0..3 {
                let after = world.crash(rng.next_u64(), crash_mode(image));
                check_image(&after, &history, promised, &|| {
                    format!("seed {seed}, image {image}")
                });
            }
        },
    );
    println!(
        "start seed {}: {} faults fired",
        start_seed(),
        fired.into_inner()
    );
}

#[test]
fn a_full_disk_refuses_with_a_clear_answer_and_works_again_after_room_returns() {
    let count = scaled(10, 200, 20_000);
    let refused = AtomicU64::new(0);
    for_each_seed(
        "a_full_disk_refuses_with_a_clear_answer",
        |index| index < count,
        |seed| {
            let world = world(seed);
            let mut harness = Harness::create(&world, &sound()).expect("no fault");
            harness.prepare();
            let room = world.used_bytes() + (seed % 7) * 3_000;
            world.set_capacity(Some(room));
            for _ in 0..40 {
                let _ = harness.append(1_200, Need::Synced);
                harness.settle_down();
                let _ = harness.prepare();
            }
            assert!(
                !harness.is_poisoned(),
                "seed {seed}: a full disk is known before it is met"
            );
            assert!(
                harness.refused.1 > 0,
                "seed {seed}: the disk was full and nothing said so"
            );
            refused.fetch_add(harness.refused.1, Ordering::Relaxed);
            world.set_capacity(None);
            // The refusal asks for a new spare, and the next try finds it.
            let _ = harness.append(1_200, Need::Synced);
            harness.prepare();
            let version = harness
                .append(1_200, Need::Synced)
                .expect("there is room again");
            harness.settle_down();
            let history = harness.history.lock().clone();
            assert!(
                version <= promised(&history, Need::Synced, u64::MAX),
                "seed {seed}"
            );
            let after = world.crash(seed, crash_mode(seed));
            check_image(&after, &history, version, &|| format!("seed {seed}"));
        },
    );
    println!(
        "start seed {}: {} refusals",
        start_seed(),
        refused.into_inner()
    );
}
