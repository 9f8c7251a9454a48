//! A life of the log on a simulated disk, and what a crash image must show of it.

use in_mem_wal::disk::{CrashMode, SimOptions, SimRng, SimWorld};
use in_mem_wal::harness::{self, Harness, History, Recovered, UUID, check, recover, sound};
use in_mem_wal::recover::create_log;
use in_mem_wal::{LogConfig, Need};

/// Actions of one life; a few segments' worth.
const ACTION_COUNT: usize = 40;

/// Largest ordinary writeset, bytes; a segment holds about ten.
const WRITESET_LEN_BYTES_MAX: u64 = 1500;

/// What a torn write takes whole, bytes.
const SECTOR_LEN_BYTES: usize = 512;

/// A batch mark, bytes: the 41 of a record and its payload of 31.
const MARK_LEN_BYTES: usize = 72;

/// A record without its writeset, bytes.
const RECORD_OVERHEAD_LEN_BYTES: usize = 41;

/// What the commits of a life ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Strict,
    Buffered,
    Mixed,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Strict, Self::Buffered, Self::Mixed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Buffered => "Buffered",
            Self::Mixed => "mixed",
        }
    }

    fn need(self, rng: &mut SimRng) -> Need {
        match self {
            Self::Strict => Need::Synced,
            Self::Buffered => Need::Written,
            Self::Mixed if rng.coin() => Need::Synced,
            Self::Mixed => Need::Written,
        }
    }

    pub(crate) fn of_seed(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed % 3).expect("small")]
    }
}

pub(crate) fn world(seed: u64) -> SimWorld {
    SimWorld::new(SimOptions::new(seed))
}

pub(crate) fn crash_mode(image: u64) -> CrashMode {
    if image.is_multiple_of(2) {
        CrashMode::Prefix
    } else {
        CrashMode::Subset
    }
}

/// A log that lived.
pub(crate) struct Life {
    pub(crate) harness: Harness,
    /// Operations that had made the log, before which a directory is none of ours.
    pub(crate) created_at: u64,
}

/// Runs a life as far as the faults of its disk let it; none if not even the log could be made.
pub(crate) fn live(world: &SimWorld, config: &LogConfig, seed: u64, mode: Mode) -> Option<Life> {
    create_log(&mut world.disk(), UUID).ok()?;
    let created_at = world.op_count();
    let (mut harness, _) = Harness::open(world, config, History::default()).ok()?;
    let mut rng = SimRng::new(seed);
    harness.prepare();
    act(&mut harness, &mut rng, mode, ACTION_COUNT);
    if rng.coin() {
        harness.close();
    }
    Some(Life {
        harness,
        created_at,
    })
}

impl Life {
    pub(crate) fn history(&self) -> History {
        self.harness.history.lock().clone()
    }
}

/// Random actions: commits of `mode`, turns of the writer, spares, time, flushes, floors.
pub(crate) fn act(harness: &mut Harness, rng: &mut SimRng, mode: Mode, count: usize) {
    for _ in 0..count {
        if rng.below(16) == 0 {
            // A batch whose records begin exactly at sectors, so that a torn write can take whole
            // ones and leave zeros in their place.
            harness.settle_down();
            let first = MARK_LEN_BYTES + RECORD_OVERHEAD_LEN_BYTES;
            for overhead in [first, RECORD_OVERHEAD_LEN_BYTES] {
                let need = mode.need(rng);
                let _ = harness.append(SECTOR_LEN_BYTES - overhead, need);
                let _ = harness.append(SECTOR_LEN_BYTES - RECORD_OVERHEAD_LEN_BYTES, need);
            }
        } else if rng.below(20) < 8 {
            for _ in 0..=rng.below(4) {
                let len = usize::try_from(rng.below(WRITESET_LEN_BYTES_MAX)).expect("small");
                let need = mode.need(rng);
                // Refused when the log is full or has failed: that is an answer, not an error.
                let _ = harness.append(len, need);
            }
        } else {
            act_without_append(harness, rng);
        }
    }
}

fn act_without_append(harness: &mut Harness, rng: &mut SimRng) {
    match rng.below(12) {
        0..=3 => {
            harness.writer.turn(harness.now_us);
        }
        4..=6 => {
            harness.settle_down();
        }
        7 | 8 => {
            let _ = harness.prepare();
        }
        9 => harness.now_us += rng.below(1_500_000),
        10 => {
            let _ = harness.handle.flush_start();
        }
        _ => {
            let floor = harness
                .history
                .lock()
                .floors
                .last()
                .map_or(0, |(floor, _)| *floor);
            harness.handle.set_version_floor(floor + 10);
        }
    }
}

/// Recovers an image and checks it; then reads it again, which must show the same.
pub(crate) fn check_image(
    image: &SimWorld,
    history: &History,
    promised: u64,
    line: &dyn Fn() -> String,
) -> Recovered {
    let config = sound();
    let (recovered, _) =
        recover(image, &config).unwrap_or_else(|why| panic!("{}: not recovered: {why:?}", line()));
    check(history, &recovered, promised).unwrap_or_else(|why| panic!("{}: {why}", line()));
    let again = harness::read_only(image, &config)
        .unwrap_or_else(|why| panic!("{}: not read again: {why:?}", line()));
    assert_eq!(
        recovered.records,
        again.records,
        "{}: recovered twice, two results",
        line()
    );
    recovered
}
