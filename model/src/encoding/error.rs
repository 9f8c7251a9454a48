//! Why bytes, or a value in memory, are refused.

/// Why bytes, or a value, are not in the profile or not within the limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The bytes end inside an item, or announce more than there is.
    #[error("the value is cut short at offset {offset}")]
    Truncated {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// A MessagePack form outside the profile: float32, an extension, the unused byte.
    #[error("the form {marker:#04x} at offset {offset} is not accepted")]
    Form {
        /// Where, bytes from the start.
        offset: usize,
        /// The first byte of the item.
        marker: u8,
    },
    /// An integer above the range of a signed 64-bit one.
    #[error("the integer at offset {offset} is above 9223372036854775807")]
    IntegerRange {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string at offset {offset} is not valid UTF-8")]
    Utf8 {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// An object key that is not a string.
    #[error("the object key at offset {offset} is not a string")]
    KeyNotString {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// An object with the same key twice.
    #[error("the object key at offset {offset} stands there twice")]
    DuplicateKey {
        /// Where the second one is, bytes from the start.
        offset: usize,
    },
    /// Bytes behind the value.
    #[error("bytes follow the value at offset {offset}")]
    Trailing {
        /// Where they begin, bytes from the start.
        offset: usize,
    },
    /// The encoding is too long.
    #[error("the value has {len_bytes} bytes, the limit is {max}")]
    TooLarge {
        /// How long it is, bytes.
        len_bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too many nodes below the root.
    #[error("the value has {count} nodes, the limit is {max}")]
    TooManyNodes {
        /// How many were announced.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A string is too long.
    #[error("the string has {len_bytes} bytes, the limit is {max}")]
    StringTooLong {
        /// How long it is, bytes.
        len_bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A bytes value is too long.
    #[error("the bytes value has {len_bytes} bytes, the limit is {max}")]
    BytesTooLong {
        /// How long it is, bytes.
        len_bytes: usize,
        /// The limit.
        max: usize,
    },
    /// An array has too many elements.
    #[error("the array has {len} elements, the limit is {max}")]
    ArrayTooLong {
        /// How many.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// An object has too many entries.
    #[error("the object has {len} entries, the limit is {max}")]
    ObjectTooLarge {
        /// How many.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Nested too deeply.
    #[error("the value at offset {offset} nests deeper than {max}")]
    TooDeep {
        /// Where, bytes from the start.
        offset: usize,
        /// The limit.
        max: usize,
    },
}

impl ValueError {
    /// The stable reason of a limit, or none for bytes that are no value at all.
    #[must_use]
    pub fn limit_reason(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } | Self::TooManyNodes { .. } => Some("value_too_large"),
            Self::StringTooLong { .. } => Some("string_too_long"),
            Self::BytesTooLong { .. } => Some("bytes_too_long"),
            Self::ArrayTooLong { .. } => Some("array_too_long"),
            Self::ObjectTooLarge { .. } => Some("object_too_large"),
            Self::TooDeep { .. } => Some("nesting_too_deep"),
            Self::Truncated { .. }
            | Self::Form { .. }
            | Self::IntegerRange { .. }
            | Self::Utf8 { .. }
            | Self::KeyNotString { .. }
            | Self::DuplicateKey { .. }
            | Self::Trailing { .. } => None,
        }
    }

    /// Where the bytes break the rule, from the start of the value; none for limits on a length.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Truncated { offset }
            | Self::Form { offset, .. }
            | Self::IntegerRange { offset }
            | Self::Utf8 { offset }
            | Self::KeyNotString { offset }
            | Self::DuplicateKey { offset }
            | Self::Trailing { offset }
            | Self::TooDeep { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}
