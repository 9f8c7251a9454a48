//! `inmem top`: what the daemon is doing, a frame a second, from the differences of its metrics.
//!
//! Asks `system.metrics` once a frame and nothing else, so watching costs the daemon one request a
//! second. `q` and Ctrl-C end it.

mod frame;
mod reading;
mod terminal;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use in_mem_client::ClientBuilder;

use crate::cli::arguments::Options;
use crate::cli::arguments::observe::TopArgs;
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use reading::Reading;
use terminal::{Key, Terminal};

/// Watches until told to stop.
pub(super) fn run(
    options: &Options,
    builder: ClientBuilder,
    args: &TopArgs,
) -> Result<ExitCode, Failure> {
    if options.json {
        return Err(Failure::usage(
            "top is for people; a program asks inmem metrics --json",
        ));
    }
    let mut session = Session::new(builder);
    let interval = Duration::from_millis(args.interval_ms);
    let mut before = take(&mut session)?;
    let mut terminal = if args.once {
        None
    } else {
        Some(Terminal::open().map_err(|source| Failure::file("terminal", source))?)
    };
    loop {
        let key = match &mut terminal {
            Some(terminal) => terminal.wait(interval),
            None => {
                std::thread::sleep(interval);
                Ok(Key::None)
            }
        };
        if key.map_err(|source| Failure::file("terminal", source))? == Key::Quit {
            return Ok(ExitCode::SUCCESS);
        }
        let now = take(&mut session)?;
        let lines = frame::lines(&before.1, &now.1, now.0 - before.0);
        let printed = match &mut terminal {
            Some(terminal) => terminal.show(&lines),
            None => show_once(&lines),
        };
        printed.map_err(|source| Failure::Unsaid { source })?;
        if args.once {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

fn take(session: &mut Session) -> Result<(Instant, Reading), Failure> {
    let text = session.client()?.metrics()?;
    Ok((Instant::now(), Reading::of(&text)))
}

fn show_once(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}
