//! Words that only the interactive shell knows.

/// The words of its own, with what they take and do.
const OWN_WORDS: [(&str, &str, &str); 7] = [
    ("begin", "[OPTIONS]", "The same as `txn begin`"),
    ("commit", "", "The same as `txn commit`"),
    ("rollback", "", "The same as `txn rollback`"),
    (
        "use",
        "[NAME|ID]",
        "Act in this run; in the default run without one",
    ),
    ("help", "[COMMAND]", "This, or the help of a command"),
    ("exit", "", "Leave; an open transaction is rolled back"),
    ("quit", "", "The same as `exit`"),
];

/// The words of its own, for completion.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    OWN_WORDS.iter().map(|(name, _, _)| *name)
}

/// The words of a line as the command line understands them: examples may begin with the name of
/// the program, and the words of transactions may stand alone.
pub(super) fn long_form(mut words: Vec<String>) -> Vec<String> {
    if 1 < words.len() && words.first().is_some_and(|word| word == "inmem") {
        words.remove(0);
    }
    let is_short = |word: &String| matches!(word.as_str(), "begin" | "commit" | "rollback");
    if words.first().is_some_and(is_short) {
        words.insert(0, "txn".to_owned());
    }
    words
}

/// What can be said.
pub(super) fn help(grammar: &clap::Command) -> String {
    let mut text = String::from("Here only:\n");
    for (name, takes, does) in OWN_WORDS {
        text.push_str(&format!("  {name:<8} {takes:<9}  {does}\n"));
    }
    text.push_str(
        "The tabulator completes; Ctrl-C gives up a request or clears the line; Ctrl-D leaves.\n\n",
    );
    text.push_str(&grammar.clone().render_help().to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::long_form;

    #[test]
    fn short_words_are_the_commands_they_stand_for() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (said, meant) in [
            ("begin --read-only", "txn begin --read-only"),
            ("commit", "txn commit"),
            ("inmem kv get a", "kv get a"),
            ("inmem rollback", "txn rollback"),
            ("inmem", "inmem"),
            ("kv get begin", "kv get begin"),
        ] {
            assert_eq!(long_form(words(said)), words(meant), "{said}");
        }
    }
}
