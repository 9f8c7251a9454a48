//! What a user key, a prefix and the names of runs, event types and collections may be.
//!
//! A key is valid UTF-8 without NUL, 1 to 1024 bytes, and does not begin with the reserved prefix;
//! nothing is normalised. KV keys, state cells, document keys and vector keys share this one rule.

use crate::limits::{
    COLLECTION_NAME_LEN_BYTES_MAX, EVENT_TYPE_LEN_BYTES_MAX, KEY_LEN_BYTES_MAX,
    RUN_NAME_LEN_BYTES_MAX,
};

/// Prefix of the keys that belong to in-mem itself; users cannot write below it, and listing,
/// counting, scanning and search skip it.
pub const SYSTEM_NAMESPACE: &str = "_strata/";

/// Why a key or a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no bytes.
    #[error("key is empty")]
    Empty,
    /// It contains a NUL byte.
    #[error("key contains a nul byte")]
    Nul,
    /// It is longer than its limit.
    #[error("key of {len_bytes} bytes exceeds {len_bytes_max} bytes")]
    TooLong {
        /// Its length.
        len_bytes: usize,
        /// The limit.
        len_bytes_max: usize,
    },
    /// It is not UTF-8.
    #[error("key is not utf-8")]
    InvalidUtf8,
    /// It lies in the part of the name space that is not the user's.
    #[error("key begins with a reserved prefix")]
    ReservedPrefix,
}

/// Why a run name or a collection name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It breaks a rule that keys have too.
    #[error("name refused: {0}")]
    Key(#[from] KeyError),
    /// It contains a character its kind of name may not have.
    #[error("name contains a forbidden character at byte {offset}")]
    ForbiddenCharacter {
        /// Offset of the character in bytes.
        offset: usize,
    },
}

/// Checks a user key against the default limit and returns it as text.
///
/// # Errors
/// [`KeyError`], the first rule broken.
pub fn validate_user_key(key: &[u8]) -> Result<&str, KeyError> {
    validate_user_key_within(key, KEY_LEN_BYTES_MAX)
}

/// Checks a user key against the key limit a database was opened with.
///
/// # Errors
/// [`KeyError`], the first rule broken.
pub fn validate_user_key_within(key: &[u8], len_bytes_max: usize) -> Result<&str, KeyError> {
    let text = validate_text(key, len_bytes_max)?;
    if is_system_key(key) {
        return Err(KeyError::ReservedPrefix);
    }
    Ok(text)
}

/// Checks the prefix argument of a listing: text without NUL, at most as long as a key. An empty
/// prefix means everything. A prefix inside the system name space is allowed and matches nothing,
/// since listings skip that space.
///
/// # Errors
/// [`KeyError`], the first rule broken.
pub fn validate_prefix(prefix: &[u8]) -> Result<&str, KeyError> {
    match validate_text(prefix, KEY_LEN_BYTES_MAX) {
        Err(KeyError::Empty) => Ok(""),
        checked => checked,
    }
}

/// True if the key lies in the system name space.
#[must_use]
pub fn is_system_key(key: &[u8]) -> bool {
    key.starts_with(SYSTEM_NAMESPACE.as_bytes())
}

/// Checks a run name: 1 to 255 letters, digits, `-`, `_` and `.` of ASCII.
///
/// # Errors
/// [`NameError`], the first rule broken.
pub fn validate_run_name(name: &str) -> Result<(), NameError> {
    validate_text(name.as_bytes(), RUN_NAME_LEN_BYTES_MAX)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match name.bytes().position(|byte| !allowed(byte)) {
        Some(offset) => Err(NameError::ForbiddenCharacter { offset }),
        None => Ok(()),
    }
}

/// Checks an event type: 1 to 256 bytes of text without NUL, outside the reserved prefix.
///
/// # Errors
/// [`KeyError`], the first rule broken.
pub fn validate_event_type(name: &[u8]) -> Result<&str, KeyError> {
    validate_user_key_within(name, EVENT_TYPE_LEN_BYTES_MAX)
}

/// Checks the name of a user's collection: 1 to 255 bytes of text without NUL and `/`, and no
/// leading `_`, which marks the collections of in-mem itself.
///
/// # Errors
/// [`NameError`], the first rule broken.
pub fn validate_collection_name(name: &[u8]) -> Result<&str, NameError> {
    let text = validate_text(name, COLLECTION_NAME_LEN_BYTES_MAX)?;
    if text.starts_with('_') {
        return Err(KeyError::ReservedPrefix.into());
    }
    match text.find('/') {
        Some(offset) => Err(NameError::ForbiddenCharacter { offset }),
        None => Ok(text),
    }
}

/// The rules that every key and name shares.
fn validate_text(key: &[u8], len_bytes_max: usize) -> Result<&str, KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    if len_bytes_max < key.len() {
        return Err(KeyError::TooLong {
            len_bytes: key.len(),
            len_bytes_max,
        });
    }
    let text = std::str::from_utf8(key).map_err(|_| KeyError::InvalidUtf8)?;
    if key.contains(&0) {
        return Err(KeyError::Nul);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(len: usize) -> Vec<u8> {
        vec![b'k'; len]
    }

    #[test]
    fn every_rule_for_user_keys_holds_at_its_boundary() {
        let too_long = KeyError::TooLong {
            len_bytes: 1025,
            len_bytes_max: 1024,
        };
        let table: &[(&[u8], Result<(), KeyError>)] = &[
            (b"k", Ok(())),
            (b" ", Ok(())),
            (b"\t\n", Ok(())),
            ("\u{1F600}\u{301}".as_bytes(), Ok(())),
            (b"_strata", Ok(())),
            (b"_strata_", Ok(())),
            (b"x_strata/", Ok(())),
            (b"_strata/", Err(KeyError::ReservedPrefix)),
            (b"_strata/retention_policy", Err(KeyError::ReservedPrefix)),
            (b"", Err(KeyError::Empty)),
            (b"\0", Err(KeyError::Nul)),
            (b"a\0b", Err(KeyError::Nul)),
            (b"\xff", Err(KeyError::InvalidUtf8)),
            (b"\xc0\x80", Err(KeyError::InvalidUtf8)),
            (b"\xed\xa0\x80", Err(KeyError::InvalidUtf8)),
            (&long(1024), Ok(())),
            (&long(1025), Err(too_long)),
        ];
        for (key, expected) in table {
            assert_eq!(validate_user_key(key).map(drop), *expected, "{key:?}");
        }
    }

    #[test]
    fn a_prefix_may_be_empty_or_reserved_but_not_malformed() {
        assert_eq!(validate_prefix(b""), Ok(""));
        assert_eq!(
            validate_prefix(SYSTEM_NAMESPACE.as_bytes()),
            Ok(SYSTEM_NAMESPACE)
        );
        assert_eq!(validate_prefix(b"a\0"), Err(KeyError::Nul));
        assert_eq!(validate_prefix(b"\xff"), Err(KeyError::InvalidUtf8));
        assert!(validate_prefix(&long(1024)).is_ok());
        assert!(validate_prefix(&long(1025)).is_err());
    }

    #[test]
    fn run_names_are_ascii_letters_digits_and_three_signs() {
        for name in ["a", "default", "A-b_c.9", &"n".repeat(255)] {
            assert_eq!(validate_run_name(name), Ok(()), "{name}");
        }
        let at = |offset| Err(NameError::ForbiddenCharacter { offset });
        assert_eq!(validate_run_name("a b"), at(1));
        assert_eq!(validate_run_name("caf\u{e9}"), at(3));
        assert_eq!(validate_run_name("a/b"), at(1));
        assert_eq!(validate_run_name(""), Err(KeyError::Empty.into()));
        assert_eq!(validate_run_name("a\0"), Err(KeyError::Nul.into()));
        assert!(validate_run_name(&"n".repeat(256)).is_err());
    }

    #[test]
    fn event_types_and_collection_names_are_checked_as_strictly_as_keys() {
        assert!(validate_event_type(&long(256)).is_ok());
        assert!(validate_event_type(&long(257)).is_err());
        assert_eq!(validate_event_type(b"a\0"), Err(KeyError::Nul));
        assert_eq!(
            validate_event_type(b"_strata/x"),
            Err(KeyError::ReservedPrefix)
        );
        assert!(validate_collection_name(&long(255)).is_ok());
        assert!(validate_collection_name(&long(256)).is_err());
        assert_eq!(
            validate_collection_name(b"_a"),
            Err(KeyError::ReservedPrefix.into())
        );
        let slash = Err(NameError::ForbiddenCharacter { offset: 1 });
        assert_eq!(validate_collection_name(b"a/b"), slash);
        assert_eq!(
            validate_collection_name(b"\xff"),
            Err(KeyError::InvalidUtf8.into())
        );
    }
}
