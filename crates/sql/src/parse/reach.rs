//! How many rows the text of a change lets it reach.

use squawk_syntax::ast::{self, AstNode, BinOp};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::{expression, names};
use crate::statement::Reach;

/// What an `INSERT` adds: rows written out, or those of a query.
pub(super) fn inserted(insert: &SyntaxNode, select: &SyntaxNode) -> Reach {
    let mut inner = select.descendants();
    let reads = inner.any(|inner| ast::FromClause::can_cast(inner.kind()));
    if reads && !is_limited(select, &limited_with(insert)) {
        Reach::Unlimited
    } else {
        Reach::Limited
    }
}

/// What an `UPDATE` or a `DELETE` reaches.
pub(super) fn reach(target: Target<'_>, condition: Option<ast::WhereClauseOrCurrentOf>) -> Reach {
    let condition = match condition {
        None => return Reach::Everything,
        Some(ast::WhereClauseOrCurrentOf::WhereCurrentOf(_)) => return Reach::Limited,
        Some(ast::WhereClauseOrCurrentOf::WhereClause(condition)) => condition.expr(),
    };
    let Some(condition) = condition else {
        return Reach::Unlimited;
    };
    let sources = Sources::of(&target);
    let (mut few, mut at_least, mut at_most) = (Vec::new(), Vec::new(), Vec::new());
    let mut says_nothing = true;
    for part in expression::conjuncts(condition) {
        match sources.bound(&part) {
            Bound::True => continue,
            Bound::False => return Reach::Limited,
            Bound::Few(columns) => few.extend(columns),
            Bound::AtLeast(column) => at_least.push(column),
            Bound::AtMost(column) => at_most.push(column),
            Bound::None => {}
        }
        says_nothing = false;
    }
    few.extend(
        at_least
            .into_iter()
            .filter(|column| at_most.contains(column)),
    );
    if says_nothing {
        Reach::Everything
    } else if few.is_empty() {
        Reach::Unlimited
    } else {
        Reach::Few(few)
    }
}

/// The table that an `UPDATE` or a `DELETE` changes.
pub(super) struct Target<'a> {
    /// The statement.
    pub(super) node: &'a SyntaxNode,
    /// The table's own name.
    pub(super) table: &'a str,
    /// What it is called in the statement instead.
    pub(super) alias: Option<ast::OptionalAsAlias>,
}

/// What one part of a condition says about columns of the target.
enum Bound {
    /// Each has one of a limited number of values.
    Few(Vec<String>),
    AtLeast(String),
    AtMost(String),
    True,
    False,
    None,
}

/// What the names in a condition stand for.
struct Sources {
    /// The target.
    own: Option<String>,
    /// Names of sources with a limited number of rows.
    limited: Vec<String>,
    /// Whether a name that is no column may be a variable of the body around.
    is_in_body: bool,
}

impl Sources {
    fn of(target: &Target<'_>) -> Self {
        let own = match &target.alias {
            Some(alias) => alias.name().and_then(|name| names::word(name.syntax())),
            None => Some(target.table.to_owned()),
        };
        let with = limited_with(target.node);
        let from = target.node.children().filter(|child| {
            ast::FromClause::can_cast(child.kind()) || ast::UsingClause::can_cast(child.kind())
        });
        let mut limited = Vec::new();
        for item in from.flat_map(|clause| clause.children()) {
            named_limited(&item, &with, &mut limited);
        }
        let mut around = target.node.ancestors();
        Self {
            own,
            limited,
            is_in_body: around.any(|outer| ast::PlpgsqlExecSqlStmt::can_cast(outer.kind())),
        }
    }

    fn bound(&self, part: &ast::Expr) -> Bound {
        match part {
            ast::Expr::BetweenExpr(between) if between.not_token().is_none() => {
                self.between(between).unwrap_or(Bound::None)
            }
            ast::Expr::Literal(literal) => match literal.syntax().text().to_string().as_str() {
                text if text.eq_ignore_ascii_case("true") => Bound::True,
                text if text.eq_ignore_ascii_case("false") => Bound::False,
                _ => Bound::None,
            },
            ast::Expr::BinExpr(comparison) => self.compared(comparison).unwrap_or(Bound::None),
            _ => Bound::None,
        }
    }

    fn between(&self, between: &ast::BetweenExpr) -> Option<Bound> {
        let column = self.column(&between.target()?)?;
        let is_fixed = self.is_fixed(&between.start()?) && self.is_fixed(&between.end()?);
        is_fixed.then(|| Bound::Few(vec![column]))
    }

    fn compared(&self, comparison: &ast::BinExpr) -> Option<Bound> {
        let (left, right) = (comparison.lhs()?, comparison.rhs()?);
        let operator = comparison.op()?;
        if is_constant(&left) && is_constant(&right) {
            return Some(constants(&left, &operator, &right));
        }
        match operator {
            BinOp::In(_) => {
                let columns = self.columns(&left)?;
                self.are_few(&right).then_some(Bound::Few(columns))
            }
            BinOp::Eq(_) => {
                let equal = |own, other| {
                    let columns = self.columns(own)?;
                    self.are_few(other).then_some(Bound::Few(columns))
                };
                equal(&left, &right).or_else(|| equal(&right, &left))
            }
            BinOp::Gteq(_) | BinOp::RAngle(_) => {
                let column = self.column(&left)?;
                is_constant(&right).then_some(Bound::AtLeast(column))
            }
            BinOp::Lteq(_) | BinOp::LAngle(_) => {
                let column = self.column(&left)?;
                is_constant(&right).then_some(Bound::AtMost(column))
            }
            _ => None,
        }
    }

    /// Columns of the target: one, or those of a row.
    fn columns(&self, side: &ast::Expr) -> Option<Vec<String>> {
        match side {
            ast::Expr::TupleExpr(row) => row.exprs().map(|side| self.column(&side)).collect(),
            ast::Expr::ParenExpr(inner) => self.columns(&inner.expr()?),
            _ => self.column(side).map(|column| vec![column]),
        }
    }

    /// A column of the target. One that says no table is its own, or it is no key of it: two tables that
    /// both had it would make the name ambiguous.
    fn column(&self, side: &ast::Expr) -> Option<String> {
        let name = match side {
            ast::Expr::NameRef(_) | ast::Expr::FieldExpr(_) => names::name(side.syntax())?,
            _ => return None,
        };
        (name.schema.is_none() || name.schema == self.own).then_some(name.name)
    }

    /// Whether an expression has the same value for every row of the target.
    fn is_fixed(&self, side: &ast::Expr) -> bool {
        let has_query = has_query(side.syntax());
        is_constant(side) || (self.is_in_body && !has_query)
    }

    /// Whether an expression stands for a limited number of values, the same for every row.
    fn are_few(&self, side: &ast::Expr) -> bool {
        let side = match side {
            ast::Expr::CallExpr(call) => {
                let Some(any) = call.any_fn() else {
                    return is_constant(&ast::Expr::CallExpr(call.clone()));
                };
                match (any.expr(), any.select_variant()) {
                    (_, Some(query)) => return self.is_limited(query.syntax()),
                    (Some(inner), None) => inner,
                    (None, None) => return false,
                }
            }
            other => other.clone(),
        };
        match &side {
            ast::Expr::ArrayExpr(array) => match array.select_variant() {
                Some(query) => self.is_limited(query.syntax()),
                None => is_constant(&side),
            },
            ast::Expr::ParenExpr(inner) => match (query_of(inner.syntax()), inner.expr()) {
                (Some(query), _) => self.is_limited(&query),
                (None, Some(inner)) => self.are_few(&inner),
                (None, None) => false,
            },
            ast::Expr::TupleExpr(list) => list.exprs().all(|value| self.is_fixed(&value)),
            ast::Expr::FieldExpr(_) => names::name(side.syntax())
                .and_then(|name| name.schema)
                .is_some_and(|source| self.limited.contains(&source)),
            _ => is_constant(&side),
        }
    }

    /// Whether a query in the condition gives a limited number of rows, and the same ones each time.
    fn is_limited(&self, query: &SyntaxNode) -> bool {
        is_limited(query, &limited_with(query)) && !self.looks_at_target(query)
    }

    /// Whether a query names columns of the target that it does not read itself.
    fn looks_at_target(&self, query: &SyntaxNode) -> bool {
        let Some(own) = &self.own else {
            return true;
        };
        let mut items = query.descendants().filter(is_from_item);
        let reads_its_own = items.any(|item| source_name(&item).as_ref() == Some(own));
        let mut fields = query.descendants().filter_map(ast::FieldExpr::cast);
        !reads_its_own
            && fields.any(|field| {
                names::name(field.syntax())
                    .and_then(|name| name.schema)
                    .as_ref()
                    == Some(own)
            })
    }
}

/// What is known of two constants that are compared.
fn constants(left: &ast::Expr, operator: &BinOp, right: &ast::Expr) -> Bound {
    if !matches!(operator, BinOp::Eq(_)) {
        return Bound::None;
    }
    if left.syntax().text() == right.syntax().text() {
        return Bound::True;
    }
    let kind = |side: &ast::Expr| match side {
        ast::Expr::Literal(_) => names::tokens(side.syntax())
            .next()
            .map(|token| token.kind()),
        _ => None,
    };
    // Whatever else is written in two ways may still be the same.
    match (kind(left), kind(right)) {
        (Some(SyntaxKind::INT_NUMBER), Some(SyntaxKind::INT_NUMBER))
        | (Some(SyntaxKind::STRING), Some(SyntaxKind::STRING)) => Bound::False,
        _ => Bound::None,
    }
}

/// A literal or a cast of one, a parameter of the batch, an expression without columns.
fn is_constant(side: &ast::Expr) -> bool {
    !expression::has_columns(side.syntax()) && !has_query(side.syntax())
}

fn has_query(node: &SyntaxNode) -> bool {
    node.descendants().any(|inner| {
        ast::SelectClause::can_cast(inner.kind()) || ast::Table::can_cast(inner.kind())
    })
}

/// Names of the `WITH` clauses that a node may use and that give a limited number of rows.
fn limited_with(node: &SyntaxNode) -> Vec<String> {
    let mut limited = Vec::new();
    let mut around: Vec<SyntaxNode> = node.ancestors().collect();
    // The outer ones come first, for the inner ones may use them.
    around.reverse();
    for node in around {
        add_limited_with(&node, &mut limited);
    }
    limited
}

/// Adds those of the `WITH` clause of one statement or query.
fn add_limited_with(node: &SyntaxNode, limited: &mut Vec<String>) {
    let with = node.children().find_map(ast::WithClause::cast).into_iter();
    for table in with.flat_map(|with| with.with_tables()) {
        let name = table.name().and_then(|name| names::word(name.syntax()));
        let Some((name, query)) = name.zip(table.query()) else {
            continue;
        };
        // A name hides the same one further out.
        limited.retain(|outer| *outer != name);
        if is_limited(query.syntax(), limited) {
            limited.push(name);
        }
    }
}

/// Whether a query gives a limited number of rows, where those of `with` do.
fn is_limited(query: &SyntaxNode, with: &[String]) -> bool {
    if query.children().any(|child| limits(&child)) {
        return true;
    }
    match query.kind() {
        SyntaxKind::VALUES => !has_query(query),
        SyntaxKind::PAREN_SELECT => query_of(query).is_some_and(|inner| is_limited(&inner, with)),
        SyntaxKind::COMPOUND_SELECT => {
            let mut parts = query.children().filter(is_query);
            parts.all(|part| is_limited(&part, with))
        }
        SyntaxKind::SELECT => {
            let mut own = with.to_vec();
            add_limited_with(query, &mut own);
            let from = query.children().find_map(ast::FromClause::cast);
            from.is_none_or(|from| {
                let mut items = from.syntax().children();
                items.all(|item| is_limited_item(&item, &own))
            })
        }
        SyntaxKind::TABLE => {
            let table = ast::Table::cast(query.clone());
            is_limited_name(table.and_then(|table| table.relation_name()), with)
        }
        _ => false,
    }
}

/// `LIMIT` and `FETCH`, unless they let everything through.
fn limits(clause: &SyntaxNode) -> bool {
    let is_number = |value: &ast::Expr| {
        let text = value.syntax().text().to_string();
        !has_query(value.syntax()) && !text.eq_ignore_ascii_case("null")
    };
    if let Some(limit) = ast::LimitClause::cast(clause.clone()) {
        return matches!(limit.limit_value(), Some(ast::LimitValue::Expr(value)) if is_number(&value));
    }
    ast::FetchClause::cast(clause.clone()).is_some_and(|fetch| {
        let lets_ties_through = matches!(
            fetch.fetch_quantity(),
            Some(ast::FetchQuantity::WithTies(_))
        );
        !lets_ties_through && fetch.expr().is_none_or(|value| is_number(&value))
    })
}

/// Whether an item of `FROM` has a limited number of rows.
fn is_limited_item(item: &SyntaxNode, with: &[String]) -> bool {
    match item.kind() {
        SyntaxKind::RELATION_FROM_ITEM => {
            let item = ast::RelationFromItem::cast(item.clone());
            is_limited_name(item.and_then(|item| item.relation_name_ref()), with)
        }
        SyntaxKind::PAREN_FROM_ITEM => {
            let item = ast::ParenFromItem::cast(item.clone());
            // `LATERAL` is run for each row of what stands before it.
            let query = item.filter(|item| item.lateral_token().is_none());
            let query = query.and_then(|item| query_of(item.syntax()));
            query.is_some_and(|query| is_limited(&query, with))
        }
        SyntaxKind::JOIN_EXPR => {
            let items = items_of_join(item);
            !items.is_empty() && items.iter().all(|item| is_limited_item(item, with))
        }
        _ => false,
    }
}

fn is_limited_name<N: AstNode>(relation: Option<N>, with: &[String]) -> bool {
    let name = relation.and_then(|relation| names::name(relation.syntax()));
    name.is_some_and(|name| name.schema.is_none() && with.contains(&name.name))
}

/// Adds the names of the items of `FROM` that have a limited number of rows.
fn named_limited(item: &SyntaxNode, with: &[String], found: &mut Vec<String>) {
    if item.kind() == SyntaxKind::JOIN_EXPR {
        for item in items_of_join(item) {
            named_limited(&item, with, found);
        }
    } else if is_limited_item(item, with) {
        found.extend(source_name(item));
    }
}

fn items_of_join(join: &SyntaxNode) -> Vec<SyntaxNode> {
    let parts = join.children().flat_map(|child| {
        if ast::Join::can_cast(child.kind()) {
            child.children().collect()
        } else {
            vec![child]
        }
    });
    parts.filter(is_from_item).collect()
}

fn is_from_item(node: &SyntaxNode) -> bool {
    ast::FromListItem::can_cast(node.kind())
}

/// What an item of `FROM` is called.
fn source_name(item: &SyntaxNode) -> Option<String> {
    if let Some(alias) = item.children().find_map(ast::FromAlias::cast) {
        return names::word(alias.name()?.syntax());
    }
    let item = ast::RelationFromItem::cast(item.clone())?;
    names::word(item.relation_name_ref()?.syntax())
}

fn is_query(node: &SyntaxNode) -> bool {
    ast::SelectVariant::can_cast(node.kind())
}

/// The query in parentheses.
fn query_of(node: &SyntaxNode) -> Option<SyntaxNode> {
    node.children().find(is_query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Statement, parse};

    /// What the last change of rows in a statement reaches.
    fn of(script: &str) -> Reach {
        let mut statements = parse(script);
        let located = statements.pop().unwrap();
        match located.statement {
            Statement::Do(ref block) => block.statements[0].statement.changes().last(),
            ref statement => statement.changes().last(),
        }
        .unwrap_or_else(|| panic!("no change: {script}"))
        .reach
        .clone()
    }

    fn few(columns: &[&str]) -> Reach {
        Reach::Few(columns.iter().map(|&column| column.to_owned()).collect())
    }

    #[test]
    fn a_limit_counts_only_where_it_picks_the_rows_that_are_changed() {
        for script in [
            "UPDATE t SET a = (SELECT b FROM u LIMIT 1) WHERE a IS NULL",
            "UPDATE t SET a = (SELECT b FROM u WHERE u.id = t.id LIMIT 1) WHERE c > 1",
            "DELETE FROM t WHERE a IS NULL RETURNING (SELECT 1 FROM u LIMIT 1)",
            "DELETE FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id LIMIT 1)",
            "DELETE FROM t WHERE id NOT IN (SELECT id FROM u LIMIT 10)",
            "DELETE FROM t WHERE id IN (SELECT id FROM u WHERE x = (SELECT 1 FROM v LIMIT 1))",
            "DELETE FROM t WHERE id IN (SELECT u.id FROM u WHERE u.t_id = t.id LIMIT 1)",
            "DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT ALL)",
            "DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT NULL)",
            "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY a FETCH FIRST 5 ROWS WITH TIES)",
            "WITH b AS (SELECT id FROM t LIMIT 10) DELETE FROM t WHERE a IS NULL",
            "DELETE FROM t USING u, LATERAL (SELECT 1 AS id FROM v LIMIT 1) b WHERE t.id = b.id",
            "DELETE FROM t USING (SELECT id FROM u LIMIT 5) b, v WHERE t.id = v.id",
        ] {
            assert_eq!(of(script), Reach::Unlimited, "{script}");
        }
        for script in [
            "UPDATE t SET a = 1 WHERE id IN (SELECT id FROM t WHERE t.a IS NULL LIMIT 10)",
            "UPDATE t SET a = 1 WHERE (id) = ANY (ARRAY(SELECT id FROM t LIMIT 10))",
            "UPDATE t SET a = 1 WHERE id = ANY (SELECT id FROM t FETCH FIRST 10 ROWS ONLY)",
            "UPDATE t SET a = 1 WHERE id = (SELECT id FROM t LIMIT 1)",
            "UPDATE t SET a = 1 FROM (SELECT id FROM t LIMIT 10) b WHERE b.id = t.id",
            "UPDATE t x SET a = 1 FROM (VALUES (1), (2)) b (id) WHERE x.id = b.id",
            "WITH b AS (SELECT id FROM t LIMIT 10) UPDATE t SET a = 1 FROM b WHERE t.id = b.id",
            "WITH b AS (SELECT id FROM t LIMIT 10), c AS (TABLE b) DELETE FROM t WHERE id IN (TABLE c)",
            "WITH b AS (SELECT id FROM t LIMIT 10) DELETE FROM t WHERE id IN (SELECT id FROM b)",
            "WITH b AS (SELECT id FROM t LIMIT 9), d AS (DELETE FROM t USING b WHERE t.id = b.id RETURNING 1) SELECT 1",
            "DELETE FROM t WHERE id IN (SELECT id FROM t UNION SELECT id FROM u LIMIT 10)",
            "DO $$ BEGIN DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT size); END $$",
        ] {
            assert_eq!(of(script), few(&["id"]), "{script}");
        }
    }

    #[test]
    fn what_limits_the_values_of_a_column_limits_rows_only_where_it_is_a_key() {
        for (condition, columns) in [
            ("created BETWEEN '2020-01-01' AND now()", &["created"][..]),
            (
                "created >= '2020-01-01' AND created < '2021-01-01'",
                &["created"],
            ),
            ("kind IN ('a', 'b') AND name = 'x'", &["name", "kind"]),
            ("(a, b) IN ((1, 2), (3, 4))", &["a", "b"]),
            ("t.a = 1", &["a"]),
            ("3 = a", &["a"]),
        ] {
            let script = format!("UPDATE t SET a = 1 WHERE {condition}");
            assert_eq!(of(&script), few(columns), "{script}");
        }
        for condition in [
            "a BETWEEN b AND c",
            "a NOT BETWEEN 1 AND 2",
            "a >= 1 AND b <= 2",
            "a IN (b, 1)",
            "u.a = 1",
            "a = 1 OR b = 2",
            "1 = 1.0",
        ] {
            let script = format!("UPDATE t SET a = 1 FROM u WHERE {condition}");
            assert_eq!(of(&script), Reach::Unlimited, "{script}");
        }
        let body = "DO $$ BEGIN UPDATE t SET a = 1 WHERE id BETWEEN low AND low + 999; END $$";
        assert_eq!(of(body), few(&["id"]));
    }

    #[test]
    fn a_part_that_always_holds_leaves_the_others_in_force() {
        for (condition, reach) in [
            ("true AND id = 3", few(&["id"])),
            ("a IS NULL AND 1 = 1", Reach::Unlimited),
            ("1 = 1 AND true", Reach::Everything),
            ("a IS NULL AND 1 = 2", Reach::Limited),
        ] {
            let script = format!("DELETE FROM t WHERE {condition}");
            assert_eq!(of(&script), reach, "{script}");
        }
    }

    #[test]
    fn an_insert_adds_as_many_rows_as_its_query_gives() {
        for (query, reach) in [
            ("VALUES (1), (2)", Reach::Limited),
            ("SELECT id FROM u LIMIT 10", Reach::Limited),
            (
                "SELECT id FROM (SELECT id FROM u LIMIT 10) b",
                Reach::Limited,
            ),
            (
                "WITH b AS (SELECT id FROM u LIMIT 10) SELECT id FROM b",
                Reach::Limited,
            ),
            ("SELECT (SELECT b FROM v LIMIT 1) FROM u", Reach::Unlimited),
            (
                "SELECT id FROM u JOIN (SELECT 1 LIMIT 1) b ON true",
                Reach::Unlimited,
            ),
        ] {
            let script = format!("INSERT INTO t {query}");
            assert_eq!(of(&script), reach, "{script}");
        }
    }
}
