//! The Rust client library of in-mem.
//!
//! A [`Client`] is one session with the daemon over its Unix socket, blocking, and made again
//! when it is lost:
//!
//! ```no_run
//! use in_mem_client::Client;
//!
//! # fn main() -> Result<(), in_mem_client::ClientError> {
//! let client = Client::builder().connect()?;
//! let run = client.run("agent-7")?;
//! run.kv().put("step", &1)?;
//! let step: Option<i64> = run.kv().get("step")?;
//! # Ok(())
//! # }
//! ```
//!
//! Promises that a call maps to one request, that a write has at most one effect, and that an error
//! says whether a write may have happened. It knows the data model and the wire, never the
//! engine.

mod address;
mod answer;
mod attempt;
mod batch;
mod cancel;
pub mod check;
mod client;
mod connection;
mod durable;
mod encoding;
mod error;
mod exports;
mod identity;
mod incoming;
mod kv;
mod lane;
mod link;
mod observe;
mod pipeline;
mod repeat;
mod resend;
mod results;
mod retention;
mod retry;
mod runs;
mod scope;
mod server;
mod snapshots;
#[cfg(test)]
mod tests;
mod transaction;
mod value;

pub use in_mem_model as model;

pub use address::{SOCKET_VARIABLE, default_socket};
pub use batch::{Batch, BatchCommitted, Effect};
pub use cancel::Canceller;
pub use client::{Client, ClientBuilder};
pub use connection::ProtocolError;
pub use durable::{DurableWatch, Fence};
pub use encoding::Encoding;
pub use error::ClientError;
pub use exports::ExportInfo;
pub use identity::Identity;
pub use kv::{Kv, ListOptions};
pub use lane::{Lane, LaneAnswer};
pub use observe::{
    HealthReport, RunSummary, ServerDescription, ServerFault, ServerSetting, ServerState,
};
pub use pipeline::{Answers, PIPELINE_LEN_BYTES_MAX, PIPELINE_REQUEST_COUNT_MAX, Pipeline, Ticket};
pub use results::{
    Conditional, Cursor, Deleted, Entry, Expected, History, Incremented, Mismatch, Page, Receipt,
    Replaced, Versioned,
};
pub use retention::{Retention, RetentionStats};
pub use retry::{ReconnectPolicy, RetryPolicy};
pub use runs::{Begun, Run, RunListOptions, RunOptions, Runs};
pub use server::{Measure, ServerCapabilities, ServerHealth, ServerInfo};
pub use snapshots::{CheckpointInfo, CompactInfo, CompactMode, SnapshotInfo};
pub use transaction::{Committed, Transaction, TransactionInfo, TransactionOptions};
