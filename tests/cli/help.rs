//! The help: every command has examples, and every example works as it stands.

use std::process::Command;

use crate::store::{Answer, Store, inmem};

/// Commands whose examples take long or stay: they have tests of their own.
const NOT_RUN: [&str; 2] = ["demo", "daemon"];

fn help(path: &[String]) -> String {
    let mut command = inmem();
    command.args(path).arg("--help");
    let answer = Answer::of(command, b"");
    assert_eq!(answer.code, 0, "{path:?}");
    answer.out
}

/// The commands listed in a help text.
fn listed(help: &str) -> Vec<String> {
    let commands = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

fn examples(help: &str) -> Vec<String> {
    let text = help.split("Examples:\n").nth(1).unwrap_or_default();
    text.lines()
        .take_while(|line| line.starts_with("  "))
        .map(|it| it.trim().to_owned())
        .collect()
}

/// Every command that has no further ones below it.
fn leaves(path: &[String], found: &mut Vec<Vec<String>>) {
    if path.first().is_some_and(|name| name == "daemon") {
        return;
    }
    let below = listed(&help(path));
    if below.is_empty() {
        found.push(path.to_vec());
    }
    for name in below {
        leaves(&[path, &[name]].concat(), found);
    }
}

#[test]
fn every_command_has_examples_and_every_example_works() {
    let mut commands = Vec::new();
    leaves(&[], &mut commands);
    assert!(40 < commands.len(), "{commands:?}");
    let store = Store::start();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_inmem"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let run = |example: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", example])
            .env("PATH", &path)
            .env("INMEM_SOCKET", store.socket());
        shell.current_dir(store.dir.path());
        let answer = Answer::of(shell, b"");
        assert_eq!(answer.code, 0, "{example}: {answer:?}");
        assert!(
            !answer.out.contains("\"ok\":false"),
            "{example}: {answer:?}"
        );
    };
    for example in examples(&help(&[])) {
        run(&example);
    }
    for path in &commands {
        let examples = examples(&help(path));
        assert!(!examples.is_empty(), "{path:?} has no example");
        if !NOT_RUN.contains(&path[0].as_str()) {
            examples.iter().for_each(|example| run(example));
        }
    }
}
