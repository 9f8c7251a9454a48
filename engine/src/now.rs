//! The time of day, as commits are stamped with it and as entries expire by it.
//!
//! Somebody stamps it: the owner of the database, or the clock thread while commits arrive. Nobody
//! on the way of a commit or a read asks the clock, but where that thread sleeps and the time is
//! needed to tell whether an entry has expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use in_mem_wal::clock::Clock;

/// The time of one database.
///
/// Relaxed throughout: a time a moment old is as good, and nothing is ordered by it.
pub(crate) struct Now {
    /// As last stamped, microseconds since the epoch.
    stamped_us: AtomicU64,
    /// Nobody stamps it at the moment.
    is_stale: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl Now {
    /// The time as the clock says it now.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            stamped_us: AtomicU64::new(clock.wall_us()),
            is_stale: AtomicBool::new(false),
            clock,
        }
    }

    /// As last stamped, microseconds since the epoch.
    #[inline]
    pub(crate) fn stamped_us(&self) -> u64 {
        self.stamped_us.load(Ordering::Relaxed)
    }

    /// What it is, microseconds since the epoch: as last stamped, or by the clock while nobody
    /// stamps it.
    #[inline]
    pub(crate) fn current_us(&self) -> u64 {
        if self.is_stale.load(Ordering::Relaxed) {
            return self.clock.wall_us();
        }
        self.stamped_us()
    }

    pub(crate) fn stamp(&self, now_us: u64) {
        self.stamped_us.store(now_us, Ordering::Relaxed);
    }

    /// Stamps what the clock says.
    pub(crate) fn refresh(&self) {
        self.stamp(self.clock.wall_us());
    }

    /// Whether nobody stamps it from here on.
    pub(crate) fn set_stale(&self, is_stale: bool) {
        self.is_stale.store(is_stale, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use in_mem_wal::clock::SimClock;

    use super::*;

    #[test]
    fn while_nobody_stamps_it_the_time_is_that_of_the_clock() {
        let clock = Arc::new(SimClock::new());
        clock.set_wall_us(1_000);
        let shown: Arc<dyn Clock> = Arc::<SimClock>::clone(&clock);
        let now = Now::new(shown);
        clock.set_wall_us(2_000);
        assert_eq!(now.current_us(), 1_000);
        now.set_stale(true);
        assert_eq!((now.current_us(), now.stamped_us()), (2_000, 1_000));
        now.refresh();
        now.set_stale(false);
        clock.set_wall_us(3_000);
        assert_eq!(now.current_us(), 2_000);
    }
}
