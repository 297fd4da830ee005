//! In which environment each job of a called workflow runs. act ignores `environment:`, and with it which
//! subject a job's identity token has. It knows the two forms in which our workflows name one, and no
//! expression besides.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::{Doing as _, Result};

/// Our workflows, as callers of another repository name them.
const OURS: &str = "switchyard-ci/switchyard/";
const GIVEN: &str = "${{ inputs.environment }}";
const RESCUE: &str =
    "${{ inputs.rescue-environment || format('{0}-rollback', inputs.environment) }}";

/// The environment of each job that has one, of the workflows of ours that a caller's workflow calls.
///
/// # Errors
/// The caller has a job that calls none of ours, two called jobs of one name are in different environments, or
/// one is named in a form that is not known here.
pub(crate) fn of_jobs(caller: &Path, archive: &Path) -> Result<BTreeMap<String, String>> {
    let caller = read(caller)?;
    let calls = caller["jobs"].as_object().into_iter().flatten();
    let mut environments = BTreeMap::new();
    for (_, call) in calls {
        for (job, environment) in of_call(call, archive)? {
            let known = environments.insert(job.clone(), environment.clone());
            if known.is_some_and(|known| known != environment) {
                return Err(format!("two jobs `{job}` are in different environments"));
            }
        }
    }
    Ok(environments)
}

fn of_call(call: &Value, archive: &Path) -> Result<BTreeMap<String, String>> {
    let uses = call["uses"].as_str().unwrap_or_default();
    let path = uses
        .strip_prefix(OURS)
        .and_then(|rest| rest.split('@').next())
        .ok_or_else(|| format!("`{uses}` is no workflow of ours"))?;
    let called = read(&archive.join(path))?;
    let named = called["jobs"].as_object().into_iter().flatten();
    let named = named.filter_map(|(id, job)| Some((id, job["environment"].as_str()?)));
    named
        .map(|(id, expression)| Ok((id.clone(), evaluated(expression, &call["with"])?)))
        .collect()
}

fn evaluated(expression: &str, inputs: &Value) -> Result<String> {
    let input = |name: &str| inputs[name].as_str().filter(|value| !value.is_empty());
    let environment = input("environment").ok_or("the caller names no environment")?;
    match expression {
        GIVEN => Ok(environment.to_owned()),
        RESCUE => Ok(input("rescue-environment")
            .map_or_else(|| format!("{environment}-rollback"), str::to_owned)),
        _ => Err(format!("cannot tell what `{expression}` is")),
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).doing(|| format!("parse {}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rescue_has_an_environment_of_its_own() {
        let inputs = json!({"environment": "production"});
        let of = |expression: &str, inputs: &Value| evaluated(expression, inputs);
        assert_eq!(of(GIVEN, &inputs).unwrap(), "production");
        assert_eq!(of(RESCUE, &inputs).unwrap(), "production-rollback");
        let inputs = json!({"environment": "production", "rescue-environment": "undo"});
        assert_eq!(of(RESCUE, &inputs).unwrap(), "undo");
        of("${{ inputs.other }}", &inputs).unwrap_err();
        of(GIVEN, &json!({})).unwrap_err();
    }
}
