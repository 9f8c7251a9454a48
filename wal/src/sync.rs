//! What committers and the log thread share and wait with.
//!
//! The hand-off names these through its parent module, so that tests compile the same files once more
//! over locks and atomics whose every step a scheduler chooses.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
