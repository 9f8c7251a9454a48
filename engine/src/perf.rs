//! Where the time of a commit or read goes, per thread; compiled in with `perf-trace`, and into the
//! unit tests of this crate, one of which is about it.
//!
//! Otherwise the macros are their argument and cost nothing.

/// What the calling thread has spent since it last asked, nanoseconds, and on how many keys.
#[cfg(any(test, feature = "perf-trace"))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerfTrace {
    /// Acquiring read views.
    pub read_view_acquire_ns: u64,
    /// Validating read sets and deciding steps.
    pub read_set_validate_ns: u64,
    /// Installing versions.
    pub write_set_apply_ns: u64,
    /// Assigning versions and handing records to the log.
    pub wal_append_ns: u64,
    /// Waiting for the promise of the mode.
    pub fsync_ns: u64,
    /// Whole commits that waited on this thread.
    pub commit_total_ns: u64,
    /// Keys read, count.
    pub keys_read: u64,
    /// Keys written, count.
    pub keys_written: u64,
}

#[cfg(any(test, feature = "perf-trace"))]
thread_local! {
    static TRACE: std::cell::Cell<PerfTrace> = const { std::cell::Cell::new(PerfTrace::NOTHING) };
}

#[cfg(any(test, feature = "perf-trace"))]
impl PerfTrace {
    const NOTHING: Self = Self {
        read_view_acquire_ns: 0,
        read_set_validate_ns: 0,
        write_set_apply_ns: 0,
        wal_append_ns: 0,
        fsync_ns: 0,
        commit_total_ns: 0,
        keys_read: 0,
        keys_written: 0,
    };

    /// Takes what the calling thread has gathered and begins anew.
    #[must_use]
    pub fn take() -> Self {
        TRACE.replace(Self::NOTHING)
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "view {} ns, validate {} ns, apply {} ns, append {} ns, promise {} ns, commit {} ns, \
             {} keys read, {} written",
            self.read_view_acquire_ns,
            self.read_set_validate_ns,
            self.write_set_apply_ns,
            self.wal_append_ns,
            self.fsync_ns,
            self.commit_total_ns,
            self.keys_read,
            self.keys_written
        )
    }

    pub(crate) fn update(change: impl FnOnce(&mut Self)) {
        let mut trace = TRACE.get();
        change(&mut trace);
        TRACE.set(trace);
    }
}

/// Evaluates an expression and adds the time it took to a field of the thread's trace.
macro_rules! perf_time {
    ($field:ident, $body:expr) => {{
        #[cfg(any(test, feature = "perf-trace"))]
        let started_ns = in_mem_wal::clock::SystemClock::monotonic_ns();
        let value = $body;
        #[cfg(any(test, feature = "perf-trace"))]
        $crate::perf::PerfTrace::update(|trace| {
            let now_ns = in_mem_wal::clock::SystemClock::monotonic_ns();
            trace.$field += now_ns.saturating_sub(started_ns);
        });
        value
    }};
}

/// Adds to a count of the thread's trace.
macro_rules! perf_count {
    ($field:ident, $count:expr) => {
        #[cfg(any(test, feature = "perf-trace"))]
        $crate::perf::PerfTrace::update(|trace| trace.$field += $count);
    };
}

pub(crate) use {perf_count, perf_time};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_gathers_what_its_thread_did_and_begins_anew_when_taken() {
        let database = crate::Database::builder().in_memory().open().unwrap();
        let run = database.default_run();
        let value = crate::model::EncodedValue::from_int(1);
        let _ = PerfTrace::take();
        run.kv().put("k", &value).unwrap();
        run.kv().get("k").unwrap();
        let trace = PerfTrace::take();
        assert_eq!((trace.keys_written, trace.keys_read), (1, 1));
        assert!(trace.write_set_apply_ns <= trace.commit_total_ns);
        assert!(trace.summary().contains("1 written"));
        assert_eq!(PerfTrace::take(), PerfTrace::NOTHING);
    }
}
