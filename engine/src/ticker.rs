//! The clock of the embedded engine: a thread that reads the time every millisecond while commits
//! arrive, so that no commit has to.
//!
//! After 100 ms without a commit it sleeps for good. The next commit finds it asleep, reads the
//! clock itself, once, and wakes it. Dropping the owner stops and joins the thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::limits::{TICK_IDLE_COUNT_MAX, TICK_MS};
use crate::shared::Shared;

/// Owns the clock thread.
pub(crate) struct Ticker {
    state: Arc<TickerState>,
    join: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct TickerState {
    is_asleep: AtomicBool,
    is_stopped: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let state = Arc::new(TickerState::default());
        let ticking = Arc::clone(&state);
        let join = thread::Builder::new()
            .name("inmem-clock".to_owned())
            .spawn(move || tick(&shared, &ticking))?;
        Ok(Self {
            state,
            join: Some(join),
        })
    }

    /// Called before a commit: wakes the clock if it sleeps.
    #[inline]
    pub(crate) fn poke(&self, shared: &Shared) {
        // Relaxed: a commit that misses the moment of falling asleep uses a time one tick old.
        if self.state.is_asleep.load(Ordering::Relaxed) {
            self.wake(shared);
        }
    }

    #[cold]
    fn wake(&self, shared: &Shared) {
        if self.state.is_asleep.swap(false, Ordering::SeqCst) {
            shared.now.refresh();
            shared.now.set_stale(false);
            if let Some(join) = &self.join {
                join.thread().unpark();
            }
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.is_stopped.store(true, Ordering::SeqCst);
        let Some(join) = self.join.take() else { return };
        join.thread().unpark();
        if join.thread().id() != thread::current().id() {
            let _ = join.join();
        }
    }
}

fn tick(shared: &Shared, state: &TickerState) {
    let mut last_version = shared.store.sequencer.last_issued();
    let mut idle_count = 0;
    while !state.is_stopped.load(Ordering::SeqCst) {
        thread::park_timeout(Duration::from_millis(TICK_MS));
        shared.now.refresh();
        let version = shared.store.sequencer.last_issued();
        idle_count = if version == last_version {
            idle_count + 1
        } else {
            0
        };
        last_version = version;
        if TICK_IDLE_COUNT_MAX <= idle_count {
            state.is_asleep.store(true, Ordering::SeqCst);
            shared.now.set_stale(true);
            while state.is_asleep.load(Ordering::SeqCst) && !state.is_stopped.load(Ordering::SeqCst)
            {
                thread::park();
            }
            shared.now.refresh();
            shared.now.set_stale(false);
            idle_count = 0;
        }
    }
}
