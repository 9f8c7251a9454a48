//! The listening socket that the service manager made for us, if it did.
//!
//! The manager says in the environment how many descriptors it passes, to which process, and how
//! they are called. They are taken before anything else is opened, so that none of them can be one
//! of ours.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;

/// The first descriptor that is passed.
const FIRST_DESCRIPTOR: i32 = 3;

/// Descriptors passed at most: more is nothing a manager does for us.
const DESCRIPTOR_COUNT_MAX: i32 = 64;

/// The name that picks our socket among several.
const SOCKET_NAME: &str = "inmem";

/// A socket the manager listens at for us.
#[derive(Debug)]
pub(crate) struct PassedSocket(pub(crate) OwnedFd);

/// The manager passes something that cannot be our socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    /// A variable is not what it must be.
    #[error("{name} is `{value}`, which no service manager sets")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// It is not clear which one is meant.
    #[error(
        "{count} sockets are passed, and not exactly one is called `{SOCKET_NAME}` \
         (FileDescriptorName=)"
    )]
    Ambiguous {
        /// How many.
        count: usize,
    },
    /// A descriptor cannot be taken.
    #[error("descriptor {descriptor} is not one that was passed to this process: {source}")]
    Descriptor {
        /// Its number.
        descriptor: i32,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl PassedSocket {
    /// Takes the socket meant for us; none if the manager passes nothing to this process. The
    /// others that were passed stay open and unused.
    ///
    /// # Errors
    /// When what is passed cannot be understood: a socket somebody prepared is never ignored.
    pub(crate) fn take() -> Result<Option<Self>, ActivationError> {
        let process = std::process::id();
        let Some(descriptor) = pick(process, |name| std::env::var_os(name))? else {
            return Ok(None);
        };
        let taken = crate::reactor::take_inherited(descriptor);
        let taken = taken.map_err(|source| ActivationError::Descriptor { descriptor, source })?;
        Ok(Some(Self(taken)))
    }
}

/// The number of our descriptor among those passed to `process`.
fn pick(
    process: u32,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<i32>, ActivationError> {
    let text = |name| environment(name).map(|value| value.to_string_lossy().into_owned());
    let number = |name: &'static str, max: i32| {
        let Some(value) = text(name) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) if (0..=max).contains(&number) => Ok(Some(number)),
            _ => Err(ActivationError::Variable { name, value }),
        }
    };
    // Set for another process: the variables were handed on by one that was activated itself.
    if number("LISTEN_PID", i32::MAX)?.is_none_or(|pid| pid.unsigned_abs() != process) {
        return Ok(None);
    }
    let count = number("LISTEN_FDS", DESCRIPTOR_COUNT_MAX)?.unwrap_or(0);
    let descriptors = FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + count;
    match count {
        0 => return Ok(None),
        1 => return Ok(Some(FIRST_DESCRIPTOR)),
        _ => {}
    }
    let names = text("LISTEN_FDNAMES").unwrap_or_default();
    let mut named = descriptors.zip(names.split(':'));
    let first = named.find(|(_, name)| *name == SOCKET_NAME);
    let is_only = !named.any(|(_, name)| name == SOCKET_NAME);
    match first {
        Some((descriptor, _)) if is_only => Ok(Some(descriptor)),
        _ => Err(ActivationError::Ambiguous {
            count: usize::try_from(count).unwrap_or(0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(pairs: &[(&str, &str)]) -> Result<Option<i32>, String> {
        let environment = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| OsString::from(value))
        };
        pick(7, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_passed_to_us_is_taken_and_what_is_unclear_is_refused() {
        let us = ("LISTEN_PID", "7");
        assert_eq!(picked(&[]), Ok(None));
        assert_eq!(
            picked(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")]),
            Ok(None)
        );
        assert_eq!(picked(&[us, ("LISTEN_FDS", "0")]), Ok(None));
        assert_eq!(picked(&[us, ("LISTEN_FDS", "1")]), Ok(Some(3)));
        let names = ("LISTEN_FDNAMES", "http:inmem");
        assert_eq!(picked(&[us, ("LISTEN_FDS", "2"), names]), Ok(Some(4)));
        for (count, names) in [("2", "inmem:inmem"), ("2", "a:b"), ("3", "")] {
            let refused = picked(&[us, ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]);
            assert!(
                refused.unwrap_err().contains("FileDescriptorName"),
                "{names}"
            );
        }
        for value in ["-1", "65", "many", ""] {
            let refused = picked(&[us, ("LISTEN_FDS", value)]).unwrap_err();
            assert!(refused.contains("LISTEN_FDS"), "{refused}");
        }
    }
}
