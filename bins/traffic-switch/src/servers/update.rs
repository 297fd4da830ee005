//! How one server is updated: a command of the user's, or a URL of theirs.

use std::time::Duration;

use serde_json::json;
use switchyard_http::{Client, Error, Repeat, Request};
use switchyard_runner::child::{Child, ChildResult};
use switchyard_runner::{Context, Environment, Failure, Kind, Secret, values};
use switchyard_servers::plan::Task;

use super::inputs::{ServersInputs, WebhookUrl};
use super::state_file::digest;

/// What updates a server.
#[derive(Debug, Clone)]
pub(super) struct Update {
    means: Means,
    backend: String,
    version: Option<String>,
    limit: Duration,
    /// Whether children run beside each other, so that their output is shown afterwards.
    is_batched: bool,
}

#[derive(Debug, Clone)]
enum Means {
    Command(String),
    Webhook {
        url: WebhookUrl,
        token: Option<Secret>,
    },
}

impl Update {
    /// What the inputs say.
    ///
    /// # Errors
    /// They say nothing, or two things.
    pub(super) fn of(inputs: &ServersInputs) -> Result<Self, Failure> {
        let bad = |text: &str| {
            Err(Failure::message(Kind::Input, text)
                .hint("give either `update`, a script, or `update-url`, which is posted to for each server"))
        };
        let means = match (&inputs.update, &inputs.update_url) {
            (Some(script), None) => Means::Command(script.clone()),
            (None, Some(url)) => Means::Webhook {
                url: url.clone(),
                token: inputs.update_token.clone(),
            },
            (Some(_), Some(_)) => {
                return bad("inputs `update` and `update-url` exclude each other");
            }
            (None, None) => return bad("inputs `update` and `update-url` are both empty"),
        };
        if matches!(means, Means::Command(_)) && inputs.update_token.is_some() {
            return bad("input `update-token` is for `update-url`, which is empty");
        }
        Ok(Self {
            means,
            backend: inputs.backend.to_string(),
            version: inputs.expect_version.clone(),
            limit: inputs.update_timeout,
            is_batched: inputs.batch > 1,
        })
    }

    /// Which update it is: a re-run of the same run with the same command goes on with it.
    pub(super) fn id(&self, environment: &Environment, version: Option<&str>) -> String {
        let run = environment.workflow_run();
        let run = match (run.repository, run.run_id) {
            (Some(repository), Some(id)) => format!("{repository}/{id}"),
            (Some(_), None) | (None, _) => "local".to_owned(),
        };
        let what = match &self.means {
            Means::Command(script) => script.clone(),
            Means::Webhook { url, .. } => url.0.to_string(),
        };
        format!(
            "{run}/{}",
            digest(&format!("{what}\n{}", version.unwrap_or_default()))
        )
    }

    /// Updates a server.
    ///
    /// # Errors
    /// It failed, took too long, or was cancelled: what runs on the server is unknown.
    pub(super) async fn run(
        &self,
        task: &Task,
        context: &Context,
        client: &Client,
    ) -> Result<(), Failure> {
        match &self.means {
            Means::Command(script) => self.command(script, task, context).await,
            Means::Webhook { url, token } => {
                let posted = self.post(url, token.as_ref(), task, client);
                tokio::select! {
                    posted = posted => posted,
                    signal = context.cancel.cancelled() => Err(Failure::message(
                        Kind::Cancelled(signal),
                        format!("{} came while `{}` was being updated", signal.name(), task.name),
                    )),
                }
            }
        }
    }

    async fn command(&self, script: &str, task: &Task, context: &Context) -> Result<(), Failure> {
        let mut child = Child::script(script, self.limit)
            .variable("SERVER_NAME", &task.name)
            .variable("SERVER_ADDRESS", task.address.to_string())
            .variable("SERVER_HOST", &task.address.host)
            .variable("SERVER_PORT", task.address.port.to_string())
            .variable("SERVER_BACKEND", &self.backend);
        if let Some(version) = &self.version {
            child = child.variable("EXPECT_VERSION", version);
        }
        let (environment, cancel) = (&context.environment, &context.cancel);
        let ended = if self.is_batched {
            let (ended, output) = child.keep(environment, cancel).await?;
            let lines: Vec<String> = output.lines.into();
            let title = format!("update of {}", task.name);
            context.console.untrusted(title, &lines.join("\n"));
            ended
        } else {
            child.run(environment, &context.console, cancel).await?
        };
        let how = match ended.result {
            ChildResult::Exited(0) => return Ok(()),
            ChildResult::Exited(code) => format!("ended with exit code {code}"),
            ChildResult::Killed => "was killed".to_owned(),
            ChildResult::TimedOut(limit) => format!(
                "was still running after {} and was ended",
                values::show_duration(limit)
            ),
        };
        let text = format!("the update of `{}` ({}) {how}", task.name, task.address);
        Err(Failure::message(Kind::Gate, text)
            .hint("its output is in the log; `update` may be run again for this server"))
    }

    async fn post(
        &self,
        url: &WebhookUrl,
        token: Option<&Secret>,
        task: &Task,
        client: &Client,
    ) -> Result<(), Failure> {
        let document = json!({
            "server": task.name,
            "address": task.address.to_string(),
            "host": task.address.host,
            "port": task.address.port,
            "backend": self.backend,
            "version": self.version,
        });
        let mut request = Request::post_json(url.0.clone(), &document)
            .repeat(Repeat::Never)
            .within(self.limit)
            .attempt_within(self.limit);
        if let Some(token) = token {
            request = request.bearer(token.expose());
        }
        let answered = client
            .send(&request)
            .await
            .and_then(switchyard_http::Response::require_success);
        answered.map(|_| ()).map_err(|error| {
            let is_answer = matches!(error, Error::Status { .. });
            let text = format!(
                "the update of `{}` ({}) through `update-url`",
                task.name, task.address
            );
            let error = anyhow::Error::new(error).context(text);
            if is_answer {
                Failure::gate(error)
            } else {
                Failure::remote(error)
            }
        })
    }
}
