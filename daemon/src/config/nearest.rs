//! "Did you mean": the known name that is fewest edits away.

/// The candidate with the smallest edit distance to `name`, the first of equals.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> &'a str {
    candidates
        .min_by_key(|candidate| distance_to(name, candidate))
        .unwrap_or("")
}

/// Names are compared whole, and by their last part alone: `max_pending_writes` at the top level
/// means the setting of a section. A section alone is compared with the section of the candidate.
fn distance_to(name: &str, candidate: &str) -> usize {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let section = candidate.split('.').next().unwrap_or_default();
    distance(name, candidate)
        .min(1 + distance(&last(name), &last(candidate)))
        .min(1 + distance(name, section))
}

/// Levenshtein distance in bytes, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left_byte) in left.bytes().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        for (cell, right_byte) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(left_byte != right_byte);
            diagonal = *cell;
            before = replaced.min(before + 1).min(diagonal + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (left, right, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("a", "b", 1),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn a_name_without_its_section_finds_the_setting() {
        let known = [
            "socket",
            "limits.frame_timeout_ms",
            "buffered.max_pending_writes",
        ];
        assert_eq!(nearest("max_pending_write", known.into_iter()), known[2]);
        assert_eq!(nearest("sokcet", known.into_iter()), "socket");
    }
}
