//! The interface of exec plugins, `client.authentication.k8s.io`: which version the client asks for, and
//! the answer in it. <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use switchyard_runner::Secret;

use super::token::whole_seconds;

const KIND: &str = "ExecCredential";

/// A version of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    /// What a client of before 2022 speaks, and what is meant when it does not say.
    V1Beta1,
}

/// Why the client cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRequest {
    #[error("KUBERNETES_EXEC_INFO is not the JSON of an ExecCredential")]
    Malformed,
    #[error(
        "KUBERNETES_EXEC_INFO asks for `{0}`, and `{v1}` and `{v1beta1}` are known",
        v1 = Version::V1.name(),
        v1beta1 = Version::V1Beta1.name()
    )]
    Version(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo {
    api_version: String,
    kind: String,
}

impl Version {
    /// The version that the value of `KUBERNETES_EXEC_INFO` asks for.
    ///
    /// # Errors
    /// When it asks for something else.
    pub(crate) fn asked(exec_info: Option<&str>) -> Result<Self, InvalidRequest> {
        let Some(text) = exec_info else {
            return Ok(Self::V1Beta1);
        };
        let info: ExecInfo = serde_json::from_str(text).map_err(|_| InvalidRequest::Malformed)?;
        if info.kind != KIND {
            return Err(InvalidRequest::Malformed);
        }
        let known = [Self::V1, Self::V1Beta1];
        let asked = known.into_iter().find(|one| one.name() == info.api_version);
        asked.ok_or(InvalidRequest::Version(info.api_version))
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1 => "client.authentication.k8s.io/v1",
            Self::V1Beta1 => "client.authentication.k8s.io/v1beta1",
        }
    }

    /// The answer: a token, and when the client shall ask again.
    pub(crate) fn answer(self, token: &Secret, ask_again: Timestamp) -> String {
        // The client reads RFC 3339.
        let ask_again = whole_seconds(ask_again);
        let (version, token) = (self.name(), Value::from(token.expose()));
        format!(
            r#"{{"apiVersion":"{version}","kind":"{KIND}","status":{{"token":{token},"expirationTimestamp":"{ask_again}"}}}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(version: &str) -> Result<Version, InvalidRequest> {
        let info = json!({ "apiVersion": version, "kind": "ExecCredential", "spec": { "interactive": false } });
        Version::asked(Some(&info.to_string()))
    }

    #[test]
    fn the_version_that_is_asked_for_is_answered() {
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        for (version, known) in [("v1", Version::V1), ("v1beta1", Version::V1Beta1)] {
            let name = format!("client.authentication.k8s.io/{version}");
            assert_eq!(asked(&name), Ok(known));
            let answer: Value =
                serde_json::from_str(&known.answer(&Secret::new(r#"t"\"#), at)).unwrap();
            assert_eq!(answer["apiVersion"], name);
            assert_eq!(answer["kind"], "ExecCredential");
            assert_eq!(answer["status"]["token"], r#"t"\"#);
            assert_eq!(
                answer["status"]["expirationTimestamp"],
                "2026-09-21T14:13:20Z"
            );
        }
    }

    #[test]
    fn a_client_that_asks_for_nothing_gets_the_old_version() {
        assert_eq!(Version::asked(None), Ok(Version::V1Beta1));
    }

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        let error = asked("client.authentication.k8s.io/v1alpha1").unwrap_err();
        assert!(error.to_string().contains("v1alpha1"), "{error}");
        assert_eq!(Version::asked(Some("{")), Err(InvalidRequest::Malformed));
        assert_eq!(
            Version::asked(Some(r#"{"apiVersion":"v1","kind":"Pod"}"#)),
            Err(InvalidRequest::Malformed)
        );
    }
}
