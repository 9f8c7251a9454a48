//! The Python client passes its own tests against this daemon.
//!
//! They run in a virtual environment under the target directory, made once and kept until the
//! package asks for other dependencies. What a machine may lack (Python 3.10, its venv module, a
//! package index) skips the test, saying so; what is ours may not fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the tests and the build of the package need from the index.
const DEPENDENCIES: [&str; 3] = ["msgpack>=1.0.5,<2", "pytest>=7", "flit_core>=3.9,<4"];

/// Runs a command to its end; nothing if there is no such program.
fn output(command: &mut Command) -> Option<Output> {
    command.output().ok()
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().last().unwrap_or("no reason").to_owned()
}

fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--timeout", "15"])
        .args(["--retries", "1"]);
    pip
}

/// The virtual environment with all dependencies in it; else what the machine lacks.
fn environment(package: &Path) -> Result<PathBuf, String> {
    let mut version = Command::new("python3");
    version.args([
        "-c",
        "import sys; sys.exit(0 if (3, 10) <= sys.version_info else 1)",
    ]);
    if !output(&mut version).is_some_and(|done| done.status.success()) {
        return Err("python3, 3.10 or newer".to_owned());
    }
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-environment");
    let marker = environment.join("made-for");
    let wanted = std::fs::read_to_string(package.join("pyproject.toml")).unwrap();
    if std::fs::read_to_string(&marker).is_ok_and(|made_for| made_for == wanted) {
        return Ok(environment);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&environment);
    let made = output(&mut make).expect("python3 is there");
    if !made.status.success() {
        return Err(format!("the venv module of python3: {}", last_line(&made)));
    }
    let installed = output(pip(&environment).args(DEPENDENCIES)).expect("it was just made");
    if !installed.status.success() {
        return Err(format!("a package index: {}", last_line(&installed)));
    }
    std::fs::write(&marker, wanted).unwrap();
    Ok(environment)
}

#[test]
fn the_python_client_passes_its_own_tests() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("client/python");
    let environment = match environment(&package) {
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
