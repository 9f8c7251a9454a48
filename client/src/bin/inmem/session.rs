//! What commands share: the client, the runs they named, the transaction they are in.
//!
//! One-shot use makes one for one command. The pipe keeps one, so that a transaction can stay
//! open from line to line, and remembers the runs it has found.

use std::collections::HashMap;

use in_mem_client::model::{Durability, RunId, SubCode};
use in_mem_client::{Client, ClientBuilder, Run, Transaction, TransactionOptions};

use crate::cli::arguments::{Options, TxnBeginArgs};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupts;

/// Runs remembered at most; past this all are forgotten and found again.
const RUN_COUNT_MAX: usize = 10_000;

/// The client and what belongs to it.
pub(crate) struct Session {
    builder: ClientBuilder,
    client: Option<Client>,
    /// The connection the runs were found over. A new server may have others.
    connection_number: u64,
    runs: HashMap<String, Run>,
    transaction: Option<Transaction>,
    /// What gives up the requests of a session of one command.
    interrupts: Option<Interrupts>,
}

impl Session {
    /// A session that connects when it is first used.
    pub(crate) fn new(builder: ClientBuilder) -> Self {
        Self {
            builder,
            client: None,
            connection_number: 0,
            runs: HashMap::new(),
            transaction: None,
            interrupts: None,
        }
    }

    /// A session of one command, which has begun.
    pub(crate) fn of_one_command(builder: ClientBuilder, interrupts: &Interrupts) -> Self {
        Self {
            interrupts: Some(interrupts.clone()),
            ..Self::new(builder.canceller(interrupts.canceller()))
        }
    }

    /// Waits for something else than the server. An interrupt meanwhile ends a process of one
    /// command at once: nothing of it is on its way.
    pub(crate) fn at_rest<T>(&self, wait: impl FnOnce() -> T) -> T {
        match &self.interrupts {
            Some(interrupts) => interrupts.at_rest(wait),
            None => wait(),
        }
    }

    /// The client, connected once.
    pub(crate) fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = self.builder.clone().connect()?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// A client of its own for one request that takes as long as it takes: the server is silent
    /// meanwhile, and only its end or an interrupt gives the request up.
    pub(crate) fn patient_client(&self) -> Result<Client, Failure> {
        Ok(self.builder.clone().silence_max(None).connect()?)
    }

    /// Whether a transaction is open.
    pub(crate) const fn has_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The open transaction.
    pub(crate) fn transaction(&self) -> Result<&Transaction, Failure> {
        self.transaction.as_ref().ok_or_else(no_transaction)
    }

    /// Takes the open transaction to end it.
    pub(crate) fn take_transaction(&mut self) -> Result<Transaction, Failure> {
        self.transaction.take().ok_or_else(no_transaction)
    }

    /// Begins the transaction the next commands are part of.
    pub(crate) fn begin_transaction(
        &mut self,
        options: &Options,
        args: &TxnBeginArgs,
    ) -> Result<u64, Failure> {
        if self.has_transaction() {
            return Err(Failure::refused(
                SubCode::TransactionAlreadyActive,
                "a transaction is open: commit it or roll it back first",
            ));
        }
        let transaction = self
            .named_run(options)?
            .begin_transaction(&TransactionOptions {
                read_only: args.read_only,
                timeout: args
                    .timeout_ms
                    .map(|ms| std::time::Duration::from_millis(ms.into())),
                durability: options.durability.map(Durability::from),
                ..TransactionOptions::default()
            })?;
        let start_version = transaction.start_version();
        self.transaction = Some(transaction);
        Ok(start_version)
    }

    /// Forgets a transaction whose connection was lost, and says whether there was one; nothing
    /// of it happened.
    pub(crate) fn drop_lost_transaction(&mut self) -> bool {
        let is_lost = |transaction: &mut Transaction| !transaction.is_bound();
        self.transaction.take_if(is_lost).is_some()
    }

    /// Fails if a transaction is open: for what cannot be part of one.
    pub(crate) fn refuse_in_transaction(&self, what: &str) -> Result<(), Failure> {
        if self.has_transaction() {
            return Err(Failure::refused(
                SubCode::NotInTransaction,
                &format!("{what} cannot be part of a transaction; one is open"),
            ));
        }
        Ok(())
    }

    /// The run a command acts in: that of the open transaction, else the named one.
    pub(crate) fn run(&mut self, options: &Options) -> Result<Run, Failure> {
        let Some(transaction) = &self.transaction else {
            return self.named_run(options);
        };
        let run = transaction.run();
        if options.run.is_some() && self.named_run(options)?.id() != run.id() {
            return Err(Failure::refused(
                SubCode::CrossRunWrite,
                "the open transaction belongs to another run",
            ));
        }
        Ok(run)
    }

    /// The run of the options, with their durability.
    fn named_run(&mut self, options: &Options) -> Result<Run, Failure> {
        let run = match &options.run {
            Some(name_or_id) => self.find_run(name_or_id)?,
            None => self.client()?.default_run(),
        };
        Ok(match options.durability {
            Some(durability) => run.with_durability(durability.into()),
            None => run,
        })
    }

    /// An existing run.
    pub(crate) fn find_run(&mut self, name_or_id: &str) -> Result<Run, Failure> {
        let client = self.client()?;
        if client.connection_number() != self.connection_number || RUN_COUNT_MAX <= self.runs.len()
        {
            self.runs.clear();
        }
        if let Some(run) = self.runs.get(name_or_id) {
            return Ok(run.clone());
        }
        let run = client.run(name_or_id)?;
        self.connection_number = client.connection_number();
        self.runs.insert(name_or_id.to_owned(), run.clone());
        Ok(run)
    }

    /// The id of an existing run.
    pub(crate) fn find_run_id(&mut self, name_or_id: &str) -> Result<RunId, Failure> {
        self.find_run(name_or_id).map(|run| run.id())
    }
}

fn no_transaction() -> Failure {
    Failure::refused(SubCode::TransactionNotActive, "no transaction is open")
}
