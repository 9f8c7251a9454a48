//! Any order of writes, checkpoints, compactions, reopenings and crashes shows what the model says.
//!
//! A failure is shrunk to the shortest life that still fails, and the seed that draws it is printed.

use std::collections::BTreeMap;
use std::sync::Arc;

use in_mem_engine::model::{RetentionPolicy, RunId, Value, Version, encode};
use in_mem_engine::{
    CompactError, CompactMode, Database, DurabilityMode, HistoryEntry, Run, WaitDurableError,
};
use in_mem_wal::LogConfig;
use in_mem_wal::disk::{CrashMode, OpenDisk, SimOptions, SimWorld};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::scale::{scaled, start_seed};

/// Keys of a life.
const KEY_COUNT: u8 = 6;

/// What happens next.
#[derive(Debug, Clone)]
enum Action {
    Put {
        key: u8,
        len: u16,
    },
    Delete {
        key: u8,
    },
    Checkpoint,
    Compact,
    /// From now on that many versions of each key are kept by a Full compaction; 0 for all.
    Govern {
        kept: u8,
    },
    CompactFully,
    /// Closed in order and opened again.
    Reopen,
    /// The process ends; the kernel keeps what it was given.
    Kill {
        seed: u64,
    },
    /// The power goes.
    PowerLoss {
        seed: u64,
        is_subset: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0..KEY_COUNT, 0..900_u16).prop_map(|(key, len)| Action::Put { key, len }),
        3 => (0..KEY_COUNT).prop_map(|key| Action::Delete { key }),
        2 => Just(Action::Checkpoint),
        1 => Just(Action::Compact),
        1 => (0..4_u8).prop_map(|kept| Action::Govern { kept }),
        2 => Just(Action::CompactFully),
        1 => Just(Action::Reopen),
        1 => any::<u64>().prop_map(|seed| Action::Kill { seed }),
        1 => (any::<u64>(), any::<bool>())
            .prop_map(|(seed, is_subset)| Action::PowerLoss { seed, is_subset }),
    ]
}

/// Versions of each key, oldest first; without a value the key was deleted.
type Model = BTreeMap<u8, Vec<(u64, Option<Vec<u8>>)>>;

struct Life {
    world: SimWorld,
    database: Option<Database>,
    model: Model,
    /// Of each key that was trimmed, the lowest version that is left.
    floors: BTreeMap<u8, u64>,
    /// Versions of a key that the policy in force keeps; 0 for all.
    kept: usize,
    last_version: u64,
    has_snapshot: bool,
}

impl Life {
    fn begin() -> Self {
        let world = SimWorld::new(SimOptions::new(1));
        let database = Some(open(&world));
        Self {
            world,
            database,
            model: Model::new(),
            floors: BTreeMap::new(),
            kept: 0,
            last_version: 0,
            has_snapshot: false,
        }
    }

    fn run(&self) -> Run {
        self.database().default_run()
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is open")
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Put { key, len } => {
                let text = format!("{}-{}", self.last_version, "v".repeat(usize::from(*len)));
                let value = encode(&Value::from(text.as_str())).expect("a value");
                let version = self
                    .run()
                    .kv()
                    .put([b'a' + *key], &value)
                    .expect("committed");
                self.committed(*key, version, Some(value.as_bytes().to_vec()));
            }
            Action::Delete { key } => {
                let versions = self.model.get(key);
                let is_there = versions
                    .and_then(|versions| versions.last())
                    .is_some_and(|(_, value)| value.is_some());
                assert_eq!(
                    self.run().kv().delete([b'a' + *key]).expect("committed"),
                    is_there
                );
                if is_there {
                    let version = self.database().version();
                    self.committed(*key, version, None);
                }
            }
            Action::Checkpoint => {
                let info = self.database().checkpoint().expect("no fault");
                assert_eq!(info.watermark_txn, self.last_version);
                self.has_snapshot = true;
            }
            Action::Compact => match self.database().compact(CompactMode::WALOnly) {
                Ok(info) => assert_eq!(info.versions_removed, 0),
                Err(CompactError::NoSnapshot) => assert!(!self.has_snapshot),
                Err(error) => panic!("{error}"),
            },
            Action::Govern { kept } => self.govern(*kept),
            Action::CompactFully => self.compact_fully(),
            Action::Reopen => {
                let database = self.database.take().expect("it is open");
                database.shutdown().expect("no fault");
                drop(database);
                self.reopen();
            }
            Action::Kill { seed } => {
                drop(self.database.take());
                self.world = self.world.kill(*seed);
                self.reopen();
            }
            Action::PowerLoss { seed, is_subset } => {
                let mode = if *is_subset {
                    CrashMode::Subset
                } else {
                    CrashMode::Prefix
                };
                let image = self.world.crash(*seed, mode);
                drop(self.database.take());
                self.world = image;
                self.reopen();
            }
        }
    }

    fn govern(&mut self, kept: u8) {
        self.kept = usize::from(kept);
        let policy = match kept {
            0 => RetentionPolicy::KeepAll,
            _ => RetentionPolicy::keep_last(u64::from(kept)).expect("not zero"),
        };
        let runs = self.database().runs();
        let version = runs.set_retention_policy(RunId::DEFAULT, &policy);
        self.last_version = version.expect("committed");
    }

    fn compact_fully(&mut self) {
        let info = self.database().compact(CompactMode::Full);
        let info = info.expect("no fault");
        assert_eq!(info.snapshot_watermark, self.last_version);
        self.has_snapshot = true;
        let mut removed = 0;
        for (key, versions) in &mut self.model {
            let gone = match self.kept {
                0 => 0,
                kept => versions.len().saturating_sub(kept),
            };
            if gone != 0 {
                versions.drain(..gone);
                let oldest = versions.first().expect("one stays");
                self.floors.insert(*key, oldest.0);
            }
            removed += gone as u64;
        }
        assert_eq!(info.versions_removed, removed);
    }

    fn committed(&mut self, key: u8, version: u64, value: Option<Vec<u8>>) {
        assert!(self.last_version < version, "versions rise over all lives");
        self.last_version = version;
        self.model.entry(key).or_default().push((version, value));
    }

    fn reopen(&mut self) {
        self.database = Some(open(&self.world));
        self.check();
    }

    /// Every version of every key, and nothing else; every one durable.
    fn check(&self) {
        let run = self.run();
        for key in 0..KEY_COUNT {
            let mut history = run
                .kv()
                .history([b'a' + key], None, None)
                .expect("a valid key");
            history.reverse();
            let shown: Vec<_> = history.iter().map(shown).collect();
            let expected = self.model.get(&key).cloned().unwrap_or_default();
            assert_eq!(shown, expected, "key {key}");
            if let Some(floor) = self.floors.get(&key) {
                let below = Version::Txn(floor - 1);
                let trimmed = run.kv().get_at([b'a' + key], below);
                let trimmed = trimmed.expect_err("it was trimmed").as_history_trimmed();
                assert_eq!(trimmed, Some((floor - 1, *floor)), "key {key}");
            }
        }
        if self.last_version != 0 {
            // It is told a moment after the answer.
            match self.database().wait_durable(self.last_version, None) {
                Ok(durable_version) => assert!(self.last_version <= durable_version),
                // A snapshot covers it.
                Err(WaitDurableError::Forgotten { .. }) => assert!(self.has_snapshot),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn shown(entry: &HistoryEntry) -> (u64, Option<Vec<u8>>) {
    (entry.version, entry.value.clone())
}

fn open(world: &SimWorld) -> Database {
    Database::builder()
        .disk(Arc::new(world.clone()) as Arc<dyn OpenDisk>)
        .wal_config(LogConfig::tiny())
        .durability(DurabilityMode::Strict)
        .open()
        .expect("what was acknowledged can be opened")
}

#[test]
fn recovery_invariant_any_life_of_checkpoints_and_crashes_shows_what_the_model_says() {
    let seed = start_seed();
    println!("seed {seed}");
    let mut runner = TestRunner::new(Config {
        cases: u32::try_from(scaled(20, 200, 20_000)).expect("small"),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    });
    let lives = proptest::collection::vec(action(), 1..60);
    let result = runner.run(&lives, |actions| {
        let mut life = Life::begin();
        for action in &actions {
            life.act(action);
        }
        life.check();
        Ok(())
    });
    if let Err(failed) = result {
        panic!("seed {seed}: {failed}");
    }
}
