//! Deadlines: one lower bound for all of them, looked at when it has passed.
//!
//! Whoever opens something with a deadline lowers the bound; closing it leaves the bound alone.
//! So the reactor may wake once for nothing, but an idle daemon has no bound and never wakes.

use super::Server;
use crate::reactor::Reactor;
use crate::supervisor::Watchdog;

impl<R: Reactor> Server<R> {
    /// How long the reactor may wait; none for as long as nothing happens.
    pub(super) fn timeout_us(&self) -> Option<u64> {
        let deadlines = [
            self.core.next_deadline_us(),
            self.acceptor.resume_at_us(),
            self.watchdog.as_ref().map(Watchdog::next_us),
        ];
        let earliest = deadlines.into_iter().flatten().min()?;
        Some(earliest.saturating_sub(self.core.monotonic_us()))
    }

    /// Ends what has passed its deadline.
    pub(super) fn expire(&mut self) {
        let now_us = self.core.monotonic_us();
        if self
            .core
            .next_deadline_us()
            .is_none_or(|deadline_us| now_us < deadline_us)
        {
            return;
        }
        if self.core.is_drain_overdue() {
            let unfinished = self.core.unfinished_count();
            tracing::warn!(target: "db", unfinished, "the stop took too long; requests are cut off");
            self.is_forced = true;
        }
        for slot in self.core.expire() {
            self.core.disconnect(slot);
            self.reactor.close(slot);
        }
        // A request that was given up let the ones behind it go on.
        self.core.resume_touched();
    }
}
