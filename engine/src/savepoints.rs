//! Savepoints of a transaction: what it was about to write can be taken back to an earlier point.
//!
//! While a savepoint is open, every change of the write set leaves in a journal what was there
//! before; rolling back takes the journal back in reverse. Reads stay recorded: the caller has seen
//! them, and what it does next may depend on them.

use crate::errors::CommitError;
use crate::transaction::{TransactionContext, Write};
use crate::transaction_memory::{change_cost, node_cost, undo_cost, write_cost};

/// A point of one transaction to which its writes can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    number: u64,
}

/// The open savepoints of a transaction.
#[derive(Default)]
pub(crate) struct Savepoints {
    open: Vec<Mark>,
    journal: Vec<Undo>,
    /// Savepoints created over the life of the context, so that no number comes twice.
    created_count: u64,
}

struct Mark {
    number: u64,
    journal_len: usize,
    written_len_bytes: usize,
    has_run_change: bool,
}

/// What takes one change of the write set back.
pub(crate) enum Undo {
    /// The newest key was not in the set.
    Remove,
    /// The key at this place held another write.
    Restore(usize, Write),
}

impl Savepoints {
    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.journal.clear();
    }

    /// What the steps back of a transaction take, bytes.
    #[cfg(test)]
    pub(crate) fn journal_cost(&self) -> u64 {
        self.journal.iter().map(undo_cost).sum()
    }

    fn find(&self, savepoint: Savepoint) -> Result<usize, CommitError> {
        let is_it = |mark: &Mark| mark.number == savepoint.number;
        let place = self.open.iter().position(is_it);
        place.ok_or(CommitError::InvalidArgument {
            what: "no such savepoint: released, or rolled back over",
        })
    }
}

impl TransactionContext {
    /// Notes how one change of the write set is taken back, while a savepoint is open.
    pub(crate) fn journal(&mut self, undo: Undo) {
        if !self.savepoints.open.is_empty() {
            self.hold(undo_cost(&undo));
            self.savepoints.journal.push(undo);
        }
    }

    /// Takes the newest change of the write set back.
    fn take_back(&mut self, undo: Undo) {
        self.let_go(undo_cost(&undo));
        match undo {
            Undo::Remove => {
                let newest = self.write_set.len().saturating_sub(1);
                let taken = self.write_set.at(newest);
                let cost = taken.map_or(0, |(key, write)| write_cost(key) + node_cost(write));
                self.write_set.remove_newest();
                self.let_go(cost);
            }
            Undo::Restore(index, before) => {
                self.hold(node_cost(&before));
                let write = self.write_set.value_at_mut(index);
                let replaced = write.map(|write| std::mem::replace(write, before));
                self.let_go(replaced.as_ref().map_or(0, node_cost));
            }
        }
    }

    /// Marks the point reached. Savepoints nest; a commit and a rollback end them all.
    ///
    /// # Errors
    /// When the transaction is over.
    pub fn savepoint(&mut self) -> Result<Savepoint, CommitError> {
        self.check_active()?;
        let savepoints = &mut self.savepoints;
        savepoints.created_count += 1;
        savepoints.open.push(Mark {
            number: savepoints.created_count,
            journal_len: savepoints.journal.len(),
            written_len_bytes: self.written_len_bytes,
            has_run_change: self.run_change.is_some(),
        });
        Ok(Savepoint {
            number: savepoints.created_count,
        })
    }

    /// Takes back what was written since the savepoint, which stays open; later ones are gone.
    /// What was read since then is still validated by the commit.
    ///
    /// # Errors
    /// `InvalidArgument` when the savepoint is not open; when the transaction is over.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<(), CommitError> {
        self.check_active()?;
        let place = self.savepoints.find(savepoint)?;
        self.savepoints.open.truncate(place + 1);
        let Some(mark) = self.savepoints.open.last() else {
            return Ok(());
        };
        let (journal_len, has_run_change) = (mark.journal_len, mark.has_run_change);
        self.written_len_bytes = mark.written_len_bytes;
        while journal_len < self.savepoints.journal.len()
            && let Some(undo) = self.savepoints.journal.pop()
        {
            self.take_back(undo);
        }
        if !has_run_change && let Some(change) = self.run_change.take() {
            self.let_go(change_cost(&change));
        }
        Ok(())
    }

    /// Gives up the savepoint and later ones, and keeps what was written.
    ///
    /// # Errors
    /// As [`Self::rollback_to`].
    pub fn release(&mut self, savepoint: Savepoint) -> Result<(), CommitError> {
        self.check_active()?;
        let place = self.savepoints.find(savepoint)?;
        self.savepoints.open.truncate(place);
        if self.savepoints.open.is_empty() {
            let cost = self.savepoints.journal.iter().map(undo_cost).sum();
            self.savepoints.journal.clear();
            self.let_go(cost);
        }
        Ok(())
    }
}
