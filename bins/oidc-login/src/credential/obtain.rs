//! Gets a token by its recipe, whatever may be kept.

use jiff::Timestamp;
use switchyard_runner::Failure;

use super::recipe::Recipe;
use super::token::Token;
use crate::explain::Expectations;
use crate::github::Claims;
use crate::session::{Session, not_given};
use crate::{aws, azure};

/// A token, and what the token of GitHub's said that it was just got with.
#[derive(Debug, Clone)]
pub(crate) struct Obtained {
    pub(crate) token: Token,
    /// `None` where no token of GitHub's was needed for it.
    pub(crate) claims: Option<Claims>,
}

impl Obtained {
    /// One that was there already.
    pub(super) fn kept(token: Token) -> Self {
        Self {
            token,
            claims: None,
        }
    }
}

/// Gets a fresh token.
///
/// # Errors
/// When GitHub or the cloud gives none; a refusal is explained in the log first.
pub(crate) async fn obtain(
    recipe: &Recipe,
    session: &Session,
    expectations: &Expectations,
) -> Result<Obtained, Failure> {
    match recipe {
        Recipe::Azure(entra) => {
            let exchanged = azure::exchange(session, entra).await;
            exchanged.map_err(|refused| refused.into_failure(session, expectations))
        }
        Recipe::Aws(eks) => aws::cluster_token(session, eks, expectations).await,
        Recipe::Github(github) => {
            let since = Timestamp::now();
            let jwt = session.jwt(&github.audience).await.map_err(not_given)?;
            let claims = jwt.claims().clone();
            let token = Token::new(jwt.token().clone(), since, claims.lifetime());
            Ok(Obtained {
                token,
                claims: Some(claims),
            })
        }
    }
}
