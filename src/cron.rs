//! When a schedule is due. The only file that reads cron expressions.

use cronexpr::{FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};
use state::limits::{DAY_MS, NAME_LEN_MAX, TIME_MAX};

/// Times after this are not asked for: the library looks four years ahead, and panics where its calendar ends.
const AFTER_MS_MAX: u64 = TIME_MAX - 10 * 366 * DAY_MS;

/// The first time after `after_ms` at which an expression is due, both in milliseconds since the Unix epoch.
///
/// An expression has the five fields of cron (minute, hour, day of month, month, day of week) and, if it
/// does not mean UTC, the name of a time zone: `0 6 * * MON-FRI Europe/Berlin`. An hour that a clock skips in
/// spring is skipped.
///
/// # Errors
/// What is wrong with it, for the person who wrote it; also that it is never due (`0 0 30 2 *`).
pub(crate) fn next(expression: &str, after_ms: u64) -> Result<u64, String> {
    let wrong = |why: &dyn std::fmt::Display| {
        let why = why.to_string();
        let line = why.lines().last().unwrap_or_default().trim_start_matches([' ', '^']);
        let expression: String = expression.chars().take(80).collect();
        format!("{expression:?} is no schedule like \"0 6 * * MON-FRI Europe/Berlin\": {line}")
    };
    if expression.len() > NAME_LEN_MAX || after_ms > AFTER_MS_MAX {
        return Err(wrong(&"it is too long, or the time is out of range"));
    }
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    let crontab = parse_crontab_with(expression, options).map_err(|error| wrong(&error))?;
    let after = i64::try_from(after_ms).map_err(|error| wrong(&error))?;
    let after = MakeTimestamp::from_millisecond(after).map_err(|error| wrong(&error))?;
    let due = crontab.find_next(after).map_err(|error| wrong(&error))?;
    u64::try_from(due.timestamp().as_millisecond()).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::next;

    fn at(time: &str) -> u64 {
        channels::time::rfc3339(time).unwrap()
    }

    // A schedule that is read amiss fires at the wrong hour, or at the same time for ever.
    #[test]
    fn an_expression_is_due_when_it_says() {
        for (expression, after, due) in [
            ("*/15 * * * *", "2026-03-01T10:07:31.5Z", "2026-03-01T10:15:00Z"),
            ("*/15 * * * *", "2026-03-01T10:15:00Z", "2026-03-01T10:30:00Z"),
            ("0 6 * * MON-FRI", "2026-02-27T06:00:00Z", "2026-03-02T06:00:00Z"),
            ("0 6 * * * Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T05:00:00Z"),
            ("0 6 * * * Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T04:00:00Z"),
            ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ] {
            assert_eq!(next(expression, at(after)), Ok(at(due)), "{expression} after {after}");
        }
    }

    // An hour that is skipped in spring, or comes twice in autumn, must not stop a schedule or turn it back.
    #[test]
    fn a_change_of_the_clocks_goes_forward() {
        for day in ["2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"] {
            let mut last = at(day);
            for _ in 0..100 {
                let due = next("30 * * * * Europe/Berlin", last).unwrap();
                assert!(due > last && due - last <= 2 * 3_600_000, "{due} after {last}");
                last = due;
            }
        }
    }

    // What cannot be meant must be said to whoever wrote it, and not when it is due.
    #[test]
    fn what_is_no_schedule_is_refused() {
        let long = "1,".repeat(10_000);
        for bad in
            ["", "* * * *", "60 * * * *", "0 6 * * * Mars/Base", "every day", &long, "0 0 30 2 *"]
        {
            let why = next(bad, 0).unwrap_err();
            assert!(why.contains("is no schedule like"), "{bad}: {why}");
        }
        for far in [super::AFTER_MS_MAX + 1, super::TIME_MAX, u64::MAX] {
            assert!(next("* * * * *", far).is_err());
        }
        assert!(next("* * * * *", super::AFTER_MS_MAX).is_ok());
    }
}
