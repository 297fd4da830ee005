//! Cuts a script into its statements as `psql` does, by PostgreSQL's lexical rules alone.
//!
//! It refuses to know what a statement means, so that a statement which no parser understands still has
//! its own span and the ones around it stay readable.

use std::ops::Range;

/// One statement with everything around it that belongs to no other.
///
/// The spans of all pieces follow each other without a gap, from the first byte to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// From the end of the piece before, the semicolon included.
    pub span: Range<usize>,
    /// The statement alone: no comments before or behind it, no semicolon. `None` where there is only
    /// space, comments or a lone semicolon.
    pub statement: Option<Range<usize>>,
}

/// Cuts `script` at the semicolons that end statements.
///
/// Quoted text, dollar-quoted bodies, comments, parentheses and `BEGIN ATOMIC … END` bodies are kept
/// whole. Lines that begin a statement with a backslash are commands of `psql` and pieces of their own;
/// the lines that follow `COPY … FROM STDIN` belong to it up to `\.`.
#[must_use]
pub fn cut(script: &str) -> Vec<Piece> {
    let mut cutter = Cutter::new(script);
    while cutter.at < script.len() {
        cutter.step();
    }
    cutter.end_piece(script.len());
    cutter.pieces
}

/// The comments of a script, each without the line end behind it.
#[must_use]
pub fn comments(script: &str) -> Vec<Range<usize>> {
    let mut cutter = Cutter::new(script);
    while cutter.at < script.len() {
        cutter.step();
    }
    cutter.comments
}

/// The quoted texts of a script, bodies in dollars included, with their quotes.
pub(crate) fn text_spans(script: &str) -> Vec<Range<usize>> {
    let mut cutter = Cutter::new(script);
    while cutter.at < script.len() {
        cutter.step();
    }
    cutter.texts
}

struct Cutter<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    pieces: Vec<Piece>,
    comments: Vec<Range<usize>>,
    texts: Vec<Range<usize>>,
    /// Where the current piece begins.
    start: usize,
    /// First and last byte (exclusive) of the statement seen in the current piece.
    statement: Option<Range<usize>>,
    parentheses: usize,
    /// First words of the statement, enough to know a function's body when one begins.
    words: Vec<&'a str>,
    /// Open `BEGIN`s and `CASE`s of a body in SQL.
    blocks: usize,
}

/// `CREATE OR REPLACE FUNCTION` are four words; `COPY` is told by one.
const WORDS_KEPT: usize = 4;

impl<'a> Cutter<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            pieces: Vec::new(),
            comments: Vec::new(),
            texts: Vec::new(),
            start: 0,
            statement: None,
            parentheses: 0,
            words: Vec::new(),
            blocks: 0,
        }
    }

    /// Goes over one token.
    fn step(&mut self) {
        let from = self.at;
        match self.bytes[from] {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
            b'-' if self.is_next(b'-') => self.comment(line_end(self.bytes, from)),
            b'/' if self.is_next(b'*') => self.comment(comment_end(self.bytes, from)),
            b'\\' if self.statement.is_none() => self.psql_command(),
            b';' if self.parentheses == 0 && self.blocks == 0 => self.semicolon(),
            _ => {
                self.token();
                let start = self.statement.as_ref().map_or(from, |seen| seen.start);
                self.statement = Some(start..self.at);
            }
        }
    }

    /// Goes over one token that belongs to a statement.
    fn token(&mut self) {
        let from = self.at;
        match self.bytes[from] {
            b'\'' => self.text(from, quoted_end(self.bytes, from, b'\'', Backslash::Plain)),
            b'"' => self.at = quoted_end(self.bytes, from, b'"', Backslash::Plain),
            b'$' => match dollar_end(self.bytes, from) {
                Some(end) => self.text(from, end),
                None => self.at += 1,
            },
            b'(' | b'[' => {
                self.parentheses += 1;
                self.at += 1;
            }
            b')' | b']' => {
                self.parentheses = self.parentheses.saturating_sub(1);
                self.at += 1;
            }
            byte if is_word_start(byte) => self.word(),
            // A number, so that `1e'` is no escaped string.
            byte if byte.is_ascii_digit() => self.at = word_end(self.bytes, from),
            _ => self.at += 1,
        }
    }

    fn comment(&mut self, end: usize) {
        self.comments.push(self.at..end);
        self.at = end;
    }

    fn text(&mut self, from: usize, end: usize) {
        self.texts.push(from..end);
        self.at = end;
    }

    fn word(&mut self) {
        let from = self.at;
        let end = word_end(self.bytes, from);
        let word = &self.text[from..end];
        self.at = end;
        if self.bytes.get(end) == Some(&b'\'') && word.eq_ignore_ascii_case("e") {
            self.text(end, quoted_end(self.bytes, end, b'\'', Backslash::Escapes));
            return;
        }
        if self.words.len() < WORDS_KEPT {
            self.words.push(word);
        }
        if self.parentheses == 0 && creates_routine(&self.words) {
            let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
            if is("begin") || (is("case") && self.blocks > 0) {
                self.blocks += 1;
            } else if is("end") {
                self.blocks = self.blocks.saturating_sub(1);
            }
        }
    }

    fn semicolon(&mut self) {
        self.at += 1;
        if self.reads_standard_input() {
            self.at = copy_data_end(self.bytes, self.at);
        }
        self.end_piece(self.at);
    }

    fn reads_standard_input(&self) -> bool {
        let Some(statement) = self.statement.clone() else {
            return false;
        };
        let is_copy = self
            .words
            .first()
            .is_some_and(|word| word.eq_ignore_ascii_case("copy"));
        is_copy && {
            let words: Vec<&str> = self.text[statement].split_ascii_whitespace().collect();
            words.windows(2).any(|pair| {
                pair[0].eq_ignore_ascii_case("from") && pair[1].eq_ignore_ascii_case("stdin")
            })
        }
    }

    fn psql_command(&mut self) {
        let end = line_end(self.bytes, self.at);
        let trimmed = self.text[self.at..end].trim_end().len();
        self.statement = Some(self.at..self.at + trimmed);
        self.at = end;
        self.end_piece(end);
    }

    fn end_piece(&mut self, end: usize) {
        if end > self.start {
            self.pieces.push(Piece {
                span: self.start..end,
                statement: self.statement.take(),
            });
        }
        self.start = end;
        self.statement = None;
        self.parentheses = 0;
        self.words.clear();
        self.blocks = 0;
    }

    fn is_next(&self, byte: u8) -> bool {
        self.bytes.get(self.at + 1) == Some(&byte)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backslash {
    /// Stands for itself (`standard_conforming_strings`, the default since 9.1).
    Plain,
    /// Takes the next byte along, as in `E'…'`.
    Escapes,
}

fn creates_routine(words: &[&str]) -> bool {
    let is = |index: usize, keyword: &str| {
        words
            .get(index)
            .is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    };
    let at = if is(1, "or") && is(2, "replace") {
        3
    } else {
        1
    };
    is(0, "create") && (is(at, "function") || is(at, "procedure"))
}

/// Letters, underscore, and every byte of a character beyond ASCII (scan.l, `ident_start`).
fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes[from..].iter();
    let length = rest
        .take_while(|byte| is_word_start(**byte) || byte.is_ascii_digit() || **byte == b'$')
        .count();
    from + length
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes[from..].iter();
    from + rest
        .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
        .count()
}

/// Behind the comment that begins at `from`; comments nest.
fn comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Behind the quoted text that begins at `from`. A doubled quote ends one text and begins the next,
/// which comes to the same for a cut.
fn quoted_end(bytes: &[u8], from: usize, quote: u8, backslash: Backslash) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if backslash == Backslash::Escapes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Behind the dollar-quoted text that begins at `from`, or nothing where the dollar begins none.
fn dollar_end(bytes: &[u8], from: usize) -> Option<usize> {
    let name = bytes[from + 1..].iter();
    let length = name
        .take_while(|byte| is_word_start(**byte) || byte.is_ascii_digit())
        .count();
    let behind = from + 1 + length;
    let begins =
        bytes.get(behind) == Some(&b'$') && !bytes.get(from + 1).is_some_and(u8::is_ascii_digit);
    if !begins {
        return None;
    }
    let tag = &bytes[from..=behind];
    let body = &bytes[behind + 1..];
    let found = body.windows(tag.len()).position(|window| window == tag);
    Some(found.map_or(bytes.len(), |at| behind + 1 + at + tag.len()))
}

/// Behind the data of a `COPY … FROM STDIN`: the line `\.`, or the end.
fn copy_data_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < bytes.len() {
        let end = line_end(bytes, at);
        let is_last = bytes[at..end].trim_ascii() == b"\\.";
        at = end;
        if is_last {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(script: &str) -> Vec<&str> {
        let pieces = cut(script);
        let statements = pieces.into_iter().filter_map(|piece| piece.statement);
        statements.map(|span| &script[span]).collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        let script = "SELECT ';' ; SELECT \";\"; -- ;\nSELECT /* ; /* ; */ ; */ 1;";
        assert_eq!(
            statements(script),
            ["SELECT ';'", "SELECT \";\"", "SELECT /* ; /* ; */ ; */ 1"]
        );
    }

    #[test]
    fn a_backslash_escapes_in_escape_strings_alone() {
        assert_eq!(
            statements(r"SELECT '\'; SELECT 2"),
            [r"SELECT '\'", "SELECT 2"]
        );
        assert_eq!(
            statements(r"SELECT E'\';'; SELECT 2"),
            [r"SELECT E'\';'", "SELECT 2"]
        );
        assert_eq!(
            statements(r"SELECT 1e'\'; SELECT 2"),
            [r"SELECT 1e'\'", "SELECT 2"]
        );
    }

    #[test]
    fn dollar_quoted_bodies_stay_whole() {
        let script = "DO $$ BEGIN a; END $$; DO $x$ $$ ; $x$; SELECT a$b$ ; SELECT $1; SELECT $1";
        assert_eq!(
            statements(script),
            [
                "DO $$ BEGIN a; END $$",
                "DO $x$ $$ ; $x$",
                "SELECT a$b$",
                "SELECT $1",
                "SELECT $1"
            ]
        );
    }

    #[test]
    fn bodies_in_standard_sql_and_rules_stay_whole() {
        let function = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END";
        let rule = "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); INSERT INTO b VALUES (2))";
        let script = format!("{function};{rule}; BEGIN; SELECT 1; END;");
        assert_eq!(
            statements(&script),
            [function, rule, "BEGIN", "SELECT 1", "END"]
        );
    }

    #[test]
    fn commands_of_psql_are_pieces_of_their_own() {
        assert_eq!(
            statements("\\set x 1\nSELECT 1;\n\\echo a;b\n"),
            ["\\set x 1", "SELECT 1", "\\echo a;b"]
        );
    }

    #[test]
    fn the_data_of_a_copy_belongs_to_it() {
        let script = "COPY t (a) FROM stdin;\n1;2\n'\n\\.\nSELECT 1;";
        assert_eq!(statements(script), ["COPY t (a) FROM stdin", "SELECT 1"]);
    }

    #[test]
    fn an_unfinished_quote_reaches_to_the_end() {
        for script in [
            "SELECT 'a; b",
            "SELECT \"a; b",
            "SELECT $$a; b",
            "SELECT E'a\\",
        ] {
            assert_eq!(statements(script), [script]);
        }
        assert_eq!(statements("SELECT 1 /* ; "), ["SELECT 1"]);
    }

    #[test]
    fn only_space_and_comments_are_no_statement() {
        assert_eq!(cut(""), []);
        let pieces = cut(" ; -- nothing\n");
        assert!(pieces.iter().all(|piece| piece.statement.is_none()));
        assert_eq!(pieces.len(), 2);
    }
}
