//! The retention policy of a run within an explicit transaction of that run.

use in_mem_model::{RetentionPolicy, Versioned};

use super::{POLICY_ENTITY, PolicyError, own_policy_at, policy_of, policy_value};
use crate::errors::CommitError;
use crate::transaction::TransactionContext;
use crate::version_node::VersionNode;
use crate::view::get_with;

impl TransactionContext {
    /// Makes `policy` that of the run when the transaction commits, together with all else it
    /// writes.
    ///
    /// # Errors
    /// When the transaction takes no writes.
    pub fn set_retention_policy(&mut self, policy: &RetentionPolicy) -> Result<(), CommitError> {
        self.check_writable()?;
        let value = policy_value(policy)?;
        let node = self.write_run()?.shard.node_with_value(value.as_bytes());
        self.operation_count += 1;
        self.written_len_bytes += POLICY_ENTITY.user_key.len() + value.as_bytes().len();
        self.record_write(POLICY_ENTITY.user_key, Some(node), None);
        Ok(())
    }

    /// Takes the run's own policy away when the transaction commits; false when there is none.
    ///
    /// # Errors
    /// As [`Self::set_retention_policy`].
    pub fn delete_retention_policy(&mut self) -> Result<bool, CommitError> {
        self.check_writable()?;
        let existed = match self.write_set.get(POLICY_ENTITY.user_key) {
            Some(own) => !own.is_delete,
            None => {
                let shard = &self.write_run()?.shard;
                get_with(shard, self.start_version, 0, POLICY_ENTITY, |found| {
                    found.is_some()
                })
            }
        };
        self.operation_count += 1;
        self.record_write(POLICY_ENTITY.user_key, None, None);
        Ok(existed)
    }

    /// The run's own policy: what the transaction has made it, else what its view sees. One that
    /// the transaction itself made has version 0. Not validated at commit.
    ///
    /// # Errors
    /// When the transaction is over, or the policy is none of this build.
    pub fn retention_policy(&mut self) -> Result<Option<Versioned<RetentionPolicy>>, PolicyError> {
        let gone = PolicyError::RunNotFound { run: self.run_id };
        self.check_active().map_err(|_| gone)?;
        self.operation_count += 1;
        let shard = &self.run().map_err(|_| gone)?.shard;
        let Some(own) = self.write_set.get(POLICY_ENTITY.user_key) else {
            return own_policy_at(shard, self.start_version);
        };
        let Some(node) = own.node.as_ref().filter(|_| !own.is_delete) else {
            return Ok(None);
        };
        let unreadable = |source| PolicyError::Unreadable {
            run: self.run_id,
            source,
        };
        Ok(Some(Versioned {
            value: policy_of(node.value()).map_err(unreadable)?,
            version: in_mem_model::Version::Txn(0),
            timestamp_us: 0,
            expires_at_us: None,
        }))
    }
}
