//! Durable versions under power loss: what was told to be durable survives it, whole and in order.
//!
//! Lives of Buffered commits mostly, which nobody waits for; the power is lost at every moment. An
//! image made after a durable version was told must recover every logged commit up to it. Which
//! ones those are the log itself says: what is recovered is a prefix of it, so the highest version
//! recovered tells, and the history checker holds the content against what was acknowledged.

use in_mem_client::check::Checker;
use in_mem_engine::DurabilityMode;
use in_mem_engine::faults::{Mutant, Planted};
use in_mem_wal::LogConfig;
use in_mem_wal::disk::{SimOptions, SimRng, SimWorld};

use super::engine::{Engine, EngineOptions, ToldDurable, history_at, judge_image, open_to_look};
use super::engine_images::POWER_LOSS;
use super::log_scenario::crash_mode;
use super::scale::{for_each_seed, scaled, start_seed};

/// Actions of one life.
const ACTION_COUNT: usize = 60;

/// Images made of each moment.
const IMAGES_PER_MOMENT: u64 = 2;

/// Lives tried before the planted mistake counts as unseen.
const LIFE_COUNT_MAX: u64 = 50;

fn options(planted: Planted) -> EngineOptions {
    EngineOptions {
        codec: "identity",
        mode: DurabilityMode::buffered_default(),
        log: LogConfig::tiny(),
        // Strict and volatile commits among them.
        override_per_ten: 3,
        planted,
    }
}

/// One life and the loss of its power at every moment. Gives how many images were held against a
/// version that had been told.
fn life(seed: u64, planted: Planted) -> Result<u64, String> {
    let options = options(planted);
    let mut rng = SimRng::new(seed);
    let world = SimWorld::new(SimOptions::new(seed));
    world.record_moments();
    let mut engine = Engine::open(&world, options, 0).expect("no fault");
    engine.act(&mut rng, ACTION_COUNT);
    engine.database.start_flush();
    engine.settle_down();
    let told = engine.told_durable();
    rising(&told)?;
    let mut image_count = 0;
    for moment in world.take_moments() {
        let before = told.iter().filter(|told| told.ops <= moment.op_index);
        let Some(durable) = before.map(|told| told.version).max() else {
            continue;
        };
        let history = history_at(&engine.notes, moment.op_index);
        for image in 0..IMAGES_PER_MOMENT {
            let after = moment.world.crash(rng.next_u64(), crash_mode(image));
            let opened = open_to_look(&after.crash(0, crash_mode(0)), &options);
            let opened = opened.map_err(|why| format!("not opened: {why:?}"))?;
            let recovered = opened.durable_version();
            if recovered < durable {
                return Err(format!(
                    "op {}: {durable} was told to be durable, {recovered} is what is left",
                    moment.op_index
                ));
            }
            drop(opened);
            judge_image(&after, &options, &Checker::new(), &history, POWER_LOSS)?;
            image_count += 1;
        }
    }
    Ok(image_count)
}

fn rising(told: &[ToldDurable]) -> Result<(), String> {
    let falls = told.windows(2).find(|two| two[1].version < two[0].version);
    falls.map_or(Ok(()), |two| Err(format!("a version went back: {two:?}")))
}

#[test]
fn a_power_loss_takes_no_commit_at_or_below_a_version_that_was_told_to_be_durable() {
    let count = scaled(10, 60, 20_000);
    let images = for_each_seed(
        "a_power_loss_takes_no_commit_at_or_below_a_version",
        |index| index < count,
        |seed| life(seed, Planted::NONE).unwrap_or_else(|why| panic!("seed {seed}: {why}")),
    );
    let image_count: u64 = images.iter().sum();
    println!("start seed {}: {image_count} images", start_seed());
    assert!(count < image_count, "versions were told and power was lost");
}

#[test]
fn a_version_told_to_be_durable_before_its_sync_is_caught() {
    let planted = Planted::new(Mutant::DurableBeforeSync);
    let caught = (start_seed()..start_seed() + LIFE_COUNT_MAX)
        .find_map(|seed| life(seed, planted).err().map(|why| (seed, why)));
    let (seed, why) = caught.expect("the mistake went unseen");
    println!("caught with seed {seed}: {why}");
    assert!(why.contains("was told to be durable"), "{why}");
    assert!(life(seed, Planted::NONE).is_ok());
}
