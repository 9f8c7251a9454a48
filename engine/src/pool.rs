//! Transactions over a database, with contexts pooled per thread.
//!
//! At most [`MAX_POOL_SIZE`] contexts of about 1 KiB rest per thread, emptied but with the memory
//! of their sets, as far as ordinary transactions need it. A context leaves its run when it is released, so that the pool keeps no database
//! alive and pins no version. Inside `transaction` a guard returns it, whatever happens.

use std::cell::RefCell;
use std::thread;
use std::time::Duration;

use in_mem_model::{Durability, RunId};

use crate::database::Database;
use crate::errors::{CommitError, DatabaseClosed};
use crate::limits::MAX_POOL_SIZE;
use crate::program::Outcome;
use crate::run::Run;
use crate::transaction::{TransactionContext, TransactionOptions};

thread_local! {
    static POOL: RefCell<Vec<TransactionContext>> = const { RefCell::new(Vec::new()) };
}

/// How often and how patiently a conflict is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first, count.
    pub retry_count_max: u32,
    /// Before the first retry, microseconds; doubled for each further one.
    pub delay_us_base: u64,
    /// At most, microseconds.
    pub delay_us_max: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retry_count_max: 10,
            delay_us_base: 50,
            delay_us_max: 10_000,
        }
    }
}

/// Pops a context or makes one, bound to `run`.
pub(crate) fn acquire(run: &Run, options: TransactionOptions) -> TransactionContext {
    let pooled = POOL.with_borrow_mut(Vec::pop);
    let mut context = pooled.unwrap_or_else(TransactionContext::empty);
    context.reset(run, options);
    context
}

/// Gives a context back, or drops it when the pool is full.
pub(crate) fn release(mut context: TransactionContext) {
    context.clear();
    context.read_set.trim();
    context.write_set.trim();
    POOL.with_borrow_mut(|pool| {
        if pool.len() < MAX_POOL_SIZE {
            pool.push(context);
        }
    });
}

/// Contexts that rest on this thread, count.
#[must_use]
pub fn pool_size() -> usize {
    POOL.with_borrow(Vec::len)
}

/// Drops the contexts that rest on this thread: for tests.
pub fn clear_pool() {
    POOL.with_borrow_mut(Vec::clear);
}

/// Returns its context to the pool, also when a closure panics.
struct PooledContext(Option<TransactionContext>);

impl Drop for PooledContext {
    fn drop(&mut self) {
        if let Some(context) = self.0.take() {
            release(context);
        }
    }
}

impl Run {
    /// Begins a transaction: reads the published version, assigns nothing.
    ///
    /// # Errors
    /// When the database is closed.
    pub fn begin(&self, options: TransactionOptions) -> Result<TransactionContext, DatabaseClosed> {
        if self.inner.shared.is_closed() {
            return Err(DatabaseClosed);
        }
        Ok(acquire(self, options))
    }

    /// Runs `body` in a transaction: commits on Ok, rolls back on Err.
    ///
    /// # Errors
    /// What `body` returned, or what the commit refused.
    pub fn transaction<T, E: From<CommitError>>(
        &self,
        options: TransactionOptions,
        body: impl FnOnce(&mut TransactionContext) -> Result<T, E>,
    ) -> Result<T, E> {
        let context = self.begin(options).map_err(CommitError::from)?;
        let mut pooled = PooledContext(Some(context));
        let Some(context) = &mut pooled.0 else {
            return Err(CommitError::Internal.into());
        };
        let value = body(context)?;
        context.commit()?;
        Ok(value)
    }
}

impl Database {
    /// Begins a transaction on a run.
    ///
    /// # Errors
    /// `RunNotFound`, and `Closed` once admission is closed.
    pub fn begin_transaction(&self, run: RunId) -> Result<TransactionContext, CommitError> {
        self.begin_transaction_with(run, TransactionOptions::default())
    }

    /// Begins a transaction on a run with options.
    ///
    /// # Errors
    /// As [`Self::begin_transaction`].
    pub fn begin_transaction_with(
        &self,
        run: RunId,
        options: TransactionOptions,
    ) -> Result<TransactionContext, CommitError> {
        if !self.is_open() {
            return Err(DatabaseClosed.into());
        }
        Ok(self.run(run)?.begin(options)?)
    }

    /// Commits a transaction and waits until its promise is met.
    ///
    /// # Errors
    /// As [`TransactionContext::commit`].
    pub fn commit_transaction(
        &self,
        context: &mut TransactionContext,
    ) -> Result<Outcome, CommitError> {
        context.commit()
    }

    /// Ends a transaction, rolling back what was not committed, and gives its context back.
    pub fn end_transaction(&self, context: TransactionContext) {
        release(context);
    }

    /// Runs `body` in a transaction on a run: commits on Ok, rolls back on Err.
    ///
    /// # Errors
    /// What `body` returned, or what the commit refused.
    pub fn transaction<T, E: From<CommitError>>(
        &self,
        run: RunId,
        body: impl FnOnce(&mut TransactionContext) -> Result<T, E>,
    ) -> Result<T, E> {
        let run = self.run(run).map_err(CommitError::from)?;
        run.transaction(TransactionOptions::default(), body)
    }

    /// Like [`Self::transaction`], with another durability; the default does not change.
    ///
    /// # Errors
    /// As [`Self::transaction`].
    pub fn transaction_with_durability<T, E: From<CommitError>>(
        &self,
        run: RunId,
        durability: Durability,
        body: impl FnOnce(&mut TransactionContext) -> Result<T, E>,
    ) -> Result<T, E> {
        let run = self.run(run).map_err(CommitError::from)?;
        let durability = Some(durability);
        run.transaction(
            TransactionOptions {
                durability,
                ..TransactionOptions::default()
            },
            body,
        )
    }

    /// Like [`Self::transaction`], and again after a conflict. `body` must be pure.
    ///
    /// # Errors
    /// As [`Self::transaction`]; the conflict, when it persists.
    pub fn transaction_with_retry<T>(
        &self,
        run: RunId,
        policy: RetryPolicy,
        mut body: impl FnMut(&mut TransactionContext) -> Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        let mut delay_us = policy.delay_us_base;
        for _ in 0..policy.retry_count_max {
            match self.transaction(run, &mut body) {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
            thread::park_timeout(Duration::from_micros(delay_us));
            delay_us = delay_us.saturating_mul(2).min(policy.delay_us_max);
        }
        self.transaction(run, body)
    }
}
