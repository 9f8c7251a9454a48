//! The tests of the engine are tested: the history checker catches the mistakes planted in the
//! engine. Those planted in the log are in `engine_log_mutants.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use in_mem_client::check::Checker;
use in_mem_engine::faults::{Mutant, Planted};
use in_mem_wal::disk::{SimOptions, SimRng, SimWorld};

use super::engine::{Engine, EngineOptions, check_image, history_at};
use super::engine_images::{KILL, POWER_LOSS, options};
use super::log_scenario::crash_mode;
use super::scale::start_seed;

/// Lives tried before a mistake counts as unseen.
const LIFE_COUNT_MAX: u64 = 200;

/// Actions of one life between two crashes.
const ACTION_COUNT: usize = 60;

/// What every complaint of the checker begins with here; anything else that breaks is not its.
const CHECKED: &str = "held against the history of seed";

#[test]
fn every_mutant_of_the_engine_is_caught_by_the_history_checker() {
    // What is told to be durable, and what is sent again, is no part of a history: see
    // `engine_durable.rs` and `engine_once.rs`. Those with checkpoints need some: see
    // `engine/src/tests/checkpoint_crashes.rs`.
    let in_history = |mutant: &Mutant| {
        let is_elsewhere = mutant.is_about_once() || mutant.is_about_checkpoints();
        *mutant != Mutant::DurableBeforeSync && !is_elsewhere
    };
    for mutant in Mutant::ALL.into_iter().filter(in_history) {
        let of_seed = |seed| EngineOptions {
            planted: Planted::new(mutant),
            ..options(seed)
        };
        let caught = catching_life(of_seed);
        let (seed, why) = caught.unwrap_or_else(|| panic!("{mutant:?} went unseen"));
        println!("{mutant:?}: caught with seed {seed}: {why}");
        // The same life without the mistake is fine.
        assert_eq!(complaint(seed, options(seed)), None, "{mutant:?}");
    }
}

/// The first seed whose life the checker complains about, and its complaint.
fn catching_life(of_seed: impl Fn(u64) -> EngineOptions) -> Option<(u64, String)> {
    (start_seed()..start_seed() + LIFE_COUNT_MAX).find_map(|seed| {
        let why = complaint(seed, of_seed(seed))?;
        let is_checked = why.starts_with(CHECKED) && !why.contains("not opened");
        is_checked.then_some((seed, why))
    })
}

/// What breaks in a life and its crashes, if anything does.
fn complaint(seed: u64, options: EngineOptions) -> Option<String> {
    let lived = catch_unwind(AssertUnwindSafe(|| live_and_crash(seed, options)));
    let panic = lived.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| "a panic".to_owned()))
}

/// Two epochs in one directory; every moment of each is crashed, and one image lives on.
fn live_and_crash(seed: u64, options: EngineOptions) {
    let mut rng = SimRng::new(seed);
    let mut world = SimWorld::new(SimOptions::new(seed));
    let mut checker = Checker::new();
    let mut value_count = 0;
    for epoch in 0..2 {
        world.record_moments();
        let mut engine = Engine::open(&world, options, value_count).expect("no fault yet");
        engine.act(&mut rng, ACTION_COUNT);
        if rng.coin() {
            engine.shut_down();
        }
        let line = || format!("{CHECKED} {seed}, epoch {epoch}");
        for moment in world.take_moments() {
            if moment.world.unsynced_is_empty() {
                continue;
            }
            let history = history_at(&engine.notes, moment.op_index);
            for image in 0..2 {
                let after = moment.world.crash(rng.next_u64(), crash_mode(image));
                check_image(&after, &options, &checker, &history, POWER_LOSS, &line);
            }
        }
        let history = history_at(&engine.notes, u64::MAX);
        let (after, survival) = if rng.coin() {
            (world.crash(rng.next_u64(), crash_mode(epoch)), POWER_LOSS)
        } else {
            (world.kill(rng.next_u64()), KILL)
        };
        value_count = engine.value_count();
        drop(engine);
        (checker, _) = check_image(&after, &options, &checker, &history, survival, &line);
        world = after;
    }
}
