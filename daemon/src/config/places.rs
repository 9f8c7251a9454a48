//! Where the socket, the data and the configuration lie when nobody says.

use std::path::{Path, PathBuf};

/// The configuration file that is read when it exists and none is named.
pub(super) const SYSTEM_FILE: &str = "/etc/inmem/inmemd.toml";

/// `/run/inmem/inmem.sock` as root, else `$XDG_RUNTIME_DIR/inmem/inmem.sock`, else a directory
/// of the user beneath `/tmp`.
pub(super) fn default_socket() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/inmem/inmem.sock");
    }
    let fallback = || format!("/tmp/inmem-{}", rustix::process::geteuid().as_raw());
    absolute("XDG_RUNTIME_DIR")
        .map_or_else(
            || PathBuf::from(fallback()),
            |directory| directory.join("inmem"),
        )
        .join("inmem.sock")
}

/// `/var/lib/inmem` as root, else `${XDG_DATA_HOME:-~/.local/share}/inmem/default.inmem`.
pub(super) fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/inmem");
    }
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("inmem/default.inmem")
}

/// The directory an environment variable names, if it is absolute.
fn absolute(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name)?);
    Path::is_absolute(&path).then_some(path)
}
