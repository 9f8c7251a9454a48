//! The one door to time.
//!
//! Everything that needs a time of day or a deadline takes a [`Clock`], so that a simulation can
//! hold it still, step it back or let it jump.

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

impl Clock for SystemClock {
    fn wall_us(&self) -> u64 {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock set before 1970 reads as the epoch: timestamps never decrease within a run.
        elapsed.map_or(0, |elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    fn monotonic_us(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1_000)
    }
}
