//! Value types and parsers of inputs: durations, booleans, lists.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

/// The longest duration an input may be: added to a clock's present it must not overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Parses `90s`, `2m`, `1h30m`, `500ms`. A bare number has no unit and is refused, except `0`.
///
/// # Errors
/// A text that says what is allowed; at most a year is.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("it is more than a year".to_owned()),
        Err(cause) => Err(format!(
            "{cause}; a duration looks like `90s`, `2m` or `1h30m`"
        )),
    }
}

/// Parses a boolean as the runner's toolkit does: exactly `true|True|TRUE|false|False|FALSE`.
///
/// # Errors
/// A text that says what is allowed.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err("a boolean is `true` or `false`".into()),
    }
}

/// Shows a duration as an input would say it: `1h 30m`, `250ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let rounded = if duration >= Duration::from_secs(10) {
        Duration::from_secs(duration.as_secs())
    } else {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    humantime::format_duration(rounded).to_string()
}

/// A list input: one item a line, or comma-separated. Items are trimmed, empty ones dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> List<T> {
    /// The items in the order given.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items)
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> FromStr for List<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(['\n', ','])
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| {
                item.parse()
                    .map_err(|cause| format!("item `{item}`: {cause}"))
            })
            .collect::<Result<Vec<T>, String>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        for nonsense in ["90", "-3s", "soon", "1x", "s"] {
            assert!(
                duration(nonsense).unwrap_err().contains("`90s`"),
                "{nonsense}"
            );
        }
        assert!(duration("300000000000y").unwrap_err().contains("a year"));
    }

    #[test]
    fn booleans_are_exactly_the_six_of_the_toolkit() {
        for yes in ["true", "True", "TRUE"] {
            assert_eq!(boolean(yes), Ok(true));
        }
        for no in ["false", "False", "FALSE"] {
            assert_eq!(boolean(no), Ok(false));
        }
        for other in ["yes", "1", "on", "tRUE", ""] {
            assert!(boolean(other).is_err(), "{other}");
        }
    }

    #[test]
    fn lists_are_split_by_line_and_by_comma() {
        let list: List<String> = "a\n b ,c\n\n,".parse().unwrap();
        assert_eq!(&*list, ["a", "b", "c"]);
        let error = "1\nx".parse::<List<u8>>().unwrap_err();
        assert!(error.starts_with("item `x`"), "{error}");
    }
}
