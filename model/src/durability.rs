//! What durability a commit asks for, and what it had reached when it was acknowledged.

use std::fmt;
use std::str::FromStr;

/// The durability one commit asks for. The order is that of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Durability {
    /// Never logged; lost with the process.
    InMemory = 0,
    /// Logged, synced in the background; a power loss may take a suffix of the unsynced commits.
    Buffered = 1,
    /// Acknowledged when durable.
    Strict = 2,
}

/// What a commit had reached when it was acknowledged. The order is that of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// In memory only.
    Volatile = 0,
    /// Given to the log.
    Logged = 1,
    /// Durable.
    Synced = 2,
}

/// A text that names no durability or level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown name; one of {expected}")]
pub struct ParseNameError {
    /// The names there are.
    pub expected: &'static str,
}

impl Durability {
    /// All of them, weakest first.
    pub const ALL: [Self; 3] = [Self::InMemory, Self::Buffered, Self::Strict];

    /// The choice with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|durability| *durability as u8 == number)
    }

    /// Its name in settings, options and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InMemory => "in_memory",
            Self::Buffered => "buffered",
            Self::Strict => "strict",
        }
    }
}

impl Level {
    /// All of them, weakest first.
    pub const ALL: [Self; 3] = [Self::Volatile, Self::Logged, Self::Synced];

    /// The level with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|level| *level as u8 == number)
    }

    /// Its name in replies and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::Logged => "logged",
            Self::Synced => "synced",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Durability {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let found = Self::ALL
            .into_iter()
            .find(|durability| durability.name() == text);
        found.ok_or(ParseNameError {
            expected: "in_memory, buffered, strict",
        })
    }
}

impl FromStr for Level {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let found = Self::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or(ParseNameError {
            expected: "volatile, logged, synced",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_back_and_order_by_strength() {
        for durability in Durability::ALL {
            assert_eq!(Durability::from_number(durability as u8), Some(durability));
            assert_eq!(durability.to_string().parse(), Ok(durability));
        }
        for level in Level::ALL {
            assert_eq!(Level::from_number(level as u8), Some(level));
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert!(Durability::ALL.is_sorted());
        assert!(Level::ALL.is_sorted());
        assert_eq!(Durability::from_number(3), None);
        assert_eq!(Level::from_number(3), None);
        assert!("Strict".parse::<Durability>().is_err());
    }
}
