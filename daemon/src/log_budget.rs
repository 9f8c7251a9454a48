//! How many lines of one kind the log takes: what clients provoke must not fill it.

/// A window of time that has so many lines; the first line after it tells how many were left out.
#[derive(Debug)]
pub(crate) struct LineBudget {
    window_us: u64,
    line_count_max: u32,
    begun_us: u64,
    line_count: u32,
    unsaid_count: u64,
}

impl LineBudget {
    /// At most `line_count_max` lines in `window_us` microseconds.
    pub(crate) const fn new(line_count_max: u32, window_us: u64) -> Self {
        Self {
            window_us,
            line_count_max,
            begun_us: 0,
            line_count: 0,
            unsaid_count: 0,
        }
    }

    /// How many lines were left out since the last one; none when this one is left out too.
    /// `now_us` is of the monotonic clock.
    pub(crate) fn may_say(&mut self, now_us: u64) -> Option<u64> {
        if self.window_us <= now_us.saturating_sub(self.begun_us) {
            self.begun_us = now_us;
            self.line_count = 0;
        }
        if self.line_count_max <= self.line_count {
            self.unsaid_count += 1;
            return None;
        }
        self.line_count += 1;
        Some(std::mem::take(&mut self.unsaid_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_so_many_lines_and_the_next_line_says_how_many_were_left_out() {
        let mut lines = LineBudget::new(10, 1_000_000);
        let start_us = 5_000_000;
        let said = (0..25).filter_map(|at| lines.may_say(start_us + at));
        assert_eq!(said.collect::<Vec<_>>(), [0; 10]);
        assert_eq!(lines.may_say(start_us + 1_000_000), Some(15));
        assert_eq!(lines.may_say(start_us + 1_000_000), Some(0));
    }
}
