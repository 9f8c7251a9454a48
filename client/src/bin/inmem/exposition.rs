//! Reading what `system.metrics` answers: our own writer's text, which has one sample a line.

/// Name with labels, and value, of each sample.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    // A label may hold spaces; a value never does.
    lines.filter_map(|line| line.rsplit_once(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_name_with_its_labels_and_a_value() {
        let text = "# HELP a A b.\n# TYPE a gauge\na 1\nb{c=\"d e\"} 2.5\n";
        let found: Vec<_> = samples(text).collect();
        assert_eq!(found, [("a", "1"), ("b{c=\"d e\"}", "2.5")]);
    }
}
