//! Locks and atomics whose every step a scheduler chooses, in the form the product uses them in.
//!
//! No wait of these ends by time: a wake-up that is lost is a deadlock, which the scheduler reports
//! with the schedule that led to it.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// As `parking_lot` has it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// As `parking_lot` has it.
pub(crate) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

/// As `parking_lot` has it, but for the end of a wait by time.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    inner: shuttle::sync::Condvar,
    /// Looked at before each wait, so that others get on between a look at what is waited for and
    /// the wait. The scheduler would take the two for one step.
    step: AtomicBool,
}

/// Never timed out.
pub(crate) struct WaitTimeoutResult;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("no panic under a lock")))
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("given back by every wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("given back by every wait")
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.step.load(Ordering::SeqCst);
        let held = guard.0.take().expect("given back by every wait");
        guard.0 = Some(self.inner.wait(held).expect("no panic under a lock"));
    }

    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _at_most: Duration,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_one(&self) {
        self.inner.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
    }
}

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

/// Runs `life` under so many schedules, drawn at random from a seed that is printed; a failure
/// prints the schedule that replays it.
pub(crate) fn under_schedules(seed: u64, count: usize, life: impl Fn() + Send + Sync + 'static) {
    println!("seed {seed}, {count} schedules");
    let mut config = shuttle::Config::new();
    // A thread of these turns a writer over a simulated disk.
    config.stack_size = 512 << 10;
    let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(seed, count);
    shuttle::Runner::new(scheduler, config).run(life);
}
