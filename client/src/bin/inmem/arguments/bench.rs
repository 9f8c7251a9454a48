//! What the bench can be told.

use clap::{Args, ValueEnum};
use in_mem_client::model::Durability;

use crate::cli::bench::load::Mix;

/// Examples of the bench.
pub(super) const EXAMPLES: &str = "\
Latencies of a closed loop do not see what waits while the daemon pauses; for those under a given
load use --rate. A bench works in runs of its own, named bench-..., which it ends and archives;
their history stays in the database until retention drops it. Any failed request makes it end
with 1.

Examples:
  inmem bench --op put --mode buffered --clients 8 --depth 16 --keys 1000 --seconds 1
  inmem bench --op mixed --clients 4 --processes 2 --rate 500 --keys 1000 --seconds 1 --json";

/// The load, as a process that puts it on is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// What is asked: puts, gets, or both as often.
    #[arg(long, value_enum, default_value = "put")]
    pub(crate) op: BenchOp,
    /// What a put has to survive before it is answered.
    #[arg(long, value_enum, default_value = "strict")]
    pub(crate) mode: BenchMode,
    /// Connections.
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: u32,
    /// Requests on their way over each connection.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) depth: u32,
    /// Length of each value.
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=8_388_608))]
    pub(crate) value_size: u32,
    /// Keys of each run, drawn evenly; there before a get.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,
    /// How long is measured; half a second of warm-up comes before.
    #[arg(long, default_value_t = 5, value_name = "S")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Requests a second of all clients, due whatever the answers do: latencies count from when a
    /// request was due. Without it, the next request waits for an answer.
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
}

/// How to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Processes the clients are spread over.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) processes: u32,
    /// Runs the clients are spread over.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
}

/// What a process of the load is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchWorkerArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Its number, from 0.
    #[arg(long)]
    pub(crate) process: u32,
    /// How many there are.
    #[arg(long)]
    pub(crate) processes: u32,
    /// The runs.
    #[arg(long = "run-id")]
    pub(crate) run_ids: Vec<String>,
}

/// What is asked, as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOp {
    /// Puts.
    Put,
    /// Gets of keys that are there.
    Get,
    /// Puts and gets, as often.
    Mixed,
}

/// A durability, as the bench says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchMode {
    /// On disk.
    Strict,
    /// With the kernel.
    Buffered,
    /// Never logged.
    #[value(name = "inmemory", aliases = ["in_memory", "in-memory"])]
    InMemory,
}

impl BenchOp {
    /// How it is said.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Mixed => "mixed",
        }
    }
}

impl BenchMode {
    /// How it is said.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Buffered => "buffered",
            Self::InMemory => "inmemory",
        }
    }
}

impl LoadArgs {
    /// What is asked.
    pub(crate) const fn mix(&self) -> Mix {
        match self.op {
            BenchOp::Put => Mix::Put,
            BenchOp::Get => Mix::Get,
            BenchOp::Mixed => Mix::Mixed,
        }
    }

    /// What a put has to survive.
    pub(crate) const fn durability(&self) -> Durability {
        match self.mode {
            BenchMode::Strict => Durability::Strict,
            BenchMode::Buffered => Durability::Buffered,
            BenchMode::InMemory => Durability::InMemory,
        }
    }

    /// The words that say the same.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut say = |name: &str, value: String| words.extend([name.to_owned(), value]);
        say("--op", self.op.name().to_owned());
        say("--mode", self.mode.name().to_owned());
        say("--clients", self.clients.to_string());
        say("--depth", self.depth.to_string());
        say("--value-size", self.value_size.to_string());
        say("--keys", self.keys.to_string());
        say("--seconds", self.seconds.to_string());
        if let Some(rate) = self.rate {
            say("--rate", rate.to_string());
        }
        words
    }
}

impl BenchArgs {
    /// What does not go together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (clients, processes) = (self.load.clients, self.processes);
        if clients < processes {
            return Err(format!(
                "--clients {clients} cannot be spread over --processes {processes}"
            ));
        }
        if clients < self.runs {
            return Err(format!(
                "--runs {} are more than --clients {clients}: some would be of no use",
                self.runs
            ));
        }
        Ok(())
    }
}
