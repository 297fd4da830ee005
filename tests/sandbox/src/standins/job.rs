//! What GitHub knows of a job and says of it in a token: the claims, and the subject in each of its
//! formats. Claims as in <https://docs.github.com/actions/reference/security/oidc>.

use serde_json::{Value, json};

/// How the subject is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectFormat {
    /// `repo:owner/name:…`
    Legacy,
    /// `repo:owner@ID/name@ID:…`, of repositories made, renamed or moved since July 2026.
    Immutable,
    /// The claims of a template (`include_claim_keys`), in its order; `repo` and `context` are the two
    /// halves of the legacy format.
    Template(Vec<String>),
}

/// A job of a workflow run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// `owner/name`.
    pub repository: String,
    /// The repository's number.
    pub repository_id: u64,
    /// The owner's number.
    pub repository_owner_id: u64,
    /// The ref that the run is for.
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// The event that started the run.
    pub event_name: String,
    /// The environment that the job names.
    pub environment: Option<String>,
    /// The caller's workflow file, below the repository.
    pub workflow: String,
    /// The workflow that the job is written in, with its ref, where that is another one.
    pub job_workflow_ref: Option<String>,
    /// The run.
    pub run_id: u64,
    /// The attempt of the run.
    pub run_attempt: u32,
    /// How the subject is written.
    pub subject: SubjectFormat,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            repository: "acme/shop".to_owned(),
            repository_id: 987_654_321,
            repository_owner_id: 12_345_678,
            git_ref: "refs/heads/main".to_owned(),
            sha: "1f0c5b2a9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a".to_owned(),
            event_name: "push".to_owned(),
            environment: None,
            workflow: ".github/workflows/deploy.yml".to_owned(),
            job_workflow_ref: None,
            run_id: 4_242_424_242,
            run_attempt: 1,
            subject: SubjectFormat::Legacy,
        }
    }
}

impl Job {
    /// The job in an environment.
    #[must_use]
    pub fn in_environment(mut self, name: &str) -> Self {
        self.environment = Some(name.to_owned());
        self
    }

    /// The job with its subject in another format.
    #[must_use]
    pub fn with_subject(mut self, format: SubjectFormat) -> Self {
        self.subject = format;
        self
    }

    /// The job of another event.
    #[must_use]
    pub fn on(mut self, event: &str, git_ref: &str) -> Self {
        self.event_name = event.to_owned();
        self.git_ref = git_ref.to_owned();
        self
    }

    /// The subject of its tokens.
    #[must_use]
    pub fn subject(&self) -> String {
        match &self.subject {
            SubjectFormat::Legacy => format!("repo:{}:{}", self.repository, self.context()),
            SubjectFormat::Immutable => {
                let (owner, name) = self.repository.split_once('/').unwrap_or_default();
                let (owner_id, id) = (self.repository_owner_id, self.repository_id);
                format!("repo:{owner}@{owner_id}/{name}@{id}:{}", self.context())
            }
            SubjectFormat::Template(keys) => {
                let claims = self.claims();
                let part = |key: &String| match key.as_str() {
                    "repo" => format!("repo:{}", self.repository),
                    "context" => self.context(),
                    _ => {
                        let value = claims[key].as_str().unwrap_or_default();
                        format!("{key}:{}", encoded(value))
                    }
                };
                keys.iter().map(part).collect::<Vec<_>>().join(":")
            }
        }
    }

    /// What the job is for, as it stands in the subject.
    fn context(&self) -> String {
        match &self.environment {
            Some(name) => format!("environment:{}", encoded(name)),
            None if self.event_name == "pull_request" => "pull_request".to_owned(),
            None => format!("ref:{}", encoded(&self.git_ref)),
        }
    }

    /// The claims that tell of the job; those of a token (`sub`, `aud`, …) are not among them.
    pub(super) fn claims(&self) -> Value {
        let (owner, _) = self.repository.split_once('/').unwrap_or_default();
        let workflow = format!("{}/{}@{}", self.repository, self.workflow, self.git_ref);
        let job_workflow = self.job_workflow_ref.clone();
        let kind = if self.git_ref.starts_with("refs/tags/") {
            "tag"
        } else {
            "branch"
        };
        let mut claims = json!({
            "ref": self.git_ref, "sha": self.sha, "ref_type": kind, "ref_protected": "false",
            "repository": self.repository, "repository_owner": owner,
            "repository_id": self.repository_id.to_string(),
            "repository_owner_id": self.repository_owner_id.to_string(),
            "repository_visibility": "private", "actor": "octocat", "actor_id": "583231",
            "workflow": "deploy", "workflow_ref": workflow, "workflow_sha": self.sha,
            "job_workflow_ref": job_workflow.unwrap_or_else(|| workflow.clone()),
            "job_workflow_sha": self.sha, "head_ref": "", "base_ref": "",
            "event_name": self.event_name, "runner_environment": "github-hosted",
            "run_id": self.run_id.to_string(), "run_number": "17",
            "run_attempt": self.run_attempt.to_string(), "check_run_id": "55555555555",
        });
        if let Some(name) = &self.environment {
            claims["environment"] = json!(name);
        }
        claims
    }
}

/// A value inside a subject: a colon would look like the end of it.
fn encoded(value: &str) -> String {
    value.replace(':', "%3A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_written_as_github_writes_it() {
        let template = |keys: &[&str]| {
            SubjectFormat::Template(keys.iter().map(|key| (*key).to_owned()).collect())
        };
        let job = Job::default;
        for (job, subject) in [
            (job(), "repo:acme/shop:ref:refs/heads/main"),
            (
                job().in_environment("prod:eu"),
                "repo:acme/shop:environment:prod%3Aeu",
            ),
            (
                job().on("pull_request", "refs/pull/7/merge"),
                "repo:acme/shop:pull_request",
            ),
            (
                job()
                    .on("pull_request", "refs/pull/7/merge")
                    .in_environment("preview"),
                "repo:acme/shop:environment:preview",
            ),
            (
                job().with_subject(SubjectFormat::Immutable),
                "repo:acme@12345678/shop@987654321:ref:refs/heads/main",
            ),
            (
                job().with_subject(template(&["repository_owner_id", "repository_id"])),
                "repository_owner_id:12345678:repository_id:987654321",
            ),
            (
                job().with_subject(template(&["repo", "context", "job_workflow_ref"])),
                "repo:acme/shop:ref:refs/heads/main:job_workflow_ref:acme/shop/.github/workflows/deploy.yml@refs/heads/main",
            ),
        ] {
            assert_eq!(job.subject(), subject);
        }
    }
}
