//! When each session has to be looked at: one time a session, and never later than it must.
//!
//! A time is only ever lowered; whoever needs a later one is found when the earlier one has come,
//! and gets its next. So a turn costs what is due in it, however many sessions there are and
//! however often a client has one of them looked at.

use std::collections::BTreeSet;

/// The times of the sessions of one reactor, microseconds of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Time and slot.
    by_time: BTreeSet<(u64, u32)>,
    /// The same by slot.
    of_slots: Vec<Option<u64>>,
}

impl Deadlines {
    /// Has a session looked at no later than this.
    pub(super) fn arm(&mut self, slot: u32, deadline_us: u64) {
        let index = slot as usize;
        if self.of_slots.len() <= index {
            self.of_slots.resize(index + 1, None);
        }
        let Some(place) = self.of_slots.get_mut(index) else {
            return;
        };
        if place.is_some_and(|armed_us| armed_us <= deadline_us) {
            return;
        }
        if let Some(armed_us) = place.replace(deadline_us) {
            self.by_time.remove(&(armed_us, slot));
        }
        self.by_time.insert((deadline_us, slot));
    }

    /// The session is gone.
    pub(super) fn disarm(&mut self, slot: u32) {
        let place = self.of_slots.get_mut(slot as usize);
        if let Some(armed_us) = place.and_then(Option::take) {
            self.by_time.remove(&(armed_us, slot));
        }
    }

    /// The earliest time.
    pub(super) fn first_us(&self) -> Option<u64> {
        self.by_time.first().map(|(deadline_us, _)| *deadline_us)
    }

    /// Takes out the sessions whose time has come.
    pub(super) fn take_due(&mut self, now_us: u64) -> Vec<u32> {
        let mut due = Vec::new();
        while let Some((deadline_us, slot)) = self.by_time.first().copied()
            && deadline_us <= now_us
        {
            self.disarm(slot);
            due.push(slot);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_time_which_is_only_lowered_until_it_has_come() {
        let mut deadlines = Deadlines::default();
        for round in 0..1_000 {
            deadlines.arm(3, 5_000 - round);
            deadlines.arm(3, 9_000);
        }
        deadlines.arm(1, 4_500);
        assert_eq!(deadlines.by_time.len(), 2);
        assert_eq!(deadlines.first_us(), Some(4_001));
        assert!(deadlines.take_due(4_000).is_empty());
        assert_eq!(deadlines.take_due(4_001), [3]);
        deadlines.arm(3, 9_000);
        deadlines.disarm(1);
        deadlines.disarm(2);
        assert_eq!(deadlines.first_us(), Some(9_000));
    }
}
