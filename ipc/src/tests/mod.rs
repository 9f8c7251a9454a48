//! Tests of the wire: pinned bytes, round trips, truncation, corruption, limits, alignment.

mod convert;
mod corruption;
mod exports;
mod frames;
mod golden;
mod greetings;
mod message_pack;
mod once;
mod retention;
mod roundtrip;
mod samples;
mod snapshots;
