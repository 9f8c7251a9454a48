//! What can be said about snapshots.

use clap::{Args, Subcommand, ValueEnum};

/// What to do with snapshots.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SnapshotsCommand {
    /// The snapshots there are, the oldest first.
    #[command(
        after_help = "Examples:\n  inmem checkpoint\n  inmem snapshots list\n  inmem snapshots list --json"
    )]
    List,
    /// Remove a snapshot; never the newest one, which the next start begins with.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(SnapshotsDeleteArgs),
}

/// Which one to remove.
#[derive(Debug, Clone, Args)]
pub(crate) struct SnapshotsDeleteArgs {
    /// Its number, as `snapshots list` tells it.
    #[arg(value_name = "ID")]
    pub(crate) id: u64,
}

/// What to let go of.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompactArgs {
    /// What to let go of.
    #[arg(long, value_enum, default_value_t = CompactModeArgument::WalOnly, value_name = "MODE")]
    pub(crate) mode: CompactModeArgument,
}

/// A mode, as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompactModeArgument {
    /// Segments of the log that every kept snapshot covers; nothing that can be read changes.
    #[value(name = "wal_only", alias = "wal-only")]
    WalOnly,
    /// Versions that the retention policy of their run lets go, and then what wal_only does.
    Full,
}

pub(crate) const CHECKPOINT_EXAMPLES: &str = "\
The daemon takes checkpoints by itself; this takes one now. Reads and writes go on meanwhile. When it
returns, the snapshot is on disk, and the next start of the daemon reads it and only the log behind
it.

Examples:
  inmem checkpoint
  inmem checkpoint --json";

pub(crate) const COMPACT_EXAMPLES: &str = "\
Examples:
  inmem checkpoint
  inmem compact
  inmem compact --mode wal_only --json
  inmem compact --mode full";

const DELETE_EXAMPLES: &str = "\
Exit code 1 if there is none of that number.

Examples:
  inmem snapshots delete 999 || true";
