//! Writing the Prometheus text format, version 0.0.4.
//!
//! Each family has one HELP and one TYPE line before its samples and stands in one piece. Times are
//! seconds and sizes bytes, as the format asks; a counter ends in `_total`.

use std::fmt::{Display, Write};

use in_mem_wal::histogram::HistogramReading;

/// The text, as it grows.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// What the sum and the bounds of a histogram are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Microseconds, shown as seconds.
    Time,
    /// A number of things.
    Count,
}

/// Name and value of each label.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample of the family that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The samples of one histogram of the family that was begun last.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: Labels<'_>,
        unit: Unit,
        reading: &HistogramReading,
    ) {
        let shown = |value: u64| match unit {
            Unit::Time => seconds(value).to_string(),
            Unit::Count => value.to_string(),
        };
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        let bounds = reading.bounds.iter().map(|bound| shown(*bound));
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        for (bound, count) in bounds.zip(&reading.counts) {
            below += count;
            let mut all = labels.to_vec();
            all.push(("le", &bound));
            self.sample(&bucket, &all, below);
        }
        self.sample(&format!("{name}_sum"), labels, shown(reading.sum));
        self.sample(&format!("{name}_count"), labels, below);
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Microseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53 us, which is 285 years"
)]
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use in_mem_wal::histogram::Histogram;

    use super::*;

    #[test]
    fn families_labels_and_buckets_are_written_as_the_format_says() {
        let mut text = Exposition::default();
        text.family("x_total", Kind::Counter, "Back\\slash.");
        text.sample("x_total", &[("a", "q\"\\\n"), ("b", "")], 7);
        let histogram = Histogram::new(&[1, 1_000]);
        for value in [1, 2, 2_000_000] {
            histogram.record(value);
        }
        text.family("t_seconds", Kind::Histogram, "Times.");
        let labels = [("l", "v")];
        text.histogram("t_seconds", &labels, Unit::Time, &histogram.read());
        let expected = "\
# HELP x_total Back\\\\slash.
# TYPE x_total counter
x_total{a=\"q\\\"\\\\\\n\",b=\"\"} 7
# HELP t_seconds Times.
# TYPE t_seconds histogram
t_seconds_bucket{l=\"v\",le=\"0.000001\"} 1
t_seconds_bucket{l=\"v\",le=\"0.001\"} 2
t_seconds_bucket{l=\"v\",le=\"+Inf\"} 3
t_seconds_sum{l=\"v\"} 2.000003
t_seconds_count{l=\"v\"} 3
";
        assert_eq!(text.finish(), expected);
    }
}
