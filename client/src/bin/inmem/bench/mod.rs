//! The bench: what the daemon does, measured over its socket.
//!
//! Owns the runs it makes, the processes it starts, and the figures. Every bench works in runs of
//! its own, named `bench-...`, so it never touches a key of anybody else; they are ended and
//! archived afterwards, also after an error or an interruption. The processes of the load end
//! with this one, however it ends.

mod crew;
pub(crate) mod load;
mod report;
mod tally;
pub(crate) mod worker;

use std::env;
use std::io;
use std::process::{self, Command, ExitCode};
use std::thread;

use in_mem_client::model::{Durability, Value};
use in_mem_client::{Client, ClientBuilder, ReconnectPolicy, Run, RunOptions};
use nix::sys::signal::{SigSet, Signal};

use crate::cli::arguments::Options;
use crate::cli::arguments::bench::{BenchArgs, LoadArgs};
use crate::cli::demo::worker::random_seed;
use crate::cli::failure::{EXIT_INTERRUPTED, Failure};
use crate::cli::parent;
use crew::{Crew, Stop};
use load::{Mix, key_text};
use tally::Tally;

/// Entries of one commit while keys are loaded: a few hundred kilobytes of small values.
const LOAD_COUNT: u64 = 1000;

/// Most bytes of values in one commit while keys are loaded.
const LOAD_LEN_BYTES_MAX: u64 = 8 << 20;

/// Measures, and says what came of it.
pub(crate) fn run(
    builder: &ClientBuilder,
    options: &Options,
    args: &BenchArgs,
) -> Result<ExitCode, Failure> {
    args.check().map_err(Failure::usage)?;
    if options.run.is_some() || options.durability.is_some() || options.with_version {
        return Err(Failure::usage(
            "a bench works in runs of its own, in the mode it is told: no --run, --durability \
             or --with-version",
        ));
    }
    let stop = wait_for_signals()?;
    let client = builder
        .clone()
        .name("inmem bench")
        .reconnect(ReconnectPolicy::NONE)
        .connect()?;
    check_depth(&client, args.load.depth)?;
    let runs = begin_runs(&client, args)?;
    let measured = measure(&client, options, args, &runs, &stop);
    let ended = end_runs(&runs);
    let tally = measured?;
    if stop.is_stopped() {
        return Err(Failure::Interrupted);
    }
    report::print(options, args, &tally)?;
    match &tally.error_first {
        None => ended.map(|()| ExitCode::SUCCESS),
        Some(first) => Err(Failure::Disproved(format!(
            "{} errors; the first: {first}",
            tally.error_count
        ))),
    }
}

/// Fails if the daemon lets fewer requests be on their way.
fn check_depth(client: &Client, depth: u32) -> Result<(), Failure> {
    let limits = client.capabilities()?.limits;
    let limit = limits
        .iter()
        .find(|limit| limit.name == "in_flight_count_max");
    match limit {
        Some(limit) if limit.value < u64::from(depth) => Err(Failure::usage(format!(
            "--depth {depth}: the daemon lets {} requests be on their way over one connection",
            limit.value
        ))),
        _ => Ok(()),
    }
}

fn measure(
    client: &Client,
    options: &Options,
    args: &BenchArgs,
    runs: &[Run],
    stop: &Stop,
) -> Result<Tally, Failure> {
    if args.load.mix() != Mix::Put {
        for run in runs {
            load_keys(run, &args.load, stop)?;
        }
        if args.load.durability() != Durability::InMemory {
            // What was loaded is not to be synced while it is measured.
            client.flush()?;
        }
    }
    let program = env::current_exe().map_err(|error| Failure::file("this program", error))?;
    let commands = (0..args.processes).map(|process| {
        let mut command = Command::new(&program);
        let words = worker::words(args, process, runs);
        command
            .args([parent::OPTION, &process::id().to_string()])
            .args(words);
        if let Some(socket) = &options.socket {
            command.arg("--socket").arg(socket);
        }
        command
    });
    let measured = Crew::start(commands, stop).and_then(Crew::run);
    measured.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted if stop.is_stopped() => Failure::Interrupted,
        _ => Failure::file("a process of the load", error),
    })
}

/// Begins the runs. They are logged whatever the mode: only what is put into them is not.
fn begin_runs(client: &Client, args: &BenchArgs) -> Result<Vec<Run>, Failure> {
    let bench = format!("bench-{}-{:08x}", process::id(), random_seed() >> 32);
    let runs = client.runs();
    let begun = (0..args.runs).map(|number| {
        let options = RunOptions {
            name: Some(&format!("{bench}-{number}")),
            tags: &["bench"],
            ..RunOptions::default()
        };
        Ok(runs.begin(&options)?.run)
    });
    begun.collect()
}

/// Ends and archives the runs: they do not show among the runs in use any more, and their history
/// goes when the retention of the database lets it.
fn end_runs(runs: &[Run]) -> Result<(), Failure> {
    for run in runs {
        run.end()?;
        run.archive()?;
    }
    Ok(())
}

/// Puts every key of a run once.
fn load_keys(run: &Run, load: &LoadArgs, stop: &Stop) -> Result<(), Failure> {
    let durability = load.durability().min(Durability::Buffered);
    let kv = run.kv().with_durability(durability);
    let value = value(load);
    let step = (LOAD_LEN_BYTES_MAX / u64::from(load.value_size).max(1)).clamp(1, LOAD_COUNT);
    let mut first = 0;
    while first < load.keys && !stop.is_stopped() {
        let end = load.keys.min(first + step);
        let names = (first..end).map(|number| key_text(number, &mut [0; 16]).to_owned());
        let names: Vec<String> = names.collect();
        kv.put_many(names.iter().map(|name| (name.as_str(), &value)))?;
        first = end;
    }
    Ok(())
}

/// The value that is put everywhere.
fn value(load: &LoadArgs) -> Value {
    Value::Bytes(vec![b'x'; load.value_size as usize])
}

/// Lets a signal end the load, so that this process can clean up; a second one ends it at once.
/// To be called before any other thread is started: the signals are blocked in all that follow.
fn wait_for_signals() -> Result<Stop, Failure> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    let failed = |errno: nix::Error| Failure::file("signals", io::Error::from(errno));
    signals.thread_block().map_err(failed)?;
    let stop = Stop::default();
    let stopped = stop.clone();
    let wait = move || {
        while signals.wait().is_ok() {
            if stopped.stop() {
                process::exit(EXIT_INTERRUPTED.into());
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map_err(|error| Failure::file("the thread for signals", error))?;
    Ok(stop)
}
