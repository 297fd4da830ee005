//! `ALTER TABLE`, action by action.

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{self, AstNode};

use super::{column, names};
use crate::statement::{AlterTable, AlterTableAction, StorageParameter, Using};

/// `ALTER TABLE`, of which every action is known or says that it is not.
pub(super) fn alter_table(
    relation: Option<&ast::TableRelationName>,
    actions: impl Iterator<Item = ast::AlterTableAction>,
) -> Option<AlterTable> {
    let relation = relation?;
    Some(AlterTable {
        table: names::name(relation.syntax())?,
        is_only: relation.only_token().is_some(),
        actions: actions
            .map(|action| {
                let text = action.syntax().text().to_string();
                self::action(action).unwrap_or(AlterTableAction::Unknown(text))
            })
            .collect(),
    })
}

/// `ALTER VIEW`: one action, in words of `ALTER TABLE`.
pub(super) fn alter_view(alter: &ast::AlterView) -> Option<AlterTable> {
    use ast::AlterViewAction as Parsed;
    Some(AlterTable {
        table: names::name(alter.view_ref()?.syntax())?,
        is_only: false,
        actions: vec![match alter.action()? {
            Parsed::AlterViewColumn(alter) => {
                let column = names::word(alter.name()?.syntax())?;
                match alter.alter_view_column_action()? {
                    ast::AlterViewColumnAction::SetDefault(_) => {
                        AlterTableAction::SetDefault { column }
                    }
                    ast::AlterViewColumnAction::DropDefault(_) => {
                        AlterTableAction::DropDefault { column }
                    }
                }
            }
            Parsed::OwnerTo(_) => AlterTableAction::Owner,
            Parsed::RenameColumn(rename) => rename_column(&rename)?,
            Parsed::ResetOptions(reset) => storage(reset.syntax())?,
            Parsed::SetOptions(set) => storage(set.syntax())?,
            Parsed::SetSchema(set) => set_schema(&set)?,
            Parsed::ViewRenameTo(rename) => rename_view(&rename)?,
        }],
    })
}

/// `ALTER MATERIALIZED VIEW`, in words of `ALTER TABLE`.
pub(super) fn alter_materialized_view(alter: &ast::AlterMaterializedView) -> Option<AlterTable> {
    use ast::AlterMaterializedViewAction as Parsed;
    let actions = alter.action().map(|parsed| match parsed {
        Parsed::DependsOnExtension(_) | Parsed::NoDependsOnExtension(_) => {
            Some(AlterTableAction::DependsOnExtension)
        }
        Parsed::RenameColumn(rename) => rename_column(&rename),
        Parsed::SetSchema(set) => set_schema(&set),
        Parsed::ViewRenameTo(rename) => rename_view(&rename),
        Parsed::AlterTableAction(parsed) => {
            let text = parsed.syntax().text().to_string();
            Some(action(parsed).unwrap_or(AlterTableAction::Unknown(text)))
        }
    });
    Some(AlterTable {
        table: names::name(alter.view_ref()?.syntax())?,
        is_only: false,
        actions: actions.collect::<Option<_>>()?,
    })
}

fn rename_column(rename: &ast::RenameColumn) -> Option<AlterTableAction> {
    Some(AlterTableAction::RenameColumn {
        from: names::word(rename.column_name_ref()?.syntax())?,
        to: names::word(rename.column_name()?.syntax())?,
    })
}

fn rename_view(rename: &ast::ViewRenameTo) -> Option<AlterTableAction> {
    Some(AlterTableAction::Rename {
        to: names::word(rename.view()?.syntax())?,
    })
}

fn set_schema(set: &ast::SetSchema) -> Option<AlterTableAction> {
    Some(AlterTableAction::SetSchema {
        schema: names::word(set.schema_ref()?.syntax())?,
    })
}

fn storage(node: &squawk_syntax::SyntaxNode) -> Option<AlterTableAction> {
    Some(AlterTableAction::Storage {
        parameters: parameters(node)?,
    })
}

fn action(action: ast::AlterTableAction) -> Option<AlterTableAction> {
    use ast::AlterTableAction as Parsed;
    Some(match action {
        Parsed::AddColumn(add) => AlterTableAction::AddColumn {
            column: Box::new(column::column(
                add.column_name(),
                names::data_type(add.ty()?.syntax())?,
                add.constraints(),
            )?),
            if_not_exists: add.if_not_exists().is_some(),
        },
        Parsed::DropColumn(drop) => AlterTableAction::DropColumn {
            column: names::word(drop.column_name_ref()?.syntax())?,
            cascades: matches!(drop.drop_behavior(), Some(ast::DropBehavior::Cascade(_))),
        },
        Parsed::AlterColumn(alter) => {
            let column = names::word(alter.column_name_ref()?.syntax())?;
            column_action(column, alter.option()?)?
        }
        Parsed::AddConstraint(add) => {
            AlterTableAction::AddConstraint(column::constraint(add.constraint()?)?)
        }
        Parsed::ValidateConstraint(validate) => AlterTableAction::ValidateConstraint {
            name: names::word(validate.constraint_name_ref()?.syntax())?,
        },
        Parsed::DropConstraint(drop) => AlterTableAction::DropConstraint {
            name: names::word(drop.constraint_name_ref()?.syntax())?,
            cascades: matches!(drop.drop_behavior(), Some(ast::DropBehavior::Cascade(_))),
        },
        Parsed::AlterConstraint(alter) => AlterTableAction::AlterConstraint {
            name: names::word(alter.constraint_name_ref()?.syntax())?,
        },
        Parsed::RenameColumn(rename) => rename_column(&rename)?,
        Parsed::RenameConstraint(rename) => AlterTableAction::RenameConstraint {
            from: names::word(rename.constraint_name_ref()?.syntax())?,
            to: names::word(rename.constraint_name()?.syntax())?,
        },
        Parsed::TableRenameTo(rename) => AlterTableAction::Rename {
            to: names::word(rename.table_name()?.syntax())?,
        },
        Parsed::SetSchema(set) => set_schema(&set)?,
        Parsed::AttachPartition(attach) => AlterTableAction::AttachPartition {
            child: names::name(attach.table_name_ref()?.syntax())?,
            is_default: matches!(
                attach.partition_type(),
                Some(ast::PartitionType::PartitionDefault(_))
            ),
        },
        Parsed::DetachPartition(detach) => {
            let option = detach.detach_partition_option();
            AlterTableAction::DetachPartition {
                child: names::name(detach.table_name_ref()?.syntax())?,
                is_concurrent: matches!(
                    option,
                    Some(ast::DetachPartitionOption::DetachConcurrently(_))
                ),
                is_finalize: matches!(option, Some(ast::DetachPartitionOption::DetachFinalize(_))),
            }
        }
        Parsed::InheritTable(inherit) => AlterTableAction::Inherit {
            parent: names::name(inherit.table_name_ref()?.syntax())?,
            ends: false,
        },
        Parsed::NoInheritTable(inherit) => AlterTableAction::Inherit {
            parent: names::name(inherit.table_name_ref()?.syntax())?,
            ends: true,
        },
        Parsed::SetOptions(set) => storage(set.syntax())?,
        Parsed::ResetOptions(reset) => storage(reset.syntax())?,
        Parsed::ClusterOn(_) | Parsed::SetWithoutCluster(_) => AlterTableAction::ClusterOn,
        Parsed::EnableTrigger(_) | Parsed::EnableAlwaysTrigger(_) => {
            AlterTableAction::Trigger { is_off: false }
        }
        // On a replica alone is nowhere for the sessions of users.
        Parsed::DisableTrigger(_) | Parsed::EnableReplicaTrigger(_) => {
            AlterTableAction::Trigger { is_off: true }
        }
        Parsed::DisableRule(_)
        | Parsed::EnableRule(_)
        | Parsed::EnableAlwaysRule(_)
        | Parsed::EnableReplicaRule(_) => AlterTableAction::Rule,
        Parsed::DisableRls(_)
        | Parsed::EnableRls(_)
        | Parsed::ForceRls(_)
        | Parsed::NoForceRls(_) => AlterTableAction::RowSecurity,
        Parsed::ReplicaIdentity(_) => AlterTableAction::ReplicaIdentity,
        Parsed::OwnerTo(_) => AlterTableAction::Owner,
        Parsed::OfType(_) | Parsed::NotOf(_) => AlterTableAction::OfType,
        Parsed::SetLogged(_) | Parsed::SetUnlogged(_) => AlterTableAction::SetLogged,
        Parsed::SetTablespace(_) => AlterTableAction::SetTablespace,
        Parsed::SetAccessMethod(_) => AlterTableAction::SetAccessMethod,
        Parsed::SetWithoutOids(_) => AlterTableAction::WithoutOids,
        Parsed::AlterOptionList(_)
        | Parsed::OptionItemList(_)
        | Parsed::MergePartitions(_)
        | Parsed::SplitPartition(_) => return None,
    })
}

fn column_action(column: String, option: ast::AlterColumnOption) -> Option<AlterTableAction> {
    use ast::AlterColumnOption as Parsed;
    Some(match option {
        Parsed::SetType(set) => {
            let using = match set.using_expr() {
                Some(using) if !is_plain_cast(&using, &column) => Using::Expression,
                Some(_) | None => Using::Cast,
            };
            AlterTableAction::SetType {
                column,
                data_type: names::data_type(set.ty()?.syntax())?,
                using,
                has_collation: set.collate().is_some(),
            }
        }
        Parsed::SetNotNull(_) => AlterTableAction::SetNotNull { column },
        Parsed::DropNotNull(_) => AlterTableAction::DropNotNull { column },
        Parsed::SetDefault(_) => AlterTableAction::SetDefault { column },
        Parsed::DropDefault(_) => AlterTableAction::DropDefault { column },
        Parsed::SetExpression(_) => AlterTableAction::SetExpression { column },
        Parsed::DropExpression(_) => AlterTableAction::DropExpression { column },
        Parsed::AddGenerated(_)
        | Parsed::SetGenerated(_)
        | Parsed::SetGeneratedOptions(_)
        | Parsed::SetSequenceOption(_)
        | Parsed::Restart(_)
        | Parsed::DropIdentity(_) => AlterTableAction::Identity { column },
        Parsed::SetStatistics(_) | Parsed::SetOptions(_) | Parsed::ResetOptions(_) => {
            AlterTableAction::ColumnStatistics
        }
        Parsed::SetStorage(_) | Parsed::SetCompression(_) => AlterTableAction::ColumnStorage,
        Parsed::Inherit(_) | Parsed::NoInherit(_) | Parsed::SetOptionsList(_) => return None,
    })
}

/// `USING column::type` and `USING CAST(column AS type)` say what happens anyway.
fn is_plain_cast(using: &ast::UsingExpr, column: &str) -> bool {
    let Some(expression) = using.syntax().children().find_map(ast::Expr::cast) else {
        return false;
    };
    let reference = match &expression {
        ast::Expr::NameRef(reference) => names::word(reference.syntax()),
        ast::Expr::CastExpr(cast) => match cast.expr() {
            Some(ast::Expr::NameRef(reference)) => names::word(reference.syntax()),
            _ => None,
        },
        _ => None,
    };
    reference.as_deref() == Some(column)
}

/// The names in a list `(name = value, …)`.
fn parameters(node: &squawk_syntax::SyntaxNode) -> Option<Vec<StorageParameter>> {
    let mut is_name = false;
    let mut found = Vec::new();
    for token in names::tokens(node) {
        match token.kind() {
            SyntaxKind::L_PAREN | SyntaxKind::COMMA => is_name = true,
            _ if is_name => {
                found.push(StorageParameter(names::identifier(token.text())?));
                is_name = false;
            }
            _ => {}
        }
    }
    Some(found)
}
