//! The interactive shell: a prompt, commands, and what they came to.
//!
//! Lines are read by the grammar of the command line and carried out as everywhere else; added
//! are a few words of its own. One session lasts as long as the shell, so a transaction stays
//! open from line to line; the prompt says so, and names the run. An interrupt gives up the
//! request under way and nothing else. Leaving with a transaction open rolls it back, and says so.

mod complete;
mod history;
mod words;

use std::io::{self, Write};

use in_mem_client::{ClientBuilder, ReconnectPolicy};
use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use crate::cli::arguments::{Command, Options};
use crate::cli::commands::{Source, execute};
use crate::cli::failure::Failure;
use crate::cli::import;
use crate::cli::interrupt::Interrupts;
use crate::cli::line::{Lines, Misread};
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

use complete::Completion;
use history::HistoryFile;

type Editor = rustyline::Editor<Completion, FileHistory>;

/// The run of those who name none.
const DEFAULT_RUN: &str = "default";

/// Whether the shell goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Ask,
    Leave,
}

/// What one line came to.
enum Said {
    Nothing,
    Text(String),
    Outcome(Box<(Options, Outcome)>),
    Leave,
}

/// Asks and answers until its user leaves.
pub(crate) fn run(
    builder: &ClientBuilder,
    defaults: &Options,
    interrupts: &Interrupts,
    keeps_history: bool,
) -> Result<(), Failure> {
    let lines = Lines::new(defaults);
    let completion = Completion::new(builder, lines.grammar());
    let mut editor = editor(completion).map_err(terminal_failed)?;
    let history = keeps_history
        .then(|| HistoryFile::open(&mut editor))
        .flatten();
    let builder = builder.clone().reconnect(ReconnectPolicy::default());
    let mut shell = Shell {
        session: Session::new(builder.canceller(interrupts.canceller())),
        lines,
        interrupts,
        transaction_run: None,
    };
    say(&format!(
        "inmem {}: `help` tells what can be said, Ctrl-D leaves",
        env!("CARGO_PKG_VERSION")
    ))?;
    loop {
        if let Some(completion) = editor.helper_mut() {
            completion.use_run(shell.lines.defaults().run.clone());
        }
        match editor.readline(&shell.prompt()) {
            Ok(line) => {
                if let Some(history) = &history {
                    history.keep(&mut editor, &line);
                }
                if shell.answer(&line)? == Next::Leave {
                    break;
                }
            }
            // The line is cleared.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(terminal_failed(error)),
        }
    }
    shell.leave()
}

fn editor(completion: Completion) -> rustyline::Result<Editor> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .history_ignore_space(true)
        .max_history_size(history::LINE_COUNT_MAX)?
        .build();
    let history = FileHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history)?;
    editor.set_helper(Some(completion));
    Ok(editor)
}

struct Shell<'i> {
    session: Session,
    lines: Lines,
    interrupts: &'i Interrupts,
    /// The run of the open transaction, as it was named.
    transaction_run: Option<String>,
}

impl Shell<'_> {
    /// The run, and whether a transaction is open.
    fn prompt(&self) -> String {
        let run = self.lines.defaults().run.as_deref().unwrap_or(DEFAULT_RUN);
        if self.session.has_transaction() {
            let run = self.transaction_run.as_deref().unwrap_or(run);
            return format!("{run} (transaction)> ");
        }
        format!("{run}> ")
    }

    /// Carries out one line and says what it came to.
    fn answer(&mut self, line: &str) -> Result<Next, Failure> {
        self.interrupts.begin();
        let said = self.carry_out(line);
        let is_transaction_lost = self.session.drop_lost_transaction();
        let next = match &said {
            Ok(Said::Leave) => Next::Leave,
            _ => Next::Ask,
        };
        match said {
            Ok(Said::Nothing | Said::Leave) => {}
            Ok(Said::Text(text)) => say(text.trim_end())?,
            Ok(Said::Outcome(outcome)) => show(&outcome.0, &outcome.1)?,
            Err(failure) if self.lines.defaults().json => say(&failure.to_json())?,
            Err(failure) => say(&failure.to_text())?,
        }
        if is_transaction_lost {
            say("the transaction ended with its connection: it was rolled back")?;
        }
        self.interrupts.end();
        Ok(next)
    }

    fn carry_out(&mut self, line: &str) -> Result<Said, Failure> {
        let words = words::long_form(Lines::words(line)?);
        match words.first().map(String::as_str) {
            None => return Ok(Said::Nothing),
            Some(word) if word.starts_with('#') => return Ok(Said::Nothing),
            Some("exit" | "quit") if words.len() == 1 => return Ok(Said::Leave),
            Some("help") if words.len() == 1 => {
                return Ok(Said::Text(words::help(self.lines.grammar())));
            }
            Some("use") => return self.use_run(words.get(1..).unwrap_or_default()),
            Some(_) => {}
        }
        let (options, command) = match self.lines.read(words) {
            Ok(read) => read,
            Err(Misread::Help(text)) => return Ok(Said::Text(text)),
            Err(Misread::Failure(failure)) => return Err(failure),
        };
        let outcome = match command {
            Command::Import(args) => {
                self.session.refuse_in_transaction("import")?;
                import::run(&mut self.session, &options, &args)?
            }
            command => execute(&mut self.session, &options, command, Source::Prompt)?,
        };
        if self.session.has_transaction() && self.transaction_run.is_none() {
            let run = options.run.clone();
            self.transaction_run = run.or_else(|| Some(DEFAULT_RUN.to_owned()));
        } else if !self.session.has_transaction() {
            self.transaction_run = None;
        }
        Ok(Said::Outcome(Box::new((options, outcome))))
    }

    /// Takes another run for the lines to come, if there is such a run.
    fn use_run(&mut self, words: &[String]) -> Result<Said, Failure> {
        self.session.refuse_in_transaction("use")?;
        match words {
            [] => self.lines.use_run(None),
            [run] => {
                self.session.find_run(run)?;
                self.lines.use_run(Some(run.clone()));
            }
            _ => return Err(Failure::usage("use takes one run, by name or id")),
        }
        Ok(Said::Nothing)
    }

    /// Rolls back what is open.
    fn leave(mut self) -> Result<(), Failure> {
        if !self.session.has_transaction() {
            return Ok(());
        }
        self.interrupts.begin();
        match self.session.take_transaction()?.rollback() {
            Ok(()) => say("the open transaction was rolled back"),
            Err(error) => {
                say(&Failure::from(error).to_text())?;
                say("the open transaction ends with the connection: it is rolled back")
            }
        }
    }
}

/// Says what a command came to.
fn show(options: &Options, outcome: &Outcome) -> Result<(), Failure> {
    let mut text = Vec::new();
    outcome.print(options, &mut text).map_err(unsaid)?;
    // Raw text need not end its line, but the prompt begins one.
    if text.last().is_some_and(|byte| *byte != b'\n') {
        text.push(b'\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(&text)
        .and_then(|()| out.flush())
        .map_err(unsaid)
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(unsaid)
}

fn unsaid(source: io::Error) -> Failure {
    Failure::Unsaid { source }
}

fn terminal_failed(error: ReadlineError) -> Failure {
    let source = match error {
        ReadlineError::Io(source) => source,
        other => io::Error::other(other.to_string()),
    };
    Failure::file("the terminal", source)
}
