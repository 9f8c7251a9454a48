//! Which commit versions are in no record, in bounded memory.
//!
//! Versions that were committed in memory only, and those a restart leaves out, are gaps between
//! the logged ones. Three ways to keep them, the newest most exactly:
//!
//! ```text
//! first gap ever        the window            the newest gaps
//!      |   forgotten    |   one bit each      |   first and last of each
//! -----+----------------+---------------------+------------------------> versions
//!  all logged                    all else is logged
//! ```
//!
//! After a snapshot was recovered nothing is known of the versions up to its watermark: the log that
//! could tell may be gone.
//!
//! A gap moves from right to left as newer ones come. What lies left of the window, up to the first
//! gap there was, is forgotten: nothing is claimed of it, neither that it was logged nor that it was
//! not. Long gaps cost as much as short ones on the right and are rare on the left; the window
//! serves the other extreme, where volatile and logged commits take turns.

use std::collections::VecDeque;

use crate::limits::{VERSION_GAP_COUNT_MAX, VERSION_WINDOW_COUNT};

const WORD_BIT_COUNT: u64 = u64::BITS as u64;

/// Versions that are in no record: from, up to and with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    first: u64,
    last: u64,
}

/// What is known of one version, at or below the highest logged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is in a record.
    Logged,
    /// It is in no record.
    NotLogged,
    /// One of the two.
    Forgotten {
        /// Of every version above this one it is known.
        known_above: u64,
    },
}

/// See the module.
pub(crate) struct Gaps {
    /// Rising.
    newest: VecDeque<Gap>,
    count_max: usize,
    /// The lowest version that is in no record; none without gaps.
    first: Option<u64>,
    /// One bit for each version of the window, by its remainder; set for those in no record. Zeros
    /// from the allocator: what was never needed takes no memory.
    window: Vec<u64>,
    /// The last version of the window: that of the last gap that moved into it.
    window_last: u64,
    /// Of the versions up to this one nothing was ever known.
    unknown_to: u64,
}

impl Gaps {
    pub(crate) fn new() -> Self {
        Self::with_room(VERSION_GAP_COUNT_MAX, VERSION_WINDOW_COUNT)
    }

    /// Room for `count_max` gaps, and for a window of `window_count` versions, a multiple of 64.
    fn with_room(count_max: usize, window_count: usize) -> Self {
        let word_count = window_count / u64::BITS as usize;
        Self {
            // Made now: the hand-off allocates nothing.
            newest: VecDeque::with_capacity(count_max),
            count_max,
            first: None,
            window: vec![0; word_count],
            window_last: 0,
            unknown_to: 0,
        }
    }

    fn window_count(&self) -> u64 {
        self.window.len() as u64 * WORD_BIT_COUNT
    }

    /// The versions from `first` to `last` are in no record. Gaps come in rising order.
    pub(crate) fn push(&mut self, first: u64, last: u64) {
        self.first.get_or_insert(first);
        if self.newest.len() == self.count_max
            && let Some(oldest) = self.newest.pop_front()
        {
            self.widen(oldest);
        }
        self.newest.push_back(Gap { first, last });
    }

    /// Nothing is known of the versions up to `version`; before the first gap.
    pub(crate) fn forget_to(&mut self, version: u64) {
        self.unknown_to = version;
    }

    /// Moves the window up to the end of `gap`.
    fn widen(&mut self, gap: Gap) {
        // A word of the window stands for new versions once it is reached again.
        let lowest = gap.last.saturating_sub(self.window_count() - 1);
        let logged_first = lowest.max(self.window_last + 1);
        self.fill(logged_first, gap.first.saturating_sub(1), false);
        self.fill(gap.first.max(lowest), gap.last, true);
        self.window_last = gap.last;
    }

    /// Sets or clears the bits of the versions from `first` to `last`: no more than the window has.
    fn fill(&mut self, first: u64, last: u64, is_gap: bool) {
        let mut at = first;
        while at <= last {
            let bit = at % WORD_BIT_COUNT;
            let count = (WORD_BIT_COUNT - bit).min(last - at + 1);
            let mask = (u64::MAX >> (WORD_BIT_COUNT - count)) << bit;
            let place = self.place(at);
            if let Some(word) = self.window.get_mut(place) {
                *word = if is_gap { *word | mask } else { *word & !mask };
            }
            at = at.saturating_add(count);
        }
    }

    /// The word of a version.
    fn place(&self, version: u64) -> usize {
        let at = version % self.window_count() / WORD_BIT_COUNT;
        usize::try_from(at).unwrap_or(usize::MAX)
    }

    /// What is known of a version at or below the highest logged one.
    pub(crate) fn look(&self, version: u64) -> Known {
        if version <= self.unknown_to {
            let known_above = self.unknown_to;
            return Known::Forgotten { known_above };
        }
        let is_newest = |gap: &Gap| gap.first <= version;
        if self.newest.front().is_some_and(is_newest) {
            let index = self.newest.partition_point(|gap| gap.last < version);
            let gap = self.newest.get(index);
            return known(gap.is_some_and(|gap| gap.first <= version));
        }
        if self.first.is_none_or(|first| version < first) || self.window_last < version {
            return Known::Logged;
        }
        let below = self.window_last.saturating_sub(self.window_count());
        if version <= below {
            return Known::Forgotten { known_above: below };
        }
        let word = self.window.get(self.place(version)).copied();
        let bit = version % WORD_BIT_COUNT;
        known((word.unwrap_or(0) >> bit) & 1 == 1)
    }
}

fn known(is_gap: bool) -> Known {
    if is_gap {
        Known::NotLogged
    } else {
        Known::Logged
    }
}

#[cfg(test)]
mod tests {
    use in_mem_wal::disk::SimRng;

    use super::*;

    const COUNT_MAX: usize = 8;
    const WINDOW_COUNT: usize = 256;

    /// Draws a life: how many versions each run of logged ones and each gap behind it takes.
    fn drawn(rng: &mut SimRng) -> Vec<(u64, u64)> {
        let span = |rng: &mut SimRng| match rng.below(12) {
            0 => 1 + rng.below(3 * WINDOW_COUNT as u64),
            1 => 1 + rng.below(70),
            _ => 1 + rng.below(3),
        };
        let count = rng.index(200);
        (0..count).map(|_| (span(rng), span(rng))).collect()
    }

    #[test]
    fn no_version_is_ever_told_to_be_logged_or_not_against_the_truth() {
        let seed = 0x6A95;
        println!("seed {seed}");
        let mut rng = SimRng::new(seed);
        let mut forgotten_count = 0;
        for life in 0..200 {
            let mut gaps = Gaps::with_room(COUNT_MAX, WINDOW_COUNT);
            // By version, from 1: whether it was logged.
            let mut truth = Vec::new();
            let mut starts = Vec::new();
            for (logged, gap) in drawn(&mut rng) {
                truth.resize(truth.len() + usize::try_from(logged).unwrap(), true);
                let first = truth.len() as u64 + 1;
                truth.resize(truth.len() + usize::try_from(gap).unwrap(), false);
                gaps.push(first, truth.len() as u64);
                starts.push(first);
            }
            truth.push(true);
            let newest = starts.len().checked_sub(COUNT_MAX);
            let exact_from = newest.and_then(|at| starts.get(at)).copied().unwrap_or(0);
            for (version, &is_logged) in (1..).zip(&truth) {
                let told = gaps.look(version);
                let forgotten = matches!(told, Known::Forgotten { known_above }
                    if version <= known_above && known_above < exact_from);
                forgotten_count += u64::from(forgotten);
                assert!(
                    forgotten || told == known(!is_logged),
                    "life {life}: {version} is told {told:?}"
                );
                let is_kept = exact_from <= version + WINDOW_COUNT as u64 / 2;
                let is_short = truth.len() < WINDOW_COUNT;
                assert!(
                    !forgotten || !(is_kept || is_short),
                    "life {life}: {version}"
                );
            }
        }
        assert!(0 < forgotten_count);
    }

    #[test]
    fn gaps_beyond_their_room_move_on_and_take_no_more_memory() {
        let mut gaps = Gaps::new();
        let capacity = gaps.newest.capacity();
        let count = VERSION_GAP_COUNT_MAX as u64 + 10;
        for index in 1..=count {
            gaps.push(2 * index, 2 * index);
        }
        assert_eq!(
            gaps.newest.front(),
            Some(&Gap {
                first: 22,
                last: 22
            })
        );
        assert_eq!(gaps.newest.len(), VERSION_GAP_COUNT_MAX);
        assert_eq!(gaps.newest.capacity(), capacity);
        for index in 1..=count {
            assert_eq!(gaps.look(2 * index), Known::NotLogged);
            assert_eq!(gaps.look(2 * index - 1), Known::Logged);
        }
    }

    #[test]
    fn a_gap_as_long_as_a_restart_leaves_costs_no_more_than_the_window() {
        let mut gaps = Gaps::with_room(1, WINDOW_COUNT);
        gaps.push(10, 11);
        gaps.push(100, u64::MAX / 2);
        gaps.push(u64::MAX - 1, u64::MAX - 1);
        assert_eq!(gaps.look(9), Known::Logged);
        assert!(matches!(gaps.look(10), Known::Forgotten { .. }));
        assert_eq!(gaps.look(u64::MAX / 2 - 1), Known::NotLogged);
        assert_eq!(gaps.look(u64::MAX / 2 + 1), Known::Logged);
        assert_eq!(gaps.look(u64::MAX - 1), Known::NotLogged);
    }
}
