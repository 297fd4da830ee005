//! Where a check's request goes: a URL, or an object in the cluster with a port and a path. Pure.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use switchyard_cluster::port_forward::ForwardTarget;
use switchyard_http::DisplaySafeUrl;

/// The target of a check.
#[derive(Clone, Debug)]
pub enum CheckTarget {
    /// Reached from here, as users reach it.
    Url(DisplaySafeUrl),
    /// Reached through the API server.
    InCluster {
        /// Object and port.
        target: ForwardTarget,
        /// Path and query, from `/`.
        path: String,
    },
}

impl CheckTarget {
    /// Object, port and path, unless it is a URL.
    pub fn in_cluster(&self) -> Option<(&ForwardTarget, &str)> {
        match self {
            Self::Url(_) => None,
            Self::InCluster { target, path } => Some((target, path)),
        }
    }
}

impl FromStr for CheckTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let url = DisplaySafeUrl::parse(text);
            return url.map(Self::Url).map_err(|cause| cause.to_string());
        }
        let refusal = || {
            format!(
                "`{text}` is no target: write a URL, or `service/NAME:PORT/PATH` (also \
                 deployment, statefulset, daemonset, pod)"
            )
        };
        let (kind, rest) = text.split_once('/').ok_or_else(refusal)?;
        let (object, path) = match rest.split_once('/') {
            Some((object, path)) => (object, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        let target = format!("{kind}/{object}").parse().map_err(|_| refusal())?;
        path.parse::<Uri>()
            .map_err(|_| format!("`{path}` is no path of a URL"))?;
        Ok(Self::InCluster { target, path })
    }
}

impl fmt::Display for CheckTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::InCluster { target, path } => write!(f, "{target}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_or_an_object_with_port_and_path() {
        for (text, shown) in [
            (
                "service/api:http/api/health?deep=1",
                "service/api:http/api/health?deep=1",
            ),
            ("deploy/api:8080", "deployment/api:8080/"),
            ("https://shop.example/ready", "https://shop.example/ready"),
        ] {
            assert_eq!(text.parse::<CheckTarget>().unwrap().to_string(), shown);
        }
        for nonsense in [
            "",
            "api",
            "api:8080/x",
            "service/api/x",
            "service/api:80/a b",
            "ftp://x/",
        ] {
            assert!(nonsense.parse::<CheckTarget>().is_err(), "{nonsense}");
        }
    }
}
