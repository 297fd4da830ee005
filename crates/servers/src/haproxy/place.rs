//! Where a runtime API listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a runtime API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// Name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
}

impl FromStr for Place {
    type Err = String;

    /// A path that begins with `/`, or `HOST:PORT`, where an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let wanted = || {
            "allowed are the absolute path of a unix socket, and HOST:PORT (port 1 to 65535)"
                .to_owned()
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let is_host = host.chars().all(|c| {
            c.is_ascii_alphanumeric() || ".-_".contains(c) || (bare.is_some() && c == ':')
        });
        match port.parse() {
            Ok(port) if port > 0 && !host.is_empty() && is_host => Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            }),
            Ok(_) | Err(_) => Err(wanted()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_or_a_host_with_a_port() {
        for text in [
            "/run/haproxy/admin.sock",
            "10.0.0.1:9999",
            "lb-1:9999",
            "[::1]:9999",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for nonsense in [
            "",
            "admin.sock",
            "lb",
            "lb:",
            "lb:0",
            "lb:99999",
            ":9999",
            "::1:99",
            "a b:1",
        ] {
            assert!(nonsense.parse::<Place>().is_err(), "{nonsense}");
        }
    }
}
