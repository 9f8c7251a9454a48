//! The client against a server played in the same process.

mod fake;
mod greeting;
mod lanes;
mod loss;
mod pipelines;
mod transactions;
