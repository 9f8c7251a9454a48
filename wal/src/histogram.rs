//! Counts of values in fixed buckets: what a latency looks like, recorded without a lock.
//!
//! Recording is two relaxed additions and never allocates. A reader may see a value counted that is
//! not in the sum yet; what it sees never goes down.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets of a time, microseconds: from 1 us to 10 s, five to a decade.
pub const TIME_BOUNDS_US: &[u64] = &[
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 300, 500, 700, 1_000, 2_000, 3_000, 5_000, 7_000,
    10_000, 20_000, 30_000, 50_000, 70_000, 100_000, 200_000, 300_000, 500_000, 700_000, 1_000_000,
    2_000_000, 3_000_000, 5_000_000, 7_000_000, 10_000_000,
];

/// Upper bounds of the buckets of a number of things: the powers of two up to 4,096.
pub const COUNT_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

/// A histogram. Written by any thread, read by any other; all orderings are relaxed, because each
/// number is looked at alone.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what lies above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramReading {
    /// Upper bounds of the buckets, inclusive, ascending.
    pub bounds: &'static [u64],
    /// Values in each bucket alone, and last those above every bound.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// An empty histogram with these bounds, which ascend.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.is_sorted(), "bounds ascend");
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub fn record(&self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// A copy at this moment.
    #[must_use]
    pub fn read(&self) -> HistogramReading {
        let counts = self.counts.iter();
        HistogramReading {
            bounds: self.bounds,
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl HistogramReading {
    /// Values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, u64::from(u32::MAX)] {
            histogram.record(value);
        }
        let reading = histogram.read();
        assert_eq!(reading.counts, [2, 2, 2, 2]);
        assert_eq!(reading.count(), 8);
        assert_eq!(reading.sum, 225 + u64::from(u32::MAX));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let histogram = Histogram::new(COUNT_BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|value| histogram.record(value)));
            }
        });
        assert_eq!(histogram.read().count(), 4_000);
        assert_eq!(histogram.read().sum, 4 * 499_500);
    }
}
