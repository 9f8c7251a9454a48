//! How far the import of a file has come: one key in the run the file is imported into.
//!
//! Each batch of an import puts its entries and the progress in one commit, on the condition that
//! the progress before is still the one the batch before has left. So what is imported is always a
//! beginning of the file, whatever dies when, and an import that is begun again goes on behind it.
//! The digest of the lines before tells whether the file still begins with them. The last commit of
//! an import removes the key.

use std::path::{Path, PathBuf};

use in_mem_client::model::{SubCode, Value};
use in_mem_client::{Receipt, Run};

use crate::cli::failure::Failure;

/// What the key of the progress begins with; the digest of the path of the file follows.
const KEY_PREFIX: &str = "inmem.import/";

/// The digest of lines, FNV-1a with 64 bits, each line closed by a line feed: it is to notice a
/// file that was changed, by nobody who means harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    /// Of no lines.
    pub(crate) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// With one more line, whether or not its line feed came with it.
    pub(crate) fn with_line(self, line: &[u8]) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let bytes = line.iter().chain(b"\n");
        Self(bytes.fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(Self::PRIME)
        }))
    }

    fn to_text(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The progress of one file in one run.
pub(crate) struct Progress {
    path: PathBuf,
    key: String,
    /// What is under the key.
    current: Option<Value>,
    /// The commit that put it there.
    version: u64,
}

/// Lines that are imported already.
pub(crate) struct Imported {
    /// How many.
    pub(crate) line_count: u64,
    digest: String,
}

impl Progress {
    /// The progress of a file; none of what is no regular file, which cannot be read again.
    pub(crate) fn of(run: &Run, path: &Path) -> Result<Option<Self>, Failure> {
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            return Ok(None);
        }
        let path = path
            .canonicalize()
            .map_err(|error| Failure::file(path, error))?;
        let digest = Digest::EMPTY.with_line(path.as_os_str().as_encoded_bytes());
        let key = format!("{KEY_PREFIX}{}", digest.to_text());
        let found = run.kv().get_versioned::<Value>(&key)?;
        let (current, version) = match found {
            Some(found) => (Some(found.value), found.version.number()),
            None => (None, 0),
        };
        Ok(Some(Self {
            path,
            key,
            current,
            version,
        }))
    }

    /// The lines that are imported already.
    pub(crate) fn imported(&self) -> Result<Option<Imported>, Failure> {
        let Some(current) = &self.current else {
            return Ok(None);
        };
        let field = |wanted: &str| match current {
            Value::Object(fields) => fields.iter().find(|(name, _)| name == wanted),
            _ => None,
        };
        let (Some((_, Value::Int(lines))), Some((_, Value::String(digest)))) =
            (field("lines"), field("digest"))
        else {
            return Err(self.refused("holds no progress of an import"));
        };
        Ok(Some(Imported {
            line_count: u64::try_from(*lines).unwrap_or(0),
            digest: digest.clone(),
        }))
    }

    /// Checks that the file still begins with the lines that are imported.
    pub(crate) fn check(&self, imported: &Imported, digest: Digest) -> Result<(), Failure> {
        if digest.to_text() == imported.digest {
            return Ok(());
        }
        let count = imported.line_count;
        Err(self.refused(&format!(
            "says that {count} lines of the file are imported, and they were changed since"
        )))
    }

    fn refused(&self, what: &str) -> Failure {
        let message = format!(
            "{}: the key {} {what}; put the lines back as they were, or import all of the file \
             with --from-start",
            self.path.display(),
            self.key
        );
        Failure::refused(SubCode::InvalidArgument, &message)
    }

    /// The key of the progress.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// What the next batch has to find under the key.
    pub(crate) const fn current(&self) -> Option<&Value> {
        self.current.as_ref()
    }

    /// What a batch puts there that ends with this line.
    pub(crate) fn after(&self, line_count: u64, digest: Digest) -> Value {
        let lines = Value::Int(i64::try_from(line_count).unwrap_or(i64::MAX));
        let file = self.path.to_string_lossy().into_owned();
        Value::Object(vec![
            ("file".to_owned(), Value::String(file)),
            ("lines".to_owned(), lines),
            ("digest".to_owned(), Value::String(digest.to_text())),
        ])
    }

    /// A batch is on its way that puts this there.
    pub(crate) fn queued(&mut self, next: Value) {
        self.current = Some(next);
    }

    /// A batch is in.
    pub(crate) const fn acked(&mut self, receipt: Receipt) {
        self.version = receipt.commit_version;
    }

    /// Removes the key, after the last batch.
    pub(crate) fn remove(&self, run: &Run) -> Result<(), Failure> {
        if self.current.is_some() {
            let batch = run.batch().read(&self.key, self.version);
            batch.delete(&self.key).commit()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn the_digest_is_that_of_the_lines_one_behind_the_other() {
        let of = |lines: &[&[u8]]| {
            lines
                .iter()
                .fold(Digest::EMPTY, |digest, line| digest.with_line(line))
        };
        // FNV-1a of "a", as published.
        assert_eq!(
            Digest((Digest::EMPTY.0 ^ u64::from(b'a')).wrapping_mul(Digest::PRIME)).to_text(),
            "af63dc4c8601ec8c"
        );
        assert_eq!(of(&[b"a\n", b"b"]), of(&[b"a\n", b"b\n"]));
        assert_ne!(of(&[b"a\n", b"b\n"]), of(&[b"ab\n"]));
        assert_ne!(of(&[b"a\n", b"\n"]), of(&[b"a\n"]));
    }
}
