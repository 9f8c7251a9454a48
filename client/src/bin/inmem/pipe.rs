//! The pipe: one command a line in, one JSON object a line out.
//!
//! Each answer is written and flushed before the next line is read. Blank lines and lines that
//! begin with `#` say nothing and get no answer; every other line gets exactly one. A line that
//! cannot be understood, a refusal and a lost connection are answers like any other. A request
//! whose connection was lost is never sent again from here, not even a read: who records what it
//! sees has to know. The command after it waits for the server to come back. An interrupt gives up
//! the request under way: its answer says whether a write may have happened, and is the last one.

use std::io::{self, BufRead, Write};

use crate::cli::arguments::Options;
use crate::cli::commands::{Source, execute};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupts;
use crate::cli::line::{Lines, Misread};
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

/// Longest line, bytes: a value of the largest size, escaped, and its command.
const LINE_LEN_BYTES_MAX: usize = 256 << 20;

/// How the pipe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// There were no more lines.
    EndOfInput,
    /// An interrupt gave up a request; its answer said so.
    Interrupted,
}

/// Answers lines until there are no more, or one was interrupted.
pub(crate) fn run(
    session: &mut Session,
    defaults: &Options,
    interrupts: &Interrupts,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<Ending, Failure> {
    let mut lines = Lines::new(defaults);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read_len = read_line(input, &mut line).map_err(input_failed)?;
        if read_len == 0 {
            return Ok(Ending::EndOfInput);
        }
        interrupts.begin();
        // Lines may end as they do on other systems.
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let answer = match std::str::from_utf8(line) {
            Ok(text) if text.trim_start().is_empty() || text.trim_start().starts_with('#') => {
                if interrupts.end() {
                    return Ok(Ending::Interrupted);
                }
                continue;
            }
            Ok(_) if LINE_LEN_BYTES_MAX < read_len => Err(Failure::usage(format!(
                "the line exceeds {LINE_LEN_BYTES_MAX} bytes"
            ))),
            Ok(text) => answer(session, &mut lines, text),
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
        if interrupts.end() {
            return Ok(Ending::Interrupted);
        }
    }
}

/// Answers one line.
fn answer(session: &mut Session, lines: &mut Lines, line: &str) -> Result<Outcome, Failure> {
    match lines.read(Lines::words(line)?) {
        Ok((options, command)) => execute(session, &options, command, Source::Pipe),
        Err(Misread::Help(_)) => Err(Failure::usage(
            "help is for a terminal: ask the command line, or the interactive shell",
        )),
        Err(Misread::Failure(failure)) => Err(failure),
    }
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

fn input_failed(error: io::Error) -> Failure {
    Failure::file("standard input", error)
}
