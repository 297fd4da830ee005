//! Tables, indexes and views: how they are made and dropped.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

use super::{change, column, expression, names};
use crate::statement::{
    AlterIndex, AlterIndexAction, CreateIndex, CreateTable, CreateTableAs, DropIndex,
    DropRelations, Query, Reindex, ReindexTarget,
};
use crate::{DataType, Name, Statement};

/// `CREATE TABLE`.
pub(super) fn create_table(create: &ast::CreateTable) -> Option<CreateTable> {
    let mut table = CreateTable {
        table: names::name(create.table_name()?.syntax())?,
        columns: Vec::new(),
        constraints: Vec::new(),
        partition_of: match create.partition_of() {
            Some(partition) => Some(names::name(partition.table_name_ref()?.syntax())?),
            None => None,
        },
        inherits: match create.inherits() {
            Some(inherits) => all_names(inherits.table_name_refs())?,
            None => Vec::new(),
        },
        like: Vec::new(),
        is_default_partition: matches!(
            create.partition_type(),
            Some(ast::PartitionType::PartitionDefault(_))
        ),
        is_partitioned: create.partition_by().is_some(),
        is_temporary: matches!(create.persistence(), Some(ast::Persistence::Temp(_))),
        if_not_exists: create.if_not_exists().is_some(),
    };
    let arguments = create.table_arg_list().into_iter();
    for argument in arguments.flat_map(|list| list.args()) {
        match argument {
            ast::TableArg::Column(own) => {
                let column = own_column(&own)?;
                if own.ty().is_some() {
                    table.columns.push(column);
                } else {
                    // It adds to a column of the parent, or of the type that the table is made of.
                    table.constraints.extend(column.constraints);
                }
            }
            ast::TableArg::TableConstraint(constraint) => {
                table
                    .constraints
                    .push(column::table_constraint(constraint)?);
            }
            ast::TableArg::LikeClause(like) => {
                table
                    .like
                    .push(names::name(like.relation_name_ref()?.syntax())?);
            }
        }
    }
    Some(table)
}

fn own_column(own: &ast::Column) -> Option<crate::statement::Column> {
    let constraints = own.clauses().filter_map(|clause| match clause {
        ast::ColumnClause::ColumnConstraint(constraint) => {
            ast::Constraint::cast(constraint.syntax().clone())
        }
        ast::ColumnClause::AlterOptionList(_)
        | ast::ColumnClause::Collate(_)
        | ast::ColumnClause::CompressionMethod(_)
        | ast::ColumnClause::Storage(_)
        | ast::ColumnClause::WithOptions(_) => None,
    });
    let data_type = match own.ty() {
        Some(data_type) => names::data_type(data_type.syntax())?,
        None => DataType::new(&Name::plain("text"), None, false),
    };
    column::column(own.name(), data_type, constraints)
}

/// `CREATE TABLE … AS`.
pub(super) fn create_table_as(create: &ast::CreateTableAs) -> Option<CreateTableAs> {
    Some(CreateTableAs {
        table: names::name(create.table_name()?.syntax())?,
        is_temporary: matches!(create.persistence(), Some(ast::Persistence::Temp(_))),
        query: Box::new(match create.query()? {
            ast::CreateTableAsQuery::SelectVariant(query) => {
                filler(query.syntax(), create.data_option())?
            }
            // What was prepared under the name is not known.
            ast::CreateTableAsQuery::Execute(execute) => {
                let name = names::word(execute.prepared_statement_ref()?.syntax())?;
                Statement::Query(Query {
                    calls: vec![format!("EXECUTE {name}")],
                    locks_rows: false,
                })
            }
        }),
    })
}

/// What is run to fill a new table or view.
pub(super) fn filler(query: &SyntaxNode, data: Option<ast::DataOption>) -> Option<Statement> {
    match data {
        Some(ast::DataOption::WithNoData(_)) => Some(Statement::Query(Query {
            calls: Vec::new(),
            locks_rows: false,
        })),
        Some(ast::DataOption::WithData(_)) | None => change::query(query),
    }
}

/// `SELECT … INTO`.
pub(super) fn select_into(select: &ast::SelectInto) -> Option<CreateTableAs> {
    let into = select.into_clause()?;
    Some(CreateTableAs {
        table: names::name(into.table_name()?.syntax())?,
        is_temporary: matches!(into.persistence(), Some(ast::Persistence::Temp(_))),
        query: Box::new(change::query(select.syntax())?),
    })
}

/// `CREATE INDEX`.
pub(super) fn create_index(create: &ast::CreateIndex) -> Option<CreateIndex> {
    let relation = create.table_relation_name()?;
    let table = names::name(relation.syntax())?;
    let (mut columns, mut expression_columns) = (Vec::new(), Vec::new());
    let mut is_plain = true;
    for item in create.partition_item_list()?.partition_items() {
        let item = item.expr()?;
        match plain_column(&item) {
            Some(column) => columns.push(names::word(column.syntax())?),
            None => {
                is_plain = false;
                expression_columns.extend(expression::columns(item.syntax())?);
            }
        }
    }
    if let Some(condition) = create.where_clause() {
        is_plain = false;
        expression_columns.extend(expression::columns(condition.syntax())?);
    }
    Some(CreateIndex {
        name: match create.index() {
            Some(index) => Some(table.beside(names::word(index.syntax())?)),
            None => None,
        },
        columns,
        expression_columns,
        is_plain,
        table,
        is_unique: create.unique_token().is_some(),
        is_concurrent: create.concurrently_token().is_some(),
        is_only: relation.only_token().is_some(),
        if_not_exists: create.if_not_exists().is_some(),
    })
}

/// The column that an item of an index is, where it is no expression.
fn plain_column(item: &ast::Expr) -> Option<ast::NameRef> {
    match item {
        ast::Expr::NameRef(column) => Some(column.clone()),
        ast::Expr::Collate(with) => plain_column(&with.expr()?),
        ast::Expr::ParenExpr(inner) => plain_column(&inner.expr()?),
        _ => None,
    }
}

/// `DROP INDEX`.
pub(super) fn drop_index(drop: &ast::DropIndex) -> Option<DropIndex> {
    Some(DropIndex {
        names: all_names(drop.index_refs())?,
        is_concurrent: drop.concurrently_token().is_some(),
        if_exists: drop.if_exists().is_some(),
    })
}

/// `ALTER INDEX`.
pub(super) fn alter_index(alter: &ast::AlterIndex) -> Option<AlterIndex> {
    let action = match alter.action()? {
        ast::AlterIndexAction::IndexRenameTo(rename) => {
            AlterIndexAction::Rename(names::word(rename.index()?.syntax())?)
        }
        ast::AlterIndexAction::AttachIndexPartition(attach) => {
            AlterIndexAction::Attach(names::name(attach.index_ref()?.syntax())?)
        }
        ast::AlterIndexAction::SetTablespace(_) => AlterIndexAction::SetTablespace,
        ast::AlterIndexAction::AlterSetStatistics(_)
        | ast::AlterIndexAction::DependsOnExtension(_)
        | ast::AlterIndexAction::NoDependsOnExtension(_)
        | ast::AlterIndexAction::ResetOptions(_)
        | ast::AlterIndexAction::SetOptions(_) => AlterIndexAction::Other,
    };
    Some(AlterIndex {
        name: names::name(alter.index_ref()?.syntax())?,
        action,
    })
}

/// `REINDEX`.
pub(super) fn reindex(reindex: &ast::Reindex) -> Option<Reindex> {
    let target = reindex.reindex_target()?;
    let options = reindex.reindex_option_list().into_iter();
    let is_option = options
        .flat_map(|list| list.reindex_options())
        .any(|option| {
            let text = option.syntax().text().to_string().to_lowercase();
            text.starts_with("concurrently")
                && !["off", "false", "no", "0"]
                    .iter()
                    .any(|no| text.ends_with(no))
        });
    let (target, is_word) = match target {
        ast::ReindexTarget::ReindexTargetIndex(index) => (
            ReindexTarget::Index(names::name(index.index_ref()?.syntax())?),
            index.concurrently_token().is_some(),
        ),
        ast::ReindexTarget::ReindexTargetTable(table) => (
            ReindexTarget::Table(names::name(table.table_name_ref()?.syntax())?),
            table.concurrently_token().is_some(),
        ),
        ast::ReindexTarget::ReindexTargetDatabase(all) => (
            ReindexTarget::Everything,
            all.concurrently_token().is_some(),
        ),
        ast::ReindexTarget::ReindexTargetSchema(all) => (
            ReindexTarget::Everything,
            all.concurrently_token().is_some(),
        ),
        ast::ReindexTarget::ReindexTargetSystem(_) => (ReindexTarget::Everything, false),
    };
    Some(Reindex {
        target,
        is_concurrent: is_word || is_option,
    })
}

/// `DROP` of relations or types.
pub(super) fn dropped<N: AstNode>(
    names: impl Iterator<Item = N>,
    behavior: Option<ast::DropBehavior>,
    kind: &'static str,
) -> Option<DropRelations> {
    Some(DropRelations {
        names: all_names(names)?,
        cascades: matches!(behavior, Some(ast::DropBehavior::Cascade(_))),
        kind,
    })
}

/// The names of a list, all of them or none.
pub(super) fn all_names<N: AstNode>(nodes: impl Iterator<Item = N>) -> Option<Vec<Name>> {
    let names: Option<Vec<Name>> = nodes.map(|node| names::name(node.syntax())).collect();
    names.filter(|names| !names.is_empty())
}
