//! The engine as its callers see it. Each file is about one area; names are claims.

mod busy;
mod checkpoint;
mod checkpoint_crashes;
mod checkpoint_recovery;
mod codec;
mod codec_plain;
mod concurrency;
mod digest;
mod durable;
mod expiry;
mod export;
mod full_compaction;
mod hostile;
mod invariants;
mod kv;
mod lifecycle;
mod limits;
mod memory;
mod modes;
mod once;
mod once_limits;
mod poison;
mod publication;
mod read_only;
mod recovery;
mod refusals;
mod repair;
mod retention;
mod runs;
mod scheduled;
mod sequencer;
mod snapshots;
mod transaction_limits;
mod transactions;
mod writeset;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use in_mem_model::{EncodedValue, Value, encode};
use in_mem_wal::disk::{SimOptions, SimWorld};
use in_mem_wal::{LogConfig, Turn};
use parking_lot::Mutex;

use crate::{
    CommitError, Completion, CompletionSink, Database, DatabaseBuilder, Driver, DurabilityMode,
    Outcome,
};

/// A log small enough for the simulated disk.
pub(crate) fn small_log() -> LogConfig {
    LogConfig {
        segment_len_bytes: 256 << 10,
        log_block_len_bytes: 512,
        record_len_bytes_max: 64 << 10,
        buffered_sync_len_bytes: 64 << 10,
        batch_len_bytes_max: 64 << 10,
        ..LogConfig::default()
    }
}

pub(crate) fn world() -> SimWorld {
    SimWorld::new(SimOptions::new(42))
}

/// A builder over a simulated disk.
pub(crate) fn over(world: &SimWorld, mode: DurabilityMode) -> DatabaseBuilder {
    let buffered_sync = small_log();
    Database::builder()
        .disk(Arc::new(world.clone()))
        .wal_config(buffered_sync)
        .durability(mode)
}

/// A Strict database whose log moves only when it is driven.
pub(crate) fn driven(world: &SimWorld) -> (Database, Driver) {
    let database = over(world, DurabilityMode::Strict).manual().open().unwrap();
    let mut driver = database.take_driver().unwrap().unwrap();
    while driver.drive_background() {}
    (database, driver)
}

/// Writes and syncs all that is queued, or fails it.
pub(crate) fn drive(driver: &mut Driver) {
    while !matches!(driver.drive_log(), Turn::Idle { .. } | Turn::Poisoned) {}
}

/// What a committer was told, by token.
pub(crate) type Told = (u64, Result<Outcome, CommitError>);

/// Collects what is completed, in order.
#[derive(Default)]
pub(crate) struct Collector {
    told: Mutex<Vec<Told>>,
    /// Announcements of room, count.
    pub(crate) room_count: AtomicUsize,
    /// Durable versions told, in order.
    pub(crate) durable: Mutex<Vec<u64>>,
}

impl Collector {
    pub(crate) fn completion(self: &Arc<Self>, token: u64) -> Completion {
        let sink: Arc<dyn CompletionSink> = Arc::<Self>::clone(self);
        Completion { sink, token }
    }

    pub(crate) fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock())
    }
}

impl CompletionSink for Collector {
    fn complete(&self, token: u64, result: Result<Outcome, CommitError>) {
        self.told.lock().push((token, result));
    }

    fn durable(&self, version: u64) {
        self.durable.lock().push(version);
    }

    fn space_available(&self) {
        self.room_count.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn in_memory() -> Database {
    Database::builder().in_memory().open().unwrap()
}

pub(crate) fn int(value: i64) -> EncodedValue {
    encode(&Value::Int(value)).unwrap()
}

pub(crate) fn text(value: &str) -> EncodedValue {
    encode(&Value::String(value.to_owned())).unwrap()
}

/// Every mode, Buffered so that nothing is synced by itself.
pub(crate) const MODES: [DurabilityMode; 3] = [
    DurabilityMode::InMemory,
    DurabilityMode::Buffered {
        flush_interval_ms: 3_600_000,
        max_pending_writes: 1_000_000,
    },
    DurabilityMode::Strict,
];
