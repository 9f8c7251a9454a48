//! Exports: clones of the database that the server makes in a directory of its own.
//!
//! A client names no path, only what the clone is to be called inside the directory that the
//! configuration of the server says (`export_dir`). Reads and writes of all clients go on.
//!
//! ```no_run
//! use in_mem_client::Client;
//!
//! # fn main() -> Result<(), in_mem_client::ClientError> {
//! let client = Client::builder().silence_max(None).connect()?;
//! let exported = client.export("before-upgrade.inmem")?;
//! println!("{} holds {}", exported.path, exported.digest);
//! # Ok(())
//! # }
//! ```

use in_mem_ipc::request::Operation;
use in_mem_ipc::request::db::Export;
use in_mem_ipc::response::ArchivedResponse;

use crate::answer::{self, Answer};
use crate::client::Client;
use crate::error::{self, ClientError};

/// A clone that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Where it lies on the machine of the server.
    pub path: String,
    /// The watermark of the snapshot inside; 0 when there is none, and the log is all of it.
    pub checkpoint_watermark: u64,
    /// Every logged commit at or below it is inside, none above it.
    pub watermark_txn: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// SHA-256 of the logged state inside, in lower-case hexadecimal: what `inmem digest` says of
    /// the clone.
    pub digest: String,
}

impl Client {
    /// Has the server make a clone of its database under a plain name inside its `export_dir`. Inside
    /// is what logged commits have made, those acknowledged before the call included; volatile
    /// versions are not. When this returns, the clone was read back and is durable: a directory that
    /// a daemon can be started on, of mode 0700 with files of mode 0600. It has the identity of the
    /// original.
    ///
    /// It takes as long as the files take to be copied and read back; a client that bears no such
    /// silence ([`crate::ClientBuilder::silence_max`]) is told `timeout`, and the server goes on.
    ///
    /// # Errors
    ///
    /// `unavailable` when the server exports to no directory, or the directory is missing;
    /// `invalid_argument` for what is no plain name (empty, longer than 200 bytes, with a separator,
    /// a leading dot or a control character); `already_exists`; `already_in_progress` while a
    /// checkpoint, a compaction or an export is under way; `resource_exhausted` when the disk is
    /// full; `permission_denied`; else as [`Self::checkpoint`]. There is then nothing under the name.
    pub fn export(&self, name: &str) -> Result<ExportInfo, ClientError> {
        let operation = Operation::DbExport(Export { name: name.into() });
        self.scope().call(operation, exported)
    }
}

fn exported(answer: &Answer) -> Result<ExportInfo, ClientError> {
    let ArchivedResponse::Exported(info) = answer else {
        return wrong(answer);
    };
    Ok(ExportInfo {
        path: info.path.as_str().to_owned(),
        checkpoint_watermark: info.checkpoint_watermark.to_native(),
        watermark_txn: info.watermark_txn.to_native(),
        size_bytes: info.size_bytes.to_native(),
        digest: info.digest.as_str().to_owned(),
    })
}

fn wrong<T>(answer: &Answer) -> Result<T, ClientError> {
    answer::done(answer).and_then(|()| Err(error::wrong_shape()))
}
