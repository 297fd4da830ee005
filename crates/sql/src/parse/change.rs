//! Statements that read and change rows: which tables, and how many rows their text lets them reach.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode, BinOp};

use super::{expression, names};
use crate::Statement;
use crate::statement::{Change, ChangeVerb, Query, Reach};

/// A statement that reads, or, where one of its `WITH` clauses changes rows, that changes them.
pub(super) fn query(node: &SyntaxNode) -> Option<Statement> {
    match with_changes(node)? {
        Some(change) => Some(Statement::Change(change)),
        None => Some(Statement::Query(Query {
            calls: expression::unknown_calls(node),
            locks_rows: node
                .descendants()
                .any(|inner| ast::LockingClause::can_cast(inner.kind())),
        })),
    }
}

/// A statement that changes rows, with what its `WITH` clauses change besides.
pub(super) fn change(node: &SyntaxNode) -> Option<Statement> {
    let mut change = single(node)?;
    for inner in nested(node) {
        change.also.push(single(&inner)?);
    }
    Some(Statement::Change(change))
}

/// The changes in the `WITH` clauses of a statement that reads; the outer option tells whether all
/// could be read.
#[expect(
    clippy::option_option,
    reason = "a change that cannot be read is not the same as none"
)]
fn with_changes(node: &SyntaxNode) -> Option<Option<Change>> {
    let mut inner = nested(node);
    let Some(first) = inner.next() else {
        return Some(None);
    };
    let mut change = single(&first)?;
    for other in inner {
        change.also.push(single(&other)?);
    }
    Some(Some(change))
}

fn nested(node: &SyntaxNode) -> impl Iterator<Item = SyntaxNode> {
    let own = node.clone();
    node.descendants().filter(move |inner| {
        *inner != own
            && (ast::Insert::can_cast(inner.kind())
                || ast::Update::can_cast(inner.kind())
                || ast::Delete::can_cast(inner.kind())
                || ast::Merge::can_cast(inner.kind()))
    })
}

fn single(node: &SyntaxNode) -> Option<Change> {
    let (verb, table, reach) = if let Some(insert) = ast::Insert::cast(node.clone()) {
        let table = names::name(insert.relation_name_ref()?.syntax())?;
        let reach = match insert.insert_source() {
            Some(ast::InsertSource::SelectVariant(select)) => inserted(select.syntax()),
            Some(ast::InsertSource::DefaultValues(_)) | None => Reach::Limited,
        };
        (ChangeVerb::Insert, table, reach)
    } else if let Some(update) = ast::Update::cast(node.clone()) {
        let table = names::name(update.relation_name()?.syntax())?;
        let condition = update.where_clause_or_current_of();
        (ChangeVerb::Update, table, reach(node, condition))
    } else if let Some(delete) = ast::Delete::cast(node.clone()) {
        let table = names::name(delete.relation_name()?.syntax())?;
        let condition = delete.where_clause_or_current_of();
        (ChangeVerb::Delete, table, reach(node, condition))
    } else if let Some(merge) = ast::Merge::cast(node.clone()) {
        let table = names::name(merge.table_relation_name()?.syntax())?;
        (ChangeVerb::Merge, table, Reach::Unlimited)
    } else {
        let copy = ast::Copy::cast(node.clone())?;
        let table = names::name(copy.copy_table()?.table_name_ref()?.syntax())?;
        (ChangeVerb::Copy, table, Reach::Unlimited)
    };
    Some(Change {
        verb,
        table,
        reach,
        calls: expression::unknown_calls(node),
        also: Vec::new(),
    })
}

/// What `INSERT` adds: rows written out, or those of a query.
fn inserted(select: &SyntaxNode) -> Reach {
    let reads = select
        .descendants()
        .any(|inner| ast::FromClause::can_cast(inner.kind()));
    if reads && !is_limited(select) {
        Reach::Unlimited
    } else {
        Reach::Limited
    }
}

fn is_limited(node: &SyntaxNode) -> bool {
    let mut inner = node.descendants();
    inner.any(|inner| {
        ast::LimitClause::can_cast(inner.kind()) || ast::FetchClause::can_cast(inner.kind())
    })
}

fn reach(node: &SyntaxNode, condition: Option<ast::WhereClauseOrCurrentOf>) -> Reach {
    let condition = match condition {
        None => return Reach::Everything,
        Some(ast::WhereClauseOrCurrentOf::WhereCurrentOf(_)) => return Reach::Limited,
        Some(ast::WhereClauseOrCurrentOf::WhereClause(condition)) => condition.expr(),
    };
    let Some(condition) = condition else {
        return Reach::Unlimited;
    };
    if is_limited(node) {
        return Reach::Limited;
    }
    let (mut equal, mut at_least, mut at_most) = (Vec::new(), Vec::new(), Vec::new());
    for part in expression::conjuncts(condition) {
        match bound(&part) {
            Bound::Between => return Reach::Limited,
            Bound::Equal(column) => equal.push(column),
            Bound::AtLeast(column) => at_least.push(column),
            Bound::AtMost(column) => at_most.push(column),
            Bound::False => return Reach::Limited,
            Bound::True => return Reach::Everything,
            Bound::None => {}
        }
    }
    if at_least.iter().any(|column| at_most.contains(column)) {
        Reach::Limited
    } else if equal.is_empty() {
        Reach::Unlimited
    } else {
        Reach::Equals(equal)
    }
}

/// What one part of a condition says about a column.
enum Bound {
    Between,
    Equal(String),
    AtLeast(String),
    AtMost(String),
    True,
    False,
    None,
}

fn bound(part: &ast::Expr) -> Bound {
    match part {
        ast::Expr::BetweenExpr(between) if between.not_token().is_none() => Bound::Between,
        ast::Expr::Literal(literal) => match literal.syntax().text().to_string().as_str() {
            text if text.eq_ignore_ascii_case("true") => Bound::True,
            text if text.eq_ignore_ascii_case("false") => Bound::False,
            _ => Bound::None,
        },
        ast::Expr::BinExpr(comparison) => compared(comparison).unwrap_or(Bound::None),
        _ => Bound::None,
    }
}

fn compared(comparison: &ast::BinExpr) -> Option<Bound> {
    let (left, right) = (comparison.lhs()?, comparison.rhs()?);
    let operator = comparison.op()?;
    if is_constant(&left) && is_constant(&right) {
        let is_same = left.syntax().text() == right.syntax().text();
        return Some(match operator {
            BinOp::Eq(_) if is_same => Bound::True,
            BinOp::Eq(_) => Bound::False,
            _ => Bound::None,
        });
    }
    let column = column(&left)?;
    if let BinOp::In(_) = operator {
        let is_list = !right
            .syntax()
            .descendants()
            .any(|inner| ast::SelectClause::can_cast(inner.kind()));
        return is_list.then_some(Bound::Equal(column));
    }
    if !is_constant(&right) {
        return None;
    }
    match operator {
        BinOp::Eq(_) => Some(Bound::Equal(column)),
        BinOp::Gteq(_) | BinOp::RAngle(_) => Some(Bound::AtLeast(column)),
        BinOp::Lteq(_) | BinOp::LAngle(_) => Some(Bound::AtMost(column)),
        _ => None,
    }
}

/// A column, with or without the name of its table.
fn column(side: &ast::Expr) -> Option<String> {
    match side {
        ast::Expr::NameRef(_) | ast::Expr::FieldExpr(_) => names::word(side.syntax()),
        _ => None,
    }
}

/// A literal or a cast of one, a parameter of the batch, an expression without columns.
fn is_constant(side: &ast::Expr) -> bool {
    expression::columns(side.syntax()).is_empty()
        && !side
            .syntax()
            .descendants()
            .any(|inner| ast::SelectClause::can_cast(inner.kind()))
}
