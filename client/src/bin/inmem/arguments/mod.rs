//! The command line: what can be said, and the help that says it.
//!
//! Noun and verb, with short forms for the common ones. One grammar serves the shell and the
//! lines of the pipe. Every command shows examples that work as they stand.

pub(crate) mod bench;
pub(crate) mod exports;
pub(crate) mod kv;
pub(crate) mod observe;
pub(crate) mod offline;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod snapshots;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use in_mem_model::Durability;

use bench::{BenchArgs, BenchWorkerArgs};
use exports::{EXPORT_EXAMPLES, ExportArgs};
use kv::{
    DeleteArgs, GetArgs, HistoryArgs, IncrementArgs, KeysArgs, KvCommand, PairsArgs, PutTtlArgs,
};
use observe::{DOCTOR_EXAMPLES, DoctorArgs, TOP_VIEW_EXAMPLES, TopArgs};
use offline::{CHECK_EXAMPLES, DIGEST_EXAMPLES, DirectoryArgs, REPAIR_EXAMPLES, RepairArgs};
use run::{RunCommand, RunListArgs};
use snapshots::{CHECKPOINT_EXAMPLES, COMPACT_EXAMPLES, CompactArgs, SnapshotsCommand};

/// The command line of in-mem: a durable, shared, in-memory store for the workers of one machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "inmem", version, max_term_width = 100, after_help = TOP_EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,

    /// Of the interactive shell: keep no history of its lines.
    #[arg(long)]
    pub(crate) no_history: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What may stand before or after any command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options")]
pub(crate) struct Options {
    /// The socket of the daemon.
    #[arg(long, global = true, env = "INMEM_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The run to act in, by name or id; else the default run.
    #[arg(long, global = true, value_name = "NAME|ID")]
    pub(crate) run: Option<String>,

    /// Answer with one JSON object a line. Without a command: read one command a line from
    /// standard input and answer each.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print a string or bytes as they are, with nothing added.
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) raw: bool,

    /// Print versions and durability too.
    #[arg(long, global = true)]
    pub(crate) with_version: bool,

    /// What a write has to survive before it is answered; else what the database was opened with.
    #[arg(
        long,
        global = true,
        value_enum,
        ignore_case = true,
        value_name = "MODE"
    )]
    pub(crate) durability: Option<DurabilityArgument>,
}

/// A durability, as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArgument {
    /// Never logged: gone with the daemon.
    #[value(name = "in_memory", aliases = ["memory", "inmemory", "in-memory"])]
    Memory,
    /// The kernel has it: survives the daemon, not a power loss.
    Buffered,
    /// On disk: survives a power loss.
    Strict,
}

impl From<DurabilityArgument> for Durability {
    fn from(argument: DurabilityArgument) -> Self {
        match argument {
            DurabilityArgument::Memory => Self::InMemory,
            DurabilityArgument::Buffered => Self::Buffered,
            DurabilityArgument::Strict => Self::Strict,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Ask whether the daemon answers.
    #[command(after_help = "Examples:\n  inmem ping\n  inmem ping --json")]
    Ping,
    /// The state of the daemon: version, uptime, runs, keys, health, counters.
    #[command(after_help = "Examples:\n  inmem info\n  inmem info --json")]
    Info,
    /// What the daemon can do: operations, limits, modes.
    #[command(after_help = "Examples:\n  inmem capabilities\n  inmem capabilities --json")]
    Capabilities,
    /// Whether the daemon is fit: exit code 0 if nothing is wrong, 1 if something is.
    #[command(after_help = "Examples:\n  inmem health\n  inmem health --json")]
    Health,
    /// Counters, gauges and histograms in the Prometheus text format.
    #[command(after_help = "Examples:\n  inmem metrics\n  inmem metrics --json")]
    Metrics,
    /// Everything about the daemon: state, health, settings and their origin, runs, abilities.
    #[command(after_help = "Examples:\n  inmem describe\n  inmem describe --json")]
    Describe,
    /// Watch the daemon: requests, commits, syncs, sessions; `q` ends it.
    #[command(after_help = TOP_VIEW_EXAMPLES)]
    Top(TopArgs),
    /// Check this machine and an installation, and say what to change.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Examine the directory of a database that nobody has open: what is damaged, what is left.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(DirectoryArgs),
    /// Write what can be read of a damaged directory into a new one.
    #[command(after_help = REPAIR_EXAMPLES)]
    Repair(RepairArgs),
    /// A SHA-256 of everything in the directory of a database that nobody has open.
    #[command(after_help = DIGEST_EXAMPLES)]
    Digest(DirectoryArgs),
    /// Wait until everything acknowledged so far is on disk.
    #[command(after_help = "Examples:\n  inmem flush")]
    Flush,
    /// Take a snapshot now: the next start of the daemon begins with it.
    #[command(after_help = CHECKPOINT_EXAMPLES)]
    Checkpoint,
    /// Let go of the log that the newest snapshot has made superfluous.
    #[command(after_help = COMPACT_EXAMPLES)]
    Compact(CompactArgs),
    /// The snapshots there are: list them, remove one.
    #[command(subcommand)]
    Snapshots(SnapshotsCommand),
    /// Make a clone of the database, in the directory the daemon exports to.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Keys and values.
    #[command(subcommand)]
    Kv(KvCommand),
    /// Runs: begin, end, list, look at.
    #[command(subcommand)]
    Run(RunCommand),
    /// Transactions held open between commands; in the interactive shell and the pipe.
    #[command(subcommand)]
    Txn(TxnCommand),
    /// Several changes in one commit: all of them, or none.
    #[command(after_help = BATCH_EXAMPLES)]
    Batch(BatchArgs),
    /// Load a file of `{"key": ..., "value": ...}` lines.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Make completions for a shell, or the manual pages.
    #[command(subcommand)]
    Generate(GenerateCommand),
    /// Run a daemon; exactly `inmemd`.
    #[command(disable_help_flag = true)]
    Daemon(DaemonArgs),
    /// Show that nothing acknowledged is lost: eight workers, one daemon, `kill -9`, a proof.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// One worker of the demo.
    #[command(hide = true)]
    DemoWorker(DemoWorkerArgs),
    /// Measure the daemon: throughput and latency of puts and gets over its socket.
    #[command(after_help = bench::EXAMPLES)]
    Bench(BenchArgs),
    /// One process of the bench.
    #[command(hide = true)]
    BenchWorker(BenchWorkerArgs),

    /// `kv put`
    #[command(after_help = "Examples:\n  inmem set greeting hello")]
    Set(PutTtlArgs),
    /// `kv get`
    #[command(after_help = "Examples:\n  inmem set greeting hello\n  inmem get greeting")]
    Get(GetArgs),
    /// `kv mget`
    #[command(after_help = "Examples:\n  inmem mset a 1 b 2\n  inmem mget a b missing")]
    Mget(KeysArgs),
    /// `kv mset`
    #[command(after_help = "Examples:\n  inmem mset a 1 b 2.5 c true")]
    Mset(PairsArgs),
    /// `kv del`
    #[command(visible_alias = "delete")]
    #[command(after_help = "Examples:\n  inmem set old 1\n  inmem del old\n  inmem delete a b")]
    Del(DeleteArgs),
    /// `kv exists`
    #[command(after_help = "Examples:\n  inmem set greeting hello\n  inmem exists greeting")]
    Exists(KeysArgs),
    /// `kv incr`
    #[command(after_help = "Examples:\n  inmem incr visits\n  inmem incr visits 10")]
    Incr(IncrementArgs),
    /// `kv decr`
    #[command(after_help = "Examples:\n  inmem decr visits\n  inmem decr visits 10")]
    Decr(IncrementArgs),
    /// `kv history`
    #[command(after_help = "Examples:\n  inmem set greeting hello\n  inmem history greeting")]
    History(HistoryArgs),
    /// `run list`
    #[command(after_help = "Examples:\n  inmem runs\n  inmem runs --status active")]
    Runs(RunListArgs),
}

impl Command {
    /// The long form of a short one.
    pub(crate) fn canonical(self) -> Self {
        match self {
            Self::Set(args) => Self::Kv(KvCommand::Put(args)),
            Self::Get(args) => Self::Kv(KvCommand::Get(args)),
            Self::Mget(args) => Self::Kv(KvCommand::Mget(args)),
            Self::Mset(args) => Self::Kv(KvCommand::Mset(args)),
            Self::Del(args) => Self::Kv(KvCommand::Del(args)),
            Self::Exists(args) => Self::Kv(KvCommand::Exists(args)),
            Self::Incr(args) => Self::Kv(KvCommand::Incr(args)),
            Self::Decr(args) => Self::Kv(KvCommand::Decr(args)),
            Self::History(args) => Self::Kv(KvCommand::History(args)),
            Self::Runs(args) => Self::Run(RunCommand::List(args)),
            other => other,
        }
    }
}

/// What to do with a transaction.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TxnCommand {
    /// Begin: the commands that follow are part of it until it is committed or rolled back.
    #[command(after_help = TXN_EXAMPLES)]
    Begin(TxnBeginArgs),
    /// Commit: all of it happens, or none.
    #[command(after_help = TXN_EXAMPLES)]
    Commit,
    /// Roll back: nothing of it happens.
    #[command(after_help = TXN_EXAMPLES)]
    Rollback,
    /// What the daemon knows about the open transaction.
    #[command(after_help = TXN_EXAMPLES)]
    Info,
}

/// How a transaction begins.
#[derive(Debug, Clone, Args)]
pub(crate) struct TxnBeginArgs {
    /// Refuse writes.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Longest life of the transaction.
    #[arg(long, value_name = "MS")]
    pub(crate) timeout_ms: Option<u32>,
}

/// Where the changes of a batch are.
#[derive(Debug, Clone, Args)]
pub(crate) struct BatchArgs {
    /// A file with one change a line; `-` for standard input.
    #[arg(long, default_value = "-", value_name = "PATH")]
    pub(crate) file: PathBuf,
}

/// What to import, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The file; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) jsonl: PathBuf,
    /// Begin the run if there is none of this name.
    #[arg(long)]
    pub(crate) if_missing: bool,
    /// Entries in one commit.
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Import all of the file, whatever an import before has done.
    #[arg(long)]
    pub(crate) from_start: bool,
}

/// What to generate.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Completions for a shell, on standard output.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(GenerateCompletionsArgs),
    /// Manual pages, one for each command.
    #[command(after_help = MAN_EXAMPLES)]
    Man(GenerateManArgs),
}

/// For which shell.
#[derive(Debug, Clone, Args)]
pub(crate) struct GenerateCompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: ShellArgument,
}

/// A shell of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellArgument {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

/// Where the pages go.
#[derive(Debug, Clone, Args)]
pub(crate) struct GenerateManArgs {
    /// The directory; made if there is none. Pages of the same name in it are replaced.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Everything for the daemon.
#[derive(Debug, Clone, Args)]
pub(crate) struct DaemonArgs {
    /// The arguments of `inmemd`; see `inmem daemon --help`.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}

/// How to run the demo.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// How long the workers work, the interruption included.
    #[arg(long, default_value_t = 12, value_name = "S")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// The number the workers draw their work from; drawn and printed if not given.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Where to make the temporary directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Leave the temporary directory, with the database and the records of the workers.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Take one acknowledged commit out of what was recovered, to see the proof fail.
    #[arg(long, hide = true)]
    pub(crate) plant_loss: bool,
}

/// What a worker of the demo is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoWorkerArgs {
    /// Its number, from 0.
    #[arg(long)]
    pub(crate) worker: u32,
    /// The id of the run all share.
    #[arg(long)]
    pub(crate) shared_run: String,
    /// The id of its own run, if it has one.
    #[arg(long)]
    pub(crate) own_run: Option<String>,
    /// The number its work is drawn from.
    #[arg(long)]
    pub(crate) seed: u64,
    /// Where its record goes.
    #[arg(long)]
    pub(crate) record: PathBuf,
    /// It works until there is a file of this name.
    #[arg(long)]
    pub(crate) stop_file: PathBuf,
}

const TOP_EXAMPLES: &str = "\
Values: integer, float, true, false, null, \"quoted string\", {\"json\": [..]}, b64:<base64>;
any other word is a string.

Examples:
  inmem set greeting hello
  inmem get greeting
  inmem run begin agent-7 --if-missing
  inmem --run agent-7 set step 1
  printf 'kv put a 1\\nkv get a\\n' | inmem --json

Without a command: on a terminal an interactive shell, with --json the pipe.

Exit codes: 0 done; 1 negative answer (a condition that did not hold); 2 usage; 10 + number of
the error class; 30 no daemon; 31 outcome unknown; 32 other protocol; 130 interrupted.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  inmem generate completions bash > inmem.bash
  inmem generate completions zsh > _inmem
  inmem generate completions fish > inmem.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  inmem generate man man1";

const TXN_EXAMPLES: &str = "\
Examples:
  printf 'txn begin\\nkv put a 1\\nkv put b 2\\ntxn commit\\n' | inmem --json
  printf 'txn begin --read-only\\nkv get a\\ntxn info\\ntxn rollback\\n' | inmem --json";

const BATCH_EXAMPLES: &str = "\
One change a line, as JSON: {\"put\": KEY, \"value\": V}, {\"delete\": KEY},
{\"incr\": KEY, \"delta\": N}, {\"put_if_absent\": KEY, \"value\": V},
{\"cas\": KEY, \"value\": V, \"version\": N} or with \"expected\": V, and for what was read
{\"read\": KEY, \"version\": N}. A condition that does not hold is a conflict of the whole batch.

Examples:
  printf '{\"put\":\"a\",\"value\":1}\\n{\"incr\":\"n\",\"delta\":5}\\n' | inmem batch
  printf '{\"put\":\"a\",\"value\":1}\\n{\"delete\":\"b\"}\\n' | inmem --durability strict batch";

const IMPORT_EXAMPLES: &str = "\
Entries are put in the order of the file, so the last one of a key wins. Without --durability the
batches are Buffered and one flush at the end makes all of them durable.

An import that was ended early, by an error, a kill or the end of the daemon, goes on where it
stopped when the same command is given again: each commit puts, with its entries, the number of
lines imported so far and their digest under the key inmem.import/ and a digest of the path of the
file, in the same run. If one of those lines was changed since, the import is refused: put the line
back, or import all of the file with --from-start. The last commit removes the key, so that a file
that is imported as a whole is imported again when the command is given again. Standard input and
pipes have no such key: their import begins at the start, and puts the same values again.

Examples:
  printf '{\"key\":\"a\",\"value\":1}\\n{\"key\":\"b\",\"value\":[true]}\\n' > load.jsonl
  inmem import --jsonl load.jsonl --run loaded --if-missing
  inmem --run loaded get b";

const DEMO_EXAMPLES: &str = "\
Examples:
  inmem demo
  inmem demo --seconds 5 --keep";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_grammar_contradicts_itself_nowhere() {
        super::Cli::command().debug_assert();
    }
}
