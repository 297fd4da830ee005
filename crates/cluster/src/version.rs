//! Which Kubernetes a cluster runs, as its API server says.
//! It refuses to know which version has what.

use std::fmt;

use crate::{
    connect::Cluster,
    error::Result,
    operation::{Operation, Verb},
    read::Deadline,
};

/// The version of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVersion {
    /// Major and minor number; absent where the server says something else.
    pub number: Option<(u32, u32)>,
    /// The server's own words, such as `v1.36.3`.
    pub text: String,
}

impl ServerVersion {
    /// Whether the server is known to be at least of this version. One that cannot be read is not.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.number.is_some_and(|number| number >= (major, minor))
    }

    fn of(major: &str, minor: &str, text: &str) -> Self {
        // Providers add to the minor number: `30+`.
        let number = |text: &str| {
            let digits = text.find(|letter: char| !letter.is_ascii_digit());
            text[..digits.unwrap_or(text.len())].parse().ok()
        };
        Self {
            number: number(major).zip(number(minor)),
            text: text.to_owned(),
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Cluster {
    /// Asks the API server for its version.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn server_version(&self, deadline: Deadline) -> Result<ServerVersion> {
        let operation = Operation {
            verb: Verb::Get,
            group: String::new(),
            resource: "version".to_owned(),
            name: None,
            namespace: None,
        };
        let client = self.client();
        let info = self
            .read(&operation, deadline, || client.apiserver_version())
            .await?;
        Ok(ServerVersion::of(
            &info.major,
            &info.minor,
            &info.git_version,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_adds_to_the_minor_number_is_no_part_of_it() {
        let version = ServerVersion::of("1", "30+", "v1.30.9-eks-8cce635");
        assert_eq!(version.number, Some((1, 30)));
        assert!(version.is_at_least(1, 30) && version.is_at_least(1, 9));
        assert!(!version.is_at_least(1, 31) && !version.is_at_least(2, 0));
    }

    #[test]
    fn a_version_that_cannot_be_read_is_of_no_age() {
        let version = ServerVersion::of("", "", "devel");
        assert!(!version.is_at_least(1, 0));
        assert_eq!(version.to_string(), "devel");
    }
}
