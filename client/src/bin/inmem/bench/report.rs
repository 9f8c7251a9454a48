//! The figures of a bench, for a program and for a human.

use std::io::{self, Write};

use crate::cli::arguments::Options;
use crate::cli::arguments::bench::BenchArgs;
use crate::cli::bench::tally::Tally;
use crate::cli::failure::Failure;
use crate::cli::json;

/// Parts of all answers, and what their latency is called.
const QUANTILES: [(f64, &str); 4] = [
    (0.5, "p50_us"),
    (0.99, "p99_us"),
    (0.999, "p999_us"),
    (1.0, "max_us"),
];

/// Prints the figures.
pub(super) fn print(options: &Options, args: &BenchArgs, tally: &Tally) -> Result<(), Failure> {
    let text = match options.json {
        true => to_json(args, tally),
        false => to_text(args, tally),
    };
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|source| Failure::Unsaid { source })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is shown with far fewer digits than a double has"
)]
fn ops_per_second(args: &BenchArgs, tally: &Tally) -> f64 {
    tally.op_count as f64 / args.load.seconds as f64
}

/// Microseconds, with the tenth.
fn us(ns: u64) -> String {
    format!("{}.{}", ns / 1000, ns % 1000 / 100)
}

const fn loop_name(args: &BenchArgs) -> &'static str {
    match args.load.rate {
        Some(_) => "open",
        None => "closed",
    }
}

fn to_json(args: &BenchArgs, tally: &Tally) -> String {
    let load = &args.load;
    let mut fields = vec![
        ("op", json::string(load.op.name())),
        ("mode", json::string(load.mode.name())),
        ("clients", load.clients.to_string()),
        ("processes", args.processes.to_string()),
        ("depth", load.depth.to_string()),
        ("value_size", load.value_size.to_string()),
        ("keys", load.keys.to_string()),
        ("runs", args.runs.to_string()),
        ("seconds", load.seconds.to_string()),
        ("ops", tally.op_count.to_string()),
        ("errors", tally.error_count.to_string()),
        (
            "ops_per_second",
            format!("{:.1}", ops_per_second(args, tally)),
        ),
    ];
    let latencies = QUANTILES.map(|(part, name)| (name, us(tally.quantile_ns(part))));
    fields.extend(latencies);
    fields.push(("loop", json::string(loop_name(args))));
    let offered = load.rate.map_or_else(json::null, |rate| rate.to_string());
    fields.push(("offered_per_second", offered));
    json::object(fields)
}

fn to_text(args: &BenchArgs, tally: &Tally) -> String {
    let load = &args.load;
    let offered = load
        .rate
        .map(|rate| format!(", {rate} requests/s offered"))
        .unwrap_or_default();
    let latencies = QUANTILES.map(|(part, name)| {
        let name = name.trim_end_matches("_us");
        format!("{name} {} us", us(tally.quantile_ns(part)))
    });
    format!(
        "{} {}, {} clients in {} processes, {} in flight each, {} bytes, {} keys in each of {} \
         runs; {} loop{offered}\n{:.0} ops/s over {} s, {} errors\n{}",
        load.op.name(),
        load.mode.name(),
        load.clients,
        args.processes,
        load.depth,
        load.value_size,
        load.keys,
        args.runs,
        loop_name(args),
        ops_per_second(args, tally),
        load.seconds,
        tally.error_count,
        latencies.join(", ")
    )
}
