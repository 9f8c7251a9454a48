//! The log under power loss at every operation and under every fault at every operation.
//!
//! A scenario is a seed: the same calls in the same order. Counts are modest here; the root
//! package runs the same harness with larger ones, and `IN_MEM_TEST=soak` multiplies them.

use crate::config::{LogConfig, WriteForm};
use crate::disk::{CrashMode, Fault, Moment, SimOptions, SimRng, SimWorld};
use crate::harness::{self, Harness, History, OpenError, check, promised, recover, sound};
use crate::recover::ScanError;
use crate::sink::Need;

const ACTION_COUNT: usize = 60;

fn world(seed: u64) -> SimWorld {
    SimWorld::new(SimOptions::new(seed))
}

/// `count` scenarios, and fifty times as many in a soak.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    let is_soak = std::env::var("IN_MEM_TEST").is_ok_and(|scale| scale == "soak");
    first * 1000..first * 1000 + count * if is_soak { 50 } else { 1 }
}

/// Seeds take turns with the ways of writing.
fn config(seed: u64) -> LogConfig {
    let index = usize::try_from(seed).unwrap() % WriteForm::ALL.len();
    LogConfig {
        write_form: WriteForm::ALL[index],
        ..sound()
    }
}

/// Runs a scenario as far as its faults let it.
fn run(world: &SimWorld, config: &LogConfig, seed: u64) -> Option<Harness> {
    let mut harness = Harness::create(world, config).ok()?;
    let mut rng = SimRng::new(seed);
    harness.prepare();
    for _ in 0..ACTION_COUNT {
        harness.act(&mut rng, 1500);
    }
    if rng.coin() {
        harness.close();
    }
    Some(harness)
}

fn modes(image: u64) -> CrashMode {
    if image.is_multiple_of(2) {
        CrashMode::Prefix
    } else {
        CrashMode::Subset
    }
}

/// Recovers an image twice, and once more after a crash inside, and checks every outcome.
fn check_image(image: &SimWorld, history: &History, promised_txn_id: u64, line: &str) {
    let config = sound();
    if image
        .paths()
        .iter()
        .all(|path| !path.starts_with("WAL/wal-"))
    {
        assert_eq!(
            promised_txn_id, 0,
            "{line}: nothing was promised before the log existed"
        );
        return;
    }
    let (recovered, _) = match recover(image, &config) {
        Ok(recovered) => recovered,
        Err(error) => panic!("{line}: not recovered: {error:?}"),
    };
    check(history, &recovered, promised_txn_id).unwrap_or_else(|why| panic!("{line}: {why}"));
    let again = harness::read_only(image, &config).unwrap_or_else(|why| panic!("{line}: {why}"));
    assert_eq!(
        recovered.records, again.records,
        "{line}: recovered twice, two results"
    );
    assert!(
        recovered.version_floor < again.version_floor,
        "{line}: the floor was raised"
    );
}

fn history_at(harness: &Harness, moment: &Moment) -> (History, u64) {
    let history = harness.history.lock().clone();
    let promised = promised(&history, Need::Synced, moment.op_index);
    (history, promised)
}

#[test]
fn power_loss_at_every_operation_leaves_a_prefix_with_every_strict_commit() {
    let mut images = 0;
    let mut moments_seen = 0;
    for seed in seeds(42, 12) {
        let world = world(seed);
        world.record_moments();
        let harness = run(&world, &config(seed), seed).expect("no fault was asked for");
        for moment in world.take_moments() {
            let (history, promised) = history_at(&harness, &moment);
            let told = |(_, op_count): &&(u64, u64)| *op_count <= moment.op_index;
            let floor = history
                .floors
                .iter()
                .filter(told)
                .map(|(floor, _)| *floor)
                .max();
            let highest = history.issued.back().map_or(0, |issued| issued.txn_id);
            moments_seen += 1;
            for image in 0..6 {
                let after = moment.world.crash(image, modes(image));
                let line = format!("seed {seed}, op {}, image {image}", moment.op_index);
                if let Some(floor) = floor {
                    let durable = harness::read_only(&after, &sound()).unwrap().version_floor;
                    // A close states the highest version instead: nothing was issued above.
                    assert!(floor <= durable || highest <= durable, "{line}: floor");
                }
                check_image(&after, &history, promised, &line);
                images += 1;
            }
        }
    }
    println!("{images} images of {moments_seen} moments");
    assert!(moments_seen > 600, "{moments_seen}");
}

#[test]
fn a_kill_at_every_operation_keeps_what_the_kernel_was_given() {
    for seed in seeds(60, 6) {
        let world = world(seed);
        world.record_moments();
        let harness = run(&world, &config(seed), seed).expect("no fault was asked for");
        let history = harness.history.lock().clone();
        for moment in world.take_moments() {
            let promised = promised(&history, Need::Written, moment.op_index);
            let after = moment.world.kill(seed);
            let line = format!("seed {seed}, kill at op {}", moment.op_index);
            check_image(&after, &history, promised, &line);
        }
    }
}

/// What a fault may do to opening: it is reported, and the disk is as good as before.
fn is_reported(error: &OpenError) -> bool {
    match error {
        OpenError::Scan(ScanError::Io { .. }) => true,
        OpenError::Scan(_) => false,
        OpenError::Settle(_) | OpenError::Writer(_) => true,
    }
}

#[test]
fn storage_invariant_eight_8_every_fault_at_every_operation_loses_nothing_acknowledged() {
    let honest = Fault::ALL
        .into_iter()
        .filter(|fault| !matches!(fault, Fault::SyncErrorLost | Fault::BitRot));
    let mut fired = 0;
    for fault in honest {
        for seed in seeds(70, 2) {
            let mut op_index = 0;
            loop {
                let world = world(seed);
                world.fail_at(op_index, fault);
                let harness = run(&world, &config(seed), seed);
                let is_over = world.op_count() <= op_index;
                fired += world.fired().len();
                world.clear_faults();
                if let Some(harness) = harness {
                    let history = harness.history.lock().clone();
                    let promised = promised(&history, Need::Synced, u64::MAX);
                    for image in 0..3 {
                        let after = world.crash(image, modes(image));
                        let line = format!("seed {seed}, {fault:?} at {op_index}, image {image}");
                        check_image(&after, &history, promised, &line);
                    }
                }
                if is_over {
                    break;
                }
                op_index += 1;
            }
        }
    }
    println!("{fired} faults fired");
    assert!(fired > 500, "{fired}");
}

#[test]
fn restart_without_reboot_after_a_fault_then_power_loss_leaves_no_hole() {
    let mut restarts = 0;
    for fault in [
        Fault::Io,
        Fault::NoSpace,
        Fault::ShortWrite,
        Fault::WritebackError,
    ] {
        for seed in seeds(80, 2) {
            let mut op_index = 20;
            loop {
                let world = world(seed);
                world.fail_at(op_index, fault);
                let harness = run(&world, &config(seed), seed);
                let is_over = world.op_count() <= op_index;
                world.clear_faults();
                let Some(harness) = harness else { break };
                let before = harness.history.lock().clone();
                drop(harness);
                let restarted = world.kill(1);
                let line = format!("seed {seed}, {fault:?} at {op_index}, restarted");
                let (mut second, recovered) =
                    match Harness::open(&restarted, &config(seed), before.clone()) {
                        Ok(opened) => opened,
                        Err(error) => panic!("{line}: {error:?}"),
                    };
                check(
                    &before,
                    &recovered,
                    promised(&before, Need::Synced, u64::MAX),
                )
                .unwrap_or_else(|why| panic!("{line}: {why}"));
                second.prepare();
                for _ in 0..5 {
                    let _ = second.append(100, Need::Synced);
                    second.settle_down();
                }
                let history = second.history.lock().clone();
                let promised = promised(&history, Need::Synced, u64::MAX);
                for image in 0..3 {
                    let after = restarted.crash(image, modes(image));
                    check_image(
                        &after,
                        &history,
                        promised,
                        &format!("{line}, image {image}"),
                    );
                }
                restarts += 1;
                if is_over {
                    break;
                }
                op_index += 1;
            }
        }
    }
    println!("{restarts} restarts");
}

#[test]
fn a_crash_or_a_fault_at_every_step_of_recovery_changes_nothing() {
    let mut images = 0;
    for seed in seeds(90, 6) {
        let world = world(seed);
        world.record_moments();
        let harness = run(&world, &config(seed), seed).expect("no fault was asked for");
        let moments = world.take_moments();
        let history = harness.history.lock().clone();
        let Some(moment) = moments.get(moments.len() * 3 / 4) else {
            continue;
        };
        let before = moment.world.crash(seed, CrashMode::Subset);
        let expected = harness::read_only(&before, &sound()).unwrap();
        let mut step = 0;
        loop {
            let crashing = before.crash(0, CrashMode::Prefix);
            crashing.crash_at(crashing.op_count() + step);
            let result = recover(&crashing, &sound());
            if !crashing.has_crashed() {
                assert!(result.is_ok());
                break;
            }
            for image in 0..4 {
                let after = crashing.crash(image, modes(image));
                let line = format!("seed {seed}, recovery step {step}, image {image}");
                let again = recover(&after, &sound()).unwrap_or_else(|why| panic!("{line}: {why}"));
                assert_eq!(again.0.records, expected.records, "{line}");
                check(&history, &again.0, 0).unwrap_or_else(|why| panic!("{line}: {why}"));
                images += 1;
            }
            for fault in Fault::ALL {
                let failing = before.crash(0, CrashMode::Prefix);
                failing.fail_at(failing.op_count() + step, fault);
                let line = format!("seed {seed}, {fault:?} at recovery step {step}");
                match recover(&failing, &sound()) {
                    Ok(_) => {}
                    Err(error) if fault != Fault::BitRot => {
                        assert!(is_reported(&error), "{line}: {error:?}");
                    }
                    Err(_) => {}
                }
                failing.clear_faults();
                if matches!(fault, Fault::BitRot | Fault::SyncErrorLost) {
                    continue;
                }
                let again = recover(&failing.crash(step, CrashMode::Prefix), &sound())
                    .unwrap_or_else(|why| panic!("{line}: {why}"));
                assert_eq!(again.0.records, expected.records, "{line}");
            }
            step += 1;
        }
        assert!(step > 10, "{step}");
    }
    println!("{images} images");
}

#[test]
fn many_crashes_in_a_row_in_one_directory_lose_nothing_acknowledged() {
    for seed in seeds(100, 10) {
        let mut rng = SimRng::new(seed);
        let first = world(seed);
        let mut harness = Harness::create(&first, &config(seed)).expect("opens");
        for round in 0..6_u64 {
            harness.prepare();
            for _ in 0..20 {
                harness.act(&mut rng, 3000);
            }
            let history = harness.history.lock().clone();
            let after = harness.world.crash(rng.next_u64(), modes(round));
            let line = format!("seed {seed}, round {round}");
            let (next, recovered) = Harness::open(&after, &config(seed), history.clone())
                .unwrap_or_else(|why| panic!("{line}: {why:?}"));
            check(
                &history,
                &recovered,
                promised(&history, Need::Synced, u64::MAX),
            )
            .unwrap_or_else(|why| panic!("{line}: {why}"));
            harness = next;
        }
    }
}
