//! Moments: the monotonic clock that everything is measured with, how it is written, and when the next tick is due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use xdpd_kernel::clock::monotonic_ns;

/// The relation of `CLOCK_MONOTONIC`, with which everything is measured, to the time of day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeOfDay {
    /// Nanoseconds from the start of the monotonic clock back to 1970-01-01 UTC.
    offset: i64,
}

impl TimeOfDay {
    /// The relation as it is now: the time of day can be set.
    pub(crate) fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
        Self { offset: unix.saturating_sub_unsigned(monotonic_ns()) }
    }

    fn unix_ns(self, monotonic: u64) -> i64 {
        self.offset.saturating_add_unsigned(monotonic)
    }
}

/// Writes moments as RFC 3339 in UTC with microseconds.
///
/// The part up to the second is kept: at a tick hundreds of moments share it.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    second: Option<i64>,
    /// `2026-11-22T09:30:00`.
    prefix: String,
}

impl Stamp {
    /// Appends the moment, such as `2026-11-22T09:30:00.123456Z`.
    pub(crate) fn write(&mut self, text: &mut Vec<u8>, time: TimeOfDay, monotonic: u64) {
        const SECOND: i64 = 1_000_000_000;
        let unix = time.unix_ns(monotonic);
        let (second, micros) = (unix.div_euclid(SECOND), unix.rem_euclid(SECOND) / 1000);
        if self.second != Some(second) {
            self.second = Some(second);
            self.prefix = Timestamp::from_second(second).unwrap_or_default().to_string();
            self.prefix.truncate(self.prefix.trim_end_matches('Z').len());
        }
        text.extend_from_slice(self.prefix.as_bytes());
        text.push(b'.');
        let mut digits = [b'0'; 6];
        let mut rest = micros;
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        text.extend_from_slice(&digits);
        text.push(b'Z');
    }
}

/// When ticks are due: at absolute deadlines, so that they do not drift. One that was missed is left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticker {
    /// The deadline of the last tick.
    last: u64,
    interval: u64,
}

impl Ticker {
    /// The first tick is at `start`.
    pub(crate) fn new(start: u64, interval: Duration) -> Self {
        Self { last: start, interval: nanoseconds(interval) }
    }

    /// When the next tick is due.
    pub(crate) fn next(self) -> u64 {
        self.last.saturating_add(self.interval)
    }

    /// The tick that is due at `now` happens.
    pub(crate) fn advance(&mut self, now: u64) {
        let late = now.saturating_sub(self.next());
        self.last = self.next().saturating_add(late / self.interval * self.interval);
    }

    /// From the last tick on, the interval is another.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = nanoseconds(interval);
    }
}

/// An interval in nanoseconds; never zero.
fn nanoseconds(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_microseconds_and_an_offset_of_zero() {
        let mut stamp = Stamp::default();
        let mut text = |offset, monotonic| {
            let mut bytes = Vec::new();
            stamp.write(&mut bytes, TimeOfDay { offset }, monotonic);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(text(1_795_339_800_000_000_000, 123_456_789), "2026-11-22T09:30:00.123456Z");
        assert_eq!(text(1_795_339_800_000_000_000, 7_000), "2026-11-22T09:30:00.000007Z");
        assert_eq!(text(1_795_339_800_000_000_000, 2_000_000_000), "2026-11-22T09:30:02.000000Z");
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn the_time_of_day_is_that_of_the_system() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let now = TimeOfDay::now().unix_ns(monotonic_ns());
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let slack = 1_000_000;
        let now = u128::try_from(now).unwrap();
        assert!(before <= now + slack && now <= after + slack);
    }

    #[test]
    fn ticks_do_not_drift_and_a_missed_one_is_left_out() {
        let mut ticker = Ticker::new(1000, Duration::from_nanos(100));
        assert_eq!(ticker.next(), 1100);
        ticker.advance(1130);
        assert_eq!(ticker.next(), 1200);
        ticker.advance(1200);
        assert_eq!(ticker.next(), 1300);
        ticker.advance(1555);
        assert_eq!(ticker.next(), 1600);
        ticker.advance(1600);
        assert_eq!(ticker.next(), 1700);
    }

    #[test]
    fn another_interval_counts_from_the_last_tick() {
        let mut ticker = Ticker::new(1000, Duration::from_nanos(100));
        ticker.set_interval(Duration::from_nanos(250));
        assert_eq!(ticker.next(), 1250);
    }
}
