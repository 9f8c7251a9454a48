//! What every facade acts in: a link, and the header its requests carry.
//!
//! A facade holds a scope and adds operations; the run, the durability, the transaction and the
//! connection it is bound to are decided here, once.

use std::sync::{Arc, Mutex};

use in_mem_ipc::request::{Operation, Request, RequestHeader};
use in_mem_ipc::response::ArchivedResponse;
use in_mem_model::{Durability, RunId};

use crate::error::ClientError;
use crate::link::{Binding, Link, lock};
use crate::repeat::Repeat;

/// A link and a request header.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) link: Arc<Mutex<Link>>,
    pub(crate) header: RequestHeader,
    pub(crate) binding: Binding,
    /// The write that is repeated, if the header names its sequence.
    pub(crate) repeat: Option<Arc<Repeat>>,
}

impl Scope {
    /// The default run and durability of the session, over any connection.
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link: Arc::new(Mutex::new(link)),
            header: RequestHeader::default(),
            binding: Binding::Free,
            repeat: None,
        }
    }

    /// The same in another run.
    pub(crate) fn with_run(&self, run: RunId) -> Self {
        let header = RequestHeader {
            run: run.into(),
            ..self.header
        };
        Self {
            header,
            ..self.clone()
        }
    }

    /// The same with another durability.
    pub(crate) fn with_durability(&self, durability: Durability) -> Self {
        let header = RequestHeader {
            durability: durability.into(),
            ..self.header
        };
        Self {
            header,
            ..self.clone()
        }
    }

    /// The same for the write that had this sequence.
    pub(crate) fn with_sequence(&self, client_sequence: u64) -> Self {
        let header = RequestHeader {
            client_sequence,
            ..self.header
        };
        Self {
            header,
            repeat: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// The same for other writes than the repeated one.
    pub(crate) fn without_sequence(&self) -> Self {
        let header = RequestHeader {
            client_sequence: 0,
            ..self.header
        };
        Self {
            header,
            repeat: None,
            ..self.clone()
        }
    }

    /// Asks, and reads the answer in place.
    pub(crate) fn call<T>(
        &self,
        operation: Operation<'_>,
        read: impl Fn(&ArchivedResponse<'static>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let request = Request {
            header: self.header,
            operation,
        };
        lock(&self.link).call(&request, self.binding, self.repeat.as_deref(), read)
    }
}
