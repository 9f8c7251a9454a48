//! Parameters of the operations on the retention policy of a run, which is that of the request
//! header.

use rkyv::{Archive, Deserialize, Serialize};

use crate::bytes::Text;

/// A policy: the parameters of `run.set_retention` and `run.retention_preview`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Policy<'a> {
    /// The text form of `model::RetentionPolicy`, for example `keep-last 10`.
    pub policy: Text<'a>,
}
