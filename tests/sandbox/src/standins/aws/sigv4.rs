//! Signature Version 4, checked in full, in a header or in the query.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::civil::DateTime;
use ring::{digest, hmac};
use url::Url;

use super::{Account, Session};
use crate::standins::{clock::formatted, random::hex, received::Received};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a signature in a header may be off, in seconds.
const TOLERANCE: i64 = 5 * 60;
/// How long STS takes a presigned request, in seconds, whatever `X-Amz-Expires` says.
const PRESIGNED_LIFE: i64 = 15 * 60;

/// Why a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is none.
    Missing,
    /// Something that it needs is not there.
    Incomplete(String),
    /// The access key is nobody's, or the session token not its own.
    UnknownToken,
    /// The session is over.
    ExpiredToken,
    /// It does not fit the request, its region, its service or its time.
    Mismatch(String),
}

/// What a request says of its signature.
#[derive(Debug)]
struct Claimed {
    access_key: String,
    date: String,
    scope: String,
    signed_headers: Vec<String>,
    signature: String,
    token: Option<String>,
    life: i64,
}

/// Finds out who signed a request for a service.
///
/// # Errors
/// Why the signature is not taken.
pub(super) fn signer(
    request: &Received,
    account: &Account,
    service: &str,
) -> Result<Session, Fault> {
    let claimed = match request.query("X-Amz-Signature") {
        Some(signature) => of_query(request, signature)?,
        None => of_header(request)?,
    };
    let (scope_date, region, of_service) = parts(&claimed.scope)?;
    if region != account.region {
        return Err(mismatch("Credential should be scoped to a valid region."));
    }
    if of_service != service {
        return Err(mismatch(&format!(
            "Credential should be scoped to correct service: '{service}'."
        )));
    }
    if !claimed.date.starts_with(scope_date) {
        return Err(mismatch(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP",
        ));
    }
    check_time(&claimed, account.clock.now())?;
    check_headers(request, &claimed)?;
    let session = account
        .session(&claimed.access_key)
        .ok_or(Fault::UnknownToken)?;
    if claimed.token.as_deref() != Some(session.token.as_str()) {
        return Err(Fault::UnknownToken);
    }
    let canonical = canonical_request(request, &claimed.signed_headers);
    let key = signing_key(&session.secret, scope_date, region, of_service);
    let text = string_to_sign(&claimed.date, &claimed.scope, &canonical);
    if sign(&key, &text) != claimed.signature {
        return Err(mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        ));
    }
    if account.clock.now() >= session.until {
        return Err(Fault::ExpiredToken);
    }
    Ok(session)
}

fn mismatch(words: &str) -> Fault {
    Fault::Mismatch(words.to_owned())
}

fn of_header(request: &Received) -> Result<Claimed, Fault> {
    let header = request.header("authorization").ok_or(Fault::Missing)?;
    let fields = header.strip_prefix(ALGORITHM).ok_or_else(|| {
        Fault::Incomplete(format!("Authorization header requires '{ALGORITHM}'."))
    })?;
    let fields: BTreeMap<&str, &str> = fields
        .split(',')
        .filter_map(|field| field.trim().split_once('='))
        .collect();
    let field = |name: &str| {
        let missing = || {
            Fault::Incomplete(format!(
                "Authorization header requires '{name}' parameter. Authorization={header}"
            ))
        };
        fields
            .get(name)
            .map(|text| (*text).to_owned())
            .ok_or_else(missing)
    };
    let (access_key, scope) = split_credential(&field("Credential")?)?;
    let date = request.header("x-amz-date").ok_or_else(|| {
        Fault::Incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
                .to_owned(),
        )
    })?;
    Ok(Claimed {
        access_key,
        scope,
        date: date.to_owned(),
        signed_headers: names(&field("SignedHeaders")?),
        signature: field("Signature")?,
        token: request.header("x-amz-security-token").map(str::to_owned),
        life: TOLERANCE,
    })
}

fn of_query(request: &Received, signature: &str) -> Result<Claimed, Fault> {
    let field = |name: &str| {
        let missing = || {
            Fault::Incomplete(format!(
                "AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."
            ))
        };
        request.query(name).map(str::to_owned).ok_or_else(missing)
    };
    if field("X-Amz-Algorithm")? != ALGORITHM {
        return Err(Fault::Incomplete(format!(
            "X-Amz-Algorithm only supports \"{ALGORITHM}\""
        )));
    }
    field("X-Amz-Expires")?;
    let (access_key, scope) = split_credential(&field("X-Amz-Credential")?)?;
    Ok(Claimed {
        access_key,
        scope,
        date: field("X-Amz-Date")?,
        signed_headers: names(&field("X-Amz-SignedHeaders")?),
        signature: signature.to_owned(),
        token: request.query("X-Amz-Security-Token").map(str::to_owned),
        life: PRESIGNED_LIFE,
    })
}

fn names(list: &str) -> Vec<String> {
    list.split(';').map(str::to_owned).collect()
}

fn split_credential(credential: &str) -> Result<(String, String), Fault> {
    let split = credential.split_once('/');
    let (key, scope) = split.ok_or_else(|| Fault::Incomplete(format!("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'")))?;
    Ok((key.to_owned(), scope.to_owned()))
}

fn parts(scope: &str) -> Result<(&str, &str, &str), Fault> {
    match scope.split('/').collect::<Vec<_>>().as_slice() {
        [date, region, service, "aws4_request"] => Ok((date, region, service)),
        _ => Err(Fault::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got scope '{scope}'"
        ))),
    }
}

fn check_time(claimed: &Claimed, now: i64) -> Result<(), Fault> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", &claimed.date);
    let date = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC));
    let Ok(date) = date else {
        return Err(Fault::Incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{}'.",
            claimed.date
        )));
    };
    let signed = date.timestamp().as_second();
    let basic = |second: i64| formatted(second, "%Y%m%dT%H%M%SZ");
    let (minutes, date) = (claimed.life / 60, &claimed.date);
    if signed < now - claimed.life {
        let limit = basic(now - claimed.life);
        return Err(mismatch(&format!(
            "Signature expired: {date} is now earlier than {limit} ({} - {minutes} min.)",
            basic(now)
        )));
    }
    if signed > now + TOLERANCE {
        let limit = basic(now + TOLERANCE);
        return Err(mismatch(&format!(
            "Signature not yet current: {date} is still later than {limit} ({} + 5 min.)",
            basic(now)
        )));
    }
    Ok(())
}

/// Host and everything of AWS's own has to be covered.
fn check_headers(request: &Received, claimed: &Claimed) -> Result<(), Fault> {
    let is_signed = |name: &str| claimed.signed_headers.iter().any(|signed| signed == name);
    if !is_signed("host") {
        return Err(mismatch(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        ));
    }
    for name in request
        .headers
        .keys()
        .filter(|name| name.starts_with("x-amz-"))
    {
        if !is_signed(name) {
            return Err(mismatch(&format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    Ok(())
}

fn canonical_request(request: &Received, signed_headers: &[String]) -> String {
    let mut lines = vec![
        request.method.clone(),
        // Every service but S3 encodes the path, which is encoded already, once more.
        encode(&request.path, "/"),
        canonical_query(&request.raw_query),
    ];
    for name in signed_headers {
        let value = request.header(name).unwrap_or_default();
        let value: Vec<&str> = value.split_whitespace().collect();
        lines.push(format!("{name}:{}", value.join(" ")));
    }
    lines.push(String::new());
    lines.push(signed_headers.join(";"));
    lines.push(hex(digest::digest(&digest::SHA256, &request.body).as_ref()));
    lines.join("\n")
}

fn canonical_query(raw: &str) -> String {
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(&decode(name), ""), encode(&decode(value), ""))
        })
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Percent-encodes all but unreserved characters and those that are kept.
fn encode(text: &str, kept: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let character = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(character) || kept.contains(character) {
            encoded.push(character);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Undoes percent-encoding; a plus sign is a plus sign.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (
            first,
            digits.and_then(|two| u8::from_str_radix(two, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn string_to_sign(date: &str, scope: &str, canonical: &str) -> String {
    let hash = digest::digest(&digest::SHA256, canonical.as_bytes());
    format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(hash.as_ref()))
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let seed = format!("AWS4{secret}").into_bytes();
    let words = [date, region, service, "aws4_request"];
    words.iter().fold(seed, |key, word| mac(&key, word))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn sign(key: &[u8], text: &str) -> String {
    hex(&mac(key, text))
}

/// Signs a request as a client does, for tests of the services.
#[cfg(test)]
pub(super) fn signed(request: Received, session: &Session, scope: &str, now: i64) -> Received {
    let date = formatted(now, "%Y%m%dT%H%M%SZ");
    let request = request
        .with_header("x-amz-date", &date)
        .with_header("x-amz-security-token", &session.token);
    let names: Vec<String> = request.headers.keys().cloned().collect();
    let (day, rest) = (&date[..8], scope);
    let scope = format!("{day}/{rest}/aws4_request");
    let (_, region, service) = parts(&scope).expect("a scope");
    let key = signing_key(&session.secret, day, region, service);
    let text = string_to_sign(&date, &scope, &canonical_request(&request, &names));
    let header = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
        session.access_key,
        names.join(";"),
        sign(&key, &text)
    );
    request.with_header("authorization", &header)
}

/// Presigns a request with these headers, as a client does. Returns its URL.
pub(super) fn presigned(
    url: &str,
    headers: &[(&str, &str)],
    session: &Session,
    scope: &str,
    now: i64,
) -> String {
    let date = formatted(now, "%Y%m%dT%H%M%SZ");
    let day = &date[..8];
    let scope = format!("{day}/{scope}/aws4_request");
    let mut names: Vec<String> = headers.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.push("host".to_owned());
    names.sort();
    let mut url: Url = url.parse().expect("a URL");
    url.query_pairs_mut()
        .append_pair("X-Amz-Algorithm", ALGORITHM)
        .append_pair(
            "X-Amz-Credential",
            &format!("{}/{scope}", session.access_key),
        )
        .append_pair("X-Amz-Date", &date)
        .append_pair("X-Amz-Expires", "60")
        .append_pair("X-Amz-Security-Token", &session.token)
        .append_pair("X-Amz-SignedHeaders", &names.join(";"));
    let mut request = Received {
        method: "GET".to_owned(),
        path: url.path().to_owned(),
        query: Vec::new(),
        raw_query: url.query().unwrap_or_default().to_owned(),
        headers: [("host".to_owned(), url.authority().to_owned())].into(),
        body: Bytes::new(),
        base_url: String::new(),
    };
    for (name, value) in headers {
        request
            .headers
            .insert((*name).to_owned(), (*value).to_owned());
    }
    let (_, region, service) = parts(&scope).expect("a scope");
    let key = signing_key(&session.secret, day, region, service);
    let text = string_to_sign(&date, &scope, &canonical_request(&request, &names));
    url.query_pairs_mut()
        .append_pair("X-Amz-Signature", &sign(&key, &text));
    url.into()
}

#[cfg(test)]
mod tests;
