//! Those that wait for something there is only so much of, in the order they came.
//!
//! Each goes when it fits beside what its user and all together have taken. Whoever does not fit
//! holds back the later ones of its user, so that small requests never keep a large one from its
//! turn; others pass it if it is its own user that has too much, or within their equal part.

use std::collections::VecDeque;

use crate::session::SessionId;
use crate::shares::{Bounds, Fit, Resource, Share};

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: SessionId,
    pub(super) share: Share,
    pub(super) amount: u64,
}

/// The line before one kind of resource.
#[derive(Debug)]
pub(super) struct Line {
    /// What is counted together.
    resources: &'static [Resource],
    waiting: VecDeque<Waiter>,
}

impl Line {
    /// A line nobody waits in.
    pub(super) fn new(resources: &'static [Resource]) -> Self {
        Self {
            resources,
            waiting: VecDeque::new(),
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether somebody who comes now may go at once, past those that wait.
    pub(super) fn may_pass(&self, share: &Share, amount: u64, bounds: Bounds) -> bool {
        let fit = share.fit(self.resources, amount, bounds);
        if self.waiting.is_empty() {
            return fit.is_there();
        }
        let is_own = |waiter: &Waiter| waiter.share.user() == share.user();
        fit == Fit::Fair && !self.waiting.iter().any(is_own)
    }

    /// The last in the line.
    pub(super) fn push(&mut self, waiter: Waiter) {
        self.waiting.push_back(waiter);
    }

    /// A session waits no longer.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.waiting.retain(|waiter| waiter.id != id);
    }

    /// The first that may go now; it is taken out.
    pub(super) fn pop_fitting(&mut self, bounds: Bounds) -> Option<Waiter> {
        let mut held_back: Vec<u32> = Vec::new();
        let mut is_all_full = false;
        let index = self.waiting.iter().position(|waiter| {
            if held_back.contains(&waiter.share.user()) {
                return false;
            }
            let fit = waiter.share.fit(self.resources, waiter.amount, bounds);
            is_all_full |= fit == Fit::AllFull;
            let goes = fit == Fit::Fair || (fit == Fit::Free && !is_all_full);
            if !goes {
                held_back.push(waiter.share.user());
            }
            goes
        })?;
        self.waiting.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::Shares;

    const REPLIES: &[Resource] = &[Resource::QueuedReplies, Resource::ReservedReplies];

    const BOUNDS: Bounds = Bounds {
        all_max: 100,
        user_max: 60,
    };

    fn waiter(number: u64, share: &Share, amount: u64) -> Waiter {
        Waiter {
            id: SessionId { slot: 0, number },
            share: share.clone(),
            amount,
        }
    }

    #[test]
    fn a_user_that_has_too_much_holds_back_itself_and_nobody_else() {
        let shares = Shares::default();
        let (greedy, good) = (shares.of(1), shares.of(2));
        let taken = greedy.take(Resource::ReservedReplies, 60);
        let mut line = Line::new(REPLIES);
        line.push(waiter(1, &greedy, 30));
        line.push(waiter(2, &greedy, 1));
        assert!(line.may_pass(&good, 50, BOUNDS));
        assert!(!line.may_pass(&greedy, 1, BOUNDS));
        line.push(waiter(3, &good, 50));
        assert_eq!(
            line.pop_fitting(BOUNDS).map(|first| first.id.number),
            Some(3)
        );
        assert!(line.pop_fitting(BOUNDS).is_none());
        drop(taken);
        let mut order = Vec::new();
        while let Some(next) = line.pop_fitting(BOUNDS) {
            order.push(next.id.number);
        }
        assert_eq!(order, [1, 2], "a small one does not pass a large one");
    }

    #[test]
    fn where_all_have_too_much_one_within_its_equal_part_passes() {
        let shares = Shares::default();
        let users: Vec<Share> = (0..4).map(|user| shares.of(user)).collect();
        let _first = users[0].take(Resource::QueuedReplies, 50);
        let _second = users[1].take(Resource::QueuedReplies, 50);
        let _third = users[2].take(Resource::QueuedReplies, 5);
        let mut line = Line::new(REPLIES);
        line.push(waiter(1, &users[0], 5));
        line.push(waiter(2, &users[2], 21));
        line.push(waiter(3, &users[3], 60));
        assert_eq!(line.pop_fitting(BOUNDS).map(|next| next.id.number), Some(3));
        assert!(line.pop_fitting(BOUNDS).is_none());
        line.forget(SessionId { slot: 0, number: 2 });
        line.push(waiter(4, &users[2], 20));
        assert_eq!(line.pop_fitting(BOUNDS).map(|next| next.id.number), Some(4));
    }
}
