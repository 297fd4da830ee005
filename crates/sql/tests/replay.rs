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

/// Names of what a catalog has of an index: its table and its columns.
fn index<'a>(catalog: &'a Catalog, index: &str) -> Option<(String, &'a [String])> {
    let index = catalog.index(&name(index))?;
    Some((index.table.to_string(), index.columns.as_slice()))
}

const SHOP: &str = "CREATE TABLE p (id int PRIMARY KEY, a int UNIQUE); CREATE INDEX p_low ON p (id, lower(a)); \
    CREATE TABLE c (id int, p_id int CONSTRAINT c_p REFERENCES p); CREATE TABLE d () INHERITS (p);";

#[test]
fn what_belongs_to_a_table_follows_it_to_another_name() {
    for (script, moved) in [
        ("ALTER TABLE p RENAME TO q", "q"),
        ("ALTER TABLE p SET SCHEMA other", "other.p"),
    ] {
        let catalog = replayed(&format!("{SHOP} {script}"));
        let (old, moved) = (name("p"), name(moved));
        assert!(catalog.table(&old).is_none(), "{script}");
        assert!(catalog.is_key(&moved, &["id".to_owned()]), "{script}");
        assert!(!catalog.is_key(&old, &["id".to_owned()]), "{script}");
        assert_eq!(catalog.referencing(&moved), [name("public.c")].into());
        assert_eq!(catalog.descendants(&moved), [name("public.d")], "{script}");
        let schema = moved.schema.as_deref().unwrap_or("public");
        let key = index(&catalog, &format!("{schema}.p_pkey"));
        assert_eq!(key.unwrap().0, moved.to_string(), "{script}");
    }
}

#[test]
fn what_is_in_a_column_follows_it() {
    let renamed = replayed(&format!("{SHOP} ALTER TABLE p RENAME COLUMN id TO key"));
    assert!(renamed.is_key(&name("p"), &["key".to_owned()]));
    let keyed = format!(
        "{SHOP} ALTER TABLE c ADD CONSTRAINT c_a FOREIGN KEY (id) REFERENCES p (a); ALTER TABLE p RENAME a TO b"
    );
    let c = [name("public.c")];
    assert_eq!(
        replayed(&keyed).referencing_column(&name("p"), "b"),
        c.clone().into()
    );
    let dropped = replayed(&format!("{SHOP} ALTER TABLE p DROP COLUMN id CASCADE"));
    assert!(index(&dropped, "p_low").is_none() && index(&dropped, "p_pkey").is_none());
    assert!(dropped.referencing(&name("p")).is_empty());
    let of_expression = replayed(&format!("{SHOP} ALTER TABLE p DROP COLUMN a"));
    assert!(index(&of_expression, "p_low").is_none());
}

#[test]
fn an_index_and_its_constraint_have_one_name() {
    let catalog = replayed(&format!("{SHOP} ALTER INDEX p_a_key RENAME TO p_b"));
    let table = catalog.table(&name("p")).unwrap();
    assert!(table.constraints.contains_key("p_b"));
    assert!(!table.constraints.contains_key("p_a_key"));
    // Nothing but the name is common to this index and this constraint.
    let script = "CREATE TABLE t (id int CONSTRAINT same CHECK (id > 0)); CREATE UNIQUE INDEX same ON t (id); ";
    for change in ["DROP CONSTRAINT same", "RENAME CONSTRAINT same TO other"] {
        let catalog = replayed(&format!("{script} ALTER TABLE t {change}"));
        assert!(index(&catalog, "same").is_some(), "{change}");
    }
    let catalog = replayed(&format!("{SHOP} ALTER TABLE p_low RENAME TO p_lower"));
    assert!(index(&catalog, "p_lower").is_some());
}

#[test]
fn what_is_dropped_takes_along_what_belongs_to_it() {
    let catalog = replayed(&format!("{SHOP} DROP TABLE p CASCADE"));
    assert!(catalog.table(&name("d")).is_none());
    assert!(index(&catalog, "p_pkey").is_none());
    assert!(catalog.referenced_by(&name("c")).is_empty());
    let catalog = replayed(&format!(
        "{SHOP} ALTER TABLE p DROP CONSTRAINT p_pkey CASCADE"
    ));
    assert!(index(&catalog, "p_pkey").is_none());
    assert!(catalog.referencing(&name("p")).is_empty());
    let script = "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (id int, e e); DROP TYPE e CASCADE";
    assert!(replayed(script).column(&name("t"), "e").is_none());
}

const PARTITIONED: &str = "CREATE TABLE r (id int PRIMARY KEY); \
    CREATE TABLE e (id int NOT NULL, at int, r_id int CONSTRAINT e_r REFERENCES r, CONSTRAINT e_id CHECK (id > 0)) PARTITION BY RANGE (at); \
    CREATE UNIQUE INDEX e_at ON e (at); \
    CREATE TABLE e1 PARTITION OF e FOR VALUES FROM (1) TO (2); \
    CREATE TABLE e2 (id int NOT NULL, at int, r_id int, CONSTRAINT e_id CHECK (id > 0)); ALTER TABLE e ATTACH PARTITION e2 FOR VALUES FROM (2) TO (3);";

#[test]
fn partitions_have_what_their_parent_has() {
    for partition in ["e1", "e2"] {
        let partition = name(partition);
        let of = |script: &str| replayed(&format!("{PARTITIONED} {script}"));
        let catalog = of("");
        assert_eq!(catalog.referenced_by(&partition), [name("public.r")].into());
        assert!(catalog.is_key(&partition, &["at".to_owned()]));
        assert!(!of("DROP INDEX e_at").is_key(&partition, &["at".to_owned()]));
        let catalog = of("CREATE UNIQUE INDEX e_both ON e (id, at)");
        assert!(catalog.is_key(&partition, &["at".to_owned(), "id".to_owned()]));
        let dropped = of("ALTER TABLE e DROP CONSTRAINT e_r, DROP CONSTRAINT e_id");
        assert!(dropped.table(&partition).unwrap().constraints.is_empty());
        let changed =
            of("ALTER TABLE e ALTER id DROP NOT NULL, ALTER id TYPE bigint, RENAME at TO moment");
        let id = changed.column(&partition, "id").unwrap();
        assert!(!id.is_not_null);
        assert_eq!(id.data_type.to_string(), "bigint");
        assert!(changed.is_key(&partition, &["moment".to_owned()]));
        let added = of("ALTER TABLE e ADD COLUMN n int CONSTRAINT e_n CHECK (n > 0)");
        let added = added.table(&partition).unwrap();
        assert!(added.columns.contains_key("n") && added.constraints.contains_key("e_n"));
        let detached = of(
            "ALTER TABLE e DETACH PARTITION e1; ALTER TABLE e DETACH PARTITION e2; DROP TABLE e",
        );
        assert!(detached.is_key(&partition, &["at".to_owned()]));
    }
}

#[test]
fn a_constraint_of_a_child_s_own_stays() {
    let script = "CREATE TABLE r (id int PRIMARY KEY); CREATE TABLE p (id int CONSTRAINT k REFERENCES r); \
        CREATE TABLE c (CONSTRAINT k FOREIGN KEY (id) REFERENCES r) INHERITS (p); ALTER TABLE p DROP CONSTRAINT k";
    let catalog = replayed(script);
    assert_eq!(catalog.referenced_by(&name("c")), [name("public.r")].into());
}
