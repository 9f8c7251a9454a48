//! The in-mem daemon: one process that owns a data directory and serves it over a Unix socket.
//!
//! [`main_with_args`] is the whole program, [`grammar`] its command line; everything below them is
//! private. Data flows one way:
//! `reactor` moves bytes, `server` turns completions into events, `core` cuts frames and keeps
//! sessions, `dispatch` asks the engine, and the answers go back through the sessions' buffers.
//! Knows no format on disk: the engine does.

mod acceptor;
mod answer;
mod args;
mod automatic;
mod caller;
mod completions;
mod config;
mod control_group;
mod core;
mod defect;
mod disk_space;
mod dispatch;
pub mod doctor;
mod errors;
mod exit;
mod exports;
mod health;
mod inbound;
mod key;
mod live_limits;
mod log;
mod log_budget;
mod metrics;
mod outbound;
mod quarantine;
mod reactor;
mod recovering;
mod reload;
mod server;
mod session;
mod shares;
mod signals;
mod slow;
mod snapshot_errors;
mod socket;
mod start;
mod status;
mod store;
mod supervisor;
mod transactions;
mod workers;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::Args;
use exit::Exit;
use log::LogError;
use reload::Sources;
use start::Start;

/// Runs the daemon with the arguments of a command line, the program's name first, and returns
/// when it has stopped. Sets the process's signal mask and its tracing subscriber.
#[must_use]
pub fn main_with_args(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Clean
            };
            // Nobody to tell that the text could not be printed.
            let _ = error.print();
            return exit.into();
        }
    };
    let sources = Sources {
        file: args.config.clone(),
        given: args.given(|name| std::env::var_os(name)),
    };
    let configuration = match sources.load() {
        Ok(configuration) => configuration,
        Err(error) => return refuse(&error, Exit::Usage),
    };
    if args.print_config {
        let printed = std::io::stdout().write_all(configuration.to_text().as_bytes());
        return if printed.is_ok() {
            Exit::Clean
        } else {
            Exit::Other
        }
        .into();
    }
    if args.check_config {
        return Exit::Clean.into();
    }
    let settings = &configuration.settings;
    let log = match log::init(&settings.log, settings.log_to) {
        Ok(log) => log,
        Err(error @ LogError::Filter { .. }) => return refuse(&error, Exit::Usage),
        Err(error @ LogError::Journal { .. }) => return refuse(&error, Exit::Other),
    };
    let start = Start {
        configuration,
        sources,
        log,
        ready_fd: args.ready_fd,
    };
    match start::run(start) {
        Ok(exit) => exit.into(),
        Err(error) => {
            tracing::error!(target: "db", "{error}");
            error.exit().into()
        }
    }
}

/// The grammar of the daemon's command line, for those who explain or complete it.
#[must_use]
pub fn grammar() -> clap::Command {
    Args::command()
}

/// Says on standard error why there is no daemon: the log is not set up yet.
fn refuse(error: &dyn std::error::Error, exit: Exit) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "inmemd: {error}");
    exit.into()
}
