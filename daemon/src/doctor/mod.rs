//! Examines this machine and an installation, and says what to change. Changes nothing.
//!
//! Each check gives one line: what was found, a grade, and for a grade below ok what to do. A
//! failed check means that a daemon does not start here, or that what it acknowledges is not kept;
//! a warning, that it runs worse than it could.

mod directory;
mod kernel;
mod socket;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use crate::args::Args;
use crate::config::{Configuration, Settings};
use crate::key;

/// What to examine. What is not given is where a daemon started by this user would look.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The data directory.
    pub data_dir: Option<PathBuf>,
    /// The socket.
    pub socket: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
}

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Works, but worse than it could.
    Warn,
    /// Does not work, or loses data.
    Fail,
}

impl Grade {
    /// The word of the grade.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// How good it is.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do; none when it is as it should be.
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Warn,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            grade: Grade::Fail,
            ..Self::warn(name, found, advice)
        }
    }
}

/// Makes every check. `client_version` is that of the program that asks.
#[must_use]
pub fn examine(subject: &Subject, client_version: &str) -> Vec<Check> {
    let (first, settings) = configuration(subject);
    let mut checks = vec![first];
    checks.extend(kernel::checks(&settings));
    checks.extend(directory::checks(&settings));
    checks.extend(codec_key(&settings));
    checks.extend(socket::checks(&settings.socket, client_version));
    checks
}

/// The key of the codec, if it needs one. Whether it is that of the directory, its MANIFEST says.
fn codec_key(settings: &Settings) -> Option<Check> {
    let name = "codec_key";
    match key::read(settings) {
        Ok(None) => None,
        Ok(Some(key)) => Some(Check::ok(name, format!("a key of id {}", key.id()))),
        Err(error) => {
            let advice = "let key_file name 32 bytes, or 64 hexadecimal digits, that belong to the \
                          user of the daemon alone; or hand over the credential inmem-key";
            Some(Check::fail(name, error.to_string(), advice))
        }
    }
}

/// The configuration, as a daemon would read it; the defaults where it cannot be read.
fn configuration(subject: &Subject) -> (Check, Settings) {
    let mut words: Vec<OsString> = vec!["inmemd".into()];
    for (flag, path) in [
        ("--data-dir", &subject.data_dir),
        ("--socket", &subject.socket),
        ("--config", &subject.config),
    ] {
        if let Some(path) = path {
            words.extend([flag.into(), path.into()]);
        }
    }
    let broken = |reason: String, settings| {
        let advice = "correct the configuration; inmemd --check-config tells when it is right";
        (Check::fail("configuration", reason, advice), settings)
    };
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => return broken(error.to_string(), Settings::default()),
    };
    let given = args.given(|name| std::env::var_os(name));
    match Configuration::load(args.config.clone(), &given) {
        Ok(configuration) => {
            let file = subject.config.as_ref();
            let found = file.map_or_else(
                || "valid".to_owned(),
                |file| format!("{} is valid", file.display()),
            );
            (Check::ok("configuration", found), configuration.settings)
        }
        Err(error) => {
            // Where the data lies is known all the same, if it was said.
            let mut settings = Settings::default();
            if let Some(data_dir) = args.data_dir {
                settings.data_dir = data_dir;
            }
            if let Some(socket) = args.socket {
                settings.socket = socket;
            }
            broken(error.to_string(), settings)
        }
    }
}

#[cfg(test)]
mod tests;
