//! Answers in the XML of AWS's query services.

use super::sigv4::Fault;
use crate::standins::{random::uuid, server::Answer};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// An element with text in it.
pub(super) fn element(name: &str, text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("<{name}>{escaped}</{name}>")
}

/// The answer of an action.
pub(super) fn response(action: &str, result: &str) -> Answer {
    let id = element("RequestId", &uuid());
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\">\n  <{action}Result>{result}</{action}Result>\n  \
         <ResponseMetadata>{id}</ResponseMetadata>\n</{action}Response>\n"
    );
    answer(200, body)
}

/// A refusal.
pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    let (code, message) = (element("Code", code), element("Message", message));
    let id = element("RequestId", &uuid());
    let body = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>Sender</Type>\n    {code}\n    \
         {message}\n  </Error>\n  {id}\n</ErrorResponse>\n"
    );
    answer(status, body)
}

/// A refused signature.
pub(super) fn refused(fault: &Fault) -> Answer {
    match fault {
        Fault::Missing => error(
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        ),
        Fault::Incomplete(words) => error(400, "IncompleteSignature", words),
        Fault::UnknownToken => error(
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        ),
        Fault::ExpiredToken => error(
            403,
            "ExpiredToken",
            "The security token included in the request is expired",
        ),
        Fault::Mismatch(words) => error(403, "SignatureDoesNotMatch", words),
    }
}

fn answer(status: u16, body: String) -> Answer {
    Answer::text(status, body).with_header("content-type", "text/xml")
}
