//! The retention policy of a run: which of its old versions may go.
//!
//! A policy is stored in the run it governs and changes nothing by itself: a full compaction of the
//! database removes what the policy of each run lets go. The newest version of every key always
//! stays.
//!
//! ```no_run
//! use in_mem_client::{Client, model::RetentionPolicy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().connect()?;
//! let run = client.runs().open("agent-1")?;
//! let policy: RetentionPolicy = "union(keep-last 10, keep-for 7d)".parse()?;
//! let preview = run.retention_preview(&policy)?;
//! println!("{} of {} versions could go", preview.removable_count, preview.version_count);
//! run.set_retention(&policy)?;
//! # Ok(())
//! # }
//! ```

use in_mem_ipc::request::Operation;
use in_mem_ipc::request::retention::Policy;
use in_mem_ipc::response::ArchivedResponse;
use in_mem_model::{RetentionPolicy, Version, Versioned};

use crate::answer::{self, Answer};
use crate::error::{self, ClientError};
use crate::results::Receipt;
use crate::runs::Run;

/// What holds for a run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The policy of the run itself, with the version and the time of its last change; none if the
    /// default of the server holds.
    pub own: Option<Versioned<RetentionPolicy>>,
    /// What holds.
    pub effective: RetentionPolicy,
}

/// How much history a run has, and what of it a policy lets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionStats {
    /// The policy that was asked about.
    pub policy: RetentionPolicy,
    /// The highest commit version counted: the newest one published.
    pub watermark: u64,
    /// The moment for policies that look at ages, microseconds since the epoch.
    pub now_us: u64,
    /// Entities with at least one version, deleted ones included; not the metadata of the run and
    /// its policy, of which nothing ever goes.
    pub entity_count: u64,
    /// Their versions.
    pub version_count: u64,
    /// Tombstones among those.
    pub tombstone_count: u64,
    /// Bytes of the values of all versions.
    pub value_len_bytes: u64,
    /// Versions the policy lets go.
    pub removable_count: u64,
    /// Bytes of their values.
    pub removable_len_bytes: u64,
}

impl Run {
    /// Makes `policy` that of the run. An ordinary write: acknowledged at the durability of the
    /// handle, refused by a run that is not Active.
    ///
    /// # Errors
    ///
    /// `run_closed`, `run_not_found`; `volatile_dependency` where the write would be volatile and
    /// the database is not; or the connection was lost.
    pub fn set_retention(&self, policy: &RetentionPolicy) -> Result<Receipt, ClientError> {
        let policy = policy.to_string();
        let set = Operation::RunSetRetention(Policy {
            policy: policy.as_str().into(),
        });
        self.scope().call(set, answer::written)
    }

    /// Takes the policy of the run away: the default of the server holds again. The receipt is of
    /// version 0 when there was none.
    ///
    /// # Errors
    ///
    /// Those of [`Self::set_retention`].
    pub fn clear_retention(&self) -> Result<Receipt, ClientError> {
        self.scope()
            .call(Operation::RunClearRetention, answer::written)
    }

    /// The policy of the run, and what holds.
    ///
    /// # Errors
    ///
    /// `run_not_found`, or the server is lost.
    pub fn retention(&self) -> Result<Retention, ClientError> {
        self.scope().call(Operation::RunGetRetention, retention)
    }

    /// Counts the history of the run, and what of it the policy in force lets go. The server walks
    /// every version of the run; other requests go on.
    ///
    /// # Errors
    ///
    /// `run_not_found`, or the server is lost.
    pub fn retention_stats(&self) -> Result<RetentionStats, ClientError> {
        self.scope().call(Operation::RunRetentionStats, stats)
    }

    /// The same under another policy, as if it were in force. Changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Self::retention_stats`].
    pub fn retention_preview(
        &self,
        policy: &RetentionPolicy,
    ) -> Result<RetentionStats, ClientError> {
        let policy = policy.to_string();
        let preview = Operation::RunRetentionPreview(Policy {
            policy: policy.as_str().into(),
        });
        self.scope().call(preview, stats)
    }
}

fn retention(answer: &Answer) -> Result<Retention, ClientError> {
    let ArchivedResponse::Retention(found) = answer else {
        return Err(answer::other(answer));
    };
    let own = match found.own.as_ref() {
        None => None,
        Some(own) => Some(Versioned {
            value: policy(own.policy.as_str())?,
            version: Version::Txn(own.version.to_native()),
            timestamp_us: own.timestamp_us.to_native(),
            expires_at_us: None,
        }),
    };
    Ok(Retention {
        own,
        effective: policy(found.effective.as_str())?,
    })
}

fn stats(answer: &Answer) -> Result<RetentionStats, ClientError> {
    let ArchivedResponse::RetentionStats(found) = answer else {
        return Err(answer::other(answer));
    };
    Ok(RetentionStats {
        policy: policy(found.policy.as_str())?,
        watermark: found.watermark.to_native(),
        now_us: found.now_us.to_native(),
        entity_count: found.entity_count.to_native(),
        version_count: found.version_count.to_native(),
        tombstone_count: found.tombstone_count.to_native(),
        value_len_bytes: found.value_len_bytes.to_native(),
        removable_count: found.removable_count.to_native(),
        removable_len_bytes: found.removable_len_bytes.to_native(),
    })
}

fn policy(text: &str) -> Result<RetentionPolicy, ClientError> {
    text.parse().map_err(|_| error::wrong_shape())
}
