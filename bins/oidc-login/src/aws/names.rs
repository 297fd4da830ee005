//! What AWS's inputs may be. A name that fits can lead to no other service, role or cluster.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use switchyard_http::DisplaySafeUrl;
use switchyard_runner::values;

/// A region, such as `eu-central-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region(String);

/// A service that a login talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Ecr,
    Eks,
    Sts,
}

/// A role, by its ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleArn(String);

/// The name of a session, as CloudTrail and the cluster's audit log show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionName(String);

/// The name of a cluster of EKS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterName(String);

/// The name of a profile in AWS's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProfileName(String);

/// How long a session lasts, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionLength(u32);

impl Service {
    /// Its name in signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Eks => "eks",
            Self::Sts => "sts",
        }
    }

    /// What its host names begin with.
    fn host(self) -> &'static str {
        match self {
            Self::Ecr => "api.ecr",
            Self::Eks | Self::Sts => self.name(),
        }
    }
}

impl Region {
    /// The base URL of a service there.
    pub(crate) fn url(&self, service: Service) -> DisplaySafeUrl {
        let domain = if self.0.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        let url = format!("https://{}.{}.{domain}", service.host(), self.0);
        DisplaySafeUrl::parse(&url).expect("a region is a label of a host's name")
    }
}

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_region = parts.len() >= 3
            && text.len() <= 32
            && parts.iter().all(|part| {
                let mut characters = part.chars();
                characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) && !part.is_empty()
            });
        if is_region {
            Ok(Self(text.to_owned()))
        } else {
            Err("a region like `eu-central-1` is needed".to_owned())
        }
    }
}

impl FromStr for RoleArn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let is_role = matches!(parts.as_slice(), ["arn", partition, "iam", "", account, resource]
            if partition.starts_with("aws")
                && account.len() == 12
                && account.chars().all(|c| c.is_ascii_digit())
                && resource.strip_prefix("role/").is_some_and(is_path));
        if is_role {
            Ok(Self(text.to_owned()))
        } else {
            Err("a role's ARN like `arn:aws:iam::111122223333:role/deploy` is needed".to_owned())
        }
    }
}

/// A role's name, with the path that it may have in front.
fn is_path(text: &str) -> bool {
    !text.is_empty()
        && !text.ends_with('/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_+=,.@-/".contains(c))
}

impl FromStr for SessionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = (2..=64).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("2 to 64 letters, digits and `_+=,.@-` are needed".to_owned())
        }
    }
}

impl FromStr for ProfileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = (1..=64).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("the name of a profile has letters, digits and `_.-`, at most 64".to_owned())
        }
    }
}

impl ProfileName {
    /// The line that begins the profile in a configuration file.
    pub(crate) fn section(&self) -> String {
        match self.0.as_str() {
            "default" => "[default]".to_owned(),
            name => format!("[profile {name}]"),
        }
    }
}

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = text.len() <= 100
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("the name of a cluster has letters, digits, `-` and `_`, at most 100".to_owned())
        }
    }
}

impl SessionLength {
    /// What AWS takes: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
    const ALLOWED: std::ops::RangeInclusive<u64> = 15 * 60..=12 * 60 * 60;
    /// The longest session of a role that was assumed by another one's session.
    pub(crate) const LONGEST_CHAINED: Self = Self(60 * 60);

    pub(crate) fn seconds(self) -> u32 {
        self.0
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl FromStr for SessionLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = values::duration(text)?.as_secs();
        match u32::try_from(length) {
            Ok(seconds) if Self::ALLOWED.contains(&length) => Ok(Self(seconds)),
            _ => Err("AWS gives sessions of `15m` to `12h`".to_owned()),
        }
    }
}

impl fmt::Display for SessionLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

macro_rules! shown_as_written {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
shown_as_written!(Region, RoleArn, SessionName, ClusterName, ProfileName);

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_refused<T: FromStr>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_region_leads_to_services_of_aws_alone() {
        let url = |text: &str| {
            let region: Region = text.parse().unwrap();
            region.url(Service::Sts).to_string()
        };
        assert_eq!(
            url("eu-central-1"),
            "https://sts.eu-central-1.amazonaws.com/"
        );
        assert_eq!(
            url("us-gov-west-1"),
            "https://sts.us-gov-west-1.amazonaws.com/"
        );
        assert_eq!(
            url("cn-north-1"),
            "https://sts.cn-north-1.amazonaws.com.cn/"
        );
        assert_refused::<Region>(&["", "eu", "eu-central", "a.b-c-1", "a-b-1/x", "EU-west-1"]);
    }

    #[test]
    fn a_role_is_named_by_its_whole_arn() {
        for text in [
            "arn:aws:iam::111122223333:role/deploy",
            "arn:aws-cn:iam::111122223333:role/team/deploy",
        ] {
            assert!(text.parse::<RoleArn>().is_ok(), "{text}");
        }
        assert_refused::<RoleArn>(&[
            "deploy",
            "arn:aws:iam::1:role/deploy",
            "arn:aws:iam::111122223333:user/deploy",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/a b",
        ]);
    }

    #[test]
    fn names_and_lengths_are_those_that_aws_takes() {
        assert!("run-1".parse::<SessionName>().is_ok());
        assert_refused::<SessionName>(&["", "a", "a b", &"x".repeat(65)]);
        assert!("shop.eu-1".parse::<ProfileName>().is_ok());
        assert_refused::<ProfileName>(&["", "a b", "a]", "a\nb", &"x".repeat(65)]);
        assert!("shop_1".parse::<ClusterName>().is_ok());
        assert_refused::<ClusterName>(&["", "-a", "a/b", "a.b", &"x".repeat(101)]);
        assert_eq!("1h".parse::<SessionLength>().unwrap().seconds(), 3600);
        assert_refused::<SessionLength>(&["", "14m", "13h", "3600"]);
    }
}
