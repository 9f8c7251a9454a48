//! What the reactor tells the service manager, and what it does when told to read its configuration
//! again.

use std::time::Duration;

use in_mem_ipc::response::observe::HealthState;

use super::Server;
use crate::health::{standing, state};
use crate::reactor::Reactor;
use crate::reload::{Fresh, ReloadError};
use crate::supervisor::Look;

/// What a stop may take beside the two waits for what is in flight and for the log.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// What the status line depends on; compared each turn, so that it is said only when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    state: HealthState,
    is_stuck: bool,
    is_reload_refused: bool,
}

impl Standing {
    /// Of a server that has done nothing yet.
    pub(super) const fn new(state: HealthState) -> Self {
        Self {
            state,
            is_stuck: false,
            is_reload_refused: false,
        }
    }
}

impl<R: Reactor> Server<R> {
    /// Tells the manager that requests are served.
    pub(super) fn say_ready(&self) {
        self.supervisor.ready(self.status());
    }

    /// One look at the clock: gives the sign of life that is due, or withholds it.
    pub(super) fn beat(&mut self) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        let database = &self.core.store.database;
        match watchdog.look(self.core.monotonic_us(), || database.log_pulse()) {
            Look::Early => {}
            Look::Alive => {
                self.standing.is_stuck = false;
                self.supervisor.alive();
                self.core.look_at_health();
            }
            Look::Stuck { for_us } => {
                if !std::mem::replace(&mut self.standing.is_stuck, true) {
                    tracing::error!(
                        target: "wal",
                        for_us,
                        "the log thread does not get on: no more signs of life until it does"
                    );
                }
            }
        }
    }

    /// Says how we are, if that has changed.
    pub(super) fn say_standing(&mut self) {
        self.standing.state = state(&self.core.store);
        if self.standing == self.said || self.core.is_draining() || self.reload.is_reading() {
            return;
        }
        self.said = self.standing;
        self.supervisor.status(self.status());
    }

    /// The stop has begun.
    pub(super) fn say_stopping(&self) {
        let unfinished = self.core.unfinished_count();
        let timeout_ms = self.reload.in_force().limits.shutdown_timeout_ms;
        // Once for what is in flight and once for the log.
        let longest = Duration::from_millis(timeout_ms.saturating_mul(2)) + STOP_SLACK;
        let status = format!("stopping: {unfinished} requests to finish, then the last sync");
        self.supervisor.stopping(status, longest);
    }

    /// Begins to read the configuration again.
    pub(super) fn begin_reload(&mut self) {
        if self.core.is_draining() {
            tracing::info!(target: "db", "a stop is under way: the configuration is left alone");
            return;
        }
        tracing::info!(target: "db", "reading the configuration again");
        self.supervisor.reloading();
        self.reload.begin();
        if !self.reload.is_reading() {
            self.say_ready();
        }
    }

    /// Puts a configuration that was read into force.
    pub(super) fn take_reload(&mut self) {
        let Some(come) = self.reload.take() else {
            return;
        };
        match come {
            Ok(fresh) => self.put_into_force(fresh),
            Err(error) => self.refuse_reload(&error),
        }
        if !self.reload.is_reading() && !self.core.is_draining() {
            self.said = self.standing;
            self.say_ready();
        }
    }

    fn put_into_force(&mut self, fresh: Fresh) {
        let principals = fresh.principals.clone();
        let changes = self.reload.adopt(fresh);
        let settings = self.reload.in_force().clone();
        let limits = settings.limits;
        self.acceptor.set_count_max(limits.connection_count_max);
        self.core.store.set_limits(&limits);
        self.core.store.automatic.set_settings(settings.snapshot);
        let default = settings.retention.default.clone();
        self.core
            .store
            .database
            .set_default_retention_policy(default);
        self.core.store.set_principals(principals);
        self.core.store.set_described(self.reload.described());
        self.core.settings_changed(settings.observe.slow_request_us);
        self.standing.is_reload_refused = false;
        let names = |names: &[&str]| match names {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        tracing::info!(target: "db", changed = %names(&changes.live), "the configuration was read again");
        if !changes.at_restart.is_empty() {
            let names = names(&changes.at_restart);
            tracing::warn!(target: "db", settings = %names, "changed, but in force only after a restart");
        }
        // Who may connect is worth a line of its own, whatever else changed.
        if changes.live.iter().any(|name| name.starts_with("access.")) {
            tracing::info!(target: "ipc", access = ?settings.access, "who may connect has changed");
        }
    }

    fn refuse_reload(&mut self, error: &ReloadError) {
        self.standing.is_reload_refused = true;
        tracing::error!(target: "db", %error, "the configuration is left as it was");
    }

    /// One line for people.
    fn status(&self) -> String {
        let (state, reason) = standing(&self.core.store);
        let socket = self.listener.path().display();
        let mut status = format!("{}: {socket}", word(state));
        if !reason.is_empty() {
            status.push_str("; ");
            status.push_str(&reason);
        }
        if self.standing.is_stuck {
            status.push_str("; THE LOG THREAD DOES NOT GET ON");
        }
        if self.standing.is_reload_refused {
            status.push_str("; the last reload was refused, see the log");
        }
        status
    }
}

fn word(state: HealthState) -> &'static str {
    match state {
        HealthState::Ok => "serving",
        HealthState::Draining => "stopping",
        HealthState::Poisoned => "POISONED, writes are refused",
        HealthState::ReadOnly => "READ ONLY, writes are refused",
        HealthState::Degraded => "DEGRADED",
    }
}
