//! What the checker found wrong, one variant for each way a store can break its promise.

use std::fmt;

use super::history::{Datum, Found, Run};

/// Names one recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Who asked.
    pub worker: u32,
    /// Number of the request among those of its worker.
    pub id: u64,
}

/// The rules of the checker, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Versions are unique and follow what clients saw.
    Order,
    /// Answers are those of an ordered map replayed in commit order.
    Answers,
    /// The recovered state is a prefix with everything acknowledged as Strict.
    Prefix,
    /// The loss of the other modes is the declared one.
    Loss,
    /// Recovering again changes nothing.
    Digest,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two commits carry one version.
    #[error("version {version} was given to {first} and again to {second}")]
    VersionReused {
        /// The version.
        version: u64,
        /// Who had it.
        first: Name,
        /// Who got it again.
        second: Name,
    },
    /// A commit carries a version that an earlier epoch had reached.
    #[error("{name} got version {version}, not above {reached}, reached before the restart")]
    VersionRepeated {
        /// The version.
        version: u64,
        /// Who got it.
        name: Name,
        /// The highest version of the earlier epochs.
        reached: u64,
    },
    /// A commit does not follow what had been answered before it was sent.
    #[error("{name} got version {version}, but {seen} had been answered before it was sent")]
    OrderBroken {
        /// The version.
        version: u64,
        /// Who got it.
        name: Name,
        /// The highest version answered before it was sent.
        seen: u64,
    },
    /// An answer tells of something nobody wrote, or wrote otherwise.
    #[error(
        "run {} key {key:?}: {found} at version {version}, which nobody wrote",
        Hex(run)
    )]
    Invented {
        /// The run.
        run: Run,
        /// The key.
        key: String,
        /// The version of the entry.
        version: u64,
        /// What it held.
        found: Found,
    },
    /// One commit shows at two versions.
    #[error("{name} is one commit and shows at versions {first} and {second}")]
    CommitSplit {
        /// The commit.
        name: Name,
        /// One version.
        first: u64,
        /// The other.
        second: u64,
    },
    /// A commit found, or made, something other than the replay says.
    #[error(
        "{name} at version {version}, key {key:?}: answered {answered}, replay says {replayed}"
    )]
    WrongAnswer {
        /// The commit.
        name: Name,
        /// Its version.
        version: u64,
        /// The key.
        key: String,
        /// What was answered.
        answered: Shown,
        /// What the replay says.
        replayed: Shown,
    },
    /// A counter shows less, or more, than its acknowledged increments.
    #[error(
        "counter {key:?} at version {version}: {name} got {answered}, increments make {replayed}"
    )]
    IncrementLost {
        /// The commit.
        name: Name,
        /// Its version.
        version: u64,
        /// The key.
        key: String,
        /// What was answered.
        answered: Datum,
        /// What the acknowledged increments make.
        replayed: Datum,
    },
    /// A read shows what was replaced before it was sent, or two moments at once.
    #[error("{name} read {key:?} as {answered}: no moment since version {seen} shows all it saw")]
    StaleRead {
        /// The read.
        name: Name,
        /// The first key that fits no common moment.
        key: String,
        /// What it was said to hold.
        answered: Shown,
        /// The highest version answered before it was sent.
        seen: u64,
    },
    /// A read shows a commit that was sent after the answer.
    #[error("{name} read {key:?} of {writer}, which was sent only after the answer")]
    ReadFromFuture {
        /// The read.
        name: Name,
        /// The key.
        key: String,
        /// The commit.
        writer: Name,
    },
    /// A listing leaves out a key, at every moment that shows the rest.
    #[error("{name} listed {prefix:?} without {key:?}")]
    ListingIncomplete {
        /// The read.
        name: Name,
        /// What was listed.
        prefix: String,
        /// The key left out.
        key: String,
    },
    /// A commit that had to survive is not in the recovered state.
    #[error("acknowledged {name} at version {version} is lost: key {key:?} shows {shown}")]
    AckLost {
        /// The commit.
        name: Name,
        /// Its version.
        version: u64,
        /// The key that shows it.
        key: String,
        /// What the key shows instead.
        shown: Shown,
    },
    /// A commit is missing although a later one is there.
    #[error(
        "hole: {name} at version {version} is missing below {reached}: key {key:?} shows {shown}"
    )]
    Hole {
        /// The commit.
        name: Name,
        /// Its version.
        version: u64,
        /// The version up to which the state reaches.
        reached: u64,
        /// The key that shows it.
        key: String,
        /// What the key shows instead.
        shown: Shown,
    },
    /// Part of a commit is there, part is not.
    #[error(
        "half of {name} at version {version}: key {present:?} has it, key {missing:?} shows {shown}"
    )]
    HalfCommit {
        /// The commit.
        name: Name,
        /// Its version.
        version: u64,
        /// A key that shows it.
        present: String,
        /// A key that does not.
        missing: String,
        /// What that key shows instead.
        shown: Shown,
    },
    /// An entry of before the epoch changed or vanished though nobody touched it.
    #[error(
        "run {} key {key:?}: was {was} and shows {shown}, though nothing changed it",
        Hex(run)
    )]
    BaseChanged {
        /// The run.
        run: Run,
        /// The key.
        key: String,
        /// What it held.
        was: Shown,
        /// What it shows.
        shown: Shown,
    },
    /// The dump holds an entry that the replay does not.
    #[error("run {} key {key:?}: extra entry {shown}", Hex(run))]
    ExtraEntry {
        /// The run.
        run: Run,
        /// The key.
        key: String,
        /// What it shows.
        shown: Shown,
    },
    /// An InMemory commit is there after a restart.
    #[error("{name} at version {version} was InMemory and survived: key {key:?}")]
    VolatileSurvived {
        /// The commit.
        name: Name,
        /// Its version.
        version: u64,
        /// The key.
        key: String,
    },
    /// Recovering again gave another state.
    #[error("recovered again, the digest went from {first:016x} to {second:016x}")]
    DigestChanged {
        /// Of the first recovery.
        first: u64,
        /// Of the second.
        second: u64,
    },
}

/// What a key shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The version of its newest entry, if known.
    pub version: Option<u64>,
    /// What it holds.
    pub found: Found,
}

/// The first violations of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// The first of them, at most [`Report::VIOLATION_COUNT_MAX`].
    pub violations: Vec<Violation>,
    /// How many there were in all.
    pub count: usize,
}

impl Report {
    /// Violations kept in a report; a lost segment alone makes thousands.
    pub const VIOLATION_COUNT_MAX: usize = 20;
}

impl std::error::Error for Report {}

impl Violation {
    /// The rule it breaks.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::VersionReused { .. }
            | Self::VersionRepeated { .. }
            | Self::OrderBroken { .. } => Rule::Order,
            Self::Invented { .. }
            | Self::CommitSplit { .. }
            | Self::WrongAnswer { .. }
            | Self::IncrementLost { .. }
            | Self::StaleRead { .. }
            | Self::ReadFromFuture { .. }
            | Self::ListingIncomplete { .. } => Rule::Answers,
            Self::AckLost { .. }
            | Self::Hole { .. }
            | Self::HalfCommit { .. }
            | Self::BaseChanged { .. }
            | Self::ExtraEntry { .. } => Rule::Prefix,
            Self::VolatileSurvived { .. } => Rule::Loss,
            Self::DigestChanged { .. } => Rule::Digest,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} of worker {}", self.id, self.worker)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{} (version {version})", self.found),
            None => write!(f, "{}", self.found),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => write!(f, "an entry"),
            Self::Absent => write!(f, "nothing"),
            Self::Value(datum) => write!(f, "{datum}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}: {} violations", self.epoch, self.count)?;
        for violation in &self.violations {
            write!(
                f,
                "\n  rule {} ({:?}): {violation}",
                violation.rule() as u8 + 1,
                violation.rule()
            )?;
        }
        if self.violations.len() < self.count {
            write!(f, "\n  and {} more", self.count - self.violations.len())?;
        }
        Ok(())
    }
}

struct Hex<'a>(&'a Run);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
