//! Columns and constraints, as `CREATE TABLE` and `ALTER TABLE` declare them.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

use super::{expression, names};
use crate::DataType;
use crate::statement::{Column, ColumnSource, Constraint, ConstraintKind};

/// A column by the parts that declare it.
pub(super) fn column(
    name: Option<ast::ColumnName>,
    data_type: DataType,
    constraints: impl Iterator<Item = ast::Constraint>,
) -> Option<Column> {
    let mut column = Column {
        name: names::word(name?.syntax())?,
        data_type,
        is_not_null: false,
        source: ColumnSource::Nothing,
        constraints: Vec::new(),
    };
    for constraint in constraints {
        add(&mut column, constraint)?;
    }
    Some(column)
}

fn add(column: &mut Column, constraint: ast::Constraint) -> Option<()> {
    match constraint {
        ast::Constraint::NotNullConstraint(_) => column.is_not_null = true,
        ast::Constraint::NullConstraint(_) => {}
        ast::Constraint::DefaultConstraint(default) => {
            let value = default.expr()?;
            let is_null = value
                .syntax()
                .text()
                .to_string()
                .eq_ignore_ascii_case("null");
            column.source = if is_null {
                ColumnSource::Nothing
            } else {
                ColumnSource::Default(expression::expression(value.syntax()))
            };
        }
        ast::Constraint::GeneratedConstraint(generated) => {
            column.source = match generated.generated_as()? {
                ast::GeneratedAs::GeneratedIdentity(_) => {
                    column.is_not_null = true;
                    ColumnSource::Identity
                }
                ast::GeneratedAs::GeneratedStored(stored) => match stored.generated_kind() {
                    Some(ast::GeneratedKind::Virtual(_)) => ColumnSource::Virtual,
                    Some(ast::GeneratedKind::Stored(_)) | None => ColumnSource::Stored,
                },
            };
        }
        ast::Constraint::PrimaryKeyConstraint(key) => {
            column.is_not_null = true;
            let mut key = primary_key(&key)?;
            own_column(&mut key, &column.name);
            column.constraints.push(key);
        }
        ast::Constraint::UniqueConstraint(unique) => {
            let mut unique = self::unique(&unique)?;
            own_column(&mut unique, &column.name);
            column.constraints.push(unique);
        }
        ast::Constraint::CheckConstraint(check) => column.constraints.push(self::check(&check)?),
        ast::Constraint::ReferencesConstraint(references) => {
            column.constraints.push(Constraint {
                name: constraint_name(references.constraint_name_clause())?,
                kind: ConstraintKind::ForeignKey {
                    columns: vec![column.name.clone()],
                    references: names::name(references.table()?.syntax())?,
                    referenced: match references.column() {
                        Some(column) => vec![names::word(column.syntax())?],
                        None => Vec::new(),
                    },
                },
                is_not_valid: is_not_valid(references.constraint_options()),
            });
        }
        ast::Constraint::ForeignKeyConstraint(key) => column.constraints.push(foreign_key(&key)?),
        ast::Constraint::ExcludeConstraint(exclude) => {
            column.constraints.push(self::exclude(&exclude)?)
        }
    }
    Some(())
}

/// A key written at a column has that column.
fn own_column(constraint: &mut Constraint, column: &str) {
    match &mut constraint.kind {
        ConstraintKind::Unique { columns, .. } | ConstraintKind::PrimaryKey { columns, .. } => {
            *columns = vec![column.to_owned()];
        }
        ConstraintKind::Check { .. }
        | ConstraintKind::Exclude
        | ConstraintKind::ForeignKey { .. }
        | ConstraintKind::NotNull { .. } => {}
    }
}

/// A constraint of a table.
pub(super) fn constraint(constraint: ast::Constraint) -> Option<Constraint> {
    match constraint {
        ast::Constraint::CheckConstraint(check) => self::check(&check),
        ast::Constraint::UniqueConstraint(unique) => self::unique(&unique),
        ast::Constraint::PrimaryKeyConstraint(key) => primary_key(&key),
        ast::Constraint::ForeignKeyConstraint(key) => foreign_key(&key),
        ast::Constraint::ExcludeConstraint(exclude) => self::exclude(&exclude),
        ast::Constraint::NotNullConstraint(not_null) => Some(Constraint {
            name: constraint_name(not_null.constraint_name_clause())?,
            kind: ConstraintKind::NotNull {
                column: names::word(not_null.column_name_ref()?.syntax())?,
            },
            is_not_valid: is_not_valid(not_null.constraint_options()),
        }),
        ast::Constraint::DefaultConstraint(_)
        | ast::Constraint::GeneratedConstraint(_)
        | ast::Constraint::NullConstraint(_)
        | ast::Constraint::ReferencesConstraint(_) => None,
    }
}

/// A constraint of a table, by the enum that `CREATE TABLE` has for it.
pub(super) fn table_constraint(constraint: ast::TableConstraint) -> Option<Constraint> {
    self::constraint(match constraint {
        ast::TableConstraint::CheckConstraint(it) => ast::Constraint::CheckConstraint(it),
        ast::TableConstraint::ExcludeConstraint(it) => ast::Constraint::ExcludeConstraint(it),
        ast::TableConstraint::ForeignKeyConstraint(it) => ast::Constraint::ForeignKeyConstraint(it),
        ast::TableConstraint::NotNullConstraint(it) => ast::Constraint::NotNullConstraint(it),
        ast::TableConstraint::PrimaryKeyConstraint(it) => ast::Constraint::PrimaryKeyConstraint(it),
        ast::TableConstraint::UniqueConstraint(it) => ast::Constraint::UniqueConstraint(it),
    })
}

fn check(check: &ast::CheckConstraint) -> Option<Constraint> {
    let condition = check.expr()?;
    Some(Constraint {
        name: constraint_name(check.constraint_name_clause())?,
        kind: ConstraintKind::Check {
            columns: expression::columns(condition.syntax())?,
            not_null: expression::not_null_columns(&condition),
        },
        is_not_valid: is_not_valid(check.constraint_options()),
    })
}

fn unique(unique: &ast::UniqueConstraint) -> Option<Constraint> {
    Some(Constraint {
        name: constraint_name(unique.constraint_name_clause())?,
        kind: ConstraintKind::Unique {
            columns: key_columns(unique.index_parameters())?,
            using_index: using_index(unique.using_index())?,
        },
        is_not_valid: false,
    })
}

fn primary_key(key: &ast::PrimaryKeyConstraint) -> Option<Constraint> {
    Some(Constraint {
        name: constraint_name(key.constraint_name_clause())?,
        kind: ConstraintKind::PrimaryKey {
            columns: key_columns(key.index_parameters())?,
            using_index: using_index(key.using_index())?,
        },
        is_not_valid: false,
    })
}

fn exclude(exclude: &ast::ExcludeConstraint) -> Option<Constraint> {
    Some(Constraint {
        name: constraint_name(exclude.constraint_name_clause())?,
        kind: ConstraintKind::Exclude,
        is_not_valid: false,
    })
}

fn foreign_key(key: &ast::ForeignKeyConstraint) -> Option<Constraint> {
    let lists = key.syntax().children();
    let mut lists = lists.filter_map(ast::ForeignKeyColumnList::cast);
    let own = lists.next()?;
    let referenced = lists.next();
    let periods = std::iter::once(&own).chain(&referenced);
    if periods
        .filter_map(|list| list.period_column())
        .next()
        .is_some()
    {
        return None;
    }
    Some(Constraint {
        name: constraint_name(key.constraint_name_clause())?,
        kind: ConstraintKind::ForeignKey {
            columns: column_words(own.syntax())?,
            referenced: match referenced {
                Some(referenced) => column_words(referenced.syntax())?,
                None => Vec::new(),
            },
            references: names::name(key.table_name_ref()?.syntax())?,
        },
        is_not_valid: is_not_valid(key.constraint_options()),
    })
}

/// The columns of a key; none where it is written at its column, or has an index already.
fn key_columns(parameters: Option<ast::IndexParameters>) -> Option<Vec<String>> {
    match parameters.and_then(|parameters| parameters.column_list()) {
        Some(list) => column_words(list.syntax()),
        None => Some(Vec::new()),
    }
}

/// The columns of a list in parentheses, all of them or none.
fn column_words(list: &SyntaxNode) -> Option<Vec<String>> {
    let columns = list.children().filter_map(ast::ColumnNameRef::cast);
    columns.map(|column| names::word(column.syntax())).collect()
}

/// The index of `USING INDEX`; the outer option tells whether it could be read.
#[expect(
    clippy::option_option,
    reason = "a name that cannot be read is not the same as none"
)]
fn using_index(using: Option<ast::UsingIndexName>) -> Option<Option<crate::Name>> {
    match using {
        None => Some(None),
        Some(using) => names::name(using.index_ref()?.syntax()).map(Some),
    }
}

/// The name of a constraint; the outer option tells whether it could be read.
#[expect(
    clippy::option_option,
    reason = "a name that cannot be read is not the same as none"
)]
fn constraint_name(clause: Option<ast::ConstraintNameClause>) -> Option<Option<String>> {
    match clause {
        None => Some(None),
        Some(clause) => names::word(clause.constraint_name()?.syntax()).map(Some),
    }
}

fn is_not_valid(mut options: impl Iterator<Item = ast::ConstraintOption>) -> bool {
    // What is not enforced is never checked: PostgreSQL 18 looks at no row for it either.
    options.any(|option| {
        matches!(
            option,
            ast::ConstraintOption::NotValid(_) | ast::ConstraintOption::NotEnforced(_)
        )
    })
}
