//! How much memory frames on their way in may take, over all sessions.
//!
//! A frame above [`LARGE_LEN_BYTES`] is read on only once its whole length fits the budget; until
//! then its session is not read from. Sessions are served in the order they came, and the budget
//! holds at least one frame of any size, so that large frames wait for each other and never for
//! ever. The reservation lasts until the request is done.

use std::collections::VecDeque;

use super::Core;
use crate::dispatch::LARGE_LEN_BYTES;
use crate::session::SessionId;

/// The budget of a reactor.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    taken_len_bytes: u64,
    waiting: VecDeque<SessionId>,
}

impl Core {
    /// Reserves room for the frame a session has begun to send, or has it wait.
    pub(super) fn reserve_room_for_frame(&mut self, slot: u32, claimed_len_bytes: usize) {
        if claimed_len_bytes <= LARGE_LEN_BYTES {
            return;
        }
        let max = self.store.limits_in_force().gather_len_bytes_max;
        let (taken, is_first) = (
            self.gathering.taken_len_bytes,
            self.gathering.waiting.is_empty(),
        );
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        if session.gather_len_bytes != 0 {
            return;
        }
        let claimed = claimed_len_bytes as u64;
        session.gather_len_bytes = claimed;
        if is_first && fits(taken, claimed, max) {
            self.gathering.taken_len_bytes += claimed;
            return;
        }
        session.waits_to_gather = true;
        session.deadline_us = None;
        let id = session.id;
        self.gathering.waiting.push_back(id);
    }

    /// Gives back what a session reserved, and lets those go on that fit now.
    pub(super) fn release_room_for_frame(&mut self, slot: u32) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let reserved = std::mem::take(&mut session.gather_len_bytes);
        if reserved == 0 {
            return;
        }
        if std::mem::take(&mut session.waits_to_gather) {
            let id = session.id;
            self.gathering.waiting.retain(|waiting| *waiting != id);
        } else {
            self.gathering.taken_len_bytes -= reserved;
        }
        self.admit_waiting_frames();
    }

    /// Lets those go on that fit now.
    pub(super) fn admit_waiting_frames(&mut self) {
        let max = self.store.limits_in_force().gather_len_bytes_max;
        let deadline_us = self.now_plus_ms(self.store.limits_in_force().frame_timeout_ms);
        while let Some(id) = self.gathering.waiting.front().copied() {
            let taken = self.gathering.taken_len_bytes;
            if let Some(session) = self.session_of(id) {
                let claimed = session.gather_len_bytes;
                if !fits(taken, claimed, max) {
                    return;
                }
                session.waits_to_gather = false;
                session.deadline_us = Some(deadline_us);
                self.deadlines.arm(id.slot, deadline_us);
                self.gathering.taken_len_bytes += claimed;
                self.touch(id.slot);
            }
            self.gathering.waiting.pop_front();
        }
    }
}

/// Whether a frame may be gathered beside what is reserved; the only one always may.
fn fits(taken: u64, claimed: u64, max: u64) -> bool {
    taken == 0 || taken.saturating_add(claimed) <= max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_always_fits_and_more_only_within_the_budget() {
        assert!(fits(0, 100, 10));
        assert!(fits(5, 5, 10));
        assert!(!fits(5, 6, 10));
        assert!(!fits(1, u64::MAX, 10));
    }
}
