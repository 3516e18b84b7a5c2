//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// Long enough for anything that happens at all, on a busy machine or an emulated one; a test that passes never waits for
/// it.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Polls `condition` until it holds.
///
/// # Panics
/// After `deadline`, saying `what` did not happen.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Polls `probe` until it gives a value, and returns it.
///
/// # Panics
/// After `deadline`, saying `what` did not happen.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        // The clock is read first: a probe that was slow gets its answer counted.
        let late = Instant::now() >= end;
        if let Some(value) = probe() {
            return value;
        }
        assert!(!late, "not within {deadline:?}: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_comes_late_is_returned() {
        let mut polls = 0;
        let value = wait_for("the third poll", DEADLINE, || {
            polls += 1;
            (polls == 3).then_some("here")
        });
        assert_eq!((value, polls), ("here", 3));
    }

    #[test]
    #[should_panic(expected = "not within 1ms: the impossible")]
    fn the_deadline_names_what_did_not_happen() {
        wait_until("the impossible", Duration::from_millis(1), || false);
    }
}
