//! The reactor's loop: events in, requests dispatched, replies out, once per turn.
//!
//! One thread owns everything here: the reactor, the sessions and the core that serves them. Each
//! turn reads the clock once, handles at most a bounded number of requests, takes what the log
//! and the workers finished, and gives every touched connection one send with all its replies.
//! Without anything to do and without a deadline the thread sleeps in the kernel.

mod deadlines;
mod flush;
mod supervision;

use std::io;

use nix::sys::signal::Signal;

use crate::acceptor::{Acceptor, Action};
use crate::core::Core;
use crate::health::state;
use crate::reactor::{Event, Reactor, ReceiveEnd};
use crate::reload::Reload;
use crate::session::Credentials;
use crate::signals::Signals;
use crate::socket::Listener;
use crate::supervisor::{Supervisor, Watchdog};

use supervision::Standing;

/// Requests of one turn before its replies leave. At about 1 us each this keeps a turn well
/// below the millisecond a reactor may be held.
const TURN_REQUEST_COUNT_MAX: u64 = 256;

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Everything in flight was finished and answered.
    Drained,
    /// A second signal or the deadline cut it short.
    Forced,
    /// The log is poisoned and the configuration says to exit then.
    Poisoned,
}

/// One reactor and what it serves.
pub(crate) struct Server<R> {
    reactor: R,
    listener: Listener,
    signals: Signals,
    acceptor: Acceptor,
    core: Core,
    supervisor: Supervisor,
    watchdog: Option<Watchdog>,
    reload: Reload,
    standing: Standing,
    /// What the manager was told last.
    said: Standing,
    is_forced: bool,
}

impl<R: Reactor> Server<R> {
    /// A server that accepts from its first turn on.
    pub(crate) fn new(
        reactor: R,
        listener: Listener,
        signals: Signals,
        acceptor: Acceptor,
        core: Core,
        supervisor: Supervisor,
        reload: Reload,
    ) -> Self {
        let standing = Standing::new(state(&core.store));
        Self {
            reactor,
            listener,
            signals,
            acceptor,
            core,
            supervisor,
            watchdog: Watchdog::from_environment(),
            reload,
            standing,
            said: standing,
            is_forced: false,
        }
    }

    /// Serves until a signal, or a poisoned log if so configured, ends it.
    ///
    /// # Errors
    /// Only those that make the reactor useless.
    pub(crate) fn run(&mut self) -> io::Result<Stopped> {
        self.reactor.watch(self.signals.descriptor())?;
        self.say_ready();
        loop {
            self.steer_accepting();
            self.reactor.turn(self.timeout_us())?;
            self.core.begin_turn(self.acceptor.open_count());
            while self.core.turn_request_count() < TURN_REQUEST_COUNT_MAX {
                let Some(event) = self.reactor.next_event() else {
                    break;
                };
                self.on_event(event)?;
            }
            self.core.finish_turn();
            self.take_reload();
            self.beat();
            self.say_standing();
            self.expire();
            self.flush();
            if let Some(stopped) = self.stopped() {
                return Ok(stopped);
            }
        }
    }

    fn stopped(&self) -> Option<Stopped> {
        if self.is_forced {
            return Some(Stopped::Forced);
        }
        if self.core.must_exit_poisoned() {
            return Some(Stopped::Poisoned);
        }
        (self.core.is_draining() && self.acceptor.open_count() == 0).then_some(Stopped::Drained)
    }

    fn steer_accepting(&mut self) {
        match self.acceptor.next_action(self.core.monotonic_us()) {
            Action::None => {}
            Action::ArmMany => self.reactor.accept(self.listener.descriptor(), true),
            Action::ArmOne => self.reactor.accept(self.listener.descriptor(), false),
            Action::Cancel => self.reactor.cancel_accept(),
        }
    }

    fn on_event(&mut self, event: Event<R::Received>) -> io::Result<()> {
        match event {
            Event::Accepted { slot } => self.on_accepted(slot),
            Event::AcceptEnded { error } => {
                if let Some(error) = &error {
                    tracing::warn!(target: "ipc", %error, "accepting is paused");
                }
                self.acceptor
                    .ended(error.is_some(), self.core.monotonic_us());
            }
            Event::Received { slot, received } => {
                self.core.receive(slot, self.reactor.bytes(&received));
                self.reactor.recycle(received);
            }
            Event::ReceiveEnded {
                slot,
                reason: ReceiveEnd::Disconnected,
            } => {
                self.core.disconnect(slot);
                self.reactor.close(slot);
            }
            Event::ReceiveEnded {
                slot,
                reason: ReceiveEnd::Paused | ReceiveEnd::Again,
            } => {
                self.core.touch(slot);
            }
            Event::Sent {
                slot,
                bytes,
                result,
            } => {
                if result.is_ok() {
                    self.core.sent(slot, bytes);
                } else {
                    self.core.disconnect(slot);
                    self.reactor.close(slot);
                }
            }
            Event::Closed => self.acceptor.closed(),
            Event::Woken => {}
            Event::Readable => self.on_signal()?,
        }
        Ok(())
    }

    fn on_accepted(&mut self, slot: u32) {
        let is_over = self.acceptor.accepted();
        let peer = self
            .reactor
            .descriptor(slot)
            .map(rustix::net::sockopt::socket_peercred);
        let Some(Ok(peer)) = peer else {
            self.reactor.close(slot);
            return;
        };
        let credentials = Credentials {
            process: peer.pid.as_raw_nonzero().get().unsigned_abs(),
            user: peer.uid.as_raw(),
            group: peer.gid.as_raw(),
        };
        self.core.connect(slot, credentials);
        if is_over {
            let count_max = self.acceptor.count_max();
            self.core.turn_away(
                slot,
                format!("the server has its {count_max} connections (connection_count_max)"),
            );
        }
    }

    fn on_signal(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.next() {
            if signal == Signal::SIGHUP {
                self.begin_reload();
            } else if self.core.is_draining() {
                tracing::warn!(target: "db", %signal, "stopping at once");
                self.is_forced = true;
            } else {
                tracing::info!(target: "db", %signal, "stopping");
                self.acceptor.stop();
                self.core.drain();
                self.say_stopping();
            }
        }
        self.reactor.watch(self.signals.descriptor())
    }
}
