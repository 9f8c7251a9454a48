//! Which of the two encodings of the wire a client asks for.

/// How requests and answers are written on the wire. The results are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Archives that are read in place.
    #[default]
    Rkyv,
    /// MessagePack maps, as clients in other languages use them. Costs a copy of every answer:
    /// choose it to test what those clients see.
    MessagePack,
}

impl From<Encoding> for in_mem_ipc::Encoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Rkyv => Self::Rkyv,
            Encoding::MessagePack => Self::MessagePack,
        }
    }
}
