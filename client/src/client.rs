//! The client: where every call begins.
//!
//! A client is one session on one connection, made again when it is lost. Clones share it and
//! take turns; for calls that do not wait for each other, make several clients.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use in_mem_ipc::hello::{Hello, HelloRun};
use in_mem_ipc::request::Operation;
use in_mem_model::{Durability, RunId};

use crate::address::default_socket;
use crate::answer;
use crate::batch::Batch;
use crate::cancel::Canceller;
use crate::encoding::Encoding;
use crate::error::ClientError;
use crate::identity::Identity;
use crate::kv::Kv;
use crate::lane::Lane;
use crate::link::{Dial, Link, LinkOptions, lock};
use crate::observe::{self, HealthReport, ServerDescription};
use crate::pipeline::Pipeline;
use crate::retry::ReconnectPolicy;
use crate::runs::{Run, Runs};
use crate::scope::Scope;
use crate::server::{ServerCapabilities, ServerInfo, capabilities, info};

/// How long a client waits for a server that says nothing, unless told otherwise. Covers the
/// recovery of a server that was just started: it listens before it has recovered.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Who a client will be to the server.
#[derive(Debug, Clone, Copy)]
enum Chosen {
    /// One that nobody has seen.
    New,
    /// One that was there before.
    Kept(Identity),
    /// Nobody: its writes are not remembered.
    Nobody,
}

/// How a client connects.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    socket: PathBuf,
    run: HelloRun,
    durability: Option<Durability>,
    encoding: Encoding,
    name: String,
    silence_max: Option<Duration>,
    reconnect: ReconnectPolicy,
    canceller: Option<Canceller>,
    identity: Chosen,
    waits: bool,
}

impl ClientBuilder {
    fn new() -> Self {
        Self {
            socket: default_socket(),
            run: HelloRun::Default,
            durability: None,
            encoding: Encoding::Rkyv,
            name: String::new(),
            silence_max: Some(SILENCE_MAX),
            reconnect: ReconnectPolicy::default(),
            canceller: None,
            identity: Chosen::New,
            waits: false,
        }
    }

    /// The socket of the server; [`default_socket`] unless named.
    #[must_use]
    pub fn socket(mut self, path: impl AsRef<Path>) -> Self {
        path.as_ref().clone_into(&mut self.socket);
        self
    }

    /// The default run of the session, which must exist, by its name or, in the text form of
    /// one, its id.
    #[must_use]
    pub fn run(mut self, name_or_id: &str) -> Self {
        self.run = match name_or_id.parse::<RunId>() {
            Ok(id) => HelloRun::Id(id.0),
            Err(_) => HelloRun::Name(name_or_id.to_owned()),
        };
        self
    }

    /// The default durability of the session; that of the database unless named.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// How requests and answers are encoded on the wire; [`Encoding::Rkyv`] unless named. The
    /// results are the same.
    #[must_use]
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The name of the program, for those who look at the server.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// How long to wait for a server that says nothing; `None` for ever. A write that is given
    /// up has an unknown outcome.
    #[must_use]
    pub const fn silence_max(mut self, silence_max: Option<Duration>) -> Self {
        self.silence_max = silence_max;
        self
    }

    /// How a lost connection is made again.
    #[must_use]
    pub const fn reconnect(mut self, policy: ReconnectPolicy) -> Self {
        self.reconnect = policy;
        self
    }

    /// What another thread may give up the calls of this client with; nothing unless named.
    #[must_use]
    pub fn canceller(mut self, canceller: &Canceller) -> Self {
        self.canceller = Some(canceller.clone());
        self
    }

    /// Goes on as a client that was there before, over the end of a process: see [`Identity`].
    /// Unless named, a client is new.
    #[must_use]
    pub const fn identity(mut self, identity: Identity) -> Self {
        self.identity = Chosen::Kept(identity);
        self
    }

    /// Sends writes without a sequence, so that the server keeps nothing of them: one whose answer
    /// is lost is not repeated, and its outcome is unknown.
    #[must_use]
    pub const fn at_most_once(mut self) -> Self {
        self.identity = Chosen::Nobody;
        self
    }

    /// Waits for the first connection too, as the policy says, instead of giving up at once.
    #[must_use]
    pub const fn wait(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Connects, in one attempt unless told to wait.
    ///
    /// # Errors
    ///
    /// No server listens, it speaks another protocol, or it refuses this client or run.
    pub fn connect(self) -> Result<Client, ClientError> {
        let socket = self.socket.clone();
        self.connect_with(Box::new(move || UnixStream::connect(&socket)))
    }

    /// Connects, as [`Self::connect`] does, for a program that waits for many connections at once.
    /// The policy for lost connections covers the first connection only: a lane that is lost is
    /// not made again. A lane always speaks [`Encoding::Rkyv`], and sends its
    /// writes at most once.
    ///
    /// # Errors
    ///
    /// Those of [`Self::connect`].
    pub fn connect_lane(self) -> Result<Lane, ClientError> {
        let socket = self.socket.clone();
        self.encoding(Encoding::Rkyv)
            .at_most_once()
            .link_with(Box::new(move || UnixStream::connect(&socket)))?
            .into_lane()
    }

    /// Connects through another way to make a stream.
    pub(crate) fn connect_with(self, dial: Dial) -> Result<Client, ClientError> {
        let link = self.link_with(dial)?;
        Ok(Client {
            scope: Scope::new(link),
        })
    }

    pub(crate) fn link_with(self, dial: Dial) -> Result<Link, ClientError> {
        let encoding = in_mem_ipc::Encoding::from(self.encoding);
        // Not before: each client of one builder, copied or not, is another one.
        let identity = match self.identity {
            Chosen::New => Some(Identity::new()),
            Chosen::Kept(identity) => Some(identity),
            Chosen::Nobody => None,
        };
        let hello = Hello {
            encodings: vec![encoding.to_wire()],
            run: self.run,
            durability: self.durability.map(Into::into).unwrap_or_default(),
            client_id: identity.map(|identity| identity.client_id),
            registered_at: identity.and_then(|identity| identity.registered_at),
            client_name: self.name,
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Hello::default()
        };
        let silence_max = self.silence_max;
        let options = LinkOptions {
            dial,
            hello,
            encoding,
            identity,
            silence_max,
            reconnect: self.reconnect,
            canceller: self.canceller,
        };
        Link::connect(options, self.waits)
    }
}

/// A session with a server.
#[derive(Debug, Clone)]
pub struct Client {
    scope: Scope,
}

impl Client {
    /// A client of the server of this user, to be told more.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A handle on an existing run, by its name or, in the text form of one, its id.
    ///
    /// # Errors
    ///
    /// There is no such run, or the server is lost.
    pub fn run(&self, name_or_id: &str) -> Result<Run, ClientError> {
        self.runs().open(name_or_id)
    }

    /// A handle on the default run of the session.
    #[must_use]
    pub fn default_run(&self) -> Run {
        let id = RunId(lock(&self.scope.link).greeting().run_id);
        Run::new(self.scope.clone(), id)
    }

    /// The keys and values of the default run of the session.
    #[must_use]
    pub fn kv(&self) -> Kv {
        Kv::new(self.scope.clone())
    }

    /// The runs of the database.
    #[must_use]
    pub fn runs(&self) -> Runs {
        Runs::new(self.scope.clone())
    }

    /// Requests in the default run that are queued and sent together.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self.scope.clone())
    }

    /// Changes of the default run that happen together or not at all, sent as one request.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.scope.clone())
    }

    /// Asks whether the server answers.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn ping(&self) -> Result<(), ClientError> {
        self.scope.call(Operation::SystemPing, answer::done)
    }

    /// The state of the server.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn info(&self) -> Result<ServerInfo, ClientError> {
        self.scope.call(Operation::SystemInfo, info)
    }

    /// What the server can do.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn capabilities(&self) -> Result<ServerCapabilities, ClientError> {
        self.scope.call(Operation::SystemCapabilities, capabilities)
    }

    /// Whether the server is fit for its work, and everything that is wrong with it.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn health(&self) -> Result<HealthReport, ClientError> {
        self.scope.call(Operation::SystemHealth, observe::health)
    }

    /// The counters, gauges and histograms of the server in the Prometheus text format, version
    /// 0.0.4.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn metrics(&self) -> Result<String, ClientError> {
        self.scope.call(Operation::SystemMetrics, observe::metrics)
    }

    /// Everything about the server in one answer. Counts the keys of up to 100 runs, which takes
    /// as long as there are keys.
    ///
    /// # Errors
    ///
    /// The server is lost.
    pub fn describe(&self) -> Result<ServerDescription, ClientError> {
        self.scope
            .call(Operation::SystemDescribe, observe::description)
    }

    /// Waits until everything acknowledged so far, to anybody, is on disk: a power loss takes none
    /// of it. For what this caller wrote alone see [`Self::pass`].
    ///
    /// # Errors
    ///
    /// The log is poisoned, or the server is lost.
    pub fn flush(&self) -> Result<(), ClientError> {
        self.scope.call(Operation::DbFlush, answer::done)
    }

    pub(crate) const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Who the server takes this client for, to be written down before a write is sent and given to
    /// [`ClientBuilder::identity`] after the end of the process. None when the client sends its
    /// writes at most once. It changes when the server has forgotten the client, which is told by
    /// an error of sub-code `session_expired`.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        lock(&self.scope.link).identity()
    }

    /// A client whose writes carry this sequence: for one write, the one that had the sequence when
    /// it was sent and not answered, with the same parameters and in the same run. If it was
    /// committed, its answer comes again; else it is executed now, and is as durable as it says.
    ///
    /// An error speaks of the write, not of this attempt: whatever kept the repeat from its answer
    /// (no daemon, a lost connection, a refusal before the server has looked), the outcome is
    /// `outcome_unknown`, and `not_committed` only when the server has looked and neither attempt
    /// committed anything. Such a write can be asked for again, of the same client or of another
    /// one of the same sequence.
    ///
    /// Reads are as always. Refused with `invalid_argument`, and without being sent, are a second
    /// write, also the same one after its answer, and a transaction; the server refuses so a write
    /// that is another than the one with the sequence (`not_committed`), and one so old that its
    /// answer is forgotten (`outcome_unknown`).
    #[must_use]
    pub fn repeat(&self, sequence: u64) -> Self {
        Self {
            scope: self.scope.with_sequence(sequence),
        }
    }

    /// Counts the connections made, from 1. It grows when a lost one was made again.
    #[must_use]
    pub fn connection_number(&self) -> u64 {
        lock(&self.scope.link).connection_number()
    }
}
