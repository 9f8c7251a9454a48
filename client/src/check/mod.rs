//! The history checker: proves from the workers' own records that nothing acknowledged was lost,
//! nothing invented, nothing half done and nothing answered out of order.
//!
//! A *history* is what clients noted themselves: a line before each request, a line after each
//! answer. An *epoch* is the part of it between two ends of the server; it begins with the state
//! recovered before and ends with the state recovered after. [`Checker::check`] takes the epochs
//! in order and holds each against five rules:
//!
//! 1. no commit version is used twice, in any epoch; what was answered before a request was sent
//!    has a lower version;
//! 2. replaying each run in commit order on an ordered map gives every recorded answer;
//! 3. the recovered state is that map at one point of the order, with every Strict commit that was
//!    acknowledged below it, and no entry that nobody wrote;
//! 4. a Buffered commit is missing only if its declared loss window allows it; an InMemory commit
//!    is always missing after a restart;
//! 5. recovering again gives the same [`Dump::digest`].
//!
//! A request whose answer never came may have happened or not: the checker looks for the version
//! it left in later answers and in the recovered state, and lets it explain what nothing else
//! does. Cost: one sort, then linear. Knows nothing of sockets, files or processes.

mod chain;
mod epoch;
mod history;
mod linearizable;
mod order;
mod reads;
mod record;
mod recovered;
mod replay;
mod sight;
mod tally;
mod unknown;
mod violation;

#[cfg(test)]
mod tests;

pub use epoch::{Checker, End, Summary, Survival};
pub use history::{
    Call, Datum, Dump, Entry, Found, History, Mode, Operation, Outcome, Run, Sight, Write,
};
pub use linearizable::{
    CLIENT_COUNT_MAX, LinearizableError, OPERATION_COUNT_MAX, check_linearizable,
};
pub use record::{Record, RecordError};
pub use violation::{Name, Report, Rule, Shown, Violation};
