//! The command `direct`: a kubeconfig for a cluster that trusts GitHub's issuer, whose plugin fetches
//! GitHub's token itself.

use switchyard_runner::{Context, Failure, Kind};

use crate::credential::{GitHub, Recipe};
use crate::inputs::{CertificateAuthority, DirectArgs};
use crate::kubeconfig::{Cluster, User};
use crate::login::{Login, Member};

/// Logs in to the cluster, and writes the kubeconfig when it has said who we are.
///
/// # Errors
/// Of kind input before anything was asked, of kind remote afterwards.
pub(crate) async fn run(args: DirectArgs, context: &mut Context) -> Result<(), Failure> {
    if args.context.trim().is_empty() || args.audience.trim().is_empty() {
        return Err(Failure::message(
            Kind::Input,
            "inputs `context` and `audience` must not be blank",
        ));
    }
    let authority = args.certificate_authority.map(read).transpose()?;
    let mut login = Login::prepare(&args.login, context)?;
    let expectations = args.login.expectations();
    let recipe = Recipe::Github(GitHub {
        audience: args.audience,
        network: login.network.clone(),
    });
    let place = |user: User| Cluster {
        name: args.context,
        server: args.server.url().clone(),
        authority,
        user,
    };
    login
        .join(Member::with_plugin(recipe, place)?, &expectations)
        .await?;
    login.conclude(context, &expectations)
}

fn read(authority: CertificateAuthority) -> Result<String, Failure> {
    let path = match authority {
        CertificateAuthority::Text(text) => return Ok(text),
        CertificateAuthority::File(path) => path,
    };
    std::fs::read_to_string(&path).map_err(|cause| {
        let text = format!(
            "input `certificate-authority`: cannot read `{}`",
            path.display()
        );
        Failure::input(anyhow::Error::new(cause).context(text))
    })
}
