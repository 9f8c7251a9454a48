//! The verbs of `run retention`.

use clap::{Args, Subcommand};

/// What to do with the retention policy of a run.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Say which old versions are kept: keep-all, keep-last COUNT, keep-for AGE, or several.
    #[command(after_help = SET_EXAMPLES)]
    Set(PolicyArgs),
    /// The policy of a run, and what holds.
    #[command(
        after_help = "Examples:\n  inmem run retention get default\n  inmem --json run retention get"
    )]
    Get(RetentionArgs),
    /// Take the policy away: the default of the daemon holds.
    #[command(after_help = "Examples:\n  inmem run retention clear default")]
    Clear(RetentionArgs),
    /// Count what a policy would let go, and change nothing.
    #[command(
        after_help = "Examples:\n  inmem run retention preview default 'keep-last 10'\n  \
                      inmem run retention preview 'keep-for 7d'"
    )]
    Preview(PolicyArgs),
    /// Count the history of a run, and what of it the policy in force lets go.
    #[command(after_help = "Examples:\n  inmem run retention stats default")]
    Stats(RetentionArgs),
}

/// Which run.
#[derive(Debug, Clone, Args)]
pub(crate) struct RetentionArgs {
    /// The run, by name or id; else that of --run.
    #[arg(value_name = "NAME|ID")]
    pub(crate) target: Option<String>,
}

/// Which run, and a policy.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyArgs {
    /// The run, by name or id, if --run does not name it; and the policy, as one word.
    #[arg(required = true, num_args = 1..=2, value_names = ["NAME|ID", "POLICY"])]
    pub(crate) words: Vec<String>,
}

const SET_EXAMPLES: &str = "\
Examples:
  inmem run retention set default 'keep-last 10'
  inmem run retention set default 'keep-for 7d'
  inmem run retention set default 'union(keep-last 10, keep-for 7d)'
  inmem run retention set default 'composite(default keep-all, kv keep-last 3)'";
