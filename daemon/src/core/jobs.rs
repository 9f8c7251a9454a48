//! Requests that a worker handles: what it takes along, and what it brings back.
//!
//! A job owns copies or moves of all it needs. A read takes its view along, so it answers as of
//! the moment it was started and nothing waits for it. A write, and anything in a transaction,
//! holds back the later requests of its session until it has been handed to the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use in_mem_engine::{Completion, ReadView};
use in_mem_ipc::codec::access_request;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::RequestHeader;
use in_mem_ipc::{Encoding, FrameBuffer};
use in_mem_model::{Error, Outcome as CommitOutcome, SubCode};
use in_mem_wal::clock::{Clock, SystemClock};

use super::Core;
use super::commits::PendingCommit;
use super::requests::run_of;
use crate::answer::Shape;
use crate::caller::Caller;
use crate::defect::Defect;
use crate::dispatch::{self, Call, Out, Verdict};
use crate::health;
use crate::inbound::OwnedFrame;
use crate::metrics::LiveView;
use crate::session::{Phase, Session, SessionId};
use crate::shares::{Bounds, Resource, Taken};
use crate::slow::Subject;
use crate::store::Store;
use crate::workers::{Lane, QUEUE_COUNT_MAX};

/// Requests of one user that wait for a worker, at most: half of all that may.
pub(super) const JOB_COUNT_PER_USER_MAX: u64 = QUEUE_COUNT_MAX as u64 / 2;

/// A request a worker is done with.
pub(super) struct JobDone {
    session: SessionId,
    subject: Subject,
    verdict: Verdict,
    /// The encoded answer, if there is one.
    answer: FrameBuffer,
    /// Empty when a defect took it.
    frame: OwnedFrame,
    token: Option<u64>,
    /// The transactions that were taken along; none when a defect took them: they are rolled back.
    caller: Option<Caller>,
    is_blocking: bool,
    may_commit: bool,
    /// What was reserved for its answer, and its place on the workers.
    room: Taken,
    _place: Taken,
    /// How often room in the log had been announced when it was started.
    room_count: u64,
}

/// A job of a client whose session is gone, and that may commit: as long as it is there, what it
/// will commit is not known, and a repeat of its request cannot be told the truth.
#[derive(Clone)]
pub(super) struct Departed {
    session: SessionId,
    pub(super) user: u32,
    pub(super) client_id: [u8; 16],
}

impl Departed {
    /// Those of a session that is going, one for each of its jobs that may commit.
    pub(super) fn of(session: &Session) -> impl Iterator<Item = Self> {
        let departed = session.caller.client.map(|client| Self {
            session: session.id,
            user: session.credentials.user,
            client_id: client.id,
        });
        let count = session.commit_job_count as usize;
        departed
            .into_iter()
            .flat_map(move |departed| std::iter::repeat_n(departed, count))
    }
}

/// A request on its way to a worker.
struct Job {
    store: Arc<Store>,
    frame: OwnedFrame,
    caller: Caller,
    encoding: Encoding,
    view: Option<ReadView>,
    completion: Option<Completion>,
    shape: Shape,
    now_us: u64,
    /// The longest answer there is room for, bytes.
    reply_len_bytes_max: u64,
    /// Counts the view among those held.
    live_view: Option<LiveView>,
    /// Somebody wants to know how long each step takes.
    notes_steps: bool,
}

impl Core {
    /// Gives a request to the workers, or has it wait until there is room for its reply.
    pub(super) fn offload(&mut self, slot: u32, frame: OwnedFrame) {
        let Some((kind, frame_len_bytes)) = kind_of(&frame) else {
            return;
        };
        if self.has_too_many_jobs(slot) {
            self.refuse_frame(slot, &frame, too_many_jobs());
            return;
        }
        match self.reserve_reply(slot, kind, frame_len_bytes) {
            Some(room) => self.start_job(slot, frame, room),
            None => self.await_reply_room(slot, frame, kind, frame_len_bytes),
        }
    }

    /// Gives a request to the workers whose reply has room.
    pub(super) fn start_job(&mut self, slot: u32, frame: OwnedFrame, room: Taken) {
        let store = Arc::clone(&self.store);
        let now_us = self.monotonic_us();
        let notes_steps = self.slow.is_on();
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let Some(head) = Head::of(&frame, &session.caller) else {
            return;
        };
        let id = session.id;
        let subject = head.subject(session);
        let is_blocking = head.kind.is_write() || head.txn_id != 0;
        let may_commit = head.may_commit();
        let encoding = session.encoding;
        let mut job = Job {
            store,
            frame,
            caller: session.caller.lend(head.txn_id),
            encoding,
            view: None,
            completion: None,
            shape: head.shape.clone(),
            now_us,
            reply_len_bytes_max: room.amount(),
            live_view: None,
            notes_steps,
        };
        if !is_blocking {
            job.take_live_view();
        }
        let reserved_len_bytes = room.amount();
        session.job_started(head.frame_len_bytes, reserved_len_bytes);
        let place = session.share.take(Resource::Jobs, 1);
        session.commit_job_count += u32::from(may_commit);
        session.is_blocked |= is_blocking;
        let token = head.kind.is_write().then(|| {
            let pending = PendingCommit::new(id, job.shape.clone(), subject, job.frame.steps);
            self.pending.insert(pending)
        });
        job.completion = token.map(|token| self.completion(token));
        let inbox = Arc::clone(&self.job_inbox);
        let room_count = self.log_inbox.room_count();
        let work = move || {
            let (verdict, answer, rest) = job.run_caught(&subject, may_commit);
            let (frame, caller) = rest.unzip();
            inbox.push(JobDone {
                session: id,
                subject,
                verdict,
                answer,
                frame: frame.unwrap_or_default(),
                token,
                caller,
                is_blocking,
                may_commit,
                room,
                _place: place,
                room_count,
            });
            inbox.wake();
        };
        let lane = dispatch::lane_of(head.kind);
        if self.workers.run(lane, Box::new(work)).is_err() {
            self.give_up_job(slot, &head, token, is_blocking, reserved_len_bytes);
        }
    }

    /// Has somebody look at what only the kernel knows of our health; the next turn hears of it.
    pub(crate) fn look_at_health(&self) {
        let (store, inbox) = (Arc::clone(&self.store), Arc::clone(&self.job_inbox));
        let look = move || {
            let before = health::state(&store);
            if health::look(&store).state != before {
                inbox.wake();
            }
        };
        // Looks that wait already come to the same.
        let _ = self.workers.run(Lane::Look, Box::new(look));
    }

    /// Takes what the workers finished.
    pub(super) fn take_finished_jobs(&mut self) {
        let mut done = std::mem::take(&mut self.jobs_done);
        self.job_inbox.take(&mut done);
        for job in done.drain(..) {
            self.finish_job(job);
        }
        self.jobs_done = done;
    }

    fn finish_job(&mut self, job: JobDone) {
        let JobDone {
            session: id,
            subject,
            verdict,
            answer,
            frame,
            ..
        } = job;
        match job.token {
            Some(token) if verdict == Verdict::Pending => self.pending.note(token, frame.steps),
            Some(token) => self.pending.end(token, verdict),
            None => {}
        }
        if verdict == Verdict::Replied {
            let now_us = self.step_us();
            self.slow
                .answered(&subject, &frame.steps, now_us, answer.len());
        }
        let is_draining = self.is_draining();
        // Of a session that is gone, the transaction that was taken along is rolled back here.
        let Some(session) = self.session_of(id) else {
            if job.may_commit {
                self.forget_departed(id);
            }
            return;
        };
        if let Some(caller) = job.caller {
            session.caller.take_back(caller);
        }
        session.job_count -= 1;
        session.commit_job_count -= u32::from(job.may_commit);
        session.reserved_len_bytes -= job.room.amount();
        if job.is_blocking {
            session.is_blocked = false;
        }
        if verdict != Verdict::Pending {
            session.finished(subject.frame_len_bytes);
        }
        if matches!(verdict, Verdict::Replied | Verdict::GivenUp) {
            session.outbound.append(answer);
            // Counted at its length from here on, and no longer at its longest.
            session.count_load();
        }
        drop(job.room);
        // A repeat over another connection may have been told already that nothing was committed.
        // A stop is the exception: it finishes what was started.
        let is_dropped = session.phase == Phase::Closing && !is_draining;
        if is_dropped {
            session.caller.transactions.roll_back_all();
        }
        if verdict == Verdict::Busy && !is_dropped {
            self.wait_for_room(id.slot, frame, job.room_count);
        }
        self.watch_transactions(id.slot);
        self.touch(id.slot);
    }

    /// A job of a session that is gone is done.
    pub(super) fn forget_departed(&mut self, id: SessionId) {
        let found = self.departed.iter().position(|job| job.session == id);
        if let Some(index) = found {
            self.departed.swap_remove(index);
        }
    }

    /// The workers have too much to do: the request is refused, nothing was done.
    fn give_up_job(
        &mut self,
        slot: u32,
        head: &Head,
        token: Option<u64>,
        is_blocking: bool,
        reserved_len_bytes: u64,
    ) {
        if let Some(token) = token {
            self.pending.remove(token);
        }
        if let Some(session) = self.session_mut(slot) {
            session.finished(head.frame_len_bytes);
            session.job_count -= 1;
            session.commit_job_count -= u32::from(head.may_commit());
            session.reserved_len_bytes -= reserved_len_bytes;
            if is_blocking {
                session.is_blocked = false;
            }
        }
        self.refuse(slot, head.request_id, head.kind, too_many_jobs());
    }

    /// Whether the user of a session has so much of the queue of the workers that others would not
    /// find a place.
    pub(super) fn has_too_many_jobs(&mut self, slot: u32) -> bool {
        let bounds = Bounds {
            all_max: QUEUE_COUNT_MAX as u64,
            user_max: JOB_COUNT_PER_USER_MAX,
        };
        self.session_mut(slot)
            .is_some_and(|session| !session.share.fit(&[Resource::Jobs], 1, bounds).is_there())
    }
}

/// The refusal of a request that finds no place on the workers.
pub(super) fn too_many_jobs() -> Error {
    let message = "too many long requests wait for a worker; nothing was done: try again when some \
                   of them are answered";
    Error::new(SubCode::ResourceExhausted, message)
        .with_outcome(CommitOutcome::NotCommitted)
        .with_detail("resource", "workers")
}

/// What a request is, and its size, bytes.
fn kind_of(frame: &OwnedFrame) -> Option<(OperationKind, u64)> {
    let frame = frame.frame()?;
    let request = access_request(frame.body).ok()?;
    let frame_len_bytes = u64::from(frame.header.frame_len_bytes());
    Some((request.operation.kind(), frame_len_bytes))
}

/// The answer to a request that a defect took, wherever it struck.
fn given_up(
    subject: &Subject,
    encoding: Encoding,
    may_commit: bool,
) -> (Verdict, FrameBuffer, Option<(OwnedFrame, Caller)>) {
    let kind = subject.operation;
    tracing::error!(target: "ipc", operation = kind.name(), "a worker panicked");
    let mut answer = FrameBuffer::new();
    Out::new(&mut answer, encoding, subject.request_id, kind).fail(dispatch::given_up(may_commit));
    let verdict = match may_commit {
        true => Verdict::GivenUp,
        false => Verdict::Replied,
    };
    (verdict, answer, None)
}

/// What the head of a request tells.
struct Head {
    header: RequestHeader,
    kind: OperationKind,
    request_id: u64,
    txn_id: u64,
    frame_len_bytes: u64,
    shape: Shape,
}

impl Head {
    fn of(frame: &OwnedFrame, caller: &Caller) -> Option<Self> {
        let frame = frame.frame()?;
        let request = access_request(frame.body).ok()?;
        Some(Self {
            header: request.header.to_native(),
            kind: request.operation.kind(),
            request_id: frame.header.request_id,
            txn_id: request.header.txn_id.to_native(),
            frame_len_bytes: u64::from(frame.header.frame_len_bytes()),
            shape: dispatch::shape_of(&request.operation, || {
                dispatch::begun_run(caller, &request.header.to_native())
            }),
        })
    }

    /// Whether something may be committed by it. Inside a transaction nothing is, up to its commit.
    fn may_commit(&self) -> bool {
        self.kind.is_write() && (self.txn_id == 0 || self.kind == OperationKind::TxnCommit)
    }

    fn subject(&self, session: &Session) -> Subject {
        Subject {
            operation: self.kind,
            run: run_of(&self.header, session),
            request_id: self.request_id,
            frame_len_bytes: self.frame_len_bytes,
        }
    }
}

impl Job {
    /// The view a read answers from, taken when it starts.
    fn take_view(&mut self) -> Option<ReadView> {
        let frame = self.frame.frame()?;
        let header = access_request(frame.body).ok()?.header.to_native();
        let mut call = Call {
            store: &self.store,
            caller: &mut self.caller,
            header,
            body: frame.body,
            completion: None,
            shape: Shape::Written,
            view: None,
            frame_len_bytes: frame.header.frame_len_bytes() as usize,
            now_us: self.now_us,
            is_worker: false,
            is_submitted: false,
        };
        // A run that does not exist is found out, and answered, by the worker.
        call.take_view().ok()
    }

    /// Has the request answer as of now, which counts as a view that is held.
    fn take_live_view(&mut self) {
        self.view = self.take_view();
        let metrics = &self.store.metrics;
        let is_live = self.view.is_some();
        self.live_view = is_live.then(|| LiveView::of_read(metrics, self.now_us));
    }

    /// Handles the request; on a worker. What was taken along comes back unless a defect took it.
    fn run_caught(
        self,
        subject: &Subject,
        may_commit: bool,
    ) -> (Verdict, FrameBuffer, Option<(OwnedFrame, Caller)>) {
        let encoding = self.encoding;
        match catch_unwind(AssertUnwindSafe(|| self.run())) {
            Ok((verdict, answer, job)) => (verdict, answer, Some((job.frame, job.caller))),
            Err(_) => given_up(subject, encoding, may_commit),
        }
    }

    fn run(mut self) -> (Verdict, FrameBuffer, Self) {
        let mut answer = FrameBuffer::new();
        let mut verdict = Verdict::Replied;
        if let Some(frame) = self.frame.frame()
            && let Ok(request) = access_request(frame.body)
        {
            let kind = request.operation.kind();
            let request_id = frame.header.request_id;
            let mut out = Out::new(&mut answer, self.encoding, request_id, kind)
                .within(self.reply_len_bytes_max);
            let started_us = SystemClock.monotonic_us();
            if self.frame.is_late(started_us) {
                let message = "no worker was free within the deadline of the request; \
                               nothing was done";
                let error = Error::new(SubCode::Timeout, message);
                out.fail(error.with_outcome(CommitOutcome::NotCommitted));
                return (verdict, answer, self);
            }
            let mut call = Call {
                store: &self.store,
                caller: &mut self.caller,
                header: request.header.to_native(),
                body: frame.body,
                completion: self.completion.take(),
                shape: self.shape.clone(),
                view: self.view.take(),
                frame_len_bytes: frame.header.frame_len_bytes() as usize,
                now_us: self.now_us,
                is_worker: true,
                is_submitted: false,
            };
            verdict = dispatch::handle(&mut call, &request.operation, &mut out);
            self.frame.steps.started_us = started_us;
        }
        self.store.defects.strike(Defect::OnWorker);
        drop(self.live_view.take());
        if self.notes_steps {
            self.frame.steps.decided_us = SystemClock.monotonic_us();
        }
        (verdict, answer, self)
    }
}
