//! Commits on their way through the log: who waits for them, and what they are told.
//!
//! A request that commits gets a token. The engine hands the token back exactly once, from the log
//! thread or from another committer, into the reactor's inbox; the reactor answers. A request the
//! log had no room for keeps its place: it and the ones behind it start again in the order they
//! came, and the writes of others queue behind them. One that waits longer than the deadline it
//! asked for is refused.
//!
//! Room is announced by a count that only grows. Whoever is refused compares it with what it was
//! when the request was started: a change means that room was announced since, to others or to
//! nobody, and that it is worth looking again. So no announcement is lost on a request that was
//! still on its way back from a worker when it came.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

use in_mem_engine::{CommitError, CompletionSink, Outcome};
use in_mem_ipc::codec::access_request;
use in_mem_model::{Error, Outcome as CommitOutcome, SubCode};
use in_mem_wal::{LOG_THREAD_NAME, LogObserved};

use super::Core;
use crate::answer::Shape;
use crate::completions::Inbox;
use crate::dispatch::Verdict;
use crate::inbound::OwnedFrame;
use crate::reactor::Waker;
use crate::session::SessionId;
use crate::slow::{Steps, Subject};
use crate::store::Store;

/// A commit the log is done with.
pub(super) struct Finished {
    token: u64,
    result: Result<Outcome, CommitError>,
    /// When the kernel had its record and when a sync covered it; 0 where that is not noted.
    written_us: u64,
    synced_us: u64,
}

/// Where the log thread, and other committers, leave what they finished.
pub(super) struct LogInbox {
    finished: Inbox<Finished>,
    /// How often room was announced.
    room_count: AtomicU64,
    /// Somebody waits for commits to be durable. SeqCst: set before the durable version is looked
    /// at, as the log thread moves that version before it looks here.
    is_durable_watched: AtomicBool,
    /// Completions of this thread come in batches whose end it announces.
    log_thread: OnceLock<ThreadId>,
    /// Whether times are wanted, and the log that notes them once there is one.
    notes_times: AtomicBool,
    observed: OnceLock<Arc<LogObserved>>,
}

impl LogInbox {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            finished: Inbox::new(waker),
            room_count: AtomicU64::new(0),
            is_durable_watched: AtomicBool::new(false),
            log_thread: OnceLock::new(),
            notes_times: AtomicBool::new(false),
            observed: OnceLock::new(),
        }
    }

    /// Whether commits bring the times of their batch along.
    pub(super) fn note_times(&self, is_wanted: bool) {
        // Relaxed: whether the next commit brings them or the one after it does not matter.
        self.notes_times.store(is_wanted, Ordering::Relaxed);
    }

    /// Learns of the log there is, if there is one: of a later one [`CompletionSink`] tells.
    pub(super) fn look_for_log(&self, store: &Store) {
        if let Some(observed) = store.database.log_observed() {
            self.log_started(observed);
        }
    }

    /// Before its first batch is over, the thread of the log is known by its name.
    fn is_log_thread(&self) -> bool {
        let thread = thread::current();
        match self.log_thread.get() {
            Some(id) => *id == thread.id(),
            None => thread.name() == Some(LOG_THREAD_NAME),
        }
    }

    /// Whether the reactor is woken when more commits are durable.
    pub(super) fn watch_durable(&self, is_watched: bool) {
        if self.is_durable_watched.load(Ordering::SeqCst) != is_watched {
            self.is_durable_watched.store(is_watched, Ordering::SeqCst);
        }
    }

    /// How often room was announced so far.
    pub(super) fn room_count(&self) -> u64 {
        // Acquire; pairs with the addition in `space_available`.
        self.room_count.load(Ordering::Acquire)
    }
}

impl CompletionSink for LogInbox {
    fn complete(&self, token: u64, result: Result<Outcome, CommitError>) {
        let is_log_thread = self.is_log_thread();
        let is_noted = is_log_thread && self.notes_times.load(Ordering::Relaxed);
        // The log tells of a batch before it writes the next: its notes are of this commit.
        let observed = self.observed.get().filter(|_| is_noted);
        self.finished.push(Finished {
            token,
            result,
            written_us: observed.map_or(0, |observed| observed.written_at_us()),
            synced_us: observed.map_or(0, |observed| observed.synced_at_us()),
        });
        if !is_log_thread {
            self.finished.wake();
        }
    }

    fn log_started(&self, observed: &Arc<LogObserved>) {
        // A database has one log as long as it is open.
        let _ = self.observed.set(Arc::clone(observed));
    }

    fn batch_end(&self) {
        self.log_thread.get_or_init(|| thread::current().id());
        if self.finished.has_items() {
            self.finished.wake();
        }
    }

    fn durable(&self, _version: u64) {
        if self.is_durable_watched.load(Ordering::SeqCst) {
            self.finished.wake();
        }
    }

    fn space_available(&self) {
        // Release; pairs with the load in `room_count`.
        self.room_count.fetch_add(1, Ordering::Release);
        self.finished.wake();
    }
}

/// A request that is answered when its commit is published.
#[derive(Debug)]
pub(crate) struct PendingCommit {
    /// Who asked.
    pub(crate) session: SessionId,
    /// What the answer looks like.
    pub(crate) shape: Shape,
    /// What it is about.
    pub(crate) subject: Subject,
    /// When it took which step.
    pub(crate) steps: Steps,
}

impl PendingCommit {
    /// A commit of a request that has come so far.
    pub(super) fn new(session: SessionId, shape: Shape, subject: Subject, steps: Steps) -> Self {
        Self {
            session,
            shape,
            subject,
            steps,
        }
    }
}

/// Pending commits by token.
#[derive(Debug, Default)]
pub(super) struct PendingCommits {
    slots: Vec<Option<PendingCommit>>,
    free: Vec<u32>,
}

impl PendingCommits {
    /// Keeps one; the token names it to the engine.
    pub(super) fn insert(&mut self, pending: PendingCommit) -> u64 {
        if let Some(slot) = self.free.pop()
            && let Some(place) = self.slots.get_mut(slot as usize)
        {
            *place = Some(pending);
            return u64::from(slot);
        }
        let slot = u32::try_from(self.slots.len()).expect("sessions bound their requests");
        self.slots.push(Some(pending));
        u64::from(slot)
    }

    /// Notes the steps of one, if it still waits.
    pub(super) fn note(&mut self, token: u64, steps: Steps) {
        let slot = usize::try_from(token).unwrap_or(usize::MAX);
        if let Some(Some(pending)) = self.slots.get_mut(slot) {
            pending.steps = steps;
        }
    }

    /// The request of one was answered without its completion.
    pub(super) fn end(&mut self, token: u64, verdict: Verdict) {
        if verdict != Verdict::GivenUp {
            self.remove(token);
            return;
        }
        // Should the completion come, it finds nobody. Until then its token is nobody else's.
        let slot = usize::try_from(token).unwrap_or(usize::MAX);
        if let Some(Some(pending)) = self.slots.get_mut(slot) {
            pending.session = SessionId::NOBODY;
        }
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, token: u64) -> Option<PendingCommit> {
        let slot = u32::try_from(token).ok()?;
        let pending = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(pending)
    }
}

impl Core {
    /// Answers what the log finished.
    pub(super) fn take_finished_commits(&mut self) {
        let mut finished = std::mem::take(&mut self.finished);
        self.log_inbox.finished.take(&mut finished);
        for done in finished.drain(..) {
            if let Some(mut pending) = self.pending.remove(done.token) {
                pending.steps.written_us = done.written_us;
                pending.steps.synced_us = done.synced_us;
                self.answer_commit(&pending, done.result);
            }
        }
        self.finished = finished;
    }

    /// Keeps a request until the log has room, and its session from starting another. Room had
    /// been announced `room_count` times when the request was started.
    pub(super) fn wait_for_room(&mut self, slot: u32, frame: OwnedFrame, room_count: u64) {
        if let Some(deadline_us) = frame.deadline_us {
            self.deadlines.arm(slot, deadline_us);
        }
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        session.parked = Some(frame);
        session.is_blocked = true;
        let id = session.id;
        self.waiting_for_room.push_back(id);
        if self.log_inbox.room_count() != room_count {
            self.look_for_room_again();
        }
    }

    /// The same for a request whose turn had come: it stays the first.
    pub(super) fn wait_for_room_again(&mut self, slot: u32, frame: OwnedFrame, room_count: u64) {
        self.wait_for_room(slot, frame, room_count);
        if let Some(id) = self.waiting_for_room.pop_back() {
            self.waiting_for_room.push_front(id);
        }
    }

    /// Starts what waited for room again, in order, until there is none.
    pub(super) fn retry_waiting(&mut self) {
        let room_count = self.log_inbox.room_count();
        if self.waiting_for_room.is_empty() || self.tried_room_count == Some(room_count) {
            return;
        }
        self.tried_room_count = Some(room_count);
        let now_us = self.monotonic_us();
        for _ in 0..self.waiting_for_room.len() {
            let Some(id) = self.waiting_for_room.pop_front() else {
                return;
            };
            let Some(session) = self.session_of(id) else {
                continue;
            };
            let Some(frame) = session.parked.take() else {
                continue;
            };
            session.is_blocked = false;
            if frame.is_late(now_us) {
                self.refuse_late(id.slot, &frame);
            } else if !self.restart(id.slot, frame, room_count) {
                return;
            }
        }
    }

    /// Refuses the request of a session that waited for room longer than its deadline.
    pub(super) fn give_up_waiting(&mut self, slot: u32) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let Some(frame) = session.parked.take() else {
            return;
        };
        session.is_blocked = false;
        self.forget_waiting(slot);
        self.refuse_late(slot, &frame);
    }

    /// Takes a session that is gone out of the queue.
    pub(super) fn forget_waiting(&mut self, slot: u32) {
        let is_first = self
            .waiting_for_room
            .front()
            .is_some_and(|first| first.slot == slot);
        self.waiting_for_room.retain(|waiting| waiting.slot != slot);
        if is_first && !self.waiting_for_room.is_empty() {
            // The log may never have been asked for those that queued behind it.
            self.look_for_room_again();
        }
    }

    /// Answers the request of a session that still waits when the daemon stops.
    pub(super) fn refuse_parked(&mut self, slot: u32) {
        let parked = self
            .session_mut(slot)
            .and_then(|session| session.parked.take());
        if let Some(frame) = parked.or_else(|| self.take_awaiting_reply(slot)) {
            self.refuse_frame(slot, &frame, super::requests::draining());
        }
    }

    /// Answers a request that waited for too long; nothing was done.
    fn refuse_late(&mut self, slot: u32, frame: &OwnedFrame) {
        let message = "the log had no room within the deadline of the request; nothing was done";
        let error = Error::new(SubCode::Timeout, message).with_outcome(CommitOutcome::NotCommitted);
        self.refuse_frame(slot, frame, error);
    }

    pub(super) fn refuse_frame(&mut self, slot: u32, frame: &OwnedFrame, error: Error) {
        let Some(whole) = frame.frame() else { return };
        let Ok(request) = access_request(whole.body) else {
            return;
        };
        let kind = request.operation.kind();
        self.refuse(slot, whole.header.request_id, kind, error);
    }

    /// Has the next turn try those that wait, whether room is announced or not.
    fn look_for_room_again(&mut self) {
        self.tried_room_count = None;
        self.log_inbox.finished.wake();
    }
}
