//! What can be said to `check`, `repair` and `digest`.

use std::path::PathBuf;

use clap::Args;

/// Which directory to look at.
#[derive(Debug, Clone, Args)]
pub(crate) struct DirectoryArgs {
    /// The directory of a database that nobody has open.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) stored: StoredArgs,
}

/// How the data of a directory is stored.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoredArgs {
    /// The file with the key of a directory that is encrypted: 32 bytes, or 64 hexadecimal digits;
    /// yours or root's, and open to nobody else.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// What the data is stored with, for a directory whose MANIFEST is lost: it says so itself
    /// otherwise [default: identity]
    #[arg(long, value_name = "NAME")]
    pub(crate) codec: Option<String>,
}

/// What to repair, and where to.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepairArgs {
    /// The directory of a database that nobody has open; it is left as it is.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The directory to make: there must be nothing of that name, and a directory above it.
    #[arg(long, value_name = "DIR2")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) stored: StoredArgs,
}

pub(crate) const CHECK_EXAMPLES: &str = "\
Reads MANIFEST, every snapshot and every segment of the log, and the state into memory. Nothing is
changed. Exit code 0 if nothing is damaged, 1 if something is; 19 if it cannot be looked at: a daemon
has it open, or it cannot be read.

Examples:
  inmem check data || true
  inmem check data --json || true";

pub(crate) const REPAIR_EXAMPLES: &str = "\
Writes everything that was committed before the first damage into a new directory, and says what is
lost. DIR is left as it is; DIR2 appears whole or not at all. Start the daemon on DIR2 when what is
lost can be borne, else restore a backup. Exit code 0 if DIR2 was made, whatever is lost.

Examples:
  inmem repair data --output repaired || true
  inmem repair data --output repaired --json || true";

pub(crate) const DIGEST_EXAMPLES: &str = "\
A SHA-256 over everything logged that a reader can see, all retained versions included: equal for two
directories if they hold the same, whatever part is in a snapshot and whatever in the log.

Examples:
  inmem digest data || true
  inmem digest data --json || true";
