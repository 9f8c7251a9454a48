//! Starting requests, and answering them: on the reactor, on a worker, or when a commit is done.

use std::sync::Arc;

use in_mem_engine::{CommitError, Completion, CompletionSink, Outcome};
use in_mem_ipc::close::CloseReason;
use in_mem_ipc::codec::access_request;
use in_mem_ipc::frame::Frame;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::RequestHeader;
use in_mem_model::{Error, Outcome as CommitOutcome, Retry, RunId, SubCode};
use in_mem_wal::clock::{Clock, SystemClock};

use super::Core;
use super::commits::PendingCommit;
use super::durable::is_about_durable;
use super::frames::Flow;
use super::snapshots::is_about_snapshots;
use crate::answer;
use crate::dispatch::{self, Call, Out, Verdict};
use crate::inbound::OwnedFrame;
use crate::session::Session;
use crate::slow::{Steps, Subject};

impl Core {
    /// Starts a request, unless it has to wait or is too much for the reactor.
    pub(super) fn on_request(&mut self, slot: u32, frame: &Frame<'_>) -> Flow {
        let kind = match access_request(frame.body) {
            Ok(request) => request.operation.kind(),
            Err(error) => {
                self.close_with(slot, CloseReason::Malformed, error.to_string());
                return Flow::Done;
            }
        };
        self.store.metrics.request(kind);
        if self.is_draining() {
            self.refuse(slot, frame.header.request_id, kind, draining());
            return Flow::Done;
        }
        if is_about_durable(kind) {
            self.on_durable_request(slot, frame);
            return Flow::Done;
        }
        if is_about_snapshots(kind) {
            self.on_snapshot_request(slot, frame);
            return Flow::Done;
        }
        // Writes queue behind those that wait for room already.
        if kind.is_write() && !self.waiting_for_room.is_empty() {
            return Flow::Busy;
        }
        if dispatch::is_long(kind, frame.header.frame_len_bytes() as usize) {
            return Flow::Offload;
        }
        let steps = Steps::received(self.monotonic_us());
        self.handle_here(slot, frame, steps)
    }

    /// Starts a request again that waited for room in the log, which had been announced
    /// `room_count` times; false if it has to wait on.
    pub(super) fn restart(&mut self, slot: u32, frame: OwnedFrame, room_count: u64) -> bool {
        self.touch(slot);
        let flow = match frame.frame() {
            Some(whole) if dispatch::is_long_frame(&whole) => Flow::Offload,
            Some(whole) => self.handle_here(slot, &whole, frame.steps),
            None => Flow::Done,
        };
        match flow {
            Flow::Done => true,
            Flow::Offload => {
                self.offload(slot, frame);
                true
            }
            Flow::Busy => {
                self.wait_for_room_again(slot, frame, room_count);
                false
            }
            // What waits was translated before.
            Flow::Translate | Flow::Kept => true,
        }
    }

    /// Handles a request on the reactor.
    fn handle_here(&mut self, slot: u32, frame: &Frame<'_>, mut steps: Steps) -> Flow {
        let Ok(request) = access_request(frame.body) else {
            return Flow::Done;
        };
        let kind = request.operation.kind();
        let request_id = frame.header.request_id;
        let frame_len_bytes = u64::from(frame.header.frame_len_bytes());
        let store = Arc::clone(&self.store);
        let now_us = self.monotonic_us();
        let header = request.header.to_native();
        let started_us = self.step_us();
        let Some(session) = self.session_mut(slot) else {
            return Flow::Done;
        };
        let id = session.id;
        let subject = Subject {
            operation: kind,
            run: run_of(&header, session),
            request_id,
            frame_len_bytes,
        };
        steps.started_us = started_us;
        let caller = &session.caller;
        let shape = dispatch::shape_of(&request.operation, || dispatch::begun_run(caller, &header));
        let token = kind.is_write().then(|| {
            let pending = PendingCommit::new(id, shape.clone(), subject, steps);
            self.pending.insert(pending)
        });
        let completion = token.map(|token| self.completion(token));
        let Some(session) = self.session_mut(slot) else {
            return Flow::Done;
        };
        let encoding = session.encoding;
        let mut out = Out::new(session.outbound.buffer(), encoding, request_id, kind);
        let answer_start = out.mark();
        let mut call = Call {
            store: &store,
            caller: &mut session.caller,
            header,
            body: frame.body,
            completion,
            shape,
            view: None,
            frame_len_bytes: frame.header.frame_len_bytes() as usize,
            now_us,
            is_worker: false,
            is_submitted: false,
        };
        let verdict = dispatch::handle(&mut call, &request.operation, &mut out);
        let answer_len_bytes = out.mark() - answer_start;
        if verdict == Verdict::Pending {
            session.started(frame_len_bytes);
        } else if let Some(token) = token {
            self.pending.end(token, verdict);
        }
        if self.slow.is_on() {
            steps.decided_us = self.step_us();
            match token.filter(|_| verdict == Verdict::Pending) {
                Some(token) => self.pending.note(token, steps),
                None => self.note_reply(verdict, &subject, &steps, answer_len_bytes),
            }
        }
        self.watch_transactions(slot);
        self.count_answer(slot, &subject, answer_len_bytes);
        match verdict {
            Verdict::Replied | Verdict::Pending | Verdict::GivenUp => Flow::Done,
            Verdict::Busy => Flow::Busy,
            Verdict::Offload => Flow::Offload,
        }
    }

    /// Writes down a request that was answered at once, if it was slow.
    fn note_reply(&mut self, verdict: Verdict, subject: &Subject, steps: &Steps, len_bytes: usize) {
        if verdict == Verdict::Replied {
            self.slow
                .answered(subject, steps, steps.decided_us, len_bytes);
        }
    }

    /// The time of a step: that of the turn, unless slow requests are looked for.
    pub(super) fn step_us(&self) -> u64 {
        if self.slow.is_on() {
            SystemClock.monotonic_us()
        } else {
            self.monotonic_us()
        }
    }

    /// Where the engine announces the end of a commit.
    pub(super) fn completion(&self, token: u64) -> Completion {
        let sink: Arc<dyn CompletionSink> = Arc::<super::commits::LogInbox>::clone(&self.log_inbox);
        Completion { sink, token }
    }

    /// Tells a client what became of its commit.
    pub(super) fn answer_commit(
        &mut self,
        pending: &PendingCommit,
        result: Result<Outcome, CommitError>,
    ) {
        let store = Arc::clone(&self.store);
        store.metrics.decided(&result);
        let took_us = self
            .monotonic_us()
            .saturating_sub(pending.steps.received_us);
        store.metrics.answered(&result, took_us);
        let answered_us = self.step_us();
        let Some(session) = self.session_of(pending.session) else {
            return;
        };
        session.finished(pending.subject.frame_len_bytes);
        let mut out = Out::new(
            session.outbound.buffer(),
            session.encoding,
            pending.subject.request_id,
            OperationKind::KvPut,
        );
        let answer_start = out.mark();
        match answer::of_commit(&store, &pending.shape, result) {
            Ok(response) => out.reply(&response),
            Err(error) => out.fail(error),
        }
        let len_bytes = out.mark() - answer_start;
        self.slow
            .answered(&pending.subject, &pending.steps, answered_us, len_bytes);
        self.touch(pending.session.slot);
    }

    /// Answers a request with an error without starting it.
    pub(super) fn refuse(&mut self, slot: u32, request_id: u64, kind: OperationKind, error: Error) {
        if let Some(session) = self.session_mut(slot) {
            let encoding = session.encoding;
            Out::new(session.outbound.buffer(), encoding, request_id, kind).fail(error);
        }
        self.touch(slot);
    }

    /// Sees to it that open transactions are looked at when they run out of time.
    pub(super) fn watch_transactions(&mut self, slot: u32) {
        let limits = self.store.limits_in_force();
        let deadline_us = self
            .session_mut(slot)
            .and_then(|session| session.caller.transactions.next_deadline_us(&limits));
        if let Some(deadline_us) = deadline_us {
            self.deadlines.arm(slot, deadline_us);
        }
    }
}

/// The run a request names, or that of its session.
pub(super) fn run_of(header: &RequestHeader, session: &Session) -> RunId {
    header
        .run
        .run_id()
        .unwrap_or_else(|| session.caller.run.id())
}

/// The refusal of everything that comes after the stop began.
pub(super) fn draining() -> Error {
    Error::new(
        SubCode::Unavailable,
        "the server is shutting down; nothing was done",
    )
    .with_outcome(CommitOutcome::NotCommitted)
    .with_retry(Retry::Later)
}
