//! Whether what somebody saw at a key fits an entry of the replay.

use super::chain::Link;
use super::history::{Found, Sight, Write};
use super::violation::Shown;

impl Found {
    /// Whether it is what a key with `link` as its newest entry holds.
    pub(super) fn fits(&self, link: Option<&Link<'_>>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => link.is_none_or(|link| link.datum.is_none()),
            Self::Value(datum) => link.is_some_and(|link| link.datum.as_deref() == Some(datum)),
        }
    }

    /// Whether `write` leaves it behind. An increment may leave any integer.
    pub(super) fn is_left_by(&self, write: &Write) -> bool {
        match (self, write) {
            (Self::Anything, _) | (Self::Absent, Write::Delete(_)) => true,
            (Self::Value(found), Write::Put(_, datum)) => found == datum,
            (Self::Value(super::history::Datum::Int(_)), Write::Add(..)) => true,
            _ => false,
        }
    }
}

impl Sight {
    /// Whether it fits a key with `link` as its newest entry. A key without any may still have a
    /// tombstone of an earlier epoch, at or below `version_max`.
    pub(super) fn fits(&self, link: Option<&Link<'_>>, version_max: u64) -> bool {
        let version_fits = match (self.version, link) {
            (None, _) => true,
            (Some(version), None) => version <= version_max,
            (Some(0), Some(link)) => link.was_never_live,
            (Some(version), Some(link)) => version == link.version,
        };
        version_fits && self.found.fits(link)
    }

    /// What it says, for a report.
    pub(super) fn shown(&self) -> Shown {
        Shown {
            version: self.version,
            found: self.found.clone(),
        }
    }
}

impl Shown {
    /// What `link` holds.
    pub(super) fn of(link: Option<&Link<'_>>) -> Self {
        let datum = link.and_then(|link| link.datum.clone());
        let found = datum.map_or(Found::Absent, |datum| Found::Value(datum.into_owned()));
        Self {
            version: link.map(|link| link.version),
            found,
        }
    }
}
