//! Where the socket of the daemon is.
//!
//! The rule is the same in the daemon: `INMEM_SOCKET`, else `/run/inmem/inmem.sock` for root,
//! else `inmem/inmem.sock` in the user's runtime directory, else in a directory beneath `/tmp`.

use std::env;
use std::path::{Path, PathBuf};

/// The variable that names the socket.
pub const SOCKET_VARIABLE: &str = "INMEM_SOCKET";

/// The socket of the daemon of this user.
#[must_use]
pub fn default_socket() -> PathBuf {
    socket_of(
        env::var_os(SOCKET_VARIABLE).map(PathBuf::from),
        rustix::process::geteuid().as_raw(),
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
    )
}

fn socket_of(named: Option<PathBuf>, user_id: u32, runtime_dir: Option<PathBuf>) -> PathBuf {
    if let Some(socket) = named.filter(|socket| !socket.as_os_str().is_empty()) {
        return socket;
    }
    if user_id == 0 {
        return Path::new("/run/inmem/inmem.sock").to_path_buf();
    }
    match runtime_dir.filter(|dir| dir.is_absolute()) {
        Some(dir) => dir.join("inmem/inmem.sock"),
        None => PathBuf::from(format!("/tmp/inmem-{user_id}/inmem.sock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_named_one_then_that_of_root_then_that_of_the_user() {
        let named = |name: &str| Some(PathBuf::from(name));
        let cases = [
            (named("/tmp/x.sock"), 0, None, "/tmp/x.sock"),
            (named(""), 0, named("/run/user/0"), "/run/inmem/inmem.sock"),
            (
                None,
                1000,
                named("/run/user/7"),
                "/run/user/7/inmem/inmem.sock",
            ),
            (None, 1000, named("relative"), "/tmp/inmem-1000/inmem.sock"),
            (None, 1000, None, "/tmp/inmem-1000/inmem.sock"),
        ];
        for (name, user_id, runtime_dir, expected) in cases {
            assert_eq!(socket_of(name, user_id, runtime_dir), Path::new(expected));
        }
    }
}
