//! Cutting loses nothing and survives everything.

use proptest::prelude::*;
use switchyard_sql::cut;

/// Texts made of what decides where a statement ends.
fn scripts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("$$".to_owned()),
        Just("$a$".to_owned()),
        Just("$1".to_owned()),
        Just("--".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\\".to_owned()),
        Just("\\.".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just(";".to_owned()),
        Just(" ".to_owned()),
        Just("E'".to_owned()),
        Just("CREATE FUNCTION f() BEGIN ATOMIC ".to_owned()),
        Just("END".to_owned()),
        Just("COPY t FROM stdin;".to_owned()),
        "[a-zéß€𝄞]{1,4}",
    ];
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

fn check(script: &str) {
    let pieces = cut(script);
    let whole: String = pieces
        .iter()
        .map(|piece| &script[piece.span.clone()])
        .collect();
    assert_eq!(whole, script);
    let mut end = 0;
    for piece in &pieces {
        assert_eq!(piece.span.start, end);
        assert!(piece.span.end > piece.span.start);
        end = piece.span.end;
        if let Some(statement) = &piece.statement {
            assert!(statement.start >= piece.span.start && statement.end <= piece.span.end);
            assert!(!script[statement.clone()].trim_ascii().is_empty());
        }
    }
    assert_eq!(end, script.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_byte_of_a_script_is_lost(script in scripts()) {
        check(&script);
    }

    #[test]
    fn no_text_at_all_makes_it_panic(script in any::<String>()) {
        check(&script);
    }
}
