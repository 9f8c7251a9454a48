//! The metrics at one moment, and what lies between two of them.

use std::collections::BTreeMap;

use crate::cli::exposition::samples;

/// Numbers by name with labels.
#[derive(Debug, Default)]
pub(super) struct Reading {
    numbers: BTreeMap<String, f64>,
}

impl Reading {
    /// Reads what the daemon answered; what is no number is left out.
    pub(super) fn of(text: &str) -> Self {
        let numbers = samples(text)
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse::<f64>().ok()?)));
        Self {
            numbers: numbers.collect(),
        }
    }

    /// One number; 0 if there is none.
    pub(super) fn get(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or(0.0)
    }

    /// The sum of a family over all labels.
    pub(super) fn sum(&self, family: &str) -> f64 {
        self.family(family).map(|(_, number)| number).sum()
    }

    /// The value of the first label of the one sample of a family that is 1.
    pub(super) fn word(&self, family: &str) -> &str {
        let one = self.family(family).find(|(_, number)| *number == 1.0);
        let words = one.map(|(name, _)| name.split('"').nth(1).unwrap_or_default());
        words.unwrap_or("-")
    }

    /// The samples of a family: all whose name goes on with labels, or not at all.
    fn family(&self, family: &str) -> impl Iterator<Item = (&str, f64)> {
        let all = self.numbers.range(family.to_owned()..);
        let own = all.take_while(move |(name, _)| name.starts_with(family));
        own.filter(move |(name, _)| matches!(name.as_bytes().get(family.len()), None | Some(b'{')))
            .map(|(name, number)| (name.as_str(), *number))
    }

    /// The buckets of a histogram: bound and how many values lie at or below it, ascending.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let family = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = self
            .family(&family)
            .filter_map(|(name, count)| {
                let bound = name.split("le=\"").nth(1)?.split('"').next()?;
                let bound = match bound {
                    "+Inf" => f64::INFINITY,
                    number => number.parse().ok()?,
                };
                Some((bound, count))
            })
            .collect();
        buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
        buckets
    }
}

/// A value below which a part of the values lies that came between two readings, of a histogram
/// without labels; none when none came. The upper bound of its bucket.
pub(super) fn quantile(before: &Reading, now: &Reading, name: &str, part: f64) -> Option<f64> {
    let (before, now) = (before.buckets(name), now.buckets(name));
    let count_before = |bound: f64| {
        let found = before.iter().find(|(other, _)| *other == bound);
        found.map_or(0.0, |(_, count)| *count)
    };
    let fresh: Vec<(f64, f64)> = now
        .iter()
        .map(|(bound, count)| (*bound, count - count_before(*bound)))
        .collect();
    let total = fresh.last()?.1;
    if total <= 0.0 {
        return None;
    }
    let wanted = (total * part).max(1.0);
    let found = fresh.iter().find(|(_, count)| wanted <= *count)?;
    Some(found.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "a_total{k=\"x\"} 3\na_total{k=\"y\"} 4\na_total_other 100\n\
        t_bucket{le=\"0.001\"} 10\nt_bucket{le=\"0.01\"} 10\nt_bucket{le=\"+Inf\"} 10\n\
        s{state=\"ok\"} 0\ns{state=\"poisoned\"} 1\n";

    const NOW: &str = "t_bucket{le=\"0.001\"} 10\nt_bucket{le=\"0.01\"} 109\n\
        t_bucket{le=\"+Inf\"} 110\n";

    #[test]
    fn a_family_is_summed_without_those_whose_names_only_begin_like_it() {
        let reading = Reading::of(BEFORE);
        assert_eq!(reading.sum("a_total"), 7.0);
        assert_eq!(reading.get("a_total_other"), 100.0);
        assert_eq!(reading.word("s"), "poisoned");
        assert_eq!(reading.word("none"), "-");
    }

    #[test]
    fn a_quantile_is_of_what_came_between_the_readings() {
        let (before, now) = (Reading::of(BEFORE), Reading::of(NOW));
        assert_eq!(quantile(&before, &now, "t", 0.5), Some(0.01));
        assert_eq!(quantile(&before, &now, "t", 0.999), Some(f64::INFINITY));
        assert_eq!(quantile(&now, &now, "t", 0.5), None);
        assert_eq!(
            quantile(&Reading::default(), &before, "t", 0.5),
            Some(0.001)
        );
    }
}
