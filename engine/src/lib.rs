//! The embedded database of in-mem: run shards, version chains, transactions, the commit pipeline,
//! recovery.
//!
//! It promises snapshot isolation with first-committer-wins inside one run, in every durability
//! mode, and that readers wait for nobody. It refuses to know sockets and wire types.
//!
//! A put goes `kv.rs` or `run.rs` (the caller's side), `database.rs` (the mode), `prepare.rs`
//! (before the critical section), `commit.rs` with `evaluate.rs` and `conflict.rs` (inside it),
//! `publication.rs` (visible and answered). A get goes `kv.rs`, `view.rs`, `index.rs`,
//! `version_node.rs`. A restart goes `open.rs`, `recovery.rs`, `recovery_snapshot.rs`,
//! `registry.rs`; a checkpoint goes `checkpoint.rs`, `checkpoint_job.rs`, `snapshot_view.rs`.
//!
//! ```
//! use in_mem_engine::{Database, model};
//!
//! let database = Database::builder().in_memory().open()?;
//! let run = database.default_run();
//! run.kv().put("greeting", &model::encode(&model::Value::from("hello"))?)?;
//! assert!(run.kv().contains("greeting")?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attributes;
mod background;
mod builder;
mod check;
mod checkpoint;
mod checkpoint_job;
mod codec;
mod commit;
mod compaction;
mod config;
mod conflict;
mod database;
mod digest;
mod disk_room;
mod durability;
mod durable;
mod errors;
mod evaluate;
mod expiry;
mod export;
mod export_job;
pub mod faults;
mod follow;
mod full_compaction;
mod gaps;
mod index;
mod keyed_set;
mod kv;
mod kv_storage;
pub mod limits;
mod limits_in_force;
mod log_state;
mod logical_digest;
mod memory;
mod names;
mod now;
mod once;
mod once_image;
mod once_result;
mod open;
mod ordered;
mod padded;
mod perf;
mod pins;
mod pool;
mod prepare;
mod program;
mod progress;
mod publication;
mod recovery;
mod recovery_snapshot;
mod registry;
mod repair;
mod retention;
mod run;
mod run_change;
mod run_storage;
mod runs;
mod salvage;
mod savepoints;
mod sequencer;
mod shard;
mod shared;
mod shutdown;
mod snapshot_bytes;
mod snapshot_view;
mod snapshots;
mod staging;
mod storage;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod ticker;
mod transaction;
mod transaction_memory;
mod transaction_sets;
mod trim;
mod version_node;
mod view;
mod waiter;
mod writeset;
mod writeset_reader;

pub use in_mem_model as model;

pub use builder::DatabaseBuilder;
pub use check::{CheckReport, CheckedSnapshot, CheckedState, Finding, Loss};
pub use checkpoint::{CheckpointError, CheckpointInfo, CheckpointPhase, CheckpointProgress};
pub use compaction::{CompactError, CompactInfo, CompactMode, CompactRequest};
pub use config::{BufferedAck, DatabaseConfig, Driving, TimeSource};
pub use database::Database;
pub use durability::{
    BufferedDurability, Durability, DurabilityMode, InMemoryDurability, StrictDurability,
};
pub use durable::{DurableWatch, Flush, WaitDurableError};
pub use errors::{
    CommitError, ConflictKind, DatabaseClosed, FlushError, OpenError, ReadError, RecordError,
    RunError, ShutdownError,
};
pub use expiry::{Lifetime, TTL_US_MAX};
pub use export::{ExportError, ExportInfo};
pub use index::KeyRef;
pub use kv::{CasOutcome, KeyValue, Kv, Page};
pub use log_state::Driver;
pub use logical_digest::{DigestError, StateCounts, StateDigest};
pub use once::OnceRequest;
#[cfg(any(test, feature = "perf-trace"))]
pub use perf::PerfTrace;
pub use pool::{RetryPolicy, clear_pool, pool_size};
pub use program::{
    Actual, CommitOptions, Completion, CompletionSink, Expected, Outcome, Program, ReadCheck, Seen,
    Step, StepOutcome, StepOutcomes, Submitted,
};
pub use progress::RecoveryProgress;
pub use recovery::RecoveryResult;
pub use registry::{PrimitiveError, PrimitiveRegistry, PrimitiveStorageExt, RegisterError};
pub use repair::{RepairError, RepairInfo};
pub use retention::{PolicyError, RetentionStats, policy_value};
pub use run::Run;
pub use run_change::{BeginRun, DEFAULT_RUN_NAME, RunChange};
pub use runs::{RunFilter, RunPage, Runs};
pub use savepoints::Savepoint;
pub use snapshot_view::{EntityVersions, SnapshotTarget, SnapshotView};
pub use snapshots::{DeleteSnapshotError, ListSnapshotsError, SnapshotInfo};
pub use storage::{Storage, WriteSet};
pub use store::ShardedStore;
pub use transaction::{TransactionContext, TransactionInfo, TransactionOptions, TransactionStatus};
pub use trim::HeldBack;
pub use version_node::VersionedRef;
pub use view::{HistoryEntry, HistoryPage, ListItem, ListRequest, ListStep, ReadView, Versioned};
pub use writeset::{MutationKind, PAYLOAD_VERSION as WRITESET_FORMAT_VERSION, entry_type};
pub use writeset_reader::{WalEntry, WritesetError};
