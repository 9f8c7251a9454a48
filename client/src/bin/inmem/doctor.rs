//! `inmem doctor`: asks the daemon's own examination and prints it.

use std::io::{self, Write};
use std::process::ExitCode;

use in_mem_daemon::doctor::{Check, Grade, Subject, examine};

use crate::cli::arguments::Options;
use crate::cli::arguments::observe::DoctorArgs;
use crate::cli::failure::{EXIT_NEGATIVE, Failure};
use crate::cli::json;
use crate::cli::outcome::Outcome;

/// Examines and prints; exit code 1 if a check failed.
pub(super) fn run(options: &Options, args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let subject = Subject {
        data_dir: args.data_dir.clone(),
        socket: options.socket.clone(),
        config: args.config.clone(),
    };
    let checks = examine(&subject, env!("CARGO_PKG_VERSION"));
    let has_failed = checks.iter().any(|check| check.grade == Grade::Fail);
    let lines = checks.iter().map(line).collect();
    let result = json::array(checks.iter().map(as_json));
    let mut out = io::stdout().lock();
    let printed = Outcome::lines(result, lines).print(options, &mut out);
    let printed = printed.and_then(|()| out.flush());
    printed.map_err(|source| Failure::Unsaid { source })?;
    Ok(if has_failed {
        ExitCode::from(EXIT_NEGATIVE)
    } else {
        ExitCode::SUCCESS
    })
}

fn line(check: &Check) -> String {
    let (grade, name) = (check.grade.name(), check.name);
    // An error may bring several lines along.
    let found = check.found.split_whitespace().collect::<Vec<_>>().join(" ");
    match &check.advice {
        Some(advice) => format!("{grade:<5} {name:<15} {found}; {advice}"),
        None => format!("{grade:<5} {name:<15} {found}"),
    }
}

fn as_json(check: &Check) -> String {
    json::object([
        ("name", json::string(check.name)),
        ("grade", json::string(check.grade.name())),
        ("found", json::string(&check.found)),
        ("advice", json::optional_string(check.advice.as_deref())),
    ])
}
