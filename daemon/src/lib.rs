//! The in-mem daemon: one process that owns a data directory and serves it over a Unix socket.
//!
//! [`main_with_args`] is the whole program; everything below it is private. Data flows one way:
//! `reactor` moves bytes, `server` turns completions into events, `core` cuts frames and keeps
//! sessions, `dispatch` asks the engine, and the answers go back through the sessions' buffers.
//! Knows no format on disk: the engine does.

mod acceptor;
mod answer;
mod args;
mod caller;
mod completions;
mod config;
mod core;
mod dispatch;
mod errors;
mod exit;
mod inbound;
mod log;
mod outbound;
mod quarantine;
mod reactor;
mod server;
mod session;
mod signals;
mod socket;
mod start;
mod status;
mod store;
mod transactions;
mod workers;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use config::Configuration;
use exit::Exit;

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
    let given = args.given(|name| std::env::var_os(name));
    let configuration = match Configuration::load(args.config.clone(), &given) {
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
    if let Err(error) = log::init(&configuration.settings.log) {
        return refuse(&error, Exit::Usage);
    }
    match start::run(configuration.settings, args.ready_fd) {
        Ok(exit) => exit.into(),
        Err(error) => {
            tracing::error!(target: "db", "{error}");
            error.exit().into()
        }
    }
}

/// Says on standard error why there is no daemon: the log is not set up yet.
fn refuse(error: &dyn std::error::Error, exit: Exit) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "inmemd: {error}");
    exit.into()
}
