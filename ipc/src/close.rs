//! The close notice: the last frame of a connection, with the reason.
//!
//! ```text
//! id  content
//!  1  reason u8
//!  2  oldest version of the protocol the sender speaks, u16
//!  3  newest version of the protocol the sender speaks, u16
//!  4  message, text
//! ```
//!
//! The body is [`crate::fields`], the same in every version of the protocol. All four are
//! required; a reason this build does not know is kept as a number.

use crate::codec::FrameBuffer;
use crate::fields::{FieldError, FieldReader, append_greeting, write_field};
use crate::frame::{FrameKind, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The sender has nothing more to say.
    Goodbye,
    /// The server is shutting down.
    Draining,
    /// No version or encoding in common.
    ProtocolMismatch,
    /// Bytes came that are no valid frame or message.
    Malformed,
    /// The peer may not use this server.
    PermissionDenied,
    /// A limit of connections, bytes or time was exceeded.
    LimitExceeded,
    /// The hello asked for something that cannot be had: a run, a durability.
    Refused,
    /// A reason of a later version.
    Other(u8),
}

/// The last frame of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Why.
    pub reason: CloseReason,
    /// Oldest version of the protocol the sender speaks.
    pub version_min: u16,
    /// Newest version of the protocol the sender speaks.
    pub version_max: u16,
    /// One line for a human.
    pub message: String,
}

impl CloseReason {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Goodbye => 0,
            Self::Draining => 1,
            Self::ProtocolMismatch => 2,
            Self::Malformed => 3,
            Self::PermissionDenied => 4,
            Self::LimitExceeded => 5,
            Self::Refused => 6,
            Self::Other(number) => number,
        }
    }

    const fn from_wire(number: u8) -> Self {
        match number {
            0 => Self::Goodbye,
            1 => Self::Draining,
            2 => Self::ProtocolMismatch,
            3 => Self::Malformed,
            4 => Self::PermissionDenied,
            5 => Self::LimitExceeded,
            6 => Self::Refused,
            other => Self::Other(other),
        }
    }
}

impl Close {
    /// A notice of this build.
    #[must_use]
    pub fn new(reason: CloseReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION,
            message: message.into(),
        }
    }

    /// Appends the notice as one frame. The buffer must hold whole frames or nothing.
    ///
    /// # Errors
    ///
    /// The message is too long; the buffer is as it was.
    pub fn encode(&self, buffer: &mut FrameBuffer) -> Result<(), FieldError> {
        let mut body = Vec::new();
        write_field(&mut body, 1, &[self.reason.to_wire()])?;
        write_field(&mut body, 2, &self.version_min.to_le_bytes())?;
        write_field(&mut body, 3, &self.version_max.to_le_bytes())?;
        write_field(&mut body, 4, self.message.as_bytes())?;
        append_greeting(FrameKind::Close, &body, buffer)
    }

    /// Reads the body of a close notice of any version of the protocol.
    ///
    /// # Errors
    ///
    /// It is malformed.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let (mut reason, mut version_min, mut version_max, mut message) = (None, None, None, None);
        let mut reader = FieldReader::new(body);
        while let Some(field) = reader.read()? {
            match field.id {
                1 => reason = Some(CloseReason::from_wire(field.as_u8()?)),
                2 => version_min = Some(field.as_u16()?),
                3 => version_max = Some(field.as_u16()?),
                4 => message = Some(field.as_text()?.to_owned()),
                _ => {}
            }
        }
        Ok(Self {
            reason: reason.ok_or(FieldError::Missing { id: 1 })?,
            version_min: version_min.ok_or(FieldError::Missing { id: 2 })?,
            version_max: version_max.ok_or(FieldError::Missing { id: 3 })?,
            message: message.ok_or(FieldError::Missing { id: 4 })?,
        })
    }
}
