//! What the benches and the red flags share: the machine line, rounds and distributions, the raw
//! device, busy neighbours, a filled database and the operations that are measured on it.
#![allow(dead_code, reason = "each target uses its part")]

pub(crate) mod device;
pub(crate) mod fixture;
pub(crate) mod machine;
pub(crate) mod neighbours;
pub(crate) mod operations;
pub(crate) mod rounds;
pub(crate) mod threads;
