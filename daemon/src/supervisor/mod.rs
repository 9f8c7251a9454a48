//! What the service manager hears of us: readiness, progress, health and signs of life.
//!
//! Messages go out on a thread of their own, so that a manager that does not read never stops a
//! reactor; it exists only where the manager gave us a socket. What it cannot take is dropped: every
//! message is a fact of the moment, and the next one replaces it.

mod activation;
mod replay;
mod watchdog;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use in_mem_engine::RecoveryProgress;
use sd_notify::NotifyState;

pub(crate) use activation::{ActivationError, PassedSocket};
pub(crate) use watchdog::{Look, Watchdog};

use replay::Replay;

/// Messages that may wait for a manager that does not read.
const WAITING_COUNT_MAX: usize = 64;

/// How often a recovery says how far it has come.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last message may take to be handed over.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The variable that names the manager's socket.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

enum Message {
    Recovering(Arc<RecoveryProgress>),
    Ready { status: String },
    Status(String),
    Alive,
    Reloading,
    Stopping { status: String, extend: Duration },
    Flush(SyncSender<()>),
}

/// The line to the service manager; silent without one.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    lane: Option<SyncSender<Message>>,
}

impl Supervisor {
    /// Opens the line, if the manager gave us one.
    pub(crate) fn start() -> io::Result<Self> {
        if std::env::var_os(NOTIFY_SOCKET).is_none() {
            return Ok(Self { lane: None });
        }
        let (lane, messages) = mpsc::sync_channel(WAITING_COUNT_MAX);
        std::thread::Builder::new()
            .name("inmem-notify".to_owned())
            .spawn(move || pass_on(&messages))?;
        Ok(Self { lane: Some(lane) })
    }

    /// Recovery has begun: its progress is reported, and more time is asked for, until something
    /// else is said.
    pub(crate) fn recovering(&self, progress: Arc<RecoveryProgress>) {
        self.tell(Message::Recovering(progress));
    }

    /// Requests are served: after the start, and after a reload.
    pub(crate) fn ready(&self, status: String) {
        self.tell(Message::Ready { status });
    }

    /// How we are.
    pub(crate) fn status(&self, status: String) {
        self.tell(Message::Status(status));
    }

    /// A sign of life.
    pub(crate) fn alive(&self) {
        self.tell(Message::Alive);
    }

    /// The configuration is being read again; [`Self::ready`] follows.
    pub(crate) fn reloading(&self) {
        self.tell(Message::Reloading);
    }

    /// The stop has begun and takes at most `extend`.
    pub(crate) fn stopping(&self, status: String, extend: Duration) {
        self.tell(Message::Stopping { status, extend });
    }

    /// Waits until what was said is handed over, but not for a manager that does not read.
    pub(crate) fn flush(&self) {
        let (done, is_done) = mpsc::sync_channel(1);
        self.tell(Message::Flush(done));
        // The answer does not matter: there is nobody else to tell.
        let _ = is_done.recv_timeout(FLUSH_MAX);
    }

    fn tell(&self, message: Message) {
        if let Some(lane) = &self.lane {
            let _ = lane.try_send(message);
        }
    }
}

/// Sends what is said until nobody can say anything any more.
fn pass_on(messages: &Receiver<Message>) {
    let mut replay: Option<Replay> = None;
    loop {
        let message = match &replay {
            Some(_) => messages.recv_timeout(REPORT_INTERVAL),
            None => messages.recv().map_err(RecvTimeoutError::from),
        };
        match message {
            Ok(Message::Recovering(progress)) => replay = Some(Replay::new(progress)),
            Ok(Message::Flush(done)) => {
                let _ = done.try_send(());
                continue;
            }
            Ok(message) => {
                replay = None;
                pass_on_one(&message);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(replay) = &mut replay {
            let report = replay.report();
            let status = NotifyState::Status(&report.status);
            match report.extend_us {
                Some(us) => send(&[status, NotifyState::ExtendTimeoutUsec(us)]),
                None => send(&[status]),
            }
        }
    }
}

fn pass_on_one(message: &Message) {
    match message {
        Message::Ready { status } => send(&[NotifyState::Ready, NotifyState::Status(status)]),
        Message::Status(status) => send(&[NotifyState::Status(status)]),
        Message::Alive => send(&[NotifyState::Watchdog]),
        Message::Reloading => {
            // A manager that asks for the time refuses a reload without it; it is always to be had.
            if let Ok(now) = NotifyState::monotonic_usec_now() {
                let status = NotifyState::Status("reading the configuration again");
                send(&[NotifyState::Reloading, now, status]);
            }
        }
        Message::Stopping { status, extend } => {
            let extend_us = u32::try_from(extend.as_micros()).unwrap_or(u32::MAX);
            send(&[
                NotifyState::Stopping,
                NotifyState::Status(status),
                NotifyState::ExtendTimeoutUsec(extend_us),
            ]);
        }
        Message::Recovering(_) | Message::Flush(_) => {}
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(target: "db", %error, "the service manager cannot be told");
    }
}
