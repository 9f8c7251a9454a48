//! Ending with the process that started this one.
//!
//! The demo starts its daemon and workers with `--die-with-parent PID` as their first words: the
//! kernel kills them when it ends, however it ends.

use std::ffi::OsString;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::cli::failure::Failure;

/// The option, which has to be the first word.
pub(crate) const OPTION: &str = "--die-with-parent";

/// Takes the option out of the words of a command line and does what it says.
pub(crate) fn take_option(words: &mut Vec<OsString>) -> Result<(), Failure> {
    if words.get(1).is_none_or(|word| word != OPTION) {
        return Ok(());
    }
    let parent = words
        .get(2)
        .and_then(|word| word.to_str()?.parse::<i32>().ok());
    let parent = parent
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::usage(format!("{OPTION} needs the id of the parent process")))?;
    words.drain(1..3);
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| Failure::file("the signal at the end of the parent", errno.into()))?;
    // The parent may have ended before the line above.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(Failure::Interrupted)
    }
}
