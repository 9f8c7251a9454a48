//! How often, and how fast, something is tried again.
//!
//! Two bounds, one for each use: a transaction that met a conflict counts its retries; a lost
//! connection adds up the time it has waited. Delays double up to a limit and are drawn from the
//! upper half of each, so that clients that failed together do not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How a transaction that met a conflict is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most retries after the first attempt; 0 for one attempt only.
    pub retry_count_max: u32,
    /// Longest delay before the first retry. It doubles with each one.
    pub delay_base: Duration,
    /// Longest delay before any retry.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    /// 10 retries, from 1 ms up to 100 ms: half a second at most, long enough for eight clients
    /// that change the same keys.
    fn default() -> Self {
        Self {
            retry_count_max: 10,
            delay_base: Duration::from_millis(1),
            delay_max: Duration::from_millis(100),
        }
    }
}

impl RetryPolicy {
    /// One attempt, no retry.
    pub const NONE: Self = Self {
        retry_count_max: 0,
        delay_base: Duration::ZERO,
        delay_max: Duration::ZERO,
    };

    /// The delay before a retry; the first is 0.
    pub(crate) fn delay(&self, retry: u32) -> Duration {
        backoff(self.delay_base, self.delay_max, retry)
    }
}

/// How a lost connection is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconnectPolicy {
    /// Longest delay between the first attempts. It doubles with each one.
    pub delay_base: Duration,
    /// Longest delay between two attempts.
    pub delay_max: Duration,
    /// Longest time waited between attempts, all together; zero for one attempt only.
    pub delay_total_max: Duration,
    /// Whether a request is sent again over the new connection where that repeats nothing: a read
    /// whose answer was lost, or anything the server certainly did not get. Otherwise every
    /// request that meets a lost connection fails, for callers that record what they sent.
    pub resends: bool,
}

impl Default for ReconnectPolicy {
    /// From 5 ms up to 200 ms, 5 s all together: a restarted daemon listens well within.
    fn default() -> Self {
        Self {
            delay_base: Duration::from_millis(5),
            delay_max: Duration::from_millis(200),
            delay_total_max: Duration::from_secs(5),
            resends: true,
        }
    }
}

impl ReconnectPolicy {
    /// One attempt; nothing is sent again.
    pub const NONE: Self = Self {
        delay_base: Duration::ZERO,
        delay_max: Duration::ZERO,
        delay_total_max: Duration::ZERO,
        resends: false,
    };

    /// The delay after a failed attempt, the first being 0; `None` when the time is used up.
    pub(crate) fn delay(&self, attempt: u32, waited: Duration) -> Option<Duration> {
        let left = self.delay_total_max.checked_sub(waited)?;
        if left.is_zero() {
            return None;
        }
        let delay = backoff(self.delay_base, self.delay_max, attempt);
        Some(delay.max(Duration::from_millis(1)).min(left))
    }
}

/// A delay from the upper half of `base * 2^step`, at most `max`.
fn backoff(base: Duration, max: Duration, step: u32) -> Duration {
    let whole = base
        .saturating_mul(1_u32.checked_shl(step).unwrap_or(u32::MAX))
        .min(max);
    let half_us = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX);
    // A fresh `RandomState` differs for each call: its keys are drawn once per thread and counted.
    let drawn_us = RandomState::new().hash_one(step) % (half_us + 1).max(1);
    whole - Duration::from_micros(drawn_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_doubles_up_to_its_limit_and_stays_in_the_upper_half() {
        let (base, max) = (Duration::from_millis(2), Duration::from_millis(50));
        for (step, whole_ms) in [(0, 2), (1, 4), (3, 16), (5, 50), (31, 50), (40, 50)] {
            let delay = backoff(base, max, step);
            let whole = Duration::from_millis(whole_ms);
            assert!(whole / 2 <= delay, "step {step}: {delay:?}");
            assert!(delay <= whole, "step {step}: {delay:?}");
        }
    }

    #[test]
    fn reconnecting_waits_no_longer_than_its_total_and_ends() {
        let policy = ReconnectPolicy::default();
        let mut waited = Duration::ZERO;
        let mut attempt = 0;
        while let Some(delay) = policy.delay(attempt, waited) {
            waited += delay;
            attempt += 1;
            assert!(attempt < 10_000, "the delays end");
        }
        assert_eq!(waited, policy.delay_total_max);
        assert_eq!(ReconnectPolicy::NONE.delay(0, Duration::ZERO), None);
    }
}
