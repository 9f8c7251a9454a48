//! The interactive shell on a terminal, and interrupts of the shell, the pipe and one command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::store::{Answer, DEADLINE, Pipe, Store, inmem, lines_of, wait};
use crate::stuck_server::{Met, listen};
use crate::terminal::Terminal;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const PROMPT: &str = "default> ";

/// The shell of a store, whose history is in its directory, at its first prompt.
fn shell(socket: &Path, dir: &Path, words: &[&str]) -> Terminal {
    let mut command = inmem();
    command.arg("--socket").arg(socket).args(words);
    command.env("XDG_STATE_HOME", dir.join("state"));
    let mut terminal = Terminal::start(command);
    terminal.wait_for("Ctrl-D leaves");
    terminal.wait_for("> ");
    terminal
}

fn shell_of(store: &Store) -> Terminal {
    shell(&store.socket(), store.dir.path(), &[])
}

#[test]
fn commands_are_answered_and_ctrl_d_leaves() {
    let store = Store::start();
    let mut shell = shell_of(&store);
    shell.say("kv put greeting '{\"a\": [1, 2.0]}'");
    shell.wait_for("OK\r\n");
    shell.say("get greeting");
    shell.wait_for("{\"a\":[1,2.0]}\r\n");
    shell.say("inmem kv incr greeting");
    shell.wait_for("(error) WrongType");
    shell.say("kv put 'open");
    shell.wait_for("(error) a quote is not closed");
    shell.say("help kv cas");
    shell.wait_for("Expect that the key does not exist");
    shell.say("help");
    shell.wait_for("Ctrl-D leaves");
    shell.wait_for(PROMPT);
    shell.press(CTRL_D);
    assert_eq!(shell.finish().0, Some(0));
}

#[test]
fn commands_options_keys_and_runs_are_completed() {
    let store = Store::start();
    for key in ["user/alice", "user/bob", "with space"] {
        store.json(&["kv", "put", key, "17"]);
    }
    store.json(&["run", "begin", "nightly"]);
    store.json(&["--run", "nightly", "kv", "put", "only/here", "18"]);
    let mut shell = shell_of(&store);
    shell.press("kv put-if\t");
    shell.wait_for("kv put-if-absent ");
    shell.press("k 1 --dur\t");
    shell.wait_for("--durability ");
    shell.press("str\t");
    shell.wait_for("strict ");
    shell.press(CTRL_C);
    shell.wait_for(PROMPT);
    shell.press("get user/al\t");
    shell.wait_for("get user/alice ");
    shell.say("");
    shell.wait_for("17\r\n");
    shell.press("get us\t");
    shell.wait_for("get user/");
    shell.press("b\t\r");
    shell.wait_for("17\r\n");
    shell.press("get with\t\r");
    shell.wait_for("17\r\n");
    shell.press("use nig\t\r");
    shell.wait_for("nightly> ");
    shell.press("get o\t\r");
    shell.wait_for("18\r\n");
}

#[test]
fn the_prompt_shows_an_open_transaction_and_leaving_rolls_it_back() {
    let store = Store::start();
    store.json(&["run", "begin", "agent"]);
    let mut shell = shell(&store.socket(), store.dir.path(), &["--run", "agent"]);
    shell.say("begin");
    shell.wait_for("start_version");
    shell.wait_for("agent (transaction)> ");
    shell.say("kv put a 1");
    shell.wait_for("OK\r\n");
    shell.say("txn info");
    shell.wait_for("\"read_only\":false");
    shell.say("commit");
    shell.wait_for("OK\r\n");
    shell.wait_for("agent> ");
    assert_eq!(store.pipe("--run agent kv get a\n")[0]["result"], 1);

    shell.say("begin --run default");
    shell.wait_for("default (transaction)> ");
    shell.say("kv put b 2");
    shell.wait_for("OK\r\n");
    shell.say("use agent");
    shell.wait_for("(error) ");
    shell.wait_for("default (transaction)> ");
    shell.say("exit");
    shell.wait_for("the open transaction was rolled back");
    assert_eq!(shell.finish().0, Some(0));
    assert_eq!(store.pipe("kv exists b\n")[0]["result"], false);
}

#[test]
fn an_interrupt_gives_up_the_request_says_its_outcome_and_the_shell_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("stuck.sock");
    let met = listen(&socket);
    let mut shell = shell(&socket, dir.path(), &[]);
    shell.press("not sent");
    shell.press(CTRL_C);
    shell.wait_for(PROMPT);
    shell.say("kv put a 1");
    assert_eq!(met.recv_timeout(DEADLINE).unwrap(), Met::Request);
    shell.press(CTRL_C);
    let said = shell.wait_for("outcome: outcome_unknown");
    assert!(said.contains("cancelled"), "{said}");
    assert_eq!(met.recv_timeout(DEADLINE).unwrap(), Met::End);
    shell.say("ping");
    shell.wait_for("PONG\r\n");
    shell.wait_for(PROMPT);
    shell.press(CTRL_D);
    assert_eq!(shell.finish().0, Some(0));
}

#[test]
fn the_history_is_for_its_owner_only_and_can_be_refused() {
    let store = Store::start();
    let file = store.dir.path().join("state/inmem/history");
    let quiet = |words: &[&str], line: &str| {
        let mut shell = shell(&store.socket(), store.dir.path(), words);
        shell.say(line);
        shell.wait_for("PONG");
        shell.wait_for("\r\n");
        shell.wait_for(PROMPT);
        shell.press(CTRL_D);
        assert_eq!(shell.finish().0, Some(0));
    };
    quiet(&["--no-history"], "ping");
    assert!(!file.exists());
    quiet(&[], "ping --json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert!(fs::read_to_string(&file).unwrap().contains("ping --json"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    quiet(&[], " ping --raw");
    assert_eq!(mode(&file), 0o600);
    let kept = fs::read_to_string(&file).unwrap();
    assert!(!kept.contains("--raw"), "{kept}");
    // What was kept is there again: the key up brings it back.
    quiet(&[], "\x1b[A");
}

fn interrupt(child: &Child) {
    let id = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGINT).unwrap();
}

#[test]
fn an_interrupt_of_the_pipe_gives_up_the_request_says_its_outcome_and_ends_with_130() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("stuck.sock");
    let met = listen(&socket);
    let mut command = inmem();
    command.arg("--socket").arg(&socket).arg("--json");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let answers = lines_of(child.stdout.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"kv put a 1\nping\n").unwrap();
    assert_eq!(met.recv_timeout(DEADLINE).unwrap(), Met::Request);
    interrupt(&child);
    let answer: serde_json::Value =
        serde_json::from_str(&answers.recv_timeout(DEADLINE).unwrap()).unwrap();
    assert_eq!(answer["error"]["sub"], "cancelled", "{answer}");
    assert_eq!(answer["error"]["outcome"], "outcome_unknown", "{answer}");
    assert_eq!(wait(&mut child), 130);
    assert!(answers.recv_timeout(DEADLINE).is_err(), "it was the last");
}

#[test]
fn an_interrupt_of_a_pipe_that_waits_for_a_line_ends_it_with_130() {
    let store = Store::start();
    let mut pipe = Pipe::open(&store.socket());
    assert_eq!(pipe.ask("kv put a 1")["ok"], true);
    interrupt(&pipe.child);
    assert_eq!(wait(&mut pipe.child), 130);
}

/// Starts one command against a server that answers nothing, and waits for its request.
fn stuck(dir: &Path, words: &[&str]) -> Child {
    let socket = dir.join("stuck.sock");
    let met = listen(&socket);
    let mut command = inmem();
    command.arg("--socket").arg(&socket).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(met.recv_timeout(DEADLINE).unwrap(), Met::Request);
    child
}

#[test]
fn an_interrupt_of_one_command_says_whether_its_write_may_have_happened() {
    let cases: [(&[&str], i32, Option<&str>); 4] = [
        (&["kv", "put", "a", "1"], 31, Some("outcome_unknown")),
        (&["incr", "a"], 31, Some("outcome_unknown")),
        (&["kv", "get", "a"], 130, None),
        (&["ping"], 130, None),
    ];
    for (words, code, outcome) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut child = stuck(dir.path(), words);
        interrupt(&child);
        assert_eq!(wait(&mut child), code, "{words:?}");
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["error"]["sub"], "cancelled", "{words:?}: {said}");
        assert_eq!(said["error"]["outcome"].as_str(), outcome, "{words:?}");
    }
}

#[test]
fn an_interrupt_of_a_command_that_waits_for_its_input_ends_it_with_130() {
    let store = Store::start();
    let mut command = inmem();
    command.arg("--socket").arg(store.socket());
    command.args(["kv", "put", "a", "--file", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    // From then on the interrupt is taken by the command.
    let is_taken = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 0b10 != 0)
    };
    while !is_taken(&fs::read_to_string(&status).unwrap()) {
        std::thread::yield_now();
    }
    interrupt(&child);
    assert_eq!(wait(&mut child), 130);
    assert_eq!(store.pipe("kv exists a\n")[0]["result"], false);
}

#[test]
fn without_a_terminal_and_without_a_command_the_usage_is_shown() {
    let store = Store::start();
    let answer = store.ask_with(&[], b"ping\n");
    assert_eq!((answer.code, answer.out.as_str()), (2, ""));
    assert!(answer.err.contains("Usage: inmem"), "{answer:?}");
    let refused = store.ask(&["--no-history", "ping"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn completions_and_manual_pages_say_what_the_command_line_understands() {
    let store = Store::start();
    for shell in ["bash", "zsh", "fish"] {
        let answer = store.ask(&["generate", "completions", shell]);
        assert_eq!(answer.code, 0, "{answer:?}");
        for word in ["put-if-absent", "durability"] {
            assert!(answer.out.contains(word), "{shell}: {word}");
        }
        assert!(!answer.out.contains("demo-worker"), "{shell}");
    }
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", "source <(cat); complete -p inmem"]);
    let script = store.ask(&["generate", "completions", "bash"]).out;
    let sourced = Answer::of(bash, script.as_bytes());
    assert_eq!((sourced.code, sourced.err.as_str()), (0, ""));

    let dir = store.dir.path().join("man");
    assert_eq!(
        store.ask(&["generate", "man", dir.to_str().unwrap()]).code,
        0
    );
    let page = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let top = page("inmem.1");
    for part in [
        ".SH \"EXIT STATUS\"",
        "17 Conflict",
        ".SH ENVIRONMENT",
        ".SH FILES",
        "inmem\\-kv(1)",
    ] {
        assert!(top.contains(part), "{part}: {top}");
    }
    let put = page("inmem-kv-put.1");
    for part in ["Put a value", ".SH EXAMPLES", "inmem kv put greeting hello"] {
        assert!(put.contains(part), "{part}: {put}");
    }
    assert!(page("inmemd.1").contains("Directory of the database"));
    assert!(!dir.join("inmem-demo-worker.1").exists());
}
