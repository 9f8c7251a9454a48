//! The tests are tested: each planted mistake about the log is caught, and the same scenario
//! passes without it.

use crate::config::LogConfig;
use crate::disk::{CrashMode, Fault, FaultRule, OpKind, SimOptions, SimRng, SimWorld, WriteFate};
use crate::faults::Mutant;
use crate::harness::{self, Harness, check, promised, recover, sound, with_mutant};
use crate::sink::Need;

type Outcome = Result<(), String>;

fn open(seed: u64, config: &LogConfig) -> Harness {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(seed)), config).unwrap();
    harness.prepare();
    harness
}

/// Recovers `image` as this build would and checks it against what `harness` was promised.
fn verdict(harness: &Harness, image: &SimWorld, config: &LogConfig) -> Outcome {
    let history = harness.history.lock().clone();
    let (recovered, _) = recover(image, config).map_err(|error| format!("{error:?}"))?;
    check(
        &history,
        &recovered,
        promised(&history, Need::Synced, u64::MAX),
    )
}

fn random_crashes(config: &LogConfig) -> Outcome {
    for seed in 0..8 {
        let mut harness = open(seed, config);
        let mut rng = SimRng::new(seed);
        for _ in 0..30 {
            harness.act(&mut rng, 1200);
            verdict(
                &harness,
                &harness.world.crash(rng.next_u64(), CrashMode::Subset),
                config,
            )?;
        }
    }
    Ok(())
}

/// Every write or sync of the log fails in turn; then the power goes.
fn faults_then_crash(config: &LogConfig, fault: Fault) -> Outcome {
    for skip in 0..20 {
        let mut harness = open(skip, config);
        let rule = FaultRule::new(fault).under("WAL/wal-").after(skip).times(1);
        harness.world.add_rule(rule);
        for _ in 0..12 {
            let _ = harness.append(700, Need::Written);
            let _ = harness.append(700, Need::Synced);
            harness.settle_down();
        }
        harness.world.clear_faults();
        for image in 0..4 {
            verdict(
                &harness,
                &harness.world.crash(image, CrashMode::Prefix),
                config,
            )?;
        }
    }
    Ok(())
}

/// One byte of a record changes, without any crash.
fn flipped_record(config: &LogConfig) -> Outcome {
    let mut harness = open(1, config);
    for _ in 0..3 {
        harness.append(200, Need::Synced).unwrap();
        harness.settle_down();
    }
    let first = harness.history.lock().promises[0];
    let at = u64::from(first.end_lsn.offset()) - 50;
    assert!(harness.world.flip_byte("WAL/wal-000001.seg", at, 0x01));
    match recover(&harness.world, config) {
        Err(_) => Ok(()),
        Ok((recovered, _)) => {
            let history = harness.history.lock().clone();
            check(
                &history,
                &recovered,
                promised(&history, Need::Synced, u64::MAX),
            )
        }
    }
}

/// Two Buffered batches; of the first, which holds three records of about a sector each, only the
/// sectors in `kept` reach the disk, of the second all.
fn torn_batch(config: &LogConfig, kept: [bool; 3]) -> Outcome {
    let mut harness = open(1, config);
    // The second record starts exactly at the second sector, the third at the third.
    for len in [512 - 72 - 41, 512 - 41, 512 - 41] {
        harness.append(len, Need::Written).unwrap();
    }
    harness.settle_down();
    harness.append(100, Need::Written).unwrap();
    harness.settle_down();
    let mut write_index = 0;
    let image = harness.world.crash_choosing(true, |write| {
        if !write.path.starts_with("WAL/wal-") {
            return WriteFate::Kept;
        }
        write_index += 1;
        if write_index == 1 {
            WriteFate::Sectors {
                kept: kept.to_vec(),
            }
        } else {
            WriteFate::Kept
        }
    });
    assert!(write_index >= 2, "both batches were unsynced");
    verdict(&harness, &image, config)
}

/// The batch before the last is damaged after its ack: the last mark must say it was durable.
fn damage_before_the_last_batch(config: &LogConfig) -> Outcome {
    let mut harness = open(1, config);
    for _ in 0..2 {
        harness.append(100, Need::Synced).unwrap();
        harness.settle_down();
    }
    let first = harness.history.lock().promises[0];
    let at = u64::from(first.end_lsn.offset()) - 10;
    assert!(harness.world.flip_byte("WAL/wal-000001.seg", at, 0x01));
    match recover(&harness.world, config) {
        Err(_) => Ok(()),
        Ok((recovered, _)) => {
            let history = harness.history.lock().clone();
            check(
                &history,
                &recovered,
                promised(&history, Need::Synced, u64::MAX),
            )
        }
    }
}

/// The close mark's write or sync fails, the process restarts on the same machine, and goes on.
fn close_mark_that_never_reached_the_disk(config: &LogConfig) -> Outcome {
    // The seed decides how much of the failed write is in the cache.
    (0..8).try_for_each(|seed| failed_close_mark(seed, config))
}

fn failed_close_mark(seed: u64, config: &LogConfig) -> Outcome {
    let mut harness = open(seed, config);
    harness.append(100, Need::Synced).unwrap();
    harness.settle_down();
    harness
        .world
        .add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced).times(1));
    harness.close();
    harness.world.clear_faults();
    for seed in 0..8 {
        let restarted = harness.world.kill(seed);
        let history = harness.history.lock().clone();
        let (mut second, _) =
            Harness::open(&restarted, config, history).map_err(|error| format!("{error:?}"))?;
        second.prepare();
        second
            .append(100, Need::Synced)
            .map_err(|error| format!("{error:?}"))?;
        second.settle_down();
        for image in 0..4 {
            verdict(&second, &restarted.crash(image, CrashMode::Prefix), config)?;
        }
    }
    Ok(())
}

fn scenario(mutant: Mutant) -> fn(&LogConfig) -> Outcome {
    match mutant {
        Mutant::AckBeforeSync | Mutant::LsnReused => random_crashes,
        Mutant::CrcNotChecked => flipped_record,
        Mutant::TornBatchAppliedPastHole => |config| torn_batch(config, [true, false, true]),
        Mutant::ZeroSectorTakenForPadding => |config| torn_batch(config, [true, false, false]),
        Mutant::SyncErrorIgnored | Mutant::RetryAfterFailedSync => {
            |config| faults_then_crash(config, Fault::Io)
        }
        Mutant::ShortWriteIgnored => |config| faults_then_crash(config, Fault::ShortWrite),
        Mutant::MarkFilledWhenBuilt => damage_before_the_last_batch,
        Mutant::RewriteSkippedAfterCloseMark => close_mark_that_never_reached_the_disk,
    }
}

#[test]
fn every_planted_mistake_is_caught_and_the_sound_log_passes_the_same_scenario() {
    for mutant in Mutant::ALL {
        let run = scenario(mutant);
        if let Err(why) = run(&sound()) {
            panic!("the sound log fails the scenario of {mutant:?}: {why}");
        }
        match run(&with_mutant(harness::sound(), mutant)) {
            Err(why) => println!("{mutant:?} caught: {why}"),
            Ok(()) => panic!("{mutant:?} is not caught"),
        }
    }
}
