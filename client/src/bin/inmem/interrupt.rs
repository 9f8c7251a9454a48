//! SIGINT, as an event: it gives up the request under way, and says nothing of how to go on.
//!
//! The signal is blocked in every thread and taken by one of its own. While a command is carried
//! out, it cancels the calls of the session: the command ends at once, with an error that says
//! whether a write may have happened. Between commands there is nothing to give up: the pipe ends
//! the process, the interactive shell goes on. A process whose command does not end (its answers may
//! be waiting for a reader) ends at the second signal.

use std::io;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use in_mem_client::Canceller;
use nix::sys::signal::{SigSet, Signal};

use crate::cli::failure::{EXIT_INTERRUPTED, Failure};

/// What an interrupt means where there is nothing to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtRest {
    /// The end of the process.
    Leave,
    /// Nothing.
    Stay,
}

/// The interrupts of this process.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    canceller: Canceller,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a command is being carried out and answered.
    is_busy: bool,
    /// Whether it was interrupted.
    is_interrupted: bool,
}

impl Interrupts {
    /// Begins to wait for interrupts. To be called before any other thread is started: the signal
    /// is blocked in all that follow.
    pub(crate) fn watch(at_rest: AtRest) -> Result<Self, Failure> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        let failed = |errno: nix::Error| Failure::file("signals", io::Error::from(errno));
        signals.thread_block().map_err(failed)?;
        let interrupts = Self {
            canceller: Canceller::new(),
            state: Arc::default(),
        };
        let taker = interrupts.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                while signals.wait().is_ok() {
                    taker.interrupt(at_rest);
                }
            })
            .map_err(|error| Failure::file("the thread for signals", error))?;
        Ok(interrupts)
    }

    /// What gives up the calls.
    pub(crate) const fn canceller(&self) -> &Canceller {
        &self.canceller
    }

    /// A command begins; what interrupted the one before does not interrupt it.
    pub(crate) fn begin(&self) {
        let mut state = self.lock();
        *state = State {
            is_busy: true,
            is_interrupted: false,
        };
        self.canceller.reset();
    }

    /// A command was answered; whether it was interrupted.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.lock();
        state.is_busy = false;
        state.is_interrupted
    }

    /// Waits, within the one command of a process, for something else than the server. An
    /// interrupt meanwhile ends the process.
    pub(crate) fn at_rest<T>(&self, wait: impl FnOnce() -> T) -> T {
        {
            let mut state = self.lock();
            if state.is_interrupted {
                process::exit(EXIT_INTERRUPTED.into());
            }
            state.is_busy = false;
        }
        let waited = wait();
        self.lock().is_busy = true;
        waited
    }

    /// Takes one interrupt. The lock is held to the end: no command begins on the way out.
    fn interrupt(&self, at_rest: AtRest) {
        let mut state = self.lock();
        let is_first = !state.is_interrupted;
        if state.is_busy && (is_first || at_rest == AtRest::Stay) {
            state.is_interrupted = true;
            self.canceller.cancel();
        } else if at_rest == AtRest::Leave {
            process::exit(EXIT_INTERRUPTED.into());
        }
    }

    /// No field is ever half changed, so a panic elsewhere while it was locked changes nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
