//! One line of commands: words in the quoting of a shell, understood by the grammar of the
//! command line.
//!
//! The pipe and the interactive shell read lines through here, so that what one understands the
//! other does too. Options of the line go before those the process was started with.

use clap::{CommandFactory, FromArgMatches};

use crate::cli::arguments::{Cli, Command, Options};
use crate::cli::failure::Failure;

/// The grammar, made once for many lines.
pub(crate) struct Lines {
    grammar: clap::Command,
    defaults: Options,
}

/// Why a line is no command.
pub(crate) enum Misread {
    /// It asks for help, which is this.
    Help(String),
    /// It cannot be understood.
    Failure(Failure),
}

impl From<Failure> for Misread {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Lines {
    /// Lines whose options are these unless they say others.
    pub(crate) fn new(defaults: &Options) -> Self {
        Self {
            grammar: Cli::command(),
            defaults: defaults.clone(),
        }
    }

    /// The options of a line that says none.
    pub(crate) const fn defaults(&self) -> &Options {
        &self.defaults
    }

    /// Lines that follow act in this run unless they name another.
    pub(crate) fn use_run(&mut self, run: Option<String>) {
        self.defaults.run = run;
    }

    /// The words of a line.
    pub(crate) fn words(line: &str) -> Result<Vec<String>, Failure> {
        shlex::split(line).ok_or_else(|| Failure::usage("a quote is not closed"))
    }

    /// What words say.
    pub(crate) fn read(
        &mut self,
        words: impl IntoIterator<Item = String>,
    ) -> Result<(Options, Command), Misread> {
        let words = std::iter::once("inmem".to_owned()).chain(words);
        let matches = self
            .grammar
            .try_get_matches_from_mut(words)
            .map_err(misread)?;
        let cli = Cli::from_arg_matches(&matches).map_err(misread)?;
        let command = cli
            .command
            .ok_or_else(|| Failure::usage("the line names no command"))?;
        let is_said = |option| {
            matches!(
                matches.value_source(option),
                Some(clap::parser::ValueSource::CommandLine)
            )
        };
        if is_said("socket") {
            let message = "--socket is said once, where the pipe or the shell begins";
            return Err(Failure::usage(message).into());
        }
        if cli.no_history {
            let message = "--no-history is said once, where the shell begins";
            return Err(Failure::usage(message).into());
        }
        let defaults = &self.defaults;
        let options = Options {
            socket: defaults.socket.clone(),
            run: cli.options.run.or_else(|| defaults.run.clone()),
            json: cli.options.json || (defaults.json && !cli.options.raw),
            raw: cli.options.raw || (defaults.raw && !cli.options.json),
            with_version: cli.options.with_version || defaults.with_version,
            durability: cli.options.durability.or(defaults.durability),
        };
        Ok((options, command))
    }

    /// The grammar, for those who complete or explain it.
    pub(crate) const fn grammar(&self) -> &clap::Command {
        &self.grammar
    }
}

/// What is wrong with a line, in one line; or the help it asks for.
fn misread(error: clap::Error) -> Misread {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return Misread::Help(text);
    }
    let told: Vec<_> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let told = told.join(" ").trim_start_matches("error: ").to_owned();
    Misread::Failure(Failure::usage(told))
}
