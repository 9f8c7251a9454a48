//! The tests are tested: each mistake planted in the log, and each lie of the disk, shows through the
//! engine: the history checker reports it, or files are refused that a sound log leaves readable.

use std::panic::{AssertUnwindSafe, catch_unwind};

use in_mem_client::check::{Checker, Outcome, Survival};
use in_mem_engine::DurabilityMode;
use in_mem_wal::disk::{CrashMode, Fault, FaultRule, Lie, SimOptions, SimRng, SimWorld, WriteFate};
use in_mem_wal::faults::Mutant;
use in_mem_wal::harness::{sound, with_mutant};

use super::engine::{
    Engine, EngineOptions, Noted, history_at, judge_image, judge_opened, open_to_look,
};
use super::log_scenario::crash_mode;
use super::scale::{for_each_seed, start_seed};

/// Lives tried before a mistake counts as unseen.
const LIFE_COUNT_MAX: u64 = 60;

/// Actions of one life.
const ACTION_COUNT: usize = 60;

/// Images made of each moment.
const IMAGES_PER_MOMENT: u64 = 4;

/// Bits flipped in a log that rests, one at a time.
const FLIP_COUNT: u64 = 40;

/// What a torn write takes whole, bytes.
const SECTOR_LEN_BYTES: usize = 512;

/// Bytes before the first record of a segment.
const DATA_OFFSET: usize = 4_096;

/// A power loss may take every Buffered commit that no Strict commit covers.
const POWER_LOSS: Survival = Survival::Restart {
    buffered_acked_before_ns: 0,
};

/// What is wrong on purpose.
#[derive(Debug, Clone)]
enum Plant {
    Nothing,
    Mutant(Mutant),
    Lie(Lie),
}

impl Plant {
    fn all() -> Vec<Self> {
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
        let mutants = Mutant::ALL.into_iter().map(Self::Mutant);
        mutants.chain(lies.into_iter().map(Self::Lie)).collect()
    }

    /// An engine with this wrong in it.
    fn options(&self, mode: DurabilityMode) -> EngineOptions {
        let log = match self {
            Self::Mutant(mutant) => with_mutant(sound(), *mutant),
            Self::Nothing | Self::Lie(_) => sound(),
        };
        EngineOptions {
            codec: "identity",
            planted: in_mem_engine::faults::Planted::NONE,
            mode,
            log,
            override_per_ten: 0,
        }
    }

    /// A new disk, lying if that is what is wrong.
    fn world(&self, seed: u64) -> SimWorld {
        let world = SimWorld::new(SimOptions::new(seed));
        if let Self::Lie(lie) = self {
            world.lie(lie.clone());
        }
        world
    }

    /// The kind of life in which this shows.
    fn scenario(&self) -> Scenario {
        match self {
            Self::Mutant(Mutant::CrcNotChecked | Mutant::MarkFilledWhenBuilt) => flipped_bits,
            Self::Mutant(Mutant::TornBatchAppliedPastHole | Mutant::ZeroSectorTakenForPadding) => {
                torn_sectors
            }
            Self::Mutant(Mutant::SyncErrorIgnored | Mutant::RetryAfterFailedSync) => {
                |plant, seed| power_loss(plant, seed, Some(Fault::Io))
            }
            Self::Mutant(Mutant::ShortWriteIgnored) => {
                |plant, seed| power_loss(plant, seed, Some(Fault::ShortWrite))
            }
            Self::Mutant(Mutant::RewriteSkippedAfterCloseMark) => failed_close,
            Self::Mutant(Mutant::AckBeforeSync | Mutant::LsnReused)
            | Self::Nothing
            | Self::Lie(_) => |plant, seed| power_loss(plant, seed, None),
        }
    }
}

/// A life with something planted; an error is what was seen of it.
type Scenario = fn(&Plant, u64) -> Result<(), String>;

/// Runs a life; an assertion of the log or the engine that fires counts as seen, and says so.
fn live(scenario: Scenario, plant: &Plant, seed: u64) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| scenario(plant, seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("an assertion: {}", text.unwrap_or_default()))
    })
}

/// None is left out: all ten mutants of the log and all three lies of the disk show to clients of
/// the engine. The checker itself sees all but `RewriteSkippedAfterCloseMark`: the version floor of
/// a close mark is the last version issued, the rewrite is what raises it, and the engine issues no
/// version above it. So no commit is acknowledged whose loss the checker could report; what shows
/// is that every put is refused, and the hole itself is seen by the test of the log alone. Some of
/// the others may show as files that a power loss left and that are then refused.
#[test]
fn every_mutant_of_the_log_and_every_lie_of_the_disk_shows_through_the_engine() {
    let plants = Plant::all();
    let first = start_seed();
    let seen = for_each_seed(
        "every_mutant_of_the_log_and_every_lie_of_the_disk_shows_through_the_engine",
        |index| index < plants.len() as u64,
        |seed| {
            let plant = &plants[usize::try_from(seed - first).expect("small")];
            let scenario = plant.scenario();
            for seed in first..first + LIFE_COUNT_MAX {
                if let Err(why) = live(scenario, &Plant::Nothing, seed) {
                    panic!("seed {seed}: the sound log fails as for {plant:?}: {why}");
                }
                if let Err(why) = live(scenario, plant, seed) {
                    let why: String = why.chars().take(300).collect();
                    return format!("{plant:?}: seed {seed}: {why}");
                }
            }
            panic!("{plant:?} went unseen from seed {first} on");
        },
    );
    seen.iter().for_each(|line| println!("{line}"));
}

/// A life, perhaps with one fault of the log's files, whose power is lost at every moment.
fn power_loss(plant: &Plant, seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let mode = if seed.is_multiple_of(4) {
        DurabilityMode::buffered_default()
    } else {
        DurabilityMode::Strict
    };
    let options = plant.options(mode);
    let world = plant.world(seed);
    let mut rng = SimRng::new(seed);
    let mut engine = Engine::open(&world, options, 0).expect("no fault yet");
    world.record_moments();
    if let Some(fault) = fault {
        let rule = FaultRule::new(fault).under("WAL/wal-").after(seed % 20);
        world.add_rule(rule.times(1));
    }
    engine.act(&mut rng, ACTION_COUNT);
    world.clear_faults();
    for moment in world.take_moments() {
        let history = history_at(&engine.notes, moment.op_index);
        for image in 0..IMAGES_PER_MOMENT {
            let after = moment.world.crash(rng.next_u64(), crash_mode(image));
            after.clear_faults();
            judge_image(&after, &options, &Checker::new(), &history, POWER_LOSS)?;
        }
    }
    Ok(())
}

/// Flips bits of a log that rests, one in each image. Damage may be refused, and at the very end
/// taken for a torn tail; it may never change what is shown, nor take what a later batch vouches
/// for: every commit that was acknowledged before that batch was submitted.
fn flipped_bits(plant: &Plant, seed: u64) -> Result<(), String> {
    let options = plant.options(DurabilityMode::Strict);
    let world = plant.world(seed);
    let mut rng = SimRng::new(seed);
    let mut engine = Engine::open(&world, options, 0).expect("no fault");
    engine.act(&mut rng, ACTION_COUNT);
    engine.settle_down();
    let vouched_ops = world.op_count();
    engine.put_text("a", 40);
    engine.settle_down();
    let mut history = history_at(&engine.notes, u64::MAX);
    assert!(
        history
            .operations
            .last()
            .is_some_and(|put| put.version().is_some()),
        "the last put is acknowledged"
    );
    for (operation, noted) in history.operations.iter_mut().zip(&engine.notes) {
        if noted.done_ops.is_none_or(|done_ops| vouched_ops < done_ops) {
            operation.done_at_ns = None;
            operation.outcome = Outcome::Unknown;
        }
    }
    drop(engine);
    for flip in 0..FLIP_COUNT {
        let image = world.crash(seed, CrashMode::Prefix);
        if !flip_bit(&image, &mut rng, flip) {
            continue;
        }
        let Ok(database) = open_to_look(&image, &options) else {
            continue;
        };
        let checker = Checker::new();
        let seen = judge_opened(&database, &image, &options, &checker, &history, POWER_LOSS);
        seen.map_err(|why| format!("flip {flip}: {why}"))?;
    }
    Ok(())
}

/// Flips a bit of a record: in every other image one of the last few of the log.
fn flip_bit(image: &SimWorld, rng: &mut SimRng, flip: u64) -> bool {
    let mut ends: Vec<(String, usize)> = image
        .paths()
        .into_iter()
        .filter(|path| path.starts_with("WAL/wal-"))
        .filter_map(|path| {
            let bytes = image.read_file(&path)?;
            let last = bytes.iter().rposition(|byte| *byte != 0)?;
            (DATA_OFFSET < last).then_some((path, last))
        })
        .collect();
    ends.sort();
    let Some((newest, _)) = ends.last().cloned() else {
        return false;
    };
    let (path, last) = ends[rng.index(ends.len())].clone();
    let (path, offset) = if flip.is_multiple_of(2) {
        let last = ends[ends.len() - 1].1;
        let back = rng.index(4 * SECTOR_LEN_BYTES);
        (newest, last.saturating_sub(back))
    } else {
        (path, DATA_OFFSET + rng.index(last - DATA_OFFSET))
    };
    DATA_OFFSET <= offset && image.flip_byte(&path, offset as u64, 1 << rng.below(8))
}

/// Two Buffered batches; of the first, which holds three commits, only some sectors reach the
/// disk, of the second all. The length of the first value makes its end meet that of a sector once
/// in every sector's length.
fn torn_sectors(plant: &Plant, seed: u64) -> Result<(), String> {
    let options = plant.options(DurabilityMode::buffered_default());
    for len_bytes in 300..300 + SECTOR_LEN_BYTES {
        for kept in [[true, false, true, true], [true, false, false, false]] {
            let world = plant.world(seed);
            let mut engine = Engine::open(&world, options, 0).expect("no fault");
            for (key, len_bytes) in [("a", len_bytes), ("b", 400), ("c", 401)] {
                engine.put_text(key, len_bytes);
            }
            engine.settle_down();
            engine.put_text("d", 50);
            engine.settle_down();
            let mut write_count = 0;
            let image = world.crash_choosing(true, |write| {
                if !write.path.starts_with("WAL/wal-") {
                    return WriteFate::Kept;
                }
                write_count += 1;
                if write_count == 1 {
                    WriteFate::Sectors {
                        kept: kept.to_vec(),
                    }
                } else {
                    WriteFate::Kept
                }
            });
            let history = history_at(&engine.notes, u64::MAX);
            drop(engine);
            let seen = judge_image(&image, &options, &Checker::new(), &history, POWER_LOSS);
            seen.map_err(|why| format!("length {len_bytes}, {kept:?}: {why}"))?;
        }
    }
    Ok(())
}

/// Closes with a failing sync, goes on in a new process on the same machine, loses the power.
fn failed_close(plant: &Plant, seed: u64) -> Result<(), String> {
    let options = plant.options(DurabilityMode::Strict);
    let world = plant.world(seed);
    let mut rng = SimRng::new(seed);
    let mut engine = Engine::open(&world, options, 0).expect("no fault");
    engine.act(&mut rng, 10);
    engine.settle_down();
    world.add_rule(FaultRule::new(Fault::Io).under("WAL/wal-").times(1));
    engine.shut_down();
    world.clear_faults();
    let first = history_at(&engine.notes, u64::MAX);
    drop(engine);
    for _ in 0..4 {
        // Bytes of a failed write may or may not be in the cache.
        let restarted = world.kill(rng.next_u64());
        // Looking recovers, and what a first recovery leaves undone a second one may do.
        let copy = restarted.kill(0);
        let (checker, _) = judge_image(&copy, &options, &Checker::new(), &first, POWER_LOSS)?;
        let mut engine = Engine::open(&restarted, options, 1_000)
            .map_err(|why| format!("not opened after the failure: {why:?}"))?;
        engine.act(&mut rng, 20);
        engine.settle_down();
        engine.put_text("a", 40);
        engine.settle_down();
        let is_acked = |noted: &Noted| noted.operation.version().is_some();
        if !engine.notes.last().is_some_and(is_acked) {
            return Err("a put is refused though the disk is well again".to_owned());
        }
        let second = history_at(&engine.notes, u64::MAX);
        drop(engine);
        for image in 0..IMAGES_PER_MOMENT {
            let after = restarted.crash(rng.next_u64(), crash_mode(image));
            judge_image(&after, &options, &checker, &second, POWER_LOSS)?;
        }
    }
    Ok(())
}
