//! No text makes the parser, or what is told from its statements, panic or run out of stack.

use std::ops::Range;

use proptest::prelude::*;
use switchyard_sql::statement::{AlterTableAction, ConstraintKind, DoBlock};
use switchyard_sql::{
    Catalog, Delivery, Name, Parser, ServerVersion, Statement, effects, parse, phase, places,
};

/// Goes through everything that is told of a script.
fn tell(script: &str) -> Vec<Statement> {
    let mut catalog = Catalog::default();
    let statements = parse(script);
    assert_eq!(
        places(&statements, Delivery::OneString).len(),
        statements.len()
    );
    for located in &statements {
        let _ = &script[located.span.clone()];
        if let Statement::Do(block) = &located.statement {
            assert_inside(block, script, &located.span);
        }
        let _ = effects(&located.statement, &catalog, ServerVersion::DEFAULT);
        let _ = phase(&located.statement, &catalog, ServerVersion::DEFAULT);
        catalog.apply(&located.statement);
    }
    statements
        .into_iter()
        .map(|located| located.statement)
        .collect()
}

/// Everything in a block stands in the bytes of what is around it, which can be cut out of the script.
fn assert_inside(block: &DoBlock, script: &str, around: &Range<usize>) {
    for unknown in &block.unknown {
        assert!(around.contains(&unknown.offset), "{unknown:?}: {script}");
    }
    for inner in &block.statements {
        let is_inside = around.start <= inner.span.start && inner.span.end <= around.end;
        assert!(
            is_inside && script.get(inner.span.clone()).is_some(),
            "{inner:?}: {script}"
        );
        if let Statement::Do(nested) = &inner.statement {
            assert_inside(nested, script, &inner.span);
        } else if let Statement::Unknown(unknown) = &inner.statement {
            assert!(inner.span.contains(&unknown.offset), "{inner:?}: {script}");
        }
    }
}

/// Blocks in blocks, by all the ways in which one is written into the other.
fn blocks() -> impl Strategy<Value = String> {
    let statement = prop::sample::select(vec![
        "DROP TABLE t",
        "EXECUTE q",
        "EXECUTE 'LOCK é; FROB'",
        "PERFORM mine('x')",
        "FOR r IN EXECUTE 'SELECT 1' LOOP NULL; END LOOP",
        "UPDATE é SET a = E'\\u00e9'",
        "FROB",
    ]);
    statement
        .prop_map(str::to_owned)
        .prop_recursive(4, 12, 3, |inner| {
            (prop::collection::vec(inner, 1..3), 0..5_usize).prop_map(|(inner, way)| {
                let body = format!("BEGIN\n{}; END", inner.join("; "));
                let quoted = body.replace('\'', "''");
                match way {
                    0 => format!("DO '{quoted}'"),
                    1 => format!("DO E'{}'", quoted.replace('\\', "\\\\")),
                    2 => format!("EXECUTE 'DO ''{}'''", quoted.replace('\'', "''")),
                    _ => {
                        let tag = format!("$b{}$", body.len());
                        format!("DO {tag} {body} {tag}")
                    }
                }
            })
        })
}

/// Texts of words that mean something, in an order that means nothing.
fn scripts() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "ALTER TABLE",
        "t",
        "\"T\"",
        "public.",
        "ADD COLUMN",
        "c",
        "integer",
        "varchar(10)",
        "[]",
        "DEFAULT",
        "now()",
        "random()",
        "NOT NULL",
        "NOT VALID",
        "CHECK (",
        ")",
        "(",
        ",",
        ";",
        "CREATE INDEX",
        "CONCURRENTLY",
        "ON",
        "DROP",
        "TABLE",
        "CASCADE",
        "DO $$",
        "$$",
        "BEGIN",
        "END",
        "EXECUTE",
        "'x'",
        "UPDATE",
        "SET",
        "WHERE",
        "id",
        "=",
        "1",
        "IN",
        "SELECT",
        "FROM",
        "LIMIT",
        "REFERENCES",
        "UNIQUE",
        "PRIMARY KEY",
        "USING",
        "TYPE",
        "PARTITION OF",
        "FOR VALUES",
        "ATTACH PARTITION",
        "VALIDATE CONSTRAINT",
        "RENAME TO",
        "lock_timeout",
        "TRUNCATE",
        "ONLY",
        "COMMENT ON",
        "IS NOT NULL",
        "AND",
        "U&\"x\"",
        "::",
        "CREATE DOMAIN",
        "AS",
        "ALTER TYPE",
        "ADD VALUE",
        "--",
        "\n",
        "é",
        "COPY",
        "REINDEX",
        "VACUUM",
    ]);
    prop::collection::vec(words, 0..25).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_order_of_words_makes_it_panic(script in scripts()) {
        tell(&script);
    }

    #[test]
    fn what_is_in_a_block_stands_inside_of_it(block in blocks()) {
        tell(&format!("SELECT 'é'; DO $top$ BEGIN {block}; END $top$; SELECT 1"));
    }

    #[test]
    fn no_text_at_all_makes_it_panic(script in any::<String>()) {
        tell(&script);
    }
}

#[test]
fn texts_that_nest_deep_do_not_run_out_of_stack() {
    for (one, count) in [
        ("(", 400),
        ("(", 1_000_000),
        ("NOT ", 2_000),
        ("1 + ", 5_000),
        ("CASE WHEN ", 300),
        ("ARRAY[", 400),
    ] {
        for script in [
            format!("SELECT {}", one.repeat(count)),
            format!("SELECT {}1", one.repeat(count)),
            format!("DO $$ BEGIN PERFORM {}1; END $$", one.repeat(count)),
            format!(
                "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT {}1'",
                one.repeat(count)
            ),
        ] {
            assert_eq!(tell(&script).len(), 1);
        }
    }
}

#[test]
fn a_deep_statement_is_still_understood() {
    let sum = "1 + ".repeat(5_000);
    assert!(matches!(
        tell(&format!("SELECT {sum} 1"))[0],
        Statement::Query(_)
    ));
    let nested = format!("SELECT {}1{}", "(".repeat(100), ")".repeat(100));
    assert!(matches!(tell(&nested)[0], Statement::Query(_)));
}

/// `U&"…"` names something, but what is not read here.
#[test]
fn what_cannot_be_read_is_unknown_and_never_left_out() {
    for script in [
        "CREATE TABLE t (U&\"a\" int)",
        "CREATE TABLE t (a int, UNIQUE (a, U&\"b\"))",
        "CREATE TABLE t (a int, PRIMARY KEY (U&\"a\"))",
        "CREATE TABLE t (a int, FOREIGN KEY (U&\"a\") REFERENCES u)",
        "CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES u (U&\"a\"))",
        "CREATE TABLE t (a int, CONSTRAINT U&\"c\" FOREIGN KEY (a) REFERENCES u)",
        "CREATE TABLE t (a int CONSTRAINT U&\"c\" CHECK (a > 0))",
        "CREATE TABLE t (a int CHECK (U&\"a\" > 0))",
        "CREATE TABLE t PARTITION OF u (a CHECK (U&\"a\" > 0)) DEFAULT",
        "CREATE TABLE t () INHERITS (u, U&\"v\")",
        "CREATE INDEX i ON t (a, U&\"b\")",
        "CREATE INDEX i ON t (a, lower(U&\"b\"))",
        "CREATE INDEX i ON t (a) WHERE U&\"b\" IS NULL",
        "DROP INDEX i, U&\"j\"",
        "VACUUM FULL t, U&\"u\"",
        "ANALYZE t, U&\"u\"",
        "TRUNCATE t, U&\"u\"",
        "LOCK t, U&\"u\"",
        "COMMENT ON COLUMN s.t.U&\"c\" IS 'x'",
        "SET lock_timeout = E'\\x30'",
        "SET search_path = a, U&\"b\"",
        "SET SCHEMA U&'b'",
        "SET lock_timeout FROM CURRENT",
        "RESET U&\"lock_timeout\"",
        "ALTER TABLE t SET (fillfactor = 70, U&\"user_catalog_table\" = true)",
        "ALTER TABLE t ADD UNIQUE (a, U&\"b\")",
        "ALTER TABLE t ADD CONSTRAINT U&\"c\" CHECK (a > 0)",
        "ALTER TABLE t ADD CONSTRAINT U&\"c\" EXCLUDE (a WITH =)",
        "ALTER TABLE t ADD COLUMN a int CONSTRAINT U&\"c\" REFERENCES u",
        "ALTER TABLE t DROP COLUMN U&\"a\"",
    ] {
        let statements = tell(script);
        let is_unknown = match statements.as_slice() {
            [Statement::Unknown(_)] => true,
            [Statement::AlterTable(alter)] => {
                matches!(alter.actions.as_slice(), [AlterTableAction::Unknown(_)])
            }
            _ => false,
        };
        assert!(is_unknown, "{script}: {statements:?}");
    }
}

#[test]
fn a_foreign_key_has_its_columns() {
    let statements = tell("ALTER TABLE t ADD FOREIGN KEY (a, b) REFERENCES u (c, d)");
    let [Statement::AlterTable(alter)] = statements.as_slice() else {
        panic!("{statements:?}");
    };
    let AlterTableAction::AddConstraint(constraint) = &alter.actions[0] else {
        panic!("{alter:?}");
    };
    let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
    assert_eq!(
        constraint.kind,
        ConstraintKind::ForeignKey {
            columns: words(["a", "b"]),
            references: Name::plain("u"),
            referenced: words(["c", "d"]),
        }
    );
}

#[test]
fn a_parser_that_has_read_much_reads_as_a_new_one() {
    let script = "SET lock_timeout = '2s'; BEGIN; DROP TABLE t; FROB; SET lock_timeout = 0; COMMIT; DO $$ BEGIN FROB; END $$; RESET ALL;";
    let mut parser = Parser::default();
    for before in ["", "SELECT 1; ", "\n\n"] {
        let script = format!("{before}{script}");
        assert_eq!(parser.parse(&script), parse(&script));
    }
}
