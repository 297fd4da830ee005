//! The kubeconfig that a cloud answers with. Only the server, its certificate authority and the id of
//! the application that the server stands for are taken: a kubeconfig can name any program to run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use switchyard_http::DisplaySafeUrl;
use switchyard_runner::Secret;

use super::document::ClientCertificate;

/// What is taken of a kubeconfig.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) server: DisplaySafeUrl,
    /// PEM text.
    pub(crate) authority: String,
    pub(crate) credential: Credential,
}

/// How its user would be known to the cluster.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// By a token of Entra for this application.
    Entra { server_id: String },
    /// By a certificate, which nobody can take back before it expires.
    Certificate(ClientCertificate),
}

/// Why a kubeconfig cannot be used. Never quotes it: it may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAnswer {
    #[error("it is not a kubeconfig in YAML")]
    Yaml,
    #[error("its current context has no {0}")]
    Missing(&'static str),
    #[error("the server's address is no `https://` URL")]
    Server,
    #[error("the certificate authority is not the base64 of PEM text")]
    Authority,
    #[error("its user has a client certificate that is not the base64 of PEM text")]
    Certificate,
    #[error("its user is known neither by Entra (`--server-id`) nor by a client certificate")]
    User,
    #[error("the `--server-id` of its user is not the id of an application")]
    ServerId,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    #[serde(default)]
    server: String,
    #[serde(default)]
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: UserEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    #[serde(default)]
    exec: Option<Exec>,
    #[serde(default)]
    client_certificate_data: Option<String>,
    #[serde(default)]
    client_key_data: Option<String>,
}

#[derive(Deserialize)]
struct Exec {
    #[serde(default)]
    args: Vec<String>,
}

impl Answer {
    /// Reads the YAML text of a kubeconfig.
    ///
    /// # Errors
    /// When something is missing that a login needs.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidAnswer> {
        let config: Config = serde_saphyr::from_str(text).map_err(|_| InvalidAnswer::Yaml)?;
        let context = config
            .contexts
            .iter()
            .find(|context| context.name == config.current_context)
            .map(|found| &found.context)
            .ok_or(InvalidAnswer::Missing("entry"))?;
        let cluster = config
            .clusters
            .iter()
            .find(|one| one.name == context.cluster);
        let cluster = &cluster.ok_or(InvalidAnswer::Missing("cluster"))?.cluster;
        let user = config.users.iter().find(|one| one.name == context.user);
        let user = &user.ok_or(InvalidAnswer::Missing("user"))?.user;
        Ok(Self {
            server: server(&cluster.server)?,
            authority: pem(&cluster.certificate_authority_data).ok_or(InvalidAnswer::Authority)?,
            credential: credential(user)?,
        })
    }
}

fn server(text: &str) -> Result<DisplaySafeUrl, InvalidAnswer> {
    let url = DisplaySafeUrl::parse(text).map_err(|_| InvalidAnswer::Server)?;
    let is_plain = url.expose().scheme() != "https"
        || url.expose().query().is_some()
        || !url.expose().username().is_empty();
    if is_plain {
        return Err(InvalidAnswer::Server);
    }
    Ok(url)
}

fn credential(user: &UserEntry) -> Result<Credential, InvalidAnswer> {
    if let Some(exec) = &user.exec {
        let id = server_id(&exec.args).ok_or(InvalidAnswer::User)?;
        if !is_application_id(id) {
            return Err(InvalidAnswer::ServerId);
        }
        return Ok(Credential::Entra {
            server_id: id.to_owned(),
        });
    }
    let (Some(certificate), Some(key)) = (&user.client_certificate_data, &user.client_key_data)
    else {
        return Err(InvalidAnswer::User);
    };
    Ok(Credential::Certificate(ClientCertificate {
        certificate: pem(certificate).ok_or(InvalidAnswer::Certificate)?,
        key: Secret::new(pem(key).ok_or(InvalidAnswer::Certificate)?),
    }))
}

/// The value of `--server-id`, in either way of writing it.
fn server_id(arguments: &[String]) -> Option<&str> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--server-id" {
            return rest.next().map(String::as_str);
        }
        if let Some(value) = argument.strip_prefix("--server-id=") {
            return Some(value);
        }
    }
    None
}

/// `8-4-4-4-12` hexadecimal digits.
fn is_application_id(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn pem(base64: &str) -> Option<String> {
    let compact: String = base64.split_whitespace().collect();
    let text = String::from_utf8(STANDARD.decode(compact).ok()?).ok()?;
    text.contains("-----BEGIN ").then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(user: &str) -> String {
        let authority =
            STANDARD.encode("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
        format!(
            r"
apiVersion: v1
kind: Config
current-context: shop
clusters:
- {{name: other, cluster: {{server: 'https://evil.example.test:443'}}}}
- name: shop
  cluster: {{server: 'https://shop.example.test:443', certificate-authority-data: {authority}}}
contexts:
- {{name: other, context: {{cluster: other, user: other}}}}
- {{name: shop, context: {{cluster: shop, user: clusterUser_group_shop}}}}
users:
- name: clusterUser_group_shop
  user: {user}
"
        )
    }

    const ENTRA: &str = "{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: /tmp/evil, \
        args: [get-token, --environment, AzurePublicCloud, --server-id, 6dae42f8-4368-4678-94ff-3960e28e3630, \
        --client-id, 80faf920-1908-4b52-b5ef-a8e7bedfc67a], env: [{name: LD_PRELOAD, value: /tmp/evil.so}]}}";

    #[test]
    fn only_server_authority_and_server_id_are_taken() {
        let answer = Answer::parse(&config(ENTRA)).unwrap();
        assert_eq!(answer.server.to_string(), "https://shop.example.test/");
        assert!(answer.authority.starts_with("-----BEGIN CERTIFICATE"));
        assert!(
            matches!(&answer.credential, Credential::Entra { server_id } if server_id == "6dae42f8-4368-4678-94ff-3960e28e3630")
        );
        assert!(!format!("{answer:?}").contains("evil"), "{answer:?}");
    }

    #[test]
    fn an_id_that_could_be_another_scope_is_refused() {
        let with = |id: &str| {
            config(&format!(
                "{{exec: {{command: x, args: ['--server-id={id}']}}}}"
            ))
        };
        assert!(Answer::parse(&with("6dae42f8-4368-4678-94ff-3960e28e3630")).is_ok());
        for id in [
            "",
            "https://management.azure.com",
            "6dae42f8-4368-4678-94ff-3960e28e363g",
        ] {
            assert_eq!(
                Answer::parse(&with(id)).unwrap_err(),
                InvalidAnswer::ServerId,
                "{id}"
            );
        }
    }

    #[test]
    fn a_user_with_a_certificate_is_told_from_one_of_entra() {
        let pem = |kind: &str| {
            STANDARD.encode(format!(
                "-----BEGIN {kind}-----\nAA==\n-----END {kind}-----"
            ))
        };
        let user = format!(
            "{{client-certificate-data: {}, client-key-data: {}, token: hunter2}}",
            pem("CERTIFICATE"),
            pem("PRIVATE KEY")
        );
        let answer = Answer::parse(&config(&user)).unwrap();
        assert!(matches!(answer.credential, Credential::Certificate(_)));
        assert!(!format!("{answer:?}").contains("PRIVATE KEY"), "{answer:?}");
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_being_quoted() {
        let good = config(ENTRA);
        for (text, error) in [
            ("token: [hunter2".to_owned(), InvalidAnswer::Yaml),
            (
                good.replace("current-context: shop", ""),
                InvalidAnswer::Missing("entry"),
            ),
            (
                good.replace("user: clusterUser_group_shop", "user: hunter2"),
                InvalidAnswer::Missing("user"),
            ),
            (
                good.replace("cluster: shop,", "cluster: hunter2,"),
                InvalidAnswer::Missing("cluster"),
            ),
            (
                good.replace("https://shop", "http://shop"),
                InvalidAnswer::Server,
            ),
            (
                good.replace(
                    "certificate-authority-data: ",
                    "certificate-authority-data: hunter2",
                ),
                InvalidAnswer::Authority,
            ),
            (config("{token: hunter2}"), InvalidAnswer::User),
        ] {
            let refused = Answer::parse(&text).unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
    }
}
