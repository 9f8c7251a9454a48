//! When to give a sign of life: the decision alone.
//!
//! The reactor looks from its own turn, so a reactor that is stuck is silent by itself. What it
//! looks at is whether the log thread gets on; a log with nothing to do is healthy.

use std::time::Duration;

use in_mem_wal::LogPulse;

/// Looks in the time after which the manager gives up.
const LOOK_COUNT: u64 = 3;

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is not time yet.
    Early,
    /// Everything gets on.
    Alive,
    /// The log thread had work and got nowhere for this long.
    Stuck {
        /// How long at least, microseconds.
        for_us: u64,
    },
}

/// The looks of one reactor.
#[derive(Debug)]
pub(crate) struct Watchdog {
    interval_us: u64,
    next_us: u64,
    earlier: Option<(LogPulse, u64)>,
}

impl Watchdog {
    /// Looks often enough for a manager that gives up after `patience`. The first look is due.
    pub(crate) fn new(patience: Duration) -> Self {
        let patience_us = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        Self {
            interval_us: (patience_us / LOOK_COUNT).max(1),
            next_us: 0,
            earlier: None,
        }
    }

    /// As the manager asks for it in the environment, if it does.
    pub(crate) fn from_environment() -> Option<Self> {
        sd_notify::watchdog_enabled().map(Self::new)
    }

    /// When the next look is due.
    pub(crate) fn next_us(&self) -> u64 {
        self.next_us
    }

    /// Looks, if it is time. `pulse` is asked for only then.
    pub(crate) fn look(&mut self, now_us: u64, pulse: impl FnOnce() -> Option<LogPulse>) -> Look {
        if now_us < self.next_us {
            return Look::Early;
        }
        self.next_us = now_us.saturating_add(self.interval_us);
        let Some(pulse) = pulse() else {
            return Look::Alive;
        };
        if let Some((earlier, since_us)) = &self.earlier
            && pulse.is_stuck_since(earlier)
        {
            // What it is compared with stays: turns that lead nowhere stay stuck.
            let for_us = now_us.saturating_sub(*since_us);
            return Look::Stuck { for_us };
        }
        self.earlier = Some((pulse, now_us));
        Look::Alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working(turn_count: u64) -> Option<LogPulse> {
        Some(LogPulse {
            turn_count,
            written_count: turn_count,
            unwritten_count: 1,
            is_idle: false,
        })
    }

    #[test]
    fn a_log_that_gets_on_is_alive_at_every_look_and_one_that_does_not_is_stuck_until_it_does() {
        let mut watchdog = Watchdog::new(Duration::from_micros(300));
        assert_eq!(watchdog.look(1_000, || working(1)), Look::Alive);
        assert_eq!(watchdog.next_us(), 1_100);
        assert_eq!(watchdog.look(1_099, || working(1)), Look::Early);
        assert_eq!(watchdog.look(1_100, || working(2)), Look::Alive);
        assert_eq!(
            watchdog.look(1_200, || working(2)),
            Look::Stuck { for_us: 100 }
        );
        assert_eq!(
            watchdog.look(1_350, || working(2)),
            Look::Stuck { for_us: 250 }
        );
        assert_eq!(watchdog.look(1_450, || working(3)), Look::Alive);
    }

    #[test]
    fn a_database_without_a_log_is_alive() {
        let mut watchdog = Watchdog::new(Duration::from_micros(300));
        assert_eq!(watchdog.look(1, || None), Look::Alive);
        assert_eq!(watchdog.look(101, || None), Look::Alive);
    }
}
