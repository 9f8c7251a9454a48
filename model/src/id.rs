//! The 16-byte ids: of a run, and of a trace.
//!
//! Both are random UUIDs; the text form is lowercase and hyphenated, and no other form is read.
//! Names never derive ids.

use std::fmt;
use std::str::FromStr;

/// A text that is not a lowercase, hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a lowercase hyphenated uuid")]
pub struct ParseIdError;

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A new random id (UUID v4); never zero, since its version bits are set.
            #[must_use]
            pub fn new_random() -> Self {
                Self(uuid::Uuid::new_v4().into_bytes())
            }

            /// The sixteen bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let id = uuid::Uuid::try_parse(text).map_err(|_| ParseIdError)?;
                let mut canonical = [0; uuid::fmt::Hyphenated::LENGTH];
                if id.hyphenated().encode_lower(&mut canonical) != text {
                    return Err(ParseIdError);
                }
                Ok(Self(id.into_bytes()))
            }
        }
    };
}

uuid_type! {
    /// Identity of a run: the unit of isolation, atomicity and sharding.
    RunId
}

uuid_type! {
    /// Identity of a trace, unique in its run.
    TraceId
}

impl RunId {
    /// The run named `default`: all zero. It always exists.
    pub const DEFAULT: Self = Self([0; 16]);

    /// True for the run that always exists and cannot be ended, archived or deleted.
    #[must_use]
    pub const fn is_default(self) -> bool {
        u128::from_be_bytes(self.0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_lowercase_and_hyphenated_and_reads_back() {
        let id = RunId([0xAB; 16]);
        assert_eq!(id.to_string(), "abababab-abab-abab-abab-abababababab");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(RunId::DEFAULT.is_default());
        assert!(!id.is_default());
        let random = RunId::new_random();
        assert!(!random.is_default());
        assert_eq!(random.to_string().parse(), Ok(random));
    }

    #[test]
    fn any_other_form_of_a_uuid_is_refused() {
        for text in [
            "",
            "default",
            "ABABABAB-abab-abab-abab-abababababab",
            "abababababababababababababababab",
            "{abababab-abab-abab-abab-abababababab}",
            "urn:uuid:abababab-abab-abab-abab-abababababab",
            "abababab-abab-abab-abab-ababababababa",
        ] {
            assert_eq!(text.parse::<RunId>(), Err(ParseIdError), "{text}");
        }
    }
}
