//! Runs: beginning them, finding them, moving one from status to status.

use in_mem_ipc::Text;
use in_mem_ipc::request::Operation;
use in_mem_ipc::request::run::{RunBegin, RunFailure, RunList, RunMetadata, RunName, RunTags};
use in_mem_model::{Durability, RunId, RunInfo, RunStatus, Value};

use crate::answer;
use crate::batch::Batch;
use crate::error::{self, ClientError};
use crate::kv::Kv;
use crate::pipeline::Pipeline;
use crate::results::{Cursor, Page, Receipt};
use crate::scope::Scope;
use crate::transaction::{Committed, Transaction, TransactionOptions};
use crate::value::encode;

/// The name of the default run.
const DEFAULT_NAME: &str = "default";

/// How a run begins.
#[derive(Debug, Clone, Default)]
pub struct RunOptions<'a> {
    /// Its unique name; none for a nameless run.
    pub name: Option<&'a str>,
    /// The run it belongs to, which must exist.
    pub parent: Option<RunId>,
    /// Its tags.
    pub tags: &'a [&'a str],
    /// An Object that describes it.
    pub metadata: Option<&'a Value>,
    /// What it is for.
    pub description: Option<&'a str>,
    /// Whether a taken name returns the run that has it instead of `already_exists`.
    pub if_missing: bool,
}

/// A run that was begun, or was there.
#[derive(Debug, Clone)]
pub struct Begun {
    /// A handle on the run.
    pub run: Run,
    /// What is known about it.
    pub info: RunInfo,
    /// What the commit made; nothing was committed if the run was there.
    pub receipt: Receipt,
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunListOptions<'a> {
    /// Only runs of this status.
    pub status: Option<RunStatus>,
    /// Whether archived runs are listed too.
    pub include_archived: bool,
    /// Most runs wanted; 0 for the server's limit.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<&'a Cursor>,
}

/// The runs of a database.
#[derive(Debug, Clone)]
pub struct Runs {
    scope: Scope,
}

impl Runs {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope }
    }

    /// The same, with another durability for its writes.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self::new(self.scope.with_durability(durability))
    }

    /// Begins a run.
    ///
    /// # Errors
    ///
    /// The name is taken or not valid, the parent does not exist, or the connection was lost.
    pub fn begin(&self, options: &RunOptions<'_>) -> Result<Begun, ClientError> {
        let operation = Operation::RunBegin(RunBegin {
            name: options.name.map(Text::from),
            parent: options.parent.map(|parent| parent.0),
            tags: options.tags.iter().map(|tag| Text::from(*tag)).collect(),
            metadata: options.metadata.map(encode).transpose()?,
            description: options.description.map(Text::from),
            if_missing: options.if_missing,
        });
        let (info, receipt) = self.scope.call(operation, answer::run_begun)?;
        // The sequence, if there was one, was that of the run's begin.
        let run = Run::new(self.scope.without_sequence().with_run(info.id), info.id);
        Ok(Begun { run, info, receipt })
    }

    /// A page of runs.
    ///
    /// # Errors
    ///
    /// The cursor is not of this session, or the server is lost.
    pub fn list(&self, options: RunListOptions<'_>) -> Result<Page<RunInfo>, ClientError> {
        let operation = Operation::RunList(RunList {
            status: options.status.map(|status| Some(status).into()),
            include_archived: options.include_archived,
            limit: options.limit,
            cursor: options
                .cursor
                .map(|cursor| cursor.as_bytes().into())
                .unwrap_or_default(),
        });
        self.scope.call(operation, answer::runs)
    }

    /// The runs that were Active when their owner died.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn orphaned(&self) -> Result<Vec<RunInfo>, ClientError> {
        Ok(self
            .scope
            .call(Operation::RunOrphaned, answer::runs)?
            .entries)
    }

    /// The id of the run with this name.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn resolve(&self, name: &str) -> Result<Option<RunId>, ClientError> {
        if name == DEFAULT_NAME {
            return Ok(Some(RunId::DEFAULT));
        }
        let operation = Operation::RunResolve(RunName { name: name.into() });
        self.scope.call(operation, answer::run_id)
    }

    /// A handle on an existing run, by its name or, in the text form of one, its id.
    ///
    /// # Errors
    ///
    /// There is no such run, or the server is lost.
    pub fn open(&self, name_or_id: &str) -> Result<Run, ClientError> {
        if let Ok(id) = name_or_id.parse::<RunId>() {
            let run = Run::new(self.scope.with_run(id), id);
            return if run.exists()? {
                Ok(run)
            } else {
                Err(error::run_not_found(name_or_id))
            };
        }
        match self.resolve(name_or_id)? {
            Some(id) => Ok(Run::new(self.scope.with_run(id), id)),
            None => Err(error::run_not_found(name_or_id)),
        }
    }
}

/// A handle on one run.
#[derive(Debug, Clone)]
pub struct Run {
    scope: Scope,
    id: RunId,
}

impl Run {
    pub(crate) const fn new(scope: Scope, id: RunId) -> Self {
        Self { scope, id }
    }

    /// Where its requests go.
    pub(crate) const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The id of the run.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.id
    }

    /// The same run, with another durability for its writes.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self::new(self.scope.with_durability(durability), self.id)
    }

    /// Its keys and values.
    #[must_use]
    pub fn kv(&self) -> Kv {
        Kv::new(self.scope.clone())
    }

    /// Requests in this run that are queued and sent together.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self.scope.clone())
    }

    /// Changes of this run that happen together or not at all, sent as one request.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.scope.clone())
    }

    /// Begins a transaction in this run.
    ///
    /// # Errors
    ///
    /// The run does not exist, the session has too many transactions, or the server is lost.
    pub fn begin_transaction(
        &self,
        options: &TransactionOptions,
    ) -> Result<Transaction, ClientError> {
        Transaction::begin(&self.scope, self.id, options)
    }

    /// Runs a closure in a transaction: commits when it returns `Ok`, rolls back when it returns
    /// `Err`. After a conflict, or a connection lost before the commit was sent, the closure runs
    /// again, as often as the options allow; so it must have no effect but through the
    /// transaction.
    ///
    /// # Errors
    ///
    /// Those of the closure; a conflict after the last retry; the commit failed. A commit whose
    /// outcome is unknown is never repeated.
    pub fn transaction<T, E: From<ClientError>>(
        &self,
        options: &TransactionOptions,
        body: impl FnMut(&Transaction) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        Transaction::run_closure(&self.scope, self.id, options, body)
    }

    /// Ends the run well: Active becomes Completed.
    ///
    /// # Errors
    ///
    /// The run is not Active or does not exist, or the connection was lost.
    pub fn end(&self) -> Result<Receipt, ClientError> {
        self.scope.call(Operation::RunEnd, answer::written)
    }

    /// Marks the run as failed.
    ///
    /// # Errors
    ///
    /// The status does not allow it, the message is empty, or the connection was lost.
    pub fn fail(&self, message: &str) -> Result<Receipt, ClientError> {
        let failure = RunFailure {
            message: message.into(),
        };
        self.scope
            .call(Operation::RunFail(failure), answer::written)
    }

    /// Aborts the run: Failed, with the reason.
    ///
    /// # Errors
    ///
    /// Those of [`Self::fail`].
    pub fn abort(&self, reason: &str) -> Result<Receipt, ClientError> {
        let failure = RunFailure {
            message: reason.into(),
        };
        self.scope
            .call(Operation::RunAbort(failure), answer::written)
    }

    /// Cancels the run.
    ///
    /// # Errors
    ///
    /// The status does not allow it, or the connection was lost.
    pub fn cancel(&self) -> Result<Receipt, ClientError> {
        self.scope.call(Operation::RunCancel, answer::written)
    }

    /// Pauses the run: it refuses writes until it is resumed.
    ///
    /// # Errors
    ///
    /// The status does not allow it, or the connection was lost.
    pub fn pause(&self) -> Result<Receipt, ClientError> {
        self.scope.call(Operation::RunPause, answer::written)
    }

    /// Resumes a paused or orphaned run.
    ///
    /// # Errors
    ///
    /// The status does not allow it, or the connection was lost.
    pub fn resume(&self) -> Result<Receipt, ClientError> {
        self.scope.call(Operation::RunResume, answer::written)
    }

    /// Archives the run: it is left out of listings.
    ///
    /// # Errors
    ///
    /// The status does not allow it, or the connection was lost.
    pub fn archive(&self) -> Result<Receipt, ClientError> {
        self.scope.call(Operation::RunArchive, answer::written)
    }

    /// The status of the run; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn status(&self) -> Result<Option<RunStatus>, ClientError> {
        self.scope.call(Operation::RunStatus, answer::run_status)
    }

    /// What is known about the run; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn info(&self) -> Result<Option<RunInfo>, ClientError> {
        self.scope.call(Operation::RunGet, answer::run)
    }

    /// Whether the run exists.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn exists(&self) -> Result<bool, ClientError> {
        self.scope.call(Operation::RunExists, answer::flag)
    }

    /// Replaces the metadata of the run, an Object or Null.
    ///
    /// # Errors
    ///
    /// The run is closed or does not exist, the value is neither, or the connection was lost.
    pub fn update_metadata(&self, metadata: &Value) -> Result<Receipt, ClientError> {
        let metadata = RunMetadata {
            metadata: encode(metadata)?,
        };
        self.scope
            .call(Operation::RunUpdateMetadata(metadata), answer::written)
    }

    /// Adds tags; those it has are ignored.
    ///
    /// # Errors
    ///
    /// The run is closed or does not exist, or the connection was lost.
    pub fn add_tags(&self, tags: &[&str]) -> Result<Receipt, ClientError> {
        self.scope
            .call(Operation::RunAddTags(run_tags(tags)), answer::written)
    }

    /// Removes tags; those it does not have are ignored.
    ///
    /// # Errors
    ///
    /// The run is closed or does not exist, or the connection was lost.
    pub fn remove_tags(&self, tags: &[&str]) -> Result<Receipt, ClientError> {
        self.scope
            .call(Operation::RunRemoveTags(run_tags(tags)), answer::written)
    }
}

fn run_tags<'a>(tags: &[&'a str]) -> RunTags<'a> {
    RunTags {
        tags: tags.iter().map(|tag| Text::from(*tag)).collect(),
    }
}
