//! What a reactor serves: its sessions, the requests they have in flight, and the store.
//!
//! Owned by the reactor thread; other threads reach it only through two inboxes, one for the
//! commits the log finished and one for the jobs the workers finished. Knows no ring and no
//! descriptor: bytes come in by slot, replies wait in the sessions until the turn ends.

mod automatic;
mod commits;
mod deadlines;
mod durable;
mod ending;
mod frames;
mod gathering;
mod greeting;
mod jobs;
mod line;
mod replies;
mod requests;
mod snapshots;
#[cfg(test)]
mod tests;
mod translation;

use std::collections::VecDeque;
use std::sync::Arc;

use in_mem_engine::CompletionSink;
use in_mem_ipc::FrameBuffer;
use in_mem_ipc::close::CloseReason;
use in_mem_wal::clock::{Clock, SystemClock};

use crate::caller::Caller;
use crate::completions::Inbox;
use crate::config::OnPoison;
use crate::disk_space::DiskTurns;
use crate::log_budget::LineBudget;
use crate::reactor::Waker;
use crate::session::{Credentials, Session, SessionId};
use crate::shares::Resource;
use crate::slow::SlowLog;
use crate::store::Store;
use crate::workers::Workers;

use automatic::OwnWork;
use commits::{Finished, LogInbox, PendingCommits};
use deadlines::Deadlines;
use durable::DurableWaits;
use gathering::Gathering;
use jobs::{Departed, JobDone};
use replies::Replies;
use snapshots::SnapshotWork;
use translation::Translation;

/// Lines of the log of one kind that clients can provoke, count in [`PROVOKED_WINDOW_US`].
const PROVOKED_LINE_COUNT_MAX: u32 = 10;

/// A minute: a peer that fills the budget all the time writes 2 MB of log a day.
const PROVOKED_WINDOW_US: u64 = 60_000_000;

/// The sessions of one reactor and what they wait for.
pub(crate) struct Core {
    pub(crate) store: Arc<Store>,
    sessions: Vec<Option<Box<Session>>>,
    next_session_number: u64,
    pending: PendingCommits,
    log_inbox: Arc<LogInbox>,
    finished: Vec<Finished>,
    slow: SlowLog,
    /// Of peers that may not connect, and of transactions that ran out of time.
    stranger_lines: LineBudget,
    expiry_lines: LineBudget,
    job_inbox: Arc<Inbox<JobDone>>,
    jobs_done: Vec<JobDone>,
    /// Jobs on the workers of clients whose session is gone.
    departed: Vec<Departed>,
    workers: Workers,
    translation: Translation,
    /// Sessions whose next write waits for room in the log, first come first.
    waiting_for_room: VecDeque<SessionId>,
    /// How often room had been announced when those that wait were tried last; none when they are
    /// to be tried whatever it says.
    tried_room_count: Option<u64>,
    /// How often room had been announced when this turn began.
    turn_room_count: u64,
    /// Who waits for commits to be durable.
    durable: DurableWaits,
    /// Memory of frames on their way in.
    gathering: Gathering,
    /// Requests whose replies have no room yet.
    replies: Replies,
    disk_turns: DiskTurns,
    /// Requests for work on snapshots, and what the daemon does of it by itself.
    snapshots: SnapshotWork,
    own_work: OwnWork,
    /// Slots to flush at the end of the turn.
    touched: Vec<u32>,
    /// When sessions have to be looked at.
    deadlines: Deadlines,
    drain_deadline_us: Option<u64>,
    turn_request_count: u64,
    /// The monotonic time of this turn, microseconds.
    turn_us: u64,
}

impl Core {
    /// A core without sessions, whose other threads wake the reactor of `waker`.
    pub(crate) fn new(store: Arc<Store>, waker: &Waker, workers: Workers) -> Self {
        let log_inbox = Arc::new(LogInbox::new(waker.clone()));
        let listener: Arc<dyn CompletionSink> = Arc::<LogInbox>::clone(&log_inbox);
        store.database.add_listener(&listener);
        log_inbox.look_for_log(&store);
        let slow = SlowLog::new(store.settings.observe.slow_request_us, &store.metrics);
        log_inbox.note_times(slow.is_on());
        Self {
            disk_turns: DiskTurns::default(),
            store,
            slow,
            stranger_lines: LineBudget::new(PROVOKED_LINE_COUNT_MAX, PROVOKED_WINDOW_US),
            expiry_lines: LineBudget::new(PROVOKED_LINE_COUNT_MAX, PROVOKED_WINDOW_US),
            sessions: Vec::new(),
            next_session_number: 1,
            pending: PendingCommits::default(),
            log_inbox,
            finished: Vec::new(),
            job_inbox: Arc::new(Inbox::new(waker.clone())),
            jobs_done: Vec::new(),
            departed: Vec::new(),
            workers,
            translation: Translation::new(waker),
            waiting_for_room: VecDeque::new(),
            tried_room_count: None,
            turn_room_count: 0,
            durable: DurableWaits::default(),
            gathering: Gathering::default(),
            replies: Replies::default(),
            snapshots: SnapshotWork::new(waker),
            own_work: OwnWork::default(),
            touched: Vec::new(),
            deadlines: Deadlines::default(),
            drain_deadline_us: None,
            turn_request_count: 0,
            turn_us: SystemClock.monotonic_us(),
        }
    }

    /// Reads the clock for everything this turn does.
    pub(crate) fn begin_turn(&mut self, connection_count: u64) {
        self.turn_request_count = 0;
        self.turn_us = SystemClock.monotonic_us();
        self.turn_room_count = self.log_inbox.room_count();
        self.store.set_now(SystemClock.wall_us());
        self.store.set_connection_count(connection_count);
        let positions = self.store.database.log_positions();
        let written = positions.map_or(0, |(written_lsn, _)| written_lsn.to_u64());
        if self.store.place.root.is_some() && self.disk_turns.is_due(self.turn_us, written) {
            self.look_at_health();
        }
        self.look_at_log(written);
        // What this turn commits is one batch for the log.
        self.store.database.gather_commits(true);
    }

    /// Takes what the log and the workers finished, and what can start because of it.
    pub(crate) fn finish_turn(&mut self) {
        self.take_finished_commits();
        self.take_translated();
        self.take_durable();
        self.take_snapshot_work();
        self.take_finished_jobs();
        self.retry_waiting();
        self.start_with_reply_room();
        self.admit_waiting_frames();
        self.resume_touched();
        self.store.database.gather_commits(false);
    }

    /// Requests handled since the turn began.
    pub(crate) fn turn_request_count(&self) -> u64 {
        self.turn_request_count
    }

    /// The time of this turn, microseconds.
    pub(crate) fn monotonic_us(&self) -> u64 {
        self.turn_us
    }

    /// A connection was accepted.
    pub(crate) fn connect(&mut self, slot: u32, credentials: Credentials) {
        let number = self.next_session_number;
        self.next_session_number += 1;
        let id = SessionId { slot, number };
        let deadline_us = self.now_plus_ms(self.store.limits_in_force().frame_timeout_ms);
        let caller = Caller::new(credentials, &self.store);
        let share = caller.share.clone();
        let mut session = Session::new(id, credentials, caller, deadline_us);
        session.counts_in(&self.store.metrics);
        let of_user = share.get(Resource::Connections);
        let index = slot as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        if let Some(place) = self.sessions.get_mut(index) {
            assert!(place.is_none(), "a slot is freed before it is used again");
            *place = Some(Box::new(session));
        }
        self.deadlines.arm(slot, deadline_us);
        let max = self.store.limits_in_force().connection_count_per_user_max;
        if max < of_user {
            let user = credentials.user;
            let limit = "connection_count_per_user_max";
            self.turn_away(
                slot,
                format!("user {user} has its {max} connections ({limit})"),
            );
        }
        if self.is_draining() {
            // Accepted before the kernel heard that the stop has begun.
            self.close_draining(slot);
        } else {
            self.admit(slot);
        }
        self.touch(slot);
    }

    /// Tells a peer that there is no place for it, and closes.
    pub(crate) fn turn_away(&mut self, slot: u32, message: String) {
        self.close_with(slot, CloseReason::LimitExceeded, message);
    }

    /// Limits, who may connect, or from when on a request is slow have changed: everybody is looked
    /// at again.
    pub(crate) fn settings_changed(&mut self, slow_request_us: u64) {
        self.slow.set_threshold(slow_request_us);
        self.log_inbox.note_times(self.slow.is_on());
        self.store.look_at_disk();
        self.admit_waiting_frames();
        for slot in self.slots() {
            // Deadlines are computed from limits: all of them anew.
            self.deadlines.arm(slot, self.turn_us);
            self.admit(slot);
            self.touch(slot);
        }
    }

    /// The connection is gone: everything the session owns is released and rolled back.
    pub(crate) fn disconnect(&mut self, slot: u32) {
        self.release_room_for_frame(slot);
        self.forget_waiting(slot);
        self.deadlines.disarm(slot);
        self.forget_reply_room(slot);
        if let Some(id) = self.session_mut(slot).map(|session| session.id) {
            self.forget_durable(id);
            self.forget_snapshot_work(id);
        }
        if let Some(place) = self.sessions.get_mut(slot as usize) {
            if let Some(session) = place {
                self.departed.extend(Departed::of(session));
            }
            // Commits and jobs in flight finish by themselves; their answers find nobody.
            *place = None;
        }
    }

    /// The peer took the replies of a send.
    pub(crate) fn sent(&mut self, slot: u32, buffer: FrameBuffer) {
        if let Some(session) = self.session_mut(slot) {
            session.outbound.sent(buffer);
            // Others may wait for what it took.
            session.count_load();
        }
        self.rest(slot);
        self.touch(slot);
    }

    /// The peer has what it asked for: from here on the session may rest for so long.
    fn rest(&mut self, slot: u32) {
        let limits = self.store.limits_in_force();
        if limits.idle_timeout_ms == 0 {
            return;
        }
        let now_us = self.monotonic_us();
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        session.used_us = now_us;
        if let Some(deadline_us) = session.idle_deadline_us(&limits) {
            self.deadlines.arm(slot, deadline_us);
        }
    }

    /// Has the session looked at when the turn ends.
    pub(crate) fn touch(&mut self, slot: u32) {
        let Some(session) = self
            .sessions
            .get_mut(slot as usize)
            .and_then(Option::as_mut)
        else {
            return;
        };
        if !session.is_touched {
            session.is_touched = true;
            self.touched.push(slot);
        }
    }

    /// The slots to flush, each once.
    pub(crate) fn take_touched(&mut self) -> Vec<u32> {
        let touched = std::mem::take(&mut self.touched);
        for slot in &touched {
            if let Some(session) = self.session_mut(*slot) {
                session.is_touched = false;
            }
        }
        touched
    }

    /// Gives the list of touched slots back for reuse.
    pub(crate) fn recycle_touched(&mut self, mut touched: Vec<u32>) {
        touched.clear();
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    /// The session of a slot.
    pub(crate) fn session_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.sessions.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Whether the socket of a session should be read.
    pub(crate) fn wants_bytes(&mut self, slot: u32) -> bool {
        let store = Arc::clone(&self.store);
        self.session_mut(slot).is_some_and(|session| {
            // What is held already would only grow.
            let is_held = session.parked.is_some()
                || session.awaiting_reply.is_some()
                || session.waits_to_gather;
            session.may_start(&store.limits_in_force()) && !is_held
        })
    }

    /// Whether the log failed and the configuration says to exit then.
    pub(crate) fn must_exit_poisoned(&self) -> bool {
        self.store.settings.on_poison == OnPoison::Exit && self.store.is_poisoned()
    }

    /// The earliest time something may have to be ended.
    pub(crate) fn next_deadline_us(&self) -> Option<u64> {
        let deadlines = [
            self.deadlines.first_us(),
            self.drain_deadline_us,
            self.durable.next_deadline_us(),
            self.snapshots.next_deadline_us(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn session_of(&mut self, id: SessionId) -> Option<&mut Session> {
        self.session_mut(id.slot).filter(|session| session.id == id)
    }

    fn now_plus_ms(&self, ms: u64) -> u64 {
        self.monotonic_us().saturating_add(ms.saturating_mul(1_000))
    }
}
