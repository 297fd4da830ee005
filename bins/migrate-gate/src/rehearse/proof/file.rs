//! A file with captured statements: SQL, or JSON lines.

use std::path::Path;

use switchyard_runner::{Failure, Kind};

use super::Statement;

/// Larger than any capture of distinct statements, and little enough to read whole.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Reads a file of statements.
///
/// # Errors
/// Kind input: it is not there, too large, holds none, or a line that is none.
pub(crate) fn read(path: &Path) -> Result<Vec<Statement>, Failure> {
    let refused = |reason: String| {
        Failure::message(
            Kind::Input,
            format!("input `queries`: `{}`: {reason}", path.display()),
        )
    };
    let size = std::fs::metadata(path).map_err(|cause| refused(cause.to_string()))?;
    if size.len() > LARGEST {
        return Err(refused(format!(
            "{} bytes, at most {LARGEST} are read",
            size.len()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|cause| refused(cause.to_string()))?;
    let statements = parse(&text).map_err(|reason| {
        refused(reason).hint(r#"a line looks like {"text": "SELECT …", "calls": 12}"#)
    })?;
    if statements.is_empty() {
        return Err(refused("it holds no statement".to_owned()));
    }
    Ok(statements)
}

fn parse(text: &str) -> Result<Vec<Statement>, String> {
    if text.trim_start().starts_with('{') {
        let lines = (1..).zip(text.lines());
        return lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                serde_json::from_str(line).map_err(|cause| format!("line {number}: {cause}"))
            })
            .collect();
    }
    let pieces = switchyard_sql::cut(text).into_iter();
    Ok(pieces
        .filter_map(|piece| piece.statement)
        .map(|span| Statement {
            text: text[span].to_owned(),
            calls: 1,
            database: None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_a_wrong_line_is_named() {
        let sql = parse("SELECT ';'; -- a comment\nUPDATE item SET a = $1;\n").unwrap();
        assert_eq!(sql.len(), 2);
        assert_eq!(sql[1].text, "UPDATE item SET a = $1");
        let json =
            parse("{\"text\": \"SELECT 1\", \"calls\": 12}\n\n{\"text\": \"SELECT 2\"}").unwrap();
        assert_eq!((json[0].calls, json[1].calls), (12, 1));
        let error = parse("{\"text\": \"SELECT 1\"}\n{\"query\": \"SELECT 2\"}").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }
}
