//! Whether an updated server is healthy: asked at its own address, past every load balancer.

use std::time::Duration;

use switchyard_http::{Client, HeaderName, Repeat, Request};
use switchyard_runner::values::show_duration;
use switchyard_runner::{Console, Failure, Kind};
use switchyard_servers::plan::Task;
use tokio::time::Instant;

use super::inputs::{HealthUrl, ServersInputs};

/// Most time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What makes a server healthy.
#[derive(Debug)]
pub(super) struct Health<'run> {
    url: &'run HealthUrl,
    successes: u32,
    interval: Duration,
    version_header: &'run HeaderName,
    version: Option<&'run str>,
    limit: Duration,
}

impl<'run> Health<'run> {
    pub(super) fn of(inputs: &'run ServersInputs) -> Self {
        Self {
            url: &inputs.health_url,
            successes: inputs.health_successes,
            interval: inputs.health_interval,
            version_header: &inputs.version_header,
            version: inputs.expect_version.as_deref(),
            limit: inputs.timeout,
        }
    }

    /// Asks until so many answers in a row were good.
    ///
    /// # Errors
    /// They were not, within the limit.
    pub(super) async fn wait(
        &self,
        task: &Task,
        client: &Client,
        console: &Console,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + self.limit;
        let url = self.url.of(&task.address).ok_or_else(|| {
            let text = format!("`health-url` with host `{}` is no URL", task.address.host);
            Failure::message(Kind::Input, text)
        })?;
        let shown = url.to_string();
        let mut in_a_row = 0;
        let mut told = String::new();
        while in_a_row < self.successes {
            let request = Request::get(url.clone())
                .repeat(Repeat::Never)
                .within(ANSWER_LIMIT)
                .attempt_within(ANSWER_LIMIT);
            let answer = client.send(&request).await.map_err(anyhow::Error::new);
            let seen = match answer {
                Ok(answer) => self.judge(&answer),
                Err(error) => Err(format!("{error:#}")),
            };
            match seen {
                Ok(()) => in_a_row += 1,
                Err(why) => {
                    in_a_row = 0;
                    if why != told {
                        console.progress(format_args!("{}: not healthy yet: {why}", task.name));
                        told = why;
                    }
                }
            }
            if in_a_row == self.successes {
                break;
            }
            if Instant::now() + self.interval > deadline {
                let seen = if told.is_empty() {
                    "too few good answers"
                } else {
                    told.as_str()
                };
                let text = format!(
                    "`{}` is not healthy at {shown} within {}: {seen}",
                    task.name,
                    show_duration(self.limit)
                );
                return Err(Failure::message(Kind::Gate, text)
                    .hint("it stays out of the traffic; repair it, then run this again: it goes on with this server"));
            }
            tokio::time::sleep(self.interval).await;
        }
        console.progress(format_args!(
            "{}: healthy, {} good answers in a row",
            task.name, in_a_row
        ));
        Ok(())
    }

    fn judge(&self, answer: &switchyard_http::Response) -> Result<(), String> {
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let Some(expected) = self.version else {
            return Ok(());
        };
        let header = answer.headers().get(self.version_header);
        match header.map(|value| String::from_utf8_lossy(value.as_bytes())) {
            Some(version) if version == expected => Ok(()),
            Some(version) => Err(format!(
                "it answers with version `{}`, not `{expected}`",
                answer.displayable(&version)
            )),
            None => Err(format!(
                "it answers without header `{}`",
                self.version_header
            )),
        }
    }
}
