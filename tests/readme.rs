//! The README is true: its shell examples run as they stand, and its Rust example is the one below.
//!
//! The two commands of the quick start build and test the project, this test among it; `.ci/run`
//! runs them.

#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should; support files serve several tests"
)]

use std::path::Path;
use std::process::{Command, Stdio};

const README: &str = include_str!("../README.md");
const THIS_FILE: &str = include_str!("readme.rs");

#[rustfmt::skip]
mod rust_example {
use in_mem_client::{Client, ClientError};

pub(crate) fn work(socket: &std::path::Path) -> Result<(), ClientError> {
    let client = Client::builder().socket(socket).connect()?;
    client.runs().begin(&in_mem_client::RunOptions { name: Some("agent-8"), ..Default::default() })?;
    let run = client.run("agent-8")?;

    let receipt = run.kv().put("step", &1)?;
    assert_eq!(receipt.level, Some(in_mem_client::model::Level::Synced));

    // Both, or none; begun again if another worker changed what was read.
    run.transaction(&Default::default(), |transaction| {
        let step: i64 = transaction.kv().get("step")?.unwrap_or(0);
        transaction.kv().put("step", &(step + 1))?;
        transaction.kv().put("last", "searched")?;
        Ok::<(), ClientError>(())
    })?;
    assert_eq!(run.kv().get::<i64>("step")?, Some(2));
    Ok(())
}
}

/// The content of every fenced block of one language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README
        .split(fence.as_str())
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

/// Runs a script with our executables first on the path, and gives what it printed.
fn run_script(script: &str, dir: &Path) -> String {
    let executables = Path::new(env!("CARGO_BIN_EXE_inmem")).parent().unwrap();
    let path = format!(
        "{}:{}",
        executables.display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(dir)
        .env("PATH", path)
        .env("HOME", dir)
        .env_remove("INMEM_SOCKET")
        .env_remove("INMEM_DATA_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?}\n{printed}\n{errors}",
        output.status
    );
    printed
}

#[test]
fn every_shell_example_runs_as_it_stands() {
    // A person needs longer to type the next command than a daemon to start; the script waits.
    let started = "inmemd &\n";
    let waits = "inmemd > inmemd.out &\nfor try in $(seq 2000); do inmem ping && break; done\n";
    let examples: Vec<&str> = blocks("sh")
        .into_iter()
        .filter(|block| !block.contains("cargo "))
        .collect();
    let script = examples.concat();
    assert!(script.contains(started), "the README starts a daemon");
    // Should a command fail, the daemon ends with the script.
    let script = format!("trap 'kill %1 2>/dev/null || true; wait' EXIT\n{script}");

    let dir = tempfile::tempdir().unwrap();
    let printed = run_script(&script.replace(started, waits), dir.path());
    for expected in [
        r#"{"step":1,"done":false}"#,
        "city/1",
        r#""result":"Oslo""#,
        r#""result":2"#,
    ] {
        assert!(printed.contains(expected), "{expected} in:\n{printed}");
    }
}

#[test]
fn the_rust_example_is_the_one_that_runs_here() {
    let examples = blocks("rust");
    assert_eq!(examples.len(), 1);
    let example = examples[0].replace("fn work", "pub(crate) fn work");
    assert!(
        THIS_FILE.contains(&example),
        "copy the example of the README into this file"
    );
}

#[test]
fn the_rust_example_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let script = "export INMEM_SOCKET=\"$PWD/s\" INMEM_DATA_DIR=\"$PWD/d\"\n\
                  exec inmemd > ready.out 2>&1 & echo $!\n\
                  for try in $(seq 2000); do inmem ping >&2 && break; done";
    let process = run_script(script, dir.path());
    let worked = rust_example::work(&dir.path().join("s"));
    run_script(&format!("kill {process}"), dir.path());
    worked.unwrap();
}

#[test]
fn the_two_commands_of_the_quick_start_are_there() {
    for command in [
        "cargo run --release --bin inmem -- demo",
        "cargo test --workspace",
    ] {
        assert!(
            blocks("sh").iter().any(|block| block.trim() == command),
            "{command}"
        );
    }
}
