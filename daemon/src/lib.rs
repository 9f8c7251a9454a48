//! The in-mem daemon.

pub mod reactor;
