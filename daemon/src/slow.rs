//! The log of slow requests: one line for each, with the time of every step that is known.
//!
//! Off unless a threshold is configured; then the reactor and the workers read the clock for each
//! request. At most [`LINE_COUNT_MAX`] lines a second are written, and the next line says how many
//! were left out. A line names operation, run and sizes, never a key or a value.

use std::sync::Arc;

use in_mem_ipc::operation::OperationKind;
use in_mem_model::RunId;

use crate::log_budget::LineBudget;
use crate::metrics::Metrics;

/// Lines in one second.
const LINE_COUNT_MAX: u32 = 10;

/// The second.
const WINDOW_US: u64 = 1_000_000;

/// When each step of a request was taken, microseconds of the monotonic clock; 0 for one that was
/// not, or is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    /// Its turn began.
    pub(crate) received_us: u64,
    /// It began to wait for room in the log or for a worker.
    pub(crate) queued_us: u64,
    /// A handler took it.
    pub(crate) started_us: u64,
    /// The handler was done: answered, or handed to the log.
    pub(crate) decided_us: u64,
    /// The kernel had its record.
    pub(crate) written_us: u64,
    /// A sync covered its record.
    pub(crate) synced_us: u64,
}

impl Steps {
    /// A request whose turn began now.
    pub(crate) fn received(now_us: u64) -> Self {
        Self {
            received_us: now_us,
            ..Self::default()
        }
    }
}

/// What a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    /// What was asked.
    pub(crate) operation: OperationKind,
    /// The run it named, or that of its session.
    pub(crate) run: RunId,
    /// The id its client gave it.
    pub(crate) request_id: u64,
    /// Size of the request, bytes.
    pub(crate) frame_len_bytes: u64,
}

/// The log; owned by the reactor.
#[derive(Debug)]
pub(crate) struct SlowLog {
    threshold_us: u64,
    metrics: Arc<Metrics>,
    lines: LineBudget,
}

impl SlowLog {
    /// A log of requests that take longer than `threshold_us`; 0 is off.
    pub(crate) fn new(threshold_us: u64, metrics: &Arc<Metrics>) -> Self {
        Self {
            threshold_us,
            metrics: Arc::clone(metrics),
            lines: LineBudget::new(LINE_COUNT_MAX, WINDOW_US),
        }
    }

    /// Requests count as slow from here on; 0 is off.
    pub(crate) fn set_threshold(&mut self, threshold_us: u64) {
        self.threshold_us = threshold_us;
    }

    /// Whether anybody wants to know: without it, no clock is read for steps.
    pub(crate) fn is_on(&self) -> bool {
        self.threshold_us != 0
    }

    /// A request was answered with so many bytes.
    pub(crate) fn answered(
        &mut self,
        subject: &Subject,
        steps: &Steps,
        answered_us: u64,
        answer_len_bytes: usize,
    ) {
        let total_us = answered_us.saturating_sub(steps.received_us);
        if !self.is_on() || total_us <= self.threshold_us {
            return;
        }
        let unsaid = self.lines.may_say(answered_us);
        self.metrics.slow_request(unsaid.is_some());
        let Some(suppressed) = unsaid else { return };
        let since = |step_us: u64| match step_us {
            0 => None,
            // What is noted of a batch may be from before this request.
            at_us => at_us.checked_sub(steps.received_us),
        };
        tracing::warn!(
            target: "ipc",
            operation = subject.operation.name(),
            run = %subject.run,
            request_id = subject.request_id,
            total_us,
            queued_us = since(steps.queued_us),
            started_us = since(steps.started_us),
            decided_us = since(steps.decided_us),
            written_us = since(steps.written_us),
            synced_us = since(steps.synced_us),
            answered_us = total_us,
            request_len_bytes = subject.frame_len_bytes,
            answer_len_bytes,
            suppressed,
            "slow request"
        );
    }
}
