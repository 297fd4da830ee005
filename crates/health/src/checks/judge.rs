//! Is this answer good? Pure: a check and an answer in, a reason out.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::Check;
use crate::version::VersionRule;

/// Characters of a remote text that are worth showing.
const SHOWN: usize = 120;

/// An answer as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, cut off nowhere.
    pub body: Bytes,
    /// Time until it was complete.
    pub elapsed: Duration,
}

/// Judges an answer; the error is the first reason why it is not good.
///
/// # Errors
/// One sentence.
pub fn judge(check: &Check, rule: &VersionRule, answer: &Answer) -> Result<(), String> {
    if !check.status.contains(answer.status) {
        return Err(format!(
            "status {}, expected {}{}",
            answer.status,
            check.status,
            excerpt(&answer.body)
        ));
    }
    if answer.elapsed > check.max_time {
        return Err(format!(
            "it took {} ms, allowed are {}",
            answer.elapsed.as_millis(),
            check.max_time.as_millis()
        ));
    }
    let rule = VersionRule {
        header: check
            .version_header
            .clone()
            .unwrap_or_else(|| rule.header.clone()),
        expected: check.version.clone().or_else(|| rule.expected.clone()),
    };
    if let Some(mismatch) = rule.mismatch(rule.of(&answer.headers).as_deref()) {
        return Err(mismatch);
    }
    if let Some(wanted) = &check.body
        && !String::from_utf8_lossy(&answer.body).contains(wanted.as_str())
    {
        return Err(format!(
            "the body does not contain `{wanted}`{}",
            excerpt(&answer.body)
        ));
    }
    judge_json(check, answer)
}

fn judge_json(check: &Check, answer: &Answer) -> Result<(), String> {
    if check.json.is_empty() {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("the body is not JSON{}", excerpt(&answer.body)))?;
    for (path, expected) in &check.json {
        match find(&body, path) {
            Some(found) if found == expected => {}
            Some(found) => {
                let found = shorten(&found.to_string());
                return Err(format!("`{path}` is {found}, expected {expected}"));
            }
            None => return Err(format!("the body has no `{path}`, expected {expected}")),
        }
    }
    Ok(())
}

/// Follows `checks.0.status`: names into objects, numbers into lists. A key that has dots in it is
/// tried whole first.
fn find<'body>(body: &'body Value, path: &str) -> Option<&'body Value> {
    if let Some(found) = body.get(path) {
        return Some(found);
    }
    let mut current = body;
    for step in path.split('.') {
        current = match current {
            Value::Object(fields) => fields.get(step)?,
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
    }
    Some(current)
}

fn excerpt(body: &Bytes) -> String {
    let text = String::from_utf8_lossy(body);
    let text = shorten(text.trim());
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

fn shorten(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(SHOWN)
        .collect();
    if text.chars().count() > SHOWN {
        format!("{clean}…")
    } else {
        clean
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::checks::Checks;

    fn verdict(check: &str, answer: &Answer) -> Result<(), String> {
        let checks: Checks = format!("- {check}").parse().unwrap();
        let rule = VersionRule {
            header: "x-version".parse().unwrap(),
            expected: None,
        };
        judge(checks.iter().next().unwrap(), &rule, answer)
    }

    fn answer(body: &str) -> Answer {
        Answer {
            status: 200,
            headers: [(
                "x-version".parse().unwrap(),
                HeaderValue::from_static("v1.1.0"),
            )]
            .into_iter()
            .collect(),
            body: Bytes::from(body.to_owned()),
            elapsed: Duration::from_millis(40),
        }
    }

    #[test]
    fn an_answer_is_judged_by_all_that_the_check_says() {
        let good = answer(r#"{"status":"ok","checks":[{"name":"db","up":true}]}"#);
        let check = "{target: 'service/a:80/', json: {status: ok, checks.0.up: true}, body: db, version: v1.1.0, max-time: 1s}";
        assert_eq!(verdict(check, &good), Ok(()));
    }

    #[test]
    fn each_rule_has_its_own_reason() {
        let body = r#"{"status":"starting"}"#;
        for (check, reason) in [
            (
                "{target: 'service/a:80/', status: 204}",
                "status 200, expected 204: {\"status\":\"starting\"}",
            ),
            (
                "{target: 'service/a:80/', max-time: 10ms}",
                "it took 40 ms, allowed are 10",
            ),
            (
                "{target: 'service/a:80/', version: v2}",
                "version `v1.1.0` answered, expected `v2`",
            ),
            (
                "{target: 'service/a:80/', version: v2, version-header: x-other}",
                "the answer has no header `x-other`, expected `v2` there",
            ),
            (
                "{target: 'service/a:80/', body: fine}",
                "the body does not contain `fine`: {\"status\":\"starting\"}",
            ),
            (
                "{target: 'service/a:80/', json: {status: ok}}",
                "`status` is \"starting\", expected \"ok\"",
            ),
            (
                "{target: 'service/a:80/', json: {state: ok}}",
                "the body has no `state`, expected \"ok\"",
            ),
        ] {
            assert_eq!(verdict(check, &answer(body)).unwrap_err(), reason);
        }
        let check = "{target: 'service/a:80/', json: {status: ok}}";
        assert_eq!(
            verdict(check, &answer("<html>")).unwrap_err(),
            "the body is not JSON: <html>"
        );
    }

    #[test]
    fn remote_text_is_shortened_and_kept_on_one_line() {
        let mut bad = answer(&format!("::error::x\n{}", "y".repeat(500)));
        bad.status = 503;
        let reason = verdict("{target: 'service/a:80/'}", &bad).unwrap_err();
        assert!(!reason.contains('\n') && reason.len() < 200, "{reason}");
    }
}
