//! Checks as they are written, in the input and by presets, and how each is understood. Pure.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};
use switchyard_health::checks;
use switchyard_runner::values;
use switchyard_verdict::checklist::Window;
use switchyard_verdict::rule::{Limit, Unit};
use switchyard_verdict::{Action, Concern, Policy};

/// The checks of the input, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct WrittenChecks(pub(crate) Vec<Written>);

/// One check: what all have in common, and what it asks.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) common: Common,
    pub(crate) ask: Ask,
}

/// What any check may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Common {
    pub(crate) concern: Option<Concern>,
    #[serde(default)]
    pub(crate) critical: bool,
    pub(crate) action: Option<Action>,
    pub(crate) consecutive: Option<u32>,
    pub(crate) no_data: Option<Policy>,
    pub(crate) on_error: Option<Policy>,
    pub(crate) item: Option<String>,
    pub(crate) window: Option<Window>,
}

/// The keys of [`Common`].
const COMMON: [&str; 8] = [
    "concern",
    "critical",
    "action",
    "consecutive",
    "no-data",
    "on-error",
    "item",
    "window",
];

/// What a check asks.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// An answer over HTTP.
    Http(Box<checks::Check>),
    /// One number.
    Value {
        query: String,
        baseline: Option<String>,
        limit: Option<Limit>,
        unit: Unit,
        tolerance: Option<f64>,
    },
    /// Requests, and those that failed.
    Counts {
        canary: Counters,
        baseline: Option<Counters>,
        limit: Option<f64>,
        tolerance: Option<f64>,
        min_requests: Option<u64>,
    },
}

/// Queries of two counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) requests: String,
    pub(crate) errors: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WrittenQuery {
    name: String,
    query: Option<String>,
    baseline: Option<String>,
    requests: Option<String>,
    errors: Option<String>,
    baseline_requests: Option<String>,
    baseline_errors: Option<String>,
    max: Option<Value>,
    min: Option<Value>,
    min_requests: Option<u64>,
    tolerance: Option<f64>,
}

impl FromStr for WrittenChecks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items: Vec<Value> = serde_saphyr::from_str(text).map_err(|cause| {
            let cause = cause.to_string();
            let line = cause.lines().next().unwrap_or_default();
            format!("it is no YAML list of checks: {line}")
        })?;
        let mut all: Vec<Written> = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let one = read(item).map_err(|problem| format!("check {}: {problem}", index + 1))?;
            if all.iter().any(|known| known.name == one.name) {
                return Err(format!("two checks are called `{}`", one.name));
            }
            all.push(one);
        }
        Ok(Self(all))
    }
}

fn read(item: Value) -> Result<Written, String> {
    let Value::Object(mut fields) = item else {
        let check = checks::read(item)?;
        return Ok(Written {
            name: check.name.clone(),
            common: Common::default(),
            ask: Ask::Http(Box::new(check)),
        });
    };
    let common: Map<String, Value> = COMMON
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), fields.shift_remove(*key)?)))
        .collect();
    let common: Common =
        serde_json::from_value(Value::Object(common)).map_err(|cause| cause.to_string())?;
    if common.window.is_some() && common.item.is_none() {
        return Err("`window` is that of an `item`, which is not given".to_owned());
    }
    if common.consecutive == Some(0) {
        return Err("`consecutive` is 0; one breach is the fewest that count".to_owned());
    }
    if fields.contains_key("target") {
        let check = checks::read(Value::Object(fields))?;
        return Ok(Written {
            name: check.name.clone(),
            common,
            ask: Ask::Http(Box::new(check)),
        });
    }
    let written: WrittenQuery =
        serde_json::from_value(Value::Object(fields)).map_err(|cause| cause.to_string())?;
    let name = written.name.clone();
    let ask = query(written).map_err(|problem| format!("`{name}`: {problem}"))?;
    Ok(Written { name, common, ask })
}

fn query(written: WrittenQuery) -> Result<Ask, String> {
    if let Some(tolerance) = written.tolerance
        && !(1.0..=100.0).contains(&tolerance)
    {
        return Err(format!("`tolerance` is {tolerance}; it is from 1 to 100"));
    }
    let of_counts = written.requests.is_some() || written.errors.is_some();
    match (written.query.is_some(), of_counts) {
        (true, false) => value(written),
        (false, true) => counts(written),
        (true, true) => Err("it has `query` and `requests` or `errors`; one of them".to_owned()),
        (false, false) => {
            Err("it asks nothing: give `target`, `query`, or `requests` and `errors`".to_owned())
        }
    }
}

fn value(written: WrittenQuery) -> Result<Ask, String> {
    if written.baseline_requests.is_some()
        || written.baseline_errors.is_some()
        || written.min_requests.is_some()
    {
        return Err(
            "`baseline-requests`, `baseline-errors` and `min-requests` go with `requests`"
                .to_owned(),
        );
    }
    if written.tolerance.is_some() && written.baseline.is_none() {
        return Err("`tolerance` needs a `baseline`".to_owned());
    }
    let (limit, unit) = match (&written.max, &written.min) {
        (Some(_), Some(_)) => return Err("it has `max` and `min`; one of them".to_owned()),
        (Some(max), None) => {
            let (number, unit) = number("max", max)?;
            (Some(Limit::Max(number)), unit)
        }
        (None, Some(min)) => {
            let (number, unit) = number("min", min)?;
            (Some(Limit::Min(number)), unit)
        }
        (None, None) => (None, Unit::Plain),
    };
    Ok(Ask::Value {
        query: written.query.unwrap_or_default(),
        baseline: written.baseline,
        limit,
        unit,
        tolerance: written.tolerance,
    })
}

fn counts(written: WrittenQuery) -> Result<Ask, String> {
    if written.baseline.is_some() || written.min.is_some() {
        return Err("`baseline` and `min` go with `query`".to_owned());
    }
    let (Some(requests), Some(errors)) = (written.requests, written.errors) else {
        return Err("`requests` and `errors` go together".to_owned());
    };
    let baseline = match (written.baseline_requests, written.baseline_errors) {
        (Some(requests), Some(errors)) => Some(Counters { requests, errors }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("`baseline-requests` and `baseline-errors` go together".to_owned());
        }
    };
    let limit = match written.max.as_ref().map(|max| number("max", max)) {
        None => None,
        Some(Ok((share, Unit::Share))) if share <= 1.0 => Some(share),
        Some(Ok(_)) => return Err("`max` is a share of requests, such as `1%`".to_owned()),
        Some(Err(problem)) => return Err(problem),
    };
    if limit.is_none() && baseline.is_none() {
        return Err("it is held against nothing: give `max` or a baseline".to_owned());
    }
    if written.tolerance.is_some() && baseline.is_none() {
        return Err("`tolerance` needs a baseline".to_owned());
    }
    Ok(Ask::Counts {
        canary: Counters { requests, errors },
        tolerance: written.tolerance.or(baseline.is_some().then_some(1.0)),
        baseline,
        limit,
        min_requests: written.min_requests,
    })
}

/// A number, `80%` or `500ms`.
fn number(key: &str, written: &Value) -> Result<(f64, Unit), String> {
    let refusal = || format!("`{key}` is {written}; it is a number, or such as `80%` or `500ms`");
    match written {
        Value::Number(number) => number
            .as_f64()
            .map(|number| (number, Unit::Plain))
            .ok_or_else(refusal),
        Value::String(text) => {
            if let Some(percent) = text.strip_suffix('%') {
                let percent: f64 = percent.trim().parse().map_err(|_| refusal())?;
                return (percent.is_finite() && percent >= 0.0)
                    .then_some((percent / 100.0, Unit::Share))
                    .ok_or_else(refusal);
            }
            if let Ok(plain) = text.parse::<f64>() {
                return plain
                    .is_finite()
                    .then_some((plain, Unit::Plain))
                    .ok_or_else(refusal);
            }
            let duration = values::duration(text).map_err(|_| refusal())?;
            Ok((duration.as_secs_f64(), Unit::Seconds))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<WrittenChecks>().unwrap_err()
    }

    #[test]
    fn each_kind_of_check_is_read() {
        let text = r#"
- service/api:http/api/health/live
- {name: ready, target: "deployment/api:8080/ready", concern: errors, consecutive: 3}
- {name: p95, query: "histogram_quantile(0.95, x)", max: 500ms, baseline: z, tolerance: 1.3, critical: true}
- {name: hits, query: "a / b", min: 80%, action: alert, no-data: ignore}
- name: 5xx
  requests: http_requests_total
  errors: 'http_requests_total{code=~"5.."}'
  max: 1%
  min-requests: 50
"#;
        let checks: WrittenChecks = text.parse().unwrap();
        let [live, ready, p95, hits, errors] = &checks.0[..] else {
            panic!("{checks:?}");
        };
        assert!(matches!(live.ask, Ask::Http(_)));
        assert_eq!(ready.common.concern, Some(Concern::Errors));
        assert_eq!(ready.common.consecutive, Some(3));
        assert!(p95.common.critical);
        let Ask::Value { limit, unit, .. } = &p95.ask else {
            panic!("{p95:?}");
        };
        assert_eq!((*limit, *unit), (Some(Limit::Max(0.5)), Unit::Seconds));
        assert_eq!(hits.common.action, Some(Action::Alert));
        assert_eq!(hits.common.no_data, Some(Policy::Ignore));
        let Ask::Counts {
            limit,
            min_requests,
            ..
        } = &errors.ask
        else {
            panic!("{errors:?}");
        };
        assert_eq!((*limit, *min_requests), (Some(0.01), Some(50)));
        assert!("[]".parse::<WrittenChecks>().unwrap().0.is_empty());
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (text, part) in [
            ("ready", "no YAML list"),
            ("- {name: a}", "check 1: `a`: it asks nothing"),
            ("- {query: a}", "missing field `name`"),
            ("- {name: a, query: b, limit: 1}", "unknown field `limit`"),
            ("- {name: a, query: b, max: many}", "`max` is \"many\""),
            ("- {name: a, query: b, max: 1, min: 2}", "one of them"),
            ("- {name: a, query: b, tolerance: 2}", "needs a `baseline`"),
            (
                "- {name: a, query: b, tolerance: 0.5, baseline: c}",
                "from 1 to 100",
            ),
            ("- {name: a, query: b, requests: c}", "one of them"),
            ("- {name: a, requests: c, max: 1%}", "go together"),
            (
                "- {name: a, requests: c, errors: d}",
                "held against nothing",
            ),
            (
                "- {name: a, requests: c, errors: d, max: 5}",
                "share of requests",
            ),
            ("- {name: a, query: b, consecutive: 0}", "one breach"),
            ("- {name: a, query: b, window: 0-5}", "which is not given"),
            (
                "- {name: a, query: b, concern: money}",
                "unknown variant `money`",
            ),
            (
                "- {name: a, query: b}\n- {name: a, query: c}",
                "two checks are called `a`",
            ),
            ("- nowhere", "check 1: `nowhere` is no target"),
        ] {
            let refused = refusal(text);
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
}
