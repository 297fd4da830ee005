//! Which statement it is: the one place that names every kind that the parser knows.

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{self, AstNode, Stmt};

use super::{alter_table, body, change, names, plain, relation};
use crate::statement::{
    AlterDomain, AlterDomainAction, AlterType, AlterTypeAction, CreateDomain, CreateType,
    CreateView, Lock, Maintain, MaintainKind, OnTable, OnTableKind, RefreshMaterializedView,
    SetParameter, Target, TransactionCommand, Truncate, Unknown,
};
use crate::{LockMode, Statement};

/// Converts a statement that begins at `offset` of its script. `None` where the tree lacks something.
pub(super) fn statement(statement: Stmt, offset: usize) -> Option<Statement> {
    if let Some(plain) = plain::of(&statement) {
        return Some(Statement::Plain(plain));
    }
    tables(&statement)
        .or_else(|| on_tables(&statement))
        .or_else(|| types(&statement))
        .or_else(|| rows(&statement, offset))
        .or_else(|| session(&statement))
        .unwrap_or_else(|| {
            let text = statement.syntax().text().to_string();
            let words: Vec<&str> = text.split_ascii_whitespace().take(3).collect();
            let words = words.join(" ");
            let reason = if plain::drops_dependents(&statement) {
                format!("drops what depends on it too, which its text does not say (`{words}`)")
            } else {
                format!("is of a kind that no rule knows (`{words}`)")
            };
            Some(Statement::Unknown(Unknown { reason, offset }))
        })
}

fn tables(statement: &Stmt) -> Option<Option<Statement>> {
    Some(match statement {
        Stmt::CreateTable(it) => relation::create_table(it).map(Statement::CreateTable),
        Stmt::CreateTableAs(it) => relation::create_table_as(it).map(Statement::CreateTableAs),
        Stmt::SelectInto(it) => relation::select_into(it).map(Statement::CreateTableAs),
        Stmt::AlterTable(it) if it.all_in_tablespace().is_none() => {
            alter_table::alter_table(it.table_relation_name().as_ref(), it.actions())
                .map(Statement::AlterTable)
        }
        Stmt::AlterForeignTable(it) => {
            alter_table::alter_table(it.table_relation_name().as_ref(), it.actions())
                .map(Statement::AlterTable)
        }
        Stmt::DropTable(it) => relation::dropped(it.table_name_refs(), it.drop_behavior(), "TABLE")
            .map(Statement::DropTable),
        Stmt::CreateIndex(it) => relation::create_index(it).map(Statement::CreateIndex),
        Stmt::DropIndex(it) => relation::drop_index(it).map(Statement::DropIndex),
        Stmt::AlterIndex(it) if it.all_in_tablespace().is_none() => {
            relation::alter_index(it).map(Statement::AlterIndex)
        }
        Stmt::Reindex(it) => relation::reindex(it).map(Statement::Reindex),
        Stmt::CreateView(it) => create_view(it),
        Stmt::CreateMaterializedView(it) => create_materialized_view(it),
        Stmt::DropView(it) => {
            relation::dropped(it.view_refs(), it.drop_behavior(), "VIEW").map(Statement::DropView)
        }
        Stmt::DropMaterializedView(it) => {
            relation::dropped(it.view_refs(), it.drop_behavior(), "MATERIALIZED VIEW")
                .map(Statement::DropView)
        }
        Stmt::AlterView(it) => alter_table::alter_view(it).map(Statement::AlterTable),
        Stmt::AlterMaterializedView(it) if it.all_in_tablespace().is_none() => {
            alter_table::alter_materialized_view(it).map(Statement::AlterTable)
        }
        Stmt::Refresh(it) => it.view_ref().and_then(|view| {
            Some(Statement::RefreshMaterializedView(
                RefreshMaterializedView {
                    name: names::name(view.syntax())?,
                    is_concurrent: it.concurrently_token().is_some(),
                },
            ))
        }),
        Stmt::Truncate(it) => truncate(it),
        Stmt::Lock(it) => lock(it),
        Stmt::Cluster(it) => cluster(it),
        Stmt::Vacuum(it) => vacuum(it),
        Stmt::Analyze(it) => maintained(it.table_and_columns_list()).map(|tables| {
            Statement::Maintain(Maintain {
                kind: MaintainKind::Analyze,
                tables,
            })
        }),
        _ => return None,
    })
}

fn create_view(create: &ast::CreateView) -> Option<Statement> {
    Some(Statement::CreateView(CreateView {
        name: names::name(create.view()?.syntax())?,
        replaces: create.or_replace().is_some(),
        is_materialized: false,
        query: None,
    }))
}

fn create_materialized_view(create: &ast::CreateMaterializedView) -> Option<Statement> {
    let query = relation::filler(create.query()?.syntax(), create.data_option())?;
    Some(Statement::CreateView(CreateView {
        name: names::name(create.view()?.syntax())?,
        replaces: false,
        is_materialized: true,
        query: Some(Box::new(query)),
    }))
}

fn truncate(truncate: &ast::Truncate) -> Option<Statement> {
    Some(Statement::Truncate(Truncate {
        tables: targets(truncate.table_list()?.table_relation_names())?,
        cascades: matches!(
            truncate.drop_behavior(),
            Some(ast::DropBehavior::Cascade(_))
        ),
    }))
}

/// The tables of a list, each with its own `ONLY`.
fn targets<N: AstNode>(nodes: impl Iterator<Item = N>) -> Option<Vec<Target>> {
    let targets = nodes.map(|node| {
        let mut words = names::tokens(node.syntax());
        Some(Target {
            is_only: words.next()?.kind() == SyntaxKind::ONLY_KW,
            table: names::name(node.syntax())?,
        })
    });
    targets.collect()
}

fn lock(lock: &ast::Lock) -> Option<Statement> {
    let mode = match lock.lock_mode_clause() {
        None => LockMode::AccessExclusive,
        Some(clause) => match clause.lock_mode()? {
            ast::LockMode::AccessExclusive(_) => LockMode::AccessExclusive,
            ast::LockMode::AccessShare(_) => LockMode::AccessShare,
            ast::LockMode::Exclusive(_) => LockMode::Exclusive,
            ast::LockMode::RowExclusive(_) => LockMode::RowExclusive,
            ast::LockMode::RowShare(_) => LockMode::RowShare,
            ast::LockMode::Share(_) => LockMode::Share,
            ast::LockMode::ShareRowExclusive(_) => LockMode::ShareRowExclusive,
            ast::LockMode::ShareUpdateExclusive(_) => LockMode::ShareUpdateExclusive,
        },
    };
    Some(Statement::Lock(Lock {
        tables: targets(lock.relation_list()?.relation_names())?,
        mode,
    }))
}

fn cluster(cluster: &ast::Cluster) -> Option<Statement> {
    let table = match (cluster.table_name_ref(), cluster.cluster_legacy()) {
        (Some(table), _) => Some(names::name(table.syntax())?),
        (None, Some(legacy)) => Some(names::name(legacy.on_path()?.table_name_ref()?.syntax())?),
        (None, None) => None,
    };
    Some(Statement::Maintain(Maintain {
        kind: MaintainKind::Cluster,
        tables: table.into_iter().collect(),
    }))
}

fn vacuum(vacuum: &ast::Vacuum) -> Option<Statement> {
    let options = vacuum.vacuum_option_list().into_iter();
    let is_full = options
        .flat_map(|list| list.vacuum_options())
        .any(|option| {
            let text = option.syntax().text().to_string().to_lowercase();
            text.starts_with("full")
                && !["off", "false", "no", "0"]
                    .iter()
                    .any(|no| text.ends_with(no))
        });
    let kind = if is_full || vacuum.full_token().is_some() {
        MaintainKind::VacuumFull
    } else {
        MaintainKind::Vacuum
    };
    Some(Statement::Maintain(Maintain {
        kind,
        tables: maintained(vacuum.table_and_columns_list())?,
    }))
}

/// The tables of a list, all of them or none; no list is all tables.
fn maintained(list: Option<ast::TableAndColumnsList>) -> Option<Vec<crate::Name>> {
    let tables = list.into_iter().flat_map(|list| list.table_and_columnss());
    tables
        .map(|table| names::name(table.table_relation_name()?.syntax()))
        .collect()
}

fn on_tables(statement: &Stmt) -> Option<Option<Statement>> {
    let node = statement.syntax();
    let relation = |kind| {
        let on = node.children().find_map(ast::OnRelation::cast);
        on_named(
            on.and_then(|on| names::name(on.relation_name_ref()?.syntax())),
            kind,
        )
    };
    let table = |kind| {
        let on = node.children().find_map(ast::OnTable::cast);
        on_named(
            on.and_then(|on| names::name(on.table_name_ref()?.syntax())),
            kind,
        )
    };
    Some(match statement {
        Stmt::CreateTrigger(it) => {
            let level = it.trigger_level().into_iter();
            let for_each_row = level
                .flat_map(|level| names::tokens(level.syntax()).collect::<Vec<_>>())
                .any(|token| token.text().eq_ignore_ascii_case("row"));
            relation(OnTableKind::CreateTrigger { for_each_row })
        }
        Stmt::DropTrigger(_) => relation(OnTableKind::DropTrigger),
        Stmt::AlterTrigger(_) => relation(OnTableKind::AlterTrigger),
        Stmt::CreateRule(it) => {
            let target = it
                .rule_on()
                .and_then(|on| names::name(on.relation_name_ref()?.syntax()));
            on_named(target, OnTableKind::CreateRule)
        }
        Stmt::DropRule(_) | Stmt::AlterRule(_) => relation(OnTableKind::ChangeRule),
        Stmt::CreatePolicy(_) | Stmt::AlterPolicy(_) | Stmt::DropPolicy(_) => {
            table(OnTableKind::Policy)
        }
        Stmt::CreateStatistics(it) => {
            let target = it
                .from_table()
                .and_then(|from| names::name(from.table_name_ref()?.syntax()));
            on_named(target, OnTableKind::CreateStatistics)
        }
        Stmt::CommentOn(it) => comment(it),
        _ => return None,
    })
}

fn on_named(table: Option<crate::Name>, kind: OnTableKind) -> Option<Statement> {
    table.map(|table| Statement::OnTable(OnTable { table, kind }))
}

fn comment(comment: &ast::CommentOn) -> Option<Statement> {
    let part = |table: Option<ast::TableNameRef>| {
        on_named(names::name(table?.syntax()), OnTableKind::CommentOnPart)
    };
    match comment.comment_object()? {
        ast::CommentObject::ObjectTable(it) => on_named(
            names::name(it.table_name_ref()?.syntax()),
            OnTableKind::Comment,
        ),
        ast::CommentObject::ObjectView(_)
        | ast::CommentObject::ObjectMaterializedView(_)
        | ast::CommentObject::ObjectForeignTable(_) => {
            let object = comment.comment_object()?;
            let name = object.syntax().children().last();
            on_named(names::name(&name?), OnTableKind::Comment)
        }
        ast::CommentObject::ObjectColumn(it) => {
            let parts: Option<Vec<String>> = names::tokens(it.name()?.syntax())
                .filter(|token| token.text() != ".")
                .map(|token| names::identifier(token.text()))
                .collect();
            let mut parts = parts?;
            parts.pop()?;
            let name = parts.pop()?;
            let table = crate::Name {
                schema: parts.pop(),
                name,
            };
            on_named(Some(table), OnTableKind::Comment)
        }
        ast::CommentObject::ObjectConstraint(it) if it.domain_ref().is_none() => {
            part(it.table_name_ref())
        }
        ast::CommentObject::ObjectPolicy(it) => part(it.table_name_ref()),
        ast::CommentObject::ObjectTrigger(it) => on_named(
            names::name(it.relation_name_ref()?.syntax()),
            OnTableKind::CommentOnPart,
        ),
        ast::CommentObject::ObjectRule(it) => on_named(
            names::name(it.relation_name_ref()?.syntax()),
            OnTableKind::CommentOnPart,
        ),
        _ => Some(Statement::Plain(crate::statement::Plain {
            command: "COMMENT",
            bearing: crate::statement::Bearing::Neutral,
            needs_no_block: false,
        })),
    }
}

fn types(statement: &Stmt) -> Option<Option<Statement>> {
    Some(match statement {
        Stmt::CreateType(it) => it.type_name().and_then(|name| {
            Some(Statement::CreateType(CreateType {
                name: names::name(name.syntax())?,
                is_enum: matches!(it.kind(), Some(ast::CreateTypeKind::EnumType(_))),
            }))
        }),
        Stmt::AlterType(it) => alter_type(it),
        Stmt::DropType(it) => relation::dropped(it.type_name_refs(), it.drop_behavior(), "TYPE")
            .map(Statement::DropType),
        Stmt::CreateDomain(it) => create_domain(it),
        Stmt::AlterDomain(it) => alter_domain(it),
        Stmt::DropDomain(it) => relation::dropped(it.domain_refs(), it.drop_behavior(), "DOMAIN")
            .map(Statement::DropType),
        _ => return None,
    })
}

fn alter_type(alter: &ast::AlterType) -> Option<Statement> {
    let action = match alter.action()? {
        ast::AlterTypeAction::AddValue(add) => AlterTypeAction::AddValue {
            value: names::string(&add.literal()?.syntax().text().to_string())?,
            has_position: add.value_position().is_some(),
        },
        ast::AlterTypeAction::RenameValue(_) => AlterTypeAction::RenameValue,
        ast::AlterTypeAction::TypeRenameTo(rename) => {
            AlterTypeAction::Rename(names::word(rename.type_name()?.syntax())?)
        }
        ast::AlterTypeAction::AlterTypeAttributeActionList(_)
        | ast::AlterTypeAction::RenameAttribute(_) => AlterTypeAction::Attributes,
        ast::AlterTypeAction::OwnerTo(_)
        | ast::AlterTypeAction::SetOptions(_)
        | ast::AlterTypeAction::SetSchema(_) => AlterTypeAction::Other,
    };
    Some(Statement::AlterType(AlterType {
        name: names::name(alter.type_name_ref()?.syntax())?,
        action,
    }))
}

fn create_domain(create: &ast::CreateDomain) -> Option<Statement> {
    let has_constraints = create.domain_qualifiers().any(|qualifier| {
        matches!(
            &qualifier,
            ast::DomainQualifier::Constraint(
                ast::Constraint::CheckConstraint(_) | ast::Constraint::NotNullConstraint(_)
            )
        )
    });
    Some(Statement::CreateDomain(CreateDomain {
        name: names::name(create.domain()?.syntax())?,
        base: names::data_type(create.ty()?.syntax())?,
        has_constraints,
    }))
}

fn alter_domain(alter: &ast::AlterDomain) -> Option<Statement> {
    let action = match alter.action()? {
        ast::AlterDomainAction::AddConstraint(add) => {
            match super::column::constraint(add.constraint()?) {
                Some(constraint) if constraint.is_not_valid => AlterDomainAction::CheckLater,
                Some(_) | None => AlterDomainAction::Check,
            }
        }
        ast::AlterDomainAction::SetNotNull(_) | ast::AlterDomainAction::ValidateConstraint(_) => {
            AlterDomainAction::Check
        }
        ast::AlterDomainAction::DomainRenameTo(_)
        | ast::AlterDomainAction::DropConstraint(_)
        | ast::AlterDomainAction::DropDefault(_)
        | ast::AlterDomainAction::DropNotNull(_)
        | ast::AlterDomainAction::OwnerTo(_)
        | ast::AlterDomainAction::RenameConstraint(_)
        | ast::AlterDomainAction::SetDefault(_)
        | ast::AlterDomainAction::SetSchema(_) => AlterDomainAction::Other,
    };
    Some(Statement::AlterDomain(AlterDomain {
        name: names::name(alter.domain_ref()?.syntax())?,
        action,
    }))
}

fn rows(statement: &Stmt, offset: usize) -> Option<Option<Statement>> {
    Some(match statement {
        Stmt::Insert(_) | Stmt::Update(_) | Stmt::Delete(_) | Stmt::Merge(_) => {
            change::change(statement.syntax())
        }
        Stmt::Copy(it) if matches!(it.copy_direction(), Some(ast::CopyDirection::CopyFrom(_))) => {
            change::change(statement.syntax())
        }
        Stmt::Copy(_)
        | Stmt::Select(_)
        | Stmt::CompoundSelect(_)
        | Stmt::ParenSelect(_)
        | Stmt::Values(_)
        | Stmt::Table(_)
        | Stmt::Declare(_) => change::query(statement.syntax()),
        Stmt::Call(it) => it.procedure_name_ref().and_then(|procedure| {
            Some(Statement::Query(crate::statement::Query {
                calls: vec![names::name(procedure.syntax())?.to_string()],
                locks_rows: false,
            }))
        }),
        Stmt::Do(it) => Some(Statement::Do(body::do_block(it, offset))),
        _ => return None,
    })
}

fn session(statement: &Stmt) -> Option<Option<Statement>> {
    let transaction = |command| Some(Statement::Transaction(command));
    Some(match statement {
        Stmt::Set(it) => set(it),
        Stmt::Reset(it) => reset(it),
        Stmt::Discard(it)
            if matches!(it.discard_target(), Some(ast::DiscardTarget::DiscardAll(_))) =>
        {
            Some(Statement::DiscardAll)
        }
        Stmt::Begin(_) => transaction(TransactionCommand::Begin),
        Stmt::Commit(ast::Commit::CommitTransaction(_)) => transaction(TransactionCommand::Commit),
        Stmt::Rollback(ast::Rollback::RollbackTransaction(_)) => {
            transaction(TransactionCommand::Rollback)
        }
        Stmt::Rollback(ast::Rollback::RollbackToSavepoint(_)) => {
            transaction(TransactionCommand::RollbackToSavepoint)
        }
        Stmt::SavepointCreate(_) | Stmt::ReleaseSavepoint(_) => {
            transaction(TransactionCommand::Savepoint)
        }
        Stmt::PrepareTransaction(_) => transaction(TransactionCommand::Prepare),
        Stmt::SetTransaction(_) | Stmt::SetConstraints(_) => {
            transaction(TransactionCommand::Characteristics)
        }
        _ => return None,
    })
}

fn reset(reset: &ast::Reset) -> Option<Statement> {
    Some(Statement::Reset(match reset.reset_target()? {
        ast::ResetTarget::ConfigParameterRef(parameter) => Some(dotted(parameter.syntax())?),
        ast::ResetTarget::All(_) => None,
        ast::ResetTarget::ResetTimeZone(_) => Some("timezone".to_owned()),
        ast::ResetTarget::ResetTransactionIsolation(_) => Some("transaction_isolation".to_owned()),
    }))
}

fn set(set: &ast::Set) -> Option<Statement> {
    let is_local = matches!(set.set_scope(), Some(ast::SetScope::LocalScope(_)));
    let (name, value) = match set.set_target()? {
        ast::SetTarget::SetConfig(config) => {
            let value = match config.config_assignment()? {
                ast::ConfigAssignment::ToConfigValue(to) if to.default_token().is_some() => None,
                ast::ConfigAssignment::ToConfigValue(to) => Some(values(&to)?),
                ast::ConfigAssignment::FromCurrent(_) => return None,
            };
            (dotted(config.config_parameter_ref()?.syntax())?, value)
        }
        ast::SetTarget::SetSchemaValue(schema) => {
            let value = names::string(&schema.literal()?.syntax().text().to_string())?;
            ("search_path".to_owned(), Some(value))
        }
        ast::SetTarget::SetTimeZone(zone) => {
            let words: Vec<String> = names::tokens(zone.syntax())
                .map(|token| token.text().to_owned())
                .collect();
            let value = words
                .get(2)
                .map(|word| names::string(word).unwrap_or_else(|| word.clone()));
            ("timezone".to_owned(), value)
        }
        ast::SetTarget::SetCatalog(_) | ast::SetTarget::SetXmlOption(_) => {
            ("xmloption".to_owned(), None)
        }
    };
    Some(Statement::Set(SetParameter {
        name,
        value,
        is_local,
    }))
}

/// The values of a parameter, all of them or none.
fn values(to: &ast::ToConfigValue) -> Option<String> {
    let values = to.config_values().map(|value| {
        let text = value.syntax().text().to_string();
        names::string(&text).or_else(|| names::identifier(&text))
    });
    Some(values.collect::<Option<Vec<_>>>()?.join(", "))
}

/// A parameter's whole name; those of extensions have a dot in them.
fn dotted(node: &squawk_syntax::SyntaxNode) -> Option<String> {
    let parts: Option<Vec<String>> = names::tokens(node)
        .filter(|token| token.text() != ".")
        .map(|token| names::identifier(token.text()))
        .collect();
    parts.map(|parts| parts.join("."))
}
