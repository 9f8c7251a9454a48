//! The pipe: one command a line in, one JSON object a line out.
//!
//! Each answer is written and flushed before the next line is read. Blank lines and lines that
//! begin with `#` say nothing and get no answer; every other line gets exactly one. A line that
//! cannot be understood, a refusal and a lost connection are answers like any other. A request
//! whose connection was lost is never sent again from here, not even a read: who records what it
//! sees has to know. The command after it waits for the server to come back.

use std::io::{self, BufRead, Write};

use clap::{CommandFactory, FromArgMatches};

use crate::cli::arguments::{Cli, Options};
use crate::cli::commands::{Source, execute};
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

/// Longest line, bytes: a value of the largest size, escaped, and its command.
const LINE_LEN_BYTES_MAX: usize = 256 << 20;

/// Answers lines until there are no more.
pub(crate) fn run(
    session: &mut Session,
    defaults: &Options,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let mut grammar = Cli::command();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read_len = read_line(input, &mut line).map_err(input_failed)?;
        if read_len == 0 {
            return Ok(());
        }
        // Lines may end as they do on other systems.
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let answer = match std::str::from_utf8(line) {
            Ok(text) if text.trim_start().is_empty() || text.trim_start().starts_with('#') => {
                continue;
            }
            Ok(_) if LINE_LEN_BYTES_MAX < read_len => Err(Failure::usage(format!(
                "the line exceeds {LINE_LEN_BYTES_MAX} bytes"
            ))),
            Ok(text) => answer(session, defaults, &mut grammar, text),
            Err(_) => Err(Failure::usage("the line is not UTF-8")),
        };
        session.drop_lost_transaction();
        let written = match answer {
            Ok(outcome) => writeln!(output, "{}", outcome.to_json()),
            Err(failure) => writeln!(output, "{}", failure.to_json()),
        };
        // Who asked is gone, and with it the reason to go on.
        let written = written.and_then(|()| output.flush());
        written.map_err(|source| Failure::Unsaid { source })?;
    }
}

/// Answers one line.
fn answer(
    session: &mut Session,
    defaults: &Options,
    grammar: &mut clap::Command,
    line: &str,
) -> Result<Outcome, Failure> {
    let words = shlex::split(line).ok_or_else(|| Failure::usage("a quote is not closed"))?;
    let words = std::iter::once("inmem".to_owned()).chain(words);
    let matches = grammar
        .try_get_matches_from_mut(words)
        .map_err(misunderstood)?;
    let cli = Cli::from_arg_matches(&matches).map_err(misunderstood)?;
    let command = cli
        .command
        .ok_or_else(|| Failure::usage("the line names no command"))?;
    if matches!(
        matches.value_source("socket"),
        Some(clap::parser::ValueSource::CommandLine)
    ) {
        return Err(Failure::usage(
            "--socket is said once, where the pipe begins",
        ));
    }
    let options = Options {
        run: cli.options.run.or_else(|| defaults.run.clone()),
        durability: cli.options.durability.or(defaults.durability),
        ..cli.options
    };
    execute(session, &options, command, Source::Pipe)
}

/// Reads one line, of which no more is kept than a line may hold; how long it was.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let mut read_len = 0;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = available
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|at| at + 1);
        let part = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        let part_len = part.len();
        if line.len() + part_len <= LINE_LEN_BYTES_MAX {
            line.extend_from_slice(part);
        }
        input.consume(part_len);
        read_len += part_len;
        if end.is_some() || part_len == 0 {
            return Ok(read_len);
        }
    }
}

/// What is wrong with a line, in one line.
fn misunderstood(error: clap::Error) -> Failure {
    let text = error.render().to_string();
    let told: Vec<_> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    Failure::usage(told.join(" ").trim_start_matches("error: ").to_owned())
}

fn input_failed(error: io::Error) -> Failure {
    Failure::file("standard input", error)
}
