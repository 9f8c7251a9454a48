//! Claims about the whole log, on the simulated disk.

mod codec;
mod fault_points;
mod foreign;
mod full_disk;
mod golden;
mod group_commit;
mod mutants;
mod poison;
mod recovery;
mod rotation;
mod simulation;
mod threads;
