//! The command line of the daemon, and what the environment adds to it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use crate::config::{Given, Origin};

/// What `--version` prints: the program and every format it reads and writes.
pub(crate) const VERSION_TEXT: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nprotocol 1\nlog segment 1\nlog record 1\nwriteset 1\nmanifest 1\nsnapshot 1"
);

/// Serves one database directory to the processes of this machine over a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "inmemd", version = VERSION_TEXT, max_term_width = 100, args_override_self = true)]
pub(crate) struct Args {
    /// Directory of the database; created if it does not exist [env: INMEM_DATA_DIR]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Directory that clients may have exports made in; without it they are refused
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) export_dir: Option<PathBuf>,

    /// Path of the listening socket [env: INMEM_SOCKET]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Configuration file instead of /etc/inmem/inmemd.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Durability of writes that ask for none: strict, buffered or in_memory
    #[arg(long, value_name = "MODE")]
    pub(crate) durability: Option<String>,

    /// How sockets and the log are driven: auto, io_uring or readiness
    #[arg(long, value_name = "KIND")]
    pub(crate) io: Option<String>,

    /// Print every setting with its value and origin, and exit
    #[arg(long)]
    pub(crate) print_config: bool,

    /// Check the configuration and exit
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Write the ready line to this open descriptor too, and close it
    #[arg(long, value_name = "DESCRIPTOR")]
    pub(crate) ready_fd: Option<i32>,
}

impl Args {
    /// Settings given by the environment and the flags, weakest first.
    pub(crate) fn given(&self, environment: impl Fn(&str) -> Option<OsString>) -> Vec<Given> {
        let mut given = Vec::new();
        let mut add = |name, value: Option<OsString>, origin| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let text = value.to_string_lossy().into_owned();
                given.push(Given { name, text, origin });
            }
        };
        // systemd separates several directories by colons; the first is the service's own.
        let first = |name: &str| {
            let value = environment(name)?.into_string().ok()?;
            value.split(':').next().map(str::to_owned)
        };
        let socket = first("RUNTIME_DIRECTORY").map(|directory| format!("{directory}/inmem.sock"));
        add(
            "socket",
            socket.map(Into::into),
            Origin::Systemd("RUNTIME_DIRECTORY"),
        );
        let state = first("STATE_DIRECTORY");
        add(
            "data_dir",
            state.map(Into::into),
            Origin::Systemd("STATE_DIRECTORY"),
        );
        // Whether there is such a credential is seen when the codec needs it.
        let credential = first("CREDENTIALS_DIRECTORY");
        let credential = credential.map(|directory| format!("{directory}/inmem-key"));
        add(
            "key_file",
            credential.map(Into::into),
            Origin::Systemd("CREDENTIALS_DIRECTORY"),
        );
        for (name, variable) in [("data_dir", "INMEM_DATA_DIR"), ("socket", "INMEM_SOCKET")] {
            let value = environment(variable).map(|value| absolute(value.into()).into());
            add(name, value, Origin::Environment(variable));
        }
        let path = |path: &Option<PathBuf>| path.clone().map(|path| absolute(path).into());
        add("data_dir", path(&self.data_dir), Origin::Flag("--data-dir"));
        add(
            "export_dir",
            path(&self.export_dir),
            Origin::Flag("--export-dir"),
        );
        add("socket", path(&self.socket), Origin::Flag("--socket"));
        let durability = self.durability.clone().map(Into::into);
        add("durability", durability, Origin::Flag("--durability"));
        let io = self.io.clone().map(Into::into);
        add("io", io, Origin::Flag("--io"));
        given
    }
}

/// A path given on the command line or by the environment is relative to the working directory.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_directories_are_the_weakest_and_flags_the_strongest() {
        let args = Args::parse_from(["inmemd", "--socket", "/f", "--durability", "buffered"]);
        let environment = |name: &str| match name {
            "RUNTIME_DIRECTORY" => Some(OsString::from("/run/inmem:/run/other")),
            "INMEM_SOCKET" => Some(OsString::from("/e")),
            _ => None,
        };
        let given = args.given(environment);
        let sockets: Vec<&str> = given
            .iter()
            .filter(|value| value.name == "socket")
            .map(|value| value.text.as_str())
            .collect();
        assert_eq!(sockets, ["/run/inmem/inmem.sock", "/e", "/f"]);
    }
}
