//! Between the wire and the data model: the same terms, in the types of the other side.
//!
//! The model knows no archives, so the wire has plain mirrors of its enums. Every conversion here
//! is total, or says what cannot be said on the other side.

use in_mem_model::{
    DetailValue as ModelDetail, Durability, Error, ErrorClass, Level, Outcome, Retry, RunId,
    RunStatus, SubCode, Version,
};

use crate::request::run::RunState;
use crate::request::version::TaggedVersion;
use crate::request::{DurabilityChoice, RunChoice};
use crate::response::system::{CommitOutcome, Detail, DetailValue, ErrorBody, RetryAdvice};
use crate::response::{Flavour, ReachedLevel, Receipt};

/// An error body names a class this build does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("error class {number} is unknown")]
pub struct UnknownClass {
    /// The number of the class.
    pub number: u8,
}

impl From<Durability> for DurabilityChoice {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::InMemory => Self::InMemory,
            Durability::Buffered => Self::Buffered,
            Durability::Strict => Self::Strict,
        }
    }
}

impl DurabilityChoice {
    /// The durability asked for; `None`: that of the transaction or session.
    #[must_use]
    pub const fn durability(self) -> Option<Durability> {
        match self {
            Self::Session => None,
            Self::InMemory => Some(Durability::InMemory),
            Self::Buffered => Some(Durability::Buffered),
            Self::Strict => Some(Durability::Strict),
        }
    }
}

impl From<Option<Level>> for ReachedLevel {
    fn from(level: Option<Level>) -> Self {
        match level {
            None => Self::Nothing,
            Some(Level::Volatile) => Self::Volatile,
            Some(Level::Logged) => Self::Logged,
            Some(Level::Synced) => Self::Synced,
        }
    }
}

impl ReachedLevel {
    /// The level reached; `None`: nothing was committed.
    #[must_use]
    pub const fn level(self) -> Option<Level> {
        match self {
            Self::Nothing => None,
            Self::Volatile => Some(Level::Volatile),
            Self::Logged => Some(Level::Logged),
            Self::Synced => Some(Level::Synced),
        }
    }
}

impl From<Version> for TaggedVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::Txn(value) => Self::Txn(value),
            Version::Sequence(value) => Self::Sequence(value),
            Version::Counter(value) => Self::Counter(value),
        }
    }
}

impl From<TaggedVersion> for Version {
    fn from(version: TaggedVersion) -> Self {
        match version {
            TaggedVersion::Txn(value) => Self::Txn(value),
            TaggedVersion::Sequence(value) => Self::Sequence(value),
            TaggedVersion::Counter(value) => Self::Counter(value),
        }
    }
}

impl Receipt {
    /// The receipt of a commit that gave its entity this version.
    #[must_use]
    pub fn new(version: Version, commit_version: u64, level: Level) -> Self {
        let flavour = match version {
            Version::Txn(_) => Flavour::Txn,
            Version::Sequence(_) => Flavour::Sequence,
            Version::Counter(_) => Flavour::Counter,
        };
        Self {
            version: version.number(),
            commit_version,
            flavour,
            level: Some(level).into(),
        }
    }
}

impl From<RunId> for RunChoice {
    fn from(run: RunId) -> Self {
        Self::Id(run.0)
    }
}

impl RunChoice {
    /// The run named; `None`: the default run of the session.
    #[must_use]
    pub const fn run_id(self) -> Option<RunId> {
        match self {
            Self::Session => None,
            Self::Id(bytes) => Some(RunId(bytes)),
        }
    }
}

impl From<Outcome> for CommitOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::NotCommitted => Self::NotCommitted,
            Outcome::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

impl From<CommitOutcome> for Outcome {
    fn from(outcome: CommitOutcome) -> Self {
        match outcome {
            CommitOutcome::NotCommitted => Self::NotCommitted,
            CommitOutcome::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

impl From<Retry> for RetryAdvice {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::No => Self::No,
            Retry::Yes => Self::Yes,
            Retry::AfterReread => Self::AfterReread,
            Retry::Later => Self::Later,
            Retry::AfterReopen => Self::AfterReopen,
            Retry::IfNotCommitted => Self::IfNotCommitted,
        }
    }
}

impl From<RetryAdvice> for Retry {
    fn from(retry: RetryAdvice) -> Self {
        match retry {
            RetryAdvice::No => Self::No,
            RetryAdvice::Yes => Self::Yes,
            RetryAdvice::AfterReread => Self::AfterReread,
            RetryAdvice::Later => Self::Later,
            RetryAdvice::AfterReopen => Self::AfterReopen,
            RetryAdvice::IfNotCommitted => Self::IfNotCommitted,
        }
    }
}

impl<'a> From<&'a Error> for ErrorBody<'a> {
    fn from(error: &'a Error) -> Self {
        let details = error.details.iter().map(|(name, value)| Detail {
            name: name.as_str().into(),
            value: match value {
                ModelDetail::Text(text) => DetailValue::Text(text.as_str().into()),
                ModelDetail::Number(number) => DetailValue::Number(*number),
                ModelDetail::Version(version) => DetailValue::Version((*version).into()),
                ModelDetail::Flag(flag) => DetailValue::Flag(*flag),
            },
        });
        Self {
            class: error.class.number(),
            sub: error.sub.map_or(0, SubCode::number),
            outcome: error.outcome.map(Into::into),
            retry: error.retry.into(),
            message: error.message.as_str().into(),
            details: details.collect(),
        }
    }
}

impl TryFrom<ErrorBody<'_>> for Error {
    type Error = UnknownClass;

    /// A sub-code this build does not know is dropped: the class says enough to act on.
    fn try_from(body: ErrorBody<'_>) -> Result<Self, UnknownClass> {
        let class =
            ErrorClass::from_number(body.class).ok_or(UnknownClass { number: body.class })?;
        let details = body.details.into_iter().map(|detail| {
            let value = match detail.value {
                DetailValue::Text(text) => ModelDetail::Text(text.0.into_owned()),
                DetailValue::Number(number) => ModelDetail::Number(number),
                DetailValue::Version(version) => ModelDetail::Version(version.into()),
                DetailValue::Flag(flag) => ModelDetail::Flag(flag),
            };
            (detail.name.0.into_owned(), value)
        });
        Ok(Self {
            class,
            sub: SubCode::from_number(body.sub),
            outcome: body.outcome.map(Into::into),
            retry: body.retry.into(),
            message: body.message.0.into_owned(),
            details: details.collect(),
        })
    }
}

impl From<Option<RunStatus>> for RunState {
    fn from(status: Option<RunStatus>) -> Self {
        match status {
            None => Self::NotFound,
            Some(RunStatus::Active) => Self::Active,
            Some(RunStatus::Completed) => Self::Completed,
            Some(RunStatus::Failed) => Self::Failed,
            Some(RunStatus::Cancelled) => Self::Cancelled,
            Some(RunStatus::Paused) => Self::Paused,
            Some(RunStatus::Archived) => Self::Archived,
            Some(RunStatus::Orphaned) => Self::Orphaned,
        }
    }
}

impl RunState {
    /// The status; `None`: there is no such run.
    #[must_use]
    pub const fn status(self) -> Option<RunStatus> {
        match self {
            Self::NotFound => None,
            Self::Active => Some(RunStatus::Active),
            Self::Completed => Some(RunStatus::Completed),
            Self::Failed => Some(RunStatus::Failed),
            Self::Cancelled => Some(RunStatus::Cancelled),
            Self::Paused => Some(RunStatus::Paused),
            Self::Archived => Some(RunStatus::Archived),
            Self::Orphaned => Some(RunStatus::Orphaned),
        }
    }
}
