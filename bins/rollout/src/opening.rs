//! What every command but `apply` begins with: the connection, the namespace, the permissions.

use std::time::Duration;

use switchyard_cluster::access::Permission;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{Connection, cluster_failure, connect};
use switchyard_runner::{Context, DeploymentArgs, Failure};

use crate::objects::AnyObjects;
use crate::permissions;

/// How long the first request may be tried: an address that leads nowhere is told soon, however long
/// the command itself may take.
const FIRST_CONTACT: Duration = Duration::from_secs(20);

/// Refuses a namespace that does not exist. The first request that any command sends.
///
/// # Errors
/// The namespace is missing, or the API server cannot be reached.
pub(crate) async fn require_namespace(
    cluster: &Cluster,
    deadline: Deadline,
) -> Result<(), Failure> {
    cluster
        .require_namespace(deadline.at_most(FIRST_CONTACT))
        .await
        .map_err(cluster_failure)
}

/// A namespace of a cluster in which a command may do what it is about to do.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The connection.
    pub connection: Connection,
    /// Its objects.
    pub objects: AnyObjects,
    /// Until when the command may work.
    pub deadline: Deadline,
}

impl Opened {
    /// Connects, and refuses a missing namespace and missing permissions. `wanted` gives what the
    /// command needs in a namespace, besides reading it and keeping the record.
    pub(crate) async fn begin(
        context: &Context,
        args: &DeploymentArgs,
        limit: Duration,
        wanted: impl FnOnce(&str) -> Vec<Permission>,
    ) -> Result<Self, Failure> {
        let connection = connect(args, &context.environment).await?;
        let deadline = Deadline::after(limit);
        let cluster = &connection.cluster;
        require_namespace(cluster, deadline).await?;
        let mut all = permissions::to_survey(cluster.namespace());
        all.extend(wanted(cluster.namespace()));
        if args.application.is_some() || args.deployment_id.is_some() {
            all.extend(permissions::to_record(cluster.namespace()));
        }
        permissions::check(cluster, all, deadline).await?;
        Ok(Self {
            objects: AnyObjects::new(cluster, deadline),
            connection,
            deadline,
        })
    }

    /// Refuses what is missing of the permissions that the plan turned out to need.
    pub(crate) async fn check(&self, wanted: Vec<Permission>) -> Result<(), Failure> {
        permissions::check(self.cluster(), wanted, self.deadline).await
    }

    /// Connects for reading only: what may not be read says so itself.
    pub(crate) async fn to_read(
        context: &Context,
        args: &DeploymentArgs,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let connection = connect(args, &context.environment).await?;
        let deadline = Deadline::after(limit);
        require_namespace(&connection.cluster, deadline).await?;
        Ok(Self {
            objects: AnyObjects::new(&connection.cluster, deadline),
            connection,
            deadline,
        })
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.connection.cluster
    }

    /// The namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.connection.cluster.namespace()
    }
}
