//! The durability mode of a database, and thin adapters that commit a write set in one mode each.

use std::time::Duration;

use in_mem_model::Durability as Choice;

use crate::database::Database;
use crate::errors::{CommitError, ShutdownError};
use crate::storage::WriteSet;

/// What a database promises before a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DurabilityMode {
    /// Nothing survives; no file exists.
    InMemory,
    /// Every commit is logged; a sync follows by interval, count, bytes or request.
    Buffered {
        /// Longest time between a commit and the sync that covers it, milliseconds.
        flush_interval_ms: u64,
        /// Unsynced commits that start a sync, count.
        max_pending_writes: usize,
    },
    /// Every commit is synced before it is acknowledged.
    #[default]
    Strict,
}

impl DurabilityMode {
    /// Buffered with 100 ms and 1000 writes.
    #[must_use]
    pub const fn buffered_default() -> Self {
        Self::Buffered {
            flush_interval_ms: 100,
            max_pending_writes: 1000,
        }
    }

    /// True when commits are logged.
    #[must_use]
    pub const fn requires_wal(self) -> bool {
        match self {
            Self::InMemory => false,
            Self::Buffered { .. } | Self::Strict => true,
        }
    }

    /// True when each commit waits for a sync.
    #[must_use]
    pub const fn requires_immediate_fsync(self) -> bool {
        matches!(self, Self::Strict)
    }

    /// Longest time between a commit and its sync; only Buffered has one.
    #[must_use]
    pub const fn flush_interval(self) -> Option<Duration> {
        match self {
            Self::Buffered {
                flush_interval_ms, ..
            } => Some(Duration::from_millis(flush_interval_ms)),
            Self::InMemory | Self::Strict => None,
        }
    }

    /// Unsynced commits that start a sync; only Buffered has a number.
    #[must_use]
    pub const fn max_pending_writes(self) -> Option<usize> {
        match self {
            Self::Buffered {
                max_pending_writes, ..
            } => Some(max_pending_writes),
            Self::InMemory | Self::Strict => None,
        }
    }

    /// The name used in status lines and reports.
    #[must_use]
    pub const fn mode_name(self) -> &'static str {
        match self {
            Self::InMemory => "InMemory",
            Self::Buffered { .. } => "Buffered",
            Self::Strict => "Strict",
        }
    }
}

/// Commits write sets in one mode: the adapter for embedders and for tests over all modes.
pub trait Durability: Send + Sync {
    /// Commits the write set and returns once the mode's promise is met.
    ///
    /// # Errors
    /// As any commit.
    fn commit(&self, write_set: &WriteSet) -> Result<u64, CommitError>;

    /// Makes everything durable that the mode promises, and closes the database.
    ///
    /// # Errors
    /// What could not be finished.
    fn shutdown(&self) -> Result<(), ShutdownError>;

    /// True when commits survive a restart.
    fn is_persistent(&self) -> bool;

    /// The name of the mode.
    fn mode_name(&self) -> &'static str;
}

macro_rules! adapter {
    ($(#[$doc:meta])* $name:ident, $choice:ident, $persistent:literal) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Database);

        impl $name {
            /// Over one database, whatever its default mode.
            #[must_use]
            pub fn new(database: Database) -> Self {
                Self(database)
            }
        }

        impl Durability for $name {
            fn commit(&self, write_set: &WriteSet) -> Result<u64, CommitError> {
                self.0.apply_with_durability(write_set, Choice::$choice)
            }

            fn shutdown(&self) -> Result<(), ShutdownError> {
                self.0.shutdown()
            }

            fn is_persistent(&self) -> bool {
                $persistent
            }

            fn mode_name(&self) -> &'static str {
                stringify!($choice)
            }
        }
    };
}

adapter! {
    /// Commits that no log sees.
    InMemoryDurability, InMemory, false
}

adapter! {
    /// Commits that are logged, and synced in the background.
    BufferedDurability, Buffered, true
}

adapter! {
    /// Commits that are synced before they return.
    StrictDurability, Strict, true
}
