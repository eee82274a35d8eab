//! Times and durations, as people and agents write them.
//!
//! A moment is an RFC 3339 time (`2026-11-20T10:00:00Z`), a date (`2026-11-20`, UTC), milliseconds
//! since the Unix epoch, or how long ago (`7d`, `2h30m`). A duration is `800ms`, `2s`, `15m`, `30d`.
//! One reading of both serves the command line, the query strings of HTTP, and MCP.
//!
//! Not here: what time it is (`clock`).

use crate::api::Problem;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::time::Duration;

/// The longest duration that is taken: a hundred years.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads a moment as milliseconds since the Unix epoch; `now` is what "ago" counts from.
///
/// # Errors
/// `bad_time` (exit 2) when `text` is none of the forms, or before 1970.
pub fn read(text: &str, now: u64) -> Result<u64, Problem> {
    let text = text.trim();
    if let Ok(millis) = text.parse::<u64>() {
        return Ok(millis);
    }
    if text == "now" {
        return Ok(now);
    }
    if let Ok(ago) = humantime::parse_duration(text.trim_end_matches(" ago")) {
        return Ok(now.saturating_sub(millis_of(ago)));
    }
    let at = text.parse::<Timestamp>().ok().or_else(|| {
        let date = text.parse::<Date>().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    });
    at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).ok_or_else(|| {
        Problem::new(
            "bad_time",
            2,
            format!("`{text}` is no time"),
            "write 2026-11-20T10:00:00Z, 2026-11-20, milliseconds since 1970, or an age such as 7d",
        )
    })
}

/// Reads a duration.
///
/// # Errors
/// `bad_duration` (exit 2) when `text` has no unit, is no duration, or is over a hundred years.
pub fn read_duration(text: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(text.trim())
        .ok()
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| {
            Problem::new(
                "bad_duration",
                2,
                format!("`{text}` is no duration"),
                "write a number and a unit: 800ms, 2s, 15m, 24h, 30d",
            )
        })
}

/// A duration in whole milliseconds, at most 2^64 - 1.
#[must_use]
pub fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `millis` since the Unix epoch as RFC 3339 in UTC, to the second.
#[must_use]
pub fn rfc3339(millis: u64) -> String {
    i64::try_from(millis / 1000)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| millis.to_string(), |at| at.to_string())
}

/// How long before `now` a moment was (`3 minutes ago`), or that it is to come (`in 3 minutes`).
#[must_use]
pub fn relative(millis: u64, now: u64) -> String {
    let seconds = now.abs_diff(millis) / 1000;
    let words = spelt(seconds);
    match (seconds, millis > now) {
        (0..5, _) => "now".to_owned(),
        (_, true) => format!("in {words}"),
        (_, false) => format!("{words} ago"),
    }
}

/// A number of seconds in its largest whole unit.
#[must_use]
pub fn spelt(seconds: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let (size, name) = UNITS
        .into_iter()
        .find(|(size, _)| seconds >= *size)
        .unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000;

    #[test]
    fn a_moment_is_read_in_every_form_that_people_write() {
        for (text, expected) in [
            ("1795000000000", NOW),
            ("now", NOW),
            ("7d", NOW - 7 * 86_400_000),
            ("2h 30m ago", NOW - 9_000_000),
            ("1970-01-02", 86_400_000),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T00:00:01.5Z", 1_500),
        ] {
            assert_eq!(read(text, NOW).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_the_forms_that_are() {
        for text in [
            "",
            "yesterday",
            "1969-12-31",
            "2026-13-01",
            "-5",
            "5 parsecs",
        ] {
            let problem = read(text, NOW).expect_err(text);
            assert_eq!(
                (problem.code.as_str(), problem.exit),
                ("bad_time", 2),
                "{text}"
            );
            assert!(problem.hint.contains("7d"), "{text}");
        }
    }

    #[test]
    fn a_duration_needs_a_unit_and_an_end() {
        assert_eq!(read_duration("800ms").expect("read").as_millis(), 800);
        assert_eq!(read_duration("15m").expect("read").as_secs(), 900);
        for text in ["5", "", "1000years", "-1s"] {
            assert_eq!(
                read_duration(text).expect_err(text).code,
                "bad_duration",
                "{text}"
            );
        }
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        assert_eq!(relative(NOW - 60_000, NOW), "1 minute ago");
        assert_eq!(relative(NOW - 3 * 86_400_000, NOW), "3 days ago");
        assert_eq!(relative(NOW + 7_200_000, NOW), "in 2 hours");
        assert_eq!(relative(NOW - 900, NOW), "now");
        assert_eq!(rfc3339(NOW), "2026-11-18T11:06:40Z");
    }
}
