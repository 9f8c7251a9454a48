//! What a client may ask: one header, one operation.
//!
//! A request is one rkyv archive, its root at the end of the body. The root is 80 bytes: 40 of
//! header and 40 of operation; parameters that would not fit are boxed in the archive. Tags of
//! enums are the position of the variant: variants are only ever added at the end.

pub mod db;
pub mod kv;
pub mod retention;
pub mod run;
pub mod txn;
pub mod version;

use rkyv::bytecheck::CheckBytes;
use rkyv::with::AsBox;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use db::{Compact, DeleteSnapshot, Export, Unsubscribe, WaitDurable};
use kv::{
    CasValue, CasVersion, GetAt, History, Increment, Key, KeyValue, KeyValueTtl, KeyValues, Keys,
    List, Prefix, Scan,
};
use retention::Policy;
use run::{RunBegin, RunFailure, RunList, RunMetadata, RunName, RunTags};
use txn::{Batch, TxnBegin};

/// The durability a request asks for.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Portable,
    CheckBytes,
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum DurabilityChoice {
    /// That of the open transaction, else of the session.
    #[default]
    Session,
    /// Never logged.
    InMemory,
    /// Acknowledged when the kernel has the record.
    Buffered,
    /// Acknowledged when the record is on disk.
    Strict,
}

/// The run a request acts in.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Portable,
    CheckBytes,
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum RunChoice {
    /// The default run of the session, as the hello resolved it.
    #[default]
    Session,
    /// This run; the all-zero id is the default run of the database.
    Id([u8; 16]),
}

/// What every request carries beside its operation. The default means: nothing special.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestHeader {
    /// The open transaction to join; 0 for none.
    pub txn_id: u64,
    /// The exactly-once sequence of the client; 0 for none.
    pub client_sequence: u64,
    /// Relative deadline in microseconds from arrival; 0 for none.
    pub deadline_us: u32,
    /// How far below `client_sequence` the lowest sequence lies whose answer is still awaited.
    pub client_sequence_lag: u16,
    /// Durability of the write.
    pub durability: DurabilityChoice,
    /// The run.
    pub run: RunChoice,
}

/// One request.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Run, durability, transaction, sequence, deadline.
    pub header: RequestHeader,
    /// What to do.
    pub operation: Operation<'a>,
}

/// Everything a client may ask. The wire name of each variant is in [`crate::operation`].
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// `system.ping`: answers `Done`.
    SystemPing,
    /// `system.info`: answers `Info`.
    SystemInfo,
    /// `system.capabilities`: answers `Capabilities`.
    SystemCapabilities,
    /// `db.flush`: answers `Done` once everything acknowledged before is synced.
    DbFlush,
    /// `kv.put`: answers `Written`.
    KvPut(KeyValue<'a>),
    /// `kv.get`: answers `Value` or `Missing`.
    KvGet(Key<'a>),
    /// `kv.get_versioned`: answers `Versioned` or `Missing`.
    KvGetVersioned(Key<'a>),
    /// `kv.get_many`: answers `Values`, in the order asked.
    KvGetMany(Keys<'a>),
    /// `kv.exists`: answers `Flag`.
    KvExists(Key<'a>),
    /// `kv.exists_many`: answers `Count`.
    KvExistsMany(Keys<'a>),
    /// `kv.delete`: answers `Deleted`.
    KvDelete(Key<'a>),
    /// `kv.delete_many`: answers `Deleted`.
    KvDeleteMany(Keys<'a>),
    /// `kv.put_many`: answers `Written`.
    KvPutMany(KeyValues<'a>),
    /// `kv.incr`: answers `Incremented`.
    KvIncr(Increment<'a>),
    /// `kv.cas_version`: answers `Written` or `Mismatch`.
    KvCasVersion(CasVersion<'a>),
    /// `kv.cas_value`: answers `Written` or `Mismatch`.
    KvCasValue(CasValue<'a>),
    /// `kv.put_if_absent`: answers `Written` or `Mismatch`.
    KvPutIfAbsent(KeyValue<'a>),
    /// `kv.get_and_set`: answers `Replaced`.
    KvGetAndSet(KeyValue<'a>),
    /// `kv.get_and_delete`: answers `Replaced`.
    KvGetAndDelete(Key<'a>),
    /// `kv.list`: answers `Page`.
    KvList(List<'a>),
    /// `kv.scan`: answers `Page`.
    KvScan(Scan<'a>),
    /// `kv.count`: answers `Count`.
    KvCount(Prefix<'a>),
    /// `kv.get_at`: answers `Versioned` or `Missing`.
    KvGetAt(GetAt<'a>),
    /// `kv.history`: answers `History`, newest first.
    KvHistory(History<'a>),
    /// `kv.latest_version`: answers `Version` or `Missing`.
    KvLatestVersion(Key<'a>),
    /// `run.begin`: answers `RunBegun`.
    RunBegin(#[rkyv(with = AsBox)] RunBegin<'a>),
    /// `run.end`: answers `Written`.
    RunEnd,
    /// `run.fail`: answers `Written`.
    RunFail(RunFailure<'a>),
    /// `run.abort`: answers `Written`.
    RunAbort(RunFailure<'a>),
    /// `run.cancel`: answers `Written`.
    RunCancel,
    /// `run.pause`: answers `Written`.
    RunPause,
    /// `run.resume`: answers `Written`.
    RunResume,
    /// `run.archive`: answers `Written`.
    RunArchive,
    /// `run.status`: answers `RunStatus`.
    RunStatus,
    /// `run.get`: answers `Run` or `Missing`.
    RunGet,
    /// `run.exists`: answers `Flag`.
    RunExists,
    /// `run.list`: answers `Runs`.
    RunList(RunList<'a>),
    /// `run.resolve`: answers `RunId` or `Missing`.
    RunResolve(RunName<'a>),
    /// `run.orphaned`: answers `Runs`.
    RunOrphaned,
    /// `run.update_metadata`: answers `Written`.
    RunUpdateMetadata(RunMetadata<'a>),
    /// `run.add_tags`: answers `Written`.
    RunAddTags(RunTags<'a>),
    /// `run.remove_tags`: answers `Written`.
    RunRemoveTags(RunTags<'a>),
    /// `txn.begin`: answers `TxnBegun`.
    TxnBegin(TxnBegin),
    /// `txn.commit`: answers `Written`.
    TxnCommit,
    /// `txn.rollback`: answers `Done`.
    TxnRollback,
    /// `txn.info`: answers `Txn`.
    TxnInfo,
    /// `batch`: answers `Batch`.
    Batch(#[rkyv(with = AsBox)] Batch<'a>),
    /// `db.wait_durable`: answers `Version`, the durable version, once every logged commit at or
    /// below the one asked for is synced.
    DbWaitDurable(WaitDurable),
    /// `db.subscribe_durable`: answers `Subscribed`; pushes carry `Version`, the durable version,
    /// or `Error` once, when there will be no more.
    DbSubscribeDurable,
    /// `db.unsubscribe`: answers `Done`; no push follows the answer.
    DbUnsubscribe(Unsubscribe),
    /// `system.health`: answers `Health`.
    SystemHealth,
    /// `system.metrics`: answers `Metrics`.
    SystemMetrics,
    /// `system.describe`: answers `Description`.
    SystemDescribe,
    /// `db.checkpoint`: answers `Checkpoint`, once the snapshot is durable and counts.
    DbCheckpoint,
    /// `db.compact`: answers `Compacted`, once what was let go of is gone for good.
    DbCompact(Compact<'a>),
    /// `db.list_snapshots`: answers `Snapshots`, the oldest first.
    DbListSnapshots,
    /// `db.delete_snapshot`: answers `Flag`, whether there was one of that id.
    DbDeleteSnapshot(DeleteSnapshot),
    /// `run.set_retention`: answers `Written`.
    RunSetRetention(Policy<'a>),
    /// `run.get_retention`: answers `Retention`.
    RunGetRetention,
    /// `run.clear_retention`: answers `Written`; nothing was committed if the run had no policy of
    /// its own.
    RunClearRetention,
    /// `run.retention_stats`: answers `RetentionStats`, under the policy in force.
    RunRetentionStats,
    /// `run.retention_preview`: answers `RetentionStats`, under a policy that need not be in force.
    RunRetentionPreview(Policy<'a>),
    /// `db.export`: answers `Exported`, once the clone has its name and is durable.
    DbExport(Export<'a>),
    /// `kv.put_with_ttl`: answers `Written`.
    KvPutWithTtl(KeyValueTtl<'a>),
    /// `kv.expires_at`: answers `Count`, microseconds since the epoch, 0 for a key that does not
    /// expire; or `Missing`.
    KvExpiresAt(Key<'a>),
}

impl ArchivedRequestHeader {
    /// The header, copied out of its archive.
    #[must_use]
    pub const fn to_native(&self) -> RequestHeader {
        RequestHeader {
            txn_id: self.txn_id.to_native(),
            client_sequence: self.client_sequence.to_native(),
            deadline_us: self.deadline_us.to_native(),
            client_sequence_lag: self.client_sequence_lag.to_native(),
            durability: self.durability,
            run: self.run,
        }
    }
}
