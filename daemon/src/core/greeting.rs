//! The hello: what a session agrees on before its first request.

use in_mem_ipc::close::CloseReason;
use in_mem_ipc::hello::{Hello, HelloReply, HelloRun, Limit, choose_encoding, choose_version};
use in_mem_ipc::operation::OPERATIONS;
use in_mem_ipc::request::DurabilityChoice;
use in_mem_model::RunId;

use super::Core;
use crate::session::Phase;
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
            tracing::warn!(target: "ipc", ?credentials, "a peer that may not connect");
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
            registered_at: None,
        };
        if let Some(session) = self.session_mut(slot) {
            session.encoding = encoding;
            session.caller.run = run;
            session.caller.durability = mode;
        }
        Ok(reply)
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
