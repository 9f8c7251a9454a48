//! Savepoints of a transaction: what it was about to write can be taken back to an earlier point.
//!
//! While a savepoint is open, every change of the write set leaves in a journal what was there
//! before; rolling back takes the journal back in reverse. Reads stay recorded: the caller has seen
//! them, and what it does next may depend on them.

use crate::errors::CommitError;
use crate::run_change::RunChange;
use crate::transaction::{TransactionContext, Write};

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
enum Undo {
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

    /// A key was added to the write set.
    pub(crate) fn added(&mut self) {
        if !self.open.is_empty() {
            self.journal.push(Undo::Remove);
        }
    }

    /// The write at `index` was replaced.
    pub(crate) fn replaced(&mut self, index: usize, before: Write) {
        if !self.open.is_empty() {
            self.journal.push(Undo::Restore(index, before));
        }
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
        while mark.journal_len < self.savepoints.journal.len() {
            match self.savepoints.journal.pop() {
                Some(Undo::Remove) => self.write_set.remove_newest(),
                Some(Undo::Restore(index, before)) => {
                    if let Some(write) = self.write_set.value_at_mut(index) {
                        *write = before;
                    }
                }
                None => break,
            }
        }
        self.written_len_bytes = mark.written_len_bytes;
        let has_run_change = mark.has_run_change;
        self.run_change = self
            .run_change
            .take()
            .filter(|_: &RunChange| has_run_change);
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
            self.savepoints.journal.clear();
        }
        Ok(())
    }
}
