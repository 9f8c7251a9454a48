//! Clients killed at every byte of a request and of a transaction: what was cut anywhere is out,
//! what was whole is in or out, and what was answered is in.
//!
//! Each is a process of its own that speaks the protocol by hand, writes so many bytes and not one
//! more, and dies by SIGKILL, so that the daemon meets exactly this end of its stream.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

use in_mem_client::check::{Call, Datum, History, Mode, Operation, Outcome, Write};
use in_mem_client::model::RunId;
use in_mem_ipc::request::DurabilityChoice;
use in_mem_ipc::request::txn::TxnBegin;
use in_mem_ipc::{Operation as Asked, RequestHeader, Response};
use rustix::process::{Signal, getpid, kill_process};

use crate::kill::client_process::now_ns;
use crate::kill::daemon::{Daemon, spawn_bound};
use crate::kill::dump::connect;
use crate::life::{Life, Manner, ended_by};
use crate::raw_client::{RawClient, put, request_frame};
use crate::scale::{scaled, start_seed};

/// The first argument of a process that is one.
pub const WORD: &str = "cut-client";

/// Clients at work at once.
const LANE_COUNT: usize = 4;

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// One put.
    Request,
    /// A transaction of two puts, from its begin to its commit.
    Transaction,
}

impl Script {
    fn keys(self, number: usize) -> Vec<String> {
        match self {
            Self::Request => vec![format!("cut/r{number:05}")],
            Self::Transaction => ["a", "b"]
                .map(|half| format!("cut/t{number:05}/{half}"))
                .to_vec(),
        }
    }

    /// Its frames once a transaction is known by this id, and whether the first is answered before
    /// the others are made.
    fn frames(self, number: usize, txn_id: u64) -> Vec<Vec<u8>> {
        let value = in_mem_client::model::encode(&value(number)).expect("a value has an encoding");
        let joined = RequestHeader {
            txn_id,
            ..RequestHeader::default()
        };
        let puts = self.keys(number);
        let puts = puts.iter().zip(10..).map(|(key, id)| {
            let header = match self {
                Self::Request => RequestHeader::default(),
                Self::Transaction => joined,
            };
            request_frame(id, header, put(key, value.as_bytes())).to_vec()
        });
        match self {
            Self::Request => puts.collect(),
            Self::Transaction => {
                let begin = Asked::TxnBegin(TxnBegin {
                    read_only: false,
                    timeout_ms: 0,
                    durability: DurabilityChoice::default(),
                });
                let begin = request_frame(1, RequestHeader::default(), begin).to_vec();
                let commit = request_frame(20, joined, Asked::TxnCommit).to_vec();
                std::iter::once(begin).chain(puts).chain([commit]).collect()
            }
        }
    }
}

fn value(number: usize) -> in_mem_client::model::Value {
    in_mem_client::model::Value::String(format!("of client {number}"))
}

/// One client and its end.
#[derive(Debug, Clone, Copy)]
struct Cut {
    number: usize,
    script: Script,
    /// Bytes it writes.
    len_bytes: usize,
    /// It has written everything.
    is_whole: bool,
    /// It reads the last answer before it dies.
    is_answered: bool,
}

/// Runs a process that writes so many bytes and dies.
pub fn main(words: &[String]) -> ExitCode {
    let number = |index: usize| words[index].parse::<usize>().expect("a number");
    let script = if words[2] == "Request" {
        Script::Request
    } else {
        Script::Transaction
    };
    let mut left_len = number(4);
    let mut client = RawClient::connect(Path::new(&words[1]));
    let mut txn_id = 0;
    let frame_count = script.frames(number(3), txn_id).len();
    for index in 0..frame_count {
        let frame = script.frames(number(3), txn_id)[index].clone();
        let len = frame.len().min(left_len);
        client.send(&frame[..len]);
        left_len -= len;
        if script == Script::Transaction && index == 0 && len == frame.len() {
            let begun = client.read().unwrap().expect("a begin is answered");
            match begun.response() {
                Response::TxnBegun(begun) => txn_id = begun.txn_id,
                other => panic!("{other:?}"),
            }
        }
    }
    if words[5] == "true" {
        let id = if script == Script::Request { 10 } else { 20 };
        loop {
            let reply = client
                .read()
                .unwrap()
                .expect("the last request is answered");
            let response = reply.response();
            assert!(
                matches!(response, Response::Written(_) | Response::Done),
                "{response:?}"
            );
            if reply.header.request_id == id {
                break;
            }
        }
    }
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    ExitCode::FAILURE
}

/// Every byte in the ordinary run; every seventh in the quick one.
pub fn cut_clients_leave_all_or_nothing() {
    let stride = usize::try_from(scaled(7, 1, 1)).unwrap();
    let cuts = cuts(stride);
    let manner = Manner {
        client_count: 0,
        ..Manner::new(Mode::Strict, 0)
    };
    let (mut life, daemon) = Life::begin(manner, start_seed());
    let history = Mutex::new(History::default());
    std::thread::scope(|scope| {
        for lane in 0..LANE_COUNT {
            let (history, cuts, socket) = (&history, &cuts, life.place.socket());
            scope.spawn(move || {
                for cut in cuts.iter().skip(lane).step_by(LANE_COUNT) {
                    let operation = lead(cut, &socket);
                    history.lock().unwrap().operations.push(operation);
                }
            });
        }
    });
    let history = history.into_inner().unwrap();
    // A transaction that was cut holds nothing back: its keys are free.
    let client = connect(&life.place.socket());
    let kv = client.default_run().kv();
    for cut in cuts.iter().filter(|cut| cut.is_answered) {
        for key in cut.script.keys(cut.number) {
            assert!(kv.exists(&key).unwrap(), "{cut:?} was answered");
        }
    }
    drop(client);
    assert!(ended_by(daemon.kill(), Signal::KILL));
    let _next = Daemon::start(&life.place);
    let summary = life.verify(&history).summary;
    let answered_count = cuts.iter().filter(|cut| cut.is_answered).count();
    println!(
        "{} clients cut, {} of them whole, {answered_count} answered; {} in",
        cuts.len(),
        summary.unknown_count,
        summary.unknown_found_count
    );
    assert!(answered_count <= summary.unknown_found_count);
}

fn cuts(stride: usize) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for script in [Script::Request, Script::Transaction] {
        let whole_len: usize = script.frames(0, 1).iter().map(Vec::len).sum();
        let lens = (0..whole_len).step_by(stride);
        let ends = lens
            .map(|len| (len, false))
            .chain([(whole_len, false), (whole_len, true)]);
        for (len_bytes, is_answered) in ends {
            cuts.push(Cut {
                number: cuts.len(),
                script,
                len_bytes,
                is_whole: len_bytes == whole_len,
                is_answered,
            });
        }
    }
    cuts
}

/// Leads one client to its end; gives what is known of its request.
fn lead(cut: &Cut, socket: &Path) -> Operation {
    let sent_at_ns = now_ns();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .arg(WORD)
        .arg(socket)
        .arg(format!("{:?}", cut.script))
        .args([cut.number, cut.len_bytes].map(|number| number.to_string()))
        .arg(cut.is_answered.to_string())
        .stdin(Stdio::null());
    let mut child = spawn_bound(&mut command).expect("a client process starts");
    let status = child.wait().expect("a client process ends");
    assert!(
        ended_by(status, Signal::KILL),
        "{cut:?} ended with {status}"
    );
    let datum = crate::kill::dump::datum(&value(cut.number));
    let writes = cut.script.keys(cut.number).into_iter();
    Operation {
        worker: 100,
        id: cut.number as u64,
        sent_at_ns,
        done_at_ns: (!cut.is_whole).then(now_ns),
        call: Call::Write {
            run: RunId::DEFAULT.0,
            mode: Mode::Strict,
            expects: Vec::new(),
            writes: writes.map(|key| change(key, &datum)).collect(),
        },
        outcome: if cut.is_whole {
            Outcome::Unknown
        } else {
            Outcome::Refused
        },
    }
}

fn change(key: String, datum: &Datum) -> Write {
    Write::Put(key, datum.clone())
}
