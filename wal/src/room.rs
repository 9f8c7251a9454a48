//! Admission: how many bytes of preallocated log may still be promised to records.
//!
//! A record is admitted only if `outstanding + cost <= max(active remainder, ready spare)`, where
//! its cost is the worst case: alone in a batch, with its mark and padding. That is enough: if all
//! that is outstanding fits the active segment it can be written there, and if it fits the spare
//! it can be written after one rotation, whatever was put into the active segment before. Batches
//! never use more than the costs of their records, so writing keeps either bound true. A full disk
//! therefore refuses a record here, before it has a version, and never in the middle of the log.
//!
//! The books are one word, changed in one step: what is promised, what there is, and the count.
//! Apart, a committer could compare against room that the log thread had just used up, in between
//! its two looks, and promise it a second time. Reserving takes no lock. Only the log thread changes
//! what there is, and lowers it before it gives back the costs of what it wrote.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::limits::{LOG_BLOCK_LEN_BYTES_MIN, QUEUE_COUNT_MAX, SEGMENT_LEN_BYTES_MAX};

/// Room is counted in units of the smallest log block, bytes: costs and rests are multiples.
const UNIT_LEN_BYTES: u64 = LOG_BLOCK_LEN_BYTES_MIN as u64;
/// Bits of each of the two fields that count units.
const UNIT_BITS: u32 = 23;
const UNIT_MASK: u64 = (1 << UNIT_BITS) - 1;
/// One record; the bits above count records.
const ONE_RECORD: u64 = 1 << (2 * UNIT_BITS);

const _: () = assert!(SEGMENT_LEN_BYTES_MAX / UNIT_LEN_BYTES <= UNIT_MASK);
const _: () = assert!((QUEUE_COUNT_MAX as u64) < (1 << (64 - 2 * UNIT_BITS)));

/// What is promised and what can be.
#[derive(Debug)]
pub(crate) struct Room {
    /// From the lowest bit: units promised (reserved or queued and not yet written), units there
    /// are (`max(active remainder, ready spare capacity)`), records promised.
    books: AtomicU64,
    /// Somebody was refused since space was last announced.
    refused: AtomicBool,
    /// The log takes no more records.
    has_ended: AtomicBool,
    count_max: u64,
}

/// The books, taken apart.
#[derive(Debug, Clone, Copy)]
struct Books {
    promised_units: u64,
    available_units: u64,
    record_count: u64,
}

impl Books {
    fn of(word: u64) -> Self {
        Self {
            promised_units: word & UNIT_MASK,
            available_units: (word >> UNIT_BITS) & UNIT_MASK,
            record_count: word >> (2 * UNIT_BITS),
        }
    }
}

/// Why a cost was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The queue is full; it drains.
    Queue,
    /// Not enough preallocated log.
    Space,
    /// The log is closed or has failed.
    Ended,
}

impl Room {
    pub(crate) fn new(count_max: u32) -> Self {
        Self {
            books: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            count_max: u64::from(count_max),
        }
    }

    /// Takes room for one record of `cost_bytes`.
    pub(crate) fn take(&self, cost_bytes: u64) -> Result<(), Refusal> {
        match self.try_take(cost_bytes) {
            Ok(()) => Ok(()),
            Err(_) => {
                // SeqCst on both sides: either this sees the room the log thread has just freed,
                // or the log thread sees that somebody was refused and announces it.
                self.refused.store(true, Ordering::SeqCst);
                self.try_take(cost_bytes)
            }
        }
    }

    /// Like [`Self::take`], without asking to be told when there is room.
    pub(crate) fn try_take(&self, cost_bytes: u64) -> Result<(), Refusal> {
        // Relaxed: the appender decides under the lock; this only spares the way there.
        if self.has_ended.load(Ordering::Relaxed) {
            return Err(Refusal::Ended);
        }
        assert!(
            cost_bytes.is_multiple_of(UNIT_LEN_BYTES),
            "a cost is a number of log blocks"
        );
        let cost_units = cost_bytes / UNIT_LEN_BYTES;
        let mut seen = self.books.load(Ordering::SeqCst);
        loop {
            let books = Books::of(seen);
            if self.count_max <= books.record_count {
                return Err(Refusal::Queue);
            }
            if books.available_units < books.promised_units + cost_units {
                return Err(Refusal::Space);
            }
            let taken = seen + ONE_RECORD + cost_units;
            match self
                .books
                .compare_exchange_weak(seen, taken, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Nothing is taken from here on.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Gives back the costs of `count` records, written or never appended.
    pub(crate) fn give_back(&self, count: u64, cost_bytes: u64) {
        let cost_units = cost_bytes / UNIT_LEN_BYTES;
        let before = self
            .books
            .fetch_sub(count * ONE_RECORD + cost_units, Ordering::SeqCst);
        let books = Books::of(before);
        assert!(
            count <= books.record_count,
            "more records given back than taken"
        );
        assert!(
            cost_units <= books.promised_units,
            "more room given back than taken"
        );
    }

    /// States how much preallocated log there is; the log thread only.
    pub(crate) fn set_available(&self, len_bytes: u64) {
        let units = len_bytes / UNIT_LEN_BYTES;
        assert!(units <= UNIT_MASK, "a segment is below 4 GiB");
        // Committers move the other two fields meanwhile, and not this one.
        let before = Books::of(self.books.load(Ordering::SeqCst)).available_units;
        if before <= units {
            let gained = (units - before) << UNIT_BITS;
            self.books.fetch_add(gained, Ordering::SeqCst);
        } else {
            let used = (before - units) << UNIT_BITS;
            self.books.fetch_sub(used, Ordering::SeqCst);
        }
    }

    /// Records and bytes promised and not yet written.
    pub(crate) fn outstanding(&self) -> (u64, u64) {
        let books = Books::of(self.books.load(Ordering::SeqCst));
        (books.record_count, books.promised_units * UNIT_LEN_BYTES)
    }

    /// Bytes of preallocated log.
    pub(crate) fn available(&self) -> u64 {
        Books::of(self.books.load(Ordering::SeqCst)).available_units * UNIT_LEN_BYTES
    }

    /// True when somebody was refused; the flag is taken.
    pub(crate) fn take_refused(&self) -> bool {
        // The plain load keeps the common case, nobody refused, free of a write.
        self.refused.load(Ordering::SeqCst) && self.refused.swap(false, Ordering::SeqCst)
    }

    /// Records that somebody was refused for another reason than room.
    pub(crate) fn note_refusal(&self) {
        self.refused.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = UNIT_LEN_BYTES;

    #[test]
    fn what_is_taken_never_exceeds_what_is_available() {
        let room = Room::new(10);
        assert_eq!(room.take(UNIT), Err(Refusal::Space));
        room.set_available(10 * UNIT);
        assert_eq!(room.take(6 * UNIT), Ok(()));
        assert_eq!(room.take(5 * UNIT), Err(Refusal::Space));
        assert_eq!(room.take(4 * UNIT), Ok(()));
        assert!(room.take_refused());
        assert!(!room.take_refused());
        room.give_back(2, 10 * UNIT);
        assert_eq!(room.outstanding(), (0, 0));
        assert_eq!(room.available(), 10 * UNIT);
        room.set_available(9 * UNIT + 1);
        assert_eq!(room.available(), 9 * UNIT, "part of a unit is none");
    }

    #[test]
    fn the_largest_segment_and_the_longest_queue_fit_the_books() {
        let room = Room::new(QUEUE_COUNT_MAX);
        room.set_available(SEGMENT_LEN_BYTES_MAX);
        assert_eq!(room.take(SEGMENT_LEN_BYTES_MAX - UNIT), Ok(()));
        for _ in 1..QUEUE_COUNT_MAX {
            assert_eq!(room.take(0), Ok(()));
        }
        assert_eq!(room.take(0), Err(Refusal::Queue));
        let promised = (u64::from(QUEUE_COUNT_MAX), SEGMENT_LEN_BYTES_MAX - UNIT);
        assert_eq!(room.outstanding(), promised);
        assert_eq!(room.available(), SEGMENT_LEN_BYTES_MAX);
    }

    #[test]
    fn the_count_is_bounded_as_well() {
        let room = Room::new(2);
        room.set_available(u64::from(u32::MAX));
        assert_eq!(room.take(UNIT), Ok(()));
        assert_eq!(room.take(UNIT), Ok(()));
        assert_eq!(room.take(UNIT), Err(Refusal::Queue));
    }

    #[test]
    fn threads_together_never_take_too_much() {
        let room = Room::new(10_000);
        room.set_available(1_000 * UNIT);
        let taken: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| room.take(UNIT).is_ok()).count()))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap() as u64)
                .sum()
        });
        assert_eq!(taken, 1_000);
        assert_eq!(room.outstanding(), (1_000, 1_000 * UNIT));
    }

    /// What was lost: a committer compared against room that was used up meanwhile, and a record
    /// was admitted that had no place; without a spare that poisoned the log.
    #[test]
    fn room_that_was_written_is_never_promised_again() {
        const UNITS: u64 = 400;
        for _ in 0..20 {
            let room = Room::new(100);
            room.set_available(UNITS * UNIT);
            let written = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while written.load(Ordering::SeqCst) < UNITS {
                            let _ = room.try_take(UNIT);
                        }
                    });
                }
                while written.load(Ordering::SeqCst) < UNITS {
                    if room.outstanding().0 != 0 {
                        room.set_available(room.available() - UNIT);
                        room.give_back(1, UNIT);
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
            assert_eq!(room.available(), 0);
            assert_eq!(room.outstanding(), (0, 0), "promised, and there is no room");
        }
    }
}
