//! A strict reader of the Prometheus text format: it refuses whatever a scraper could trip over.
//!
//! Every family has one HELP and one TYPE line, in this order, directly before its samples; names
//! and labels follow the grammar; no sample occurs twice; a counter ends in `_total`; the buckets of
//! a histogram ascend, add up, and end with `+Inf`, which equals its count.

#![allow(
    dead_code,
    reason = "each test that includes this file uses a part of it"
)]

use std::collections::BTreeMap;

/// The samples of an exposition, by name with labels as written.
#[derive(Debug, Default)]
pub struct Exposition {
    samples: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads all of it.
    ///
    /// # Panics
    /// When anything is not as the format asks.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut this = Self::default();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let help = line
                .strip_prefix("# HELP ")
                .unwrap_or_else(|| panic!("no HELP: {line:?}"));
            let (family, help) = help.split_once(' ').expect("HELP has a text");
            assert!(is_name(family), "{line:?}");
            assert!(help.ends_with('.'), "a sentence: {line:?}");
            let kind = lines.next().expect("TYPE follows HELP");
            let kind = kind.strip_prefix("# TYPE ").expect("TYPE follows HELP");
            let (name, kind) = kind.split_once(' ').expect("TYPE has a kind");
            assert_eq!(name, family, "TYPE is of the same family");
            assert!(
                ["counter", "gauge", "histogram"].contains(&kind),
                "{kind:?}"
            );
            assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
            let before = this.kinds.insert(family.to_owned(), kind.to_owned());
            assert_eq!(before, None, "{family} stands in one piece");
            let mut count = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                this.sample(family, kind, line);
                count += 1;
            }
            assert!(0 < count, "{family} has samples");
            if kind == "histogram" {
                this.check_histogram(family);
            }
        }
        this
    }

    fn sample(&mut self, family: &str, kind: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let name = series.split('{').next().expect("a name");
        let suffix = name
            .strip_prefix(family)
            .unwrap_or_else(|| panic!("{line:?} in {family}"));
        let allowed: &[&str] = match kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line:?}");
        check_labels(&series[name.len()..]);
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
        assert!(kind == "gauge" || 0.0 <= value, "{line:?}");
        assert!(
            self.samples.insert(series.to_owned(), value).is_none(),
            "twice: {line:?}"
        );
    }

    fn check_histogram(&self, family: &str) {
        let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (name, value) in &self.samples {
            let Some(labels) = name.strip_prefix(&format!("{family}_bucket")) else {
                continue;
            };
            let at = labels.find("le=\"").expect("a bucket has a bound");
            let bound = labels[at + 4..].split('"').next().unwrap();
            let bound = match bound {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().unwrap(),
            };
            let others = labels[..at].trim_end_matches(',').to_owned();
            series.entry(others).or_default().push((bound, *value));
        }
        assert!(!series.is_empty(), "{family} has buckets");
        for (others, mut buckets) in series {
            buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
            assert!(
                buckets.is_sorted_by(|left, right| left.1 <= right.1),
                "{family}{others}"
            );
            let (last, total) = *buckets.last().unwrap();
            assert_eq!(last, f64::INFINITY, "{family}{others}");
            let rest = match others.as_str() {
                "{" => String::new(),
                others => format!("{others}}}"),
            };
            assert_eq!(self.get(&format!("{family}_count{rest}")), total);
            assert!(0.0 <= self.get(&format!("{family}_sum{rest}")));
        }
    }

    /// One sample.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn get(&self, series: &str) -> f64 {
        let value = self.samples.get(series);
        *value.unwrap_or_else(|| panic!("no {series}"))
    }
}

fn is_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

/// Nothing, or `{name="text",..}` with quotes, backslashes and line ends escaped.
fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let inner = labels
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.unwrap_or_else(|| panic!("{labels:?}"));
    let mut names = Vec::new();
    loop {
        let (name, after) = rest
            .split_once("=\"")
            .unwrap_or_else(|| panic!("{labels:?}"));
        assert!(is_name(name) && !name.contains(':'), "{labels:?}");
        assert!(!names.contains(&name), "twice: {labels:?}");
        names.push(name);
        let mut is_escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        rest = &after[end.unwrap_or_else(|| panic!("{labels:?}")) + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    assert_eq!(rest, "", "{labels:?}");
}
