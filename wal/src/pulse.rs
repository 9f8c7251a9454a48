//! Whether the log thread gets on: what a watchdog looks at.
//!
//! Two looks some time apart tell a thread that works, or has nothing to do, from one that is stuck
//! in a write, a sync or its sink, and from one that turns without ever writing what waits.

/// The log at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogPulse {
    /// Steps the log thread has begun.
    pub turn_count: u64,
    /// Records the kernel has been given.
    pub written_count: u64,
    /// Records handed to the log that the kernel has not been given.
    pub unwritten_count: u64,
    /// The log thread sleeps and nothing waits for it, or the log has ended.
    pub is_idle: bool,
}

impl LogPulse {
    /// True when the log thread had work at both looks and got nowhere in between.
    #[must_use]
    pub fn is_stuck_since(&self, earlier: &Self) -> bool {
        if self.is_idle || earlier.is_idle {
            return false;
        }
        let turns = self.turn_count != earlier.turn_count;
        let writes = self.written_count != earlier.written_count
            || self.unwritten_count == 0
            || earlier.unwritten_count == 0;
        !(turns && writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(turn_count: u64, written_count: u64, unwritten_count: u64) -> LogPulse {
        LogPulse {
            turn_count,
            written_count,
            unwritten_count,
            is_idle: false,
        }
    }

    #[test]
    fn a_log_is_stuck_when_it_had_work_at_both_looks_and_got_nowhere() {
        let idle = LogPulse {
            is_idle: true,
            ..pulse(5, 9, 0)
        };
        let rows = [
            // Nothing to do, at either look.
            (idle, idle, false),
            (idle, pulse(5, 9, 1), false),
            (pulse(5, 9, 1), idle, false),
            // Turns and writes.
            (pulse(5, 9, 1), pulse(6, 10, 7), false),
            (pulse(5, 9, 0), pulse(6, 9, 7), false),
            // A sync, a mark: turns without records.
            (pulse(5, 9, 0), pulse(6, 9, 0), false),
            // One step that does not end, with and without records behind it.
            (pulse(5, 9, 1), pulse(5, 9, 1), true),
            (pulse(5, 9, 0), pulse(5, 9, 0), true),
            (pulse(5, 9, 0), pulse(5, 9, 300), true),
            // Turns that never write what waits.
            (pulse(5, 9, 1), pulse(600, 9, 2), true),
        ];
        for (earlier, now, is_stuck) in rows {
            assert_eq!(
                now.is_stuck_since(&earlier),
                is_stuck,
                "{earlier:?} {now:?}"
            );
        }
    }
}
