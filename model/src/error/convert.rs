//! The typed errors of this crate as error bodies.

use super::{Error, ErrorClass, SubCode};

impl From<crate::keys::KeyError> for Error {
    fn from(error: crate::keys::KeyError) -> Self {
        use crate::keys::KeyError;
        let sub = match error {
            KeyError::Empty => SubCode::Empty,
            KeyError::Nul => SubCode::Nul,
            KeyError::TooLong { .. } => SubCode::KeyTooLong,
            KeyError::InvalidUtf8 => SubCode::InvalidUtf8,
            KeyError::ReservedPrefix => SubCode::ReservedPrefix,
        };
        Self::new(sub, error.to_string()).with_detail("reason", sub.name())
    }
}

impl From<crate::keys::NameError> for Error {
    fn from(error: crate::keys::NameError) -> Self {
        match error {
            crate::keys::NameError::Key(error) => error.into(),
            crate::keys::NameError::ForbiddenCharacter { offset } => {
                Self::new(SubCode::InvalidArgument, error.to_string())
                    .with_detail("offset", offset as u64)
            }
        }
    }
}

impl From<crate::encoding::ValueError> for Error {
    fn from(error: crate::encoding::ValueError) -> Self {
        let body = match error.limit_reason().and_then(SubCode::from_name) {
            Some(sub) => Self::new(sub, error.to_string()).with_detail("reason", sub.name()),
            None => Self::of_class(ErrorClass::SerializationError, error.to_string())
                .with_detail("what", "value"),
        };
        match error.offset() {
            Some(offset) => body.with_detail("offset", offset as u64),
            None => body,
        }
    }
}

impl From<crate::version::VersionError> for Error {
    fn from(error: crate::version::VersionError) -> Self {
        use crate::version::VersionError;
        match error {
            VersionError::WrongType { expected, actual } => {
                Self::of_class(ErrorClass::WrongType, error.to_string())
                    .with_detail("expected", expected)
                    .with_detail("actual", actual)
            }
            VersionError::Overflow { .. } => {
                Self::of_class(ErrorClass::Overflow, error.to_string())
            }
        }
    }
}
