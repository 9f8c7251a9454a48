//! How things end that nobody finished: deadlines and the stop of the daemon.

use in_mem_ipc::close::CloseReason;

use super::Core;
use crate::config::Limits;
use crate::session::{Phase, Session};

impl Core {
    /// Begins the stop: nothing new starts, open transactions are rolled back, what is in flight
    /// is finished and answered.
    pub(crate) fn drain(&mut self) {
        let deadline_us = self.now_plus_ms(self.store.limits_in_force().shutdown_timeout_ms);
        self.drain_deadline_us = Some(deadline_us);
        self.store.set_draining();
        self.give_up_snapshot_work();
        for slot in self.slots() {
            self.refuse_parked(slot);
            self.close_draining(slot);
        }
    }

    /// Tells a peer that the server stops, as the last word.
    pub(super) fn close_draining(&mut self, slot: u32) {
        let message = "the server is shutting down".to_owned();
        self.close_with(slot, CloseReason::Draining, message);
    }

    /// Whether the stop has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain_deadline_us.is_some()
    }

    /// Whether the stop has taken too long.
    pub(crate) fn is_drain_overdue(&self) -> bool {
        self.drain_deadline_us
            .is_some_and(|deadline_us| deadline_us <= self.monotonic_us())
    }

    /// Requests that were started and are not answered.
    pub(crate) fn unfinished_count(&self) -> u64 {
        let sessions = self.sessions.iter().flatten();
        sessions.map(|session| session.in_flight_count).sum()
    }

    /// Ends what passed its deadline; returns the slots whose connection must go at once.
    pub(crate) fn expire(&mut self) -> Vec<u32> {
        let now_us = self.monotonic_us();
        let limits = self.store.limits_in_force();
        let mut gone = Vec::new();
        for slot in self.deadlines.take_due(now_us) {
            if self.expire_session(slot, &limits) {
                gone.push(slot);
            }
            let Some(session) = self.session_mut(slot) else {
                continue;
            };
            let parked = session.parked.as_ref();
            let own = session.deadline_us.into_iter();
            let earliest = own
                .chain(parked.and_then(|frame| frame.deadline_us))
                .chain(
                    session
                        .awaiting_reply
                        .as_ref()
                        .map(|awaiting| awaiting.until_us),
                )
                .chain(session.caller.transactions.next_deadline_us(&limits))
                .chain(session.idle_deadline_us(&limits))
                .min();
            if let Some(deadline_us) = earliest {
                self.deadlines.arm(slot, deadline_us);
            }
        }
        self.expire_durable();
        self.expire_snapshot_work();
        gone
    }

    /// Ends what passed its deadline in one session; true when its connection must go.
    fn expire_session(&mut self, slot: u32, limits: &Limits) -> bool {
        let now_us = self.monotonic_us();
        let frame_deadline_us = self.now_plus_ms(limits.frame_timeout_ms);
        let Some(session) = self.session_mut(slot) else {
            return false;
        };
        let expired = session.caller.transactions.expire(now_us, limits);
        let is_due = session.deadline_us.is_some_and(|us| us <= now_us);
        let mut is_gone = false;
        if is_due {
            session.deadline_us = None;
            if session.phase == Phase::Closing {
                is_gone = true;
            } else if session.waits_for_us(limits) {
                // It is we who do not read on: the peer gets its time again.
                session.deadline_us = Some(frame_deadline_us);
            } else {
                let message = "the hello or a frame took too long to arrive".to_owned();
                self.close_with(slot, CloseReason::LimitExceeded, message);
            }
        }
        if self.session_mut(slot).is_some_and(|session| {
            let idle = session.idle_deadline_us(limits);
            idle.is_some_and(|deadline_us| deadline_us <= now_us)
        }) {
            let message = "nothing was asked for as long as idle_timeout_ms allows".to_owned();
            self.close_with(slot, CloseReason::LimitExceeded, message);
        }
        let is_late = |session: &mut Session| {
            let parked = session.parked.as_ref();
            parked.is_some_and(|frame| frame.is_late(now_us))
        };
        if self.session_mut(slot).is_some_and(is_late) {
            self.give_up_waiting(slot);
        }
        self.give_up_reply_room(slot, now_us);
        if expired > 0
            && let Some(suppressed) = self.expiry_lines.may_say(now_us)
        {
            tracing::info!(target: "txn", slot, expired, suppressed, "transactions ran out of time");
        }
        is_gone
    }

    pub(super) fn slots(&self) -> Vec<u32> {
        self.sessions
            .iter()
            .flatten()
            .map(|session| session.id.slot)
            .collect()
    }
}
