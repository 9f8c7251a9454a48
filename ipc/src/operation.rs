//! The table of operations: wire name, and how the daemon and the client may treat each.
//!
//! One row is one operation. The table is in the order of the wire tags of
//! [`crate::request::Operation`]; a test compares the two.

use crate::request::{ArchivedOperation, Operation};

/// How one operation behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationProperties {
    /// The operation.
    pub kind: OperationKind,
    /// Its name in every encoding.
    pub name: &'static str,
    /// Whether it may commit something.
    pub is_write: bool,
    /// Whether doing it twice in a row leaves the same values as doing it once. A client may not
    /// repeat a write after a lost answer on this alone: another writer may have come between.
    pub is_idempotent: bool,
    /// Whether it may carry the id of an open transaction.
    pub joins_transaction: bool,
}

macro_rules! operations {
    ($($variant:ident $(($params:tt))? $name:literal $write:literal $idempotent:literal $joins:literal)*) => {
        /// Every operation, without its parameters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum OperationKind {
            $(
                #[doc = concat!("`", $name, "`.")]
                $variant,
            )*
        }

        /// All operations, in the order of their wire tags.
        pub const OPERATIONS: &[OperationProperties] = &[
            $(OperationProperties {
                kind: OperationKind::$variant,
                name: $name,
                is_write: $write,
                is_idempotent: $idempotent,
                joins_transaction: $joins,
            },)*
        ];

        impl OperationKind {
            /// What the table says about the operation.
            #[must_use]
            pub const fn properties(self) -> OperationProperties {
                match self {
                    $(Self::$variant => OperationProperties {
                        kind: Self::$variant,
                        name: $name,
                        is_write: $write,
                        is_idempotent: $idempotent,
                        joins_transaction: $joins,
                    },)*
                }
            }

            /// The operation of this wire name; names are exact.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl Operation<'_> {
            /// Which operation it is.
            #[must_use]
            pub const fn kind(&self) -> OperationKind {
                match self {
                    $(Self::$variant $(($params))? => OperationKind::$variant,)*
                }
            }
        }

        impl ArchivedOperation<'_> {
            /// Which operation it is.
            #[must_use]
            pub const fn kind(&self) -> OperationKind {
                match self {
                    $(Self::$variant $(($params))? => OperationKind::$variant,)*
                }
            }
        }
    };
}

//  variant            wire name               write  idempotent joins
operations! {
    SystemPing         "system.ping"           false  true   false
    SystemInfo         "system.info"           false  true   false
    SystemCapabilities "system.capabilities"   false  true   false
    DbFlush            "db.flush"              false  true   false
    KvPut(_)           "kv.put"                true   true   true
    KvGet(_)           "kv.get"                false  true   true
    KvGetVersioned(_)  "kv.get_versioned"      false  true   true
    KvGetMany(_)       "kv.get_many"           false  true   true
    KvExists(_)        "kv.exists"             false  true   true
    KvExistsMany(_)    "kv.exists_many"        false  true   true
    KvDelete(_)        "kv.delete"             true   true   true
    KvDeleteMany(_)    "kv.delete_many"        true   true   true
    KvPutMany(_)       "kv.put_many"           true   true   true
    KvIncr(_)          "kv.incr"               true   false  true
    KvCasVersion(_)    "kv.cas_version"        true   false  true
    KvCasValue(_)      "kv.cas_value"          true   false  true
    KvPutIfAbsent(_)   "kv.put_if_absent"      true   false  true
    KvGetAndSet(_)     "kv.get_and_set"        true   false  true
    KvGetAndDelete(_)  "kv.get_and_delete"     true   false  true
    KvList(_)          "kv.list"               false  true   true
    KvScan(_)          "kv.scan"               false  true   true
    KvCount(_)         "kv.count"              false  true   true
    KvGetAt(_)         "kv.get_at"             false  true   true
    KvHistory(_)       "kv.history"            false  true   true
    KvLatestVersion(_) "kv.latest_version"     false  true   true
    RunBegin(_)        "run.begin"             true   false  false
    RunEnd             "run.end"               true   false  true
    RunFail(_)         "run.fail"              true   false  true
    RunAbort(_)        "run.abort"             true   false  true
    RunCancel          "run.cancel"            true   false  true
    RunPause           "run.pause"             true   false  true
    RunResume          "run.resume"            true   false  true
    RunArchive         "run.archive"           true   false  true
    RunStatus          "run.status"            false  true   true
    RunGet             "run.get"               false  true   true
    RunExists          "run.exists"            false  true   true
    RunList(_)         "run.list"              false  true   false
    RunResolve(_)      "run.resolve"           false  true   false
    RunOrphaned        "run.orphaned"          false  true   false
    RunUpdateMetadata(_) "run.update_metadata" true   true   true
    RunAddTags(_)      "run.add_tags"          true   true   true
    RunRemoveTags(_)   "run.remove_tags"       true   true   true
    TxnBegin(_)        "txn.begin"             false  false  false
    TxnCommit          "txn.commit"            true   false  true
    TxnRollback        "txn.rollback"          false  true   true
    TxnInfo            "txn.info"              false  true   true
    Batch(_)           "batch"                 true   false  false
    DbWaitDurable(_)   "db.wait_durable"       false  true   false
    DbSubscribeDurable "db.subscribe_durable"  false  true   false
    DbUnsubscribe(_)   "db.unsubscribe"        false  true   false
    SystemHealth       "system.health"         false  true   false
    SystemMetrics      "system.metrics"        false  true   false
    SystemDescribe     "system.describe"       false  true   false
    DbCheckpoint       "db.checkpoint"         false  true   false
    DbCompact(_)       "db.compact"            false  true   false
    DbListSnapshots    "db.list_snapshots"     false  true   false
    DbDeleteSnapshot(_) "db.delete_snapshot"   false  true   false
    RunSetRetention(_) "run.set_retention"     true   true   true
    RunGetRetention    "run.get_retention"     false  true   true
    RunClearRetention  "run.clear_retention"   true   true   true
    RunRetentionStats  "run.retention_stats"   false  true   false
    RunRetentionPreview(_) "run.retention_preview" false true false
    DbExport(_)        "db.export"             false  false  false
    KvPutWithTtl(_)    "kv.put_with_ttl"       true   true   true
    KvExpiresAt(_)     "kv.expires_at"         false  true   true
}

impl OperationKind {
    /// The name in every encoding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.properties().name
    }

    /// Whether it may commit something.
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.properties().is_write
    }

    /// Whether doing it twice in a row leaves the same values as doing it once.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        self.properties().is_idempotent
    }

    /// Whether it may carry the id of an open transaction.
    #[must_use]
    pub const fn joins_transaction(self) -> bool {
        self.properties().joins_transaction
    }
}
