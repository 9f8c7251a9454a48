//! Why there is no ring, in words that say what to change.
//!
//! The error number alone does not tell a sysctl from a seccomp profile, so the machine is asked:
//! the kernel's release, `kernel.io_uring_disabled` and the limit of locked memory stand behind
//! every refusal.

use std::fmt;
use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};

/// Where the kernel says whether io_uring is disabled (Linux 6.6; sysctl/kernel.rst).
const DISABLED_PATH: &str = "/proc/sys/kernel/io_uring_disabled";

/// What has to be allowed where a filter of system calls refuses.
const CALLS: &str = "io_uring_setup, io_uring_enter and io_uring_register";

/// Why there is no ring. Its text says what to change, on one line.
#[derive(Debug)]
pub(crate) struct SetupError {
    /// The call that failed.
    pub(crate) call: &'static str,
    /// What the kernel answered.
    pub(crate) source: io::Error,
}

impl SetupError {
    /// Whether it is io_uring that was refused, so that a reactor without it may do.
    #[must_use]
    pub(crate) fn is_of_ring(&self) -> bool {
        self.call.starts_with("io_uring")
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = Machine::look();
        write!(
            f,
            "io_uring is refused ({}: {}): {} ({machine})",
            self.call,
            self.source,
            remedy(&self.source, &machine)
        )
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What decides whether io_uring works here.
#[derive(Debug, Default)]
struct Machine {
    release: String,
    /// 0: for all; 1: for members of kernel.io_uring_group; 2: for nobody. None: not known.
    disabled: Option<u8>,
    /// None: unlimited.
    locked_len_bytes_max: Option<u64>,
}

impl Machine {
    fn look() -> Self {
        let release = rustix::system::uname();
        Self {
            release: release.release().to_string_lossy().into_owned(),
            disabled: read_disabled(),
            locked_len_bytes_max: getrlimit(Resource::Memlock).current,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "here: Linux {}", self.release)?;
        match self.disabled {
            Some(disabled) => write!(f, ", kernel.io_uring_disabled = {disabled}")?,
            None => write!(f, ", no kernel.io_uring_disabled")?,
        }
        match self.locked_len_bytes_max {
            Some(limit) => write!(f, ", locked memory {} KiB", limit / 1024),
            None => write!(f, ", locked memory unlimited"),
        }
    }
}

fn read_disabled() -> Option<u8> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(DISABLED_PATH, flags, Mode::empty()).ok()?;
    let mut digit = [0];
    rustix::io::read(&file, &mut digit).ok()?;
    let [digit] = digit;
    digit.is_ascii_digit().then(|| digit - b'0')
}

fn remedy(refused: &io::Error, machine: &Machine) -> String {
    match refused.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match machine.disabled {
            Some(0) => format!(
                "`sysctl kernel.io_uring_disabled=0` holds already, so a seccomp profile forbids \
                 it: allow {CALLS} in that of the container or service (SystemCallFilter=)"
            ),
            Some(disabled) => format!(
                "kernel.io_uring_disabled is {disabled}: set `sysctl kernel.io_uring_disabled=0`, \
                 or add this user to the group of kernel.io_uring_group where it is 1"
            ),
            None => format!(
                "set `sysctl kernel.io_uring_disabled=0` where there is one; in a container, allow \
                 {CALLS} in its seccomp profile"
            ),
        },
        Some(libc::ENOSYS) => format!(
            "run Linux 6.1 or newer with CONFIG_IO_URING; in a container, allow {CALLS} in its \
             seccomp profile"
        ),
        Some(libc::ENOMEM) => "raise the limit of locked memory (LimitMEMLOCK=, ulimit -l) or the \
                               memory limit of the control group"
            .to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => {
            "raise the limit of open descriptors (LimitNOFILE=, ulimit -n)".to_owned()
        }
        Some(libc::EINVAL) => "run Linux 6.1 or newer".to_owned(),
        _ => "see the error above".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_change_on_one_line() {
        for (errno, word) in [
            (libc::EPERM, "kernel.io_uring_disabled=0"),
            (libc::ENOSYS, "seccomp"),
            (libc::ENOMEM, "LimitMEMLOCK"),
            (libc::EMFILE, "LimitNOFILE"),
            (libc::EINVAL, "Linux 6.1"),
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let call = "io_uring_setup";
            let text = SetupError { call, source }.to_string();
            assert!(text.contains(word), "{text}");
            assert!(text.contains("here: Linux "), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_sysctl_that_forbids_is_told_from_a_seccomp_profile() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        let said = |disabled| {
            let machine = Machine {
                disabled,
                ..Machine::default()
            };
            remedy(&refused, &machine)
        };
        assert!(said(Some(0)).contains("a seccomp profile forbids it"));
        for disabled in [1, 2] {
            let said = said(Some(disabled));
            assert!(said.contains(&format!("io_uring_disabled is {disabled}")));
            assert!(!said.contains("seccomp"), "{said}");
        }
        assert!(said(None).contains("where there is one"));
    }
}
