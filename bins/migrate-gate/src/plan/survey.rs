//! Reads one database for the plan of its schemas.

use switchyard_postgres::{Relation, Session};

use super::cost::Costed;
use super::report::SchemaPlan;
use super::tool_version::tool_version;
use crate::database::{self, DatabaseGroup, Located, read_ledger};
use crate::ledger::standings;
use switchyard_runner::Failure;

/// Reads the ledgers, the sizes and the schema of a database.
///
/// # Errors
/// Kind remote when it does not answer.
pub(super) async fn survey(group: &DatabaseGroup) -> Result<Vec<SchemaPlan>, Failure> {
    let session = database::open_for_reading(&group.url).await?;
    let fingerprint = session.describe_schema().await.map_err(database::failure)?;
    let fingerprint = fingerprint.fingerprint().to_string();
    let relations = session.relations().await.map_err(database::failure)?;
    let mut plans = Vec::new();
    for located in &group.schemas {
        plans.push(plan_of(&session, located, &fingerprint, &relations).await?);
    }
    Ok(plans)
}

async fn plan_of(
    session: &Session,
    located: &Located,
    fingerprint: &str,
    relations: &[Relation],
) -> Result<SchemaPlan, Failure> {
    // Each URL of a group may log in as another role, and that role has to be able to look.
    let own = database::open_for_reading(&located.url).await?;
    let ledger = read_ledger(&own, located)
        .await
        .map_err(database::failure)?;
    let standings = standings(&ledger, &located.schema.migrations);
    let costed = Costed {
        migrations: &located.schema.migrations,
        standings: &standings,
        namespace: located.namespace(),
        relations,
        version: database::rules_of(session.version()),
    };
    Ok(SchemaPlan {
        statements: costed.costs(),
        name: located.name(),
        database: located.url.database().to_owned(),
        server: located.url.server(),
        server_version: session.version(),
        namespace: located.namespace().to_owned(),
        tool: located.schema.schema.tool,
        command: located.schema.schema.command.clone(),
        tool_version: tool_version(&located.schema.schema),
        fingerprint: fingerprint.to_owned(),
        standings,
        checksums: located
            .schema
            .migrations
            .iter()
            .map(|one| (one.name.clone(), one.checksums()[0].clone()))
            .collect(),
    })
}
