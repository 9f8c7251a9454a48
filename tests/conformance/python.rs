//! The Python client passes its own tests against this daemon.
//!
//! What a machine may lack skips the test, saying so; what is ours may not fail.

use std::process::Command;

use crate::python_environment::{environment, last_line, output, package, pip};

#[test]
fn the_python_client_passes_its_own_tests() {
    let package = package();
    let environment = match environment() {
        Ok(environment) => environment,
        Err(lacking) => {
            println!("SKIPPED: needs {lacking}");
            return;
        }
    };
    let mut install = pip(&environment);
    install
        .args(["--no-deps", "--no-build-isolation", "--force-reinstall"])
        .arg(&package);
    let installed = output(&mut install).expect("the environment is there");
    assert!(installed.status.success(), "{}", last_line(&installed));
    let mut tests = Command::new(environment.join("bin/python"));
    tests
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"])
        .current_dir(&package)
        .env("INMEMD", env!("CARGO_BIN_EXE_inmemd"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("INMEM_SOCKET");
    let done = output(&mut tests).expect("the environment is there");
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(said.contains(" passed"), "no test ran");
}
