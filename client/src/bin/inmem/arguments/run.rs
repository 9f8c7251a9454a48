//! The verbs of `run`.

use clap::{Args, Subcommand, ValueEnum};
use in_mem_model::RunStatus;

use super::retention::RetentionCommand;

/// What to do with runs.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RunCommand {
    /// Begin a run.
    #[command(after_help = BEGIN_EXAMPLES)]
    Begin(RunBeginArgs),
    /// End a run well: Completed.
    #[command(visible_alias = "close")]
    #[command(after_help = "Examples:\n  inmem run begin ending\n  inmem run end ending")]
    End(RunArgs),
    /// End a run badly: Failed, with a message.
    #[command(
        after_help = "Examples:\n  inmem run begin failing\n  inmem run fail failing 'tool crashed'"
    )]
    Fail(RunReasonArgs),
    /// Abort a run: Failed, with the reason.
    #[command(
        after_help = ABORT_EXAMPLES
    )]
    Abort(RunReasonArgs),
    /// Cancel a run.
    #[command(
        after_help = "Examples:\n  inmem run begin cancelling\n  inmem run cancel cancelling"
    )]
    Cancel(RunArgs),
    /// Pause a run: it refuses writes.
    #[command(after_help = "Examples:\n  inmem run begin pausing\n  inmem run pause pausing")]
    Pause(RunArgs),
    /// Resume a paused or orphaned run.
    #[command(
        after_help = RESUME_EXAMPLES
    )]
    Resume(RunArgs),
    /// Archive a run: it is left out of listings.
    #[command(after_help = "Examples:\n  inmem run begin archiving\n  inmem run archive archiving")]
    Archive(RunArgs),
    /// List runs.
    #[command(
        after_help = LIST_EXAMPLES
    )]
    List(RunListArgs),
    /// The status of a run.
    #[command(
        after_help = "Examples:\n  inmem run begin looking --if-missing\n  inmem run status looking"
    )]
    Status(RunArgs),
    /// Whether there is a run.
    #[command(after_help = "Examples:\n  inmem run exists default\n  inmem run exists nobody")]
    Exists(RunArgs),
    /// Everything known about a run.
    #[command(visible_alias = "get")]
    #[command(
        after_help = SHOW_EXAMPLES
    )]
    Show(RunArgs),
    /// Runs that were active when their owner died.
    #[command(after_help = "Examples:\n  inmem run orphaned")]
    Orphaned,
    /// Add tags.
    #[command(
        after_help = "Examples:\n  inmem run begin tagging\n  inmem run tag tagging blue nightly"
    )]
    Tag(RunTagsArgs),
    /// Remove tags.
    #[command(
        after_help = UNTAG_EXAMPLES
    )]
    Untag(RunTagsArgs),
    /// Replace the metadata, an Object or null.
    #[command(
        after_help = METADATA_EXAMPLES
    )]
    Metadata(RunMetadataArgs),
    /// Which old versions of a run are kept.
    #[command(subcommand)]
    Retention(RetentionCommand),
}

/// How a run begins.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunBeginArgs {
    /// Its unique name; a nameless run has only its id.
    pub(crate) name: Option<String>,
    /// Answer with the run of this name if there is one.
    #[arg(long, requires = "name")]
    pub(crate) if_missing: bool,
    /// The run it belongs to.
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) parent: Option<String>,
    /// A tag; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// An Object as JSON.
    #[arg(long, value_name = "JSON")]
    pub(crate) metadata: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
}

/// Which run.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The run, by name or id; else that of --run.
    #[arg(value_name = "NAME|ID")]
    pub(crate) target: Option<String>,
}

/// Which run, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunReasonArgs {
    /// The run, by name or id, if --run does not name it; and the reason.
    #[arg(required = true, num_args = 1..=2, value_names = ["NAME|ID", "REASON"])]
    pub(crate) words: Vec<String>,
}

/// Which runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunListArgs {
    /// Only runs of this status.
    #[arg(long, value_enum)]
    pub(crate) status: Option<StatusArgument>,
    /// List archived runs too.
    #[arg(long)]
    pub(crate) all: bool,
    /// Most runs wanted; all of them unless given.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<u32>,
}

/// Which run, and tags.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunTagsArgs {
    /// The run, by name or id.
    #[arg(value_name = "NAME|ID")]
    pub(crate) target: String,
    /// The tags.
    #[arg(required = true)]
    pub(crate) tags: Vec<String>,
}

/// Which run, and metadata.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunMetadataArgs {
    /// The run, by name or id.
    #[arg(value_name = "NAME|ID")]
    pub(crate) target: String,
    /// An Object as JSON, or null.
    pub(crate) metadata: String,
}

/// A status, as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusArgument {
    /// Accepts writes.
    Active,
    /// Ended well.
    Completed,
    /// Ended with an error message.
    Failed,
    /// Ended on request.
    Cancelled,
    /// Refuses writes until resumed.
    Paused,
    /// Kept, left out of listings.
    Archived,
    /// Active when its owner died.
    Orphaned,
}

impl From<StatusArgument> for RunStatus {
    fn from(argument: StatusArgument) -> Self {
        match argument {
            StatusArgument::Active => Self::Active,
            StatusArgument::Completed => Self::Completed,
            StatusArgument::Failed => Self::Failed,
            StatusArgument::Cancelled => Self::Cancelled,
            StatusArgument::Paused => Self::Paused,
            StatusArgument::Archived => Self::Archived,
            StatusArgument::Orphaned => Self::Orphaned,
        }
    }
}

const BEGIN_EXAMPLES: &str = "\
Examples:
  inmem run begin agent-1
  inmem run begin agent-1 --if-missing
  inmem run begin agent-2 --parent agent-1 --tag nightly --metadata '{\"model\": \"m1\"}'
  inmem run begin";

const ABORT_EXAMPLES: &str = "\
Examples:
  inmem run begin aborting
  inmem run abort aborting 'not needed'";

const RESUME_EXAMPLES: &str = "\
Examples:
  inmem run begin resuming
  inmem run pause resuming
  inmem run resume resuming";

const LIST_EXAMPLES: &str = "\
Examples:
  inmem run list
  inmem run list --status active --limit 20
  inmem run list --all --json";

const SHOW_EXAMPLES: &str = "\
Examples:
  inmem run begin looking --if-missing
  inmem run show looking
  inmem run show default";

const UNTAG_EXAMPLES: &str = "\
Examples:
  inmem run begin untagging --tag blue
  inmem run untag untagging blue";

const METADATA_EXAMPLES: &str = "\
Examples:
  inmem run begin describing
  inmem run metadata describing '{\"model\": \"m1\"}'";
