//! The seven primitives: their frozen ids on disk, and the type tags that order keys in memory.

/// Id of a primitive on disk; frozen. 0 is the snapshot's own metadata, 8 to 255 are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PrimitiveId {
    /// Keys and values.
    Kv = 1,
    /// JSON documents.
    Json = 2,
    /// The event log.
    Event = 3,
    /// State cells.
    State = 4,
    /// Traces.
    Trace = 5,
    /// The run index.
    Run = 6,
    /// Vectors and their collections.
    Vector = 7,
}

impl PrimitiveId {
    /// All of them, by ascending id.
    pub const ALL: [Self; 7] = [
        Self::Kv,
        Self::Json,
        Self::Event,
        Self::State,
        Self::Trace,
        Self::Run,
        Self::Vector,
    ];

    /// The id as a byte.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The primitive with this id, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|id| id.number() == number)
    }

    /// Its name in operation names and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Json => "json",
            Self::Event => "event",
            Self::State => "state",
            Self::Trace => "trace",
            Self::Run => "run",
            Self::Vector => "vector",
        }
    }
}

/// Type tag inside a key in memory: the second part of the key order, after the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TypeTag {
    /// A KV entry.
    Kv = 0x01,
    /// An event.
    Event = 0x02,
    /// A state cell.
    State = 0x03,
    /// A trace.
    Trace = 0x04,
    /// Metadata of a run.
    Run = 0x05,
    /// A vector.
    Vector = 0x10,
    /// A JSON document.
    Json = 0x11,
    /// A vector collection.
    VectorCollection = 0x12,
}

impl TypeTag {
    /// All of them, in key order.
    pub const ALL: [Self; 8] = [
        Self::Kv,
        Self::Event,
        Self::State,
        Self::Trace,
        Self::Run,
        Self::Vector,
        Self::Json,
        Self::VectorCollection,
    ];

    /// The tag as a byte.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The tag with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| tag.number() == number)
    }

    /// The primitive whose entities carry this tag.
    #[must_use]
    pub const fn primitive(self) -> PrimitiveId {
        match self {
            Self::Kv => PrimitiveId::Kv,
            Self::Event => PrimitiveId::Event,
            Self::State => PrimitiveId::State,
            Self::Trace => PrimitiveId::Trace,
            Self::Run => PrimitiveId::Run,
            Self::Vector | Self::VectorCollection => PrimitiveId::Vector,
            Self::Json => PrimitiveId::Json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_frozen_and_read_back() {
        let ids: Vec<u8> = PrimitiveId::ALL.iter().map(|id| id.number()).collect();
        let tags: Vec<u8> = TypeTag::ALL.iter().map(|tag| tag.number()).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tags, [0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12]);
        for number in 0..=u8::MAX {
            assert_eq!(
                PrimitiveId::from_number(number).is_some(),
                ids.contains(&number)
            );
            assert_eq!(
                TypeTag::from_number(number).is_some(),
                tags.contains(&number)
            );
        }
    }

    #[test]
    fn each_primitive_has_a_tag_and_tags_sort_by_number() {
        for id in PrimitiveId::ALL {
            assert!(
                TypeTag::ALL.iter().any(|tag| tag.primitive() == id),
                "{}",
                id.name()
            );
        }
        assert!(TypeTag::ALL.is_sorted());
    }
}
