//! What all connections share, and how much of it each user has taken.
//!
//! There is one account for all and one for each user. What is taken is given back when its
//! [`Taken`] is dropped, wherever that happens, so nothing is left behind by a session, a job or a
//! panic. A user has a limit of its own; where all together have too much, only those are held
//! back that have more than an equal part. So no user can use up what others need, and one who has
//! nothing may always have one. Numbers are relaxed: each stands for itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::config::Limits;

/// Something there is only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Open connections.
    Connections,
    /// Bytes of replies that clients have not taken.
    QueuedReplies,
    /// Bytes promised to replies that are being made.
    ReservedReplies,
    /// Bytes of large frames that are on their way in, or whose request is not done.
    GatheredFrames,
    /// Requests on the workers, and those that wait for one.
    Jobs,
    /// Requests that wait until commits are durable.
    DurableWaits,
    /// Open transactions.
    Transactions,
}

impl Resource {
    /// Every resource, in the order of their numbers, with the name of its measure.
    pub(crate) const ALL: [(Self, &'static str); 7] = [
        (Self::Connections, "connection_count"),
        (Self::QueuedReplies, "reply_len_bytes"),
        (Self::ReservedReplies, "reply_reserved_len_bytes"),
        (Self::GatheredFrames, "gather_len_bytes"),
        (Self::Jobs, "job_count"),
        (Self::DurableWaits, "durable_wait_count"),
        (Self::Transactions, "open_transaction_count"),
    ];
}

/// What is taken of each resource.
#[derive(Debug, Default)]
pub(crate) struct Account {
    taken: [AtomicU64; Resource::ALL.len()],
}

impl Account {
    /// What is taken of one resource.
    #[expect(clippy::indexing_slicing, reason = "a resource is its index")]
    pub(crate) fn get(&self, resource: Resource) -> u64 {
        self.taken[resource as usize].load(Ordering::Relaxed)
    }

    #[expect(clippy::indexing_slicing, reason = "a resource is its index")]
    fn change(&self, resource: Resource, before: u64, now: u64) {
        // Wraps as a difference may be below zero.
        self.taken[resource as usize].fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// The accounts of a daemon.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    all: Arc<All>,
    users: Mutex<HashMap<u32, Arc<Account>>>,
}

#[derive(Debug, Default)]
struct All {
    account: Account,
    /// Users that have an account.
    user_count: AtomicU64,
}

impl Shares {
    /// The share of a user. Accounts that nobody holds any more are forgotten.
    pub(crate) fn of(&self, user: u32) -> Share {
        let mut users = self.users.lock();
        users.retain(|_, account| 1 < Arc::strong_count(account));
        let own = Arc::clone(users.entry(user).or_default());
        let user_count = users.len() as u64;
        self.all.user_count.store(user_count, Ordering::Relaxed);
        let all = Arc::clone(&self.all);
        Share { user, own, all }
    }

    /// What all together have taken.
    pub(crate) fn all(&self) -> &Account {
        &self.all.account
    }

    /// Each user that has something, by its number, with what it has taken.
    pub(crate) fn by_user(&self) -> Vec<(u32, Arc<Account>)> {
        let users = self.users.lock();
        let held = users
            .iter()
            .filter(|(_, account)| 1 < Arc::strong_count(account));
        let mut by_user: Vec<_> = held
            .map(|(user, account)| (*user, Arc::clone(account)))
            .collect();
        by_user.sort_unstable_by_key(|(user, _)| *user);
        by_user
    }
}

/// The handle of one user on its account and on that of all.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    user: u32,
    own: Arc<Account>,
    all: Arc<All>,
}

impl Share {
    /// Whose it is.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }

    /// What the user has taken of a resource.
    pub(crate) fn get(&self, resource: Resource) -> u64 {
        self.own.get(resource)
    }

    /// Takes so much, whatever the limits.
    pub(crate) fn take(&self, resource: Resource, amount: u64) -> Taken {
        self.change(resource, 0, amount);
        Taken {
            share: self.clone(),
            resource,
            amount,
        }
    }

    /// One holder's part of what is taken went from the first to the second.
    pub(crate) fn change(&self, resource: Resource, before: u64, now: u64) {
        if before != now {
            self.own.change(resource, before, now);
            self.all.account.change(resource, before, now);
        }
    }

    /// Whether `amount` fits beside what is taken of these resources together.
    pub(crate) fn fit(&self, resources: &[Resource], amount: u64, bounds: Bounds) -> Fit {
        let sum = |account: &Account| resources.iter().map(|of| account.get(*of)).sum();
        let user_count = self.all.user_count.load(Ordering::Relaxed);
        bounds.fit(sum(&self.own), sum(&self.all.account), amount, user_count)
    }
}

/// A part of something there is only so much of; given back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    share: Share,
    resource: Resource,
    amount: u64,
}

impl Taken {
    /// How much it is.
    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.share.change(self.resource, self.amount, 0);
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// For all together.
    pub(crate) all_max: u64,
    /// For one user.
    pub(crate) user_max: u64,
}

/// Whether something fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is within the user's equal part: it does whatever others have.
    Fair,
    /// It does because others leave room.
    Free,
    /// The user has too much.
    OwnFull,
    /// All together have too much, and the user more than an equal part.
    AllFull,
}

impl Fit {
    /// Whether it fits.
    pub(crate) fn is_there(self) -> bool {
        matches!(self, Self::Fair | Self::Free)
    }
}

impl Bounds {
    /// Those of replies.
    pub(crate) fn of_replies(limits: &Limits) -> Self {
        Self {
            all_max: limits.reply_total_len_bytes_max,
            user_max: limits.reply_len_bytes_per_user_max,
        }
    }

    fn fit(self, own: u64, all: u64, amount: u64, user_count: u64) -> Fit {
        let own_then = own.saturating_add(amount);
        let equal_part = self.all_max / user_count.max(1);
        if own == 0 {
            Fit::Fair
        } else if self.user_max < own_then {
            Fit::OwnFull
        } else if own_then <= equal_part {
            Fit::Fair
        } else if all.saturating_add(amount) <= self.all_max {
            Fit::Free
        } else {
            Fit::AllFull
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        all_max: 100,
        user_max: 70,
    };

    #[test]
    fn a_user_has_its_limit_and_when_all_have_too_much_at_least_an_equal_part() {
        let fit = |own, all, amount| BOUNDS.fit(own, all, amount, 4);
        assert_eq!(fit(0, 1_000, 1_000), Fit::Fair, "the first always");
        assert_eq!(fit(10, 1_000, 15), Fit::Fair, "a quarter of all");
        assert_eq!(fit(10, 80, 20), Fit::Free);
        assert_eq!(fit(10, 80, 21), Fit::AllFull);
        assert_eq!(fit(60, 60, 11), Fit::OwnFull);
        assert_eq!(fit(1, 1, u64::MAX), Fit::OwnFull);
    }

    #[test]
    fn what_is_taken_is_given_back_wherever_it_is_dropped() {
        let shares = Shares::default();
        let (first, second) = (shares.of(1), shares.of(2));
        let taken = first.take(Resource::ReservedReplies, 10);
        first.change(Resource::QueuedReplies, 0, 50);
        let reply = [Resource::ReservedReplies, Resource::QueuedReplies];
        assert_eq!(first.fit(&reply, 11, BOUNDS), Fit::OwnFull);
        assert_eq!(second.fit(&reply, 1_000, BOUNDS), Fit::Fair);
        assert_eq!(shares.all().get(Resource::ReservedReplies), 10);
        std::thread::spawn(move || drop(taken)).join().unwrap();
        assert_eq!(shares.all().get(Resource::ReservedReplies), 0);
        assert_eq!(first.fit(&reply, 11, BOUNDS), Fit::Free);
    }

    #[test]
    fn the_account_of_a_user_who_is_gone_is_forgotten() {
        let shares = Shares::default();
        let first = shares.of(1);
        drop(shares.of(2));
        assert_eq!(shares.by_user().len(), 1);
        first.change(Resource::Connections, 0, 3);
        assert_eq!(shares.of(1).get(Resource::Connections), 3);
        drop(first);
        assert_eq!(shares.of(1).get(Resource::Connections), 0);
    }
}
