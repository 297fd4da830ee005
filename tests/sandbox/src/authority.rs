//! The sandbox's certificate authority, the certificates and tokens of everybody who talks in it,
//! and the kubeconfigs made of them. All material is made once per state folder.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use crate::{
    error::{Context as _, Result, create_dir, read, write},
    instance::{API_SERVER, KUBERNETES_SERVICE, Layout, NODE_ADDRESS, NODE_NAME, User},
};

/// Signs certificates for servers and clients of one sandbox.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate with its private key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What a certificate is for.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// A server known by these names and addresses.
    Server(Vec<String>),
    /// A client: the API server reads the user from the common name, groups from organisations.
    Client { group: Option<&'static str> },
    /// A client whose certificate ended years ago.
    ExpiredClient,
    /// A server that is its peers' client too (etcd).
    Both(Vec<String>),
}

impl Authority {
    /// Loads the sandbox's authority, or makes one.
    pub(crate) fn load_or_create(layout: &Layout) -> Result<Self> {
        let key_path = layout.pki().join("ca.key");
        let certificate_path = layout.ca_certificate();
        let name = format!("switchyard sandbox {}", layout.name);
        create_dir(&layout.pki())?;
        if key_path.exists() && certificate_path.exists() {
            let key = KeyPair::from_pem(&read(&key_path)?).context(|| "cannot read ca.key")?;
            return Ok(Self {
                issuer: Issuer::new(Self::parameters(&name), key),
                certificate: read(&certificate_path)?,
            });
        }
        let authority = Self::throw_away(&name)?;
        write(&key_path, authority.issuer.key().serialize_pem())?;
        write(&certificate_path, &authority.certificate)?;
        Ok(authority)
    }

    /// Makes a fresh authority that nobody trusts.
    pub(crate) fn throw_away(name: &str) -> Result<Self> {
        let key = KeyPair::generate().context(|| "cannot make a key")?;
        let signed = Self::parameters(name).self_signed(&key);
        let certificate = signed.context(|| "cannot sign the authority")?.pem();
        Ok(Self {
            issuer: Issuer::new(Self::parameters(name), key),
            certificate,
        })
    }

    /// The same parameters every time: the issuer's name in a certificate has to equal them.
    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        parameters
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate with a key of its own.
    pub(crate) fn issue(&self, common_name: &str, purpose: &Purpose) -> Result<Identity> {
        let (names, usages, group) = match purpose {
            Purpose::Server(names) => (names.as_slice(), &SERVER[..], None),
            Purpose::Both(names) => (names.as_slice(), &BOTH[..], None),
            Purpose::Client { group } => (&[][..], &CLIENT[..], *group),
            Purpose::ExpiredClient => (&[][..], &CLIENT[..], None),
        };
        let mut parameters = CertificateParams::new(names.to_vec())
            .context(|| format!("`{names:?}` cannot be in a certificate"))?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, common_name);
        if let Some(group) = group {
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = usages.to_vec();
        if matches!(purpose, Purpose::ExpiredClient) {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().context(|| "cannot make a key")?;
        let signed = parameters.signed_by(&key, &self.issuer);
        Ok(Identity {
            certificate: signed
                .context(|| format!("cannot sign `{common_name}`"))?
                .pem(),
            key: key.serialize_pem(),
        })
    }
}

const SERVER: [ExtendedKeyUsagePurpose; 1] = [ExtendedKeyUsagePurpose::ServerAuth];
const CLIENT: [ExtendedKeyUsagePurpose; 1] = [ExtendedKeyUsagePurpose::ClientAuth];
const BOTH: [ExtendedKeyUsagePurpose; 2] = [
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

/// The names under which servers on the node are reached.
pub(crate) fn node_names() -> Vec<String> {
    let names = [NODE_ADDRESS, "127.0.0.1", "localhost", NODE_NAME];
    names.map(str::to_owned).to_vec()
}

fn api_server_names() -> Vec<String> {
    let mut names = node_names();
    let service = [
        KUBERNETES_SERVICE,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    names.extend(service.map(str::to_owned));
    names
}

/// A certificate pair on disk, by its base name in the `pki` folder.
pub(crate) fn pair(layout: &Layout, base: &str) -> (PathBuf, PathBuf) {
    let file = |extension: &str| layout.pki().join(format!("{base}.{extension}"));
    (file("crt"), file("key"))
}

/// The public and the private key of service account tokens.
pub(crate) fn service_account_keys(layout: &Layout) -> (PathBuf, PathBuf) {
    let file = |extension: &str| layout.pki().join(format!("service-accounts.{extension}"));
    (file("pub"), file("key"))
}

/// Makes every certificate, key, token and kubeconfig that is missing.
pub(crate) fn prepare(layout: &Layout) -> Result<Authority> {
    use std::os::unix::fs::PermissionsExt as _;
    let authority = Authority::load_or_create(layout)?;
    std::fs::set_permissions(layout.pki(), std::fs::Permissions::from_mode(0o700))
        .context(|| "cannot restrict the folder of keys")?;
    let client = |group| Purpose::Client { group: Some(group) };
    let plain = || Purpose::Client { group: None };
    let etcd = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let node_user = format!("system:node:{NODE_NAME}");
    let certificates: [(&str, &str, Purpose); 10] = [
        (
            "apiserver",
            "kube-apiserver",
            Purpose::Server(api_server_names()),
        ),
        (
            "apiserver-kubelet",
            "kube-apiserver",
            client("system:masters"),
        ),
        ("apiserver-etcd", "kube-apiserver", plain()),
        ("etcd", "etcd", Purpose::Both(etcd)),
        ("kubelet", &node_user, client("system:nodes")),
        ("kubelet-serving", NODE_NAME, Purpose::Server(node_names())),
        (
            "controller-manager",
            "system:kube-controller-manager",
            plain(),
        ),
        ("scheduler", "system:kube-scheduler", plain()),
        ("proxy", "system:kube-proxy", plain()),
        ("registry", "registry", Purpose::Server(node_names())),
    ];
    for (base, common_name, purpose) in certificates {
        let (certificate, key) = pair(layout, base);
        if !(certificate.exists() && key.exists()) {
            let identity = authority.issue(common_name, &purpose)?;
            write(&certificate, identity.certificate)?;
            write(&key, identity.key)?;
        }
    }
    let (public, private) = service_account_keys(layout);
    if !(public.exists() && private.exists()) {
        let key = KeyPair::generate().context(|| "cannot make a key")?;
        write(&private, key.serialize_pem())?;
        write(&public, key.public_key_pem())?;
    }
    prepare_tokens(layout)?;
    prepare_kubeconfigs(layout, &authority)?;
    Ok(authority)
}

/// The token file of the API server: token, user name, user id, groups.
pub(crate) fn token_file(layout: &Layout) -> PathBuf {
    layout.pki().join("tokens.csv")
}

/// The file that holds nothing but the token of a user (the sandbox's own or `traefik`).
pub(crate) fn token_of(layout: &Layout, user: &str) -> PathBuf {
    layout.pki().join(format!("{user}.token"))
}

fn prepare_tokens(layout: &Layout) -> Result<()> {
    let mut lines = String::new();
    for (user, group) in [
        (User::Admin.name(), "system:masters"),
        (User::Deployer.name(), "switchyard:users"),
        (User::Reader.name(), "switchyard:users"),
        ("traefik", "switchyard:components"),
    ] {
        let path = token_of(layout, user);
        if !path.exists() {
            let random: [u8; 24] = rand::random();
            let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            write(&path, token)?;
        }
        lines.push_str(&format!("{},{user},{user},{group}\n", read(&path)?));
    }
    write(&token_file(layout), lines)
}

/// How a kubeconfig's user proves who it is.
#[derive(Debug)]
pub(crate) enum Credentials<'a> {
    Token(&'a str),
    /// Paths of certificate and key.
    Certificate(&'a Path, &'a Path),
}

/// A kubeconfig as JSON, which every YAML parser reads.
pub(crate) fn kubeconfig(
    server: &str,
    ca: &str,
    user: &str,
    credentials: &Credentials<'_>,
) -> String {
    let credentials = match credentials {
        Credentials::Token(token) => json!({"token": token}),
        Credentials::Certificate(certificate, key) => {
            json!({"client-certificate": certificate, "client-key": key})
        }
    };
    let cluster = json!({"server": server, "certificate-authority-data": STANDARD.encode(ca)});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": user, "context": {"cluster": "sandbox", "user": user}}],
        "current-context": user,
    });
    format!("{config:#}\n")
}

/// The kubeconfig of a component.
pub(crate) fn component_kubeconfig(layout: &Layout, base: &str) -> PathBuf {
    layout.pki().join(format!("{base}.kubeconfig"))
}

fn prepare_kubeconfigs(layout: &Layout, authority: &Authority) -> Result<()> {
    let ca = authority.certificate();
    for base in ["kubelet", "controller-manager", "scheduler", "proxy"] {
        let (certificate, key) = pair(layout, base);
        let credentials = Credentials::Certificate(&certificate, &key);
        let config = kubeconfig(API_SERVER, ca, base, &credentials);
        write(&component_kubeconfig(layout, base), config)?;
    }
    for user in User::ALL {
        let token = read(&token_of(layout, user.name()))?;
        let config = kubeconfig(API_SERVER, ca, user.name(), &Credentials::Token(&token));
        write(&layout.kubeconfig(user), config)?;
    }
    Ok(())
}
