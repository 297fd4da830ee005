//! Channel `github-issue`: an issue of the repository, opened when a deployment fails and closed when
//! one succeeds. A hidden marker finds it again, so that a re-run comments instead of opening a second.

use octocrab::issues::IssueHandler;
use octocrab::models::IssueState;
use octocrab::models::issues::{Issue, IssueStateReason};
use octocrab::params::State;
use sha2::{Digest as _, Sha256};
use switchyard_http::{Client, DisplaySafeUrl};
use switchyard_runner::{Failure, Secret};

use super::github_transport::{LastError, octocrab};
use crate::channel::{Channel, ChannelName, Delivered, Delivery, Receipt, Undelivered};
use crate::cut::{self, Cut};
use crate::event::Event;
use crate::inputs::{IssueAction, Notify};
use crate::markup::Markup;
use crate::mention;
use crate::plan::{Ingredients, refused};

/// Most characters of a body and of a title, as GitHub's own refusals say.
const BODY: usize = 65_536;
const TITLE: usize = 256;
const LABEL: usize = 50;

/// Pages of 100 issues that are searched for the marker.
const PAGES: u32 = 10;

/// What happens to the issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// There shall be an open issue that says this.
    Open,
    /// Who follows the issue, if there is one, shall know this.
    Tell,
    /// As `Tell`, and the issue is done with.
    Close,
}

impl Wish {
    fn of(inputs: &Notify) -> Self {
        match (inputs.issue_action, inputs.event) {
            (IssueAction::Create, _) | (IssueAction::Auto, Event::Failure | Event::RolledBack) => {
                Self::Open
            }
            (IssueAction::Comment, _) | (IssueAction::Auto, Event::Started) => Self::Tell,
            (IssueAction::Close, _) | (IssueAction::Auto, Event::Success) => Self::Close,
        }
    }
}

/// A repository with something to say in its issues.
pub(crate) struct GitHubIssue {
    client: Client,
    api: DisplaySafeUrl,
    token: Secret,
    owner: String,
    name: String,
    label: String,
    wish: Wish,
    title: String,
    body: String,
    /// Finds the issue.
    marker: String,
    /// Finds this very notice.
    notice_marker: String,
    cuts: Vec<Cut>,
}

impl GitHubIssue {
    pub(crate) fn new(ingredients: &Ingredients<'_>) -> Result<Self, Failure> {
        let inputs = ingredients.inputs;
        let (owner, name) = repository(ingredients)?;
        let key = inputs
            .issue_key
            .clone()
            .or(ingredients.facts.deployment_id.clone());
        let key = key.ok_or_else(|| {
            refused("channel `github-issue` needs input `issue-key` or `deployment-id`")
                .hint("by it the issue is found again")
        })?;
        let label = inputs.issue_label.clone();
        if label.chars().count() > LABEL || label.contains(',') {
            return Err(
                refused(format!("input `issue-label` is `{label}`")).hint(format!(
                    "a label has at most {LABEL} characters and no comma"
                )),
            );
        }
        let api = inputs
            .github_api_url
            .as_deref()
            .or(ingredients.environment.get("GITHUB_API_URL"));
        let notice_marker = marker(
            "notice",
            &format!("{key}\n{}", inputs.event.key(ingredients.facts)),
        );
        let (title, title_cut) = cut::to_limit(ingredients.title, TITLE, "the issue's title");
        let text = text(ingredients)?;
        // The markers come first, where no cut reaches.
        let room = BODY - 300;
        let (body, body_cut) = cut::to_limit(&text, room, "the issue's text");
        Ok(Self {
            client: ingredients.client()?,
            api: ingredients.base_url("github-api-url", api.unwrap_or("https://api.github.com"))?,
            token: ingredients.secret(
                ChannelName::GithubIssue,
                "github-token",
                inputs.github_token.as_ref(),
            )?,
            owner,
            name,
            label,
            wish: Wish::of(inputs),
            title: title.replace('\n', " "),
            body: format!("{notice_marker}\n{body}"),
            marker: marker("issue", &key),
            notice_marker,
            cuts: title_cut.into_iter().chain(body_cut).collect(),
        })
    }

    async fn tell(&self) -> Result<Delivered, Undelivered> {
        let (octocrab, last_error) =
            octocrab(self.client.clone(), self.api.clone(), self.token.clone());
        let issues = octocrab.issues(&self.owner, &self.name);
        let session = Session {
            channel: self,
            issues: &issues,
            last_error,
        };
        match (self.wish, session.find().await?) {
            (Wish::Open, None) => session.create().await,
            (Wish::Open, Some(issue)) => session.reopen_and_comment(issue).await,
            (Wish::Tell | Wish::Close, None) => {
                Ok(Delivered::Skipped("there is no issue about it"))
            }
            (Wish::Tell | Wish::Close, Some(issue)) if issue.state == IssueState::Closed => {
                Ok(Delivered::Skipped("its issue is closed already"))
            }
            (Wish::Tell, Some(issue)) => session.comment(&issue, "commented on").await,
            (Wish::Close, Some(issue)) => session.comment_and_close(&issue).await,
        }
    }

    fn receipt(&self, done: &str, issue: &Issue) -> Delivered {
        Delivered::Sent(Receipt {
            done: format!("{done} issue #{}: {}", issue.number, issue.html_url),
            outputs: vec![
                ("issue-number", issue.number.to_string()),
                ("issue-url", issue.html_url.to_string()),
            ],
            cuts: self.cuts.clone(),
            ..Receipt::default()
        })
    }
}

impl Channel for GitHubIssue {
    fn preview(&self) -> String {
        format!("{}\n\n{}\n{}", self.title, self.marker, self.body)
    }

    fn deliver(&self) -> Delivery<'_> {
        Box::pin(self.tell())
    }
}

/// One delivery: octocrab's handler with what is needed to read its errors.
struct Session<'a> {
    channel: &'a GitHubIssue,
    issues: &'a IssueHandler<'a>,
    last_error: LastError,
}

impl Session<'_> {
    /// The issue with our marker, an open one first. Listed by label instead of searched: the search
    /// index lags behind by minutes, a list does not.
    async fn find(&self) -> Result<Option<Issue>, Undelivered> {
        let labels = [self.channel.label.clone()];
        let mut closed = None;
        for page in 1..=PAGES {
            let list = self
                .issues
                .list()
                .state(State::All)
                .labels(&labels)
                .per_page(100)
                .page(page);
            let found = list.send().await.map_err(|error| self.undelivered(error))?;
            let is_last = found.items.len() < 100;
            for issue in found.items {
                let is_ours = issue.pull_request.is_none()
                    && issue
                        .body
                        .as_ref()
                        .is_some_and(|body| body.contains(&self.channel.marker));
                if is_ours && issue.state == IssueState::Open {
                    return Ok(Some(issue));
                }
                if is_ours && closed.is_none() {
                    closed = Some(issue);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(closed)
    }

    async fn create(&self) -> Result<Delivered, Undelivered> {
        let channel = self.channel;
        let body = format!("{}\n{}", channel.marker, channel.body);
        let create = self
            .issues
            .create(&channel.title)
            .body(body)
            .labels(vec![channel.label.clone()]);
        match create.send().await.map_err(|error| self.undelivered(error)) {
            Ok(issue) => Ok(channel.receipt("opened", &issue)),
            Err(Undelivered::Http(error)) if error.is_ambiguous() => match self.find().await? {
                Some(issue) => Ok(channel.receipt("opened", &issue)),
                None => Err(self.unknown(error)),
            },
            Err(error) => Err(error),
        }
    }

    async fn reopen_and_comment(&self, issue: Issue) -> Result<Delivered, Undelivered> {
        if issue.state == IssueState::Open {
            return self.comment(&issue, "commented on").await;
        }
        let update = self
            .issues
            .update(issue.number)
            .state(IssueState::Open)
            .state_reason(IssueStateReason::Reopened);
        let issue = update
            .send()
            .await
            .map_err(|error| self.undelivered(error))?;
        self.comment(&issue, "reopened and commented on").await
    }

    async fn comment_and_close(&self, issue: &Issue) -> Result<Delivered, Undelivered> {
        self.comment(issue, "commented on").await?;
        let update = self
            .issues
            .update(issue.number)
            .state(IssueState::Closed)
            .state_reason(IssueStateReason::Completed);
        let issue = update
            .send()
            .await
            .map_err(|error| self.undelivered(error))?;
        Ok(self.channel.receipt("commented on and closed", &issue))
    }

    async fn comment(&self, issue: &Issue, done: &str) -> Result<Delivered, Undelivered> {
        if self.is_told(issue, issue.comments).await? {
            return Ok(self.channel.receipt("the notice stands already in", issue));
        }
        let commented = self
            .issues
            .create_comment(issue.number, &self.channel.body)
            .await;
        match commented.map_err(|error| self.undelivered(error)) {
            Ok(_) => Ok(self.channel.receipt(done, issue)),
            Err(Undelivered::Http(error)) if error.is_ambiguous() => {
                if self.is_told(issue, issue.comments + 1).await? {
                    Ok(self.channel.receipt(done, issue))
                } else {
                    Err(self.unknown(error))
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether this very notice is the issue's text or among the last of its `count` comments.
    async fn is_told(&self, issue: &Issue, count: u32) -> Result<bool, Undelivered> {
        let is_ours = |body: &Option<String>| {
            body.as_ref()
                .is_some_and(|body| body.contains(&self.channel.notice_marker))
        };
        if is_ours(&issue.body) {
            return Ok(true);
        }
        if count == 0 {
            return Ok(false);
        }
        let last_page = (count - 1) / 100 + 1;
        let list = self
            .issues
            .list_comments(issue.number)
            .per_page(100)
            .page(last_page);
        let found = list.send().await.map_err(|error| self.undelivered(error))?;
        Ok(found.items.iter().any(|comment| is_ours(&comment.body)))
    }

    fn unknown(&self, source: switchyard_http::Error) -> Undelivered {
        Undelivered::Unknown {
            service: "GitHub",
            hint: "run the step again: it finds by a marker what is there already, and repeats nothing",
            source,
        }
    }

    fn undelivered(&self, error: octocrab::Error) -> Undelivered {
        if let Some(error) = self.last_error.take() {
            return error.into();
        }
        let mut redaction = switchyard_http::Redaction::default();
        redaction.add(self.channel.token.expose());
        let (status, words) = if let octocrab::Error::GitHub { source, .. } = &error {
            (Some(source.status_code), refusal(source))
        } else {
            (
                None,
                format!("an answer that cannot be understood: {error}"),
            )
        };
        Undelivered::Refused {
            service: "GitHub",
            answer: crate::markup::one_line(&redaction.apply(&words)),
            hint: status.and_then(hint),
        }
    }
}

fn refusal(error: &octocrab::GitHubError) -> String {
    let details = error.errors.iter().flatten().filter_map(|detail| {
        let field = detail["field"].as_str().unwrap_or_default();
        detail["message"].as_str().map(str::to_owned).or_else(|| {
            detail["code"]
                .as_str()
                .map(|code| format!("{field} {code}"))
        })
    });
    let details: Vec<String> = details.collect();
    let details = if details.is_empty() {
        String::new()
    } else {
        format!(": {}", details.join("; "))
    };
    format!("{} ({}){details}", error.message, error.status_code)
}

fn hint(status: http::StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        401 => "input `github-token` is not valid any more",
        403 => "the job needs `permissions: issues: write`",
        404 => "input `repository` names no repository that the token can see",
        410 => "issues are switched off in this repository",
        _ => return None,
    })
}

fn repository(ingredients: &Ingredients<'_>) -> Result<(String, String), Failure> {
    let given = ingredients
        .inputs
        .repository
        .as_ref()
        .or(ingredients.facts.repository.as_ref());
    let given = given.ok_or_else(|| {
        refused("channel `github-issue` needs input `repository`").hint("as `owner/name`")
    })?;
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    match given.split_once('/') {
        Some((owner, name)) if is_name(owner) && is_name(name) => {
            Ok((owner.to_owned(), name.to_owned()))
        }
        _ => {
            Err(refused(format!("input `repository` is `{given}`"))
                .hint("it looks like `owner/name`"))
        }
    }
}

fn text(ingredients: &Ingredients<'_>) -> Result<String, Failure> {
    let body = ingredients.body(Markup::Markdown)?;
    let event = ingredients.inputs.event;
    let headline = if ingredients.is_built_in() {
        format!(
            "{} {}\n\n",
            event.sign(),
            Markup::Markdown.bold(ingredients.title)
        )
    } else {
        String::new()
    };
    let mentions = &ingredients.inputs.github_mention;
    let line = mention::line(mentions.iter().map(mention::GitHubMention::text));
    let mentions = line
        .filter(|_| event.is_bad())
        .map(|line| format!("{line}\n\n"))
        .unwrap_or_default();
    Ok(format!("{mentions}{headline}{body}"))
}

/// A hidden comment. The key is hashed: it may hold what would end the comment.
fn marker(kind: &str, key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let hash: String = digest
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("<!-- switchyard-notify {kind} {hash} -->")
}
