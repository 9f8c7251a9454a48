//! The open transactions of one session, and when they run out of time.
//!
//! A transaction rests at most the idle limit between requests and lives at most the total limit,
//! or the shorter time asked for at begin. One that ran out is rolled back where it is found, and
//! its id is unknown from then on. Dropping one rolls it back. Ids are never used again, so an id
//! of another session finds nothing here.

use std::collections::HashMap;

use in_mem_engine::TransactionContext;
use in_mem_model::{Durability, Error, SubCode};

use crate::config::Limits;
use crate::metrics::{Abort, LiveView};
use crate::shares::Taken;

/// One open transaction.
pub(crate) struct OpenTransaction {
    /// The engine's side.
    pub(crate) context: TransactionContext,
    /// The durability of its commit.
    pub(crate) durability: Durability,
    /// Whether it refuses writes.
    pub(crate) is_read_only: bool,
    /// Bytes of the requests it has seen: bounds what its commit has to encode.
    pub(crate) len_bytes: usize,
    /// Shorter than the total limit, if asked for, milliseconds; 0 otherwise.
    pub(crate) timeout_ms: u64,
    /// When it began and was used last, microseconds of the monotonic clock.
    pub(crate) begun_us: u64,
    pub(crate) used_us: u64,
    /// Counts it among the views held, and how it ends.
    pub(crate) view: LiveView,
    /// One of those that its user may have.
    pub(crate) _taken: Taken,
}

impl OpenTransaction {
    fn deadline_us(&self, limits: &Limits) -> u64 {
        let total_ms = match self.timeout_ms {
            0 => limits.transaction_total_ms,
            asked => asked.min(limits.transaction_total_ms),
        };
        let total_us = self.begun_us.saturating_add(total_ms.saturating_mul(1_000));
        let idle_us = self
            .used_us
            .saturating_add(limits.transaction_idle_ms.saturating_mul(1_000));
        total_us.min(idle_us)
    }
}

/// The open transactions of one session, by id.
#[derive(Default)]
pub(crate) struct Transactions {
    open: HashMap<u64, OpenTransaction>,
}

impl Transactions {
    /// Keeps a transaction that was begun.
    pub(crate) fn insert(
        &mut self,
        id: u64,
        transaction: OpenTransaction,
        limits: &Limits,
    ) -> Result<(), Error> {
        if self.open.len() as u64 >= limits.open_transaction_count_max {
            let message = format!(
                "a session has at most {} transactions",
                limits.open_transaction_count_max
            );
            return Err(Error::new(SubCode::ResourceExhausted, message));
        }
        self.open.insert(id, transaction);
        Ok(())
    }

    /// A transaction that is open and has time left; it is used now.
    pub(crate) fn use_one(
        &mut self,
        id: u64,
        now_us: u64,
        limits: &Limits,
    ) -> Result<&mut OpenTransaction, Error> {
        if self
            .open
            .get(&id)
            .is_some_and(|open| open.deadline_us(limits) <= now_us)
            && let Some(mut expired) = self.open.remove(&id)
        {
            expired.view.ends(Some(Abort::Expired));
        }
        let open = self.open.get_mut(&id).ok_or_else(|| not_active(id))?;
        open.used_us = now_us;
        Ok(open)
    }

    /// Forgets a transaction, rolling it back unless it was committed.
    pub(crate) fn remove(&mut self, id: u64) -> Option<OpenTransaction> {
        self.open.remove(&id)
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Rolls back everything.
    pub(crate) fn roll_back_all(&mut self) {
        self.open.clear();
    }

    /// Rolls back what ran out of time; how many.
    pub(crate) fn expire(&mut self, now_us: u64, limits: &Limits) -> usize {
        let before = self.open.len();
        self.open.retain(|_, open| {
            let is_live = now_us < open.deadline_us(limits);
            if !is_live {
                open.view.ends(Some(Abort::Expired));
            }
            is_live
        });
        before - self.open.len()
    }

    /// When the first of them runs out.
    pub(crate) fn next_deadline_us(&self, limits: &Limits) -> Option<u64> {
        self.open
            .values()
            .map(|open| open.deadline_us(limits))
            .min()
    }

    /// Lends one transaction to a worker, if it is open.
    pub(crate) fn lend(&mut self, id: u64) -> Self {
        Self {
            open: self.open.remove_entry(&id).into_iter().collect(),
        }
    }

    /// Takes back what a worker left of it.
    pub(crate) fn take_back(&mut self, lent: Self) {
        self.open.extend(lent.open);
    }
}

/// The refusal of an id that names no open transaction.
pub(crate) fn not_active(id: u64) -> Error {
    let message = format!("transaction {id} is unknown, ended or expired");
    Error::new(SubCode::TransactionNotActive, message)
}
