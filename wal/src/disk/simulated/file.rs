//! One simulated file: what the cache shows, what the device holds for certain, and the changes
//! whose fate a power loss decides.
//!
//! Between two syncs every change waits in a list. A sync makes the list certain. A failed sync
//! forgets the bytes in it: they read as new until the power goes and as the old ones after,
//! which is what ext4 does (Rebello et al., "Can Applications Recover from fsync Failures?",
//! ATC 2020). A power loss lets a chooser decide, change by change, what had reached the device;
//! the file's length is decided apart from its bytes.

use std::sync::Arc;

use super::pages::Pages;

/// A log sector, bytes: the most a device writes whole whatever happens.
pub(super) const SECTOR_BYTES: u64 = 512;

/// What becomes of one write that no sync covered when the power goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteFate {
    /// All of it is on the device.
    Kept,
    /// None of it is.
    Lost,
    /// Its first bytes are.
    Prefix {
        /// How many.
        len_bytes: usize,
    },
    /// All but its first bytes are.
    Suffix {
        /// How many are not.
        from_bytes: usize,
    },
    /// Of its 512-byte sectors, counted from the one that holds its first byte, those whose entry
    /// is true are; sectors without an entry are not.
    Sectors {
        /// One entry per sector.
        kept: Vec<bool>,
    },
}

/// A write that no sync covers yet.
#[derive(Debug, Clone, Copy)]
pub struct UnsyncedWrite<'a> {
    /// The file's name.
    pub path: &'a str,
    /// Where the write begins, bytes from the file's start.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Decides what a power loss leaves of one file.
pub(super) trait Chooser {
    /// The fate of a write.
    fn write(&mut self, write: UnsyncedWrite<'_>) -> WriteFate;

    /// Whether a change of length or a reservation is kept.
    fn keeps_len_change(&mut self) -> bool;

    /// The file's length: `natural` follows from what was kept, `candidates` are all lengths it
    /// has had since the last sync.
    fn len(&mut self, natural: u64, candidates: &[u64]) -> u64;

    /// What bytes that were never written read as, when their place in the file exists: `None`
    /// for zeros, else stale ones.
    fn stale(&mut self, offset: u64, len_bytes: usize) -> Option<Vec<u8>>;
}

#[derive(Debug, Clone)]
enum Pending {
    /// A durable one came after others that are not, and is kept in order behind them.
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
        is_durable: bool,
    },
    SetLen {
        len: u64,
    },
    Allocate {
        len: u64,
    },
    /// Bytes that a failed sync forgot: only the length they gave the file may remain.
    Extend {
        len: u64,
    },
}

/// The content of a file in all its versions.
#[derive(Debug, Clone, Default)]
pub(super) struct SimFile {
    cache: Pages,
    synced: Pages,
    pending: Vec<Pending>,
    /// The cache shows bytes that will never reach the device.
    has_forgotten: bool,
    /// A background write failed and no sync has said so yet.
    has_unreported_error: bool,
}

impl SimFile {
    /// A file whose whole content is durable.
    pub(super) fn durable(content: Pages) -> Self {
        Self {
            cache: content.clone(),
            synced: content,
            ..Self::default()
        }
    }

    /// What an ordinary read shows.
    pub(super) fn cache(&self) -> &Pages {
        &self.cache
    }

    /// What a read around the cache shows: all that was written back or will be.
    pub(super) fn device(&self) -> Pages {
        if !self.has_forgotten {
            return self.cache.clone();
        }
        let mut device = self.synced.clone();
        apply_all(&mut device, &self.pending);
        device
    }

    /// Whether a power loss now would change what it shows.
    pub(super) fn is_synced(&self) -> bool {
        self.pending.is_empty() && !self.has_forgotten
    }

    pub(super) fn write(&mut self, offset: u64, bytes: Arc<[u8]>) {
        self.cache.write(offset, &bytes);
        self.pending.push(Pending::Write {
            offset,
            bytes,
            is_durable: false,
        });
    }

    /// A write that covers its own bytes and nothing before it.
    pub(super) fn write_durable(&mut self, offset: u64, bytes: Arc<[u8]>) {
        self.cache.write(offset, &bytes);
        if self.pending.is_empty() {
            self.synced.write(offset, &bytes);
        } else {
            self.pending.push(Pending::Write {
                offset,
                bytes,
                is_durable: true,
            });
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.cache.set_len(len);
        self.pending.push(Pending::SetLen { len });
    }

    pub(super) fn allocate(&mut self, len: u64) {
        self.cache.allocate(len);
        self.pending.push(Pending::Allocate { len });
    }

    /// Makes everything pending durable.
    pub(super) fn sync(&mut self) {
        if self.has_forgotten {
            apply_all(&mut self.synced, &self.pending);
        } else {
            self.synced = self.cache.clone();
        }
        self.pending.clear();
    }

    /// Forgets the bytes of every pending write, as a failed sync does.
    pub(super) fn forget_pending(&mut self) {
        for pending in &mut self.pending {
            self.has_forgotten |= pending.forget();
        }
    }

    /// Forgets the bytes of the newest write only.
    pub(super) fn forget_newest(&mut self) {
        if let Some(pending) = self.pending.last_mut() {
            self.has_forgotten |= pending.forget();
        }
    }

    /// Forgets the newest write in the background: the next sync will say so.
    pub(super) fn fail_in_background(&mut self) {
        self.forget_newest();
        self.has_unreported_error = true;
    }

    /// Whether a background write failed since this was last asked.
    pub(super) fn take_unreported_error(&mut self) -> bool {
        std::mem::take(&mut self.has_unreported_error)
    }

    /// What is left of the content after a power loss.
    pub(super) fn after_power_loss(&self, path: &str, chooser: &mut dyn Chooser) -> Pages {
        let mut left = self.synced.clone();
        let mut natural_len = left.len();
        let mut durable_len = left.len();
        let mut seen_len = left.len();
        let mut candidates = vec![seen_len];
        for pending in &self.pending {
            match pending {
                Pending::Write {
                    offset,
                    bytes,
                    is_durable,
                } => {
                    let end = offset + bytes.len() as u64;
                    seen_len = seen_len.max(end);
                    if *is_durable {
                        left.write(*offset, bytes);
                        durable_len = durable_len.max(end);
                        natural_len = natural_len.max(end);
                    } else {
                        let write = UnsyncedWrite {
                            path,
                            offset: *offset,
                            bytes,
                        };
                        let kept_end = settle(&mut left, write, self.synced.len(), chooser);
                        natural_len = natural_len.max(kept_end);
                    }
                }
                Pending::SetLen { len } => {
                    seen_len = *len;
                    durable_len = durable_len.min(*len);
                    if chooser.keeps_len_change() {
                        left.set_len(*len);
                        natural_len = *len;
                    }
                }
                Pending::Allocate { len } => {
                    seen_len = seen_len.max(*len);
                    if chooser.keeps_len_change() {
                        left.allocate(*len);
                        natural_len = natural_len.max(*len);
                    }
                }
                Pending::Extend { len } => seen_len = seen_len.max(*len),
            }
            candidates.push(seen_len);
        }
        let len = if self.pending.is_empty() {
            natural_len
        } else {
            chooser.len(natural_len, &candidates)
        };
        left.set_len(len.max(durable_len));
        left
    }
}

impl Pending {
    /// Turns a write that is not durable into the length it gave; true when it was one.
    fn forget(&mut self) -> bool {
        if let Self::Write {
            offset,
            bytes,
            is_durable: false,
        } = self
        {
            *self = Self::Extend {
                len: *offset + bytes.len() as u64,
            };
            return true;
        }
        false
    }
}

fn apply_all(content: &mut Pages, pending: &[Pending]) {
    for pending in pending {
        match pending {
            Pending::Write { offset, bytes, .. } => content.write(*offset, bytes),
            Pending::SetLen { len } => content.set_len(*len),
            Pending::Allocate { len } => content.allocate(*len),
            Pending::Extend { len } => content.set_len(content.len().max(*len)),
        }
    }
}

/// Puts what is kept of one write into `left`, stale bytes where the rest would have extended the
/// file, and says where the kept part ends.
fn settle(
    left: &mut Pages,
    write: UnsyncedWrite<'_>,
    synced_len: u64,
    chooser: &mut dyn Chooser,
) -> u64 {
    let fate = chooser.write(write);
    let end = write.offset + write.bytes.len() as u64;
    if fate != WriteFate::Kept && synced_len < end {
        let from = write.offset.max(synced_len);
        let len_bytes = usize::try_from(end - from).unwrap_or(0);
        if let Some(stale) = chooser.stale(from, len_bytes) {
            left.write(from, &stale);
        }
    }
    let mut kept_end = 0;
    for (from, to) in fate.kept_ranges(write.offset, write.bytes.len()) {
        if let Some(bytes) = write.bytes.get(from..to) {
            left.write(write.offset + from as u64, bytes);
            kept_end = write.offset + to as u64;
        }
    }
    kept_end
}

impl WriteFate {
    /// The kept parts of a write of `len_bytes` at `offset`, as ranges within it, ascending.
    fn kept_ranges(&self, offset: u64, len_bytes: usize) -> Vec<(usize, usize)> {
        match self {
            Self::Kept => vec![(0, len_bytes)],
            Self::Lost => Vec::new(),
            Self::Prefix { len_bytes: kept } => vec![(0, len_bytes.min(*kept))],
            Self::Suffix { from_bytes } => vec![(len_bytes.min(*from_bytes), len_bytes)],
            Self::Sectors { kept } => sector_ranges(offset, len_bytes)
                .zip(kept)
                .filter_map(|(range, is_kept)| is_kept.then_some(range))
                .collect(),
        }
    }
}

/// The parts of a write that lie in one sector each.
pub(super) fn sector_ranges(offset: u64, len_bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(usize::MAX);
    let first = sector - usize::try_from(offset % SECTOR_BYTES).unwrap_or(0);
    let ends = std::iter::successors(Some(first), move |end| Some(end + sector));
    let starts = std::iter::once(0).chain(ends.clone());
    starts
        .zip(ends)
        .map(move |(from, to)| (from, to.min(len_bytes)))
        .take_while(|(a, b)| a < b)
}
