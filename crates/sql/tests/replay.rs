//! What the catalog knows after a script was replayed.

use switchyard_sql::{Catalog, Name, parse};

fn replayed(script: &str) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.begin_migration();
    for located in parse(script) {
        catalog.apply(&located.statement);
    }
    catalog
}

/// A name as a script writes it, with or without a schema.
fn name(text: &str) -> Name {
    match text.split_once('.') {
        Some((schema, name)) => Name {
            schema: Some(schema.to_owned()),
            name: name.to_owned(),
        },
        None => Name::plain(text),
    }
}

#[test]
fn a_search_path_is_in_force_as_long_as_the_server_has_it() {
    for (script, made) in [
        ("SET search_path = a; CREATE TABLE t (id int)", "a.t"),
        (
            "BEGIN; SET LOCAL search_path = a; COMMIT; CREATE TABLE t (id int)",
            "public.t",
        ),
        (
            "SET search_path = a; BEGIN; SET LOCAL search_path = b; COMMIT; CREATE TABLE t (id int)",
            "a.t",
        ),
        (
            "SET search_path = a; DISCARD ALL; CREATE TABLE t (id int)",
            "public.t",
        ),
    ] {
        assert!(replayed(script).table(&name(made)).is_some(), "{script}");
    }
}

#[test]
fn temporary_tables_are_gone_when_the_session_is_discarded() {
    let catalog = replayed("CREATE TEMP TABLE t (id int); DISCARD ALL");
    assert!(catalog.table(&name("t")).is_none());
}
