//! How migrations meet what the ones before them have made.

use switchyard_sql::{Catalog, parse};

/// Begins a migration: each has a session of its own, whose search path leads to its schema.
pub(crate) fn begin_migration(catalog: &mut Catalog, namespace: &str) {
    catalog.begin_migration();
    let path = format!("SET search_path TO \"{}\"", namespace.replace('"', "\"\""));
    for located in parse(&path) {
        catalog.apply(&located.statement);
    }
}
