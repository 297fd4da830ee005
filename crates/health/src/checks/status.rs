//! Which HTTP statuses are good. Pure.

use std::fmt;

use serde_json::Value;

/// A set of statuses: `200`, `[200, 204]`, `2xx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(Vec<Range>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
}

impl Default for StatusSet {
    fn default() -> Self {
        Self(vec![Range {
            first: 200,
            last: 200,
        }])
    }
}

impl StatusSet {
    /// Reads a number, a class such as `2xx`, or a list of both.
    ///
    /// # Errors
    /// Words for what is no status.
    pub fn read(written: Value) -> Result<Self, String> {
        let one = std::slice::from_ref(&written);
        let items = written.as_array().map_or(one, Vec::as_slice);
        if items.is_empty() {
            return Err("`status` is an empty list".to_owned());
        }
        let ranges = items.iter().map(range);
        ranges.collect::<Result<Vec<_>, _>>().map(Self)
    }

    /// Whether `status` is good.
    pub fn contains(&self, status: u16) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|range| (range.first..=range.last).contains(&status))
    }
}

fn range(written: &Value) -> Result<Range, String> {
    let refusal =
        || format!("`status` is {written}; a status is a number from 100 to 599, or such as `2xx`");
    let text = match written {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(refusal()),
    };
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().map_err(|_| refusal())?;
        return match class {
            1..=5 => Ok(Range {
                first: class * 100,
                last: class * 100 + 99,
            }),
            _ => Err(refusal()),
        };
    }
    match text.parse::<u16>() {
        Ok(status @ 100..=599) => Ok(Range {
            first: status,
            last: status,
        }),
        Ok(_) | Err(_) => Err(refusal()),
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|range| {
            if range.first == range.last {
                range.first.to_string()
            } else {
                format!("{}xx", range.first / 100)
            }
        });
        f.write_str(&shown.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_numbers_classes_and_lists() {
        let set = StatusSet::read(json!([204, "3xx"])).unwrap();
        assert!(set.contains(204) && set.contains(302) && !set.contains(200));
        assert_eq!(set.to_string(), "204, 3xx");
        assert!(StatusSet::default().contains(200));
        for nonsense in [
            json!(99),
            json!(600),
            json!("6xx"),
            json!("ok"),
            json!([]),
            json!(true),
        ] {
            assert!(StatusSet::read(nonsense.clone()).is_err(), "{nonsense}");
        }
    }
}
