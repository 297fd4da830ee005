//! What a `DO` block runs, as far as its text says.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxNode, plpgsql::Plpgsql};

use super::{expression, names};
use crate::Statement;
use crate::parse::{self, parse};
use crate::statement::{BodyStatement, DoBlock, Unknown};

/// The statements of a `DO` block that begins at `offset` of its script.
pub(super) fn do_block(block: &ast::Do, offset: usize) -> DoBlock {
    let mut found = DoBlock {
        statements: Vec::new(),
        commits: false,
        unknown: Vec::new(),
    };
    let Some(body) = block.plpgsql() else {
        found.unknown.push(Unknown {
            reason: "runs a body in another language than PL/pgSQL".to_owned(),
            offset,
        });
        return found;
    };
    if let Some(error) = body.errors().first() {
        found.unknown.push(Unknown {
            reason: format!("has a body that is not understood: {}", error.message()),
            offset,
        });
    }
    let reader = Reader {
        body: &body,
        offset,
    };
    for node in body.syntax().descendants() {
        reader.read(&node, &mut found);
    }
    found
}

struct Reader<'a> {
    body: &'a Plpgsql,
    /// Where the block begins in its script.
    offset: usize,
}

impl Reader<'_> {
    /// Adds what a node of the body runs.
    fn read(&self, node: &SyntaxNode, found: &mut DoBlock) {
        let at = self.position(node);
        if let Some(run) = ast::PlpgsqlExecSqlStmt::cast(node.clone()) {
            self.add(run.stmt(), at, found);
        } else if let Some(run) = ast::PlpgsqlForQueryStmt::cast(node.clone()) {
            self.add(run.query(), at, found);
        } else if let Some(run) = ast::PlpgsqlDoStmt::cast(node.clone()) {
            self.add(run.do_().map(ast::Stmt::Do), at, found);
        } else if let Some(run) = ast::PlpgsqlCallStmt::cast(node.clone()) {
            self.add(run.call().map(ast::Stmt::Call), at, found);
        } else if let Some(run) = ast::PlpgsqlDynExecuteStmt::cast(node.clone()) {
            dynamic(run.query(), at, found);
        } else if let Some(run) = ast::PlpgsqlForDynStmt::cast(node.clone()) {
            dynamic(run.query(), at, found);
        } else if let Some(run) = ast::PlpgsqlOpenExecute::cast(node.clone()) {
            dynamic(run.query(), at, found);
        } else if ast::PlpgsqlCommitStmt::can_cast(node.kind())
            || ast::PlpgsqlRollbackStmt::can_cast(node.kind())
        {
            found.commits = true;
        } else if ast::PlpgsqlPerformStmt::can_cast(node.kind())
            || ast::PlpgsqlExpr::can_cast(node.kind())
        {
            for function in expression::unknown_calls(node) {
                found.unknown.push(Unknown {
                    reason: format!("calls `{function}`, of which nothing is known"),
                    offset: at,
                });
            }
        }
    }

    fn add(&self, run: Option<ast::Stmt>, offset: usize, found: &mut DoBlock) {
        match run.and_then(|run| parse::of(run, offset)) {
            Some(statement) => found.statements.push(BodyStatement { offset, statement }),
            None => found.unknown.push(Unknown {
                reason: "has a statement that is not understood".to_owned(),
                offset,
            }),
        }
    }

    fn position(&self, node: &SyntaxNode) -> usize {
        let range = self.body.source_range(node.text_range());
        self.offset + usize::from(range.start())
    }
}

/// `EXECUTE`: a literal is read, anything else is only known at run time.
fn dynamic(query: Option<ast::PlpgsqlExpr>, offset: usize, found: &mut DoBlock) {
    let literal = query.as_ref().and_then(|query| {
        let words: Vec<_> = names::tokens(query.syntax()).collect();
        let [only] = words.as_slice() else {
            return None;
        };
        let literal = only.parent().and_then(ast::Literal::cast)?;
        literal.decoded_value().map(|value| value.text().to_owned())
    });
    let Some(text) = literal else {
        found.unknown.push(Unknown {
            reason: "runs a statement that is put together at run time".to_owned(),
            offset,
        });
        return;
    };
    for located in parse(&text) {
        let mut statement = located.statement;
        if let Statement::Unknown(unknown) = &mut statement {
            unknown.offset = offset;
        }
        found.statements.push(BodyStatement { offset, statement });
    }
}
