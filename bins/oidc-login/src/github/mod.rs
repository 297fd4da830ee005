//! GitHub's side of a login: how a job asks for a token, and what the token says.
//! It refuses to know who the token is shown to.

mod claims;
mod request;
mod subject;

pub(crate) use claims::{Claims, Jwt};
pub(crate) use request::{Fingerprint, RequestError, TokenSource, Unavailable};
pub(crate) use subject::{Repository, Subject, Suffix, with_colons};

#[cfg(test)]
pub(crate) use claims::tests::unsigned;
