//! The demo: what in-mem promises, shown and proven on this machine in a few seconds.
//!
//! A private daemon in a temporary directory, eight worker processes that share it, a SIGKILL in
//! the middle of the load, a recovery that is looked at and done again, a restart under the
//! workers' feet, and a second SIGKILL at the end. Each worker records what it asked and what it
//! was told; the checker of the library holds that against what was recovered. Promises to leave
//! no process behind and, unless told to keep it, no file.

mod daemon;
mod proof;
mod scene;
pub(crate) mod worker;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use in_mem_client::check::Dump;
use in_mem_client::{Client, RunOptions};

use crate::cli::arguments::DemoArgs;
use crate::cli::failure::Failure;
use daemon::{Daemon, data_len_bytes};
use proof::Ends;
use scene::{Process, Scene};

/// Worker processes.
const WORKER_COUNT: u32 = 8;

/// Workers from this one on have a run of their own; those before share one.
const OWN_RUN_WORKER_FIRST: u32 = 5;

/// How long a worker may take to end once it is told to.
const WORKER_END_MAX: Duration = Duration::from_secs(60);

/// How often the workers are looked at while they work.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Shows and proves.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let seed = args.seed.unwrap_or_else(worker::random_seed);
    let scene = Scene::open(args.dir.as_deref(), args.keep)?;
    let show = Show {
        started: Instant::now(),
    };
    show.line(&format!(
        "inmem demo: {WORKER_COUNT} worker processes, {} s, seed {seed}, in {}",
        args.seconds,
        scene.dir().display()
    ))?;
    let mut ends = perform(&scene, &show, Duration::from_secs(args.seconds), seed)?;
    let history = proof::read_history(scene.dir(), WORKER_COUNT)?;
    show.step("checking the workers' records against what was recovered")?;
    if args.plant_loss {
        let key = proof::plant_loss(&history, &mut ends.last)
            .ok_or_else(|| Failure::Disproved("there is no commit to take out".to_owned()))?;
        show.step(&format!("taken out of what was recovered: {key}"))?;
    }
    for line in proof::check(history, &ends)? {
        show.line(&line)?;
    }
    show.line("nothing acknowledged was lost, nothing is half there")?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that happens before the proof.
fn perform(scene: &Scene, show: &Show, time: Duration, seed: u64) -> Result<Ends, Failure> {
    let socket = scene.dir().join("inmem.sock");
    // Nobody but the demo knows this one: what was recovered is looked at before anyone writes.
    let private_socket = scene.dir().join("recovered.sock");
    let stop_file = scene.dir().join("stop");

    let daemon = Daemon::start(scene, &socket)?;
    show.step(&format!("the daemon runs, process {}", daemon.id()))?;
    let mut workers = start_workers(scene, daemon.client(), &socket, &stop_file, seed)?;
    let work_started = Instant::now();
    show.step(&format!(
        "{WORKER_COUNT} workers work: some share a run, some have their own"
    ))?;

    look_at(&mut workers, time * 2 / 5)?;
    daemon.kill();
    let first_at_ns = worker::now_ns();
    let mut worked = work_started.elapsed();
    show.step("the daemon was killed with SIGKILL under the load")?;

    let first = recover(scene, show, &private_socket, "recovered")?;
    let first_again = recover(scene, show, &private_socket, "killed and recovered again")?;
    let daemon = Daemon::start(scene, &socket)?;
    let work_resumed = Instant::now();
    show.step("the daemon is back; the workers connect again and go on")?;

    look_at(&mut workers, time * 3 / 5)?;
    fs::write(&stop_file, b"").map_err(|error| Failure::file(&stop_file, error))?;
    for process in workers {
        process.wait("a worker", WORKER_END_MAX)?;
    }
    worked += work_resumed.elapsed();
    show.step("the workers have finished")?;
    daemon.kill();
    let last = recover(
        scene,
        show,
        &private_socket,
        "killed with SIGKILL and recovered",
    )?;
    Ok(Ends {
        first,
        first_at_ns,
        first_again,
        last,
        worked,
    })
}

/// Starts a daemon nobody knows of, takes down all it holds, and kills it.
fn recover(
    scene: &Scene,
    show: &Show,
    socket: &std::path::Path,
    what: &str,
) -> Result<Dump, Failure> {
    let log_len_bytes = data_len_bytes(scene);
    let started = Instant::now();
    let daemon = Daemon::start(scene, socket)?;
    let start_time = started.elapsed();
    let dump = daemon.dump()?;
    daemon.kill();
    show.step(&format!(
        "{what}: {} keys in {} runs, from {} MiB of files in {} ms",
        dump.entries().count(),
        dump.runs.len(),
        log_len_bytes >> 20,
        start_time.as_millis()
    ))?;
    Ok(dump)
}

/// Begins the runs and starts the workers in them.
fn start_workers(
    scene: &Scene,
    client: &Client,
    socket: &std::path::Path,
    stop_file: &std::path::Path,
    seed: u64,
) -> Result<Vec<Process>, Failure> {
    let begin = |name: &str| {
        let options = RunOptions {
            name: Some(name),
            ..RunOptions::default()
        };
        client
            .runs()
            .begin(&options)
            .map(|begun| begun.info.id.to_string())
    };
    let shared_run = begin("demo-shared")?;
    let (socket, stop_file) = (socket.to_string_lossy(), stop_file.to_string_lossy());
    let mut workers = Vec::new();
    for worker in 0..WORKER_COUNT {
        let record = proof::record_path(scene.dir(), worker);
        let (number, record) = (worker.to_string(), record.to_string_lossy());
        let seed = seed.wrapping_add(worker.into()).to_string();
        let mut arguments = vec!["demo-worker", "--socket", &socket, "--worker", &number];
        arguments.extend(["--shared-run", &shared_run, "--seed", &seed]);
        arguments.extend(["--record", &record, "--stop-file", &stop_file]);
        let own_run = match OWN_RUN_WORKER_FIRST <= worker {
            true => Some(begin(&format!("demo-worker-{worker}"))?),
            false => None,
        };
        arguments.extend(own_run.iter().flat_map(|run| ["--own-run", run]));
        workers.push(scene.start(&format!("worker-{worker}.log"), &arguments)?);
    }
    Ok(workers)
}

/// Lets the workers work, and fails as soon as one has ended.
fn look_at(workers: &mut [Process], time: Duration) -> Result<(), Failure> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        for process in &mut *workers {
            if let Some(status) = process.try_wait()? {
                return Err(process.failed(&format!("a worker ended with {status}")));
            }
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Says what happens.
struct Show {
    started: Instant,
}

impl Show {
    /// One line, after the time since the beginning.
    fn step(&self, what: &str) -> Result<(), Failure> {
        self.line(&format!(
            "{:6.2} s  {what}",
            self.started.elapsed().as_secs_f64()
        ))
    }

    /// One line.
    fn line(&self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        written.map_err(|error| Failure::file("standard output", error))
    }
}
