//! Claims about the whole log: on every disk, and about faults and crashes on the simulated one.

mod codec;
mod every_disk;
mod fault_points;
mod foreign;
mod full_disk;
mod gathering;
mod golden;
mod group_commit;
mod log_panic;
mod mutants;
mod poison;
mod recovery;
mod reopen;
mod rotation;
mod scheduled;
mod simulation;
mod threads;
