//! The read views that clients hold open: how many, and since when the oldest.
//!
//! A fixed table of slots, one for each view, holds the time at which it was taken. Taking and
//! freeing a slot is a few atomic operations on any thread; views beyond the table are counted and
//! have no age. A transaction is a view too, and says here how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Metrics;

/// Views that have an age.
const SLOT_COUNT: usize = 4096;

/// Slots looked at for a free one.
const LOOK_COUNT_MAX: usize = 64;

/// Why something that was begun ended without a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    /// What it read, or expected, had changed.
    Conflict,
    /// Its owner asked for it.
    Rollback,
    /// It ran out of time.
    Expired,
    /// Its session ended.
    Lost,
    /// Any other refusal.
    Refused,
    /// The log failed: whether it happened is known after a restart.
    Unknown,
}

impl Abort {
    /// Every cause, in the order of their numbers.
    pub(crate) const ALL: [Self; 6] = [
        Self::Conflict,
        Self::Rollback,
        Self::Expired,
        Self::Lost,
        Self::Refused,
        Self::Unknown,
    ];

    /// The word in labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Rollback => "rollback",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct LiveViews {
    /// When each was taken, microseconds of the monotonic clock; 0 for a free slot.
    taken_us: Box<[AtomicU64]>,
    count: AtomicU64,
    transaction_count: AtomicU64,
    next: AtomicUsize,
}

impl Default for LiveViews {
    fn default() -> Self {
        Self {
            taken_us: (0..SLOT_COUNT).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            transaction_count: AtomicU64::new(0),
            next: AtomicUsize::new(0),
        }
    }
}

impl LiveViews {
    /// Views held now.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Those of them that are open transactions.
    pub(crate) fn transaction_count(&self) -> u64 {
        self.transaction_count.load(Ordering::Relaxed)
    }

    /// When the oldest was taken, microseconds of the monotonic clock.
    pub(crate) fn oldest_us(&self) -> Option<u64> {
        let taken = self
            .taken_us
            .iter()
            .map(|taken| taken.load(Ordering::Relaxed));
        taken.filter(|taken_us| *taken_us != 0).min()
    }

    fn take(&self, now_us: u64) -> Option<usize> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut places = (first..first.wrapping_add(LOOK_COUNT_MAX)).map(|at| at % SLOT_COUNT);
        places.find(|place| {
            self.taken_us.get(*place).is_some_and(|slot| {
                // Relaxed: the number is the whole content of the slot.
                slot.compare_exchange(0, now_us.max(1), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            })
        })
    }
}

/// One view that is held; gone when dropped.
#[derive(Debug)]
pub(crate) struct LiveView {
    metrics: Arc<Metrics>,
    slot: Option<usize>,
    /// Of a transaction: how it ends unless somebody says otherwise.
    ending: Option<Abort>,
    is_transaction: bool,
}

impl LiveView {
    /// A read takes a view along.
    pub(crate) fn of_read(metrics: &Arc<Metrics>, now_us: u64) -> Self {
        Self::new(metrics, now_us, false)
    }

    /// A transaction begins. Dropped, it counts as lost.
    pub(crate) fn of_transaction(metrics: &Arc<Metrics>, now_us: u64) -> Self {
        Self::new(metrics, now_us, true)
    }

    fn new(metrics: &Arc<Metrics>, now_us: u64, is_transaction: bool) -> Self {
        let views = &metrics.views;
        views.count.fetch_add(1, Ordering::Relaxed);
        views
            .transaction_count
            .fetch_add(is_transaction.into(), Ordering::Relaxed);
        Self {
            slot: views.take(now_us),
            metrics: Arc::clone(metrics),
            ending: is_transaction.then_some(Abort::Lost),
            is_transaction,
        }
    }

    /// How it ends when it is dropped; none when its commit is counted elsewhere.
    pub(crate) fn ends(&mut self, ending: Option<Abort>) {
        self.ending = ending;
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        let views = &self.metrics.views;
        if let Some(slot) = self.slot.and_then(|slot| views.taken_us.get(slot)) {
            slot.store(0, Ordering::Relaxed);
        }
        views.count.fetch_sub(1, Ordering::Relaxed);
        views
            .transaction_count
            .fetch_sub(self.is_transaction.into(), Ordering::Relaxed);
        if let Some(ending) = self.ending {
            self.metrics.aborted(ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::load;

    #[test]
    fn the_oldest_view_is_the_one_taken_first_of_those_held() {
        let metrics = Arc::new(Metrics::default());
        let first = LiveView::of_read(&metrics, 10);
        let second = LiveView::of_transaction(&metrics, 20);
        assert_eq!(metrics.views.oldest_us(), Some(10));
        drop(first);
        assert_eq!(metrics.views.oldest_us(), Some(20));
        assert_eq!(
            (metrics.views.count(), metrics.views.transaction_count()),
            (1, 1)
        );
        drop(second);
        assert_eq!(metrics.views.oldest_us(), None);
        assert_eq!(load(&metrics.aborts[Abort::Lost as usize]), 1);
    }

    #[test]
    fn views_beyond_the_table_are_counted_and_let_go() {
        let metrics = Arc::new(Metrics::default());
        let views: Vec<LiveView> = (0..SLOT_COUNT as u64 + 10)
            .map(|at| LiveView::of_read(&metrics, at + 1))
            .collect();
        assert_eq!(metrics.views.count(), SLOT_COUNT as u64 + 10);
        drop(views);
        assert_eq!(metrics.views.count(), 0);
        assert_eq!(metrics.views.oldest_us(), None);
    }
}
