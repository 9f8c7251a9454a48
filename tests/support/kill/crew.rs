//! The eight client processes, as their parent sees them: told to go, listened to, counted.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use in_mem_client::check::{History, Operation, Outcome, Record};

use super::client_process::Orders;
use super::daemon::{DEADLINE, spawn_bound};

/// Client processes that work at once.
pub const CLIENT_COUNT: u32 = 8;

/// What the client processes have told since the last history was taken.
#[derive(Debug, Default)]
pub struct Told {
    records: Vec<Vec<Record>>,
    /// Commits acknowledged.
    pub acked_count: u64,
    /// How the turn of each process ended, once it has.
    ended: Vec<Option<String>>,
    is_over: bool,
}

impl Told {
    /// Processes that wait to be told to go.
    pub fn ended_count(&self) -> usize {
        self.ended.iter().flatten().count()
    }

    /// Each process has told of a request, or of its end.
    pub fn have_all_begun(&self) -> bool {
        let of_each = self.records.iter().zip(&self.ended);
        of_each
            .into_iter()
            .all(|(records, ended)| !records.is_empty() || ended.is_some())
    }

    /// How the turn of each process ended, in the words it told; none if it goes on.
    pub fn endings(&self) -> &[Option<String>] {
        &self.ended
    }

    /// Why turns ended, of those that met a refusal for lack of room.
    pub fn refusals(&self) -> Vec<String> {
        let told = self.ended.iter().flatten();
        told.filter_map(|word| word.strip_prefix("F "))
            .map(str::to_owned)
            .collect()
    }
}

struct Member {
    child: Child,
    stdin: ChildStdin,
    listener: Option<JoinHandle<()>>,
}

/// Client processes. Ended when dropped.
pub struct Crew {
    members: Vec<Member>,
    told: Arc<(Mutex<Told>, Condvar)>,
    /// The log of the daemon fails, as is meant: whoever is told so ends its turn.
    pub may_log_fail: bool,
}

impl Crew {
    /// Starts one process for each of the orders: this program.
    pub fn start(orders: &[Orders]) -> Self {
        Self::start_with(orders, || {
            Command::new(std::env::current_exe().expect("this program"))
        })
    }

    /// Starts one process for each of the orders: another program, which takes the same words.
    pub fn start_with(orders: &[Orders], program: impl Fn() -> Command) -> Self {
        let told = Arc::new((Mutex::new(Told::default()), Condvar::new()));
        {
            let mut told = told.0.lock().unwrap();
            told.records = vec![Vec::new(); orders.len()];
            told.ended = vec![Some(String::new()); orders.len()];
        }
        let start = |(index, orders): (usize, &Orders)| {
            let mut command = program();
            command
                .args(orders.to_words())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut child = spawn_bound(&mut command).expect("a client process starts");
            let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let told = Arc::clone(&told);
            let listener = std::thread::spawn(move || listen(stdout, index, &told));
            Member {
                child,
                stdin,
                listener: Some(listener),
            }
        };
        let members = orders.iter().enumerate().map(start).collect();
        Self {
            members,
            told,
            may_log_fail: false,
        }
    }

    /// Lets every process work on the daemon behind a socket until it loses it.
    pub fn go(&mut self, socket: &Path) {
        {
            let mut told = self.lock();
            told.acked_count = 0;
            told.ended.fill(None);
        }
        for member in &mut self.members {
            writeln!(member.stdin, "go {}", socket.display()).expect("the process listens");
        }
    }

    /// Waits until what was told fits; panics when a process says that the daemon failed.
    pub fn wait(&self, what: &str, fits: impl Fn(&Told) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut told = self.lock();
        loop {
            assert!(!told.is_over, "a client process ended by itself");
            let failed = told.ended.iter().flatten().find(|word| {
                word.starts_with("E ") || (word.starts_with("W ") && !self.may_log_fail)
            });
            assert!(
                failed.is_none(),
                "a client got what it must not: {failed:?}"
            );
            if fits(&told) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} did not come: {:?}", told.ended);
            told = self.told.1.wait_timeout(told, left).unwrap().0;
        }
    }

    /// Waits until every process has lost its daemon and has told everything.
    pub fn wait_lost(&self) {
        let count = self.members.len();
        self.wait("the end of every client's turn", |told| {
            told.ended_count() == count
        });
    }

    /// What was told, locked.
    pub fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.0.lock().unwrap()
    }

    /// Takes out the history of the epoch that has ended.
    pub fn take_history(&self) -> History {
        let mut told = self.lock();
        let mut history = History::default();
        for (worker, records) in told.records.iter_mut().enumerate() {
            history.add_worker(u32::try_from(worker).unwrap(), std::mem::take(records));
        }
        history
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
        for member in &mut self.members {
            if let Some(listener) = member.listener.take() {
                let _ = listener.join();
            }
        }
    }
}

/// Requests that were on their way when the daemon ended.
pub fn in_flight_count(history: &History) -> usize {
    let is_open = |operation: &&Operation| operation.outcome == Outcome::Unknown;
    history.operations.iter().filter(is_open).count()
}

fn listen(stdout: ChildStdout, index: usize, told: &(Mutex<Told>, Condvar)) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let record = Record::parse(&line);
        let mut guard = told.0.lock().unwrap();
        match record {
            Some(record) => {
                let is_ack = matches!(
                    &record,
                    Record::Done {
                        outcome: Outcome::Committed { .. },
                        ..
                    }
                );
                guard.acked_count += u64::from(is_ack);
                guard.records[index].push(record);
                if !is_ack {
                    continue;
                }
            }
            None => guard.ended[index] = Some(line),
        }
        drop(guard);
        told.1.notify_all();
    }
    told.0.lock().unwrap().is_over = true;
    told.1.notify_all();
}
