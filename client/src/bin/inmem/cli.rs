//! The command line: from the words of a shell to an exit code.
//!
//! Reads arguments, connects when a command asks the daemon, prints the outcome on standard
//! output and errors as JSON on standard error. `inmem daemon` is the daemon itself.

mod arguments;
mod bench;
mod commands;
mod demo;
mod doctor;
mod exposition;
mod failure;
mod generate;
mod import;
mod interrupt;
mod json;
mod line;
mod literal;
mod offline;
mod outcome;
mod parent;
mod pipe;
mod progress;
mod session;
mod shell;
mod top;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use in_mem_client::{Client, ClientBuilder, ReconnectPolicy};

use arguments::{Cli, Command, Options};
use commands::Source;
use failure::{EXIT_INTERRUPTED, EXIT_NEGATIVE, EXIT_USAGE, Failure};
use interrupt::{AtRest, Interrupts};
use session::Session;

/// How long the pipe waits for a lost server to come back, before it says that there is none.
const PIPE_RECONNECT: ReconnectPolicy = ReconnectPolicy {
    delay_base: Duration::from_millis(5),
    delay_max: Duration::from_millis(100),
    delay_total_max: Duration::from_secs(5),
    resends: false,
};

/// Runs the command line of this process.
pub(crate) fn run() -> ExitCode {
    let mut words: Vec<OsString> = env::args_os().collect();
    if let Err(failure) = parent::take_option(&mut words) {
        return fail(&failure);
    }
    if words.get(1).is_some_and(|word| word == "daemon") {
        let arguments = std::iter::once("inmemd".into()).chain(words.into_iter().skip(2));
        return in_mem_daemon::main_with_args(arguments);
    }
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody to tell that the text could not be printed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli {
        options,
        no_history,
        command,
    } = cli;
    match command {
        Some(_) if no_history => Err(Failure::usage(
            "--no-history is for the interactive shell: inmem, without a command",
        )),
        None if options.json => pipe(&options),
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            let interrupts = Interrupts::watch(AtRest::Stay)?;
            let builder = client_builder(&options);
            shell::run(&builder, &options, &interrupts, !no_history).map(|()| ExitCode::SUCCESS)
        }
        None => {
            let help = Cli::command().render_help();
            let _ = write!(io::stderr(), "{help}");
            Ok(ExitCode::from(EXIT_USAGE))
        }
        Some(Command::Daemon(_)) => Err(Failure::usage(
            "the options of the daemon stand behind its name: inmem daemon --socket PATH",
        )),
        Some(Command::Top(args)) => top::run(&options, client_builder(&options), &args),
        Some(Command::Doctor(args)) => doctor::run(&options, &args),
        Some(Command::Check(args)) => offline::check(&options, &args),
        Some(Command::Repair(args)) => offline::repair(&options, &args),
        Some(Command::Digest(args)) => offline::digest(&options, &args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Generate(command)) => generate::run(&command).map(|()| ExitCode::SUCCESS),
        Some(Command::DemoWorker(args)) => {
            demo::worker::run(&client_builder(&options), &args).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Bench(args)) => bench::run(&client_builder(&options), &options, &args),
        Some(Command::BenchWorker(args)) => {
            bench::worker::run(&client_builder(&options), &args).map(|()| ExitCode::SUCCESS)
        }
        Some(command) => once(&options, command),
    }
}

/// Answers lines of standard input.
fn pipe(options: &Options) -> Result<ExitCode, Failure> {
    let interrupts = Interrupts::watch(AtRest::Leave)?;
    let builder = client_builder(options).reconnect(PIPE_RECONNECT);
    let mut session = Session::new(builder.canceller(interrupts.canceller()).wait());
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    let ending = pipe::run(
        &mut session,
        options,
        &interrupts,
        &mut io::BufReader::new(input),
        &mut { output },
    )?;
    Ok(match ending {
        pipe::Ending::EndOfInput => ExitCode::SUCCESS,
        pipe::Ending::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
    })
}

/// Carries out one command. An interrupt gives up the request under way; whether a write may have
/// happened is said, by the error and by the exit code.
fn once(options: &Options, command: Command) -> Result<ExitCode, Failure> {
    let reconnect = match command {
        // Long enough that the daemon may be started again meanwhile.
        Command::Import(_) => ReconnectPolicy::default(),
        _ => ReconnectPolicy::NONE,
    };
    let interrupts = Interrupts::watch(AtRest::Leave)?;
    interrupts.begin();
    let builder = client_builder(options).reconnect(reconnect);
    let mut session = Session::of_one_command(builder, &interrupts);
    let outcome = match command {
        Command::Import(args) => import::run(&mut session, options, &args)?,
        command => commands::execute(&mut session, options, command, Source::Shell)?,
    };
    let mut out = io::stdout().lock();
    let printed = outcome.print(options, &mut out).and_then(|()| out.flush());
    match printed {
        Err(source) => Err(Failure::Unsaid { source }),
        _ if outcome.is_negative() => Ok(ExitCode::from(EXIT_NEGATIVE)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn client_builder(options: &Options) -> ClientBuilder {
    let builder = Client::builder().name("inmem");
    match &options.socket {
        Some(socket) => builder.socket(socket),
        None => builder,
    }
}

/// Says what went wrong, and ends with the code for it.
fn fail(failure: &Failure) -> ExitCode {
    if !failure.is_hung_up() {
        let _ = writeln!(io::stderr(), "{}", failure.to_json());
    }
    ExitCode::from(failure.exit_code())
}
