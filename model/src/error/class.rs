//! The coarse classes of errors with their stable numbers, what is known about a failed write, and
//! whether doing it again can help.

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
