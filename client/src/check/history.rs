//! What clients recorded, and what a store shows: the vocabulary of the checker.
//!
//! Values are compared as they are encoded, byte for byte, since a store keeps what it was given;
//! integers are told apart because increments calculate with them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::record::Record;

/// The id of a run.
pub type Run = [u8; 16];

/// The durability a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never logged.
    InMemory,
    /// Acknowledged before it is durable; a power loss may take the newest of them.
    Buffered,
    /// Acknowledged once durable.
    Strict,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Datum {
    /// An integer, whatever the width of its encoding.
    Int(i64),
    /// Any other value, encoded.
    Bytes(Vec<u8>),
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts a value.
    Put(String, Datum),
    /// Deletes the key.
    Delete(String),
    /// Adds to an integer; a missing key counts as zero.
    Add(String, i64),
}

/// What was found at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Not looked at: only the version is known.
    Anything,
    /// No live value.
    Absent,
    /// This value.
    Value(Datum),
}

/// What somebody learned about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The user key.
    pub key: String,
    /// The version of the newest entry, if known. 0: there never was one.
    pub version: Option<u64>,
    /// What the entry held.
    pub found: Found,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Looks at a run.
    Read {
        /// Where.
        run: Run,
    },
    /// Changes a run, all of it or nothing.
    Write {
        /// Where.
        run: Run,
        /// How durable.
        mode: Mode,
        /// What must hold immediately before the commit: the read set, and conditions.
        expects: Vec<Sight>,
        /// The changes, in order.
        writes: Vec<Write>,
    },
    /// Makes everything acknowledged before durable.
    Flush,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It committed.
    Committed {
        /// Its commit version.
        version: u64,
        /// What it found immediately before its own changes.
        before: Vec<Sight>,
        /// What its changes made.
        after: Vec<Sight>,
    },
    /// It committed nothing and says what it saw: a read, a failed condition, a finished flush.
    Saw {
        /// The version it was read at, if the answer tells.
        at: Option<u64>,
        /// What it saw, all at one moment.
        sights: Vec<Sight>,
        /// With a prefix, `sights` holds every live key that begins with it.
        listed: Option<String>,
    },
    /// It certainly committed nothing and tells nothing.
    Refused,
    /// No answer: it may have happened or not.
    Unknown,
}

/// One request with what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub worker: u32,
    /// Number of the request among those of its worker.
    pub id: u64,
    /// When it was sent, nanoseconds of a clock all workers share.
    pub sent_at_ns: u64,
    /// When its answer was there; nothing if none came.
    pub done_at_ns: Option<u64>,
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub outcome: Outcome,
}

/// The requests of one epoch, of all workers, in any order.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The requests.
    pub operations: Vec<Operation>,
}

/// The newest entry of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its commit version.
    pub version: u64,
    /// Its value; nothing for a tombstone.
    pub datum: Option<Datum>,
}

/// Everything a store shows. Tombstones may be left out if no client records their versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    /// By run and user key.
    pub runs: BTreeMap<Run, BTreeMap<String, Entry>>,
}

impl Write {
    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Delete(key) | Self::Add(key, _) => key,
        }
    }
}

impl Datum {
    /// The datum of an encoded value.
    #[must_use]
    pub fn from_encoded(encoded: &[u8]) -> Self {
        in_mem_model::as_int(encoded).map_or_else(|| Self::Bytes(encoded.to_vec()), Self::Int)
    }
}

impl Sight {
    /// A live value of a known version.
    #[must_use]
    pub fn value(key: &str, version: u64, datum: Datum) -> Self {
        Self {
            key: key.to_owned(),
            version: Some(version),
            found: Found::Value(datum),
        }
    }

    /// A key without a live value.
    #[must_use]
    pub fn absent(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            version: None,
            found: Found::Absent,
        }
    }

    /// A key whose newest entry, live or not, has this version; 0 if it never had one.
    #[must_use]
    pub fn version(key: &str, version: u64) -> Self {
        Self {
            key: key.to_owned(),
            version: Some(version),
            found: Found::Anything,
        }
    }
}

impl Operation {
    /// The commit version, if it is known to have committed.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Committed { version, .. } => Some(version),
            _ => None,
        }
    }

    pub(super) fn run(&self) -> Option<Run> {
        match self.call {
            Call::Read { run } | Call::Write { run, .. } => Some(run),
            Call::Flush => None,
        }
    }

    pub(super) fn writes(&self) -> &[Write] {
        match &self.call {
            Call::Write { writes, .. } => writes,
            _ => &[],
        }
    }

    pub(super) fn expects(&self) -> &[Sight] {
        match &self.call {
            Call::Write { expects, .. } => expects,
            _ => &[],
        }
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        match self.call {
            Call::Write { mode, .. } => Some(mode),
            _ => None,
        }
    }

    /// A write of which nobody knows whether it happened.
    pub(super) fn is_unknown_write(&self) -> bool {
        matches!(self.call, Call::Write { .. }) && self.outcome == Outcome::Unknown
    }

    /// Every sight recorded with it.
    pub(super) fn sights(&self) -> impl Iterator<Item = &Sight> {
        let (first, second): (&[Sight], &[Sight]) = match &self.outcome {
            Outcome::Committed { before, after, .. } => (before, after),
            Outcome::Saw { sights, .. } => (sights, &[]),
            Outcome::Refused | Outcome::Unknown => (&[], &[]),
        };
        // What an unanswered or refused request expected is a hope, not a sight.
        let held: &[Sight] = if self.version().is_some() {
            self.expects()
        } else {
            &[]
        };
        held.iter().chain(first).chain(second)
    }
}

impl History {
    /// Adds what one worker recorded. A request without an answer has an unknown outcome; an
    /// answer without a request is ignored.
    pub fn add_worker(&mut self, worker: u32, records: impl IntoIterator<Item = Record>) {
        let mut places = HashMap::new();
        for record in records {
            match record {
                Record::Sent { id, at_ns, call } => {
                    places.insert(id, self.operations.len());
                    self.operations.push(Operation {
                        worker,
                        id,
                        sent_at_ns: at_ns,
                        done_at_ns: None,
                        call,
                        outcome: Outcome::Unknown,
                    });
                }
                Record::Done { id, at_ns, outcome } => {
                    let place = places
                        .get(&id)
                        .and_then(|place| self.operations.get_mut(*place));
                    if let Some(operation) = place {
                        operation.done_at_ns = (outcome != Outcome::Unknown).then_some(at_ns);
                        operation.outcome = outcome;
                    }
                }
            }
        }
    }

    /// Takes out what was sent before a moment: the epoch that ended there. Exact if workers
    /// connect before they record a request as sent and never send one twice.
    #[must_use]
    pub fn take_before(&mut self, at_ns: u64) -> Self {
        let (before, after) = std::mem::take(&mut self.operations)
            .into_iter()
            .partition(|operation| operation.sent_at_ns < at_ns);
        self.operations = after;
        Self { operations: before }
    }
}

impl Dump {
    /// Adds a live entry.
    pub fn insert(&mut self, run: Run, key: &str, version: u64, datum: Datum) {
        let entry = Entry {
            version,
            datum: Some(datum),
        };
        self.runs
            .entry(run)
            .or_default()
            .insert(key.to_owned(), entry);
    }

    /// The entry of a key.
    #[must_use]
    pub fn entry(&self, run: &Run, key: &str) -> Option<&Entry> {
        self.runs.get(run)?.get(key)
    }

    /// A number that differs, but for chance, when two dumps do: FNV-1a over every run, key,
    /// version and value, each with its length.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        let mut feed = |bytes: &[u8]| {
            let len = (bytes.len() as u64).to_le_bytes();
            for byte in len.iter().chain(bytes) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
            }
        };
        for (run, entries) in &self.runs {
            for (key, entry) in entries {
                feed(run);
                feed(key.as_bytes());
                feed(&entry.version.to_le_bytes());
                match &entry.datum {
                    None => feed(&[0]),
                    Some(Datum::Int(number)) => {
                        feed(&[[1].as_slice(), &number.to_le_bytes()].concat())
                    }
                    Some(Datum::Bytes(bytes)) => feed(&[[2].as_slice(), bytes].concat()),
                }
            }
        }
        hash
    }

    /// Entries of all runs.
    pub fn entries(&self) -> impl Iterator<Item = (&Run, &str, &Entry)> {
        self.runs.iter().flat_map(|(run, entries)| {
            entries
                .iter()
                .map(move |(key, entry)| (run, key.as_str(), entry))
        })
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => {
                write!(f, "x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
