//! What a load came to, and how processes tell each other.
//!
//! A tally is one line of text, so that it can go through a pipe: `tally OPS ERRORS` and then
//! every latency met with how often, `NANOSECONDS:COUNT`. The histograms of all processes have
//! the same steps, so adding them up loses nothing: the sum is what one process would have
//! recorded.

use std::io;

use hdrhistogram::Histogram;

/// Longest latency told apart, nanoseconds: an hour. Longer ones count as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Digits of a latency that are kept.
const LATENCY_DIGIT_COUNT: u8 = 3;

/// What begins the line.
const WORD: &str = "tally";

/// What a load came to.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Answers inside the time measured.
    pub(crate) op_count: u64,
    /// Requests that failed or got no answer, at any time.
    pub(crate) error_count: u64,
    /// What the first of them said.
    pub(crate) error_first: Option<String>,
    /// How long answers took, nanoseconds.
    latencies: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> io::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGIT_COUNT)
            .map_err(io::Error::other)?;
        Ok(Self {
            op_count: 0,
            error_count: 0,
            error_first: None,
            latencies,
        })
    }

    /// Counts a latency, nanoseconds, this often.
    pub(crate) fn record(&mut self, latency_ns: u64, count: u64) {
        let latency_ns = latency_ns.clamp(1, LATENCY_NS_MAX);
        // Within the bounds, so it cannot fail.
        let _ = self.latencies.record_n(latency_ns, count);
    }

    /// Counts errors.
    pub(crate) fn fail(&mut self, count: u64, message: impl FnOnce() -> String) {
        if 0 < count {
            self.error_count += count;
            self.error_first.get_or_insert_with(message);
        }
    }

    /// The latency that this part of all answers kept to, nanoseconds; 1 is the longest.
    pub(crate) fn quantile_ns(&self, quantile: f64) -> u64 {
        match quantile < 1.0 {
            true => self.latencies.value_at_quantile(quantile),
            false => self.latencies.max(),
        }
    }

    /// Adds what another process counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.op_count += other.op_count;
        self.error_count += other.error_count;
        self.error_first = self.error_first.take().or(other.error_first);
        // The same bounds, so it cannot fail.
        let _ = self.latencies.add(&other.latencies);
    }

    /// The line, without what the first error said.
    pub(crate) fn to_line(&self) -> String {
        use std::fmt::Write as _;
        let mut line = format!("{WORD} {} {}", self.op_count, self.error_count);
        for step in self.latencies.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), step.count_at_value());
            // Writing to a string does not fail.
            let _ = write!(line, " {value}:{count}");
        }
        line
    }

    /// Reads a line.
    pub(crate) fn from_line(line: &str) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "no tally");
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
        let mut words = line.split_whitespace();
        let (word, ops, errors) = (words.next(), words.next(), words.next());
        if word != Some(WORD) {
            return Err(bad());
        }
        let mut tally = Self::new()?;
        tally.op_count = number(ops.ok_or_else(bad)?)?;
        tally.error_count = number(errors.ok_or_else(bad)?)?;
        for step in words {
            let (value, count) = step.split_once(':').ok_or_else(bad)?;
            tally.record(number(value)?, number(count)?);
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_of_processes_add_up_to_what_one_process_would_have_counted() {
        let (mut whole, mut sum) = (Tally::new().unwrap(), Tally::new().unwrap());
        let mut latency_ns = 1;
        for part in 1..=7 {
            let mut tally = Tally::new().unwrap();
            for number in 0..500 {
                latency_ns = (latency_ns * 48_271 + number) % (part * 10_000_000_019);
                tally.record(latency_ns, 1);
                whole.record(latency_ns, 1);
            }
            tally.op_count = part;
            tally.fail(part, || format!("error {part}"));
            sum.add(Tally::from_line(&tally.to_line()).unwrap());
        }
        assert_eq!((sum.op_count, sum.error_count), (28, 28));
        assert_eq!(
            sum.to_line()
                .split_once(' ')
                .unwrap()
                .1
                .split_once("28 28")
                .unwrap()
                .1,
            whole.to_line().split_once("0 0").unwrap().1
        );
        for quantile in [0.5, 0.99, 0.999, 1.0] {
            assert_eq!(sum.quantile_ns(quantile), whole.quantile_ns(quantile));
        }
    }

    #[test]
    fn a_line_that_is_no_tally_is_refused() {
        for line in [
            "",
            "tally",
            "tally 1",
            "tally 1 x",
            "tally 1 0 5",
            "tally 1 0 5:x",
            "ready",
        ] {
            assert!(Tally::from_line(line).is_err(), "{line:?}");
        }
    }
}
