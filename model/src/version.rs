//! Versions with their flavour, and a value together with its version and time.
//!
//! A version is only comparable with one of its own flavour. Times are microseconds since the
//! epoch; they are metadata and never decide anything.

use std::cmp::Ordering;

/// A version: a number and what it counts. Number 0 means "never existed", for txn and counter;
/// sequences begin at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// A commit version: KV, JSON, Trace, Run, Vector.
    Txn(u64),
    /// A position in the event log of a run, from 0.
    Sequence(u64),
    /// The number of writes to a state cell, from 1.
    Counter(u64),
}

/// Why versions could not be compared or advanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The flavours differ.
    #[error("cannot compare a {actual} version with a {expected} version")]
    WrongType {
        /// Flavour of the first.
        expected: &'static str,
        /// Flavour of the second.
        actual: &'static str,
    },
    /// There is no next number.
    #[error("no version after {value}")]
    Overflow {
        /// The number reached.
        value: u64,
    },
}

impl Version {
    /// The version with this flavour name and number, if the name is one.
    #[must_use]
    pub fn from_flavour(name: &str, number: u64) -> Option<Self> {
        match name {
            "txn" => Some(Self::Txn(number)),
            "sequence" => Some(Self::Sequence(number)),
            "counter" => Some(Self::Counter(number)),
            _ => None,
        }
    }

    /// The bare number.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Txn(number) | Self::Sequence(number) | Self::Counter(number) => number,
        }
    }

    /// Name of the flavour: `txn`, `sequence` or `counter`.
    #[must_use]
    pub const fn flavour(self) -> &'static str {
        match self {
            Self::Txn(_) => "txn",
            Self::Sequence(_) => "sequence",
            Self::Counter(_) => "counter",
        }
    }

    /// Order of two versions of one flavour.
    ///
    /// # Errors
    /// [`VersionError::WrongType`] if the flavours differ.
    pub fn compare(self, other: Self) -> Result<Ordering, VersionError> {
        if self.flavour() != other.flavour() {
            return Err(VersionError::WrongType {
                expected: self.flavour(),
                actual: other.flavour(),
            });
        }
        Ok(self.number().cmp(&other.number()))
    }

    /// The next version of the same flavour.
    ///
    /// # Errors
    /// [`VersionError::Overflow`] at the end of the range.
    pub fn next(self) -> Result<Self, VersionError> {
        let number = self.number();
        let next = number
            .checked_add(1)
            .ok_or(VersionError::Overflow { value: number })?;
        Ok(match self {
            Self::Txn(_) => Self::Txn(next),
            Self::Sequence(_) => Self::Sequence(next),
            Self::Counter(_) => Self::Counter(next),
        })
    }
}

/// A value with the version that wrote it and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The version that wrote it.
    pub version: Version,
    /// When it was committed, microseconds since the epoch.
    pub timestamp_us: u64,
    /// When it expires, microseconds since the epoch, if it does.
    pub expires_at_us: Option<u64>,
}

impl<T> Versioned<T> {
    /// The same version and times with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Versioned<U> {
        Versioned {
            value: f(self.value),
            version: self.version,
            timestamp_us: self.timestamp_us,
            expires_at_us: self.expires_at_us,
        }
    }
}

/// The timestamp of the next commit of a run: that of the clock, but never below the last one.
#[must_use]
pub fn timestamp_after(last_us: u64, clock_us: u64) -> u64 {
    last_us.max(clock_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_flavour_order_by_number() {
        assert_eq!(Version::Txn(1).compare(Version::Txn(2)), Ok(Ordering::Less));
        assert_eq!(
            Version::Counter(2).compare(Version::Counter(2)),
            Ok(Ordering::Equal)
        );
        assert_eq!(
            Version::Sequence(3).compare(Version::Sequence(2)),
            Ok(Ordering::Greater)
        );
    }

    #[test]
    fn versions_of_two_flavours_are_neither_equal_nor_comparable() {
        let all = [Version::Txn(1), Version::Sequence(1), Version::Counter(1)];
        for (index, a) in all.into_iter().enumerate() {
            assert_eq!(Version::from_flavour(a.flavour(), 1), Some(a));
            for b in all.into_iter().skip(index + 1) {
                assert_ne!(a, b);
                let expected = a.flavour();
                let actual = b.flavour();
                assert_eq!(
                    a.compare(b),
                    Err(VersionError::WrongType { expected, actual })
                );
            }
        }
        assert_eq!(Version::from_flavour("revision", 1), None);
    }

    #[test]
    fn the_end_of_the_range_overflows_instead_of_wrapping() {
        assert_eq!(Version::Counter(1).next(), Ok(Version::Counter(2)));
        let overflow = VersionError::Overflow { value: u64::MAX };
        assert_eq!(Version::Txn(u64::MAX).next(), Err(overflow));
        assert_eq!(Version::Sequence(u64::MAX).next(), Err(overflow));
    }

    #[test]
    fn timestamps_of_a_run_never_go_back() {
        assert_eq!(timestamp_after(10, 9), 10);
        assert_eq!(timestamp_after(10, 11), 11);
    }
}
