//! EKS tokens: a presigned GetCallerIdentity, which whoever is shown the token sends to STS to learn
//! whose it is. Checks what aws-iam-authenticator checks before it sends anything, in its order.
//! <https://github.com/kubernetes-sigs/aws-iam-authenticator>

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Method;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::{Host, Url};

use crate::{
    error::{Context as _, Result, SandboxError, create_dir, read, write},
    http_client::HttpClient,
    instance::{Layout, NODE_ADDRESS},
};

/// What every token begins with.
pub(super) const PREFIX: &str = "k8s-aws-v1.";
/// The name by which EKS knows the sandbox's cluster.
pub const EKS_CLUSTER: &str = "sandbox";
const MOST_BYTES: usize = 4 * 1024;
/// How long a token is taken after its date, in seconds, whatever it says of itself.
const LIFE: i64 = 15 * 60;
const PARAMETERS: [&str; 10] = [
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-user-agent",
];

/// Lets an IAM role into the cluster, as an access entry of EKS does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessEntry {
    /// `arn:aws:iam::ACCOUNT:role/NAME`
    pub(crate) principal: String,
    pub(crate) groups: Vec<String>,
}

impl AccessEntry {
    pub(crate) fn new(principal: &str, groups: &[&str]) -> Self {
        Self {
            principal: principal.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    /// Lets the role in until the guard is dropped.
    pub(crate) fn admit(&self, layout: &Layout) -> Result<AccessEntryGuard> {
        let folder = layout.access_entries();
        create_dir(&folder)?;
        let path = folder.join(format!("{:016x}.json", rand::random::<u64>()));
        let json = serde_json::to_vec(self).context(|| "cannot encode an access entry")?;
        write(&path, json)?;
        Ok(AccessEntryGuard(path))
    }
}

/// A role of AWS that may come in. Dropping it shuts the role out again.
#[derive(Debug)]
#[must_use]
pub struct AccessEntryGuard(PathBuf);

impl Drop for AccessEntryGuard {
    fn drop(&mut self) {
        // One that is left behind names a role whose account went with the test.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Finds out whose token it is. The answer is a user of TokenReview.
pub(super) async fn review(token: &str, client: &HttpClient, entries: &Path) -> Result<Value> {
    let url = parse(token, Timestamp::now())?;
    let headers = [
        ("x-k8s-aws-id", EKS_CLUSTER),
        ("accept", "application/json"),
    ];
    let answer = client
        .send(Method::GET, url.as_str(), &headers, Bytes::new())
        .await?;
    if !answer.status.is_success() {
        let (status, text) = (answer.status.as_u16(), answer.text());
        return Err(refused(format!(
            "error from AWS (expected 200, got {status}): {text}"
        )));
    }
    let document = answer.json()?;
    let result = &document["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    let text = |name: &str| result[name].as_str().unwrap_or_default();
    let (arn, account, id) = (text("Arn"), text("Account"), text("UserId"));
    let role = role_of(arn).unwrap_or_else(|| arn.to_owned());
    let entry = load(entries)
        .into_iter()
        .find(|entry| entry.principal == role);
    let entry = entry.ok_or_else(|| refused(format!("ARN is not mapped: {role}")))?;
    Ok(json!({
        // The name that EKS gives to a role: the session as STS knows it.
        "username": arn,
        "uid": format!("aws-iam-authenticator:{account}:{id}"),
        "groups": entry.groups,
        "extra": {"arn": [arn], "canonicalArn": [role], "sessionName": [arn.rsplit('/').next()]},
    }))
}

fn refused(reason: impl Into<String>) -> SandboxError {
    SandboxError::new(reason)
}

/// The request in a token, if it is one that may be sent.
fn parse(token: &str, now: Timestamp) -> Result<Url> {
    if token.len() > MOST_BYTES {
        return Err(refused("token is too large"));
    }
    let encoded = token
        .strip_prefix(PREFIX)
        .ok_or_else(|| refused("token is missing its prefix"))?;
    let decoded = URL_SAFE_NO_PAD
        .decode(encoded)
        .context(|| "token is not unpadded base64url")?;
    let text = String::from_utf8(decoded).context(|| "token holds no text")?;
    let url: Url = text.parse().context(|| "token holds no URL")?;
    if url.scheme() != "https" {
        return Err(refused(format!(
            "unexpected scheme `{}` in pre-signed URL",
            url.scheme()
        )));
    }
    if !is_stand_in(url.host()) {
        return Err(refused("unexpected hostname in pre-signed URL"));
    }
    if url.path() != "/" {
        return Err(refused("unexpected path in pre-signed URL"));
    }
    for (name, _) in url.query_pairs() {
        if !PARAMETERS.contains(&name.to_lowercase().as_str()) {
            return Err(refused(format!("non-whitelisted query parameter `{name}`")));
        }
    }
    if value(&url, "Action") != "GetCallerIdentity" {
        return Err(refused("unexpected action parameter in pre-signed URL"));
    }
    if !value(&url, "X-Amz-SignedHeaders")
        .split(';')
        .any(|name| name == "x-k8s-aws-id")
    {
        return Err(refused(
            "client did not sign the x-k8s-aws-id header in the pre-signed URL",
        ));
    }
    let expires: i64 = value(&url, "X-Amz-Expires").parse().unwrap_or(-1);
    if !(0..=LIFE).contains(&expires) {
        return Err(refused("invalid X-Amz-Expires parameter in pre-signed URL"));
    }
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", value(&url, "X-Amz-Date"));
    let date = date.and_then(|date| date.to_zoned(TimeZone::UTC));
    let date = date.context(|| "invalid X-Amz-Date parameter in pre-signed URL")?;
    if now.as_second() > date.timestamp().as_second() + LIFE {
        return Err(refused("X-Amz-Date parameter is expired"));
    }
    Ok(url)
}

fn value(url: &Url, name: &str) -> String {
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// Where STS is here: on the loopback or the node, and nowhere else.
fn is_stand_in(host: Option<Host<&str>>) -> bool {
    match host {
        Some(Host::Ipv4(address)) => {
            address.is_loopback() || NODE_ADDRESS.parse() == Ok(IpAddr::V4(address))
        }
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv6(_)) | None => false,
    }
}

/// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION` as the role that was assumed.
fn role_of(arn: &str) -> Option<String> {
    let rest = arn.strip_prefix("arn:aws:sts::")?;
    let (account, role) = rest.split_once(":assumed-role/")?;
    let (name, _) = role.split_once('/')?;
    Some(format!("arn:aws:iam::{account}:role/{name}"))
}

fn load(folder: &Path) -> Vec<AccessEntry> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let entries = files.filter_map(|file| serde_json::from_str(&read(&file.path()).ok()?).ok());
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "https://127.0.0.1:9000/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature=0";

    fn parsed(url: &str, seconds_later: i64) -> Result<Url> {
        let signed: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let now = Timestamp::from_second(signed.as_second() + seconds_later).unwrap();
        parse(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(url)), now)
    }

    #[test]
    fn only_the_request_of_a_real_token_is_sent() {
        assert!(parsed(GOOD, 0).is_ok());
        assert!(parsed(GOOD, 899).is_ok(), "longer than it says of itself");
        let changed = |from: &str, to: &str| GOOD.replace(from, to);
        for (url, later, words) in [
            (GOOD.to_owned(), 901, "X-Amz-Date parameter is expired"),
            (changed("https", "http"), 0, "unexpected scheme"),
            (
                changed("127.0.0.1:9000", "evil.example"),
                0,
                "unexpected hostname",
            ),
            (changed("9000/", "9000/x"), 0, "unexpected path"),
            (
                changed("GetCallerIdentity", "AssumeRole"),
                0,
                "unexpected action",
            ),
            (
                format!("{GOOD}&RoleArn=x"),
                0,
                "non-whitelisted query parameter `RoleArn`",
            ),
            (
                changed("%3Bx-k8s-aws-id", ""),
                0,
                "did not sign the x-k8s-aws-id header",
            ),
            (
                changed("Expires=60", "Expires=901"),
                0,
                "invalid X-Amz-Expires",
            ),
            (changed("&X-Amz-Expires=60", ""), 0, "invalid X-Amz-Expires"),
            (changed("Date=2026", "Date=x"), 0, "invalid X-Amz-Date"),
            ("nonsense".to_owned(), 0, "token holds no URL"),
        ] {
            let error = parsed(&url, later).expect_err(&url);
            assert!(error.chain().contains(words), "{}", error.chain());
        }
        let padded = format!(
            "{PREFIX}{}",
            base64::prelude::BASE64_URL_SAFE.encode("https://x/a")
        );
        assert!(parse(&padded, Timestamp::now()).is_err());
    }

    #[test]
    fn a_session_is_known_by_its_role() {
        let session = "arn:aws:sts::111122223333:assumed-role/deploy/run-1";
        assert_eq!(
            role_of(session).as_deref(),
            Some("arn:aws:iam::111122223333:role/deploy")
        );
        assert_eq!(role_of("arn:aws:iam::111122223333:user/x"), None);
    }
}
