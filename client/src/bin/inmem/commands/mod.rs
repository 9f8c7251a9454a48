//! Carrying out commands: one function for each noun, from arguments to an outcome.

mod batch;
mod exports;
mod kv;
mod observe;
mod retention;
mod run;
mod server;
mod snapshots;
mod txn;

use crate::cli::arguments::{Command, Options};
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

/// Who types the command: it decides what standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A shell.
    Shell,
    /// A line of the pipe.
    Pipe,
    /// A line of the interactive shell.
    Prompt,
}

/// Carries out one command that asks the daemon.
pub(crate) fn execute(
    session: &mut Session,
    options: &Options,
    command: Command,
    source: Source,
) -> Result<Outcome, Failure> {
    match command.canonical() {
        Command::Ping => server::ping(session),
        Command::Info => server::info(session),
        Command::Capabilities => server::capabilities(session),
        Command::Health => observe::health(session),
        Command::Metrics => observe::metrics(session),
        Command::Describe => observe::describe(session),
        Command::Flush => server::flush(session),
        Command::Checkpoint => snapshots::checkpoint(session),
        Command::Compact(args) => snapshots::compact(session, &args),
        Command::Export(args) => exports::export(session, &args),
        Command::Snapshots(command) => snapshots::execute(session, &command),
        Command::Kv(command) => kv::execute(session, options, command, source),
        Command::Run(command) => run::execute(session, options, command),
        Command::Txn(command) => txn::execute(session, options, &command, source),
        Command::Batch(args) => batch::execute(session, options, &args, source),
        Command::Import(_)
        | Command::Top(_)
        | Command::Doctor(_)
        | Command::Check(_)
        | Command::Repair(_)
        | Command::Digest(_)
        | Command::Daemon(_)
        | Command::Demo(_)
        | Command::DemoWorker(_)
        | Command::Bench(_)
        | Command::BenchWorker(_)
        | Command::Generate(_) => Err(Failure::usage(
            "this command is for the command line, not for lines of the pipe or the shell",
        )),
        Command::Set(_)
        | Command::Get(_)
        | Command::Mget(_)
        | Command::Mset(_)
        | Command::Del(_)
        | Command::Exists(_)
        | Command::Incr(_)
        | Command::Decr(_)
        | Command::History(_)
        | Command::Runs(_) => unreachable!("a canonical command is no short form"),
    }
}
