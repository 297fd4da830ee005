//! A session's keys in the environment of all later steps, for who asked for just that.

use std::path::{Path, PathBuf};

use switchyard_runner::{Context, Failure, Kind, Secret, file_command};

use super::names::Region;
use super::sts::RoleSession;
use crate::session::Session;

/// The runner's file of variables for the later steps.
pub(crate) struct LaterSteps {
    path: PathBuf,
}

impl LaterSteps {
    /// Finds the file.
    ///
    /// # Errors
    /// Of kind input where no runner reads one.
    pub(crate) fn of(context: &Context) -> Result<Self, Failure> {
        let path = context.environment.get("GITHUB_ENV").map(PathBuf::from);
        let path = path.ok_or_else(|| {
            let text = "input `export-credentials` is `true`, and GITHUB_ENV is not set";
            Failure::message(Kind::Input, text)
                .hint("there are no later steps here; input `profile` serves other programs")
        })?;
        Ok(Self { path })
    }

    /// Puts the keys into the later steps' environment. What is secret of them was masked when they came; the name
    /// of the key, which opens nothing by itself, is masked here.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn are_given(
        &self,
        session: &Session,
        role_session: &RoleSession,
        region: &Region,
    ) -> Result<(), Failure> {
        let keys = &role_session.keys;
        session.mask(&Secret::new(keys.access_key.clone()));
        let region = region.to_string();
        let variables = [
            ("AWS_ACCESS_KEY_ID", keys.access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret.expose()),
            ("AWS_SESSION_TOKEN", keys.token.expose()),
            ("AWS_REGION", &region),
            ("AWS_DEFAULT_REGION", &region),
        ];
        append(&self.path, &variables)?;
        session.progress(format!(
            "every later step of this job is `{}` until {}",
            role_session.arn,
            role_session.until.strftime("%H:%M:%SZ")
        ));
        Ok(())
    }
}

fn append(path: &Path, variables: &[(&str, &str)]) -> Result<(), Failure> {
    let mut text = String::new();
    for (name, value) in variables {
        let rendered = file_command::render(name, value, &file_command::delimiter());
        text += &rendered.map_err(|cause| Failure::bug(anyhow::anyhow!(cause)))?;
    }
    file_command::append(path, &text)
        .map_err(|cause| Failure::bug(anyhow::Error::new(cause).context("write GITHUB_ENV")))
}
