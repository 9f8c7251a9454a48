//! The one door to time.
//!
//! Everything that needs a time of day or a deadline takes a [`Clock`], so that a simulation can
//! hold it still, step it back or let it jump.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A source of time. Implementations are cheap to call and never block.
pub trait Clock: Send + Sync {
    /// Time of day, microseconds since the Unix epoch. May step in either direction.
    fn wall_us(&self) -> u64;

    /// Microseconds since an arbitrary start. Never decreases; used for deadlines only.
    fn monotonic_us(&self) -> u64;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// Nanoseconds since an arbitrary start, never decreasing: for measuring where time goes.
    #[must_use]
    pub fn monotonic_ns() -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds)
    }
}

impl Clock for SystemClock {
    fn wall_us(&self) -> u64 {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock set before 1970 reads as the epoch: timestamps never decrease within a run.
        elapsed.map_or(0, |elapsed| {
            u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
        })
    }

    fn monotonic_us(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds
            .saturating_mul(1_000_000)
            .saturating_add(nanoseconds / 1_000)
    }
}

/// A clock that stands still until it is told to move. Shared by reference or `Arc`.
///
/// Each reading is one independent number, so all orderings are relaxed.
#[derive(Debug)]
pub struct SimClock {
    monotonic_us: AtomicU64,
    /// What the time of day is ahead of the monotonic time, microseconds.
    offset_us: AtomicI64,
}

/// Where a simulated day begins: 2026-01-01 00:00 UTC, microseconds since the Unix epoch.
const SIMULATED_START_US: i64 = 1_767_225_600_000_000;

impl SimClock {
    /// A clock at a fixed time of day, its monotonic time at 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            monotonic_us: AtomicU64::new(0),
            offset_us: AtomicI64::new(SIMULATED_START_US),
        }
    }

    /// Lets time pass: both readings move.
    pub fn advance_us(&self, by_us: u64) {
        self.monotonic_us.fetch_add(by_us, Ordering::Relaxed);
    }

    /// Somebody sets the time of day back; deadlines do not notice.
    pub fn step_back_us(&self, by_us: u64) {
        self.offset_us.fetch_sub(signed(by_us), Ordering::Relaxed);
    }

    /// Somebody sets the time of day forward; deadlines do not notice.
    pub fn jump_forward_us(&self, by_us: u64) {
        self.offset_us.fetch_add(signed(by_us), Ordering::Relaxed);
    }

    /// Somebody sets the time of day.
    pub fn set_wall_us(&self, wall_us: u64) {
        let offset = signed(wall_us).saturating_sub(signed(self.monotonic_us()));
        self.offset_us.store(offset, Ordering::Relaxed);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn wall_us(&self) -> u64 {
        let wall =
            signed(self.monotonic_us()).saturating_add(self.offset_us.load(Ordering::Relaxed));
        u64::try_from(wall).unwrap_or(0)
    }

    fn monotonic_us(&self) -> u64 {
        self.monotonic_us.load(Ordering::Relaxed)
    }
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_US: u64 = 365 * 24 * 3600 * 1_000_000;

    #[test]
    fn the_system_clocks_run() {
        let (wall, monotonic) = (SystemClock.wall_us(), SystemClock.monotonic_us());
        assert!(SIMULATED_START_US.cast_unsigned() - YEAR_US < wall);
        assert!(monotonic <= SystemClock.monotonic_us());
    }

    #[test]
    fn a_simulated_clock_stands_still_until_told() {
        let clock = SimClock::new();
        let start = clock.wall_us();
        assert_eq!((clock.wall_us(), clock.monotonic_us()), (start, 0));
        clock.advance_us(7);
        assert_eq!((clock.wall_us(), clock.monotonic_us()), (start + 7, 7));
    }

    #[test]
    fn a_step_of_the_time_of_day_leaves_deadlines_alone() {
        let clock = SimClock::new();
        let start = clock.wall_us();
        clock.step_back_us(YEAR_US);
        assert_eq!(
            (clock.wall_us(), clock.monotonic_us()),
            (start - YEAR_US, 0)
        );
        clock.jump_forward_us(11 * YEAR_US);
        assert_eq!(
            (clock.wall_us(), clock.monotonic_us()),
            (start + 10 * YEAR_US, 0)
        );
        clock.step_back_us(1000 * YEAR_US);
        assert_eq!(clock.wall_us(), 0);
        clock.advance_us(5);
        clock.set_wall_us(100);
        assert_eq!((clock.wall_us(), clock.monotonic_us()), (100, 5));
    }
}
