//! What an open transaction takes of the memory account: it is held from the operation that needs it
//! until it is taken back, or the transaction ends, however it ends.
//!
//! Reads and deletions are held and never refused; what would grow the data is refused as it is
//! asked for, where memory is at its limit, and the transaction goes on without it.

use crate::errors::CommitError;
use crate::limits::{
    TRANSACTION_READ_COST_BYTES, TRANSACTION_UNDO_COST_BYTES, TRANSACTION_WRITE_COST_BYTES,
    VERSION_COST_BYTES,
};
use crate::memory::MemoryUse;
use crate::run_change::RunChange;
use crate::savepoints::Undo;
use crate::transaction::{TransactionContext, Write};
use crate::version_node::VersionNode;

impl TransactionContext {
    /// The account, where there is a limit.
    fn memory(&self) -> Option<&MemoryUse> {
        let memory = &self.run.as_ref()?.inner.shared.store.memory;
        memory.is_limited().then_some(memory)
    }

    /// Refuses a write of so many bytes that the data has no memory for.
    pub(crate) fn check_growth(&self, len_bytes: usize) -> Result<(), CommitError> {
        match self.memory() {
            Some(memory) => {
                let costs = TRANSACTION_WRITE_COST_BYTES + VERSION_COST_BYTES;
                memory.check(costs + len_bytes as u64, 0)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn hold(&mut self, len_bytes: u64) {
        if let Some(memory) = self.memory() {
            memory.add(len_bytes);
            self.held_len_bytes += len_bytes;
        }
    }

    pub(crate) fn let_go(&mut self, len_bytes: u64) {
        if let Some(memory) = self.memory() {
            memory.remove(len_bytes);
            self.held_len_bytes = self.held_len_bytes.saturating_sub(len_bytes);
        }
    }

    /// The transaction is over, or its context goes.
    pub(crate) fn let_go_of_all(&mut self) {
        self.let_go(self.held_len_bytes);
        self.held_len_bytes = 0;
    }
}

impl Drop for TransactionContext {
    /// A context that is dropped instead of given back holds nothing either.
    fn drop(&mut self) {
        self.let_go_of_all();
    }
}

/// What a key that was read takes, bytes.
pub(crate) fn read_cost(key: &[u8]) -> u64 {
    TRANSACTION_READ_COST_BYTES + key.len() as u64
}

/// What a key that is to be written takes, without what is written, bytes.
pub(crate) fn write_cost(key: &[u8]) -> u64 {
    TRANSACTION_WRITE_COST_BYTES + key.len() as u64
}

/// What is to be written, bytes.
pub(crate) fn node_cost(write: &Write) -> u64 {
    let node = write.node.as_ref();
    node.map_or(0, |node| VERSION_COST_BYTES + node.value().len() as u64)
}

/// What a step back takes, bytes.
pub(crate) fn undo_cost(undo: &Undo) -> u64 {
    let kept = match undo {
        Undo::Remove => 0,
        Undo::Restore(_, before) => node_cost(before),
    };
    TRANSACTION_UNDO_COST_BYTES + kept
}

/// What a change of the run takes, bytes.
pub(crate) fn change_cost(change: &RunChange) -> u64 {
    TRANSACTION_WRITE_COST_BYTES + change.text_len_bytes() as u64
}
