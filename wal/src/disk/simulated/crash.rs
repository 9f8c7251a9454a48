//! What a power loss leaves, drawn from a seed or chosen write by write.
//!
//! One draw per image decides the mood: everything unsynced is lost, everything is kept, each
//! file keeps a prefix of its writes and the next one is torn, or each write fares on its own,
//! later ones perhaps kept while earlier ones are lost. Torn means cut at a sector or at any byte,
//! at the front or at the end, single sectors missing, or any set of sectors. A file's length
//! follows its bytes half of the time and else is any length it has had since the last sync;
//! bytes that were never written read as zero or as those of a removed file.

use std::sync::Arc;

use super::CrashMode;
use super::file::{Chooser, SECTOR_BYTES, SimFile, UnsyncedWrite, WriteFate, sector_ranges};
use super::media::{Media, Request};
use super::names::{NameChooser, Node};
use super::pages::Pages;
use super::rng::SimRng;

/// Draws everything from a seed.
pub(super) struct Drawn {
    rng: SimRng,
    mood: Mood,
    stale: Option<Arc<Pages>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    AllLost,
    AllKept,
    /// A file's writes are kept so far; the next is torn and the rest lost.
    Prefix {
        keeps: bool,
    },
    Independent,
}

/// Asks a closure for each write; names and lengths are all kept or all lost.
pub(super) struct Asked<'a> {
    pub(super) keeps_names: bool,
    pub(super) ask: &'a mut dyn FnMut(UnsyncedWrite<'_>) -> WriteFate,
}

impl Drawn {
    pub(super) fn new(image_seed: u64, stale: Option<Arc<Pages>>) -> Self {
        let mut rng = SimRng::new(image_seed ^ 0xC4A5_4000);
        let mood = match rng.below(8) {
            0 => Mood::AllLost,
            1 => Mood::AllKept,
            2 | 3 => Mood::Prefix { keeps: true },
            _ => Mood::Independent,
        };
        Self { rng, mood, stale }
    }

    fn torn(&mut self, write: UnsyncedWrite<'_>) -> WriteFate {
        let len = write.bytes.len();
        let sector_count = sector_ranges(write.offset, len).count();
        match self.rng.below(6) {
            0 => WriteFate::Prefix {
                len_bytes: self.sector_start(write, sector_count),
            },
            1 => WriteFate::Prefix {
                len_bytes: self.rng.index(len),
            },
            2 => WriteFate::Suffix {
                from_bytes: self.sector_start(write, sector_count),
            },
            3 => {
                let mut kept = vec![true; sector_count];
                if let Some(sector) = kept.get_mut(self.rng.index(sector_count)) {
                    *sector = false;
                }
                WriteFate::Sectors { kept }
            }
            4 => {
                let from_bytes = self.rng.index(len);
                WriteFate::Suffix { from_bytes }
            }
            _ => WriteFate::Sectors {
                kept: (0..sector_count).map(|_| self.rng.coin()).collect(),
            },
        }
    }

    /// Where one of the write's sectors begins, from the write's start.
    fn sector_start(&mut self, write: UnsyncedWrite<'_>, sector_count: usize) -> usize {
        let sector = self.rng.index(sector_count);
        sector_ranges(write.offset, write.bytes.len())
            .nth(sector)
            .map_or(0, |(from, _)| from)
    }
}

impl Chooser for Drawn {
    fn write(&mut self, write: UnsyncedWrite<'_>) -> WriteFate {
        match self.mood {
            Mood::AllLost | Mood::Prefix { keeps: false } => WriteFate::Lost,
            Mood::AllKept => WriteFate::Kept,
            Mood::Prefix { keeps: true } => {
                if self.rng.chance(3, 4) {
                    return WriteFate::Kept;
                }
                self.mood = Mood::Prefix { keeps: false };
                self.torn(write)
            }
            Mood::Independent => match self.rng.below(8) {
                0..=2 => WriteFate::Kept,
                3..=5 => WriteFate::Lost,
                _ => self.torn(write),
            },
        }
    }

    fn keeps_len_change(&mut self) -> bool {
        match self.mood {
            Mood::AllLost => false,
            Mood::AllKept => true,
            Mood::Prefix { keeps } => keeps,
            Mood::Independent => self.rng.coin(),
        }
    }

    fn len(&mut self, natural: u64, candidates: &[u64]) -> u64 {
        // The next file begins its prefix anew.
        if let Mood::Prefix { keeps } = &mut self.mood {
            *keeps = true;
        }
        if self.mood == Mood::AllKept || self.rng.coin() {
            return natural;
        }
        candidates
            .get(self.rng.index(candidates.len()))
            .copied()
            .unwrap_or(natural)
    }

    fn stale(&mut self, offset: u64, len_bytes: usize) -> Option<Vec<u8>> {
        if self.rng.chance(3, 4) {
            return None;
        }
        let mut bytes = vec![0; len_bytes];
        match &self.stale {
            Some(stale) => {
                stale.read(offset, &mut bytes);
            }
            None => bytes.fill_with(|| self.rng.next_u64().to_le_bytes()[0]),
        }
        Some(bytes)
    }
}

impl NameChooser for Drawn {
    fn prefix(&mut self, count: usize) -> usize {
        match self.mood {
            Mood::AllLost => 0,
            Mood::AllKept => count,
            Mood::Prefix { .. } | Mood::Independent => self.rng.index(count + 1),
        }
    }

    fn is_kept(&mut self) -> bool {
        match self.mood {
            Mood::AllLost => false,
            Mood::AllKept => true,
            Mood::Prefix { .. } | Mood::Independent => self.rng.coin(),
        }
    }
}

impl Chooser for Asked<'_> {
    fn write(&mut self, write: UnsyncedWrite<'_>) -> WriteFate {
        (self.ask)(write)
    }

    fn keeps_len_change(&mut self) -> bool {
        true
    }

    fn len(&mut self, natural: u64, _candidates: &[u64]) -> u64 {
        natural
    }

    fn stale(&mut self, _offset: u64, _len_bytes: usize) -> Option<Vec<u8>> {
        None
    }
}

impl NameChooser for Asked<'_> {
    fn prefix(&mut self, count: usize) -> usize {
        if self.keeps_names { count } else { 0 }
    }

    fn is_kept(&mut self) -> bool {
        self.keeps_names
    }
}

/// The disk as it comes up after the power went with `in_flight` on its way.
pub(super) fn lose_power<C: Chooser + NameChooser>(
    media: &Media,
    in_flight: &[Request],
    mode: CrashMode,
    chooser: &mut C,
) -> Media {
    let mut left = media.clone();
    for request in in_flight {
        left.execute_unsynced(request);
    }
    left.close_everything();
    left.names = left.names.after_power_loss(mode, chooser);
    let Media { names, files, .. } = &mut left;
    let reachable = names.reachable();
    files.retain(|inode, _| reachable.contains(inode));
    for (path, node) in names.live() {
        if let Node::File(inode) = node
            && let Some(file) = files.get_mut(&inode)
            && !file.is_synced()
        {
            *file = Arc::new(SimFile::durable(file.after_power_loss(path, chooser)));
        }
    }
    left
}

/// The disk as another process finds it after this one was killed with `in_flight` on its way:
/// the cache is kept, and each operation in flight happened, or for a write a part of it, or not.
pub(super) fn kill(media: &Media, in_flight: &[Request], rng: &mut SimRng) -> Media {
    let mut left = media.clone();
    for request in in_flight {
        match rng.below(4) {
            0 => {}
            1 => {
                let mut request = request.clone();
                let sectors = request.bytes.len() as u64 / SECTOR_BYTES;
                let kept = usize::try_from(rng.below(sectors + 1) * SECTOR_BYTES).unwrap_or(0);
                request.bytes = request.bytes.get(..kept).unwrap_or_default().into();
                left.execute_unsynced(&request);
            }
            _ => left.execute_unsynced(request),
        }
    }
    left.close_everything();
    left.drop_unreachable();
    left
}
