//! From a text to its value.
//!
//! Numbers are read here and not by the JSON library, which turns an integer beyond 64 bits into a
//! float; string escapes are the library's. Objects are kept as plain entries until the whole text
//! is read, since a wrapper is known only when its closing brace is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{WRAPPER_ABSENT, WRAPPER_BYTES, WRAPPER_F64, WRAPPER_OBJECT};
use crate::limits;
use crate::value::Value;

/// Deepest nesting of the text, count: each level of a value may stand in an object wrapper.
const TEXT_DEPTH_MAX: usize = 2 * (limits::DEPTH_MAX + 1);

/// Most nodes of a text, wrappers included: a wrapper adds one to the value it holds. Bounds the
/// memory of a text of a given length.
const TEXT_NODE_COUNT_MAX: usize = 2 * (limits::NODE_COUNT_MAX + 1);

/// Why a text is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not valid JSON at offset {offset}")]
    Syntax {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// An integer that does not fit 64 bits with sign.
    #[error("the integer at offset {offset} does not fit 64 bits with sign")]
    IntegerRange {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// A float too large to be finite.
    #[error(
        "the float at offset {offset} is beyond the finite range; write {{\"$f64\": \"+Inf\"}}"
    )]
    FloatRange {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// An object with the same key twice.
    #[error("the object that begins at offset {offset} has a key twice")]
    DuplicateKey {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// A wrapper with something else inside than its kind takes.
    #[error("the content of the {wrapper} wrapper is not what it takes")]
    Wrapper {
        /// Its key.
        wrapper: &'static str,
    },
    /// Absent where a value must stand.
    #[error("absent is no value here")]
    Absent,
    /// More values than any value may have nodes.
    #[error("the text up to offset {offset} has too many values")]
    TooManyNodes {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// Nested too deeply.
    #[error("the text at offset {offset} nests too deeply")]
    TooDeep {
        /// Where, bytes from the start.
        offset: usize,
    },
}

/// Reads exactly one value.
///
/// # Errors
/// The first rule the text breaks. Limits other than depth are checked when the value is encoded.
pub fn from_text(text: &str) -> Result<Value, JsonError> {
    from_text_or_absent(text)?.ok_or(JsonError::Absent)
}

/// Reads one value, or none for the text of absent.
///
/// # Errors
/// As [`from_text`].
pub fn from_text_or_absent(text: &str) -> Result<Option<Value>, JsonError> {
    let mut parser = Parser {
        text,
        offset: 0,
        node_count: 0,
    };
    let node = parser.node(0)?;
    parser.skip_space();
    if parser.offset < text.len() {
        return Err(JsonError::Syntax {
            offset: parser.offset,
        });
    }
    if is_absent(&node) {
        Ok(None)
    } else {
        interpret(node).map(Some)
    }
}

/// A value whose objects are not yet told from wrappers.
enum Node {
    Plain(Value),
    Array(Vec<Node>),
    Entries(Vec<(String, Node)>),
}

fn is_absent(node: &Node) -> bool {
    let Node::Entries(entries) = node else {
        return false;
    };
    matches!(entries.as_slice(), [(key, Node::Plain(Value::Bool(true)))] if key == WRAPPER_ABSENT)
}

fn interpret(node: Node) -> Result<Value, JsonError> {
    match node {
        Node::Plain(value) => Ok(value),
        Node::Array(items) => Ok(Value::Array(
            items.into_iter().map(interpret).collect::<Result<_, _>>()?,
        )),
        Node::Entries(entries) => match <[(String, Node); 1]>::try_from(entries) {
            Ok([(key, content)]) => single(key, content),
            Err(entries) => object(entries),
        },
    }
}

fn object(entries: Vec<(String, Node)>) -> Result<Value, JsonError> {
    let read = |(key, node)| interpret(node).map(|value| (key, value));
    Ok(Value::Object(
        entries.into_iter().map(read).collect::<Result<_, _>>()?,
    ))
}

/// The meaning of an object with one key.
fn single(key: String, content: Node) -> Result<Value, JsonError> {
    match (key.as_str(), content) {
        (WRAPPER_BYTES, Node::Plain(Value::String(text))) => STANDARD
            .decode(text)
            .map(Value::Bytes)
            .map_err(|_| JsonError::Wrapper {
                wrapper: WRAPPER_BYTES,
            }),
        (WRAPPER_F64, Node::Plain(Value::String(text))) => match text.as_str() {
            "NaN" => Ok(Value::Float(f64::NAN)),
            "+Inf" => Ok(Value::Float(f64::INFINITY)),
            "-Inf" => Ok(Value::Float(f64::NEG_INFINITY)),
            "-0.0" => Ok(Value::Float(-0.0)),
            _ => Err(JsonError::Wrapper {
                wrapper: WRAPPER_F64,
            }),
        },
        (WRAPPER_OBJECT, Node::Entries(entries)) => object(entries),
        (WRAPPER_ABSENT, Node::Plain(Value::Bool(true))) => Err(JsonError::Absent),
        (WRAPPER_BYTES, _) => Err(JsonError::Wrapper {
            wrapper: WRAPPER_BYTES,
        }),
        (WRAPPER_F64, _) => Err(JsonError::Wrapper {
            wrapper: WRAPPER_F64,
        }),
        (WRAPPER_OBJECT, _) => Err(JsonError::Wrapper {
            wrapper: WRAPPER_OBJECT,
        }),
        (WRAPPER_ABSENT, _) => Err(JsonError::Wrapper {
            wrapper: WRAPPER_ABSENT,
        }),
        (_, content) => Ok(Value::Object(vec![(key, interpret(content)?)])),
    }
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
    node_count: usize,
}

impl Parser<'_> {
    fn node(&mut self, depth: usize) -> Result<Node, JsonError> {
        self.skip_space();
        if depth > TEXT_DEPTH_MAX {
            return Err(JsonError::TooDeep {
                offset: self.offset,
            });
        }
        self.node_count += 1;
        if self.node_count > TEXT_NODE_COUNT_MAX {
            return Err(JsonError::TooManyNodes {
                offset: self.offset,
            });
        }
        match self.peek() {
            Some(b'{') => self.entries(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Node::Plain(Value::String(self.string()?))),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            _ => Err(self.syntax()),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node, JsonError> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Node::Array(items));
        }
        loop {
            items.push(self.node(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Node::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Node, JsonError> {
        let start = self.offset;
        self.expect(b'{')?;
        let mut entries: Vec<(String, Node)> = Vec::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Node::Entries(entries));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            entries.push((key, self.node(depth + 1)?));
            self.skip_space();
            if self.take(b'}') {
                break;
            }
            self.expect(b',')?;
        }
        let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        match keys.windows(2).any(|pair| pair.first() == pair.last()) {
            true => Err(JsonError::DuplicateKey { offset: start }),
            false => Ok(Node::Entries(entries)),
        }
    }

    /// A number: digits, with a fraction or an exponent a float, without both an integer.
    fn number(&mut self) -> Result<Node, JsonError> {
        let start = self.offset;
        let _ = self.take(b'-');
        let zero_first = self.peek() == Some(b'0');
        let digit_count = self.digits();
        if digit_count == 0 || (zero_first && digit_count > 1) {
            return Err(self.syntax());
        }
        let mut is_float = false;
        if self.take(b'.') {
            is_float = true;
            if self.digits() == 0 {
                return Err(self.syntax());
            }
        }
        if self.take(b'e') || self.take(b'E') {
            is_float = true;
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(self.syntax());
            }
        }
        let text = self.text.get(start..self.offset).unwrap_or_default();
        if !is_float {
            let value = text
                .parse()
                .map_err(|_| JsonError::IntegerRange { offset: start })?;
            return Ok(Node::Plain(Value::Int(value)));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Node::Plain(Value::Float(value))),
            _ => Err(JsonError::FloatRange { offset: start }),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.offset;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.offset += 1;
        }
        self.offset - start
    }

    /// A string: its end is found here, its escapes are read by the JSON library.
    fn string(&mut self) -> Result<String, JsonError> {
        let start = self.offset;
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.offset += 2,
                Some(_) => self.offset += 1,
                None => return Err(JsonError::Syntax { offset: start }),
            }
        }
        self.offset += 1;
        let literal = self.text.get(start..self.offset).unwrap_or_default();
        serde_json::from_str(literal).map_err(|_| JsonError::Syntax { offset: start })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Node, JsonError> {
        let rest = self.text.get(self.offset..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.syntax());
        }
        self.offset += word.len();
        Ok(Node::Plain(value))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.offset += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.offset += 1;
        }
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax {
            offset: self.offset,
        }
    }
}
