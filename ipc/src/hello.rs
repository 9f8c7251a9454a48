//! The greeting: what each side says first.
//!
//! The client sends a hello, the server answers with a hello reply or a close. Both bodies are
//! [`crate::fields`], the same in every version of the protocol, so that peers of different
//! versions can name the difference instead of misreading each other.
//!
//! ```text
//! hello                               hello reply
//! id  content                         id  content
//!  1  version_min u16                  1  protocol_version u16, the chosen one
//!  2  version_max u16                  2  encoding u8, the chosen one
//!  3  encoding u8, repeated            3  server version, text
//!  4  feature, text, repeated          4  feature, text, repeated
//!  5  run id, 16 bytes                 5  run id, 16 bytes, as resolved
//!  6  run name, text                   6  default durability u8
//!  7  durability u8                    7  durability mode u8, repeated
//!  8  client id, 16 bytes              8  operation name, text, repeated
//!  9  registered_at u64                9  limit, u64 then name, repeated
//! 10  client name, text               10  registered_at u64
//! 11  client version, text
//! ```
//!
//! Fields 1 and 2 of a hello and 1, 2, 3, 5, 6 of a reply are required. Lists keep their order;
//! the first encoding is the one preferred. No field tells the client the id of the database.

use crate::codec::FrameBuffer;
use crate::encoding::Encoding;
use crate::fields::{Field, FieldError, FieldReader, append_greeting, write_field};
use crate::frame::{FrameKind, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use crate::request::DurabilityChoice;

/// rkyv archives, as [`crate::codec`] makes them.
pub const ENCODING_RKYV: u8 = 0;

/// The same messages as MessagePack maps, as [`crate::message_pack`] makes them.
pub const ENCODING_MESSAGE_PACK: u8 = 1;

/// Which run a session begins in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HelloRun {
    /// The default run of the database.
    #[default]
    Default,
    /// The run with this id.
    Id([u8; 16]),
    /// The run with this name.
    Name(String),
}

/// The first frame of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version of the protocol the client speaks.
    pub version_min: u16,
    /// Newest version of the protocol the client speaks.
    pub version_max: u16,
    /// Encodings the client can use, best first.
    pub encodings: Vec<u8>,
    /// Names of the features the client wants.
    pub features: Vec<String>,
    /// The default run of the session.
    pub run: HelloRun,
    /// The default durability of the session; `Session`: that of the database.
    pub durability: DurabilityChoice,
    /// The identity exactly-once sequences belong to.
    pub client_id: Option<[u8; 16]>,
    /// What the first hello of this client id was told, if it was.
    pub registered_at: Option<u64>,
    /// Name of the client program, for humans.
    pub client_name: String,
    /// Version of the client program, for humans.
    pub client_version: String,
}

/// A limit in force at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name, the unit in it.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// The first frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloReply {
    /// The version of the protocol from here on.
    pub protocol_version: u16,
    /// The encoding from here on.
    pub encoding: u8,
    /// Version of the server program.
    pub server_version: String,
    /// Names of the features of this session.
    pub features: Vec<String>,
    /// The default run of the session, resolved.
    pub run_id: [u8; 16],
    /// The default durability of the session; never `Session`.
    pub durability: DurabilityChoice,
    /// The durabilities a request may ask for.
    pub durability_modes: Vec<DurabilityChoice>,
    /// Names of the operations that work.
    pub operations: Vec<String>,
    /// The limits in force.
    pub limits: Vec<Limit>,
    /// For a client id: the value to send with its later hellos.
    pub registered_at: Option<u64>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION,
            encodings: vec![ENCODING_RKYV],
            features: Vec::new(),
            run: HelloRun::Default,
            durability: DurabilityChoice::Session,
            client_id: None,
            registered_at: None,
            client_name: String::new(),
            client_version: String::new(),
        }
    }
}

/// The newest version of the protocol both sides speak; `None` if there is none.
#[must_use]
pub const fn choose_version(hello: &Hello) -> Option<u16> {
    let newest = if hello.version_max < PROTOCOL_VERSION {
        hello.version_max
    } else {
        PROTOCOL_VERSION
    };
    let oldest = if hello.version_min < PROTOCOL_VERSION_MIN {
        PROTOCOL_VERSION_MIN
    } else {
        hello.version_min
    };
    if oldest <= newest { Some(newest) } else { None }
}

/// The first encoding of the client this build has too; `None` if there is none.
#[must_use]
pub fn choose_encoding(hello: &Hello) -> Option<Encoding> {
    let mut encodings = hello.encodings.iter().copied();
    encodings.find_map(Encoding::from_wire)
}

impl Hello {
    /// Appends the hello as one frame. The buffer must hold whole frames or nothing.
    ///
    /// # Errors
    ///
    /// A text or the whole is too long; the buffer is as it was.
    pub fn encode(&self, buffer: &mut FrameBuffer) -> Result<(), FieldError> {
        let mut body = Vec::new();
        write_field(&mut body, 1, &self.version_min.to_le_bytes())?;
        write_field(&mut body, 2, &self.version_max.to_le_bytes())?;
        for encoding in &self.encodings {
            write_field(&mut body, 3, &[*encoding])?;
        }
        for feature in &self.features {
            write_field(&mut body, 4, feature.as_bytes())?;
        }
        match &self.run {
            HelloRun::Default => {}
            HelloRun::Id(id) => write_field(&mut body, 5, id)?,
            HelloRun::Name(name) => write_field(&mut body, 6, name.as_bytes())?,
        }
        write_field(&mut body, 7, &[durability_to_wire(self.durability)])?;
        if let Some(client_id) = &self.client_id {
            write_field(&mut body, 8, client_id)?;
        }
        if let Some(registered_at) = self.registered_at {
            write_field(&mut body, 9, &registered_at.to_le_bytes())?;
        }
        write_field(&mut body, 10, self.client_name.as_bytes())?;
        write_field(&mut body, 11, self.client_version.as_bytes())?;
        append_greeting(FrameKind::Hello, &body, buffer)
    }

    /// Reads the body of a hello of any version of the protocol.
    ///
    /// # Errors
    ///
    /// It is malformed.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut hello = Self {
            encodings: Vec::new(),
            ..Self::default()
        };
        let mut version_min = None;
        let mut version_max = None;
        let mut reader = FieldReader::new(body);
        while let Some(field) = reader.read()? {
            match field.id {
                1 => version_min = Some(field.as_u16()?),
                2 => version_max = Some(field.as_u16()?),
                3 => hello.encodings.push(field.as_u8()?),
                4 => hello.features.push(field.as_text()?.to_owned()),
                5 => hello.run = HelloRun::Id(field.as_array()?),
                6 => hello.run = HelloRun::Name(field.as_text()?.to_owned()),
                7 => hello.durability = durability_from_wire(&field)?,
                8 => hello.client_id = Some(field.as_array()?),
                9 => hello.registered_at = Some(field.as_u64()?),
                10 => hello.client_name = field.as_text()?.to_owned(),
                11 => hello.client_version = field.as_text()?.to_owned(),
                _ => {}
            }
        }
        hello.version_min = version_min.ok_or(FieldError::Missing { id: 1 })?;
        hello.version_max = version_max.ok_or(FieldError::Missing { id: 2 })?;
        Ok(hello)
    }
}

impl HelloReply {
    /// Appends the reply as one frame. The buffer must hold whole frames or nothing.
    ///
    /// # Errors
    ///
    /// A text or the whole is too long; the buffer is as it was.
    pub fn encode(&self, buffer: &mut FrameBuffer) -> Result<(), FieldError> {
        let mut body = Vec::new();
        write_field(&mut body, 1, &self.protocol_version.to_le_bytes())?;
        write_field(&mut body, 2, &[self.encoding])?;
        write_field(&mut body, 3, self.server_version.as_bytes())?;
        for feature in &self.features {
            write_field(&mut body, 4, feature.as_bytes())?;
        }
        write_field(&mut body, 5, &self.run_id)?;
        write_field(&mut body, 6, &[durability_to_wire(self.durability)])?;
        for mode in &self.durability_modes {
            write_field(&mut body, 7, &[durability_to_wire(*mode)])?;
        }
        for operation in &self.operations {
            write_field(&mut body, 8, operation.as_bytes())?;
        }
        for limit in &self.limits {
            let mut content = limit.value.to_le_bytes().to_vec();
            content.extend_from_slice(limit.name.as_bytes());
            write_field(&mut body, 9, &content)?;
        }
        if let Some(registered_at) = self.registered_at {
            write_field(&mut body, 10, &registered_at.to_le_bytes())?;
        }
        append_greeting(FrameKind::HelloReply, &body, buffer)
    }

    /// Reads the body of a hello reply.
    ///
    /// # Errors
    ///
    /// It is malformed.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let (mut protocol_version, mut encoding, mut server_version) = (None, None, None);
        let (mut run_id, mut durability, mut registered_at) = (None, None, None);
        let (mut features, mut durability_modes) = (Vec::new(), Vec::new());
        let (mut operations, mut limits) = (Vec::new(), Vec::new());
        let mut reader = FieldReader::new(body);
        while let Some(field) = reader.read()? {
            match field.id {
                1 => protocol_version = Some(field.as_u16()?),
                2 => encoding = Some(field.as_u8()?),
                3 => server_version = Some(field.as_text()?.to_owned()),
                4 => features.push(field.as_text()?.to_owned()),
                5 => run_id = Some(field.as_array()?),
                6 => durability = Some(durability_from_wire(&field)?),
                7 => durability_modes.push(durability_from_wire(&field)?),
                8 => operations.push(field.as_text()?.to_owned()),
                9 => limits.push(limit_from_wire(&field)?),
                10 => registered_at = Some(field.as_u64()?),
                _ => {}
            }
        }
        Ok(Self {
            protocol_version: protocol_version.ok_or(FieldError::Missing { id: 1 })?,
            encoding: encoding.ok_or(FieldError::Missing { id: 2 })?,
            server_version: server_version.ok_or(FieldError::Missing { id: 3 })?,
            features,
            run_id: run_id.ok_or(FieldError::Missing { id: 5 })?,
            durability: durability.ok_or(FieldError::Missing { id: 6 })?,
            durability_modes,
            operations,
            limits,
            registered_at,
        })
    }
}

const fn durability_to_wire(durability: DurabilityChoice) -> u8 {
    match durability {
        DurabilityChoice::InMemory => 0,
        DurabilityChoice::Buffered => 1,
        DurabilityChoice::Strict => 2,
        DurabilityChoice::Session => 255,
    }
}

fn durability_from_wire(field: &Field<'_>) -> Result<DurabilityChoice, FieldError> {
    match field.as_u8()? {
        0 => Ok(DurabilityChoice::InMemory),
        1 => Ok(DurabilityChoice::Buffered),
        2 => Ok(DurabilityChoice::Strict),
        255 => Ok(DurabilityChoice::Session),
        _ => Err(FieldError::Content { id: field.id }),
    }
}

fn limit_from_wire(field: &Field<'_>) -> Result<Limit, FieldError> {
    let malformed = FieldError::Content { id: field.id };
    let (value, name) = field.bytes.split_first_chunk::<8>().ok_or(malformed)?;
    let name = std::str::from_utf8(name).map_err(|_| malformed)?.to_owned();
    Ok(Limit {
        name,
        value: u64::from_le_bytes(*value),
    })
}
