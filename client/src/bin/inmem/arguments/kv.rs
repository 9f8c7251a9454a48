//! The verbs of `kv`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

/// What to do with keys and values.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KvCommand {
    /// Put a value: a new version, even of the same value.
    #[command(visible_alias = "set", after_help = PUT_EXAMPLES)]
    Put(PutTtlArgs),
    /// Get a value.
    #[command(after_help = GET_EXAMPLES)]
    Get(GetArgs),
    /// Delete keys; answers how many there were.
    #[command(visible_alias = "delete")]
    #[command(
        after_help = "Examples:\n  inmem kv put old 1\n  inmem kv del old\n  inmem kv del a b c"
    )]
    Del(DeleteArgs),
    /// Whether a key exists; of several keys, how many.
    #[command(
        visible_alias = "contains",
        after_help = "Examples:\n  inmem kv put a 1\n  inmem kv exists a\n  inmem kv exists a b"
    )]
    Exists(KeysArgs),
    /// Get several values at one point in time.
    #[command(after_help = "Examples:\n  inmem kv mset a 1 b 2\n  inmem kv mget a b missing")]
    Mget(KeysArgs),
    /// Put several values in one commit.
    #[command(after_help = "Examples:\n  inmem kv mset a 1 b 2.5 c '{\"deep\":[1,2]}'")]
    Mset(PairsArgs),
    /// Add to an integer; a missing key counts as 0.
    #[command(after_help = "Examples:\n  inmem kv incr visits\n  inmem kv incr visits 10")]
    Incr(IncrementArgs),
    /// Subtract from an integer; a missing key counts as 0.
    #[command(after_help = "Examples:\n  inmem kv decr stock\n  inmem kv decr stock 10")]
    Decr(IncrementArgs),
    /// Compare and swap: put a value only if what is there is as expected.
    #[command(after_help = CAS_EXAMPLES)]
    Cas(CasArgs),
    /// Put a value only if the key does not exist.
    #[command(after_help = "Examples:\n  inmem kv put-if-absent owner worker-3")]
    PutIfAbsent(PutArgs),
    /// Put a value and answer with the one before.
    #[command(after_help = "Examples:\n  inmem kv get-and-set leader worker-3")]
    GetAndSet(PutArgs),
    /// Delete a key and answer with its value.
    #[command(after_help = "Examples:\n  inmem kv put job 17\n  inmem kv get-and-delete job")]
    GetAndDelete(KeyArgs),
    /// List keys, sorted.
    #[command(visible_alias = "keys")]
    #[command(
        after_help = LIST_EXAMPLES
    )]
    List(ListArgs),
    /// One page of keys and values from a start key on, sorted.
    #[command(
        after_help = SCAN_EXAMPLES
    )]
    Scan(ScanArgs),
    /// Count keys.
    #[command(after_help = "Examples:\n  inmem kv count\n  inmem kv count user/")]
    Count(CountArgs),
    /// Versions of a key, newest first.
    #[command(
        after_help = HISTORY_EXAMPLES
    )]
    History(HistoryArgs),
    /// The newest version of a key.
    #[command(after_help = "Examples:\n  inmem kv put color red\n  inmem kv latest-version color")]
    LatestVersion(KeyArgs),
    /// When a key expires, microseconds since the epoch.
    #[command(
        after_help = "Examples:\n  inmem kv put token abc --ttl 10m\n  inmem kv expires-at token"
    )]
    ExpiresAt(KeyArgs),
}

/// A key.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// The key.
    pub(crate) key: String,
}

/// Keys.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeysArgs {
    /// The keys.
    #[arg(required = true)]
    pub(crate) keys: Vec<String>,
}

/// Keys to delete.
pub(crate) type DeleteArgs = KeysArgs;

/// A key, and a value from the command line or a file.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("source"))]
pub(crate) struct PutArgs {
    /// The key.
    pub(crate) key: String,
    /// The value, unless a file has it.
    // Required here and not by the group, whose members would stand before the key in the usage.
    #[arg(
        group = "source",
        required_unless_present = "file",
        allow_negative_numbers = true
    )]
    pub(crate) value: Option<String>,
    #[command(flatten)]
    pub(crate) file: FileArgs,
}

/// The same, of a value that may expire.
#[derive(Debug, Clone, Args)]
pub(crate) struct PutTtlArgs {
    #[command(flatten)]
    pub(crate) put: PutArgs,
    /// How long it lives, such as 90s, 12h or 7d (us, ms, s, m, h, d); else it stays.
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<String>,
}

/// A value in a file.
#[derive(Debug, Clone, Args)]
pub(crate) struct FileArgs {
    /// Take the value from a file; `-` for standard input.
    #[arg(long, group = "source", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// What the file holds.
    #[arg(long = "as", value_enum, default_value_t = FileContent::Text, requires = "file")]
    pub(crate) content: FileContent,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileContent {
    /// A string, as it is; it has to be UTF-8.
    Text,
    /// Bytes, as they are.
    Bytes,
    /// A value as JSON.
    Json,
}

/// Keys with values.
#[derive(Debug, Clone, Args)]
pub(crate) struct PairsArgs {
    /// Key and value, in turn.
    #[arg(required = true, num_args = 2.., allow_negative_numbers = true)]
    #[arg(value_names = ["KEY", "VALUE"])]
    pub(crate) pairs: Vec<String>,
}

/// What to get.
#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    /// The key.
    pub(crate) key: String,
    /// The newest value at or below this commit version.
    #[arg(long, value_name = "VERSION")]
    pub(crate) at: Option<u64>,
}

/// What to add to or subtract from.
#[derive(Debug, Clone, Args)]
pub(crate) struct IncrementArgs {
    /// The key.
    pub(crate) key: String,
    /// How much.
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) delta: i64,
}

/// What is expected, and what to put.
#[derive(Debug, Clone, Args)]
pub(crate) struct CasArgs {
    /// The key.
    pub(crate) key: String,
    /// The value to put; before it the value expected, if no option says what is expected.
    #[arg(required = true, num_args = 1..=2, allow_negative_numbers = true)]
    #[arg(value_names = ["EXPECTED", "VALUE"])]
    pub(crate) values: Vec<String>,
    /// Expect this version; 0: the key never existed.
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["absent", "expect"])]
    pub(crate) version: Option<u64>,
    /// Expect this value.
    #[arg(
        long,
        value_name = "VALUE",
        conflicts_with = "absent",
        allow_negative_numbers = true
    )]
    pub(crate) expect: Option<String>,
    /// Expect that the key does not exist.
    #[arg(long)]
    pub(crate) absent: bool,
}

/// What to list.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// Only keys that begin with this.
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// The same as PREFIX.
    #[arg(long = "prefix", value_name = "PREFIX", conflicts_with = "prefix")]
    pub(crate) prefix_option: Option<String>,
    /// Most keys wanted; all of them unless given.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<u32>,
    /// List the values too.
    #[arg(long)]
    pub(crate) values: bool,
}

/// What to scan.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScanArgs {
    /// Only keys that begin with this.
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// The same as PREFIX.
    #[arg(long = "prefix", value_name = "PREFIX", conflicts_with = "prefix")]
    pub(crate) prefix_option: Option<String>,
    /// Only keys from this one on.
    #[arg(long, default_value = "", value_name = "KEY")]
    pub(crate) start: String,
    /// Most keys wanted.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    pub(crate) limit: u32,
    /// Where the page before ended: the cursor it answered.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

/// What to count.
#[derive(Debug, Clone, Args)]
pub(crate) struct CountArgs {
    /// Only keys that begin with this.
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// The same as PREFIX.
    #[arg(long = "prefix", value_name = "PREFIX", conflicts_with = "prefix")]
    pub(crate) prefix_option: Option<String>,
}

/// Which versions.
#[derive(Debug, Clone, Args)]
pub(crate) struct HistoryArgs {
    /// The key.
    pub(crate) key: String,
    /// Most versions wanted; all of them unless given.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<u32>,
    /// Only versions below this one.
    #[arg(long, value_name = "VERSION")]
    pub(crate) before: Option<u64>,
}

const PUT_EXAMPLES: &str = "\
Examples:
  inmem kv put greeting hello
  inmem kv put count -3
  inmem kv put token abc --ttl 10m
  inmem kv put zip '\"04109\"'
  inmem kv put config '{\"retries\": 3, \"hosts\": [\"a\", \"b\"]}'
  inmem kv put blob b64:AAEC/w== --durability strict
  printf 'a long text' | inmem kv put text --file -";

const GET_EXAMPLES: &str = "\
Examples:
  inmem kv put greeting hello
  inmem kv get greeting
  inmem kv get greeting --with-version
  inmem kv get greeting --raw
  inmem kv get greeting --json";

const CAS_EXAMPLES: &str = "\
Examples:
  inmem kv cas color red --absent
  inmem kv cas color red blue
  inmem kv cas color green --expect blue
  inmem kv cas unborn 1 --version 0";

const LIST_EXAMPLES: &str = "\
Examples:
  inmem kv put user/1 ann
  inmem kv list
  inmem kv list user/ --values";

const SCAN_EXAMPLES: &str = "\
Examples:
  inmem kv put user/1 ann
  inmem kv scan user/ --limit 100
  inmem kv scan --start user/1 --limit 2";

const HISTORY_EXAMPLES: &str = "\
Examples:
  inmem kv put color red
  inmem kv put color blue
  inmem kv history color --limit 10";
