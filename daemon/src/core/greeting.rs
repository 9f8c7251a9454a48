//! The hello: what a session agrees on before its first request.

use in_mem_ipc::close::CloseReason;
use in_mem_ipc::hello::{Hello, HelloReply, HelloRun, Limit, choose_encoding, choose_version};
use in_mem_ipc::operation::OPERATIONS;
use in_mem_ipc::request::DurabilityChoice;
use in_mem_model::RunId;

use super::Core;
use crate::caller::ClientIdentity;
use crate::session::{Phase, Session};
use crate::store::{SERVER_VERSION, SessionRun};

/// Why a hello is refused.
type Refusal = (CloseReason, String);

impl Core {
    /// Refuses a peer that may not connect, before it said anything.
    pub(super) fn admit(&mut self, slot: u32) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let credentials = session.credentials;
        if !self.store.may_connect(credentials) {
            if let Some(suppressed) = self.stranger_lines.may_say(self.turn_us) {
                tracing::warn!(target: "ipc", ?credentials, suppressed, "a peer that may not connect");
            }
            let message = format!("user {} may not use this server", credentials.user);
            self.close_with(slot, CloseReason::PermissionDenied, message);
        }
    }

    /// Answers the hello, or closes with a reason.
    pub(super) fn on_hello(&mut self, slot: u32, body: &[u8]) {
        let answer = match Hello::decode(body) {
            Ok(hello) => self.agree(slot, &hello),
            Err(error) => Err((CloseReason::Malformed, error.to_string())),
        };
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let encoded = answer.and_then(|reply| {
            reply
                .encode(session.outbound.buffer())
                .map_err(|error| (CloseReason::Malformed, error.to_string()))
        });
        match encoded {
            Ok(()) => {
                session.phase = Phase::Open;
                session.deadline_us = None;
            }
            Err((reason, message)) => self.close_with(slot, reason, message),
        }
    }

    fn agree(&mut self, slot: u32, hello: &Hello) -> Result<HelloReply, Refusal> {
        let mismatch = |message: &str| (CloseReason::ProtocolMismatch, message.to_owned());
        let version =
            choose_version(hello).ok_or_else(|| mismatch("no protocol version in common"))?;
        let encoding = choose_encoding(hello).ok_or_else(|| mismatch("no encoding in common"))?;
        let run = self.run_of(&hello.run)?;
        let client = self.identity_of(hello);
        if let Some(client) = client {
            self.displace(slot, client)?;
        }
        let store = &self.store;
        let mode = hello
            .durability
            .durability()
            .unwrap_or(store.settings.durability);
        let reply = HelloReply {
            protocol_version: version,
            encoding: encoding.to_wire(),
            server_version: SERVER_VERSION.to_owned(),
            features: Vec::new(),
            run_id: run.id().0,
            durability: mode.into(),
            durability_modes: vec![
                DurabilityChoice::InMemory,
                DurabilityChoice::Buffered,
                DurabilityChoice::Strict,
            ],
            operations: OPERATIONS.iter().map(|row| row.name.to_owned()).collect(),
            limits: store
                .limits()
                .into_iter()
                .map(|(name, value)| Limit {
                    name: name.to_owned(),
                    value,
                })
                .collect(),
            registered_at: client.map(|client| client.registered_at),
        };
        if let Some(session) = self.session_mut(slot) {
            session.encoding = encoding;
            session.caller.client = client;
            session.caller.run = run;
            session.caller.durability = mode;
        }
        Ok(reply)
    }

    /// Whose requests are to be remembered. A version counter from the future was another
    /// database's, or one that is lost: what was remembered then is gone as well.
    fn identity_of(&self, hello: &Hello) -> Option<ClientIdentity> {
        let version = self.store.database.version();
        hello.client_id.map(|id| ClientIdentity {
            id,
            registered_at: hello.registered_at.unwrap_or(version).min(version),
        })
    }

    /// Ends the earlier sessions of a client: what they had not started is never executed, so that
    /// the answer to a repeat stays true.
    fn displace(&mut self, slot: u32, client: ClientIdentity) -> Result<(), Refusal> {
        let Some(user) = self
            .session_mut(slot)
            .map(|session| session.credentials.user)
        else {
            return Ok(());
        };
        let is_earlier = |session: &Session| {
            let is_same = session.caller.client.is_some_and(|its| its.id == client.id);
            is_same && session.credentials.user == user
        };
        let earlier: Vec<(u32, u32)> = self
            .sessions
            .iter()
            .flatten()
            .filter(|session| is_earlier(session))
            .map(|session| (session.id.slot, session.commit_job_count))
            .collect();
        for (earlier_slot, _) in &earlier {
            let message = "another connection of this client id took its place".to_owned();
            self.close_with(*earlier_slot, CloseReason::Refused, message);
        }
        // What only reads may end when it likes: it takes nothing from the truth of an answer.
        let is_busy = earlier.iter().any(|(_, commit_count)| *commit_count != 0)
            || self
                .departed
                .iter()
                .any(|job| job.client_id == client.id && job.user == user);
        if is_busy {
            let message = "a request of an earlier connection of this client id is on its way; \
                           try again";
            return Err((CloseReason::Goodbye, message.to_owned()));
        }
        Ok(())
    }

    fn run_of(&self, run: &HelloRun) -> Result<SessionRun, Refusal> {
        let refused = |what: String| (CloseReason::Refused, what);
        let id = match run {
            HelloRun::Default => return Ok(self.store.default_run()),
            HelloRun::Id(id) => RunId(*id),
            HelloRun::Name(name) => self
                .store
                .resolve_run(name)
                .ok_or_else(|| refused(format!("there is no run named {name:?}")))?,
        };
        self.store
            .open_run(id)
            .ok_or_else(|| refused(format!("there is no run {id}")))
    }
}
