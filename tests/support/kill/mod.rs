//! What a test needs that kills a daemon under the load of client processes, again and again, and
//! proves after each time what was recovered.

pub mod client_process;
pub mod crew;
pub mod daemon;
pub mod dump;
pub mod power;
pub mod ringless;
pub mod victim;
pub mod watch;
