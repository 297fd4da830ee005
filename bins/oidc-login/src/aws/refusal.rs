//! AWS's refusals: the error bodies, in XML and in JSON, and what their codes mean in plain words.

use roxmltree::{Document, Node};
use serde::Deserialize;
use switchyard_http::Response;

use crate::explain::printable;

/// What an error answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
}

/// What a code means, and what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meaning {
    plain: &'static str,
    change: &'static str,
}

#[derive(Deserialize)]
struct JsonError {
    #[serde(rename = "__type", default)]
    kind: Option<String>,
    #[serde(default, alias = "Message")]
    message: String,
}

impl Refusal {
    /// Reads the answer of a query service (STS): XML.
    pub(crate) fn of_xml(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let document = Document::parse(text).ok()?;
        let of = |name: &str| text_of(document.root(), name);
        Some(Self {
            code: of("Code")?,
            message: of("Message").unwrap_or_default(),
            request_id: of("RequestId"),
        })
    }

    /// Reads the answer of a JSON service (EKS).
    pub(crate) fn of_json(answer: &Response) -> Option<Self> {
        let header = |name: &str| {
            let value = answer.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let error: JsonError = serde_json::from_slice(answer.body()).ok()?;
        let code = header("x-amzn-errortype").or(error.kind)?;
        // `namespace#Code:address`, of which the code alone says something.
        let code = code.rsplit('#').next().unwrap_or_default();
        let code = code.split(':').next().unwrap_or_default();
        Some(Self {
            code: code.to_owned(),
            message: error.message,
            request_id: header("x-amzn-requestid"),
        })
    }

    /// Whether the same question may be answered otherwise in a moment.
    pub(crate) fn is_worth_repeating(&self) -> bool {
        matches!(
            self.code.as_str(),
            "IDPCommunicationError" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded"
        )
    }

    /// In one line.
    pub(crate) fn headline(&self) -> String {
        format!("{}: {}", self.code, self.message)
    }

    /// What it means, where we know it.
    fn meaning(&self) -> Option<Meaning> {
        let (plain, change) = words(&self.code, &self.message)?;
        Some(Meaning { plain, change })
    }

    /// What to do about it: what it means and what to change where we know it, what else was found out about it, and
    /// what AWS's support asks for.
    pub(crate) fn hints(&self, found: impl IntoIterator<Item = String>) -> Vec<String> {
        let meaning = self.meaning();
        let words = meaning.map(|meaning| [meaning.plain, meaning.change].map(str::to_owned));
        let id = self.request_id.as_ref();
        let for_support = id.map(|id| printable(&format!("for AWS's support: request id {id}")));
        let words = words.into_iter().flatten();
        words.chain(found).chain(for_support).collect()
    }
}

/// The text of the first element of this name.
pub(crate) fn text_of(root: Node<'_, '_>, name: &str) -> Option<String> {
    let mut elements = root.descendants();
    let found = elements.find(|node| node.is_element() && node.tag_name().name() == name)?;
    found.text().map(str::to_owned)
}

fn words(code: &str, message: &str) -> Option<(&'static str, &'static str)> {
    let says = |words: &str| message.to_ascii_lowercase().contains(words);
    Some(match code {
        "InvalidIdentityToken" if says("no openidconnect provider") => (
            "the role's account has no identity provider for the token's issuer",
            "add it: `aws iam create-open-id-connect-provider --url` with the token's `iss`, `--client-id-list` with its `aud`; is the account in input `role` the right one?",
        ),
        "InvalidIdentityToken" if says("audience") => (
            "the account's identity provider does not take the token's audience",
            "add the token's `aud` with `aws iam add-client-id-to-open-id-connect-provider`, or set input `audience`",
        ),
        "InvalidIdentityToken" => (
            "AWS does not take the token itself",
            "compare its `iss` below with the URL of the account's identity provider: GitHub Enterprise Server, and an enterprise with an issuer of its own, have another one than github.com, which AWS must reach",
        ),
        "AccessDenied" if says("assumerolewithwebidentity") => (
            "there is no such role, or its trust policy does not let this token in; AWS does not say which",
            "check input `role`, and put the statement below into its trust policy; `sub` is compared letter by letter and depends on whether the job has `environment:`",
        ),
        "AccessDenied" if says("sts:assumerole") => (
            "the first role's session may not assume the second role",
            "the trust policy of `chained-role` must name `role` as its principal, and a policy of `role` must allow `sts:AssumeRole` on it",
        ),
        "ExpiredTokenException" => (
            "the token that was shown has expired",
            "GitHub's tokens live five minutes and each exchange fetches a fresh one: a clock is wrong by more than that",
        ),
        "ValidationError" if says("maxsessionduration") || says("1 hour") => (
            "the role does not allow a session that long",
            "lower input `session-duration`, or raise the role's with `aws iam update-role --max-session-duration`; a chained role has one hour at most",
        ),
        "RegionDisabledException" => (
            "the account has not switched STS on in this region",
            "switch the region on, or set input `region` to another one",
        ),
        "IDPCommunicationError" => (
            "AWS could not fetch the issuer's keys",
            "it was tried again until `timeout`; an issuer of your own must be reachable from AWS",
        ),
        "AccessDeniedException" => (
            "the role may not do this",
            "allow the action that AWS names, on this one resource, in a policy of the role",
        ),
        "ResourceNotFoundException" => (
            "there is no such cluster in this account and region",
            "check inputs `cluster`, `region` and `role`",
        ),
        "SignatureDoesNotMatch" | "InvalidSignatureException" => (
            "AWS does not take the signature",
            "check input `region`; a proxy between may have changed the request",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_xml_is_read_with_its_escapes() {
        let body = br#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
            <Code>InvalidIdentityToken</Code><Message>No OpenIDConnect provider found in your account for a&amp;b</Message>
            </Error><RequestId>r-1</RequestId></ErrorResponse>"#;
        let refusal = Refusal::of_xml(body).unwrap();
        assert_eq!(
            refusal.headline(),
            "InvalidIdentityToken: No OpenIDConnect provider found in your account for a&b"
        );
        assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
        let hints = refusal.hints(["what else".to_owned()]);
        assert_eq!(hints.len(), 4, "{hints:?}");
        assert_eq!(
            hints[2..],
            ["what else", "for AWS's support: request id r-1"]
        );
        assert!(
            refusal
                .meaning()
                .unwrap()
                .plain
                .contains("no identity provider")
        );
        assert_eq!(Refusal::of_xml(b"<html>"), None);
        assert_eq!(Refusal::of_xml(b"<html/>"), None);
    }

    #[test]
    fn only_what_goes_away_by_itself_is_tried_again() {
        let is_repeated = |code: &str| {
            let refusal = Refusal {
                code: code.to_owned(),
                message: String::new(),
                request_id: None,
            };
            refusal.is_worth_repeating()
        };
        assert!(is_repeated("IDPCommunicationError") && is_repeated("Throttling"));
        for code in [
            "InvalidIdentityToken",
            "AccessDenied",
            "ExpiredTokenException",
        ] {
            assert!(!is_repeated(code), "{code}");
        }
    }
}
