//! What can be said to `top` and `doctor`.

use std::path::PathBuf;

use clap::Args;

/// How to watch.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopArgs {
    /// Print one frame, measured over one interval, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// Time between two frames.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    #[arg(value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub(crate) interval_ms: u64,
}

/// What to examine; as for the daemon, what is not said is where the daemon would look.
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// The data directory of the daemon.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The configuration file of the daemon.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

pub(crate) const TOP_VIEW_EXAMPLES: &str = "\
Examples:
  inmem top --once
  inmem top --once --interval-ms 200";

pub(crate) const DOCTOR_EXAMPLES: &str = "\
Exit code 1 if a check failed. Nothing is changed, and no daemon is needed.

Examples:
  inmem doctor --data-dir data || true
  inmem doctor --data-dir data --json || true";
