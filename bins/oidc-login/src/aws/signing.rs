//! Signature Version 4, by AWS's own crate: which request is signed for which service, as what, and when.
//! It refuses to send anything.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningError, SigningInstructions,
    SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use jiff::Timestamp;
use switchyard_http::{DisplaySafeUrl, HeaderName, HeaderValue, Method, Request};
use switchyard_runner::Secret;

use super::names::Region;

/// What a session signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) access_key: String,
    pub(crate) secret: Secret,
    pub(crate) token: Secret,
}

/// For whom and when something is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) region: &'a Region,
    /// Its name in signatures.
    pub(crate) service: &'static str,
    /// By AWS's clock.
    pub(crate) at: Timestamp,
}

/// A request before it is signed.
#[derive(Debug)]
pub(crate) struct Unsigned<'a> {
    pub(crate) method: Method,
    pub(crate) url: DisplaySafeUrl,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: String,
}

/// Why nothing was signed. Never holds a key.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed: {0}")]
pub(crate) struct NotSigned(String);

impl From<SigningError> for NotSigned {
    fn from(cause: SigningError) -> Self {
        Self(cause.to_string())
    }
}

/// A request whose headers say who sends it.
///
/// # Errors
/// When it is none that can be signed.
pub(crate) fn signed(
    unsigned: Unsigned<'_>,
    keys: &Keys,
    scope: Scope<'_>,
) -> Result<Request, NotSigned> {
    let body = SignableBody::Bytes(unsigned.body.as_bytes());
    let settings = SigningSettings::default();
    let (signing, _) = instructions(&unsigned, body, keys, scope, settings)?.into_parts();
    let mut request = Request::new(unsigned.method, unsigned.url)
        .redact(keys.secret.expose())
        .redact(keys.token.expose());
    let given = unsigned.headers.iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value);
        (*name, value)
    });
    let signing = signing.iter().map(|header| {
        let value = HeaderValue::from_str(header.value()).map(|mut value| {
            value.set_sensitive(header.sensitive() || header.name() == "authorization");
            value
        });
        (header.name(), value)
    });
    for (name, value) in given.chain(signing) {
        let value = value.map_err(|_| NotSigned(format!("header `{name}` holds no text")))?;
        request = request.header(HeaderName::from_static(name), value);
    }
    Ok(request.body(unsigned.body))
}

/// A URL that says by itself who asks, for somebody else to ask it within `life`.
///
/// # Errors
/// When it is none that can be signed.
pub(crate) fn presigned(
    unsigned: &Unsigned<'_>,
    keys: &Keys,
    scope: Scope<'_>,
    life: Duration,
) -> Result<Secret, NotSigned> {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(life);
    let body = SignableBody::Bytes(unsigned.body.as_bytes());
    let instructions = instructions(unsigned, body, keys, scope, settings)?;
    let parameters = instructions.params().iter();
    let pairs = parameters.map(|(name, value)| (*name, &**value));
    let url = unsigned.url.with_query(pairs);
    Ok(Secret::new(url.expose().as_str()))
}

fn instructions(
    unsigned: &Unsigned<'_>,
    body: SignableBody<'_>,
    keys: &Keys,
    scope: Scope<'_>,
    settings: SigningSettings,
) -> Result<SigningInstructions, NotSigned> {
    let (secret, token) = (keys.secret.expose(), keys.token.expose());
    let identity = Credentials::from_keys(&keys.access_key, secret, Some(token.to_owned())).into();
    let region = scope.region.to_string();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name(scope.service)
        .time(SystemTime::from(scope.at))
        .settings(settings)
        .build()
        .map_err(|cause| NotSigned(cause.to_string()))?
        .into();
    let url = unsigned.url.expose();
    let headers = unsigned.headers.iter().copied();
    let request = SignableRequest::new(unsigned.method.as_str(), url.as_str(), headers, body)?;
    Ok(sign(request, &parameters)?.into_parts().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            token: Secret::new("hunter2"),
        }
    }

    fn unsigned(url: &str) -> Unsigned<'static> {
        Unsigned {
            method: Method::GET,
            url: DisplaySafeUrl::parse(url).unwrap(),
            headers: &[("x-k8s-aws-id", "shop")],
            body: String::new(),
        }
    }

    fn scope(region: &Region) -> Scope<'_> {
        Scope {
            region,
            service: "sts",
            at: "2015-08-30T12:36:00Z".parse().unwrap(),
        }
    }

    /// AWS's own examples: <https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4>
    #[test]
    fn the_published_request_of_a_session_has_the_published_signature() {
        let region = "us-east-1".parse().unwrap();
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let keys = Keys {
            token: Secret::new(token),
            ..keys()
        };
        let asked = Unsigned {
            method: Method::POST,
            headers: &[],
            ..unsigned("https://example.amazonaws.com/")
        };
        let scope = Scope {
            service: "service",
            ..scope(&region)
        };
        let body = SignableBody::Bytes(b"");
        let signed = instructions(&asked, body, &keys, scope, SigningSettings::default());
        let (headers, _) = signed.unwrap().into_parts();
        let mut headers = headers.iter();
        let found = headers.find(|header| header.name() == "authorization");
        assert_eq!(
            found.unwrap().value(),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        );
    }

    #[test]
    fn a_presigned_url_names_its_scope_life_and_headers() {
        let region = "us-east-1".parse().unwrap();
        let life = Duration::from_secs(60);
        let asked = unsigned("https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity");
        let url = presigned(&asked, &keys(), scope(&region), life).unwrap();
        for part in [
            "?Action=GetCallerIdentity&X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fsts%2Faws4_request",
            "X-Amz-Date=20150830T123600Z",
            "X-Amz-Expires=60",
            "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id",
            "X-Amz-Security-Token=hunter2",
        ] {
            assert!(
                url.expose().contains(part),
                "{part} is not in {}",
                url.expose()
            );
        }
    }

    #[test]
    fn no_key_can_be_printed_with_what_it_signed() {
        let region = "us-east-1".parse().unwrap();
        let request = unsigned("https://eks.us-east-1.amazonaws.com/clusters/shop");
        let request = signed(request, &keys(), scope(&region)).unwrap();
        let shown = format!("{:?} {request:?}", keys());
        assert!(!shown.contains("wJalr"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
