//! Who reads an older time of a run: what a compaction has to wait for before it trims.
//!
//! A view counts itself in before it reads the version it is to see, and out when it ends. Counts
//! belong to one of two generations. A compaction that knows its watermark, at which everything is
//! published, opens the other generation: whoever counts in from then on sees the watermark or
//! later, and the newest version at or below the watermark is never trimmed. When the old
//! generation has run empty, nobody is left who could miss what is trimmed. A view that goes on
//! holds its run back, and no other one.
//!
//! Reading one key as published now needs no pin: should its version have been trimmed between the
//! two loads, it looks again (`RunShard::with_published`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::shard::RunShard;

/// The views of one run.
///
/// SeqCst throughout: a view stores its count and then looks at the generation, a compaction stores
/// the generation and then looks at the counts, and one of the two has to see the other.
#[derive(Default)]
pub(crate) struct Pins {
    /// Of views that begin now: 0 or 1.
    generation: AtomicUsize,
    counts: [AtomicU64; 2],
    /// Views of versions below it may miss what was trimmed, or is about to be.
    trimmed_to: AtomicU64,
}

impl Pins {
    /// Counts a view in; its generation.
    #[inline]
    fn enter(&self) -> usize {
        loop {
            let generation = self.generation.load(Ordering::SeqCst);
            self.count(generation).fetch_add(1, Ordering::SeqCst);
            if self.generation.load(Ordering::SeqCst) == generation {
                return generation;
            }
            self.count(generation).fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[inline]
    fn count(&self, generation: usize) -> &AtomicU64 {
        let [even, odd] = &self.counts;
        if generation == 0 { even } else { odd }
    }

    /// Opens the next generation, if the one before the current is over. Views that begin from now
    /// on and want to see less than `trim_to` are told that it may be trimmed.
    pub(crate) fn advance(&self, trim_to: u64) {
        self.trimmed_to.fetch_max(trim_to, Ordering::SeqCst);
        let generation = self.generation.load(Ordering::SeqCst);
        if self.count(generation ^ 1).load(Ordering::SeqCst) == 0 {
            self.generation.store(generation ^ 1, Ordering::SeqCst);
        }
    }

    /// Views that began before the current generation, count.
    pub(crate) fn old_view_count(&self) -> u64 {
        let generation = self.generation.load(Ordering::SeqCst);
        self.count(generation ^ 1).load(Ordering::SeqCst)
    }

    /// Views of versions below it may miss something.
    pub(crate) fn trimmed_to(&self) -> u64 {
        self.trimmed_to.load(Ordering::SeqCst)
    }

    /// Sets it back: what was about to be trimmed is not.
    pub(crate) fn set_trimmed_to(&self, version: u64) {
        self.trimmed_to.store(version, Ordering::SeqCst);
    }

    /// A snapshot had left out what came before.
    pub(crate) fn raise_trimmed_to(&self, version: u64) {
        self.trimmed_to.fetch_max(version, Ordering::SeqCst);
    }
}

/// Keeps what one view sees from being trimmed, as long as it lives.
pub(crate) struct Pin {
    shard: Arc<RunShard>,
    generation: usize,
}

impl Pin {
    /// Counts a view of this run in; the version it is to see is read after that.
    #[inline]
    pub(crate) fn new(shard: Arc<RunShard>) -> Self {
        let generation = shard.pins.enter();
        Self { shard, generation }
    }

    /// Its run.
    #[inline]
    pub(crate) fn shard(&self) -> &Arc<RunShard> {
        &self.shard
    }
}

impl Clone for Pin {
    /// In the same generation: the copy sees what the first one does.
    fn clone(&self) -> Self {
        let count = self.shard.pins.count(self.generation);
        count.fetch_add(1, Ordering::SeqCst);
        Self {
            shard: Arc::clone(&self.shard),
            generation: self.generation,
        }
    }
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        let count = self.shard.pins.count(self.generation);
        count.fetch_sub(1, Ordering::SeqCst);
    }
}
