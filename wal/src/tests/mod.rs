//! Claims about the whole log, on the simulated disk.

mod group_commit;
mod mutants;
mod poison;
mod recovery;
mod rotation;
mod simulation;
mod threads;
