//! How much memory frames on their way in may take, of one user and over all sessions.
//!
//! A frame above [`MANY_LEN_BYTES`] is read on only once its whole length fits the budget; until
//! then its session is not read from. Sessions are served in the order they came, as far as it is
//! not their own user that has too much, and one frame of any size always fits, so that large
//! frames wait for each other and never for ever. The reservation goes with the frame, wherever it
//! waits, until it is done.

use super::Core;
use super::line::{Line, Waiter};
use crate::dispatch::MANY_LEN_BYTES;
use crate::shares::{Bounds, Resource};

/// What is counted: frames, as long as they claim to be.
const FRAMES: &[Resource] = &[Resource::GatheredFrames];

/// The budget of a reactor.
#[derive(Debug)]
pub(super) struct Gathering {
    line: Line,
}

impl Default for Gathering {
    fn default() -> Self {
        Self {
            line: Line::new(FRAMES),
        }
    }
}

impl Core {
    fn gather_bounds(&self) -> Bounds {
        let limits = self.store.limits_in_force();
        Bounds {
            all_max: limits.gather_len_bytes_max,
            user_max: limits.gather_len_bytes_per_user_max,
        }
    }

    /// Reserves room for the frame a session has begun to send, or has it wait.
    pub(super) fn reserve_room_for_frame(&mut self, slot: u32, claimed_len_bytes: usize) {
        if claimed_len_bytes <= MANY_LEN_BYTES {
            return;
        }
        let bounds = self.gather_bounds();
        let amount = claimed_len_bytes as u64;
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        if session.gathered.is_some() || session.waits_to_gather {
            return;
        }
        let (id, share) = (session.id, session.share.clone());
        if self.gathering.line.may_pass(&share, amount, bounds) {
            let taken = share.take(Resource::GatheredFrames, amount);
            if let Some(session) = self.session_mut(slot) {
                session.gathered = Some(taken);
            }
            return;
        }
        self.gathering.line.push(Waiter { id, share, amount });
        if let Some(session) = self.session_mut(slot) {
            session.waits_to_gather = true;
            session.deadline_us = None;
        }
    }

    /// Gives back what a session reserved, and lets those go on that fit now.
    pub(super) fn release_room_for_frame(&mut self, slot: u32) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let id = session.id;
        let is_waiting = std::mem::take(&mut session.waits_to_gather);
        let gathered = session.gathered.take();
        if is_waiting {
            self.gathering.line.forget(id);
        }
        if is_waiting || gathered.is_some() {
            drop(gathered);
            self.admit_waiting_frames();
        }
    }

    /// Lets those go on that fit now.
    pub(super) fn admit_waiting_frames(&mut self) {
        if self.gathering.line.is_empty() {
            return;
        }
        let bounds = self.gather_bounds();
        let deadline_us = self.now_plus_ms(self.store.limits_in_force().frame_timeout_ms);
        while let Some(waiter) = self.gathering.line.pop_fitting(bounds) {
            let Some(session) = self.session_of(waiter.id) else {
                continue;
            };
            let taken = waiter.share.take(Resource::GatheredFrames, waiter.amount);
            session.gathered = Some(taken);
            session.waits_to_gather = false;
            session.deadline_us = Some(deadline_us);
            self.deadlines.arm(waiter.id.slot, deadline_us);
            self.touch(waiter.id.slot);
        }
    }
}
