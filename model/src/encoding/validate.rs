//! The one check of an encoded value, made once at the door: one pass, an explicit depth.

use super::ValueError;
use super::token::{Token, Tokens};
use crate::limits::Limits;

/// A container whose items are still being read.
struct Open {
    /// Items left; a map counts its keys and its values.
    items_left: usize,
    is_map: bool,
    /// Where this map's keys begin in the shared list.
    keys_start: usize,
    /// True while every key was greater than the one before, so that none can repeat.
    is_rising: bool,
}

struct Walk<'a> {
    limits: &'a Limits,
    tokens: Tokens<'a>,
    open: Vec<Open>,
    /// The keys of all open maps, outer ones first, with the offset of each.
    keys: Vec<(&'a str, usize)>,
    node_count: usize,
}

/// Checks that `bytes` are exactly one value of the profile, within every limit.
///
/// Nothing is allocated in proportion to an announced length before the bytes for it are there.
///
/// # Errors
/// The first rule the bytes break, with its offset.
pub fn validate(bytes: &[u8], limits: &Limits) -> Result<(), ValueError> {
    if bytes.len() > limits.value_len_bytes_max {
        return Err(ValueError::TooLarge {
            len_bytes: bytes.len(),
            max: limits.value_len_bytes_max,
        });
    }
    let mut walk = Walk {
        limits,
        tokens: Tokens::new(bytes),
        open: Vec::new(),
        keys: Vec::new(),
        node_count: 0,
    };
    walk.value()?;
    while let Some(top) = walk.open.last_mut() {
        if top.items_left == 0 {
            walk.close()?;
            continue;
        }
        let is_key = top.is_map && top.items_left.is_multiple_of(2);
        top.items_left -= 1;
        if is_key {
            walk.key()?;
        } else {
            walk.value()?;
        }
    }
    match walk.tokens.remaining_len_bytes() {
        0 => Ok(()),
        _ => Err(ValueError::Trailing {
            offset: walk.tokens.offset(),
        }),
    }
}

impl<'a> Walk<'a> {
    fn value(&mut self) -> Result<(), ValueError> {
        let limits = self.limits;
        let offset = self.tokens.offset();
        if self.open.len() > limits.depth_max {
            let max = limits.depth_max;
            return Err(ValueError::TooDeep { offset, max });
        }
        match self.tokens.next_token()? {
            Token::Nil | Token::Bool(_) | Token::Int(_) | Token::Float(_) => Ok(()),
            Token::Str(text) => self.check_string(text),
            Token::Bin(bytes) if bytes.len() > limits.bytes_len_bytes_max => {
                let (len_bytes, max) = (bytes.len(), limits.bytes_len_bytes_max);
                Err(ValueError::BytesTooLong { len_bytes, max })
            }
            Token::Bin(_) => Ok(()),
            Token::Array(len) if len > limits.array_count_max => {
                let max = limits.array_count_max;
                Err(ValueError::ArrayTooLong { len, max })
            }
            Token::Map(len) if len > limits.object_count_max => {
                let max = limits.object_count_max;
                Err(ValueError::ObjectTooLarge { len, max })
            }
            Token::Array(len) => self.open(len, len, false),
            Token::Map(len) => self.open(len, 2 * len, true),
        }
    }

    fn check_string(&self, text: &str) -> Result<(), ValueError> {
        let (len_bytes, max) = (text.len(), self.limits.string_len_bytes_max);
        match len_bytes > max {
            true => Err(ValueError::StringTooLong { len_bytes, max }),
            false => Ok(()),
        }
    }

    fn open(&mut self, len: usize, items: usize, is_map: bool) -> Result<(), ValueError> {
        // Every item takes a byte at least.
        if items > self.tokens.remaining_len_bytes() {
            return Err(ValueError::Truncated {
                offset: self.tokens.offset(),
            });
        }
        self.node_count += len;
        if self.node_count > self.limits.node_count_max {
            return Err(ValueError::TooManyNodes {
                count: self.node_count,
                max: self.limits.node_count_max,
            });
        }
        let keys_start = self.keys.len();
        self.open.push(Open {
            items_left: items,
            is_map,
            keys_start,
            is_rising: true,
        });
        Ok(())
    }

    fn key(&mut self) -> Result<(), ValueError> {
        let offset = self.tokens.offset();
        let Token::Str(key) = self.tokens.next_token()? else {
            return Err(ValueError::KeyNotString { offset });
        };
        self.check_string(key)?;
        if let Some(top) = self.open.last_mut() {
            let earlier = self.keys.get(top.keys_start..).and_then(<[_]>::last);
            top.is_rising &= earlier.is_none_or(|(earlier, _)| *earlier < key);
        }
        self.keys.push((key, offset));
        Ok(())
    }

    fn close(&mut self) -> Result<(), ValueError> {
        let Some(done) = self.open.pop() else {
            return Ok(());
        };
        if !done.is_rising {
            let keys = self.keys.get_mut(done.keys_start..).unwrap_or_default();
            keys.sort_unstable();
            let repeated = keys.windows(2).find_map(|pair| match pair {
                [(first, _), (second, offset)] if first == second => Some(*offset),
                _ => None,
            });
            if let Some(offset) = repeated {
                return Err(ValueError::DuplicateKey { offset });
            }
        }
        self.keys.truncate(done.keys_start);
        Ok(())
    }
}
