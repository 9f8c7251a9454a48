//! The load of `inmem bench` on a server that speaks RESP (Redis, Valkey) over a Unix socket.
//!
//! The loop, the clock, the histograms and the processes are the very files of `inmem bench`;
//! only the bytes on the wire differ. So a difference between two figures is one of the servers,
//! not of the load generators. Encoding here is a copy of a prepared command and reading a look
//! for the end of the line: cheaper per request than what the other side does.

#![allow(
    dead_code,
    reason = "the shared files hold more than this program uses"
)]

#[path = "../../../client/src/bin/inmem/bench/crew.rs"]
mod crew;
#[path = "../../../client/src/bin/inmem/bench/load.rs"]
mod load;
mod resp;
#[path = "../../../client/src/bin/inmem/bench/tally.rs"]
mod tally;

use std::collections::HashMap;
use std::env;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{self, Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crew::{Crew, Stop};
use load::{Mix, Plan, key_text};
use resp::RespWire;

/// Time before counting begins, nanoseconds; that of `inmem bench`.
const WARM_UP_NS: u64 = 500_000_000;

/// Keys loaded per command.
const LOAD_COUNT: u64 = 500;

/// `--name number` for each, and `--socket PATH`, `--op put|get`.
struct Options(HashMap<String, String>);

impl Options {
    fn parse(words: &[String]) -> io::Result<Self> {
        let mut options = HashMap::new();
        for pair in words.chunks(2) {
            let (Some(name), Some(value)) = (pair.first(), pair.get(1)) else {
                return Err(bad("every option takes a value"));
            };
            options.insert(name.trim_start_matches("--").to_owned(), value.clone());
        }
        Ok(Self(options))
    }

    fn text(&self, name: &str) -> io::Result<&str> {
        let text = self.0.get(name).map(String::as_str);
        text.ok_or_else(|| bad(&format!("--{name} is missing")))
    }

    fn number(&self, name: &str) -> io::Result<u64> {
        let number = self.text(name)?.parse();
        number.map_err(|_| bad(&format!("--{name} takes a number")))
    }

    fn mix(&self) -> io::Result<Mix> {
        match self.text("op")? {
            "put" => Ok(Mix::Put),
            "get" => Ok(Mix::Get),
            other => Err(bad(&format!("--op put or get, not {other}"))),
        }
    }
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((first, rest)) if first == "worker" => worker(rest),
        _ => parent(&words),
    };
    match done {
        Ok(error_count) => ExitCode::from(u8::from(error_count != 0)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "resp-load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Loads the keys, starts the processes, prints the figures as one JSON object.
fn parent(words: &[String]) -> io::Result<u64> {
    let options = Options::parse(words)?;
    if options.mix()? == Mix::Get {
        load_keys(&options)?;
    }
    let program = env::current_exe()?;
    let commands = (0..options.number("processes")?).map(|process| {
        let mut command = Command::new(&program);
        command.arg("worker").args(words);
        command.args(["--process", &process.to_string()]);
        command.args(["--parent", &process::id().to_string()]);
        command
    });
    let tally = Crew::start(commands, &Stop::default())?.run()?;
    let us = |quantile| {
        let ns = tally.quantile_ns(quantile);
        format!("{}.{}", ns / 1000, ns % 1000 / 100)
    };
    if let Some(message) = &tally.error_first {
        writeln!(io::stderr(), "resp-load: {message}")?;
    }
    writeln!(
        io::stdout(),
        "{{\"ops\":{},\"errors\":{},\"ops_per_second\":{},\"p50_us\":{},\"p99_us\":{}}}",
        tally.op_count,
        tally.error_count,
        tally.op_count / options.number("seconds")?.max(1),
        us(0.5),
        us(0.99),
    )?;
    Ok(tally.error_count)
}

/// One process of the load.
fn worker(words: &[String]) -> io::Result<u64> {
    let options = Options::parse(words)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = i32::try_from(options.number("parent")?).map_err(io::Error::other)?;
    // The parent may have ended before the line above.
    if getppid() != Pid::from_raw(parent) {
        return Err(bad("the parent has ended"));
    }
    let process = options.number("process")?;
    let processes = usize::try_from(options.number("processes")?).map_err(io::Error::other)?;
    let value_len = usize::try_from(options.number("value-size")?).map_err(io::Error::other)?;
    let clients = (process..options.number("clients")?).step_by(processes.max(1));
    let wires = clients.map(|_| RespWire::connect(options.text("socket")?, value_len));
    let wires = wires.collect::<io::Result<Vec<_>>>()?;
    let start_ns = crew::wait_for_start()?;
    let count_from_ns = start_ns + WARM_UP_NS;
    let plan = Plan {
        mix: options.mix()?,
        key_count: options.number("keys")?,
        depth: u32::try_from(options.number("depth")?).map_err(io::Error::other)?,
        start_ns,
        count_from_ns,
        end_ns: count_from_ns + options.number("seconds")? * 1_000_000_000,
        pace: None,
        seed: process,
    };
    let tally = load::run(wires, plan)?;
    crew::report(&tally)?;
    Ok(0)
}

/// Sets every key once.
fn load_keys(options: &Options) -> io::Result<()> {
    let value_len = usize::try_from(options.number("value-size")?).map_err(io::Error::other)?;
    let value = "x".repeat(value_len);
    let mut stream = UnixStream::connect(options.text("socket")?)?;
    let keys = options.number("keys")?;
    let mut first = 0;
    while first < keys {
        let end = keys.min(first + LOAD_COUNT);
        let mut command = format!("*{}\r\n$4\r\nMSET\r\n", 1 + 2 * (end - first));
        for number in first..end {
            let mut room = [0; 16];
            let key = key_text(number, &mut room);
            command.push_str(&format!("$16\r\n{key}\r\n${value_len}\r\n{value}\r\n"));
        }
        stream.write_all(command.as_bytes())?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply)?;
        if &reply != b"+OK\r\n" {
            return Err(bad("the server refused a key"));
        }
        first = end;
    }
    Ok(())
}
