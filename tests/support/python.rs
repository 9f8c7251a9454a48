//! A Python with what the Python client needs, made once under the target directory and kept until
//! the package asks for other dependencies.
//!
//! What a machine may lack (Python 3.10, its venv module, a package index) is said, so that a test
//! can skip itself aloud.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the tests and the build of the package need from the index.
const DEPENDENCIES: [&str; 3] = ["msgpack>=1.0.5,<2", "pytest>=7", "flit_core>=3.9,<4"];

/// The package.
pub(crate) fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("client/python")
}

/// Runs a command to its end; nothing if there is no such program.
pub(crate) fn output(command: &mut Command) -> Option<Output> {
    command.output().ok()
}

/// The last line of what a command said went wrong.
pub(crate) fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().last().unwrap_or("no reason").to_owned()
}

/// Installs into a virtual environment.
pub(crate) fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--timeout", "15"])
        .args(["--retries", "1"]);
    pip
}

/// Makes a virtual environment with nothing in it.
pub(crate) fn make(environment: &Path) -> Result<(), String> {
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(environment);
    let made = output(&mut make).expect("python3 is there");
    if !made.status.success() {
        return Err(format!("the venv module of python3: {}", last_line(&made)));
    }
    Ok(())
}

/// The virtual environment with all dependencies in it, the package itself not; else what the
/// machine lacks.
pub(crate) fn environment() -> Result<PathBuf, String> {
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
    let wanted = std::fs::read_to_string(package().join("pyproject.toml")).unwrap();
    if std::fs::read_to_string(&marker).is_ok_and(|made_for| made_for == wanted) {
        return Ok(environment);
    }
    make(&environment)?;
    let installed = output(pip(&environment).args(DEPENDENCIES)).expect("it was just made");
    if !installed.status.success() {
        return Err(format!("a package index: {}", last_line(&installed)));
    }
    std::fs::write(&marker, wanted).unwrap();
    Ok(environment)
}
