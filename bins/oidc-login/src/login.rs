//! What every login to clusters does, whichever cloud they are in: each cluster says who we are, and
//! only then there is a kubeconfig, whole and private.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use switchyard_http::ClientIdentity;
use switchyard_runner::{Context, Failure, Kind, Secret};

use crate::credential::{Kept, Network, Obtained, Recipe, Token, obtain, whole_seconds};
use crate::explain::{Expectations, report};
use crate::github::{Claims, TokenSource};
use crate::inputs::LoginArgs;
use crate::kubeconfig::{Cluster, PluginCall, User, document};
use crate::plugin::own_path;
use crate::private::{self, PrivateFolder, Problem};
use crate::session::{Session, unavailable};
use crate::whoami::{Identity, Unknown};

/// A login under way.
pub(crate) struct Login {
    pub(crate) session: Session,
    /// How services are reached, by this step and by every later call of the plugin.
    pub(crate) network: Network,
    kubeconfig: PathBuf,
    joined: Vec<Cluster>,
    held: Vec<(Recipe, Token)>,
    /// What the first token of GitHub's said.
    claims: Option<Claims>,
    /// When the first of what was given ends.
    ends: Option<Timestamp>,
}

/// A cluster to log in to.
pub(crate) enum Member {
    /// With tokens that the exec plugin gets again and again.
    Plugin { cluster: Cluster, recipe: Recipe },
    /// With a certificate.
    Certificate {
        cluster: Cluster,
        identity: ClientIdentity,
        key: Secret,
    },
}

impl Member {
    /// A cluster whose user is our exec plugin.
    ///
    /// # Errors
    /// When the operating system does not say where this program is.
    pub(crate) fn with_plugin(
        recipe: Recipe,
        place: impl FnOnce(User) -> Cluster,
    ) -> Result<Self, Failure> {
        let program = own_path()?;
        let arguments = recipe.arguments();
        let cluster = place(User::Plugin(PluginCall { program, arguments }));
        Ok(Self::Plugin { cluster, recipe })
    }
}

impl Login {
    /// Checks all that can be checked before anybody is asked.
    ///
    /// # Errors
    /// Of kind input.
    pub(crate) fn prepare(args: &LoginArgs, context: &Context) -> Result<Self, Failure> {
        let source = TokenSource::read(&context.environment).map_err(unavailable)?;
        let runner_temp = context.environment.get("RUNNER_TEMP").map(PathBuf::from);
        let runner_temp = runner_temp.ok_or_else(|| {
            Failure::message(Kind::Input, "RUNNER_TEMP is not set")
                .hint("the runner sets it for every step; a kubeconfig is only written where it is deleted with the job")
        })?;
        let kubeconfig = kubeconfig_path(&runner_temp, args.kubeconfig.as_deref()).map_err(|problem| {
            Failure::input(problem).hint("a login writes a file of its own; leave input `kubeconfig` empty, or name a file below RUNNER_TEMP that is not there")
        })?;
        let network = absolute(&args.network)?;
        Ok(Self {
            session: Session::new(&network, source, &context.environment, &context.console)?,
            network,
            kubeconfig,
            joined: Vec::new(),
            held: Vec::new(),
            claims: None,
            ends: None,
        })
    }

    /// Logs in to one cluster, which says who we are.
    ///
    /// # Errors
    /// When there is no token for it, or it does not know us.
    pub(crate) async fn join(
        &mut self,
        member: Member,
        expectations: &Expectations,
    ) -> Result<(), Failure> {
        let (cluster, identity, token) = match member {
            Member::Plugin { cluster, recipe } => {
                let token = self.token(recipe, expectations).await?;
                (cluster, None, Some(token))
            }
            Member::Certificate {
                cluster,
                identity,
                key,
            } => {
                self.session.mask(&key);
                (cluster, Some(identity), None)
            }
        };
        let client = self
            .session
            .client_of_cluster(cluster.authority.as_deref(), identity)?;
        let place = (cluster.name.as_str(), &cluster.server);
        let identity = Identity::ask(&self.session, &client, place, token.as_ref()).await;
        let identity = identity.map_err(Unknown::into_failure)?;
        self.session.progress(format!(
            "cluster `{}` ({}): we are {}",
            cluster.name,
            cluster.server.host(),
            identity.describe()
        ));
        self.joined.push(cluster);
        Ok(())
    }

    /// A token by this recipe: the one that another cluster was asked with, else a fresh one.
    async fn token(
        &mut self,
        recipe: Recipe,
        expectations: &Expectations,
    ) -> Result<Secret, Failure> {
        if let Some((_, known)) = self.held.iter().find(|(known, _)| *known == recipe) {
            return Ok(known.secret.clone());
        }
        let obtained = obtain(&recipe, &self.session, expectations).await?;
        let secret = obtained.token.secret.clone();
        self.hold(recipe, obtained);
        Ok(secret)
    }

    /// Takes a token for the clusters of this recipe, and keeps it for the next step.
    pub(crate) fn hold(&mut self, recipe: Recipe, obtained: Obtained) {
        let Obtained { token, claims } = obtained;
        let shared = self.session.shared(Kept::Token, &recipe.arguments());
        shared.keep(&token);
        if let Some(claims) = claims {
            self.note(&claims, token.until);
        }
        self.held.push((recipe, token));
    }

    /// Remembers for the outputs what a token of GitHub's said, and when what it was exchanged for ends.
    pub(crate) fn note(&mut self, claims: &Claims, until: Timestamp) {
        self.claims.get_or_insert_with(|| claims.clone());
        self.ends = Some(self.ends.map_or(until, |known| known.min(until)));
    }

    /// Writes the kubeconfig, where a cluster was joined, and the outputs.
    ///
    /// # Errors
    /// When the file cannot be written, or is there by now.
    pub(crate) fn conclude(
        &self,
        context: &mut Context,
        expectations: &Expectations,
    ) -> Result<(), Failure> {
        if let Some(first) = self.joined.first() {
            private::write_new(&self.kubeconfig, &document(&self.joined))
                .map_err(Failure::input)?;
            let path = self.kubeconfig.display();
            context.console.info(format!("kubeconfig: {path}"));
            context.outputs.set("kubeconfig", path)?;
            context.outputs.set("context", &first.name)?;
        }
        if let Some(claims) = &self.claims {
            context.outputs.set("subject", &claims.subject)?;
            for mismatch in report(claims, expectations).mismatches {
                context.console.warning(
                    "oidc-login",
                    format!("the login worked, although {mismatch}"),
                );
            }
        }
        if let Some(ends) = self.ends {
            context.outputs.set("expires-at", whole_seconds(ends))?;
        }
        Ok(())
    }
}

/// Refuses a file to write where nothing would be written into it.
///
/// # Errors
/// Of kind input.
pub(crate) fn refuse_lone_kubeconfig<C>(args: &LoginArgs, clusters: &[C]) -> Result<(), Failure> {
    if args.kubeconfig.is_some() && clusters.is_empty() {
        let text = "input `kubeconfig` is given, and input `cluster` names no cluster for it";
        return Err(Failure::message(Kind::Input, text));
    }
    Ok(())
}

/// The plugin is called from other folders than this step's.
fn absolute(network: &Network) -> Result<Network, Failure> {
    let path = network.extra_ca.as_ref();
    let extra_ca = path.map(|path| {
        path.canonicalize().map_err(|cause| {
            let text = format!("input `extra-ca`: cannot find `{}`", path.display());
            Failure::input(anyhow::Error::new(cause).context(text))
        })
    });
    Ok(Network {
        extra_ca: extra_ca.transpose()?,
        ..network.clone()
    })
}

/// Where the kubeconfig goes: nothing may be there yet.
fn kubeconfig_path(runner_temp: &Path, asked: Option<&Path>) -> Result<PathBuf, Problem> {
    let Some(asked) = asked else {
        let folder = PrivateFolder::below(runner_temp)?;
        return Ok(folder.file(&format!("kubeconfig-{:016x}", rand::random::<u64>())));
    };
    let path = private::require_below(asked, runner_temp)?;
    private::require_absent(&path)?;
    Ok(path)
}
