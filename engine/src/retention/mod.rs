//! The retention policy of each run: an ordinary KV entry of the run it governs, in the name space
//! of in-mem itself.
//!
//! So a policy commits, is logged, checkpointed, versioned and recovered like any other entry, and
//! MANIFEST knows nothing of it. Users neither see nor write the entry: keys below
//! [`SYSTEM_NAMESPACE`] are refused and left out of lists and counts; the operations here are the
//! only way to it. What a policy says is the model's, `model/src/retention/`; nothing is removed
//! here.
//!
//! Its value is the Bytes of [`RetentionPolicy::encode`].

mod stats;
mod transaction;

pub use stats::RetentionStats;

use in_mem_model::{
    EncodedValue, RetentionError, RetentionPolicy, RunId, SYSTEM_NAMESPACE, Value, Versioned,
    decode, encode,
};

use crate::database::Database;
use crate::errors::{CommitError, RunError};
use crate::index::KeyRef;
use crate::program::{Program, Step};
use crate::runs::Runs;
use crate::shard::RunShard;
use crate::version_node::{Found, VersionNode, VersionedRef};

/// The name of the entry within the system name space.
const POLICY_NAME: &str = "retention_policy";

const POLICY_KEY_LEN_BYTES: usize = SYSTEM_NAMESPACE.len() + POLICY_NAME.len();

/// The user key of the entry.
static POLICY_KEY: [u8; POLICY_KEY_LEN_BYTES] = policy_key();

const fn policy_key() -> [u8; POLICY_KEY_LEN_BYTES] {
    let mut key = [0; POLICY_KEY_LEN_BYTES];
    let (head, tail) = key.split_at_mut(SYSTEM_NAMESPACE.len());
    head.copy_from_slice(SYSTEM_NAMESPACE.as_bytes());
    tail.copy_from_slice(POLICY_NAME.as_bytes());
    key
}

/// The entry that holds the policy of a run, in that run.
pub(crate) const POLICY_ENTITY: KeyRef<'static> = KeyRef {
    tag: in_mem_model::TypeTag::Kv,
    user_key: &POLICY_KEY,
};

/// Why a policy could not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No such run.
    #[error("run {run} does not exist")]
    RunNotFound {
        /// The run.
        run: RunId,
    },
    /// What held at that version has been trimmed by a compaction.
    #[error("policies below version {earliest_retained} were trimmed, {requested} was asked for")]
    HistoryTrimmed {
        /// The commit version asked for.
        requested: u64,
        /// The lowest one of which the policy is still known.
        earliest_retained: u64,
    },
    /// What is stored is no policy this build knows: nothing may be removed under it.
    #[error("the policy of run {run} cannot be read")]
    Unreadable {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: RetentionError,
    },
}

impl From<RunError> for PolicyError {
    fn from(error: RunError) -> Self {
        let RunError::NotFound { run } = error;
        Self::RunNotFound { run }
    }
}

/// The value of the entry.
///
/// # Errors
/// Never for a policy that exists: it is shorter than a value may be.
pub fn policy_value(policy: &RetentionPolicy) -> Result<EncodedValue, CommitError> {
    Ok(encode(&Value::Bytes(policy.encode()))?)
}

impl Runs<'_> {
    /// Makes `policy` that of a run, and returns the version of the change. An ordinary commit of
    /// that run, with the durability of these operations: what holds for a put holds for it, so a
    /// run that is not Active refuses it. It takes no effect before a compaction whose watermark is
    /// at or above that version.
    ///
    /// # Errors
    /// `RunNotFound`; `RunClosed` when the run is not Active; `VolatileDependency` for a volatile
    /// change in a persistent database; as any commit.
    pub fn set_retention_policy(
        &self,
        run: RunId,
        policy: &RetentionPolicy,
    ) -> Result<u64, CommitError> {
        let value = policy_value(policy)?;
        self.commit_policy(run, Step::SetRetention(value.as_ref()))
    }

    /// Takes the run's own policy away, so that the default holds; returns the version of the
    /// change, 0 when there was none and nothing was changed.
    ///
    /// # Errors
    /// As [`Self::set_retention_policy`].
    pub fn delete_retention_policy(&self, run: RunId) -> Result<u64, CommitError> {
        self.commit_policy(run, Step::ClearRetention)
    }

    fn commit_policy(&self, run: RunId, step: Step<'_>) -> Result<u64, CommitError> {
        let program = Program {
            checks: &[],
            steps: &[step],
        };
        let done = self.database.run(run)?.commit(&program, self.options)?;
        Ok(done.version)
    }

    /// The run's own policy with its version and time; none when the default holds.
    ///
    /// # Errors
    /// When there is no such run, or the policy is none of this build.
    pub fn get_retention_policy(
        &self,
        run: RunId,
    ) -> Result<Option<Versioned<RetentionPolicy>>, PolicyError> {
        own_policy(&self.database.run(run)?.shard)
    }

    /// The run's own policy as it was at a commit version; none when the default held, whatever it
    /// was.
    ///
    /// # Errors
    /// As [`Self::get_retention_policy`]; `HistoryTrimmed` when that was trimmed.
    pub fn retention_policy_at(
        &self,
        run: RunId,
        version: u64,
    ) -> Result<Option<Versioned<RetentionPolicy>>, PolicyError> {
        let run = self.database.run(run)?;
        own_policy_at(&run.shard, version.min(run.shard.visible()))
    }

    /// What holds for a run now: its own policy, else the default of the database.
    ///
    /// # Errors
    /// As [`Self::get_retention_policy`].
    pub fn effective_retention_policy(&self, run: RunId) -> Result<RetentionPolicy, PolicyError> {
        let own = self.get_retention_policy(run)?;
        Ok(own.map_or_else(|| self.database.default_retention_policy(), |own| own.value))
    }
}

impl Database {
    /// What holds for runs without a policy of their own.
    #[must_use]
    pub fn default_retention_policy(&self) -> RetentionPolicy {
        self.inner.shared.default_retention.read().clone()
    }

    /// Replaces what holds for runs without a policy of their own, from the next compaction on. Not
    /// stored: whoever opens the database says it.
    pub fn set_default_retention_policy(&self, policy: RetentionPolicy) {
        *self.inner.shared.default_retention.write() = policy;
    }
}

/// What held for a run at `watermark`, at or below its visible version: its own policy there, else
/// `default`. May be asked from any thread, for as long as the version there is not trimmed.
pub(crate) fn policy_at(
    shard: &RunShard,
    watermark: u64,
    default: &RetentionPolicy,
) -> Result<RetentionPolicy, PolicyError> {
    let own = own_policy_at(shard, watermark)?;
    Ok(own.map_or_else(|| default.clone(), |own| own.value))
}

/// The run's own policy as published now.
fn own_policy(shard: &RunShard) -> Result<Option<Versioned<RetentionPolicy>>, PolicyError> {
    let read = shard.with_published(POLICY_ENTITY, |node| {
        node.map(VersionNode::versioned).and_then(policy_in)
    });
    readable(shard, read)
}

fn own_policy_at(
    shard: &RunShard,
    version: u64,
) -> Result<Option<Versioned<RetentionPolicy>>, PolicyError> {
    let read = shard
        .index
        .find(POLICY_ENTITY, version, |found| match found {
            Found::Version(node) => Ok(policy_in(node.versioned())),
            Found::Nothing => Ok(None),
            Found::Trimmed => Err(()),
        });
    let Ok(read) = read else {
        let floor = shard.index.trim_floor(POLICY_ENTITY);
        return Err(PolicyError::HistoryTrimmed {
            requested: version,
            earliest_retained: floor.unwrap_or(version),
        });
    };
    readable(shard, read)
}

type PolicyRead = Result<Versioned<RetentionPolicy>, RetentionError>;

/// The policy in a version of the entry; none when that says there is none.
fn policy_in(found: VersionedRef<'_>) -> Option<PolicyRead> {
    let policy = (!found.is_tombstone).then(|| policy_of(found.value))?;
    Some(policy.map(|value| Versioned {
        value,
        version: in_mem_model::Version::Txn(found.commit_version),
        timestamp_us: found.timestamp_us,
        expires_at_us: None,
    }))
}

fn readable(
    shard: &RunShard,
    read: Option<PolicyRead>,
) -> Result<Option<Versioned<RetentionPolicy>>, PolicyError> {
    read.transpose().map_err(|source| PolicyError::Unreadable {
        run: shard.run_id,
        source,
    })
}

/// The policy in the value of the entry.
fn policy_of(value: &[u8]) -> Result<RetentionPolicy, RetentionError> {
    match decode(value) {
        Ok(Value::Bytes(bytes)) => RetentionPolicy::decode(&bytes),
        _ => Err(RetentionError::Empty),
    }
}
