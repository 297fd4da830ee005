//! An account of AWS with STS and EKS, and a role that trusts the jobs of production.

use std::collections::BTreeMap;
use std::sync::Arc;

use switchyard_sandbox::standins::aws::{Account, Eks, Role, Sts, eks};
use switchyard_sandbox::standins::{GITHUB_ISSUER, KeyRing, StandIn};
use switchyard_sandbox::{AccessEntryGuard, EKS_CLUSTER, Sandbox, TestNamespace, TlsAuthority};

use super::{PRODUCTION, job, started, unique};
use crate::{Doing as _, Result};

pub(super) struct Aws {
    pub(super) account: Arc<Account>,
    sts: StandIn<Sts>,
    eks: StandIn<Eks>,
    pub(super) role: Role,
    /// Lets the role into the cluster.
    _entry: AccessEntryGuard,
}

impl Aws {
    pub(super) fn start(
        sandbox: &Sandbox,
        namespace: &TestNamespace,
        authority: &TlsAuthority,
        github: Arc<KeyRing>,
    ) -> Result<Self> {
        let account = Account::new().trusting(GITHUB_ISSUER, github);
        let [deployment, rescue] = PRODUCTION.map(|environment| job(environment).subject());
        let name = format!("deployer-{}", unique());
        let mut role = Role::new(&name, &deployment).allowing("eks:DescribeCluster");
        role.subjects.push(rescue);
        account.add(role.clone());
        let account = Arc::new(account);
        let eks = started(Eks::new(Arc::clone(&account)), authority)?;
        eks.service().add(eks::Cluster {
            name: EKS_CLUSTER.to_owned(),
            endpoint: sandbox.api_server().to_owned(),
            ca: authority.certificate().to_owned(),
            status: "ACTIVE".to_owned(),
        });
        namespace
            .grant_deployer_group(&name)
            .doing(|| "grant the role of AWS its role".to_owned())?;
        let entry = sandbox.admit_role(&role.arn(), &[&name]);
        Ok(Self {
            sts: started(Sts::new(Arc::clone(&account)), authority)?,
            eks,
            account,
            role,
            _entry: entry.doing(|| "let the role of AWS in".to_owned())?,
        })
    }

    pub(super) fn inputs(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("eks-cluster", EKS_CLUSTER.to_owned()),
            ("aws-region", self.account.region.to_owned()),
            ("aws-role", self.role.arn()),
            ("aws-sts-url", self.sts.base_url().to_owned()),
            ("aws-eks-url", self.eks.base_url().to_owned()),
        ])
    }
}
