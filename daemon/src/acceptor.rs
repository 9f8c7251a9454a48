//! When to accept: the decision alone, without doing it.
//!
//! Connections are taken by one accept that goes on until it is cancelled, as long as there is
//! room for a whole burst of them; near the limit one at a time, so that the descriptors reserved
//! for the log are never given to clients. At the configured limit a few more are taken, only to
//! be told so and closed. Where descriptors are what is short, or when the kernel has none left,
//! accepting pauses without spinning and clients wait in the backlog.

/// Descriptors kept for the log, snapshots, the socket, the ring and what libraries open.
const RESERVED_DESCRIPTOR_COUNT: u64 = 32;

/// Connections one multishot accept may take before its cancellation reaches the kernel: what can
/// wait in the backlog.
const BURST_COUNT: u64 = 1024;

/// Connections beyond the configured limit that may be open while they are turned away.
const TURNED_AWAY_COUNT: u64 = 16;

/// How long a lack of descriptors pauses accepting when no connection of ours closes first,
/// microseconds. Others on the machine may give some back.
const PAUSE_US: u64 = 1_000_000;

/// What to tell the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Arm an accept that goes on.
    ArmMany,
    /// Arm an accept for one connection.
    ArmOne,
    /// Cancel the armed accept.
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Armed {
    Nothing,
    One,
    Many,
    Cancelling,
}

/// Counts connections against the limit.
#[derive(Debug)]
pub(crate) struct Acceptor {
    count_max: u64,
    /// What the descriptors allow, whatever is configured.
    descriptor_room_count: u64,
    /// Open ones that have been turned away and not closed yet.
    turned_away_count: u64,
    open_count: u64,
    armed: Armed,
    resume_at_us: Option<u64>,
    is_stopped: bool,
}

impl Acceptor {
    /// An acceptor for at most `count_max` connections, fewer if the process may not have so many
    /// descriptors.
    pub(crate) fn new(count_max: u64, descriptor_count_max: u64) -> Self {
        // Half of a very small limit still serves somebody.
        let reserved = RESERVED_DESCRIPTOR_COUNT.min(descriptor_count_max / 2);
        let descriptor_room_count = descriptor_count_max - reserved;
        Self {
            count_max: count_max.min(descriptor_room_count).max(1),
            descriptor_room_count,
            turned_away_count: 0,
            open_count: 0,
            armed: Armed::Nothing,
            resume_at_us: None,
            is_stopped: false,
        }
    }

    /// Another number of connections from now on. Those above it stay; none is served until enough
    /// have closed.
    pub(crate) fn set_count_max(&mut self, count_max: u64) {
        self.count_max = count_max.min(self.descriptor_room_count).max(1);
    }

    /// Connections allowed at once.
    pub(crate) fn count_max(&self) -> u64 {
        self.count_max
    }

    /// Connections open now.
    pub(crate) fn open_count(&self) -> u64 {
        self.open_count
    }

    /// When to look again although nothing happened.
    pub(crate) fn resume_at_us(&self) -> Option<u64> {
        self.resume_at_us
    }

    /// A connection was accepted; whether it is one too many, to be told so and closed.
    pub(crate) fn accepted(&mut self) -> bool {
        let is_over = self.count_max <= self.served_count();
        self.open_count += 1;
        self.turned_away_count += u64::from(is_over);
        is_over
    }

    fn served_count(&self) -> u64 {
        self.open_count - self.turned_away_count
    }

    /// How many more may be taken now.
    fn room_count(&self) -> u64 {
        let served_max = self.count_max.saturating_sub(self.served_count());
        let wanted = if served_max > 0 {
            served_max
        } else {
            TURNED_AWAY_COUNT.saturating_sub(self.turned_away_count)
        };
        wanted.min(
            self.descriptor_room_count
                .max(1)
                .saturating_sub(self.open_count),
        )
    }

    /// A connection was closed.
    pub(crate) fn closed(&mut self) {
        assert!(self.open_count > 0);
        self.open_count -= 1;
        // Those that were turned away close first.
        self.turned_away_count = self.turned_away_count.saturating_sub(1);
        self.resume_at_us = None;
    }

    /// The armed accept ended; an error pauses.
    pub(crate) fn ended(&mut self, is_error: bool, now_us: u64) {
        self.armed = Armed::Nothing;
        if is_error {
            self.resume_at_us = Some(now_us.saturating_add(PAUSE_US));
        }
    }

    /// Accept nothing any more.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// What to do now. The ring is told, so the answer changes the state.
    pub(crate) fn next_action(&mut self, now_us: u64) -> Action {
        if self.resume_at_us.is_some_and(|at_us| at_us <= now_us) {
            self.resume_at_us = None;
        }
        let room = self.room_count();
        let may_accept = !self.is_stopped && self.resume_at_us.is_none() && room > 0;
        match self.armed {
            Armed::Nothing if may_accept && room > BURST_COUNT => {
                self.armed = Armed::Many;
                Action::ArmMany
            }
            Armed::Nothing if may_accept => {
                self.armed = Armed::One;
                Action::ArmOne
            }
            Armed::Many if self.is_stopped || room <= BURST_COUNT => {
                self.armed = Armed::Cancelling;
                Action::Cancel
            }
            Armed::One if self.is_stopped => {
                self.armed = Armed::Cancelling;
                Action::Cancel
            }
            _ => Action::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_much_room_one_accept_goes_on() {
        let mut acceptor = Acceptor::new(10_000, 1 << 20);
        assert_eq!(acceptor.next_action(0), Action::ArmMany);
        for _ in 0..100 {
            acceptor.accepted();
            assert_eq!(acceptor.next_action(0), Action::None);
        }
    }

    #[test]
    fn near_the_limit_connections_are_taken_one_at_a_time_and_never_beyond_it() {
        // Descriptors are what is short: nobody is turned away.
        let mut acceptor = Acceptor::new(1 << 20, BURST_COUNT + 2 + RESERVED_DESCRIPTOR_COUNT);
        assert_eq!(acceptor.next_action(0), Action::ArmMany);
        acceptor.accepted();
        acceptor.accepted();
        assert_eq!(acceptor.next_action(0), Action::Cancel);
        acceptor.ended(false, 0);
        for _ in 0..BURST_COUNT {
            assert_eq!(acceptor.next_action(0), Action::ArmOne);
            acceptor.accepted();
            acceptor.ended(false, 0);
        }
        assert_eq!(acceptor.next_action(0), Action::None);
        acceptor.closed();
        assert_eq!(acceptor.next_action(0), Action::ArmOne);
    }

    #[test]
    fn at_the_configured_limit_a_few_more_are_taken_to_be_turned_away() {
        let mut acceptor = Acceptor::new(2, 1 << 20);
        for index in 0..2 + TURNED_AWAY_COUNT {
            assert_eq!(acceptor.next_action(0), Action::ArmOne);
            assert_eq!(acceptor.accepted(), 2 <= index);
            acceptor.ended(false, 0);
        }
        assert_eq!(acceptor.next_action(0), Action::None);
        for _ in 0..TURNED_AWAY_COUNT {
            acceptor.closed();
        }
        acceptor.closed();
        assert_eq!(acceptor.next_action(0), Action::ArmOne);
        assert!(!acceptor.accepted());
        // A lower limit turns away as well, however many are served still.
        acceptor.set_count_max(1);
        acceptor.ended(false, 0);
        assert_eq!(acceptor.next_action(0), Action::ArmOne);
        assert!(acceptor.accepted());
    }

    #[test]
    fn lack_of_descriptors_pauses_until_a_connection_closes_or_a_second_passed() {
        let mut acceptor = Acceptor::new(100, 1 << 20);
        acceptor.accepted();
        assert_eq!(acceptor.next_action(0), Action::ArmOne);
        acceptor.ended(true, 0);
        assert_eq!(acceptor.next_action(1), Action::None);
        assert_eq!(acceptor.resume_at_us(), Some(PAUSE_US));
        acceptor.closed();
        assert_eq!(acceptor.next_action(2), Action::ArmOne);
        acceptor.ended(true, 2);
        assert_eq!(acceptor.next_action(3), Action::None);
        assert_eq!(acceptor.next_action(2 + PAUSE_US), Action::ArmOne);
    }

    #[test]
    fn the_log_keeps_its_descriptors_under_a_small_limit() {
        assert_eq!(Acceptor::new(10_000, 64).count_max(), 32);
        assert_eq!(Acceptor::new(10_000, 1_024).count_max(), 992);
        assert_eq!(Acceptor::new(8, 1_024).count_max(), 8);
        assert_eq!(Acceptor::new(8, 1).count_max(), 1);
    }

    #[test]
    fn a_changed_limit_holds_at_once_and_never_above_what_descriptors_allow() {
        let mut acceptor = Acceptor::new(2, 64);
        assert!(!acceptor.accepted());
        assert!(!acceptor.accepted());
        assert!(acceptor.accepted(), "one too many");
        acceptor.closed();
        acceptor.set_count_max(3);
        assert_eq!(acceptor.next_action(0), Action::ArmOne);
        assert!(!acceptor.accepted());
        acceptor.set_count_max(10_000);
        assert_eq!(acceptor.count_max(), 32);
    }

    #[test]
    fn stopping_cancels_what_is_armed_and_arms_nothing_more() {
        let mut acceptor = Acceptor::new(10_000, 1 << 20);
        acceptor.next_action(0);
        acceptor.stop();
        assert_eq!(acceptor.next_action(0), Action::Cancel);
        acceptor.ended(false, 0);
        assert_eq!(acceptor.next_action(0), Action::None);
    }
}
