//! Transactions the server holds open between requests.
//!
//! A transaction belongs to the connection it began on and to one run. It reads at the version it
//! began at and sees its own writes. Promises that a dropped transaction is rolled back, and that
//! the closure form repeats what certainly did not commit and nothing else.

use std::thread;
use std::time::Duration;

use in_mem_ipc::request::txn::TxnBegin;
use in_mem_ipc::request::{DurabilityChoice, Operation, Request, RequestHeader};
use in_mem_ipc::response::ArchivedResponse;
use in_mem_model::{Durability, RunId};

use crate::answer;
use crate::error::{self, ClientError};
use crate::kv::Kv;
use crate::link::{Binding, lock};
use crate::results::Receipt;
use crate::retry::RetryPolicy;
use crate::runs::Run;
use crate::scope::Scope;

/// How a transaction runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionOptions {
    /// Refuse writes.
    pub read_only: bool,
    /// Longest life of the transaction; `None` for the server's limit. Rounded up to
    /// milliseconds.
    pub timeout: Option<Duration>,
    /// Durability of the commit; `None` for that of the run handle or session.
    pub durability: Option<Durability>,
    /// How the closure form is tried again.
    pub retry: RetryPolicy,
}

/// What a closure returned, and what its commit made.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// What the commit made; nothing was committed if nothing was written.
    pub receipt: Receipt,
}

/// What the server knows about an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionInfo {
    /// Its id in the session.
    pub txn_id: u64,
    /// The commit version it reads at.
    pub start_version: u64,
    /// When it began, microseconds since the epoch.
    pub started_at_us: u64,
    /// Operations it has seen.
    pub operation_count: u64,
    /// Whether it refuses writes.
    pub read_only: bool,
}

/// An open transaction. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    scope: Scope,
    run_id: RunId,
    start_version: u64,
    is_open: bool,
}

impl Transaction {
    pub(crate) fn begin(
        scope: &Scope,
        run_id: RunId,
        options: &TransactionOptions,
    ) -> Result<Self, ClientError> {
        if scope.repeat.is_some() {
            return Err(error::transaction_in_repeat(scope.header.client_sequence));
        }
        let timeout_us = options.timeout.map_or(0, |timeout| timeout.as_micros());
        let durability = options
            .durability
            .map_or(scope.header.durability, Into::into);
        let operation = Operation::TxnBegin(TxnBegin {
            read_only: options.read_only,
            timeout_ms: u32::try_from(timeout_us.div_ceil(1000)).unwrap_or(u32::MAX),
            durability,
        });
        let mut link = lock(&scope.link);
        let request = Request {
            header: scope.header,
            operation,
        };
        let (txn_id, start_version) =
            link.call(&request, Binding::Free, None, |answer| match answer {
                ArchivedResponse::TxnBegun(begun) => {
                    Ok((begun.txn_id.to_native(), begun.start_version.to_native()))
                }
                other => answer::done(other).and_then(|()| Err(error::wrong_shape())),
            })?;
        let binding = Binding::Connection(link.connection_number());
        drop(link);
        let header = RequestHeader {
            txn_id,
            durability: DurabilityChoice::Session,
            ..scope.header
        };
        let scope = Scope {
            link: scope.link.clone(),
            header,
            binding,
            repeat: None,
        };
        Ok(Self {
            scope,
            run_id,
            start_version,
            is_open: true,
        })
    }

    /// Runs a closure in a transaction, again after what certainly did not commit.
    pub(crate) fn run_closure<T, E: From<ClientError>>(
        scope: &Scope,
        run_id: RunId,
        options: &TransactionOptions,
        mut body: impl FnMut(&Self) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        let mut retry = 0;
        loop {
            let transaction = Self::begin(scope, run_id, options)?;
            let failure = match body(&transaction) {
                Ok(value) => match transaction.commit() {
                    Ok(receipt) => return Ok(Committed { value, receipt }),
                    Err(error) if error.is_worth_another_transaction() => E::from(error),
                    Err(error) => return Err(error.into()),
                },
                // The connection went with the transaction, so the closure could not finish.
                Err(failure) if !transaction.is_bound() => failure,
                // Dropped, the transaction is rolled back.
                Err(failure) => return Err(failure),
            };
            if options.retry.retry_count_max <= retry {
                return Err(failure);
            }
            thread::sleep(options.retry.delay(retry));
            retry += 1;
        }
    }

    /// The run as the transaction sees it. Changes of its status are part of the transaction.
    #[must_use]
    pub fn run(&self) -> Run {
        Run::new(self.scope.clone(), self.run_id)
    }

    /// The keys and values of the run as the transaction sees them. Its writes commit nothing by
    /// themselves.
    #[must_use]
    pub fn kv(&self) -> Kv {
        Kv::new(self.scope.clone())
    }

    /// The commit version the transaction reads at.
    #[must_use]
    pub const fn start_version(&self) -> u64 {
        self.start_version
    }

    /// What the server knows about the transaction.
    ///
    /// # Errors
    ///
    /// It is no longer open, or the connection was lost, and the transaction with it.
    pub fn info(&self) -> Result<TransactionInfo, ClientError> {
        self.scope.call(Operation::TxnInfo, |answer| match answer {
            ArchivedResponse::Txn(info) => Ok(TransactionInfo {
                txn_id: info.txn_id.to_native(),
                start_version: info.start_version.to_native(),
                started_at_us: info.started_at_us.to_native(),
                operation_count: info.operation_count.to_native(),
                read_only: info.read_only,
            }),
            other => answer::done(other).and_then(|()| Err(error::wrong_shape())),
        })
    }

    /// Commits: all of it happens, or none.
    ///
    /// # Errors
    ///
    /// Something the transaction read was changed since (`Conflict`), it is no longer open, or
    /// the connection was lost: then [`ClientError::outcome`] says whether it may have happened.
    pub fn commit(mut self) -> Result<Receipt, ClientError> {
        self.is_open = false;
        self.scope.call(Operation::TxnCommit, answer::written)
    }

    /// Rolls back: nothing of it happens.
    ///
    /// # Errors
    ///
    /// It was no longer open, or the connection was lost; nothing of it happens either way.
    pub fn rollback(mut self) -> Result<(), ClientError> {
        self.is_open = false;
        self.scope.call(Operation::TxnRollback, answer::done)
    }

    /// Whether the connection it began on is still there.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        lock(&self.scope.link).is_bound(self.scope.binding)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.is_open && self.is_bound() {
            // Whatever the answer, nothing of the transaction happens.
            let _ = self.scope.call(Operation::TxnRollback, answer::done);
        }
    }
}
