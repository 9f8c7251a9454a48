//! Rounds, medians and distributions.
//!
//! A figure is the median over rounds; a latency is a distribution over all rounds. One figure
//! alone says nothing on a shared machine.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Longest latency told apart, nanoseconds: one minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Latencies of one operation.
pub(crate) struct Distribution(Histogram<u64>);

impl Distribution {
    /// Without a value yet.
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("the bounds are valid"))
    }

    /// Adds one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(ns.max(1));
    }

    /// Forgets everything, keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds all values of another one.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// Number of values.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds at a quantile between 0 and 1.
    pub(crate) fn us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Mean, microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        self.0.mean() / 1e3
    }

    /// Largest value, microseconds.
    pub(crate) fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// The four figures every latency is reported with.
    pub(crate) fn summary(&self) -> String {
        format!(
            "p50 {:>8.2}  p99 {:>8.2}  p99.9 {:>9.2}  max {:>9.1} us",
            self.us(0.5),
            self.us(0.99),
            self.us(0.999),
            self.max_us()
        )
    }
}

/// The median of some figures; of an even number the lower of the middle two.
///
/// # Panics
/// Without a figure.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    *sorted
        .get((sorted.len() - 1) / 2)
        .expect("a median needs a figure")
}

/// How far the figures of the rounds lie apart: (largest - smallest) / median.
pub(crate) fn spread(figures: &[f64]) -> f64 {
    let largest = figures.iter().copied().fold(f64::MIN, f64::max);
    let smallest = figures.iter().copied().fold(f64::MAX, f64::min);
    (largest - smallest) / median(figures)
}

/// CPU time the calling thread has used, nanoseconds: what a stretch costs whoever else wants the
/// CPU. Equal to the time on the wall where nobody does.
pub(crate) fn thread_cpu_ns() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Nanoseconds per call of `operation`, called `count` times in one timed stretch.
pub(crate) fn ns_per_call(count: u32, mut operation: impl FnMut(u32)) -> f64 {
    let started = Instant::now();
    for call in 0..count {
        operation(call);
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

/// What one reading of the clock adds to a latency, nanoseconds.
pub(crate) fn clock_ns() -> f64 {
    let figures: Vec<f64> = (0..5)
        .map(|_| {
            ns_per_call(100_000, |_| {
                std::hint::black_box(Instant::now());
            })
        })
        .collect();
    median(&figures)
}
