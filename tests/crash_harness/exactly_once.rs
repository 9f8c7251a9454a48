//! Exactly-once requests through real ends: of the daemon, while clients go on by themselves, and
//! of a client process, which goes on as the client it was.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use in_mem_client::check::Mode;
use in_mem_client::model::Outcome;
use in_mem_client::{
    Client, ClientBuilder, ClientError, Encoding, Identity, ReconnectPolicy, TransactionOptions,
};
use rustix::process::Signal;

use crate::kill::daemon::{DEADLINE, Daemon, Place, spawn_bound};
use crate::kill::dump::connect;
use crate::life::{SEGMENT_LEN_BYTES, ended_by};
use crate::scale::scaled;

/// The first argument of a client process that goes on.
pub const WORD: &str = "once-client";

/// Workers of a life. Each has its own way to add.
const WORKER_COUNT: usize = 4;

/// Answers each worker has got before the daemon is killed.
const ANSWER_COUNT: u64 = 6;

/// The counter every worker adds to.
const SHARED: &str = "shared";

/// A client that waits long enough for any daemon that comes back.
fn patient(socket: &Path) -> ClientBuilder {
    let reconnect = ReconnectPolicy {
        delay_total_max: DEADLINE,
        ..ReconnectPolicy::default()
    };
    Client::builder().socket(socket).reconnect(reconnect)
}

/// What one worker was told.
#[derive(Default)]
struct Added {
    /// The sums of the shared counter.
    sums: Vec<i64>,
    /// What it added to the counter of its own.
    own_count: i64,
}

/// Adds in the way of a worker.
fn add(client: &Client, number: usize, added: &mut Added) -> Result<(), ClientError> {
    let own = format!("own/{number}");
    match number % WORKER_COUNT {
        0 | 1 => added.sums.push(client.kv().incr(SHARED, 1)?.value),
        2 => {
            let mut pipeline = client.pipeline();
            let tickets: Vec<_> = (0..20)
                .map(|_| pipeline.incr(SHARED, 1).expect("there is room"))
                .collect();
            let mut answers = pipeline.send()?;
            for ticket in tickets {
                added.sums.push(answers.take(ticket)?.value);
            }
        }
        _ => {
            let run = client.default_run();
            run.transaction(&TransactionOptions::default(), |transaction| {
                transaction.kv().incr(&own, 1)
            })?;
            added.own_count += 1;
        }
    }
    Ok(())
}

/// Adds until it is told to stop; tells of each answer.
fn work(client: &Client, number: usize, stop: &AtomicBool, told: &Sender<usize>) -> Added {
    let mut added = Added::default();
    while !stop.load(Ordering::Relaxed) {
        match add(client, number, &mut added) {
            Ok(()) => told.send(number).expect("somebody listens"),
            // Of a transaction, whose connection was lost before its commit was sent.
            Err(error) if number == 3 && error.outcome() != Some(Outcome::OutcomeUnknown) => {}
            Err(error) => panic!("worker {number}: {error}: {:?}", error.outcome()),
        }
    }
    added
}

/// Waits until every worker was answered anew.
fn wait_for_all(told: &Receiver<usize>) {
    while told.try_recv().is_ok() {}
    let mut counts = [0; WORKER_COUNT];
    while counts.iter().any(|count| *count < ANSWER_COUNT) {
        let number = told.recv_timeout(DEADLINE).expect("the workers go on");
        counts[number] += 1;
    }
}

/// Every addition that was answered is in once, each with the answer of its own, and none has an
/// unknown outcome.
pub fn additions_through_kills_have_one_effect_each() {
    for mode in [Mode::Buffered, Mode::Strict] {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), mode, SEGMENT_LEN_BYTES).with_checkpoints();
        let mut daemon = Daemon::start(&place);
        let stop = AtomicBool::new(false);
        let (teller, told) = channel();
        let (added, _daemon) = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKER_COUNT)
                .map(|number| {
                    let encoding = match number {
                        1 => Encoding::MessagePack,
                        _ => Encoding::Rkyv,
                    };
                    let builder = patient(&place.socket()).encoding(encoding);
                    let client = builder.connect().expect("the daemon is ready");
                    let (teller, stop) = (teller.clone(), &stop);
                    scope.spawn(move || work(&client, number, stop, &teller))
                })
                .collect();
            for _ in 0..scaled(2, 6, 200) {
                wait_for_all(&told);
                assert!(ended_by(daemon.kill(), Signal::KILL));
                daemon = Daemon::start(&place);
            }
            wait_for_all(&told);
            stop.store(true, Ordering::Relaxed);
            let joined = workers.into_iter().map(|worker| worker.join());
            let added = joined.map(|added| added.expect("a worker ends well"));
            (added.collect::<Vec<Added>>(), daemon)
        });
        verify(&connect(&place.socket()), &added);
        println!(
            "{mode:?}: {} additions",
            added.iter().map(|it| it.sums.len()).sum::<usize>()
        );
    }
}

fn verify(client: &Client, added: &[Added]) {
    let sums: Vec<i64> = added
        .iter()
        .flat_map(|it| it.sums.iter().copied())
        .collect();
    let different: BTreeSet<i64> = sums.iter().copied().collect();
    assert_eq!(
        different.len(),
        sums.len(),
        "no two additions got one answer"
    );
    let total = client.kv().get::<i64>(SHARED).unwrap();
    assert_eq!(total, i64::try_from(sums.len()).ok(), "one effect each");
    let own = client.kv().get::<i64>("own/3").unwrap();
    assert_eq!(own, Some(added[3].own_count), "one commit each");
}

/// What the client process keeps: who it is, with the sequence of the write it sends next.
fn read_identity(path: &Path) -> Identity {
    let Ok(text) = std::fs::read_to_string(path) else {
        return Identity::new();
    };
    let words: Vec<u128> = text
        .split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect();
    Identity {
        client_id: words[0].to_le_bytes(),
        registered_at: Some(u64::try_from(words[1]).unwrap()),
        last_sequence: u64::try_from(words[2]).unwrap(),
    }
}

fn write_identity(path: &Path, identity: Identity) {
    let registered_at = identity.registered_at.expect("the daemon said");
    let id = u128::from_le_bytes(identity.client_id);
    let text = format!("{id} {registered_at} {}", identity.last_sequence);
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// Runs a client process: repeats its last write, whatever became of it, and goes on. The counter
/// is its own, so each sum is the sequence of the write.
pub fn main(words: &[String]) -> ExitCode {
    let (socket, path) = (Path::new(&words[1]), PathBuf::from(&words[2]));
    let count: u64 = words[3].parse().expect("a number");
    let kept = read_identity(&path);
    let client = patient(socket).identity(kept).connect().expect("a daemon");
    let mut sequence = kept.last_sequence;
    if 0 < sequence {
        let repeated = client.repeat(sequence).kv().incr("counter", 1);
        assert_eq!(u64::try_from(repeated.unwrap().value), Ok(sequence), "once");
    }
    let mut out = std::io::stdout().lock();
    for _ in 0..count {
        sequence += 1;
        let identity = client.identity().expect("its writes are remembered");
        let next = Identity {
            last_sequence: sequence,
            ..identity
        };
        write_identity(&path, next);
        writeln!(out, "sent").unwrap();
        let sum = client.kv().incr("counter", 1).expect("an answer").value;
        assert_eq!(u64::try_from(sum), Ok(sequence), "once");
        writeln!(out, "answered").unwrap();
    }
    ExitCode::SUCCESS
}

/// A client process killed before or after its last answer, also together with the daemon.
pub fn killed_clients_go_on_with_their_last_write() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path(), Mode::Strict, SEGMENT_LEN_BYTES);
    let mut daemon = Daemon::start(&place);
    let path = dir.path().join("identity");
    let rounds = scaled(8, 24, 1_000);
    for round in 0..=rounds {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let count = if round == rounds { 3 } else { u64::MAX };
        command
            .arg(WORD)
            .arg(place.socket())
            .arg(&path)
            .arg(count.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = spawn_bound(&mut command).expect("a client process starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        if round < rounds {
            // Odd: the last write is answered. Even: it is about to be sent, or on its way.
            for _ in 0..5 + round % 2 {
                lines.next().expect("the client process goes on").unwrap();
            }
            if round % 3 == 2 {
                assert!(ended_by(daemon.kill(), Signal::KILL));
                child.kill().unwrap();
                daemon = Daemon::start(&place);
            }
            child.kill().unwrap();
            assert!(ended_by(child.wait().unwrap(), Signal::KILL));
        } else {
            assert_eq!(lines.count(), 6);
            assert!(child.wait().unwrap().success());
        }
    }
    let last = read_identity(&path).last_sequence;
    let counter = connect(&place.socket()).kv().get::<i64>("counter").unwrap();
    assert_eq!(counter, i64::try_from(last).ok(), "one effect each");
    println!("{rounds} kills of a client, {last} writes");
}
