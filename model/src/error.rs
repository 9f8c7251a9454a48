//! The error every reply can carry: a stable class, a sub-code, and what the caller may do.
//!
//! Classes and numbers are part of the wire: a client that knows only the class still behaves
//! correctly. A retired number stays a gap.

use std::fmt;

/// The coarse, stable class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorClass {
    /// The run or the entity does not exist.
    NotFound = 1,
    /// A value or a version is of another type.
    WrongType = 2,
    /// The bytes are no key.
    InvalidKey = 3,
    /// The text is no path.
    InvalidPath = 4,
    /// History below the asked version was trimmed.
    HistoryTrimmed = 5,
    /// A rule of the data forbids it; a retry does not help.
    ConstraintViolation = 6,
    /// Something changed in between; a retry may help.
    Conflict = 7,
    /// Bytes that should be a value or a message are not.
    SerializationError = 8,
    /// The store cannot do it now; the sub-code says why.
    StorageError = 9,
    /// A defect of the store.
    InternalError = 10,
    /// A number is at the end of its range.
    Overflow = 11,
}

impl ErrorClass {
    /// Every class, by number.
    pub const ALL: [Self; 11] = [
        Self::NotFound,
        Self::WrongType,
        Self::InvalidKey,
        Self::InvalidPath,
        Self::HistoryTrimmed,
        Self::ConstraintViolation,
        Self::Conflict,
        Self::SerializationError,
        Self::StorageError,
        Self::InternalError,
        Self::Overflow,
    ];

    /// The stable number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The class of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.number() == number)
    }

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::WrongType => "WrongType",
            Self::InvalidKey => "InvalidKey",
            Self::InvalidPath => "InvalidPath",
            Self::HistoryTrimmed => "HistoryTrimmed",
            Self::ConstraintViolation => "ConstraintViolation",
            Self::Conflict => "Conflict",
            Self::SerializationError => "SerializationError",
            Self::StorageError => "StorageError",
            Self::InternalError => "InternalError",
            Self::Overflow => "Overflow",
        }
    }
}

/// Whether doing it again can help, and after what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Retry {
    /// It cannot.
    No = 0,
    /// At once.
    Yes = 1,
    /// After reading again what the operation depends on.
    AfterReread = 2,
    /// After a while.
    Later = 3,
    /// After the database was reopened.
    AfterReopen = 4,
    /// Only if the outcome says that nothing was committed.
    IfNotCommitted = 5,
}

impl Retry {
    /// Every answer, by number.
    pub const ALL: [Self; 6] = [
        Self::No,
        Self::Yes,
        Self::AfterReread,
        Self::Later,
        Self::AfterReopen,
        Self::IfNotCommitted,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::AfterReread => "after_reread",
            Self::Later => "later",
            Self::AfterReopen => "after_reopen",
            Self::IfNotCommitted => "if_not_committed",
        }
    }

    /// The answer of a number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|retry| *retry as u8 == number)
    }
}

/// Which of two things is true of a write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Nothing of it happened or will.
    NotCommitted = 1,
    /// It may have happened; a read after the database was reopened tells.
    OutcomeUnknown = 2,
}

impl Outcome {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotCommitted => "not_committed",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// The outcome of a number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::NotCommitted, Self::OutcomeUnknown]
            .into_iter()
            .find(|o| *o as u8 == number)
    }
}

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

    /// The entity is not at the expected version or value.
    CasMismatch = 700, "cas_mismatch", Conflict, AfterReread;
    /// Something the transaction read has changed since.
    ReadConflict = 701, "read_conflict", Conflict, AfterReread;

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

/// One structured detail of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetailValue {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// A tagged version.
    Version(crate::Version),
    /// True or false.
    Flag(bool),
}

impl From<&str> for DetailValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for DetailValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for DetailValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<crate::Version> for DetailValue {
    fn from(version: crate::Version) -> Self {
        Self::Version(version)
    }
}

/// An error as it crosses the wire and reaches the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The coarse class.
    pub class: ErrorClass,
    /// What exactly, where the class leaves it open.
    pub sub: Option<SubCode>,
    /// For a write: whether anything of it may have happened.
    pub outcome: Option<Outcome>,
    /// Whether doing it again can help.
    pub retry: Retry,
    /// One line for a person, saying what to do where something can be done.
    pub message: String,
    /// Named facts for a program.
    pub details: Vec<(String, DetailValue)>,
}

impl Error {
    /// An error with a sub-code, which fixes its class and its retry answer.
    #[must_use]
    pub fn new(sub: SubCode, message: impl Into<String>) -> Self {
        let message = message.into();
        let (class, retry) = (sub.class(), sub.retry());
        Self {
            class,
            sub: Some(sub),
            outcome: None,
            retry,
            message,
            details: Vec::new(),
        }
    }

    /// An error of a class that needs no sub-code.
    #[must_use]
    pub fn of_class(class: ErrorClass, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class,
            sub: None,
            outcome: None,
            retry: Retry::No,
            message,
            details: Vec::new(),
        }
    }

    /// The same, saying what became of the write.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// The same, with another retry answer than the sub-code's own.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same, with one more detail.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl Into<DetailValue>) -> Self {
        self.details.push((name.to_owned(), value.into()));
        self
    }

    /// The detail of a name.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<&DetailValue> {
        self.details
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class.name())?;
        if let Some(sub) = self.sub {
            write!(f, " ({})", sub.name())?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Error {}

impl From<crate::keys::KeyError> for Error {
    fn from(error: crate::keys::KeyError) -> Self {
        use crate::keys::KeyError;
        let sub = match error {
            KeyError::Empty => SubCode::Empty,
            KeyError::Nul => SubCode::Nul,
            KeyError::TooLong { .. } => SubCode::KeyTooLong,
            KeyError::InvalidUtf8 { .. } => SubCode::InvalidUtf8,
            KeyError::ReservedPrefix => SubCode::ReservedPrefix,
        };
        Self::new(sub, error.to_string()).with_detail("reason", sub.name())
    }
}

impl From<crate::keys::NameError> for Error {
    fn from(error: crate::keys::NameError) -> Self {
        match error {
            crate::keys::NameError::Key(error) => error.into(),
            crate::keys::NameError::ForbiddenCharacter { offset } => {
                Self::new(SubCode::InvalidArgument, error.to_string())
                    .with_detail("offset", offset as u64)
            }
        }
    }
}

impl From<crate::encoding::ValueError> for Error {
    fn from(error: crate::encoding::ValueError) -> Self {
        let body = match error.limit_reason().and_then(SubCode::from_name) {
            Some(sub) => Self::new(sub, error.to_string()).with_detail("reason", sub.name()),
            None => Self::of_class(ErrorClass::SerializationError, error.to_string())
                .with_detail("what", "value"),
        };
        match error.offset() {
            Some(offset) => body.with_detail("offset", offset as u64),
            None => body,
        }
    }
}

impl From<crate::version::VersionError> for Error {
    fn from(error: crate::version::VersionError) -> Self {
        use crate::version::VersionError;
        match error {
            VersionError::WrongType { expected, actual } => {
                Self::of_class(ErrorClass::WrongType, error.to_string())
                    .with_detail("expected", expected)
                    .with_detail("actual", actual)
            }
            VersionError::Overflow { .. } => {
                Self::of_class(ErrorClass::Overflow, error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn class_numbers_are_the_published_ones() {
        let numbers: Vec<u8> = ErrorClass::ALL.iter().map(|class| class.number()).collect();
        assert_eq!(numbers, (1..=11).collect::<Vec<u8>>());
        assert_eq!(ErrorClass::from_number(12), None);
    }

    #[test]
    fn sub_codes_have_one_number_and_one_name_each_and_lie_in_their_class() {
        let numbers: HashSet<u16> = SubCode::ALL.iter().map(|sub| sub.number()).collect();
        let names: HashSet<&str> = SubCode::ALL.iter().map(|sub| sub.name()).collect();
        assert_eq!(numbers.len(), SubCode::ALL.len());
        assert_eq!(names.len(), SubCode::ALL.len());
        for sub in SubCode::ALL {
            assert_eq!(
                u16::from(sub.class().number()),
                sub.number() / 100,
                "{sub:?}"
            );
            assert_eq!(SubCode::from_number(sub.number()), Some(*sub));
            assert_eq!(SubCode::from_name(sub.name()), Some(*sub));
        }
    }
}
