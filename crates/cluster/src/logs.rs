//! The last lines that a container wrote. Untrusted text, and possibly private: callers show it
//! fenced or not at all. It refuses to interpret it.

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use crate::{
    connect::Cluster,
    error::Result,
    operation::{Operation, Verb},
    read::Deadline,
};

/// Most bytes of log ever asked for.
const LIMIT_BYTES: i64 = 64 * 1024;

/// Which run of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The one under way, or the last one.
    Current,
    /// The one before the last restart.
    Previous,
}

impl Cluster {
    /// The `lines` last lines of a container's log.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] when the container has not run yet.
    pub async fn log_tail(
        &self,
        pod: &str,
        container: Option<&str>,
        run: Run,
        lines: u16,
        deadline: Deadline,
    ) -> Result<Vec<String>> {
        let params = LogParams {
            container: container.map(str::to_owned),
            previous: run == Run::Previous,
            tail_lines: Some(i64::from(lines)),
            limit_bytes: Some(LIMIT_BYTES),
            ..LogParams::default()
        };
        let operation = Operation::on::<Pod>(Verb::Get, self.namespace())
            .named(pod)
            .subresource("log");
        let pods = self.api::<Pod>();
        let text = self
            .read(&operation, deadline, || pods.logs(pod, &params))
            .await?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}
