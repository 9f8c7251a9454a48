//! The error every reply can carry: a stable class, a sub-code, and what the caller may do.
//!
//! Classes and numbers are part of the wire: a client that knows only the class still behaves
//! correctly. A retired number stays a gap.

mod class;
mod convert;
mod sub_code;
#[cfg(test)]
mod tests;

use std::fmt;

pub use class::{ErrorClass, Outcome, Retry};
pub use sub_code::SubCode;

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
        // A conflict is by its nature the one class that a new read may resolve.
        let retry = match class {
            ErrorClass::Conflict => Retry::AfterReread,
            _ => Retry::No,
        };
        let message = message.into();
        Self {
            class,
            sub: None,
            outcome: None,
            retry,
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
