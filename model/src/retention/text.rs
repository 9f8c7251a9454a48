//! Retention policies as text, for the command line, the configuration and logs.
//!
//! ```text
//! policy    := plain | "union(" plain ("," plain)* ")"
//!            | "composite(" "default" plain ("," primitive plain)* ")"
//! plain     := "keep-all" | "keep-last" count | "keep-for" age
//! age       := count unit, without a space
//! unit      := "us" | "ms" | "s" | "m" | "h" | "d"
//! primitive := "kv" | "json" | "event" | "state" | "trace" | "run" | "vector"
//! ```
//!
//! For example `keep-last 10`, `union(keep-last 10, keep-for 7d)`,
//! `composite(default keep-all, kv keep-last 3)`. White space between words is free. A policy is
//! written with the largest unit that leaves a whole number, and reads back as itself.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use super::{RetentionError, RetentionPolicy};
use crate::primitive::PrimitiveId;

const KEEP_ALL: &str = "keep-all";
const KEEP_LAST: &str = "keep-last";
const KEEP_FOR: &str = "keep-for";
const DEFAULT: &str = "default";

/// Microseconds of each unit, largest first.
const UNITS: [(&str, u128); 6] = [
    ("d", 24 * 60 * 60 * 1_000_000),
    ("h", 60 * 60 * 1_000_000),
    ("m", 60 * 1_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Why a text is no retention policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyTextError {
    /// The text is none.
    #[error("not a retention policy at byte {offset}: expected {expected}")]
    Syntax {
        /// Where, bytes from the beginning of the text.
        offset: usize,
        /// What could stand there.
        expected: &'static str,
    },
    /// The text is one that must not be.
    #[error("not a retention policy")]
    Invalid(#[from] RetentionError),
}

impl fmt::Display for RetentionPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeepAll => formatter.write_str(KEEP_ALL),
            Self::KeepLast(count) => write!(formatter, "{KEEP_LAST} {count}"),
            Self::KeepFor(age_us) => {
                let age_us = age_us.get();
                let whole = UNITS
                    .into_iter()
                    .find(|(_, unit_us)| age_us.is_multiple_of(*unit_us));
                let (unit, unit_us) = whole.unwrap_or(("us", 1));
                write!(formatter, "{KEEP_FOR} {}{unit}", age_us / unit_us)
            }
            Self::Composite(composite) => {
                write!(formatter, "composite({DEFAULT} {}", composite.default)?;
                for (primitive, policy) in &composite.overrides {
                    write!(formatter, ", {} {policy}", primitive.name())?;
                }
                formatter.write_str(")")
            }
            Self::Union(union) => {
                formatter.write_str("union(")?;
                for (index, member) in union.members.iter().enumerate() {
                    let between = if index == 0 { "" } else { ", " };
                    write!(formatter, "{between}{member}")?;
                }
                formatter.write_str(")")
            }
        }
    }
}

impl FromStr for RetentionPolicy {
    type Err = PolicyTextError;

    fn from_str(text: &str) -> Result<Self, PolicyTextError> {
        let mut words = Words { text, at: 0 };
        let policy = match words.peek() {
            "union" => words.union()?,
            "composite" => words.composite()?,
            _ => words.plain()?,
        };
        if words.peek().is_empty() {
            Ok(policy)
        } else {
            Err(words.expected("the end"))
        }
    }
}

/// A text, word by word: the signs `(`, `)` and `,` are words of their own.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    /// The next word, not yet taken; empty at the end.
    fn peek(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        let is_sign = |found: char| matches!(found, '(' | ')' | ',');
        let end = match trimmed.find(|found: char| is_sign(found) || found.is_whitespace()) {
            Some(0) => 1,
            Some(end) => end,
            None => trimmed.len(),
        };
        trimmed.get(..end).unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let word = self.peek();
        self.at += word.len();
        word
    }

    /// Takes `word` if it is the next.
    fn has(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        if found {
            self.at += word.len();
        }
        found
    }

    fn require(&mut self, word: &'static str) -> Result<(), PolicyTextError> {
        if self.has(word) {
            Ok(())
        } else {
            Err(self.expected(word))
        }
    }

    fn expected(&self, expected: &'static str) -> PolicyTextError {
        PolicyTextError::Syntax {
            offset: self.at,
            expected,
        }
    }

    fn union(&mut self) -> Result<RetentionPolicy, PolicyTextError> {
        self.require("union")?;
        self.require("(")?;
        let mut members = Vec::new();
        loop {
            if members.is_empty() && self.has(")") {
                break;
            }
            members.push(self.plain()?);
            if self.has(")") {
                break;
            }
            self.require(",")?;
        }
        Ok(RetentionPolicy::union(members)?)
    }

    fn composite(&mut self) -> Result<RetentionPolicy, PolicyTextError> {
        self.require("composite")?;
        self.require("(")?;
        self.require(DEFAULT)?;
        let default = self.plain()?;
        let mut overrides = Vec::new();
        while !self.has(")") {
            self.require(",")?;
            let name = self.peek();
            let mut all = PrimitiveId::ALL.into_iter();
            let primitive = all
                .find(|primitive| primitive.name() == name)
                .ok_or_else(|| self.expected("the name of a primitive"))?;
            self.take();
            overrides.push((primitive, self.plain()?));
        }
        Ok(RetentionPolicy::composite(default, overrides)?)
    }

    fn plain(&mut self) -> Result<RetentionPolicy, PolicyTextError> {
        match self.peek() {
            KEEP_ALL => {
                self.take();
                Ok(RetentionPolicy::KeepAll)
            }
            KEEP_LAST => {
                self.take();
                let what = "a count of versions";
                let count: u64 = self.peek().parse().map_err(|_| self.expected(what))?;
                self.take();
                let count = NonZeroU64::new(count).ok_or(RetentionError::ZeroLimit)?;
                Ok(RetentionPolicy::KeepLast(count))
            }
            KEEP_FOR => {
                self.take();
                let what = "an age such as 90s, 12h or 7d";
                let age_us = age_us(self.peek()).ok_or_else(|| self.expected(what))?;
                self.take();
                let age_us = NonZeroU128::new(age_us).ok_or(RetentionError::ZeroLimit)?;
                Ok(RetentionPolicy::KeepFor(age_us))
            }
            "union" | "composite" => Err(RetentionError::NestingTooDeep.into()),
            _ => Err(self.expected("keep-all, keep-last or keep-for")),
        }
    }
}

/// The microseconds of an age such as `7d`; none if it is none.
#[must_use]
pub fn age_us(word: &str) -> Option<u128> {
    let digits = word.len()
        - word
            .trim_start_matches(|digit: char| digit.is_ascii_digit())
            .len();
    let (count, unit) = word.split_at_checked(digits)?;
    let (_, unit_us) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    count.parse::<u128>().ok()?.checked_mul(unit_us)
}
