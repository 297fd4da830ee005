//! The command `aws`: from this job's identity to a session of a role, and to a kubeconfig for clusters of
//! EKS.

use switchyard_runner::{Context, Environment, Failure, Kind};

use super::eks::{EksError, describe};
use super::names::{ClusterName, SessionLength, SessionName};
use super::session::open;
use super::sts::RoleSession;
use crate::credential::{Assume, Eks, Network, Obtained, Recipe};
use crate::explain::{Expectations, printable};
use crate::github::Claims;
use crate::inputs::AwsArgs;
use crate::kubeconfig::{Cluster, User};
use crate::login::{Login, Member};
use crate::registry::{Ecr, Way, enter};

/// Assumes the role, logs in to every cluster, and writes the kubeconfig when each of them has said who we
/// are.
///
/// # Errors
/// Of kind input before anything was asked, of kind remote afterwards.
pub(crate) async fn run(args: AwsArgs, context: &mut Context) -> Result<(), Failure> {
    check(&args)?;
    let mut login = Login::prepare(&args.network, args.kubeconfig.as_deref(), context)?;
    let recipe = recipe(&args, &login.network, &context.environment)?;
    let expectations = Expectations {
        subject: args.expected_subject.clone(),
        audience: None,
    };
    let (session, claims) = open(&login.session, &recipe, &expectations).await?;
    login.session.progress(format!(
        "account `{}`: we are `{}` until {}",
        printable(session.account()),
        printable(&session.arn),
        session.until.strftime("%H:%M:%SZ")
    ));
    login.note(&claims, session.until);
    for cluster in args.cluster.iter() {
        let member = member(&mut login, &args, (&recipe, &session, &claims), cluster).await?;
        login.join(member, &expectations).await?;
    }
    context.outputs.set("account", session.account())?;
    let ways = args.registry.iter().map(|registry| {
        let way = Way::Ecr(Box::new(Ecr {
            ecr_url: args.ecr(),
            assume: recipe.clone(),
        }));
        (registry.clone(), way)
    });
    let ways: Vec<_> = ways.collect();
    enter(context, &login.session, &ways, &expectations).await?;
    login.conclude(context, &expectations)
}

/// What can be told before anything is asked.
fn check(args: &AwsArgs) -> Result<(), Failure> {
    let longest = SessionLength::LONGEST_CHAINED;
    if args.chained_role.is_some() && args.session_duration.seconds() > longest.seconds() {
        let text = "input `session-duration` is more than `1h`, and input `chained-role` is given";
        return Err(Failure::message(Kind::Input, text)
            .hint("AWS ends the session of a chained role after one hour"));
    }
    for (index, cluster) in args.cluster.iter().enumerate() {
        if args.cluster[..index].contains(cluster) {
            let text = format!("input `cluster` names cluster `{cluster}` twice");
            return Err(Failure::message(Kind::Input, text));
        }
    }
    if args.cluster.is_empty() && args.kubeconfig.is_some() {
        let text = "input `kubeconfig` is given, and input `cluster` names no cluster for it";
        return Err(Failure::message(Kind::Input, text));
    }
    Ok(())
}

fn recipe(args: &AwsArgs, network: &Network, environment: &Environment) -> Result<Assume, Failure> {
    let name = args.role_session_name.clone();
    let name = name.map_or_else(|| session_name(environment), Ok)?;
    Ok(Assume {
        region: args.region.clone(),
        role: args.role.clone(),
        chained_role: args.chained_role.clone(),
        role_session_name: name,
        session_duration: args.session_duration,
        audience: args.audience(),
        sts_url: args.sts(),
        network: network.clone(),
    })
}

/// The run's name, which leads from CloudTrail to the run.
fn session_name(environment: &Environment) -> Result<SessionName, Failure> {
    let run = environment.workflow_run().run_id.unwrap_or_default();
    let name = format!("switchyard-{run}");
    name.trim_end_matches('-').parse().map_err(|reason| {
        let text = format!("GITHUB_RUN_ID makes no name of a session: {reason}");
        Failure::message(Kind::Input, text).hint("set input `role-session-name`")
    })
}

/// How we are going to be known to a cluster.
async fn member(
    login: &mut Login,
    args: &AwsArgs,
    (assume, session, claims): (&Assume, &RoleSession, &Claims),
    name: &ClusterName,
) -> Result<Member, Failure> {
    let base = args.eks();
    let place = describe(&login.session, (&args.region, &base), session, name).await;
    let place = place.map_err(EksError::into_failure)?;
    let recipe = Recipe::Aws(Box::new(Eks {
        cluster: name.clone(),
        assume: assume.clone(),
    }));
    let obtained = Obtained {
        token: session.token_for(&login.session, assume, name)?,
        claims: Some(claims.clone()),
    };
    login.hold(recipe.clone(), obtained);
    Member::with_plugin(recipe, |user: User| Cluster {
        name: name.to_string(),
        server: place.server,
        authority: Some(place.authority),
        user,
    })
}
