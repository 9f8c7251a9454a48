//! What can be said about exports.

use clap::Args;

/// What to call the clone.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// A plain name inside the directory that the daemon exports to.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

pub(crate) const EXPORT_EXAMPLES: &str = "\
The daemon makes a clone of its database in the directory of its setting `export_dir`, while reads and
writes go on. When it returns, the clone was read back and is on disk; start a daemon on it to import
it. Take a checkpoint before if the log is long.

Examples:
  inmem checkpoint
  inmem export before-upgrade.inmem
  inmem export after-upgrade.inmem --json";
