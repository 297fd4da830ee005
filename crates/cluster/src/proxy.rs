//! Which HTTP proxy, if any, lies between us and the API server. Pure.
//! It refuses to know how a proxy is spoken to.

use std::net::IpAddr;

use http::Uri;

/// The proxy variables of the environment, as given there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    /// `HTTPS_PROXY` or `https_proxy`.
    pub https_proxy: Option<String>,
    /// `NO_PROXY` or `no_proxy`.
    pub no_proxy: Option<String>,
}

/// Chooses the proxy for `server`: the kubeconfig's own, else the environment's unless `NO_PROXY`
/// names the server. The same order as client-go's.
///
/// The client library would match `NO_PROXY` against the proxy's own address, so the choice is
/// made here.
///
/// # Errors
/// Words for a proxy address that is none.
pub(crate) fn choose(
    server: &Uri,
    of_kubeconfig: Option<&str>,
    environment: &ProxyEnvironment,
) -> Result<Option<Uri>, String> {
    let given = |value: &&str| !value.trim().is_empty();
    if let Some(proxy) = of_kubeconfig.filter(given) {
        return parse(proxy).map(Some);
    }
    let Some(proxy) = environment.https_proxy.as_deref().filter(given) else {
        return Ok(None);
    };
    let exceptions = environment.no_proxy.as_deref().unwrap_or_default();
    if is_excepted(server, exceptions) {
        return Ok(None);
    }
    parse(proxy).map(Some)
}

fn parse(proxy: &str) -> Result<Uri, String> {
    let proxy = proxy.trim();
    let with_scheme = if proxy.contains("://") {
        proxy.to_owned()
    } else {
        format!("http://{proxy}")
    };
    // A proxy address may hold a password, so it is not repeated.
    let address: Uri = with_scheme
        .parse()
        .map_err(|_| "the proxy address is not a URL".to_owned())?;
    match address.scheme_str() {
        Some("http" | "https") => Ok(address),
        scheme => Err(format!(
            "the proxy address begins with `{}://`, and only `http://` and `https://` proxies are supported",
            scheme.unwrap_or_default()
        )),
    }
}

/// `NO_PROXY` as Go reads it, which is what kubectl does beside us. A server on this machine, such
/// as kind's, is never asked through the environment's proxy: it would look for it at its own side.
fn is_excepted(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    no_proxy
        .split([',', ' '])
        .map(|entry| entry.trim().to_ascii_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            if entry == "*" {
                return true;
            }
            let entry = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                    if server.port_u16().unwrap_or(443).to_string() != port {
                        return false;
                    }
                    name.to_owned()
                }
                Some(_) | None => entry,
            };
            match address {
                Some(address) => {
                    let entry = entry.trim_matches(['[', ']']);
                    entry.parse() == Ok(address) || in_network(address, entry)
                }
                None => {
                    let suffix = entry.trim_start_matches('*').trim_start_matches('.');
                    host == suffix || host.ends_with(&format!(".{suffix}"))
                }
            }
        })
}

fn in_network(address: IpAddr, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) if bits <= 32 => {
            let shift = 32 - bits;
            let cut = |value: u32| value.checked_shr(shift).unwrap_or(0);
            cut(address.to_bits()) == cut(base.to_bits())
        }
        (IpAddr::V6(address), IpAddr::V6(base)) if bits <= 128 => {
            let shift = 128 - bits;
            let cut = |value: u128| value.checked_shr(shift).unwrap_or(0);
            cut(address.to_bits()) == cut(base.to_bits())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(server: &str, https_proxy: &str, no_proxy: &str) -> Option<String> {
        let environment = ProxyEnvironment {
            https_proxy: Some(https_proxy.to_owned()),
            no_proxy: Some(no_proxy.to_owned()),
        };
        choose(&server.parse().unwrap(), None, &environment)
            .unwrap()
            .map(|uri| uri.to_string())
    }

    #[test]
    fn no_proxy_is_matched_against_the_api_server() {
        let proxy = "http://proxy.corp:3128";
        for (server, no_proxy) in [
            ("https://10.1.2.3:6443", "10.0.0.0/8"),
            ("https://10.1.2.3:6443", "10.1.2.3"),
            ("https://api.k8s.corp", ".corp"),
            ("https://api.k8s.corp", "corp"),
            ("https://api.k8s.corp", "other, api.k8s.corp:443"),
            ("https://[fd00::1]:6443", "fd00::/8"),
            ("https://[fd00::1]:6443", "[fd00::1]:6443"),
            ("https://anything", "*"),
            ("https://127.0.0.1:6443", ""),
            ("https://[::1]:6443", ""),
            ("https://localhost:6443", ""),
        ] {
            assert_eq!(chosen(server, proxy, no_proxy), None, "{server} {no_proxy}");
        }
        for (server, no_proxy) in [
            ("https://10.1.2.3:6443", "10.2.0.0/16"),
            ("https://api.k8s.corp", "corporate"),
            ("https://api.k8s.corp", "api.k8s.corp:6443"),
            ("https://api.k8s.corp", "proxy.corp"),
            ("https://[fd00::1]:6443", "[fd00::1]:443"),
            ("https://localhost.corp", ""),
        ] {
            assert!(
                chosen(server, proxy, no_proxy).is_some(),
                "{server} {no_proxy}"
            );
        }
    }

    #[test]
    fn the_kubeconfigs_own_proxy_comes_first() {
        let environment = ProxyEnvironment {
            https_proxy: Some("http://env:1".to_owned()),
            no_proxy: Some("*".to_owned()),
        };
        let server = "https://api".parse().unwrap();
        let proxy = choose(&server, Some("http://own:2"), &environment).unwrap();
        assert_eq!(proxy.unwrap().to_string(), "http://own:2/");
    }

    #[test]
    fn an_address_without_a_scheme_means_http_and_a_bad_one_is_not_repeated() {
        assert_eq!(
            chosen("https://api", "proxy:3128", "").as_deref(),
            Some("http://proxy:3128/")
        );
        let environment = ProxyEnvironment {
            https_proxy: Some("http://user:pass word@x".to_owned()),
            no_proxy: None,
        };
        let problem = choose(&"https://api".parse().unwrap(), None, &environment).unwrap_err();
        assert!(!problem.contains("pass"));
        let socks = Some("socks5://user:pass@proxy:1080");
        let problem = choose(&"https://api".parse().unwrap(), socks, &environment).unwrap_err();
        assert!(problem.contains("`socks5://`") && !problem.contains("pass"));
    }
}
