//! Commits on their way through the log: who waits for them, and what they are told.
//!
//! A request that commits gets a token. The engine hands the token back exactly once, from the log
//! thread or from another committer, into the reactor's inbox; the reactor answers. A request the
//! log had no room for keeps its place: it and the ones behind it start again in the order they
//! came, and the writes of others queue behind them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use in_mem_engine::{CommitError, CompletionSink, Outcome};

use super::Core;
use crate::answer::Shape;
use crate::completions::Inbox;
use crate::inbound::OwnedFrame;
use crate::reactor::Waker;
use crate::session::SessionId;

/// A commit the log is done with.
pub(super) type Finished = (u64, Result<Outcome, CommitError>);

/// Where the log thread, and other committers, leave what they finished.
pub(super) struct LogInbox {
    finished: Inbox<Finished>,
    has_room: AtomicBool,
    /// Completions of this thread come in batches whose end it announces.
    log_thread: OnceLock<ThreadId>,
}

impl LogInbox {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            finished: Inbox::new(waker),
            has_room: AtomicBool::new(false),
            log_thread: OnceLock::new(),
        }
    }
}

impl CompletionSink for LogInbox {
    fn complete(&self, token: u64, result: Result<Outcome, CommitError>) {
        self.finished.push((token, result));
        if self.log_thread.get() != Some(&thread::current().id()) {
            self.finished.wake();
        }
    }

    fn batch_end(&self) {
        self.log_thread.get_or_init(|| thread::current().id());
        if self.finished.has_items() {
            self.finished.wake();
        }
    }

    fn space_available(&self) {
        // Release; pairs with the swap in `retry_waiting`.
        self.has_room.store(true, Ordering::Release);
        self.finished.wake();
    }
}

/// A request that is answered when its commit is published.
#[derive(Debug)]
pub(crate) struct PendingCommit {
    /// Who asked.
    pub(crate) session: SessionId,
    /// The id of the request.
    pub(crate) request_id: u64,
    /// Size of its frame, bytes.
    pub(crate) frame_len_bytes: u64,
    /// What the answer looks like.
    pub(crate) shape: Shape,
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
        for (token, result) in finished.drain(..) {
            if let Some(pending) = self.pending.remove(token) {
                self.answer_commit(&pending, result);
            }
        }
        self.finished = finished;
    }

    /// Keeps a request until the log has room, and its session from starting another.
    pub(super) fn wait_for_room(&mut self, slot: u32, frame: OwnedFrame) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        session.parked = Some(frame);
        session.is_blocked = true;
        let id = session.id;
        self.waiting_for_room.push_back(id);
        // Room that came before anybody waited was announced to nobody: look again at once.
        // Acquire; pairs with the store in `space_available`.
        if self.log_inbox.has_room.load(Ordering::Acquire) {
            self.log_inbox.finished.wake();
        }
    }

    /// The same for a request whose turn had come: it stays the first.
    pub(super) fn wait_for_room_again(&mut self, slot: u32, frame: OwnedFrame) {
        self.wait_for_room(slot, frame);
        if let Some(id) = self.waiting_for_room.pop_back() {
            self.waiting_for_room.push_front(id);
        }
    }

    /// Starts what waited for room again, in order, until there is none.
    pub(super) fn retry_waiting(&mut self) {
        // With nobody waiting the announcement is kept, for a request that was refused before it
        // and is still on its way back from a worker. Acquire; pairs with the store in
        // `space_available`.
        if self.waiting_for_room.is_empty()
            || !self.log_inbox.has_room.swap(false, Ordering::AcqRel)
        {
            return;
        }
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
            if !self.restart(id.slot, frame) {
                return;
            }
        }
    }
}
