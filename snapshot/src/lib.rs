//! The disk image of in-mem: MANIFEST, the one file that says which database a directory holds.
//!
//! It owns the bytes of MANIFEST and their crash-safe publication. It refuses to know what a
//! record or a value is, and keeps physical facts only: no policy and no user setting.

#[cfg(test)]
mod fault_points;
mod manifest;
mod publish;

pub use manifest::{FORMAT_VERSION, MANIFEST_LEN_BYTES_MAX, Manifest, ManifestError};
pub use publish::{LoadError, MANIFEST_PATH, PublishError, load, publish};
