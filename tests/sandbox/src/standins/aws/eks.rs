//! EKS as far as DescribeCluster goes, and the refusals that AWS's JSON services share.
//! <https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeCluster.html>

use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    ACCOUNT, Account, Session,
    sigv4::{Fault, signer},
};
use crate::standins::{
    random::uuid,
    received::Received,
    server::{Answer, Service},
};

/// The service of a region.
pub struct Eks {
    account: Arc<Account>,
    clusters: Mutex<Vec<Cluster>>,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its API server's address.
    pub endpoint: String,
    /// The authority of the API server's certificate, PEM.
    pub ca: String,
    /// `ACTIVE`, `CREATING`, …; one that is not active yet has neither address nor authority.
    pub status: String,
}

impl Eks {
    /// EKS of an account, without a cluster.
    #[must_use]
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            clusters: Mutex::default(),
        }
    }

    /// Adds a cluster.
    pub fn add(&self, cluster: Cluster) {
        self.clusters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(cluster);
    }

    fn describe(&self, request: &Received, name: &str) -> Result<Answer, Answer> {
        let session = signer(request, &self.account, "eks").map_err(|fault| refused(&fault))?;
        let arn = format!(
            "arn:aws:eks:{}:{ACCOUNT}:cluster/{name}",
            self.account.region
        );
        require(&self.account, &session, "eks:DescribeCluster", &arn, 403)?;
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = clusters
            .iter()
            .find(|cluster| cluster.name == name)
            .ok_or_else(|| {
                error(
                    404,
                    "ResourceNotFoundException",
                    &format!("No cluster found for name: {name}."),
                )
            })?;
        let mut document = json!({
            "name": name, "arn": arn, "status": cluster.status, "version": "1.36",
            "createdAt": 1_767_322_800.0, "platformVersion": "eks.1",
            "accessConfig": {"authenticationMode": "API"},
            "certificateAuthority": {},
        });
        if cluster.status != "CREATING" {
            document["endpoint"] = json!(cluster.endpoint);
            document["certificateAuthority"] = json!({"data": STANDARD.encode(&cluster.ca)});
        }
        Ok(Answer::json(200, &json!({"cluster": document}))
            .with_header("content-type", "application/json"))
    }
}

/// Refuses a session whose role does not allow an action.
pub(super) fn require(
    account: &Account,
    session: &Session,
    action: &str,
    resource: &str,
    status: u16,
) -> Result<(), Answer> {
    if account.allows(session, action) {
        return Ok(());
    }
    let words = format!(
        "User: {} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows the {action} action",
        session.arn()
    );
    Err(error(status, "AccessDeniedException", &words))
}

/// A refused signature.
pub(super) fn refused(fault: &Fault) -> Answer {
    match fault {
        Fault::Missing => error(
            403,
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ),
        Fault::Incomplete(words) => error(403, "IncompleteSignatureException", words),
        Fault::UnknownToken => error(
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        Fault::ExpiredToken => error(
            403,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        Fault::Mismatch(words) => error(403, "InvalidSignatureException", words),
    }
}

/// A refusal.
pub(super) fn error(status: u16, code: &str, words: &str) -> Answer {
    let document = json!({"__type": code, "message": words});
    Answer::json(status, &document)
        .with_header("content-type", "application/json")
        .with_header("x-amzn-errortype", code)
        .with_header("x-amzn-requestid", uuid())
}

impl Service for Eks {
    fn answer(&self, request: &Received) -> Answer {
        match (
            request.method.as_str(),
            request.path.strip_prefix("/clusters/"),
        ) {
            ("GET", Some(name)) if !name.is_empty() && !name.contains('/') => self
                .describe(request, name)
                .unwrap_or_else(|refusal| refusal),
            _ => error(
                403,
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            ),
        }
    }

    fn state(&self) -> Value {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<&str> = clusters
            .iter()
            .map(|cluster| cluster.name.as_str())
            .collect();
        json!({"clusters": names})
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Role, sigv4};
    use super::*;

    #[test]
    fn a_cluster_is_described_to_whoever_may_see_it() {
        let account = Arc::new(Account::new());
        let role = Role::new("deploy", "*");
        let session = account.open_session(&role, "run", 900);
        account.add(role.clone());
        let eks = Eks::new(Arc::clone(&account));
        for (name, status) in [("shop", "ACTIVE"), ("young", "CREATING")] {
            eks.add(Cluster {
                name: name.to_owned(),
                endpoint: "https://10.10.0.1:6443".to_owned(),
                ca: "CA".to_owned(),
                status: status.to_owned(),
            });
        }
        let ask = |name: &str, scope: &str| {
            let request = Received::get(&format!("https://127.0.0.1:9000/clusters/{name}"));
            eks.answer(&sigv4::signed(
                request,
                &session,
                scope,
                account.clock.now(),
            ))
        };
        let expect = |answer: &Answer, status: u16, code: &str, words: &str| {
            assert_eq!(answer.status, status, "{}", answer.body);
            assert_eq!(answer.headers["x-amzn-errortype"], code);
            assert!(answer.body.contains(words), "{}", answer.body);
        };
        let scope = "eu-central-1/eks";
        let denied = "is not authorized to perform: eks:DescribeCluster on resource: arn:aws:eks:eu-central-1:111122223333:cluster/shop";
        expect(&ask("shop", scope), 403, "AccessDeniedException", denied);
        account.add(role.allowing("eks:DescribeCluster"));
        let described: Value = serde_json::from_str(&ask("shop", scope).body).unwrap();
        assert_eq!(described["cluster"]["endpoint"], "https://10.10.0.1:6443");
        assert_eq!(described["cluster"]["certificateAuthority"]["data"], "Q0E=");
        let young: Value = serde_json::from_str(&ask("young", scope).body).unwrap();
        assert!(young["cluster"]["endpoint"].is_null());
        expect(
            &ask("gone", scope),
            404,
            "ResourceNotFoundException",
            "No cluster found for name: gone.",
        );
        expect(
            &ask("shop", "eu-central-1/sts"),
            403,
            "InvalidSignatureException",
            "correct service: 'eks'",
        );
        let unsigned = Received::get("https://127.0.0.1:9000/clusters/shop");
        expect(
            &eks.answer(&unsigned),
            403,
            "MissingAuthenticationTokenException",
            "",
        );
        account.clock.skew(1_000);
        expect(
            &ask("shop", scope),
            403,
            "ExpiredTokenException",
            "is expired",
        );
    }
}
