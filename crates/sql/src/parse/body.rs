//! What a `DO` block runs, as far as its text says.

use std::ops::Range;

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxNode, plpgsql::Plpgsql};

use super::{expression, names};
use crate::Statement;
use crate::parse::{self, parse};
use crate::statement::{BodyStatement, DoBlock, Unknown};

/// The statements of a `DO` block that begins at `offset` of its script.
pub(super) fn do_block(block: &ast::Do, offset: usize) -> DoBlock {
    statements(block, offset, Around::Script { offset })
}

/// What a body stands in.
#[derive(Clone, Copy)]
enum Around<'a> {
    /// A statement that begins at this byte of its script.
    Script { offset: usize },
    /// Another body.
    Body(&'a Reader<'a>),
}

/// Reads a block that begins at `offset` of its script, whatever it stands in.
fn statements(block: &ast::Do, offset: usize, around: Around<'_>) -> DoBlock {
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
        around,
    };
    for node in body.syntax().descendants() {
        reader.read(&node, &mut found);
    }
    found
}

struct Reader<'a> {
    body: &'a Plpgsql,
    around: Around<'a>,
}

impl Reader<'_> {
    /// Adds what a node of the body runs.
    fn read(&self, node: &SyntaxNode, found: &mut DoBlock) {
        if let Some(run) = ast::PlpgsqlExecSqlStmt::cast(node.clone()) {
            self.add(node, run.stmt(), found);
        } else if let Some(run) = ast::PlpgsqlForQueryStmt::cast(node.clone()) {
            self.add(node, run.query(), found);
        } else if let Some(run) = ast::PlpgsqlDoStmt::cast(node.clone()) {
            self.add(node, run.do_().map(ast::Stmt::Do), found);
        } else if let Some(run) = ast::PlpgsqlCallStmt::cast(node.clone()) {
            self.add(node, run.call().map(ast::Stmt::Call), found);
        } else if let Some(run) = ast::PlpgsqlDynExecuteStmt::cast(node.clone()) {
            self.dynamic(node, run.query(), found);
        } else if let Some(run) = ast::PlpgsqlForDynStmt::cast(node.clone()) {
            self.dynamic(node, run.query(), found);
        } else if let Some(run) = ast::PlpgsqlOpenExecute::cast(node.clone()) {
            self.dynamic(node, run.query(), found);
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
                    offset: self.place(node).start,
                });
            }
        }
    }

    /// Adds a statement that a node runs.
    fn add(&self, node: &SyntaxNode, run: Option<ast::Stmt>, found: &mut DoBlock) {
        let span = self.stretch(node, run.as_ref().map(AstNode::syntax));
        let statement = match run {
            Some(ast::Stmt::Do(nested)) => {
                let block = statements(&nested, span.start, Around::Body(self));
                Some(Statement::Do(block))
            }
            Some(run) => parse::of(run, span.start),
            None => None,
        };
        match statement {
            Some(statement) => found.statements.push(BodyStatement { span, statement }),
            None => found.unknown.push(Unknown {
                reason: "has a statement that is not understood".to_owned(),
                offset: span.start,
            }),
        }
    }

    /// `EXECUTE`: a literal is read, anything else is only known at run time.
    fn dynamic(&self, node: &SyntaxNode, query: Option<ast::PlpgsqlExpr>, found: &mut DoBlock) {
        let span = self.stretch(node, query.as_ref().map(AstNode::syntax));
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
                offset: span.start,
            });
            return;
        };
        for located in parse(&text) {
            let mut statement = located.statement;
            pin(&mut statement, &span);
            found.statements.push(BodyStatement {
                span: span.clone(),
                statement,
            });
        }
    }

    /// From the first byte of a node to the last of a part of it.
    fn stretch(&self, node: &SyntaxNode, part: Option<&SyntaxNode>) -> Range<usize> {
        let whole = self.place(node);
        let end = part.map_or(whole.end, |part| self.place(part).end);
        whole.start..end
    }

    /// Where a node stands in the script. A tree knows the text that it was made of alone, and that of a
    /// nested body is the text of the body around it, its quotes taken off.
    fn place(&self, node: &SyntaxNode) -> Range<usize> {
        let mut range = self.body.source_range(node.text_range());
        let mut around = self.around;
        loop {
            match around {
                Around::Body(outer) => {
                    range = outer.body.source_range(range);
                    around = outer.around;
                }
                Around::Script { offset } => {
                    return offset + usize::from(range.start())..offset + usize::from(range.end());
                }
            }
        }
    }
}

/// Puts a statement, and everything in it, where the text that it was read from is run.
fn pin(statement: &mut Statement, span: &Range<usize>) {
    if let Statement::Unknown(unknown) = statement {
        unknown.offset = span.start;
    } else if let Statement::Do(block) = statement {
        for unknown in &mut block.unknown {
            unknown.offset = span.start;
        }
        for inner in &mut block.statements {
            inner.span = span.clone();
            pin(&mut inner.statement, span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of the statements in the blocks of a script, those of nested blocks behind their block.
    fn texts(script: &str) -> Vec<&str> {
        fn collect(block: &DoBlock, spans: &mut Vec<Range<usize>>) {
            for inner in &block.statements {
                spans.push(inner.span.clone());
                if let Statement::Do(nested) = &inner.statement {
                    collect(nested, spans);
                }
            }
        }
        let mut spans = Vec::new();
        for located in parse(script) {
            if let Statement::Do(block) = &located.statement {
                collect(block, &mut spans);
            }
        }
        spans.into_iter().map(|span| &script[span]).collect()
    }

    #[test]
    fn a_statement_of_a_body_has_its_own_bytes() {
        let script = "SELECT 1; DO $$ BEGIN\n DROP TABLE é; FOR r IN SELECT 2 LOOP END LOOP; END $$; SELECT 3";
        assert_eq!(texts(script), ["DROP TABLE é", "FOR r IN SELECT 2"]);
    }

    #[test]
    fn a_statement_of_a_nested_block_has_its_own_bytes() {
        let nested = "DO $x$ BEGIN DROP TABLE t; END $x$";
        let script = format!("SELECT 'before'; DO $$ BEGIN LOCK u; {nested}; END $$");
        assert_eq!(texts(&script), ["LOCK u", nested, "DROP TABLE t"]);
        let nested = "DO ''BEGIN DO ''''BEGIN DROP TABLE t; END''''; END''";
        let script = format!("SELECT 'before'; DO 'BEGIN {nested}; END'");
        let inner = "DO ''''BEGIN DROP TABLE t; END''''";
        assert_eq!(texts(&script), [nested, inner, "DROP TABLE t"]);
    }

    #[test]
    fn what_a_literal_says_stands_where_it_is_executed() {
        let execute = "EXECUTE 'DO $x$ BEGIN DROP TABLE t; FROB; EXECUTE q; END $x$; LOCK u'";
        let script = format!("SELECT 'before'; DO $$ BEGIN {execute}; END $$; SELECT 1");
        assert_eq!(texts(&script)[..2], [execute; 2]);
        assert!(texts(&script).iter().all(|text| *text == execute));
        let at = script.find("EXECUTE").unwrap();
        for located in parse(&script) {
            if let Statement::Do(outer) = &located.statement
                && let Statement::Do(nested) = &outer.statements[0].statement
            {
                assert!(!nested.unknown.is_empty());
                assert!(nested.unknown.iter().all(|unknown| unknown.offset == at));
            }
        }
    }
}
