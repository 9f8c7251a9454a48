//! The two variable-length fields of every message: raw bytes and text.
//!
//! Both borrow when a message is built from memory the caller already holds, and own after a
//! message was copied out of its archive, so one definition of a message serves the sender, the
//! reader and the tests. Archived they are a plain byte vector and a plain string (checked to be
//! UTF-8); nothing else crosses the wire.

use std::borrow::Cow;
use std::ops::Deref;

use rkyv::rancor::{Fallible, Source};
use rkyv::ser::{Allocator, Writer};
use rkyv::string::{ArchivedString, StringResolver};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Deserialize, Place, Serialize, SerializeUnsized};

/// Opaque bytes: a user key, an encoded value, a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes<'a>(pub Cow<'a, [u8]>);

/// UTF-8 text: a run name, a tag, a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Bytes<'_> {
    /// The same bytes, owned.
    #[must_use]
    pub fn into_owned(self) -> Bytes<'static> {
        Bytes(Cow::Owned(self.0.into_owned()))
    }
}

impl Text<'_> {
    /// The same text, owned.
    #[must_use]
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Bytes<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Bytes<'_> {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl<'a> From<&'a str> for Text<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    #[inline]
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Text<'_> {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Archive for Bytes<'_> {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    #[inline]
    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(self.0.len(), resolver, out);
    }
}

impl<S: Fallible + Allocator + Writer + ?Sized> Serialize<S> for Bytes<'_> {
    #[inline]
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::<u8>::serialize_from_slice(&self.0, serializer)
    }
}

impl<'a, D: Fallible + ?Sized> Deserialize<Bytes<'a>, D> for ArchivedVec<u8> {
    fn deserialize(&self, _: &mut D) -> Result<Bytes<'a>, D::Error> {
        Ok(Bytes(Cow::Owned(self.as_slice().to_vec())))
    }
}

impl Archive for Text<'_> {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    #[inline]
    fn resolve(&self, resolver: StringResolver, out: Place<Self::Archived>) {
        ArchivedString::resolve_from_str(&self.0, resolver, out);
    }
}

impl<S> Serialize<S> for Text<'_>
where
    S: Fallible + Writer + ?Sized,
    S::Error: Source,
    str: SerializeUnsized<S>,
{
    #[inline]
    fn serialize(&self, serializer: &mut S) -> Result<StringResolver, S::Error> {
        ArchivedString::serialize_from_str(&self.0, serializer)
    }
}

impl<'a, D: Fallible + ?Sized> Deserialize<Text<'a>, D> for ArchivedString {
    fn deserialize(&self, _: &mut D) -> Result<Text<'a>, D::Error> {
        Ok(Text(Cow::Owned(self.as_str().to_owned())))
    }
}
