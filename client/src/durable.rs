//! Durability in the caller's hands: many fast writes, one fence, then the side effect.
//!
//! A Buffered write is answered when the kernel has it: a power loss may take it back for a while.
//! Whoever is about to do something that cannot be taken back waits first until what it rests on
//! is durable. Commit versions rise over the whole database and the log is synced in that order,
//! so one version stands for all writes at or below it.
//!
//! ```no_run
//! use in_mem_client::{Client, model::Durability};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().durability(Durability::Buffered).connect()?;
//! let mut pipeline = client.pipeline();
//! for step in 0..5_000 {
//!     pipeline.put(&format!("step/{step}"), &step)?;
//! }
//! let answers = pipeline.send()?;
//! // One sync for all five thousand; an error if any of them failed.
//! client.pass(&answers.fence()?)?;
//! // From here on no power loss takes any of them: now tell the world.
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use in_mem_ipc::request::db::{Unsubscribe, WaitDurable};
use in_mem_ipc::request::version::ArchivedTaggedVersion;
use in_mem_ipc::request::{Operation, RequestHeader};
use in_mem_ipc::response::{ArchivedReceipt, ArchivedResponse};
use in_mem_model::Level;

use crate::answer::{self, Answer};
use crate::client::Client;
use crate::connection::Known;
use crate::error::{self, ClientError};
use crate::link::{Binding, lock};
use crate::results::Receipt;
use crate::scope::Scope;

/// What a set of acknowledged writes needs to be durable: one commit version for all of them.
///
/// It is only as true as what was added: the receipt of every write that matters. See
/// [`Client::pass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fence {
    version: u64,
    volatile_version: Option<u64>,
}

impl Fence {
    /// A fence around nothing: passed at once.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: 0,
            volatile_version: None,
        }
    }

    /// Adds a write. One that committed nothing needs nothing.
    pub fn add(&mut self, receipt: &Receipt) {
        match receipt.level {
            None => {}
            Some(Level::Volatile) => self.volatile_version = Some(receipt.commit_version),
            // Also what is synced: it costs nothing, and a fence says how far it reaches.
            Some(Level::Logged | Level::Synced) => {
                self.version = self.version.max(receipt.commit_version);
            }
        }
    }

    /// The highest commit version of what was added; 0 if nothing of it was logged.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The commit version of a volatile (InMemory) write that was added, if there was one: such a
    /// fence is never passed.
    #[must_use]
    pub const fn volatile_version(&self) -> Option<u64> {
        self.volatile_version
    }

    /// Adds the write an answer tells of.
    pub(crate) fn add_answer(&mut self, answer: &Answer) -> Result<(), ClientError> {
        let receipt: &ArchivedReceipt = match answer {
            ArchivedResponse::Error(_) => return Err(error::from_server(answer)),
            ArchivedResponse::Written(receipt) => receipt,
            ArchivedResponse::Deleted(deleted) => &deleted.receipt,
            ArchivedResponse::Incremented(incremented) => &incremented.receipt,
            ArchivedResponse::Replaced(replaced) => &replaced.receipt,
            ArchivedResponse::RunBegun(begun) => &begun.receipt,
            ArchivedResponse::Batch(batch) => &batch.receipt,
            // A condition did not hold: nothing was written. Everything else writes nothing.
            _ => return Ok(()),
        };
        self.add(&answer::receipt_of(receipt));
        Ok(())
    }
}

impl Client {
    /// Waits until every logged commit of the database at or below `version` is durable, whoever
    /// made it: when this returns, a power loss takes none of them. The server syncs at once, so
    /// it takes about as long as one Strict write. Gives the durable version reached, which may be
    /// higher. Version 0, which a receipt without a commit carries, is durable.
    ///
    /// `within` bounds the wait, rounded up to microseconds, at most 71 minutes; without it the
    /// silence this client bears does.
    ///
    /// # Errors
    ///
    /// At once with `invalid_argument` when the version was never issued, and with `not_logged`
    /// when it is in no log: a volatile write, or one a crash took before the server started.
    /// Later with `wal_poisoned` when the log failed first, with `timeout` when the time was up,
    /// with `resource_exhausted` when too many wait already; or the server is lost.
    pub fn wait_durable(&self, version: u64, within: Option<Duration>) -> Result<u64, ClientError> {
        let deadline_us = within.map_or(0, |within| {
            u32::try_from(within.as_nanos().div_ceil(1_000)).unwrap_or(u32::MAX)
        });
        let mut scope = self.scope().clone();
        scope.header = RequestHeader {
            // 0 would be no deadline at all.
            deadline_us: if within.is_some() {
                deadline_us.max(1)
            } else {
                0
            },
            ..RequestHeader::default()
        };
        scope.call(Operation::DbWaitDurable(WaitDurable { version }), durable)
    }

    /// Waits until everything a fence was made of is durable; see [`Self::wait_durable`]. Gives
    /// the durable version reached; a fence around nothing is passed without asking.
    ///
    /// # Errors
    ///
    /// With `not_logged`, and without asking, when one of the writes was volatile; else those of
    /// [`Self::wait_durable`].
    pub fn pass(&self, fence: &Fence) -> Result<u64, ClientError> {
        if let Some(version) = fence.volatile_version {
            return Err(error::volatile(version));
        }
        if fence.version == 0 {
            return Ok(0);
        }
        self.wait_durable(fence.version, None)
    }

    /// Has the server tell, from now on and unasked, how far commits are durable. Only the newest
    /// version is told, and a client that does not look costs the server nothing. The watch lives
    /// as long as the connection; clones of this client share it and see the same.
    ///
    /// # Errors
    ///
    /// The log is poisoned, or the server is lost.
    pub fn watch_durable(&self) -> Result<DurableWatch, ClientError> {
        let scope = self.scope().clone();
        let (subscription_id, version) = scope.call(Operation::DbSubscribeDurable, subscribed)?;
        let connection = lock(&scope.link).connection_number();
        Ok(DurableWatch {
            scope: Scope {
                binding: Binding::Connection(connection),
                ..scope
            },
            subscription_id,
            version,
        })
    }
}

/// Follows how far the commits of a database are durable, as the server tells it.
#[derive(Debug)]
pub struct DurableWatch {
    scope: Scope,
    subscription_id: u64,
    version: u64,
}

impl DurableWatch {
    /// The newest durable version that has come; never waits for the server. Every logged commit
    /// at or below it survives a power loss. Nothing the server tells is lost by looking late.
    ///
    /// # Errors
    ///
    /// The log of the server failed, or the connection was lost: a new watch has to be made.
    pub fn newest(&mut self) -> Result<u64, ClientError> {
        self.look(Duration::ZERO)?;
        Ok(self.version)
    }

    /// Waits until the server has told that `version` is durable, and gives the newest version told;
    /// lower than `version` if the server told nothing newer for as long as `silence_max`. It asks
    /// for no sync: a Buffered commit is synced by the schedule of the server;
    /// [`Client::wait_durable`] does not wait for that. Clones of the client wait as long for their
    /// turn.
    ///
    /// # Errors
    ///
    /// Those of [`Self::newest`].
    pub fn wait(&mut self, version: u64, silence_max: Duration) -> Result<u64, ClientError> {
        while self.version < version {
            let before = self.version;
            self.look(silence_max)?;
            if self.version == before {
                break;
            }
        }
        Ok(self.version)
    }

    /// Ends the subscription, also that of watches of clones: it is one for each connection.
    ///
    /// # Errors
    ///
    /// The connection was lost, and the subscription with it.
    pub fn unsubscribe(self) -> Result<(), ClientError> {
        let subscription_id = self.subscription_id;
        let operation = Operation::DbUnsubscribe(Unsubscribe { subscription_id });
        self.scope.call(operation, answer::done)
    }

    fn look(&mut self, within: Duration) -> Result<(), ClientError> {
        let mut link = lock(&self.scope.link);
        let known = Known {
            subscription_id: self.subscription_id,
            version: self.version,
        };
        self.version = link.newest_push(self.scope.binding, known, within)?;
        Ok(())
    }
}

/// The durable version in an answer or a push.
pub(crate) fn durable(answer: &Answer) -> Result<u64, ClientError> {
    match answer {
        ArchivedResponse::Version(ArchivedTaggedVersion::Txn(version)) => Ok(version.to_native()),
        ArchivedResponse::Error(_) => Err(error::from_server(answer)),
        _ => Err(error::wrong_shape()),
    }
}

fn subscribed(answer: &Answer) -> Result<(u64, u64), ClientError> {
    match answer {
        ArchivedResponse::Subscribed(subscribed) => Ok((
            subscribed.subscription_id.to_native(),
            subscribed.durable_version.to_native(),
        )),
        ArchivedResponse::Error(_) => Err(error::from_server(answer)),
        _ => Err(error::wrong_shape()),
    }
}
