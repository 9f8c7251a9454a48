//! The storage under power loss at every moment, under every fault, and under planted mistakes,
//! on the simulated disk: no thread, clock or chance but the seed's.
//!
//! Two layers: the log alone, whose images are cheap, and the engine with its log, held against
//! the history checker, and what it tells beside: durable versions, and the answers to what is sent
//! again. A failure prints the line that replays it.

#![allow(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test, as it should"
)]

#[path = "simulation/engine_durable.rs"]
mod engine_durable;
#[path = "simulation/engine_images.rs"]
mod engine_images;
#[path = "simulation/engine_log_mutants.rs"]
mod engine_log_mutants;
#[path = "simulation/engine_mutants.rs"]
mod engine_mutants;
#[path = "simulation/engine_once.rs"]
mod engine_once;
#[path = "simulation/log_faults.rs"]
mod log_faults;
#[path = "simulation/log_images.rs"]
mod log_images;
#[path = "simulation/log_mutants.rs"]
mod log_mutants;
#[path = "simulation/log_scenario.rs"]
mod log_scenario;

#[path = "support/engine.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "each test target uses another part of the harness"
)]
mod engine;
#[path = "support/images.rs"]
mod images;
#[path = "support/scale.rs"]
mod scale;
