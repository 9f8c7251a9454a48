//! Who may connect: the allow-list of users and groups, resolved to numbers once at the start.

use nix::unistd::{Group, User};

use super::{Access, ConfigError};

/// The users and groups a peer may be of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principals {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Principals {
    /// Resolves the configured names; this process's own user and root always belong to it.
    ///
    /// # Errors
    /// A name that does not exist.
    pub(crate) fn resolve(access: &Access) -> Result<Self, ConfigError> {
        let mut users = vec![0, rustix::process::geteuid().as_raw()];
        for value in &access.users {
            users.push(user_id(value)?);
        }
        let groups = access
            .groups
            .iter()
            .map(|value| group_id("access.groups", value));
        Ok(Self {
            users,
            groups: groups.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a peer with these credentials may connect.
    #[must_use]
    pub(crate) fn allows(&self, user: u32, group: u32) -> bool {
        self.users.contains(&user) || self.groups.contains(&group)
    }
}

fn user_id(value: &str) -> Result<u32, ConfigError> {
    if let Ok(id) = value.parse() {
        return Ok(id);
    }
    match User::from_name(value) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(unknown("access.users", "user", value)),
    }
}

/// The number of a group given by name or number.
pub(crate) fn group_id(name: &'static str, value: &str) -> Result<u32, ConfigError> {
    if let Ok(id) = value.parse() {
        return Ok(id);
    }
    match Group::from_name(value) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(unknown(name, "group", value)),
    }
}

fn unknown(name: &'static str, what: &'static str, value: &str) -> ConfigError {
    ConfigError::UnknownPrincipal {
        name,
        what,
        value: value.to_owned(),
    }
}
