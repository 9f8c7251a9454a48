//! The tests are tested: each mistake planted in the log, and each lie of the disk, is caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use in_mem_wal::disk::{CrashMode, Fault, FaultRule, Lie, SimRng, SimWorld};
use in_mem_wal::faults::Mutant;
use in_mem_wal::harness::{
    Harness, History, Promise, check, promised, recover, sound, with_mutant,
};
use in_mem_wal::{LogConfig, Need};

use super::log_scenario::{Mode, act, crash_mode, live, world};
use super::scale::{for_each_seed, scaled, start_seed};

/// Lives tried before a mistake counts as unseen.
const LIFE_COUNT_MAX: u64 = 60;

#[test]
fn every_mutant_of_the_log_is_caught() {
    let mutants = Mutant::ALL;
    let is_wanted = |index| index < mutants.len() as u64;
    let first = start_seed();
    let lives = for_each_seed("every_mutant_of_the_log_is_caught", is_wanted, |seed| {
        let mutant = mutants[usize::try_from(seed - first).expect("small")];
        let config = with_mutant(sound(), mutant);
        let caught = (first..first + LIFE_COUNT_MAX)
            .position(|seed| is_caught(&config, seed, faults_for(mutant, seed)));
        let lives = caught.unwrap_or_else(|| panic!("{mutant:?} went unseen"));
        (mutant, lives + 1)
    });
    for (mutant, lives) in lives {
        println!("{mutant:?}: caught in life {lives}");
    }
}

#[test]
fn every_lie_of_the_disk_is_caught() {
    let anywhere = String::new;
    let lies = [
        Lie::NoDirectorySync {
            path_prefix: anywhere(),
        },
        Lie::NoFileSync {
            path_prefix: anywhere(),
        },
        Lie::LostSync {
            path_prefix: anywhere(),
        },
    ];
    for lie in lies {
        let caught = (0..LIFE_COUNT_MAX).position(|seed| {
            let world = world(seed);
            world.lie(lie.clone());
            is_caught_in(&world, &sound(), seed)
        });
        println!("{lie:?}: caught in life {:?}", caught.map(|life| life + 1));
        assert!(caught.is_some(), "{lie:?} went unseen");
    }
}

#[test]
fn the_sound_log_passes_what_catches_the_mutants() {
    let count = scaled(5, 60, 10_000);
    for_each_seed(
        "the_sound_log_passes_what_catches_the_mutants",
        |index| index < count,
        |seed| {
            for mutant in Mutant::ALL {
                let rules = faults_for(mutant, seed);
                assert!(
                    !is_caught(&sound(), seed, rules),
                    "seed {seed}, as for {mutant:?}"
                );
            }
        },
    );
}

/// The faults without which a mistake changes nothing, in another place in each life.
fn faults_for(mutant: Mutant, seed: u64) -> Vec<FaultRule> {
    let fault = match mutant {
        Mutant::SyncErrorIgnored | Mutant::RetryAfterFailedSync => Fault::Io,
        Mutant::ShortWriteIgnored => Fault::ShortWrite,
        _ => return Vec::new(),
    };
    vec![
        FaultRule::new(fault)
            .under("WAL/wal-")
            .after(4 + seed % 20)
            .times(1),
    ]
}

fn is_caught(config: &LogConfig, seed: u64, rules: Vec<FaultRule>) -> bool {
    let world = world(seed);
    for rule in rules {
        world.add_rule(rule);
    }
    is_caught_in(&world, config, seed)
}

/// Whether a life, its crashes and their recoveries break a rule. A panic counts: it is what a
/// failed assertion of the log itself looks like.
fn is_caught_in(world: &SimWorld, config: &LogConfig, seed: u64) -> bool {
    catch_unwind(AssertUnwindSafe(|| breaks_a_rule(world, config, seed))).unwrap_or(true)
}

fn breaks_a_rule(world: &SimWorld, config: &LogConfig, seed: u64) -> bool {
    world.record_moments();
    let Some(life) = live(world, config, seed, Mode::of_seed(seed)) else {
        return false;
    };
    world.clear_faults();
    let history = life.history();
    let mut rng = SimRng::new(seed ^ 0x5EED);
    for moment in world.take_moments() {
        if moment.op_index < life.created_at {
            continue;
        }
        let promised = promised(&history, Need::Synced, moment.op_index);
        for image in 0..4 {
            let after = moment.world.crash(rng.next_u64(), crash_mode(image));
            let is_fine = recover(&after, config)
                .is_ok_and(|(recovered, _)| check(&history, &recovered, promised).is_ok());
            if !is_fine {
                return true;
            }
        }
    }
    is_damage_swallowed(world, config, &history, &mut rng)
        || lives_on_badly(world, config, &history, &mut rng)
}

/// Flips bits of a log that rests. Damage may be refused, and at the very end taken for a torn
/// tail; it may never change a record, nor take one that a later batch vouches for.
fn is_damage_swallowed(
    world: &SimWorld,
    config: &LogConfig,
    history: &History,
    rng: &mut SimRng,
) -> bool {
    let image_seed = rng.next_u64();
    let Ok((whole, _)) = recover(&world.crash(image_seed, CrashMode::Prefix), config) else {
        return true;
    };
    let reached = whole.records.last().map_or(0, |last| last.txn_id);
    let synced = |promise: &&Promise| promise.need == Need::Synced && promise.txn_id <= reached;
    let Some(last) = history.promises.iter().rev().find(synced) else {
        return false;
    };
    // The batch of the last one was submitted after the syncs of all others had returned.
    let vouched = history.promises.iter().filter(synced);
    let vouched = vouched.filter(|promise| promise.op_count < last.op_count);
    let vouched = vouched.map(|promise| promise.txn_id).max().unwrap_or(0);
    for _ in 0..40 {
        let image = world.crash(image_seed, CrashMode::Prefix);
        let promise = history.promises[rng.index(history.promises.len())];
        let path = format!("WAL/wal-{:06}.seg", promise.end_lsn.segment());
        let at = u64::from(promise.end_lsn.offset()).saturating_sub(1 + rng.below(120));
        if at < 4096 || !image.flip_byte(&path, at, 1 << rng.below(8)) {
            continue;
        }
        if let Ok((recovered, _)) = recover(&image, config)
            && check(history, &recovered, vouched).is_err()
        {
            return true;
        }
    }
    false
}

/// Closes with a failing sync, goes on in a new process on the same machine, loses the power.
fn lives_on_badly(
    world: &SimWorld,
    config: &LogConfig,
    history: &History,
    rng: &mut SimRng,
) -> bool {
    for _ in 0..4 {
        let first = world.kill(rng.next_u64());
        let Ok((mut harness, _)) = Harness::open(&first, config, history.clone()) else {
            return true;
        };
        harness.prepare();
        act(&mut harness, rng, Mode::Strict, 4);
        harness.settle_down();
        first.add_rule(FaultRule::new(Fault::Io).under("WAL/wal-").times(1));
        harness.close();
        first.clear_faults();
        let before = harness.history.lock().clone();
        let second = first.kill(rng.next_u64());
        let Ok((mut harness, _)) = Harness::open(&second, config, before) else {
            return true;
        };
        harness.prepare();
        act(&mut harness, rng, Mode::Strict, 6);
        harness.settle_down();
        let history = harness.history.lock().clone();
        let promised = promised(&history, Need::Synced, u64::MAX);
        for image in 0..4 {
            let after = second.crash(rng.next_u64(), crash_mode(image));
            let is_fine = recover(&after, config)
                .is_ok_and(|(recovered, _)| check(&history, &recovered, promised).is_ok());
            if !is_fine {
                return true;
            }
        }
    }
    false
}
