//! GitHub's REST API as far as issues and their comments go, on `/` and, as GitHub Enterprise Server
//! has it, below `/api/v3`. Shapes are those of GitHub's own OpenAPI description, which a test holds
//! against every request and answer; refusals are worded as GitHub words them.

use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::received::Received;
use super::server::{Answer, Fault, Service};

/// Longest body of an issue or comment, in characters.
const MOST_BODY: usize = 65_536;
const MOST_TITLE: usize = 256;
const MOST_LABEL: usize = 50;
const MOST_PER_PAGE: usize = 100;

/// An issue with its comments.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Issue {
    /// Its number in the repository.
    pub number: usize,
    /// The title.
    pub title: String,
    /// The body; absent where none was given.
    pub body: Option<String>,
    /// `open` or `closed`.
    pub state: String,
    /// Why the state changed last.
    pub state_reason: Option<String>,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Bodies of its comments, oldest first.
    pub comments: Vec<String>,
    /// Whether it is a pull request, which GitHub lists among the issues.
    pub is_pull_request: bool,
}

/// What the token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// `issues: write`.
    Write,
    /// `issues: read`.
    Read,
}

/// One repository and one token.
pub struct GitHub {
    /// `owner/name`.
    pub repository: &'static str,
    /// The token.
    pub token: &'static str,
    /// What the token may do.
    pub permission: Permission,
    /// Whether the repository has issues at all.
    pub has_issues: bool,
    issues: Mutex<Vec<Issue>>,
}

impl Default for GitHub {
    fn default() -> Self {
        Self {
            repository: "acme/shop",
            token: concat!("ghs", "_githubtokengithubtokengithubtoken00"),
            permission: Permission::Write,
            has_issues: true,
            issues: Mutex::default(),
        }
    }
}

impl GitHub {
    /// Every issue, oldest first.
    #[must_use]
    pub fn issues(&self) -> Vec<Issue> {
        self.lock().clone()
    }

    /// Puts an issue there, as if somebody had opened it.
    pub fn open(&self, title: &str, body: &str, labels: &[&str]) -> usize {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.add(title.to_owned(), Some(body.to_owned()), labels)
    }

    /// Marks an issue as a pull request.
    pub fn make_pull_request(&self, number: usize) {
        if let Some(issue) = self.lock().get_mut(number - 1) {
            issue.is_pull_request = true;
        }
    }

    /// What GitHub answers for its secondary rate limit; `Retry-After` in seconds.
    #[must_use]
    pub fn secondary_rate_limit(seconds: u32) -> Fault {
        let answer = message(
            403,
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        );
        Fault::Answer(answer.with_header("retry-after", seconds.to_string()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Issue>> {
        self.issues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, title: String, body: Option<String>, labels: Vec<String>) -> usize {
        let mut issues = self.lock();
        let number = issues.len() + 1;
        issues.push(Issue {
            number,
            title,
            body,
            state: "open".to_owned(),
            state_reason: None,
            labels,
            comments: Vec::new(),
            is_pull_request: false,
        });
        number
    }

    /// What is wrong with a request before its route is looked at.
    fn refused(&self, request: &Received) -> Option<Answer> {
        if request.header("user-agent").is_none_or(str::is_empty) {
            return Some(Answer::text(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.",
            ));
        }
        let accept = request.header("accept").unwrap_or("*/*");
        let is_json = |part: &str| {
            let kind = part.split(';').next().unwrap_or(part).trim();
            kind == "*/*"
                || kind == "application/json"
                || (kind.starts_with("application/vnd.github") && kind.ends_with("json"))
        };
        if !accept.split(',').any(is_json) {
            return Some(message(
                415,
                &format!(
                    "Unsupported 'Accept' header: '{accept}'. Must accept 'application/json'."
                ),
            ));
        }
        if let Some(version) = request.header("x-github-api-version")
            && !["2022-11-28", "2026-03-10"].contains(&version)
        {
            return Some(message(
                400,
                &format!("\"{version}\" is not a supported version of the GitHub API."),
            ));
        }
        let Some(authorization) = request.header("authorization") else {
            return Some(message(401, "Requires authentication"));
        };
        let token = authorization
            .strip_prefix("Bearer ")
            .or(authorization.strip_prefix("token "));
        (token != Some(self.token)).then(|| message(401, "Bad credentials"))
    }

    fn route(&self, request: &Received) -> Answer {
        let path = request
            .path
            .strip_prefix("/api/v3")
            .unwrap_or(&request.path);
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let ["repos", owner, name, "issues", rest @ ..] = segments.as_slice() else {
            return message(404, "Not Found");
        };
        if format!("{owner}/{name}").to_lowercase() != self.repository.to_lowercase() {
            return message(404, "Not Found");
        }
        if !self.has_issues {
            return message(410, "Issues has been disabled in this repository.");
        }
        let writes = request.method != "GET";
        if writes && self.permission == Permission::Read {
            return message(403, "Resource not accessible by integration");
        }
        let number = rest.first().and_then(|text| text.parse::<usize>().ok());
        match (request.method.as_str(), rest, number) {
            ("GET", [], _) => self.list(request),
            ("POST", [], _) => self.create(request),
            ("GET", [_], Some(number)) => self.answer_issue(request, 200, number),
            ("PATCH", [_], Some(number)) => self.update(request, number),
            ("GET", [_, "comments"], Some(number)) => self.list_comments(request, number),
            ("POST", [_, "comments"], Some(number)) => self.comment(request, number),
            _ => message(404, "Not Found"),
        }
    }

    fn list(&self, request: &Received) -> Answer {
        let state = request.query("state").unwrap_or("open");
        if !["open", "closed", "all"].contains(&state) {
            return validation_failed("Issue", "state", "invalid");
        }
        let labels: Vec<&str> = request
            .query("labels")
            .unwrap_or_default()
            .split(',')
            .filter(|label| !label.is_empty())
            .collect();
        let issues = self.issues();
        let mut matching: Vec<&Issue> = issues
            .iter()
            .filter(|issue| state == "all" || issue.state == state)
            .filter(|issue| {
                labels.iter().all(|label| {
                    issue
                        .labels
                        .iter()
                        .any(|own| own.eq_ignore_ascii_case(label))
                })
            })
            .collect();
        if request.query("direction") != Some("asc") {
            matching.reverse();
        }
        let documents = matching
            .into_iter()
            .map(|issue| self.document(request, issue))
            .collect();
        paged(request, documents)
    }

    fn create(&self, request: &Received) -> Answer {
        let body = match object(request) {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let Some(title) = body.get("title") else {
            return message(422, "Invalid request.\n\n\"title\" wasn't supplied.");
        };
        let title = title
            .as_str()
            .map_or_else(|| title.to_string(), str::to_owned);
        if title.trim().is_empty() {
            return validation_failed("Issue", "title", "missing_field");
        }
        if let Some(refused) = too_long(&body) {
            return refused;
        }
        let text = body.get("body").and_then(Value::as_str).map(str::to_owned);
        let number = self.add(title, text, labels(&body).unwrap_or_default());
        self.answer_issue(request, 201, number)
    }

    fn update(&self, request: &Received, number: usize) -> Answer {
        let body = match object(request) {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        if let Some(refused) = too_long(&body) {
            return refused;
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let state = text("state");
        if state
            .as_deref()
            .is_some_and(|state| !["open", "closed"].contains(&state))
        {
            return validation_failed("Issue", "state", "invalid");
        }
        if let Some(issue) = self.lock().get_mut(number.wrapping_sub(1)) {
            if let Some(state) = state {
                let default = if state == "closed" {
                    "completed"
                } else {
                    "reopened"
                };
                issue.state_reason =
                    Some(text("state_reason").unwrap_or_else(|| default.to_owned()));
                issue.state = state;
            }
            issue.title = text("title").unwrap_or_else(|| issue.title.clone());
            issue.body = text("body").or_else(|| issue.body.clone());
            issue.labels = labels(&body).unwrap_or_else(|| issue.labels.clone());
        }
        self.answer_issue(request, 200, number)
    }

    fn list_comments(&self, request: &Received, number: usize) -> Answer {
        let Some(issue) = self.lock().get(number.wrapping_sub(1)).cloned() else {
            return message(404, "Not Found");
        };
        let comments = issue.comments.iter().enumerate();
        let documents = comments
            .map(|(index, text)| self.comment_document(request, &issue, index, text))
            .collect();
        paged(request, documents)
    }

    fn comment(&self, request: &Received, number: usize) -> Answer {
        let body = match object(request) {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let Some(text) = body
            .get("body")
            .and_then(Value::as_str)
            .filter(|text| !text.trim().is_empty())
        else {
            return message(422, "Invalid request.\n\n\"body\" wasn't supplied.");
        };
        if let Some(refused) = too_long(&body) {
            return refused;
        }
        let mut issues = self.lock();
        let Some(issue) = issues.get_mut(number.wrapping_sub(1)) else {
            return message(404, "Not Found");
        };
        issue.comments.push(text.to_owned());
        let issue = issue.clone();
        drop(issues);
        Answer::json(
            201,
            &self.comment_document(request, &issue, issue.comments.len() - 1, text),
        )
    }

    fn answer_issue(&self, request: &Received, status: u16, number: usize) -> Answer {
        match self.lock().get(number.wrapping_sub(1)) {
            Some(issue) => Answer::json(status, &self.document(request, issue)),
            None => message(404, "Not Found"),
        }
    }

    fn document(&self, request: &Received, issue: &Issue) -> Value {
        let (number, repository) = (issue.number, self.repository);
        let base = format!("{}/repos/{repository}", request.base_url);
        let url = format!("{base}/issues/{number}");
        let label = |(index, name): (usize, &String)| {
            json!({
                "id": 1_000 + index, "node_id": format!("LA_{index}"), "url": format!("{base}/labels/{name}"),
                "name": name, "description": null, "color": "ededed", "default": false,
            })
        };
        let mut document = json!({
            "id": 10_000 + number, "node_id": format!("I_{number}"), "number": number,
            "url": url, "repository_url": base, "html_url": format!("{}/{repository}/issues/{number}", request.base_url),
            "labels_url": format!("{url}/labels{{/name}}"), "comments_url": format!("{url}/comments"), "events_url": format!("{url}/events"),
            "title": issue.title, "body": issue.body, "state": issue.state, "state_reason": issue.state_reason,
            "user": user(request), "assignee": null, "assignees": [], "milestone": null,
            "labels": issue.labels.iter().enumerate().map(label).collect::<Vec<_>>(),
            "locked": false, "active_lock_reason": null, "comments": issue.comments.len(),
            "author_association": "CONTRIBUTOR",
            "closed_at": (issue.state == "closed").then_some("2026-01-02T03:05:05Z"),
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:05:05Z",
        });
        if issue.is_pull_request {
            let pull = format!("{base}/pulls/{number}");
            document["pull_request"] =
                json!({ "url": pull, "html_url": pull, "diff_url": pull, "patch_url": pull });
        }
        document
    }

    fn comment_document(
        &self,
        request: &Received,
        issue: &Issue,
        index: usize,
        text: &str,
    ) -> Value {
        let (number, id) = (issue.number, issue.number * 1_000 + index);
        let base = format!("{}/repos/{}", request.base_url, self.repository);
        json!({
            "id": id, "node_id": format!("IC_{id}"), "url": format!("{base}/issues/comments/{id}"),
            "html_url": format!("{}/{}/issues/{number}#issuecomment-{id}", request.base_url, self.repository),
            "issue_url": format!("{base}/issues/{number}"), "body": text, "user": user(request),
            "author_association": "CONTRIBUTOR",
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
        })
    }
}

impl Service for GitHub {
    fn answer(&self, request: &Received) -> Answer {
        self.refused(request).unwrap_or_else(|| self.route(request))
    }

    fn state(&self) -> Value {
        json!({ "issues": *self.lock() })
    }
}

fn message(status: u16, text: &str) -> Answer {
    let document = json!({
        "message": text, "documentation_url": "https://docs.github.com/rest", "status": status.to_string(),
    });
    Answer::json(status, &document)
}

fn validation_failed(resource: &str, field: &str, code: &str) -> Answer {
    validation_error(&json!({ "resource": resource, "field": field, "code": code }))
}

fn validation_error(error: &Value) -> Answer {
    let document = json!({
        "message": "Validation Failed", "errors": [error],
        "documentation_url": "https://docs.github.com/rest/issues/issues", "status": "422",
    });
    Answer::json(422, &document)
}

fn object(request: &Received) -> Result<Map<String, Value>, Answer> {
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(message(400, "Body should be a JSON object")),
        Err(_) => Err(message(400, "Problems parsing JSON")),
    }
}

fn labels(body: &Map<String, Value>) -> Option<Vec<String>> {
    let labels = body.get("labels")?.as_array()?;
    let name = |label: &Value| label.as_str().or(label["name"].as_str()).map(str::to_owned);
    Some(labels.iter().filter_map(name).collect())
}

fn too_long(body: &Map<String, Value>) -> Option<Answer> {
    let length = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .map_or(0, |text| text.chars().count())
    };
    let failed = |resource: &str, field: &str, most: usize| {
        let text = format!("{field} is too long (maximum is {most} characters)");
        validation_error(
            &json!({ "resource": resource, "field": field, "code": "custom", "message": text }),
        )
    };
    if length(body.get("title")) > MOST_TITLE {
        return Some(failed("Issue", "title", MOST_TITLE));
    }
    if length(body.get("body")) > MOST_BODY {
        return Some(failed("Issue", "body", MOST_BODY));
    }
    let mut labels = labels(body).into_iter().flatten();
    labels
        .any(|label| label.chars().count() > MOST_LABEL)
        .then(|| failed("Label", "name", MOST_LABEL))
}

/// One page of a list with the `Link` header that leads on.
fn paged(request: &Received, documents: Vec<Value>) -> Answer {
    let number = |name: &str| {
        request
            .query(name)
            .and_then(|text| text.parse::<usize>().ok())
    };
    let size = number("per_page").unwrap_or(30).clamp(1, MOST_PER_PAGE);
    let page = number("page").unwrap_or(1).max(1);
    let pages = documents.len().div_ceil(size).max(1);
    let shown: Vec<Value> = documents
        .into_iter()
        .skip((page - 1) * size)
        .take(size)
        .collect();
    let answer = Answer::json(200, &Value::Array(shown));
    if page >= pages {
        return answer;
    }
    let link = |page: usize, relation: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(request.query.iter().filter(|(name, _)| name != "page"));
        query.append_pair("page", &page.to_string());
        format!(
            "<{}{}?{}>; rel=\"{relation}\"",
            request.base_url,
            request.path,
            query.finish()
        )
    };
    answer.with_header(
        "link",
        format!("{}, {}", link(page + 1, "next"), link(pages, "last")),
    )
}

fn user(request: &Received) -> Value {
    let url = format!("{}/users/github-actions%5Bbot%5D", request.base_url);
    json!({
        "login": "github-actions[bot]", "id": 41_898_282, "node_id": "BOT_1", "avatar_url": url, "gravatar_id": "",
        "url": url, "html_url": url, "followers_url": url, "following_url": url, "gists_url": url,
        "starred_url": url, "subscriptions_url": url, "organizations_url": url, "repos_url": url,
        "events_url": url, "received_events_url": url, "type": "Bot", "site_admin": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_refused_for_what_github_refuses() {
        let github = GitHub::default();
        let bearer = format!("Bearer {}", github.token);
        let path = "/repos/acme/shop/issues";
        let request =
            |body: &Value| Received::post(path, body).with_header("authorization", &bearer);
        let good = || request(&json!({ "title": "it fails" }));
        assert_eq!(github.answer(&good()).status, 201);
        let long = json!({ "title": "t", "body": "x".repeat(MOST_BODY + 1) });
        for (request, status, words) in [
            (
                good().with_header("user-agent", ""),
                403,
                "User-Agent header",
            ),
            (
                good().with_header("accept", "text/html"),
                415,
                "Unsupported 'Accept' header",
            ),
            (
                good().with_header("x-github-api-version", "2020-01-01"),
                400,
                "not a supported version",
            ),
            (
                good().with_header("authorization", ""),
                401,
                "Requires authentication",
            ),
            (
                good().with_header("authorization", "Bearer x"),
                401,
                "Bad credentials",
            ),
            (request(&json!([])), 400, "Body should be a JSON object"),
            (request(&json!({ "body": "x" })), 422, "wasn't supplied"),
            (request(&json!({ "title": " " })), 422, "missing_field"),
            (
                request(&long),
                422,
                "body is too long (maximum is 65536 characters)",
            ),
        ] {
            let answer = github.answer(&request);
            assert_eq!(answer.status, status, "{}", answer.body);
            assert!(answer.body.contains(words), "{}", answer.body);
        }
        assert_eq!(github.issues().len(), 1);
    }
}
