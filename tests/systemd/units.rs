//! The unit files: as systemd itself reads and rates them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Highest exposure of the service, in tenths.
const EXPOSURE_TENTHS_MAX: &str = "5";

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

/// Copies of a pair of units whose program exists.
fn copies(folder: &Path, directory: &Path) -> Vec<PathBuf> {
    ["inmem.service", "inmem.socket"]
        .iter()
        .map(|name| {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            let program = env!("CARGO_BIN_EXE_inmemd");
            let copy = directory.join(name);
            std::fs::write(&copy, text.replace("/usr/bin/inmemd", program)).unwrap();
            copy
        })
        .collect()
}

/// What a tool says, if it is there.
fn run(command: &mut Command) -> Option<(bool, String)> {
    match command.output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            Some((output.status.success(), said))
        }
        Err(error) => {
            println!("SKIPPED: needs {:?}: {error}", command.get_program());
            None
        }
    }
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    for (folder, scope) in [(units(), "--system"), (units().join("user"), "--user")] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("systemd-analyze");
        command
            .args([scope, "verify"])
            .args(copies(&folder, directory.path()))
            .env("XDG_RUNTIME_DIR", directory.path());
        let Some((is_ok, said)) = run(&mut command) else {
            return;
        };
        // An unknown setting is a warning for systemd; for us it is a mistake.
        assert!(is_ok && said.trim().is_empty(), "{scope}: {said}");
    }
}

#[test]
fn the_exposure_of_the_service_is_at_most_a_half_and_its_peers_stay_visible() {
    let directory = tempfile::tempdir().unwrap();
    let copies = copies(&units(), directory.path());
    let text = std::fs::read_to_string(&copies[0]).unwrap();
    let sets = |setting: &str| text.lines().any(|line| line.starts_with(setting));
    assert!(!sets("PrivateUsers="), "it would hide who the peers are");
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(
            text.contains(call),
            "the daemon does not start without {call}"
        );
    }
    let mut command = Command::new("systemd-analyze");
    command
        .args([
            "security",
            "--offline=true",
            "--threshold",
            EXPOSURE_TENTHS_MAX,
        ])
        .arg(&copies[0]);
    if let Some((is_ok, said)) = run(&mut command) {
        assert!(is_ok, "{said}");
    }
}

#[test]
fn the_user_of_the_service_can_be_made() {
    let mut command = Command::new("systemd-sysusers");
    command
        .arg("--dry-run")
        .arg(units().join("sysusers.d/inmem.conf"));
    if let Some((is_ok, said)) = run(&mut command) {
        assert!(is_ok, "{said}");
    }
}

#[test]
fn what_a_restart_cannot_cure_is_not_restarted() {
    for folder in [units(), units().join("user")] {
        let text = std::fs::read_to_string(folder.join("inmem.service")).unwrap();
        assert!(text.contains("\nRestart=on-failure\n"));
        assert!(text.contains("\nRestartPreventExitStatus=2 3 4 5 7 8\n"));
    }
}
