//! Tests of the wire: pinned bytes, round trips, truncation, corruption, limits, alignment.

mod corruption;
mod frames;
mod golden;
mod greetings;
mod roundtrip;
mod samples;
