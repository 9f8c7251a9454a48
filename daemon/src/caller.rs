//! On whose behalf a request is handled: the part of a session that handlers see.

use in_mem_model::{Durability, Error, RunId, SubCode};

use crate::session::Credentials;
use crate::shares::Share;
use crate::store::{SessionRun, Store};
use crate::transactions::Transactions;

/// Who repeats requests, over whatever connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    /// Its client id.
    pub(crate) id: [u8; 16],
    /// The version counter when it was first greeted.
    pub(crate) registered_at: u64,
}

/// The defaults and the open transactions of one session.
pub(crate) struct Caller {
    /// Who it is.
    pub(crate) credentials: Credentials,
    /// What its user has taken of what all share.
    pub(crate) share: Share,
    /// The client its exactly-once requests belong to, if it named one.
    pub(crate) client: Option<ClientIdentity>,
    /// The default run.
    pub(crate) run: SessionRun,
    /// The durability of a write that asks for none.
    pub(crate) durability: Durability,
    /// What is open.
    pub(crate) transactions: Transactions,
    /// The run other than the default one that was asked for last.
    other_run: Option<SessionRun>,
}

impl Caller {
    /// The caller of a session before its hello.
    pub(crate) fn new(credentials: Credentials, store: &Store) -> Self {
        Self {
            credentials,
            share: store.shares.of(credentials.user),
            client: None,
            run: store.default_run(),
            durability: store.settings.durability,
            transactions: Transactions::default(),
            other_run: None,
        }
    }

    /// A run that a request names.
    pub(crate) fn other_run(&mut self, store: &Store, id: RunId) -> Result<&SessionRun, Error> {
        if id == self.run.id() {
            return Ok(&self.run);
        }
        if self.other_run.as_ref().is_none_or(|run| run.id() != id) {
            self.other_run = store.open_run(id);
        }
        self.other_run.as_ref().ok_or_else(|| {
            Error::new(SubCode::RunNotFound, format!("run {id} does not exist"))
                .with_detail("run", id.to_string())
        })
    }

    /// A caller that a worker takes along, with the one transaction its request is in.
    pub(crate) fn lend(&mut self, txn_id: u64) -> Self {
        Self {
            credentials: self.credentials,
            share: self.share.clone(),
            client: self.client,
            run: self.run.clone(),
            durability: self.durability,
            transactions: self.transactions.lend(txn_id),
            other_run: self.other_run.clone(),
        }
    }

    /// What a worker brings back.
    pub(crate) fn take_back(&mut self, lent: Self) {
        self.transactions.take_back(lent.transactions);
    }
}
