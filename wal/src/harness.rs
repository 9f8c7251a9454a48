//! A whole log on one disk, driven by hand, with a history to check recovery against.
//!
//! For the simulation tests of this crate and of the root package; compiled for tests and with the
//! `faults` feature only. The disk is a simulated world, or any other [`World`]. One thread, one seed, no clock: the harness appends, turns the writer,
//! prepares spares, advances its own time, and keeps what was promised and when. After a crash the
//! recovered log must be a prefix of what was appended, whole and unchanged, that reaches to every
//! promise.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::codec::IdentityCodec;
use crate::config::LogConfig;
use crate::disk::{OpenDisk, SimRng, SimWorld};
use crate::faults::Planted;
use crate::handle::{Append, LogHandle, ReserveError};
use crate::lsn::Lsn;
use crate::recover::{
    RecoveredRecord, ScanError, ScanOptions, SettleError, SettleOptions, Settled, create_log, scan,
    settle,
};
use crate::sink::{LogStatus, Need, PoisonCause, Sink};
use crate::spares::{Prepared, prepare_spare};
use crate::writer::{Turn, Writer, start};

/// The uuid of every harness database.
pub const UUID: [u8; 16] = [0xD5; 16];

/// What recovery adds to the version floor.
const FLOOR_STEP: u64 = 1 << 32;

/// A directory with a database in it, as the harness needs it.
pub trait World: OpenDisk + Clone {
    /// Operations it has seen; always zero where no image of a moment can be had.
    fn op_count(&self) -> u64;
}

impl World for SimWorld {
    fn op_count(&self) -> u64 {
        Self::op_count(self)
    }
}

/// A record the harness appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its commit version.
    pub txn_id: u64,
    /// Its writeset.
    pub writeset: Vec<u8>,
}

/// A promise the log made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// The commit version it covers, with all before it.
    pub txn_id: u64,
    /// End of the record.
    pub end_lsn: Lsn,
    /// What was promised.
    pub need: Need,
    /// Operations the world had seen when it was made.
    pub op_count: u64,
}

/// Everything that happened to a database, over all its restarts.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every record appended and not known to be lost, in order.
    pub issued: VecDeque<Issued>,
    /// Every promise made.
    pub promises: Vec<Promise>,
    /// Tokens that came back as failed.
    pub failed: Vec<u64>,
    /// The highest floor reported durable, and when.
    pub floors: Vec<(u64, u64)>,
    /// The cause, once poisoned.
    pub poisoned: Option<PoisonCause>,
    /// What the sink was told in a wrong order or twice.
    pub violations: Vec<String>,
}

/// The sink of the harness.
pub struct Recorder<W = SimWorld> {
    world: W,
    history: Arc<Mutex<History>>,
}

impl<W: World> Sink<(u64, Need)> for Recorder<W> {
    fn reached(&mut self, (txn_id, need): (u64, Need), end_lsn: Lsn) {
        let mut history = self.history.lock();
        if let Some(last) = history.promises.last().copied()
            && (txn_id <= last.txn_id || end_lsn <= last.end_lsn)
        {
            let text = format!(
                "{txn_id} at {end_lsn} told after {} at {}",
                last.txn_id, last.end_lsn
            );
            history.violations.push(text);
        }
        let op_count = self.world.op_count();
        history.promises.push(Promise {
            txn_id,
            end_lsn,
            need,
            op_count,
        });
    }

    fn floor_durable(&mut self, version_floor: u64) {
        let op_count = self.world.op_count();
        self.history.lock().floors.push((version_floor, op_count));
    }

    fn poisoned(&mut self, cause: &PoisonCause) {
        let mut history = self.history.lock();
        if history.poisoned.replace(cause.clone()).is_some() {
            history.violations.push("poisoned twice".to_owned());
        }
    }

    fn failed(&mut self, (txn_id, _): (u64, Need)) {
        self.history.lock().failed.push(txn_id);
    }
}

/// What opening found.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// Every record, in order.
    pub records: Vec<Issued>,
    /// The floor in the last mark.
    pub version_floor: u64,
    /// Bytes that went to quarantine.
    pub quarantined_len_bytes: u64,
}

/// Why a harness database did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was not read.
    #[error("scan")]
    Scan(#[source] ScanError<std::convert::Infallible>),
    /// It was read and not settled.
    #[error("settle")]
    Settle(#[source] SettleError),
    /// Its writer did not open.
    #[error("writer")]
    Writer(#[source] io::Error),
}

/// A log on a disk, a simulated one unless said otherwise.
pub struct Harness<W: World = SimWorld> {
    /// The machine.
    pub world: W,
    /// The committers' side.
    pub handle: LogHandle<(u64, Need)>,
    /// The log thread's side.
    pub writer: Writer<(u64, Need), Recorder<W>>,
    /// What happened so far.
    pub history: Arc<Mutex<History>>,
    /// The harness's own time, microseconds.
    pub now_us: u64,
    txn_id_to_issue: u64,
    /// Reservations answered with an error, by kind: busy, no space.
    pub refused: (u64, u64),
}

/// Scans without settling: what a reader of this directory would see.
///
/// # Errors
/// As [`scan`].
pub fn read_only<W: World>(
    world: &W,
    config: &LogConfig,
) -> Result<Recovered, ScanError<std::convert::Infallible>> {
    scan_world(world, config).map(|(recovered, _)| recovered)
}

fn scan_world<W: World>(
    world: &W,
    config: &LogConfig,
) -> Result<(Recovered, crate::recover::Scan), ScanError<std::convert::Infallible>> {
    let options = ScanOptions {
        database_uuid: UUID,
        record_len_bytes_max: config.record_len_bytes_max,
        snapshot_end: Lsn::ZERO,
        manifest_active_segment: 1,
        is_permissive: false,
        planted: config.planted,
    };
    let mut records = Vec::new();
    let visit = |record: RecoveredRecord<'_>| {
        records.push(Issued {
            txn_id: record.txn_id,
            writeset: record.writeset.to_vec(),
        });
        Ok(())
    };
    let mut disk = world.open_disk().map_err(|source| ScanError::Io {
        path: String::new(),
        source,
    })?;
    let found = scan(&mut *disk, &options, &IdentityCodec, visit)?;
    let version_floor = found.version_floor;
    Ok((
        Recovered {
            records,
            version_floor,
            quarantined_len_bytes: 0,
        },
        found,
    ))
}

/// Scans and settles, without starting a log.
///
/// # Errors
/// See [`OpenError`].
pub fn recover<W: World>(world: &W, config: &LogConfig) -> Result<(Recovered, Settled), OpenError> {
    let (mut recovered, found) = scan_world(world, config).map_err(OpenError::Scan)?;
    let highest = recovered.records.last().map_or(0, |record| record.txn_id);
    let options = SettleOptions {
        config: *config,
        database_uuid: UUID,
        version_floor: recovered.version_floor.max(highest) + FLOOR_STEP,
        now_us: 1,
    };
    let mut disk = world.open_disk().map_err(OpenError::Writer)?;
    let settled =
        settle(&mut *disk, found, &options, &mut |_, _| Ok(())).map_err(OpenError::Settle)?;
    recovered.quarantined_len_bytes = settled.quarantined_len_bytes;
    Ok((recovered, settled))
}

impl<W: World> Harness<W> {
    /// Creates a log in an empty world and opens it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn create(world: &W, config: &LogConfig) -> Result<Self, OpenError> {
        let mut disk = world.open_disk().map_err(OpenError::Writer)?;
        create_log(&mut *disk, UUID).map_err(OpenError::Writer)?;
        drop(disk);
        Self::open(world, config, History::default()).map(|(harness, _)| harness)
    }

    /// Opens a log; `history` is what the world has seen before.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        world: &W,
        config: &LogConfig,
        mut history: History,
    ) -> Result<(Self, Recovered), OpenError> {
        let (recovered, settled) = recover(world, config)?;
        history.issued = recovered.records.iter().cloned().collect();
        history.promises.clear();
        history.failed.clear();
        history.floors = vec![(settled.version_floor, world.op_count())];
        history.poisoned = None;
        let txn_id_to_issue = settled.last_txn_id.max(recovered.version_floor) + 1;
        let history = Arc::new(Mutex::new(history));
        let recorder = Recorder {
            world: world.clone(),
            history: Arc::clone(&history),
        };
        let (handle, seed) = start(*config, Arc::new(IdentityCodec), &settled)
            .expect("the harness is given a valid configuration");
        let writer = world
            .open_disk()
            .and_then(|disk| seed.open(disk, recorder))
            .map_err(OpenError::Writer)?;
        let harness = Self {
            world: world.clone(),
            handle,
            writer,
            history,
            now_us: 0,
            txn_id_to_issue,
            refused: (0, 0),
        };
        Ok((harness, recovered))
    }

    /// Appends one record of `len_bytes`, if the log admits it.
    pub fn append(&mut self, len_bytes: usize, need: Need) -> Result<u64, ReserveError> {
        let reservation = match self.handle.reserve(len_bytes) {
            Ok(reservation) => reservation,
            Err(error) => {
                match error {
                    ReserveError::Busy => self.refused.0 += 1,
                    ReserveError::NoSpace => self.refused.1 += 1,
                    _ => {}
                }
                return Err(error);
            }
        };
        let txn_id = self.txn_id_to_issue;
        let mut writeset = self.handle.take_buffer();
        fill_writeset(&mut writeset, txn_id, len_bytes);
        let issued = Issued {
            txn_id,
            writeset: writeset.clone(),
        };
        let append = Append {
            txn_id,
            run_id: [7; 16],
            timestamp_us: self.now_us,
            writeset,
            need,
            token: (txn_id, need),
        };
        // A reservation was admitted, so only poison or a close can be in the way.
        let mut appender = match self.handle.appender() {
            Ok(appender) => appender,
            Err(_) => return Err(ReserveError::Poisoned),
        };
        appender.append(reservation, append);
        drop(appender);
        self.history.lock().issued.push_back(issued);
        self.txn_id_to_issue += 1;
        Ok(txn_id)
    }

    /// Turns the writer until it has nothing to do now.
    pub fn settle_down(&mut self) -> Turn {
        loop {
            let turn = self.writer.turn(self.now_us);
            if turn != Turn::Worked {
                return turn;
            }
        }
    }

    /// Prepares a spare if one is wanted, and lets the writer adopt it.
    pub fn prepare(&mut self) -> Prepared {
        let prepared = match self.world.open_background_disk() {
            Ok(mut disk) => prepare_spare(&mut *disk, self.handle.spares()),
            Err(error) => Prepared::Failed(Arc::new(error)),
        };
        self.settle_down();
        prepared
    }

    /// Closes the log in order.
    pub fn close(&mut self) -> Turn {
        self.handle.close(self.txn_id_to_issue - 1);
        self.settle_down()
    }

    /// True once the log has failed.
    pub fn is_poisoned(&self) -> bool {
        matches!(self.handle.status(), LogStatus::Poisoned(_))
    }

    /// One random action; `size_max` bounds ordinary writesets.
    pub fn act(&mut self, rng: &mut SimRng, size_max: u64) {
        match rng.below(20) {
            0..=7 => {
                for _ in 0..=rng.below(4) {
                    let len = usize::try_from(rng.below(size_max)).unwrap_or(0);
                    let strict = rng.below(3) != 0;
                    let need = if strict { Need::Synced } else { Need::Written };
                    let _ = self.append(len, need);
                }
            }
            8..=11 => {
                self.writer.turn(self.now_us);
            }
            12..=14 => {
                self.settle_down();
            }
            15 | 16 => {
                let _ = self.prepare();
            }
            17 => self.now_us += rng.below(1_500_000),
            18 => {
                let _ = self.handle.flush_start();
            }
            _ => {
                let floor = self
                    .history
                    .lock()
                    .floors
                    .last()
                    .map_or(0, |(floor, _)| *floor);
                self.handle.set_version_floor(floor + 10);
            }
        }
    }
}

/// The content of a record follows from its version and length.
fn fill_writeset(target: &mut Vec<u8>, txn_id: u64, len_bytes: usize) {
    let mut rng = SimRng::new(txn_id);
    target.clear();
    while target.len() < len_bytes {
        // Runs of zeros too: sectors of them must not be taken for padding.
        let word = if rng.below(4) == 0 { 0 } else { rng.next_u64() };
        let repeat = if word == 0 { 80 } else { 1 };
        for _ in 0..repeat {
            target.extend_from_slice(&word.to_le_bytes());
        }
    }
    target.truncate(len_bytes);
}

/// What must have survived: every promise of at least `need` made before operation `op_count`.
#[must_use]
pub fn promised(history: &History, need: Need, op_count: u64) -> u64 {
    let kept = |promise: &&Promise| promise.op_count <= op_count && need <= promise.need;
    history
        .promises
        .iter()
        .filter(kept)
        .map(|promise| promise.txn_id)
        .max()
        .unwrap_or(0)
}

/// Checks a recovered log against a history: a prefix of what was issued, unchanged, that reaches
/// to `promised_txn_id`, and a floor at or above every version issued.
///
/// # Errors
/// What does not hold, in words.
pub fn check(history: &History, recovered: &Recovered, promised_txn_id: u64) -> Result<(), String> {
    if let Some(violation) = history.violations.first() {
        return Err(violation.clone());
    }
    for (index, record) in recovered.records.iter().enumerate() {
        match history.issued.get(index) {
            Some(issued) if issued == record => {}
            Some(issued) => {
                return Err(format!(
                    "record {index} is version {} where {} was issued, or its bytes changed",
                    record.txn_id, issued.txn_id
                ));
            }
            None => return Err(format!("version {} was never issued", record.txn_id)),
        }
    }
    let reached = recovered.records.last().map_or(0, |record| record.txn_id);
    let before = history.issued.front().map_or(0, |first| first.txn_id - 1);
    if reached.max(before) < promised_txn_id {
        return Err(format!(
            "version {promised_txn_id} was promised, the log ends at {reached}"
        ));
    }
    Ok(())
}

/// A configuration with a planted mistake.
#[cfg(any(test, feature = "faults"))]
#[must_use]
pub fn with_mutant(config: LogConfig, mutant: crate::faults::Mutant) -> LogConfig {
    LogConfig {
        planted: Planted::new(mutant),
        ..config
    }
}

/// The tiny configuration without mistakes.
#[must_use]
pub fn sound() -> LogConfig {
    LogConfig {
        planted: Planted::NONE,
        ..LogConfig::tiny()
    }
}
