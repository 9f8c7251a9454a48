//! One database directory through many ends: the daemon, its clients and the checker of its life.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use in_mem_client::check::{Checker, Dump, End, History, Mode, Report, Summary, Survival};
use in_mem_client::model::{Durability, RunId, RunStatus};
use in_mem_client::{Client, RunOptions};

use crate::kill::client_process::Orders;
use crate::kill::crew::{CLIENT_COUNT, Crew, in_flight_count};
use crate::kill::daemon::{Daemon, Place};
use crate::kill::dump::{connect, dump};

/// Segments of the ordinary life, bytes: the smallest there are, so that the log rotates often.
pub const SEGMENT_LEN_BYTES: u64 = 64 << 10;

/// How a life is led.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// The mode of the database.
    pub mode: Mode,
    /// Of ten requests, so many name another.
    pub override_per_ten: u64,
    /// Requests of each client on their way at once, at most.
    pub depth: u64,
    /// Client processes.
    pub client_count: u32,
    /// Whether the clients only put new values, one at a time.
    pub only_puts: bool,
    /// Length of most values, bytes.
    pub value_len_bytes: u64,
}

impl Manner {
    /// Eight clients with every kind of request.
    pub fn new(mode: Mode, override_per_ten: u64) -> Self {
        Self {
            mode,
            override_per_ten,
            depth: 6,
            client_count: CLIENT_COUNT,
            only_puts: false,
            value_len_bytes: 120,
        }
    }
}

/// A database, its clients, and what is known of it.
pub struct Life {
    /// Where it is.
    pub place: Place,
    /// Its client processes.
    pub crew: Crew,
    /// Holds what was recovered against what was told.
    pub checker: Checker,
    runs: BTreeMap<RunId, RunStatus>,
    /// What further client processes are told when they start.
    orders: Orders,
    /// What those of the crew were told.
    crew_orders: Vec<Orders>,
    /// Nothing is ever logged: after a restart it is another database, whose versions begin anew.
    is_volatile: bool,
    _dir: Option<tempfile::TempDir>,
}

/// What one end came to.
#[derive(Debug, Clone, Copy)]
pub struct Verified {
    /// What the checker counted.
    pub summary: Summary,
    /// Requests that were on their way.
    pub in_flight_count: usize,
}

impl Life {
    /// Begins a life with checkpoints in a new directory; gives the running daemon.
    pub fn begin(manner: Manner, seed: u64) -> (Self, Daemon) {
        let dir = tempfile::Builder::new()
            .prefix("inmem-crash-")
            .tempdir()
            .unwrap();
        let place = Place::new(dir.path(), manner.mode, SEGMENT_LEN_BYTES).with_checkpoints();
        Self::begin_at(place, Some(dir), manner, seed)
    }

    /// Begins a life at a place.
    pub fn begin_at(
        place: Place,
        dir: Option<tempfile::TempDir>,
        manner: Manner,
        seed: u64,
    ) -> (Self, Daemon) {
        let daemon = Daemon::start(&place);
        let client = connect(&place.socket());
        let mut ids = vec![RunId::DEFAULT];
        // A run that only exists in memory would be gone after the first kill.
        let is_volatile = manner.mode == Mode::InMemory && manner.override_per_ten == 0;
        if !is_volatile {
            ids.extend(["first", "second"].map(|name| begin_run(&client, name)));
        }
        let common = Orders {
            number: 0,
            seed: 0,
            depth: manner.depth,
            mode: manner.mode,
            override_per_ten: manner.override_per_ten,
            runs: ids.iter().map(RunId::to_string).collect(),
            only_puts: manner.only_puts,
            value_len_bytes: manner.value_len_bytes,
            tells_steps: false,
        };
        let orders: Vec<Orders> = (0..manner.client_count)
            .map(|number| Orders {
                number,
                seed: seed.wrapping_mul(1_000).wrapping_add(u64::from(number)),
                ..common.clone()
            })
            .collect();
        let (_, runs) = dump(&client);
        assert_eq!(runs.len(), ids.len() - 1, "every run begun is listed");
        let crew = Crew::start(&orders);
        (
            Self {
                place,
                crew,
                checker: Checker::new(),
                orders: common,
                crew_orders: orders,
                is_volatile,
                runs,
                _dir: dir,
            },
            daemon,
        )
    }

    /// The same life with other client processes, before any has worked.
    pub fn with_crew(mut self, program: impl Fn() -> Command) -> Self {
        self.crew = Crew::start_with(&self.crew_orders, program);
        self
    }

    /// What a client process beside the crew is told when it starts.
    pub fn orders(&self, number: u32, seed: u64) -> Orders {
        Orders {
            number,
            seed,
            ..self.orders.clone()
        }
    }

    /// Lets the clients work until so many commits were acknowledged, and none of them has still to
    /// connect: it would find the next daemon behind the same path, and never lose this one.
    pub fn work(&mut self, acked_count: u64) {
        self.crew.go(&self.place.socket());
        self.crew
            .wait("enough acknowledged commits, of all clients", |told| {
                acked_count <= told.acked_count && told.have_all_begun()
            });
    }

    /// The history of the epoch that the end of the daemon has ended.
    pub fn take_history(&self) -> History {
        self.crew.wait_lost();
        self.crew.take_history()
    }

    /// Holds what a daemon shows after a restart against the history before.
    pub fn verify(&mut self, history: &History) -> Verified {
        let result = self.try_verify(history);
        result.unwrap_or_else(|report| self.give_up(&report, history))
    }

    /// Holds what a daemon shows after the power went against the history before: what was Buffered
    /// may be gone, as a suffix.
    pub fn verify_without_cache(&mut self, history: &History) -> Verified {
        let result = self.try_verify_without_cache(history);
        result.unwrap_or_else(|report| self.give_up(&report, history))
    }

    /// The same, giving the checker's report.
    pub fn try_verify_without_cache(&mut self, history: &History) -> Result<Verified, Box<Report>> {
        let shown = self.dump();
        self.check_since(0, history, shown)
    }

    /// Keeps the evidence and fails.
    fn give_up(&self, report: &Report, history: &History) -> ! {
        let kept = self.keep_evidence();
        // One line for each request, in the order they were sent.
        let mut operations = history.operations.clone();
        operations.sort_by_key(|operation| operation.sent_at_ns);
        let lines = operations
            .iter()
            .map(|operation| format!("{operation:?}\n"));
        let text = lines.chain([format!("{:?}\n", self.dump())]);
        std::fs::write(kept.join("history.txt"), text.collect::<String>()).unwrap();
        panic!(
            "{report}\nevidence: {}\nlog:\n{}",
            kept.display(),
            self.place.log_tail()
        )
    }

    /// The same, giving the checker's report.
    pub fn try_verify(&mut self, history: &History) -> Result<Verified, Box<Report>> {
        let shown = self.dump();
        self.check(history, shown)
    }

    /// Holds a dump after a restart against the history before.
    pub fn check(&mut self, history: &History, dump: Dump) -> Result<Verified, Box<Report>> {
        // The kernel outlives the daemon: what it was given is kept.
        self.check_since(u64::MAX, history, dump)
    }

    /// The same where only Buffered commits acknowledged before a moment are kept for certain,
    /// nanoseconds of the clock of the clients.
    fn check_since(
        &mut self,
        buffered_acked_before_ns: u64,
        history: &History,
        dump: Dump,
    ) -> Result<Verified, Box<Report>> {
        let survival = Survival::Restart {
            buffered_acked_before_ns,
        };
        let is_empty = dump.runs.is_empty();
        let summary = self
            .checker
            .check(history, &End { survival, dump })
            .map_err(Box::new)?;
        if self.is_volatile {
            assert!(is_empty, "nothing outlives a daemon that logs nothing");
            self.checker = Checker::new();
        }
        Ok(Verified {
            summary,
            in_flight_count: in_flight_count(history),
        })
    }

    /// Holds what a daemon shows that did not end against the history so far.
    pub fn verify_running(&mut self, history: &History) -> Verified {
        let end = End {
            survival: Survival::All,
            dump: self.dump(),
        };
        let summary = self
            .checker
            .check(history, &end)
            .unwrap_or_else(|report| panic!("{report}"));
        Verified {
            summary,
            in_flight_count: in_flight_count(history),
        }
    }

    /// Holds what a daemon shows against the state verified last.
    pub fn verify_again(&mut self) {
        let shown = self.dump();
        if let Err(report) = self.checker.check_again(&shown) {
            let kept = self.keep_evidence();
            panic!("{report}\nevidence: {}", kept.display());
        }
    }

    /// Everything the running daemon shows; the runs are those that were begun, as they were.
    pub fn dump(&self) -> Dump {
        let (shown, runs) = dump(&connect(&self.place.socket()));
        assert_eq!(runs, self.runs, "the runs and their statuses survive");
        shown
    }

    /// Copies the files of the database to where they outlive the test.
    fn keep_evidence(&self) -> PathBuf {
        let target = std::env::temp_dir().join(format!("inmem-evidence-{}", std::process::id()));
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(&self.place.dir).arg(&target);
        if !copy.status().is_ok_and(|status| status.success()) {
            eprintln!("the evidence could not be copied");
        }
        target
    }
}

fn begin_run(client: &Client, name: &str) -> RunId {
    let options = RunOptions {
        name: Some(name),
        ..RunOptions::default()
    };
    let begun = client
        .runs()
        .with_durability(Durability::Strict)
        .begin(&options);
    begun.expect("a run begins").info.id
}

/// Whether a process ended by this signal.
pub fn ended_by(status: ExitStatus, signal: rustix::process::Signal) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(signal.as_raw())
}

/// Waits for the end of a daemon; it must come by itself, by abort.
pub fn wait_abort(daemon: &mut Daemon, wait_max: Duration) -> bool {
    match daemon.wait_end(wait_max) {
        None => false,
        Some(status) => {
            assert!(
                ended_by(status, rustix::process::Signal::ABORT),
                "ended with {status}"
            );
            true
        }
    }
}
