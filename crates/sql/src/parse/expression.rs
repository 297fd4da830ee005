//! Expressions: which functions they call, which columns they name, what they say about null.

use squawk_syntax::ast::{self, AstNode, BinOp, PostfixOp};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::names;
use crate::function::{Known, known};
use crate::{Expression, Volatility};

/// What has to be known of an expression.
pub(super) fn expression(node: &SyntaxNode) -> Expression {
    let mut volatility = Volatility::Constant;
    for function in called(node) {
        match known(&function) {
            Some(Known::Stable) => {}
            Some(Known::Volatile) => {
                return Expression {
                    volatility: Volatility::Volatile { function },
                };
            }
            None => volatility = Volatility::Unknown { function },
        }
    }
    Expression { volatility }
}

/// Names of the functions that a node calls, in lower case. Those with a grammar of their own, such as
/// `EXTRACT`, are left out: all of them are PostgreSQL's.
pub(super) fn called(node: &SyntaxNode) -> Vec<String> {
    let calls = node.descendants().filter_map(ast::CallExpr::cast);
    let names = calls.filter_map(|call| {
        let function = call.expr()?;
        let name = names::name(function.syntax());
        Some(name.map_or_else(
            || function.syntax().text().to_string(),
            |name| match name.schema.as_deref() {
                None | Some("pg_catalog") => name.name,
                // `uuid-ossp` and others are often kept in a schema of their own.
                Some(schema) => {
                    if matches!(schema, "extensions" | "public") && known(&name.name).is_some() {
                        name.name
                    } else {
                        format!("{schema}.{}", name.name)
                    }
                }
            },
        ))
    });
    names.collect()
}

/// Functions that a node calls of which nothing is known.
pub(super) fn unknown_calls(node: &SyntaxNode) -> Vec<String> {
    let mut unknown: Vec<String> = called(node)
        .into_iter()
        .filter(|name| known(name).is_none())
        .collect();
    let from_items = node.descendants().filter_map(ast::FunctionFromItem::cast);
    let set_returning = from_items.flat_map(|item| called(item.syntax()));
    unknown.extend(set_returning.filter(|name| known(name).is_none()));
    unknown.sort();
    unknown.dedup();
    unknown
}

/// Columns that an expression names, each once. `None` where one of them cannot be read.
pub(super) fn columns(node: &SyntaxNode) -> Option<Vec<String>> {
    let columns = references(node).map(|reference| names::word(reference.syntax()));
    let mut columns: Vec<String> = columns.collect::<Option<_>>()?;
    columns.sort();
    columns.dedup();
    Some(columns)
}

/// Whether an expression names columns, or what may be one.
pub(super) fn has_columns(node: &SyntaxNode) -> bool {
    references(node).next().is_some()
}

/// Names in an expression that are not those of functions.
fn references(node: &SyntaxNode) -> impl Iterator<Item = ast::NameRef> {
    let references = node.descendants().filter_map(ast::NameRef::cast);
    references.filter(|reference| {
        let parent = reference.syntax().parent();
        parent.is_none_or(|parent| parent.kind() != SyntaxKind::CALL_EXPR)
    })
}

/// Columns that cannot be null where the condition holds: `a IS NOT NULL AND b IS NOT NULL`.
///
/// PostgreSQL proves no more than that (`ConstraintImpliedByRelConstraint`).
pub(super) fn not_null_columns(condition: &ast::Expr) -> Vec<String> {
    let mut found = Vec::new();
    for part in conjuncts(condition.clone()) {
        let column = match &part {
            ast::Expr::PostfixExpr(test) => match test.op() {
                Some(PostfixOp::NotNull(_)) => column_of(test.syntax()),
                _ => is_not_null_words(test.syntax()),
            },
            ast::Expr::BinExpr(test) => is_not_null_words(test.syntax()),
            _ => None,
        };
        found.extend(column);
    }
    found
}

/// The parts of a condition that must all hold.
pub(super) fn conjuncts(condition: ast::Expr) -> Vec<ast::Expr> {
    let mut parts = Vec::new();
    let mut open = vec![condition];
    while let Some(part) = open.pop() {
        match part {
            ast::Expr::ParenExpr(inner) => match inner.expr() {
                Some(inner) => open.push(inner),
                None => parts.push(ast::Expr::ParenExpr(inner)),
            },
            ast::Expr::BinExpr(both) if matches!(both.op(), Some(BinOp::And(_))) => {
                open.extend(both.lhs());
                open.extend(both.rhs());
            }
            other => parts.push(other),
        }
    }
    parts
}

fn column_of(node: &SyntaxNode) -> Option<String> {
    let reference = node.children().find_map(ast::NameRef::cast)?;
    names::word(reference.syntax())
}

/// `column IS NOT NULL`, word by word.
fn is_not_null_words(node: &SyntaxNode) -> Option<String> {
    let words: Vec<String> = names::tokens(node)
        .map(|token| token.text().to_owned())
        .collect();
    let [column, is, not, null] = words.as_slice() else {
        return None;
    };
    let matches = [(is, "is"), (not, "not"), (null, "null")]
        .iter()
        .all(|(word, keyword)| word.eq_ignore_ascii_case(keyword));
    matches.then(|| names::identifier(column))?
}
