//! A database of 64 KiB of log whose every state is known, and what opening a copy of it shows.

use std::collections::HashMap;

use in_mem_engine::{DurabilityMode, OpenError};
use in_mem_snapshot::snapshot_path;
use in_mem_wal::LogConfig;
use in_mem_wal::disk::{CrashMode, SimOptions, SimRng, SimWorld};

use super::engine::{Engine, EngineOptions, dump, open_to_look};

/// Bytes of log it holds at least.
const LOG_LEN_BYTES: usize = 64 << 10;

pub(crate) const MANIFEST: &str = "MANIFEST";

pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        codec: "identity",
        mode: DurabilityMode::Strict,
        log: LogConfig::tiny(),
        override_per_ten: 0,
        planted: in_mem_engine::faults::Planted::NONE,
    }
}

/// A database at rest.
pub(crate) struct DataSet {
    world: SimWorld,
    /// Every state it went through, by digest: how many commits made it.
    states: HashMap<u64, usize>,
    /// Commits in it.
    pub(crate) commit_count: usize,
    /// Its segment files, ascending.
    pub(crate) segments: Vec<String>,
}

/// What opening a copy came to.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It was refused.
    Refused(OpenError),
    /// It shows the state after so many commits.
    State(usize),
}

impl DataSet {
    /// Makes one, closed in order or not.
    pub(crate) fn new(seed: u64, is_closed: bool) -> Self {
        let world = SimWorld::new(SimOptions::new(seed));
        let mut engine = Engine::open(&world, options(), seed * 1_000_000).expect("no fault");
        let mut rng = SimRng::new(seed);
        let mut states = HashMap::from([(dump(&engine.database).digest(), 0)]);
        let mut commit_count = 0;
        while log_len_bytes(&world) < LOG_LEN_BYTES {
            if engine.commit_one(&mut rng) {
                commit_count += 1;
                states.insert(dump(&engine.database).digest(), commit_count);
            }
        }
        if is_closed {
            engine.shut_down();
        }
        drop(engine);
        let mut segments = world.paths();
        segments.retain(|path| path.starts_with("WAL/wal-"));
        segments.sort();
        Self {
            world,
            states,
            commit_count,
            segments,
        }
    }

    /// Makes one that was closed in order behind two snapshots with commits before, between and
    /// behind them. If it `is_compacted`, the first snapshot is gone, and the log as far as it may
    /// be: then nothing can stand in for the second one.
    pub(crate) fn with_snapshots(seed: u64, is_compacted: bool) -> Self {
        let world = SimWorld::new(SimOptions::new(seed));
        let mut engine = Engine::open(&world, options(), seed * 1_000_000).expect("no fault");
        let mut rng = SimRng::new(seed);
        let mut states = HashMap::from([(dump(&engine.database).digest(), 0)]);
        let mut commit_count = 0;
        for part in 1..=3 {
            while log_len_bytes(&world) < part * LOG_LEN_BYTES / 3 {
                if engine.commit_one(&mut rng) {
                    commit_count += 1;
                    states.insert(dump(&engine.database).digest(), commit_count);
                }
            }
            if part < 3 {
                engine.checkpoint();
            }
        }
        if is_compacted {
            world.remove_file(&snapshot_path(1));
            engine.compact();
        }
        engine.shut_down();
        drop(engine);
        let mut segments = world.paths();
        segments.retain(|path| path.starts_with("WAL/wal-"));
        segments.sort();
        assert_eq!(
            segments
                .first()
                .is_some_and(|first| first != "WAL/wal-000001.seg"),
            is_compacted
        );
        Self {
            world,
            states,
            commit_count,
            segments,
        }
    }

    /// A copy to damage.
    pub(crate) fn copy(&self) -> SimWorld {
        self.world.crash(0, CrashMode::Prefix)
    }

    pub(crate) fn read_file(&self, path: &str) -> Vec<u8> {
        self.world.read_file(path).expect("a file of the data set")
    }

    /// Opens a copy, which must be refused or show one of the states.
    pub(crate) fn open(&self, copy: &SimWorld, line: &dyn Fn() -> String) -> Opened {
        match open_to_look(copy, &options()) {
            Err(error) => Opened::Refused(error),
            Ok(database) => {
                let digest = dump(&database).digest();
                let count = self.states.get(&digest);
                let count = count.unwrap_or_else(|| panic!("{}: wrong data was read", line()));
                Opened::State(*count)
            }
        }
    }

    /// Offset behind the last byte of a segment that is not zero.
    pub(crate) fn end_of(&self, segment: &str) -> usize {
        let bytes = self.read_file(segment);
        bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1)
    }
}

fn log_len_bytes(world: &SimWorld) -> usize {
    let segments = world
        .paths()
        .into_iter()
        .filter(|path| path.starts_with("WAL/wal-"));
    let used = |path: String| {
        let bytes = world.read_file(&path).unwrap_or_default();
        bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1)
    };
    segments.map(used).sum()
}
