//! The command `azure`: from this job's identity to a kubeconfig for clusters of AKS.

use switchyard_http::ClientIdentity;
use switchyard_runner::{Context, Failure, Kind, Secret};

use super::aks::{AksCluster, ArmError, Fqdn, context_names, user_credential};
use super::entra::exchange;
use crate::credential::{Entra, Network, Recipe};
use crate::inputs::AzureArgs;
use crate::kubeconfig::{Answer, ClientCertificate, Cluster, Credential, User};
use crate::login::{Login, Member, refuse_lone_kubeconfig};
use crate::registry::{Registration, Way, enter};

/// What a token of Entra for registries is for, in every cloud.
const REGISTRY_SCOPE: &str = "https://containerregistry.azure.net/.default";

/// What the inputs say, checked before anything is asked.
struct Plan {
    clusters: Vec<AksCluster>,
    contexts: Vec<String>,
    args: AzureArgs,
}

/// Logs in to every cluster, and writes the kubeconfig when each of them has said who we are.
///
/// # Errors
/// Of kind input before anything was asked, of kind remote afterwards.
pub(crate) async fn run(args: AzureArgs, context: &mut Context) -> Result<(), Failure> {
    let plan = Plan::new(args)?;
    let expectations = plan.args.login.expectations();
    let mut login = Login::prepare(&plan.args.login, context)?;
    let way = Way::Acr(Box::new(
        plan.entra(&login.network, REGISTRY_SCOPE.to_owned()),
    ));
    let registration = Registration::of(&plan.args.registries, &way);
    if !plan.clusters.is_empty() {
        join_all(&plan, &mut login).await?;
    }
    enter(context, &login.session, &registration, &expectations).await?;
    login.conclude(context, &expectations)
}

/// Logs in to every cluster.
async fn join_all(plan: &Plan, login: &mut Login) -> Result<(), Failure> {
    let token = arm_token(plan, login).await?;
    for (cluster, name) in plan.clusters.iter().zip(&plan.contexts) {
        let fqdn = if plan.args.public_fqdn {
            Fqdn::Public
        } else {
            Fqdn::Private
        };
        let base = plan.args.resource_manager();
        let answer = user_credential(&login.session, &base, &token, cluster, fqdn).await;
        let answer = answer.map_err(ArmError::into_failure)?;
        let member = member(plan, &login.network, (cluster, name), answer)?;
        login.join(member, &plan.args.login.expectations()).await?;
    }
    Ok(())
}

impl Plan {
    fn new(args: AzureArgs) -> Result<Self, Failure> {
        if args.cluster.is_empty() && args.registries.registry.is_empty() {
            return Err(Failure::message(Kind::Input, "input `cluster` is required")
                .hint("the cluster's name, or several of them; or input `registry` alone"));
        }
        refuse_lone_kubeconfig(&args.login, &args.cluster)?;
        let mut clusters: Vec<AksCluster> = Vec::new();
        for reference in args.cluster.iter().cloned() {
            let completed =
                reference.complete(args.subscription.as_deref(), args.resource_group.as_deref());
            let cluster = completed.map_err(|input| {
                Failure::message(Kind::Input, format!("input `{input}` is required"))
                    .hint("or give the whole resource id of each cluster in input `cluster`")
            })?;
            if clusters.contains(&cluster) {
                let text = format!("input `cluster` names {cluster} twice");
                return Err(Failure::message(Kind::Input, text));
            }
            clusters.push(cluster);
        }
        let contexts = context_names(&clusters);
        Ok(Self {
            clusters,
            contexts,
            args,
        })
    }

    fn entra(&self, network: &Network, scope: String) -> Entra {
        Entra {
            application: self.args.application.clone(),
            scope,
            network: network.clone(),
        }
    }
}

async fn arm_token(plan: &Plan, login: &Login) -> Result<Secret, Failure> {
    let resource = plan.args.resource_manager().expose().to_string();
    let entra = plan.entra(
        &login.network,
        format!("{}/.default", resource.trim_end_matches('/')),
    );
    let token = exchange(&login.session, &entra).await;
    let token = token
        .map_err(|refused| refused.into_failure(&login.session, &plan.args.login.expectations()))?;
    Ok(token.token.secret)
}

/// How we are going to be known to the cluster.
fn member(
    plan: &Plan,
    network: &Network,
    (cluster, name): (&AksCluster, &str),
    answer: Answer,
) -> Result<Member, Failure> {
    let place = |user| Cluster {
        name: name.to_owned(),
        server: answer.server.clone(),
        authority: Some(answer.authority.clone()),
        user,
    };
    match answer.credential {
        Credential::Entra { ref server_id } => {
            let recipe = Recipe::Azure(plan.entra(network, format!("{server_id}/.default")));
            Ok(Member::with_plugin(recipe, place)?)
        }
        Credential::Certificate(ref certificate) if plan.args.admin => {
            Ok(with_certificate(certificate, place))
        }
        Credential::Certificate(_) => {
            let text = format!(
                "{cluster} gives its users a client certificate, which cannot be taken back before it expires"
            );
            Err(Failure::message(Kind::Remote, text)
                .hint("turn on Microsoft Entra authentication for the cluster (`az aks update --enable-aad`)")
                .hint("or set input `admin` to `true`: the kubeconfig then holds the certificate and its key, and everybody who has it is the cluster's administrator"))
        }
    }
}

fn with_certificate(
    certificate: &ClientCertificate,
    place: impl FnOnce(User) -> Cluster,
) -> Member {
    Member::Certificate {
        identity: ClientIdentity::new(&certificate.certificate, certificate.key.expose()),
        key: certificate.key.clone(),
        cluster: place(User::Certificate(certificate.clone())),
    }
}
