//! Admission: how many bytes of preallocated log may still be promised to records.
//!
//! A record is admitted only if `outstanding + cost <= max(active remainder, ready spare)`, where
//! its cost is the worst case: alone in a batch, with its mark and padding. That is enough: if all
//! that is outstanding fits the active segment it can be written there, and if it fits the spare
//! it can be written after one rotation, whatever was put into the active segment before. Batches
//! never use more than the costs of their records, so writing keeps either bound true. A full disk
//! therefore refuses a record here, before it has a version, and never in the middle of the log.
//!
//! The fields are atomics: reserving takes no lock. Only the log thread changes `available`, and
//! lowers it before it gives back the costs of what it wrote.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bits of `outstanding` that hold bytes; the rest count records. 2^44 bytes is 16 TiB.
const LEN_BITS: u32 = 44;
const ONE_RECORD: u64 = 1 << LEN_BITS;
const LEN_MASK: u64 = ONE_RECORD - 1;

const _: () = assert!((crate::limits::QUEUE_COUNT_MAX as u64) < (1 << (64 - LEN_BITS)));

/// What is promised and what can be.
#[derive(Debug)]
pub(crate) struct Room {
    /// Records reserved or queued and not yet written: count and bytes of cost, packed so that
    /// both move in one step.
    outstanding: AtomicU64,
    /// `max(active remainder, ready spare capacity)`, bytes.
    available: AtomicU64,
    /// Somebody was refused since space was last announced.
    refused: AtomicBool,
    /// The log takes no more records.
    has_ended: AtomicBool,
    count_max: u64,
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
            outstanding: AtomicU64::new(0),
            available: AtomicU64::new(0),
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
        let mut seen = self.outstanding.load(Ordering::SeqCst);
        loop {
            if self.count_max <= seen >> LEN_BITS {
                return Err(Refusal::Queue);
            }
            let available = self.available.load(Ordering::SeqCst);
            if available < (seen & LEN_MASK).saturating_add(cost_bytes) {
                return Err(Refusal::Space);
            }
            let taken = seen + ONE_RECORD + cost_bytes;
            match self.outstanding.compare_exchange_weak(
                seen,
                taken,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
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
        let before = self
            .outstanding
            .fetch_sub((count << LEN_BITS) + cost_bytes, Ordering::SeqCst);
        assert!(
            count <= before >> LEN_BITS,
            "more records given back than taken"
        );
        assert!(
            cost_bytes <= before & LEN_MASK,
            "more room given back than taken"
        );
    }

    /// States how much preallocated log there is; the log thread only.
    pub(crate) fn set_available(&self, len_bytes: u64) {
        self.available.store(len_bytes, Ordering::SeqCst);
    }

    /// Records and bytes promised and not yet written.
    pub(crate) fn outstanding(&self) -> (u64, u64) {
        let seen = self.outstanding.load(Ordering::SeqCst);
        (seen >> LEN_BITS, seen & LEN_MASK)
    }

    pub(crate) fn available(&self) -> u64 {
        self.available.load(Ordering::SeqCst)
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

    #[test]
    fn what_is_taken_never_exceeds_what_is_available() {
        let room = Room::new(10);
        assert_eq!(room.take(1), Err(Refusal::Space));
        room.set_available(1000);
        assert_eq!(room.take(600), Ok(()));
        assert_eq!(room.take(401), Err(Refusal::Space));
        assert_eq!(room.take(400), Ok(()));
        assert!(room.take_refused());
        assert!(!room.take_refused());
        room.give_back(2, 1000);
        assert_eq!(room.outstanding(), (0, 0));
    }

    #[test]
    fn the_count_is_bounded_as_well() {
        let room = Room::new(2);
        room.set_available(u64::from(u32::MAX));
        assert_eq!(room.take(1), Ok(()));
        assert_eq!(room.take(1), Ok(()));
        assert_eq!(room.take(1), Err(Refusal::Queue));
    }

    #[test]
    fn threads_together_never_take_too_much() {
        let room = Room::new(10_000);
        room.set_available(1_000);
        let taken: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| room.take(1).is_ok()).count()))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap() as u64)
                .sum()
        });
        assert_eq!(taken, 1_000);
        assert_eq!(room.outstanding(), (1_000, 1_000));
    }
}
