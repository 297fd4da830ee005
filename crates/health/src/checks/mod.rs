//! HTTP checks: what is asked and what must be answered, read from YAML once.
//! It refuses to know how a request gets to its target.

mod judge;
mod run;
mod status;
mod target;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;
use switchyard_runner::values;

pub use judge::{Answer, judge};
pub use run::{CheckReport, Checker, probe, probe_outside, probe_pod, probe_url};
pub use status::StatusSet;
pub use target::CheckTarget;

/// The checks of a step, in order.
#[derive(Clone, Debug, Default)]
pub struct Checks(Vec<Check>);

impl Checks {
    /// The checks in the order given.
    pub fn iter(&self) -> std::slice::Iter<'_, Check> {
        self.0.iter()
    }

    /// These checks, whose names are known to differ.
    #[must_use]
    pub fn of(checks: Vec<Check>) -> Self {
        Self(checks)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any goes through the API server.
    pub fn reach_into_the_cluster(&self) -> bool {
        self.iter().any(|check| check.target.in_cluster().is_some())
    }
}

/// One check.
#[derive(Clone, Debug)]
pub struct Check {
    /// Name, unique among the checks.
    pub name: String,
    /// Where the request goes.
    pub target: CheckTarget,
    /// Method, `GET` unless given.
    pub method: Method,
    /// Headers; values are marked as sensitive, since they may be.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Statuses that are good.
    pub status: StatusSet,
    /// Paths into a JSON body with the values they must have.
    pub json: Vec<(String, Value)>,
    /// Text that must occur in the body.
    pub body: Option<String>,
    /// Most time for one request.
    pub max_time: Duration,
    /// Header with the version, when not the step's own.
    pub version_header: Option<HeaderName>,
    /// Version that must answer, when not the step's own.
    pub version: Option<String>,
    /// Good answers in a row that make the check pass.
    pub successes: u32,
    /// Requests that are sent at most.
    pub attempts: u32,
    /// Time between two requests.
    pub interval: Duration,
    /// Whether each ready pod must pass, when not as the step says.
    pub each_pod: Option<bool>,
}

/// A check as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WrittenCheck {
    name: Option<String>,
    target: String,
    method: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    status: Option<Value>,
    json: Option<serde_json::Map<String, Value>>,
    body: Option<String>,
    max_time: Option<String>,
    version_header: Option<String>,
    version: Option<String>,
    successes: Option<u32>,
    attempts: Option<u32>,
    interval: Option<String>,
    each_pod: Option<bool>,
}

impl FromStr for Checks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items: Vec<Value> = serde_saphyr::from_str(text)
            .map_err(|cause| format!("it is no YAML list of checks: {}", first_line(&cause)))?;
        let mut checks: Vec<Check> = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let check = read(item).map_err(|problem| format!("check {}: {problem}", index + 1))?;
            if checks.iter().any(|known| known.name == check.name) {
                return Err(format!("two checks are called `{}`", check.name));
            }
            checks.push(check);
        }
        Ok(Self(checks))
    }
}

fn first_line(cause: &impl std::fmt::Display) -> String {
    let text = cause.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Reads one item of a list of checks.
///
/// # Errors
/// Words for what is wrong with it.
pub fn read(item: Value) -> Result<Check, String> {
    // A list item may be just a target.
    let item = if item.is_string() {
        serde_json::json!({ "target": item })
    } else {
        item
    };
    let written: WrittenCheck = serde_json::from_value(item).map_err(|cause| cause.to_string())?;
    let target: CheckTarget = written.target.parse()?;
    if written.each_pod == Some(true) && target.in_cluster().is_none() {
        return Err("`each-pod` needs a target in the cluster, not a URL".to_owned());
    }
    let seconds = Duration::from_secs;
    let check = Check {
        name: written.name.unwrap_or_else(|| target.to_string()),
        method: method(written.method.as_deref())?,
        headers: headers(written.headers.unwrap_or_default())?,
        status: written
            .status
            .map_or(Ok(StatusSet::default()), StatusSet::read)?,
        json: written.json.unwrap_or_default().into_iter().collect(),
        body: written.body,
        max_time: duration("max-time", written.max_time.as_deref(), seconds(5))?,
        version_header: written
            .version_header
            .map(|name| header_name(&name))
            .transpose()?,
        version: written.version,
        successes: written.successes.unwrap_or(1),
        attempts: written.attempts.unwrap_or(10),
        interval: duration("interval", written.interval.as_deref(), seconds(3))?,
        each_pod: written.each_pod,
        target,
    };
    if check.successes == 0 || check.attempts < check.successes {
        return Err(format!(
            "{} successes in a row cannot be reached in {} attempts",
            check.successes, check.attempts
        ));
    }
    if check.max_time.is_zero() {
        return Err("`max-time` must be longer than 0".to_owned());
    }
    Ok(check)
}

fn method(text: Option<&str>) -> Result<Method, String> {
    match text.unwrap_or("GET") {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "OPTIONS" => Ok(Method::OPTIONS),
        "POST" => Ok(Method::POST),
        other => Err(format!(
            "`method` is `{other}`; one of GET, HEAD, OPTIONS, POST"
        )),
    }
}

fn headers(written: BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    written
        .into_iter()
        .map(|(name, value)| {
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| format!("header `{name}` has characters that no header may have"))?;
            value.set_sensitive(true);
            Ok((header_name(&name)?, value))
        })
        .collect()
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    name.parse()
        .map_err(|_| format!("`{name}` is no name of a header"))
}

fn duration(name: &str, text: Option<&str>, default: Duration) -> Result<Duration, String> {
    text.map_or(Ok(default), values::duration)
        .map_err(|cause| format!("`{name}`: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Checks>().unwrap_err()
    }

    #[test]
    fn a_list_of_checks_is_read_with_its_defaults() {
        let text = "
- service/api:http/api/health/live
- name: ready
  target: deployment/api:8080/api/health/ready
  status: [200, 204]
  json: {status: ok, checks.db.up: true}
  body: ok
  max-time: 500ms
  version: v1.1.0
  successes: 3
  attempts: 5
  interval: 1s
  each-pod: true
- {name: front, target: 'https://shop.example/', headers: {Authorization: 'Bearer x'}}
";
        let checks: Checks = text.parse().unwrap();
        let all: Vec<_> = checks.iter().collect();
        assert_eq!(all[0].name, "service/api:http/api/health/live");
        assert_eq!(all[0].attempts, 10);
        assert_eq!(
            all[1].json[1],
            ("checks.db.up".to_owned(), Value::Bool(true))
        );
        assert_eq!(all[1].successes, 3);
        assert_eq!(all[1].each_pod, Some(true));
        assert!(all[2].target.in_cluster().is_none());
        assert!(!format!("{:?}", all[2]).contains("Bearer x"));
        assert!(checks.reach_into_the_cluster());
        assert!("[]".parse::<Checks>().unwrap().is_empty());
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (text, part) in [
            ("ready", "no YAML list"),
            ("- {name: x}", "check 1: missing field `target`"),
            ("- {target: 'service/web:80/', staus: 200}", "staus"),
            ("- ok\n- 5", "check 1: "),
            ("- service/web:80/\n- 5", "check 2: "),
            ("- {target: 'web:80/'}", "target"),
            ("- {target: 'service/web:80/', status: 99}", "status"),
            (
                "- {target: 'service/web:80/', max-time: soon}",
                "`max-time`",
            ),
            (
                "- {target: 'service/web:80/', max-time: 0s}",
                "longer than 0",
            ),
            (
                "- {target: 'service/web:80/', attempts: 2, successes: 3}",
                "cannot be reached",
            ),
            (
                "- {target: 'service/web:80/', successes: 0}",
                "cannot be reached",
            ),
            (
                "- {target: 'service/web:80/', method: DELETE}",
                "one of GET",
            ),
            (
                "- {target: 'service/web:80/', headers: {'a b': x}}",
                "no name of a header",
            ),
            ("- {target: 'https://x/', each-pod: true}", "not a URL"),
            (
                "- service/web:80/\n- service/web:80/",
                "two checks are called",
            ),
        ] {
            let problem = refusal(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
