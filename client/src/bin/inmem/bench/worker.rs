//! One process of the load: its connections to the daemon, and what a right answer is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use in_mem_client::model::{Durability, EncodedValue, Level, encode};
use in_mem_client::{ClientBuilder, ClientError, Lane, LaneAnswer, ReconnectPolicy, Run};

use crate::cli::arguments::bench::{BenchArgs, BenchWorkerArgs};
use crate::cli::bench::load::{self, Pace, Plan, Wire};
use crate::cli::bench::{crew, value};
use crate::cli::failure::Failure;

/// Time before counting begins, nanoseconds.
const WARM_UP_NS: u64 = 500_000_000;

/// The words that start the worker with this number.
pub(super) fn words(args: &BenchArgs, process: u32, runs: &[Run]) -> Vec<String> {
    let mut words = vec!["bench-worker".to_owned()];
    words.extend(args.load.words());
    let mut say = |name: &str, value: String| words.extend([name.to_owned(), value]);
    say("--process", process.to_string());
    say("--processes", args.processes.to_string());
    for run in runs {
        say("--run-id", run.id().to_string());
    }
    words
}

/// Connects, waits for the word to begin, works, and says what it counted.
pub(crate) fn run(builder: &ClientBuilder, args: &BenchWorkerArgs) -> Result<(), Failure> {
    let durability = args.load.durability();
    let value = encode(&value(&args.load)).map_err(|error| Failure::usage(error.to_string()))?;
    let value = Arc::new(value);
    let builder = builder
        .clone()
        .name("inmem bench")
        .durability(durability)
        .reconnect(ReconnectPolicy::NONE);
    let step = usize::try_from(args.processes).unwrap_or(usize::MAX);
    let mut wires = Vec::new();
    for client in (args.process..args.load.clients).step_by(step) {
        let run = args
            .run_ids
            .get(client as usize % args.run_ids.len().max(1));
        let run = run.ok_or_else(|| Failure::usage("a worker of the bench needs a run"))?;
        let lane = builder.clone().run(run).connect_lane()?;
        wires.push(LaneWire {
            lane,
            value: Arc::clone(&value),
            level: level(durability),
        });
    }
    let failed = |error: io::Error| Failure::file("the load", error);
    let start_ns = crew::wait_for_start().map_err(failed)?;
    let count_from_ns = start_ns + WARM_UP_NS;
    let plan = Plan {
        mix: args.load.mix(),
        key_count: args.load.keys,
        depth: args.load.depth,
        start_ns,
        count_from_ns,
        end_ns: count_from_ns + args.load.seconds * 1_000_000_000,
        pace: args.load.rate.map(|rate| Pace {
            rate,
            process: args.process.into(),
            process_count: args.processes.into(),
        }),
        seed: args.process.into(),
    };
    let tally = load::run(wires, plan).map_err(failed)?;
    crew::report(&tally).map_err(failed)
}

/// What an answer has to say at least.
fn level(durability: Durability) -> Level {
    match durability {
        Durability::InMemory => Level::Volatile,
        Durability::Buffered => Level::Logged,
        Durability::Strict => Level::Synced,
    }
}

/// A connection to the daemon.
struct LaneWire {
    lane: Lane,
    value: Arc<EncodedValue>,
    level: Level,
}

impl AsFd for LaneWire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lane.as_fd()
    }
}

impl Wire for LaneWire {
    fn put(&mut self, slot: u32, key: &str) -> io::Result<()> {
        let queued = self
            .lane
            .put(request_id(slot), key, self.value.as_ref().as_ref());
        queued.map_err(io::Error::other)
    }

    fn get(&mut self, slot: u32, key: &str) -> io::Result<()> {
        let queued = self.lane.get(request_id(slot), key);
        queued.map_err(io::Error::other)
    }

    fn send(&mut self) -> io::Result<bool> {
        self.lane.send().map_err(io::Error::other)
    }

    fn receive(&mut self, take: &mut dyn FnMut(u32, Result<(), String>)) -> io::Result<()> {
        let (len, level) = (self.value.as_bytes().len(), self.level);
        let received = self.lane.receive(|request_id, answer| {
            let slot = u32::try_from(request_id - 1).unwrap_or(u32::MAX);
            take(slot, check(&answer, len, level));
        });
        received.map_err(io::Error::other)
    }
}

/// Requests are numbered from 1.
fn request_id(slot: u32) -> u64 {
    u64::from(slot) + 1
}

/// What is wrong with an answer, if anything.
fn check(answer: &LaneAnswer<'_>, len: usize, level: Level) -> Result<(), String> {
    match answer {
        LaneAnswer::Value(value) if value.len() == len => Ok(()),
        LaneAnswer::Value(value) => Err(format!("a value of {} bytes, not {len}", value.len())),
        LaneAnswer::Missing => Err("a key that was loaded is missing".to_owned()),
        LaneAnswer::Written(receipt) if receipt.level.is_some_and(|it| level <= it) => Ok(()),
        LaneAnswer::Written(_) => Err(format!("a put was answered before it was {level}")),
        LaneAnswer::Failed(error) => Err(refusal(error)),
    }
}

fn refusal(error: &ClientError) -> String {
    error.body().message.clone()
}
