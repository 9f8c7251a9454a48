//! Where a handler writes its answer: straight into a frame buffer, while what it answers with is
//! still borrowed from the store.

use in_mem_ipc::codec::EncodeError;
use in_mem_ipc::frame::FRAME_LEN_BYTES_MAX;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::response::Response;
use in_mem_ipc::response::system::ErrorBody;
use in_mem_ipc::{Encoding, FrameBuffer};
use in_mem_model::{Error, SubCode};

/// The one answer of one request.
pub(crate) struct Out<'a> {
    buffer: &'a mut FrameBuffer,
    encoding: Encoding,
    request_id: u64,
    kind: OperationKind,
    /// The longest answer there is room for, errors apart, bytes.
    len_bytes_max: u64,
}

impl<'a> Out<'a> {
    /// An answer to be appended to `buffer`, in the encoding of the session.
    pub(crate) fn new(
        buffer: &'a mut FrameBuffer,
        encoding: Encoding,
        request_id: u64,
        kind: OperationKind,
    ) -> Self {
        Self {
            buffer,
            encoding,
            request_id,
            kind,
            len_bytes_max: u64::from(FRAME_LEN_BYTES_MAX),
        }
    }

    /// The same, for which so much room was reserved.
    pub(crate) fn within(mut self, len_bytes_max: u64) -> Self {
        self.len_bytes_max = len_bytes_max.min(self.len_bytes_max);
        self
    }

    /// Where the answer begins, for [`Out::rewind`].
    pub(crate) fn mark(&self) -> usize {
        self.buffer.len()
    }

    /// Takes back what was written since a mark.
    pub(crate) fn rewind(&mut self, mark: usize) {
        self.buffer.resize(mark, 0);
    }

    /// Answers. What does not fit a frame is refused, naming the operation that answers in parts.
    pub(crate) fn reply(&mut self, response: &Response<'_>) {
        let encoding = self.encoding;
        let start = self.mark();
        match encoding.encode_response(response, self.request_id, self.buffer) {
            Ok(()) if self.len_bytes_max < (self.mark() - start) as u64 => {
                self.rewind(start);
                self.fail(too_large_for_user(self.kind, self.len_bytes_max));
            }
            Ok(()) => {}
            Err(EncodeError::TooLarge { max }) => self.fail(too_large(self.kind, max)),
        }
    }

    /// Refuses what is known not to fit a frame.
    pub(crate) fn refuse_as_too_large(&mut self) {
        self.fail(too_large(self.kind, FRAME_LEN_BYTES_MAX));
    }

    /// Answers with an error.
    pub(crate) fn fail(&mut self, error: Error) {
        // An error is far smaller than a frame, so this cannot fail; if it did, the peer would
        // miss one answer rather than get half of one.
        let body = ErrorBody::from(&error);
        let response = Response::Error(body);
        let encoding = self.encoding;
        let _ = encoding.encode_response(&response, self.request_id, self.buffer);
    }
}

/// The refusal of an answer larger than a frame.
fn too_large(kind: OperationKind, max: u32) -> Error {
    let (paged, how) = paged_form(kind);
    let message = format!("the answer exceeds the largest frame of {max} bytes: {how} {paged}");
    Error::new(SubCode::BudgetExceeded, message)
        .with_detail("paged", paged)
        .with_detail("frame_len_bytes_max", u64::from(max))
}

/// The refusal of an answer larger than the replies of one user may be together.
fn too_large_for_user(kind: OperationKind, max: u64) -> Error {
    let (paged, how) = paged_form(kind);
    let message = format!(
        "the answer exceeds the {max} bytes that the replies of a user may take \
         (reply_len_bytes_per_user_max): {how} {paged}"
    );
    Error::new(SubCode::BudgetExceeded, message)
        .with_detail("paged", paged)
        .with_detail("limit", "reply_len_bytes_per_user_max")
        .with_detail("reply_len_bytes_max", max)
}

/// The operation that answers in parts, and how to ask it.
fn paged_form(kind: OperationKind) -> (&'static str, &'static str) {
    match kind {
        OperationKind::KvList | OperationKind::KvScan => (kind.name(), "ask with a smaller limit"),
        OperationKind::KvHistory => (kind.name(), "ask with a smaller limit and `before`"),
        OperationKind::KvGetMany => ("kv.get", "ask for fewer keys at once, or use"),
        OperationKind::RunList | OperationKind::RunOrphaned => ("run.list", "use pages of"),
        _ => ("kv.scan", "use pages of"),
    }
}
