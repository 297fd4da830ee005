//! From inputs to channels that are ready to send: everything is read, checked and rendered here,
//! before the first request. It sends nothing.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use switchyard_http::{Client, ClientSettings, DisplaySafeUrl, ProxySettings, Redaction};
use switchyard_runner::{Environment, Failure, Kind, Secret, inputs};

use crate::channel::{Channel, ChannelName};
use crate::channels::{github_issue, pagerduty, slack, slack_webhook, summary};
use crate::event::Event;
use crate::facts::Facts;
use crate::inputs::Notify;
use crate::markup::{Markup, one_line};
use crate::template::{Template, TemplateError, render};

/// Largest file taken as a template or as details, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Everything that one run of `notify` is going to do.
pub(crate) struct Plan {
    pub(crate) channels: Vec<(ChannelName, Box<dyn Channel>)>,
    pub(crate) required: Vec<ChannelName>,
    pub(crate) timeout: Duration,
    pub(crate) is_dry_run: bool,
}

/// What every channel is made from.
pub(crate) struct Ingredients<'a> {
    pub(crate) inputs: &'a Notify,
    pub(crate) environment: &'a Environment,
    pub(crate) facts: &'a Facts,
    /// Plain text in one line, without secrets.
    pub(crate) title: &'a str,
    /// The template of the body, where it is the user's own.
    pub(crate) template: Option<Template<'a>>,
    /// Made when the first channel asks for it: a step summary needs no certificates.
    client: OnceCell<Client>,
    pub(crate) redaction: &'a Redaction,
}

impl Plan {
    /// Checks the inputs and renders every message.
    ///
    /// # Errors
    /// [`Kind::Input`] for anything missing or unusable; nothing was sent then.
    pub(crate) fn new(inputs: Notify, environment: &Environment) -> Result<Self, Failure> {
        let mut names: Vec<ChannelName> = Vec::new();
        for name in inputs.channels.iter() {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        if names.is_empty() {
            return Err(refused("input `channels` is required")
                .hint("for example `slack-webhook, summary`"));
        }
        if let Some(name) = inputs.required.iter().find(|name| !names.contains(name)) {
            return Err(refused(format!(
                "input `required` names `{name}`, which is not one of `channels`"
            )));
        }
        if inputs.timeout.is_zero() {
            return Err(refused("input `timeout` is `0`")
                .hint("give the channels some time, such as `30s`"));
        }
        let redaction = redaction(&inputs);
        let facts = facts(&inputs, environment, &redaction)?;
        let own_template = own_template(&inputs)?;
        let template = own_template
            .as_ref()
            .map(|(input, text)| Template { input, text });
        let title = title(&inputs, &facts, &redaction)?;
        let ingredients = Ingredients {
            inputs: &inputs,
            environment,
            facts: &facts,
            title: &title,
            template,
            client: OnceCell::new(),
            redaction: &redaction,
        };
        let mut channels = Vec::new();
        for name in names {
            channels.push((name, channel(name, &ingredients)?));
        }
        Ok(Self {
            channels,
            required: inputs.required.iter().copied().collect(),
            timeout: inputs.timeout,
            is_dry_run: inputs.dry_run,
        })
    }
}

fn channel(name: ChannelName, ingredients: &Ingredients<'_>) -> Result<Box<dyn Channel>, Failure> {
    Ok(match name {
        ChannelName::SlackWebhook => Box::new(slack_webhook::SlackWebhook::new(ingredients)?),
        ChannelName::Slack => Box::new(slack::Slack::new(ingredients)?),
        ChannelName::GithubIssue => Box::new(github_issue::GitHubIssue::new(ingredients)?),
        ChannelName::Pagerduty => Box::new(pagerduty::PagerDuty::new(ingredients)?),
        ChannelName::Summary => Box::new(summary::StepSummary::new(ingredients)?),
    })
}

impl Ingredients<'_> {
    /// The body of the message in a markup, without secrets: by the user's template, else the built-in one.
    pub(crate) fn body(&self, markup: Markup) -> Result<String, Failure> {
        let built_in = Template {
            input: "template",
            text: self.inputs.event.template(),
        };
        let template = self.template.unwrap_or(built_in);
        let body = render(template, self.inputs.event, self.facts, markup, self.title)
            .map_err(unusable)?;
        if body.is_empty() && self.template.is_some() {
            return Err(refused(format!(
                "input `{}` renders to nothing",
                template.input
            )));
        }
        Ok(self.redaction.apply(&body))
    }

    /// The client that all channels share.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        match self.client.get() {
            Some(client) => Ok(client.clone()),
            None => {
                let client = client(self.inputs, self.environment)?;
                Ok(self.client.get_or_init(|| client).clone())
            }
        }
    }

    /// Whether the message is the built-in one, which leaves room for a headline of the channel's.
    pub(crate) fn is_built_in(&self) -> bool {
        self.template.is_none()
    }

    /// A secret that a channel cannot do without, except when nothing is sent.
    pub(crate) fn secret(
        &self,
        channel: ChannelName,
        input: &'static str,
        given: Option<&Secret>,
    ) -> Result<Secret, Failure> {
        match given {
            Some(secret) if secret.expose().chars().all(|c| c.is_ascii_graphic()) => Ok(secret.clone()),
            Some(_) => Err(refused(format!("input `{input}` holds characters that no credential has, such as a space or a line break"))
                .hint("was the secret stored with quotes or in several lines?")),
            None if self.inputs.dry_run => Ok(Secret::new("")),
            None => Err(refused(format!("channel `{channel}` needs input `{input}`"))
                .hint(format!("it is empty: is the secret set for this environment, and passed to a called workflow? ({})", inputs::variable(input)))),
        }
    }

    /// A base URL given by an input; the value is not repeated in the error.
    pub(crate) fn base_url(
        &self,
        input: &'static str,
        text: &str,
    ) -> Result<DisplaySafeUrl, Failure> {
        DisplaySafeUrl::parse(text).map_err(|cause| {
            refused(format!("input `{input}` cannot be used: {cause}"))
                .hint("it is a URL such as `https://host/path`")
        })
    }
}

/// A refusal of an input.
pub(crate) fn refused(text: impl std::fmt::Display) -> Failure {
    Failure::message(Kind::Input, text)
}

fn unusable(error: TemplateError) -> Failure {
    let hint = error.hint();
    Failure::input(error).hint(hint)
}

/// Every secret given, so that no message, error or log holds one even where a fact repeats it.
fn redaction(inputs: &Notify) -> Redaction {
    let mut redaction = Redaction::default();
    let secrets = [
        &inputs.slack_webhook_url,
        &inputs.slack_token,
        &inputs.github_token,
        &inputs.pagerduty_routing_key,
    ];
    for secret in secrets.into_iter().flatten() {
        redaction.add(secret.expose());
    }
    if let Some(Ok(url)) = inputs
        .slack_webhook_url
        .as_ref()
        .map(|url| DisplaySafeUrl::webhook(url.expose()))
    {
        redaction.add(url.expose().path());
        redaction.add(url.expose().path().rsplit('/').next().unwrap_or_default());
    }
    redaction
}

fn client(inputs: &Notify, environment: &Environment) -> Result<Client, Failure> {
    let settings = ClientSettings {
        connect_timeout: inputs.timeout.min(Duration::from_secs(10)),
        attempt_timeout: inputs.timeout,
        total_timeout: inputs.timeout,
        extra_ca: inputs.extra_ca.clone(),
        proxy: ProxySettings::from_lookup(|name| environment.get(name).map(str::to_owned)),
        ..ClientSettings::new("switchyard-notify", env!("CARGO_PKG_VERSION"))
    };
    Client::new(&settings).map_err(|cause| {
        Failure::input(cause)
            .hint("see input `extra-ca` and the variables HTTPS_PROXY and SSL_CERT_FILE")
    })
}

fn facts(
    inputs: &Notify,
    environment: &Environment,
    redaction: &Redaction,
) -> Result<Facts, Failure> {
    let run = environment.workflow_run();
    let given = |input: &Option<String>| input.as_deref().map(|text| redaction.apply(text));
    let commit = given(&inputs.commit).or(run.sha.clone());
    let is_hash =
        |commit: &&String| commit.len() >= 7 && commit.chars().all(|c| c.is_ascii_hexdigit());
    let commit_url = run.repository.as_ref().zip(commit.as_ref().filter(is_hash));
    let parts = [
        run.repository.as_ref(),
        run.run_id.as_ref(),
        inputs.environment.as_ref(),
        inputs.application.as_ref(),
    ];
    let own_id: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    let own_id = (!own_id.is_empty()).then(|| own_id.join("/"));
    let details = inputs
        .details_file
        .as_deref()
        .map(|path| read("details-file", path))
        .transpose()?;
    Ok(Facts {
        application: given(&inputs.application),
        environment: given(&inputs.environment),
        deployment_id: given(&inputs.deployment_id).or(own_id),
        version: given(&inputs.version),
        image: given(&inputs.image),
        commit_url: commit_url
            .map(|(repository, commit)| format!("{}/{repository}/commit/{commit}", run.server_url)),
        commit,
        deployer: given(&inputs.deployer).or(run.actor.clone()),
        url: given(&inputs.url),
        workflow_url: given(&inputs.workflow_url).or(run.url()),
        error: given(&inputs.error),
        rollback_status: given(&inputs.rollback_status),
        on_call: given(&inputs.on_call),
        details: details.map(|text| redaction.apply(&text)),
        repository: run.repository,
        run_id: run.run_id,
        attempt: run.attempt,
    })
}

fn own_template(inputs: &Notify) -> Result<Option<(&'static str, String)>, Failure> {
    match (&inputs.template, &inputs.template_file) {
        (Some(_), Some(_)) => Err(
            refused("inputs `template` and `template-file` are both given")
                .hint("give one of them"),
        ),
        (Some(text), None) => Ok(Some(("template", text.clone()))),
        (None, Some(path)) => Ok(Some(("template-file", read("template-file", path)?))),
        (None, None) => Ok(None),
    }
}

fn title(inputs: &Notify, facts: &Facts, redaction: &Redaction) -> Result<String, Failure> {
    let built_in = inputs.event.title(facts);
    let Some(text) = &inputs.title else {
        return Ok(one_line(&built_in));
    };
    let template = Template {
        input: "title",
        text,
    };
    let title =
        render(template, inputs.event, facts, Markup::Plain, &built_in).map_err(unusable)?;
    let title = redaction.apply(&one_line(&title));
    if title.is_empty() {
        return Err(refused("input `title` renders to nothing"));
    }
    Ok(title)
}

fn read(input: &str, path: &Path) -> Result<String, Failure> {
    let failed = |cause: std::io::Error| {
        let text = format!("input `{input}`: cannot read `{}`", path.display());
        Failure::input(anyhow::Error::new(cause).context(text))
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST_FILE {
        let text = format!(
            "input `{input}`: `{}` has {length} bytes, more than {LARGEST_FILE}",
            path.display()
        );
        return Err(refused(text).hint("no channel takes that much; give the part that matters"));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Event {
    /// Key and word of the event for what must be the same over repeats of one attempt.
    pub(crate) fn key(self, facts: &Facts) -> String {
        format!(
            "{}/{}/{}",
            facts.deployment_id.as_deref().unwrap_or_default(),
            self.name(),
            facts.attempt
        )
    }
}
