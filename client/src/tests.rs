//! The client against a server played in the same process.

mod cancel;
mod fake;
mod greeting;
mod lanes;
mod loss;
mod once;
mod pipelines;
mod repeats;
mod transactions;
