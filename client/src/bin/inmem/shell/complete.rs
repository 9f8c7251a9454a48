//! Completion: what may stand where the cursor is.
//!
//! Commands, options and their values come from the grammar; keys and runs from the daemon, a
//! bounded list of those that begin with the word. They are asked for over a connection of their
//! own, which is given half a second: a daemon that hangs costs no more than that, and the open
//! transaction learns nothing of it (what is completed is not what was read).

use std::cell::RefCell;
use std::time::Duration;

use clap::Arg;
use in_mem_client::RunListOptions;
use in_mem_client::{Client, ClientBuilder, ClientError, ListOptions, ReconnectPolicy};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::words;

/// Keys or runs offered at most.
const CANDIDATE_COUNT_MAX: u32 = 100;

/// Runs looked at for names that begin with a word.
const RUN_COUNT_MAX: u32 = 500;

/// How long the daemon may take, milliseconds. Longer, and whoever pressed the key wonders.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// The helper of the line editor.
pub(super) struct Completion {
    grammar: clap::Command,
    run: Option<String>,
    daemon: RefCell<Daemon>,
}

/// What may stand somewhere.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these words.
    Words(Vec<String>),
    /// A key of this run.
    Key(Option<String>),
    /// A run.
    Run,
    /// Nothing that could be guessed.
    Anything,
}

impl Completion {
    pub(super) fn new(builder: &ClientBuilder, grammar: &clap::Command) -> Self {
        let mut grammar = grammar.clone();
        grammar.build();
        let builder = builder.clone().reconnect(ReconnectPolicy::NONE);
        Self {
            grammar,
            run: None,
            daemon: RefCell::new(Daemon {
                builder: builder.silence_max(Some(SILENCE_MAX)),
                client: None,
            }),
        }
    }

    /// Keys are those of this run from now on, unless a line names another.
    pub(super) fn use_run(&mut self, run: Option<String>) {
        self.run = run;
    }

    /// The words that may stand where `word` stands, behind the words before.
    fn candidates(&self, before: Vec<String>, word: &str) -> Vec<String> {
        let begins = |text: &String| text.starts_with(word);
        match wanted(&self.grammar, words::long_form(before), word) {
            Wanted::Words(words) => words.into_iter().filter(begins).collect(),
            Wanted::Key(run) => {
                let run = run.or_else(|| self.run.clone());
                self.daemon.borrow_mut().keys(run.as_deref(), word)
            }
            Wanted::Run => {
                let names = self.daemon.borrow_mut().run_names();
                names.into_iter().filter(begins).collect()
            }
            Wanted::Anything => Vec::new(),
        }
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (before, start, word) = split(line.get(..pos).unwrap_or_default());
        let mut candidates = self.candidates(before, &word);
        candidates.sort();
        candidates.dedup();
        let is_only = candidates.len() == 1;
        let pairs = candidates.into_iter().filter_map(|candidate| {
            // A word with a NUL byte cannot be quoted.
            let quoted = shlex::try_quote(&candidate).ok()?.into_owned();
            let end = if is_only { " " } else { "" };
            Some(Pair {
                replacement: format!("{quoted}{end}"),
                display: candidate,
            })
        });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

/// The connection of the completion.
struct Daemon {
    builder: ClientBuilder,
    client: Option<Client>,
}

impl Daemon {
    /// Asks; who does not answer in time is not asked over this connection again.
    fn ask<T>(&mut self, ask: impl FnOnce(&Client) -> Result<T, ClientError>) -> Option<T> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.builder.clone().connect().ok()?,
        };
        let answer = ask(&client).ok()?;
        self.client = Some(client);
        Some(answer)
    }

    fn keys(&mut self, run: Option<&str>, prefix: &str) -> Vec<String> {
        let page = self.ask(|client| {
            let run = match run {
                Some(run) => client.run(run)?,
                None => client.default_run(),
            };
            run.kv().list(ListOptions {
                prefix,
                limit: CANDIDATE_COUNT_MAX,
                ..ListOptions::default()
            })
        });
        page.map(|page| page.entries).unwrap_or_default()
    }

    fn run_names(&mut self) -> Vec<String> {
        let page = self.ask(|client| {
            client.runs().list(RunListOptions {
                limit: RUN_COUNT_MAX,
                ..RunListOptions::default()
            })
        });
        let runs = page.map(|page| page.entries).unwrap_or_default();
        runs.into_iter().filter_map(|run| run.name).collect()
    }
}

/// The whole words of a line, where its last word begins, and that word without its quotes.
fn split(line: &str) -> (Vec<String>, usize, String) {
    let (mut words, mut start, mut word) = (Vec::new(), line.len(), String::new());
    let mut quote = None;
    let mut is_in_word = false;
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        if !is_in_word && !character.is_whitespace() {
            (is_in_word, start) = (true, at);
        }
        match (character, quote) {
            ('\\', None | Some('"')) => word.extend(characters.next().map(|(_, it)| it)),
            ('\'' | '"', None) => quote = Some(character),
            (_, Some(open)) if character == open => quote = None,
            (_, None) if character.is_whitespace() => {
                if is_in_word {
                    words.push(std::mem::take(&mut word));
                }
                (is_in_word, start) = (false, line.len());
            }
            _ => word.push(character),
        }
    }
    (words, start, word)
}

/// What may stand behind these words, in place of `word`.
fn wanted(grammar: &clap::Command, before: Vec<String>, word: &str) -> Wanted {
    if before.first().is_some_and(|first| first == "use") {
        return Wanted::Run;
    }
    let skipped = usize::from(before.first().is_some_and(|first| first == "help"));
    let (mut command, mut position) = (grammar, 0);
    let (mut run, mut option): (_, Option<&Arg>) = (None, None);
    for said in before.iter().skip(skipped) {
        if let Some(waiting) = option.take() {
            if waiting.get_id() == "run" {
                run = Some(said.clone());
            }
        } else if let Some(name) = said.strip_prefix("--") {
            option = find_option(command, name);
        } else if let Some(below) = command.find_subcommand(said) {
            (command, position) = (below, 0);
        } else {
            position += 1;
        }
    }
    if let Some(option) = option {
        return of_argument(option, 0, run);
    }
    if word.starts_with('-') {
        let options = command.get_arguments().filter(|it| !it.is_hide_set());
        let names = options.filter_map(|it| it.get_long().map(|name| format!("--{name}")));
        return Wanted::Words(names.collect());
    }
    if command.has_subcommands() {
        let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
        let mut names: Vec<_> = shown
            .flat_map(|it| std::iter::once(it.get_name()).chain(it.get_visible_aliases()))
            .map(str::to_owned)
            .collect();
        if before.is_empty() {
            names.extend(words::names().map(str::to_owned));
        }
        return Wanted::Words(names);
    }
    let positionals: Vec<_> = command.get_positionals().collect();
    match positionals.get(position).or(positionals.last()) {
        Some(argument) => of_argument(argument, position, run),
        None => Wanted::Anything,
    }
}

/// An option that takes a value which has not been said yet.
fn find_option<'a>(command: &'a clap::Command, name: &str) -> Option<&'a Arg> {
    let mut arguments = command.get_arguments();
    let found = arguments.find(|argument| argument.get_long() == Some(name))?;
    found.get_action().takes_values().then_some(found)
}

/// What an argument takes, at this position among its like.
fn of_argument(argument: &Arg, position: usize, run: Option<String>) -> Wanted {
    let values = argument.get_possible_values();
    if !values.is_empty() {
        let names = values.iter().map(|value| value.get_name().to_owned());
        return Wanted::Words(names.collect());
    }
    match argument.get_id().as_str() {
        "key" | "keys" | "prefix" | "prefix_option" | "start" => Wanted::Key(run),
        "pairs" if position.is_multiple_of(2) => Wanted::Key(run),
        "run" | "target" | "parent" => Wanted::Run,
        // The run before the reason.
        "words" if position == 0 => Wanted::Run,
        _ => Wanted::Anything,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::arguments::Cli;

    fn wanted_at(line: &str) -> Wanted {
        let mut grammar = Cli::command();
        grammar.build();
        let (before, _, word) = split(line);
        wanted(&grammar, words::long_form(before), &word)
    }

    fn offers(line: &str, word: &str) -> bool {
        matches!(wanted_at(line), Wanted::Words(words) if words.iter().any(|it| it == word))
    }

    #[test]
    fn a_line_is_split_where_the_shell_would_split_it() {
        let cases = [
            ("", 0, "", vec![]),
            ("kv ge", 3, "ge", vec!["kv"]),
            ("kv get ", 7, "", vec!["kv", "get"]),
            ("get 'a b", 4, "a b", vec!["get"]),
            ("get \"a b\" c", 10, "c", vec!["get", "a b"]),
            ("get a\\ b", 4, "a b", vec!["get"]),
            ("get ''", 4, "", vec!["get"]),
        ];
        for (line, start, word, before) in cases {
            let before: Vec<_> = before.into_iter().map(str::to_owned).collect();
            assert_eq!(split(line), (before, start, word.to_owned()), "{line}");
        }
    }

    #[test]
    fn each_place_of_a_line_offers_what_may_stand_there() {
        assert!(offers("", "kv"));
        assert!(offers("", "use"));
        assert!(!offers("", "demo-worker"));
        assert!(offers("kv p", "put"));
        assert!(offers("kv p", "set"));
        assert!(offers("txn ", "begin"));
        assert!(offers("kv put a 1 --", "--durability"));
        assert!(offers("kv put a 1 --durability ", "strict"));
        assert!(offers("begin --", "--read-only"));
        assert!(offers("help kv ", "put"));
        let key = |run: Option<&str>| Wanted::Key(run.map(str::to_owned));
        assert_eq!(wanted_at("get "), key(None));
        assert_eq!(wanted_at("--run r kv get "), key(Some("r")));
        assert_eq!(wanted_at("kv del a b c"), key(None));
        assert_eq!(wanted_at("mset a 1 b"), key(None));
        assert_eq!(wanted_at("mset a 1 b 2"), Wanted::Anything);
        assert_eq!(wanted_at("kv scan --start "), key(None));
        assert_eq!(wanted_at("kv put a "), Wanted::Anything);
        assert_eq!(wanted_at("use "), Wanted::Run);
        assert_eq!(wanted_at("run show "), Wanted::Run);
        assert_eq!(wanted_at("ping --run "), Wanted::Run);
        assert_eq!(wanted_at("run begin "), Wanted::Anything);
    }
}
