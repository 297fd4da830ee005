//! Counts and checksums of a whole database, over several sessions at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use futures::future::try_join_all;
use switchyard_postgres::{CountedTable, DatabaseContents, PostgresError, Session, TableContents};

/// Counts, and what could not be counted with the reason.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) contents: DatabaseContents,
    pub(crate) uncounted: Vec<String>,
}

/// Counts rows and large objects; sequences are the caller's, because it matters when they are read. Each of `sessions`
/// is in a transaction in which the form of values is pinned. Large objects have a session of their own, because an error
/// ends its transaction.
///
/// # Errors
/// As the sessions' own; large objects that cannot be read are told in `uncounted`.
pub(crate) async fn count(
    sessions: &[Session],
    large_objects: &Session,
) -> Result<Counted, PostgresError> {
    let mut contents = DatabaseContents::default();
    let mut uncounted = Vec::new();
    if let Some(first) = sessions.first() {
        let tables = first.counted_tables().await?;
        contents.tables = tables_of(sessions, tables).await?;
    }
    match large_objects.large_objects().await {
        Ok(counted) => contents.large_objects = Some(counted),
        Err(cause) if cause.is_lost() => return Err(cause),
        Err(cause) => uncounted.push(format!("large objects: {cause}")),
    }
    Ok(Counted {
        contents,
        uncounted,
    })
}

/// Largest tables first, each taken by the session that is free.
async fn tables_of(
    sessions: &[Session],
    tables: Vec<CountedTable>,
) -> Result<BTreeMap<String, TableContents>, PostgresError> {
    let queue = Mutex::new(VecDeque::from(tables));
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    let workers = sessions.iter().map(|session| async {
        let mut counted = Vec::new();
        while let Some(table) = next() {
            let contents = session.table_contents(&table).await?;
            counted.push((table.to_string(), contents));
        }
        Ok::<_, PostgresError>(counted)
    });
    Ok(try_join_all(workers).await?.into_iter().flatten().collect())
}
