//! Every sub-code as one table: number, name, class, retry. The number is the class times 100 plus a
//! counter; a number or a name that was given out is never given another meaning.

use super::{ErrorClass, Retry};

macro_rules! sub_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $class:ident, $retry:ident;)*) => {
        /// What exactly went wrong, within a class.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum SubCode {
            $($(#[$doc])* $variant = $number,)*
        }

        impl SubCode {
            /// Every sub-code, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The class it belongs to.
            #[must_use]
            pub fn class(self) -> ErrorClass {
                match self { $(Self::$variant => ErrorClass::$class,)* }
            }

            /// Whether doing it again can help.
            #[must_use]
            pub fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)* }
            }
        }
    };
}

sub_codes! {
    /// No such run.
    RunNotFound = 100, "run_not_found", NotFound, No;
    /// No such key.
    KeyNotFound = 101, "key_not_found", NotFound, No;
    /// No such JSON document.
    DocumentNotFound = 102, "document_not_found", NotFound, No;
    /// No such state cell.
    CellNotFound = 103, "cell_not_found", NotFound, No;
    /// No such vector collection.
    CollectionNotFound = 104, "collection_not_found", NotFound, No;
    /// No such trace.
    TraceNotFound = 105, "trace_not_found", NotFound, No;

    /// The key is empty.
    Empty = 300, "empty", InvalidKey, No;
    /// The key holds a zero byte.
    Nul = 301, "nul", InvalidKey, No;
    /// The key is too long.
    KeyTooLong = 302, "key_too_long", InvalidKey, No;
    /// The key is not UTF-8.
    InvalidUtf8 = 303, "invalid_utf8", InvalidKey, No;
    /// The key is inside the reserved namespace.
    ReservedPrefix = 304, "reserved_prefix", InvalidKey, No;

    /// The asked time lies before what is kept.
    HistoryUnavailable = 500, "history_unavailable", HistoryTrimmed, No;

    /// The encoded value is too long or has too many nodes.
    ValueTooLarge = 600, "value_too_large", ConstraintViolation, No;
    /// A string is too long.
    StringTooLong = 601, "string_too_long", ConstraintViolation, No;
    /// A bytes value is too long.
    BytesTooLong = 602, "bytes_too_long", ConstraintViolation, No;
    /// An array has too many elements.
    ArrayTooLong = 603, "array_too_long", ConstraintViolation, No;
    /// An object has too many entries.
    ObjectTooLarge = 604, "object_too_large", ConstraintViolation, No;
    /// Nested too deeply.
    NestingTooDeep = 605, "nesting_too_deep", ConstraintViolation, No;
    /// A vector has too many dimensions.
    VectorDimExceeded = 606, "vector_dim_exceeded", ConstraintViolation, No;
    /// A vector has another dimension than its collection.
    VectorDimMismatch = 607, "vector_dim_mismatch", ConstraintViolation, No;
    /// A float is not finite where it must be.
    NonFinite = 608, "non_finite", ConstraintViolation, No;
    /// The root of a document is no Object.
    RootNotObject = 609, "root_not_object", ConstraintViolation, No;
    /// The run is not Active.
    RunClosed = 610, "run_closed", ConstraintViolation, No;
    /// The status cannot change that way.
    InvalidTransition = 611, "invalid_transition", ConstraintViolation, No;
    /// The name or entity is taken.
    AlreadyExists = 612, "already_exists", ConstraintViolation, No;
    /// A transaction touched another run than its own.
    CrossRunWrite = 613, "cross_run_write", ConstraintViolation, No;
    /// Too many mutations or too many bytes in one transaction.
    TransactionTooLarge = 614, "transaction_too_large", ConstraintViolation, No;
    /// The transaction is unknown, ended or expired.
    TransactionNotActive = 615, "transaction_not_active", ConstraintViolation, No;
    /// A transaction is already open where only one may be.
    TransactionAlreadyActive = 616, "transaction_already_active", ConstraintViolation, No;
    /// The operation cannot run inside a transaction.
    NotInTransaction = 617, "not_in_transaction", ConstraintViolation, No;
    /// A durable change would depend on a volatile one.
    VolatileDependency = 618, "volatile_dependency", ConstraintViolation, No;
    /// A parameter is outside what the operation takes.
    InvalidArgument = 619, "invalid_argument", ConstraintViolation, No;
    /// The answer does not fit a frame; use the paged form.
    BudgetExceeded = 620, "budget_exceeded", ConstraintViolation, No;
    /// The commit is in no log and never will be: it was volatile, or was lost in a crash.
    NotLogged = 621, "not_logged", ConstraintViolation, No;

    /// The entity is not at the expected version or value.
    CasMismatch = 700, "cas_mismatch", Conflict, AfterReread;
    /// Something the transaction read has changed since.
    ReadConflict = 701, "read_conflict", Conflict, AfterReread;
    /// A path that overlaps a read or written one has changed since.
    PathConflict = 702, "path_conflict", Conflict, AfterReread;
    /// The fencing token is no longer the current one.
    FenceStale = 703, "fence_stale", Conflict, AfterReread;
    /// The cell is in no state the transition starts from.
    TransitionFailed = 704, "transition_failed", Conflict, AfterReread;
    /// A test inside a patch failed.
    TestFailed = 705, "test_failed", Conflict, AfterReread;

    /// The store takes no writes: draining, or the log has failed.
    Unavailable = 900, "unavailable", StorageError, Later;
    /// The connection broke.
    ConnectionLost = 901, "connection_lost", StorageError, IfNotCommitted;
    /// No daemon answers at the socket.
    ConnectionRefused = 902, "connection_refused", StorageError, Yes;
    /// The database is closed.
    DatabaseClosed = 903, "database_closed", StorageError, AfterReopen;
    /// The log failed and takes no writes until the database is reopened.
    WalPoisoned = 904, "wal_poisoned", StorageError, AfterReopen;
    /// The database was opened for reading only.
    ReadOnly = 905, "read_only", StorageError, No;
    /// It took too long.
    Timeout = 906, "timeout", StorageError, IfNotCommitted;
    /// The caller took it back.
    Cancelled = 907, "cancelled", StorageError, IfNotCommitted;
    /// A limit of the host or of the configuration is reached.
    ResourceExhausted = 908, "resource_exhausted", StorageError, Later;
    /// The peer may not.
    PermissionDenied = 909, "permission_denied", StorageError, No;
    /// Bytes changed after they were durable.
    Damage = 910, "damage", StorageError, No;
    /// Another process owns the database.
    DatabaseLocked = 911, "database_locked", StorageError, No;
    /// The two sides speak no common protocol version.
    ProtocolMismatch = 912, "protocol_mismatch", StorageError, No;
    /// The peer sent something that is no message.
    ProtocolViolation = 913, "protocol_violation", StorageError, No;
    /// The session that numbered the request is gone.
    SessionExpired = 914, "session_expired", StorageError, No;
    /// No snapshot can be read and the log does not reach back far enough.
    SnapshotUnrecoverable = 915, "snapshot_unrecoverable", StorageError, No;
    /// There is no snapshot yet.
    NoSnapshot = 916, "no_snapshot", StorageError, No;
    /// One of them is under way, and there is never more than one.
    AlreadyInProgress = 917, "already_in_progress", StorageError, Later;
}

impl SubCode {
    /// The stable number.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The sub-code of a number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|sub| sub.number() == number)
    }

    /// The sub-code of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|sub| sub.name() == name)
    }
}
