//! Power lost at every operation of checkpoints, compactions and the recoveries behind them.
//!
//! One committer on a driven database: after each commit the digest of the state is noted with
//! how many operations the disk had seen, so the state of every image must be one of those noted
//! from the last acknowledged commit on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use in_mem_model::RetentionPolicy;
use in_mem_wal::LogConfig;
use in_mem_wal::clock::SimClock;
use in_mem_wal::disk::{CrashMode, Lie, SimRng, SimWorld};

use super::once::of_client;
use super::{Collector, drive, int, world};
use crate::faults::{Mutant, Planted};
use crate::{
    CommitOptions, CompactMode, Database, DatabaseBuilder, Driver, DurabilityMode, OnceRequest,
    OpenError, Program, Step,
};

const SEED: u64 = 42;

fn builder(world: &SimWorld, planted: Planted) -> DatabaseBuilder {
    Database::builder()
        .disk(Arc::new(world.clone()))
        .wal_config(LogConfig::tiny())
        .durability(DurabilityMode::Strict)
        .clock(Arc::new(SimClock::new()))
        .planted(planted)
        .manual()
}

/// The state after a commit, and the operations the disk had seen when it was acknowledged.
struct Noted {
    digest: u64,
    acked_ops: u64,
}

/// A life of commits, checkpoints and compactions.
struct Life {
    world: SimWorld,
    database: Database,
    driver: Driver,
    noted: Vec<Noted>,
}

impl Life {
    fn begin(world: &SimWorld, planted: Planted) -> Self {
        let database = builder(world, planted).open().unwrap();
        let mut driver = database.take_driver().unwrap().unwrap();
        while driver.drive_background() {}
        let mut life = Self {
            world: world.clone(),
            database,
            driver,
            noted: Vec::new(),
        };
        life.note();
        life.govern();
        life
    }

    /// From now on a Full compaction leaves one version of each key.
    fn govern(&mut self) {
        let policy = RetentionPolicy::keep_last(1).unwrap();
        let value = crate::retention::policy_value(&policy).unwrap();
        let program = Program {
            checks: &[],
            steps: &[Step::SetRetention(value.as_ref())],
        };
        let completion = Arc::new(Collector::default()).completion(1);
        let run = self.database.default_run();
        let _ = run.submit(&program, CommitOptions::default(), &completion);
        drive(&mut self.driver);
        self.note();
    }

    fn note(&mut self) {
        self.noted.push(Noted {
            digest: self.database.state_digest(),
            acked_ops: self.world.op_count(),
        });
    }

    /// Hands a commit to the log, which has not written it when this returns.
    fn submit(&mut self, rng: &mut SimRng) {
        let is_once = rng.coin();
        self.submit_as(rng, is_once);
    }

    fn submit_as(&mut self, rng: &mut SimRng, is_once: bool) {
        let run = self.database.default_run();
        let sequence = self.database.version() + 1;
        let once = OnceRequest {
            lowest_awaited: sequence.saturating_sub(rng.below(6)),
            ..of_client(rng.below(3), sequence)
        };
        let key = [b'a' + u8::try_from(rng.below(6)).unwrap()];
        let value = int(rng.next_u64() as i64);
        let step = match rng.below(4) {
            0 => Step::Delete { key: &key },
            _ => Step::Put {
                key: &key,
                value: value.as_ref(),
            },
        };
        let program = Program {
            checks: &[],
            steps: &[step],
        };
        let collector = Arc::new(Collector::default());
        let completion = collector.completion(1);
        let options = CommitOptions::default();
        let once = is_once.then_some(&once);
        let _ = run.submit_as(&program, options, once, &completion);
    }

    fn commit(&mut self, rng: &mut SimRng) {
        self.submit(rng);
        drive(&mut self.driver);
        self.note();
        self.turn();
    }

    fn turn(&mut self) {
        drive(&mut self.driver);
        while self.driver.drive_background() {}
        drive(&mut self.driver);
    }

    /// A Full compaction, with a commit that waits for the log while versions go.
    fn compact_fully(&mut self, rng: &mut SimRng) {
        let _ = self
            .database
            .start_compaction(CompactMode::Full, Box::new(drop));
        self.driver.drive_background();
        drive(&mut self.driver);
        // Not one that is kept: the digest tells of those before they are published.
        self.submit_as(rng, false);
        while self.driver.drive_background() {}
        self.note();
        drive(&mut self.driver);
        self.note();
    }

    /// A checkpoint, with commits between its steps, or a compaction.
    fn errand(&mut self, rng: &mut SimRng) {
        if rng.below(3) == 0 {
            self.compact_fully(rng);
        } else if rng.below(3) == 0 {
            let done = Box::new(drop);
            let _ = self.database.start_compaction(CompactMode::WALOnly, done);
        } else {
            let _ = self.database.start_checkpoint(Box::new(drop));
            self.driver.drive_background();
            // Below its watermark, and then above it.
            for _ in 0..rng.below(3) {
                self.submit(rng);
                drive(&mut self.driver);
                self.note();
            }
            self.submit(rng);
            while self.driver.drive_background() {}
            drive(&mut self.driver);
            self.note();
        }
        self.turn();
    }
}

fn look(world: &SimWorld) -> Result<u64, OpenError> {
    let database = builder(world, Planted::NONE).open_existing()?;
    Ok(database.state_digest())
}

/// Panics when an image of some moment is not what was promised; the images looked at.
fn live_and_crash(seed: u64, planted: Planted, lies: &[Lie]) -> u64 {
    let mut rng = SimRng::new(seed);
    let world = world();
    lies.iter().for_each(|lie| world.lie(lie.clone()));
    let mut life = Life::begin(&world, planted);
    (0..4).for_each(|_| life.commit(&mut rng));
    world.record_moments();
    for _ in 0..5 {
        (0..rng.below(14)).for_each(|_| life.commit(&mut rng));
        life.errand(&mut rng);
    }
    let mut image_count = 0;
    for moment in world.take_moments() {
        if moment.world.unsynced_is_empty() {
            continue;
        }
        let acked = life
            .noted
            .partition_point(|noted| noted.acked_ops <= moment.op_index);
        let possible = life.noted.get(acked.saturating_sub(1)..).unwrap();
        for image in 0..3 {
            let mode = [CrashMode::Prefix, CrashMode::Subset][usize::from(image == 1)];
            let after = moment.world.crash(rng.next_u64(), mode);
            let line = format!("seed {seed}, operation {}, image {image}", moment.op_index);
            let digest = look(&after).unwrap_or_else(|error| {
                panic!("{line}: {error} {:?}", std::error::Error::source(&error))
            });
            let is_possible = possible.iter().take(3).any(|noted| noted.digest == digest);
            assert!(is_possible, "{line}: no state of this moment");
            assert_eq!(look(&after).unwrap(), digest, "{line}: opened again");
            image_count += 1;
        }
    }
    image_count
}

#[test]
fn a_crash_at_every_operation_of_checkpoint_and_compaction_loses_nothing() {
    let mut image_count = 0;
    for seed in SEED..SEED + 6 {
        image_count += live_and_crash(seed, Planted::NONE, &[]);
    }
    println!("{image_count} images, start seed {SEED}");
    assert!(500 < image_count, "{image_count}");
}

#[test]
fn a_crash_at_every_operation_of_recovery_from_a_snapshot_changes_nothing() {
    let mut image_count = 0;
    for seed in SEED..SEED + 3 {
        let mut rng = SimRng::new(seed);
        let world = world();
        let mut life = Life::begin(&world, Planted::NONE);
        for _ in 0..4 {
            (0..10).for_each(|_| life.commit(&mut rng));
            life.errand(&mut rng);
        }
        let crashed = world.crash(rng.next_u64(), CrashMode::Subset);
        drop(life);
        let digest = look(&crashed.kill(seed)).unwrap();
        for step in 0.. {
            let crashing = crashed.kill(seed);
            crashing.crash_at(crashing.op_count() + step);
            let _ = look(&crashing);
            if !crashing.has_crashed() {
                break;
            }
            for image in 0..3 {
                let mode = [CrashMode::Prefix, CrashMode::Subset][usize::from(image == 1)];
                let after = crashing.crash(rng.next_u64(), mode);
                let found = look(&after);
                assert_eq!(found.ok(), Some(digest), "seed {seed}, step {step}");
                image_count += 1;
            }
        }
    }
    println!("{image_count} images, start seed {SEED}");
}

/// The tests above are tested: each of these mistakes makes them fail.
#[test]
fn the_mistakes_that_need_checkpoints_are_caught() {
    let lie = |path_prefix: &str| {
        vec![Lie::NoFileSync {
            path_prefix: path_prefix.to_owned(),
        }]
    };
    let no_directory_sync = vec![Lie::NoDirectorySync {
        path_prefix: "SNAPSHOTS".to_owned(),
    }];
    let planted = |mutant| Planted::new(mutant);
    let cases = [
        ("no snapshot sync", Planted::NONE, lie("SNAPSHOTS")),
        ("no directory sync", Planted::NONE, no_directory_sync),
        ("no manifest sync", Planted::NONE, lie("MANIFEST")),
        (
            "segments dropped before MANIFEST is durable",
            planted(Mutant::SegmentsDroppedBeforeManifest),
            vec![],
        ),
        (
            "pending version counted as newest",
            planted(Mutant::PendingCountedAsNewest),
            vec![],
        ),
        (
            "snapshot without watermark",
            planted(Mutant::SnapshotWithoutWatermark),
            vec![],
        ),
    ];
    for (name, planted, lies) in cases {
        let caught = (SEED..SEED + 30).find(|seed| {
            let lived = AssertUnwindSafe(|| live_and_crash(*seed, planted, &lies));
            catch_unwind(lived).is_err()
        });
        let seed = caught.unwrap_or_else(|| panic!("{name} went unseen"));
        println!("{name}: caught with seed {seed}");
    }
}
