//! A moment as people type it: by the calendar, or so long ago.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::args::parse_duration;

/// A moment, by the calendar or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This very one.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl Moment {
    /// When it is, as of `now`; the earliest there is, if it was before that.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => {
                let back = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
                now.checked_sub(back).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

/// Reads `2026-01-31T12:00:00Z`, the same without a zone or only the date (both in the zone of this machine), `now`, or `-2h`.
///
/// # Errors
/// Says which forms are understood.
pub(crate) fn parse(text: &str) -> Result<Moment, String> {
    if text == "now" {
        return Ok(Moment::Ago(Duration::ZERO));
    }
    if let Some(span) = text.strip_prefix('-') {
        return parse_duration(span).map(Moment::Ago);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Moment::At(at));
    }
    let local = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from));
    let zoned = local.ok().and_then(|local| local.to_zoned(TimeZone::system()).ok());
    let forms = "a time is 2026-01-31T12:00:00Z, 2026-01-31, now, or so long ago: -90s, -2h, -7d";
    zoned.map(|zoned| Moment::At(zoned.timestamp())).ok_or_else(|| forms.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_of_the_calendar_or_so_long_ago() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let at = |text: &str| parse(text).map(|moment| moment.at(now).as_second());
        assert_eq!(at("2023-11-14T22:13:20Z"), Ok(1_700_000_000));
        assert_eq!(at("2023-11-14T23:13:20.5+01:00"), Ok(1_700_000_000));
        assert_eq!(at("now"), Ok(1_700_000_000));
        assert_eq!(at("-2h"), Ok(1_699_992_800));
        assert_eq!(at("-36500d"), Ok(1_700_000_000 - 36_500 * 86_400));
        assert!(at("2023-11-14").is_ok() && at("2023-11-14T10:00").is_ok());
        for text in ["", "-", "2h", "-2", "yesterday", "2023-13-01", "2023-11-14T25:00:00Z"] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
