//! The command `aws`: from this job's identity to a session of a role, and to a kubeconfig for clusters of
//! EKS.

use switchyard_runner::{Context, Environment, Failure, Kind};

use super::eks::{EksError, describe};
use super::export::LaterSteps;
use super::names::{ClusterName, Region, SessionLength, SessionName};
use super::profile::Profile;
use super::session::open;
use super::sts::RoleSession;
use crate::credential::{Assume, Eks, Network, Obtained, Recipe};
use crate::explain::printable;
use crate::github::Claims;
use crate::inputs::AwsArgs;
use crate::kubeconfig::{Cluster, User};
use crate::login::{Login, Member, refuse_lone_kubeconfig};
use crate::registry::{Ecr, Registration, Way, enter};
use crate::session::Session;

/// Assumes the role, logs in to every cluster, and writes the kubeconfig when each of them has said who we
/// are.
///
/// # Errors
/// Of kind input before anything was asked, of kind remote afterwards.
pub(crate) async fn run(args: AwsArgs, context: &mut Context) -> Result<(), Failure> {
    check(&args)?;
    let mut login = Login::prepare(&args.login, context)?;
    let assume = named(&args.assume, &context.environment)?;
    let later = Later::new(&args, (&assume, &login.network), context)?;
    let expectations = args.login.expectations();
    let (session, claims) = open(&login.session, &assume, &expectations).await?;
    login.session.progress(format!(
        "account `{}`: we are `{}` until {}",
        printable(session.account()),
        printable(&session.arn),
        session.until.strftime("%H:%M:%SZ")
    ));
    login.note(&claims, session.until);
    for cluster in args.cluster.iter() {
        let member = member(&mut login, &args, (&assume, &session, &claims), cluster).await?;
        login.join(member, &expectations).await?;
    }
    context.outputs.set("account", session.account())?;
    let way = Way::Ecr(Box::new(Ecr {
        ecr_url: args.ecr(),
        assume,
        network: login.network.clone(),
    }));
    let registration = Registration::of(&args.registries, &way);
    enter(context, &login.session, &registration, &expectations).await?;
    login.conclude(context, &expectations)?;
    // Last, because it is for steps that come even after one that failed.
    later.serve(&login.session, &session, context).await
}

/// What later steps get of the session itself, where somebody asked.
struct Later {
    profile: Option<Profile>,
    steps: Option<LaterSteps>,
    region: Region,
}

impl Later {
    /// Refuses before anything is asked what cannot be done afterwards.
    fn new(
        args: &AwsArgs,
        (assume, network): (&Assume, &Network),
        context: &Context,
    ) -> Result<Self, Failure> {
        let profile = args.profile.clone();
        let profile = profile.map(|name| Profile::new(name, assume, network));
        let steps = args.export_credentials.then(|| LaterSteps::of(context));
        Ok(Self {
            profile: profile.transpose()?,
            steps: steps.transpose()?,
            region: assume.region.clone(),
        })
    }

    async fn serve(
        &self,
        session: &Session,
        role_session: &RoleSession,
        context: &Context,
    ) -> Result<(), Failure> {
        if let Some(profile) = &self.profile {
            let path = profile.write(session).await?;
            context.outputs.set("aws-config", path.display())?;
        }
        if let Some(steps) = &self.steps {
            steps.are_given(session, role_session, &self.region)?;
        }
        Ok(())
    }
}

/// What can be told before anything is asked.
fn check(args: &AwsArgs) -> Result<(), Failure> {
    let longest = SessionLength::LONGEST_CHAINED;
    let assume = &args.assume;
    if assume.chained_role.is_some() && assume.session_duration.seconds() > longest.seconds() {
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
    refuse_lone_kubeconfig(&args.login, &args.cluster)
}

/// What is assumed, with a session that has a name.
fn named(assume: &Assume, environment: &Environment) -> Result<Assume, Failure> {
    let given = assume.role_session_name.clone();
    let name = given.map_or_else(|| session_name(environment), Ok)?;
    Ok(Assume {
        role_session_name: Some(name),
        ..assume.clone()
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
    let place = describe(&login.session, (&assume.region, &base), session, name).await;
    let place = place.map_err(EksError::into_failure)?;
    let recipe = Recipe::Aws(Box::new(Eks {
        cluster: name.clone(),
        assume: assume.clone(),
        network: login.network.clone(),
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
