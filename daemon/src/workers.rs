//! A few threads for requests that would hold the reactor too long.
//!
//! Two lanes, each with its threads and one bounded queue, served in order: one for what reads and
//! writes data, one for looks at the daemon itself, which have to be answered also while every
//! thread of the other lane is busy for long. A job runs to its end on one thread and hands its
//! result over by itself; a panic ends the job, not the thread. Dropping the workers lets the jobs
//! that run finish, drops those that wait, and joins. Knows nothing of requests.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

/// Jobs waiting at once; beyond, requests are refused with `resource_exhausted`.
pub(crate) const QUEUE_COUNT_MAX: usize = 4096;

/// Threads for data. Two keep one long scan from delaying every other one; more would only take
/// CPU from the reactor.
const DATA_THREAD_COUNT: usize = 2;

/// Threads for looks at the daemon: they are short and rare.
const LOOK_THREAD_COUNT: usize = 1;

type Job = Box<dyn FnOnce() + Send>;

/// What a job is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Data: as long as there is of it.
    Data,
    /// The daemon itself.
    Look,
}

/// The threads of both lanes.
#[derive(Debug)]
pub(crate) struct Workers {
    data: Pool,
    look: Pool,
}

/// The threads of one lane.
#[derive(Debug)]
struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// The queue is full; the job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Workers {
    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self {
            data: Pool::start("inmem-worker", DATA_THREAD_COUNT)?,
            look: Pool::start("inmem-look", LOOK_THREAD_COUNT)?,
        })
    }

    /// Queues a job.
    pub(crate) fn run(&self, lane: Lane, job: Job) -> Result<(), Full> {
        match lane {
            Lane::Data => self.data.run(job),
            Lane::Look => self.look.run(job),
        }
    }
}

impl Pool {
    fn start(name: &str, thread_count: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let threads = (0..thread_count).map(|index| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("{name}-{index}"));
            builder.spawn(move || serve(&shared))
        });
        let threads = threads.collect::<io::Result<Vec<_>>>()?;
        Ok(Self { shared, threads })
    }

    fn run(&self, job: Job) -> Result<(), Full> {
        let mut queue = self.shared.queue.lock();
        if queue.jobs.len() >= QUEUE_COUNT_MAX {
            return Err(Full);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.is_closed = true;
        let waiting = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(waiting);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches the panics of its jobs and has none of its own.
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared) {
    loop {
        let mut queue = shared.queue.lock();
        let job = loop {
            if let Some(job) = queue.jobs.pop_front() {
                break job;
            }
            if queue.is_closed {
                return;
            }
            shared.changed.wait(&mut queue);
        };
        drop(queue);
        // Each job reports its own panic through what it drops; here it only must not end the
        // thread.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn jobs_run_and_a_panic_does_not_end_the_pool() {
        let workers = Workers::start().unwrap();
        let (sender, receiver) = mpsc::channel();
        for number in 0..100 {
            let sender = sender.clone();
            let job = move || {
                assert!(number % 10 != 3, "expected by this test");
                sender.send(number).unwrap();
            };
            workers.run(Lane::Data, Box::new(job)).unwrap();
        }
        drop(sender);
        let mut numbers: Vec<i32> = receiver.iter().collect();
        numbers.sort_unstable();
        assert_eq!(
            numbers,
            (0..100)
                .filter(|number| number % 10 != 3)
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_full_queue_refuses() {
        let workers = Workers::start().unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut accepted = 0;
        let mut is_refused = false;
        for _ in 0..QUEUE_COUNT_MAX + DATA_THREAD_COUNT + 1 {
            let receiver = Arc::clone(&receiver);
            let job = Box::new(move || receiver.lock().recv().unwrap_or_default());
            match workers.run(Lane::Data, job) {
                Ok(()) => accepted += 1,
                Err(Full) => is_refused = true,
            }
        }
        assert!(is_refused);
        assert!(accepted >= QUEUE_COUNT_MAX);
        drop(sender);
    }

    #[test]
    fn a_look_is_not_held_up_by_long_jobs() {
        let workers = Workers::start().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..2 * DATA_THREAD_COUNT {
            let held = Arc::clone(&held);
            let job = Box::new(move || held.lock().recv().unwrap_or_default());
            workers.run(Lane::Data, job).unwrap();
        }
        let (done, is_done) = mpsc::channel();
        let look = Box::new(move || done.send(()).unwrap());
        workers.run(Lane::Look, look).unwrap();
        is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(release);
    }
}
