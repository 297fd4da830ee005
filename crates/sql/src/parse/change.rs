//! Statements that read and change rows: which tables.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

use super::reach::{Target, inserted, reach};
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
            Some(ast::InsertSource::SelectVariant(select)) => inserted(node, select.syntax()),
            Some(ast::InsertSource::DefaultValues(_)) | None => Reach::Limited,
        };
        (ChangeVerb::Insert, table, reach)
    } else if let Some(update) = ast::Update::cast(node.clone()) {
        let table = names::name(update.relation_name()?.syntax())?;
        let condition = update.where_clause_or_current_of();
        let target = Target {
            node,
            table: &table.name,
            alias: update.alias(),
        };
        let reach = reach(target, condition);
        (ChangeVerb::Update, table, reach)
    } else if let Some(delete) = ast::Delete::cast(node.clone()) {
        let table = names::name(delete.relation_name()?.syntax())?;
        let condition = delete.where_clause_or_current_of();
        let target = Target {
            node,
            table: &table.name,
            alias: delete.alias(),
        };
        let reach = reach(target, condition);
        (ChangeVerb::Delete, table, reach)
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
