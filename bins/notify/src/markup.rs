//! The markups of the channels: escaping, links, code, tables. Whatever comes from a fact is shown
//! as the text it is; it mentions nobody, links nowhere and hides nothing.

use crate::facts::Row;

/// How a channel marks up text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markup {
    /// Slack's mrkdwn.
    Slack,
    /// GitHub-flavoured Markdown.
    Markdown,
    /// No markup at all.
    Plain,
}

/// U+200B. Only it (or a code span) keeps GitHub from reading `@name` as a mention: neither a
/// backslash nor a character reference does (github/markup#1168).
const ZERO_WIDTH_SPACE: char = '\u{200b}';

impl Markup {
    /// The text, shown as it is.
    pub(crate) fn escape(self, text: &str) -> String {
        let text = without_controls(text);
        match self {
            Self::Slack => slack(&text),
            Self::Markdown => markdown(&text),
            Self::Plain => text,
        }
    }

    /// The text, emphasised.
    pub(crate) fn bold(self, text: &str) -> String {
        let escaped = self.escape(text.trim());
        match self {
            _ if escaped.is_empty() => escaped,
            Self::Slack => format!("*{}*", escaped.replace('*', "∗")),
            Self::Markdown => format!("**{escaped}**"),
            Self::Plain => escaped,
        }
    }

    /// A link; only the text where the URL is not one of the web.
    pub(crate) fn link(self, url: &str, text: &str) -> String {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        if !is_web
            || url
                .chars()
                .any(|character| character.is_whitespace() || character.is_control())
        {
            return self.escape(text);
        }
        match self {
            Self::Slack => {
                let url = slack(url).replace('|', "%7C");
                format!("<{url}|{}>", one_line(&self.escape(text)).replace('|', "¦"))
            }
            Self::Markdown => {
                let url = url
                    .replace('(', "%28")
                    .replace(')', "%29")
                    .replace('<', "%3C")
                    .replace('>', "%3E");
                format!("[{}]({url})", one_line(&self.escape(text)))
            }
            Self::Plain if url == text => url.to_owned(),
            Self::Plain => format!("{} ({url})", self.escape(text)),
        }
    }

    /// A short text in code style.
    pub(crate) fn code(self, text: &str) -> String {
        let text = one_line(&without_controls(text));
        match self {
            _ if text.trim().is_empty() => String::new(),
            Self::Slack => format!("`{}`", slack(&text).replace('`', "ˋ")),
            Self::Markdown => {
                let fence = "`".repeat(longest_run(&text, '`') + 1);
                format!("{fence} {} {fence}", break_mentions(&text))
            }
            Self::Plain => text,
        }
    }

    /// A text of several lines in code style.
    pub(crate) fn block(self, text: &str) -> String {
        let text = without_controls(text);
        let text = text.trim_matches('\n');
        match self {
            _ if text.trim().is_empty() => String::new(),
            Self::Slack => format!("```\n{}\n```", slack(text).replace("```", "ˋˋˋ")),
            Self::Markdown => {
                let fence = "`".repeat((longest_run(text, '`') + 1).max(3));
                format!("{fence}text\n{}\n{fence}", break_mentions(text))
            }
            Self::Plain => text.to_owned(),
        }
    }

    /// Facts, one a line.
    pub(crate) fn table(self, rows: &[Row]) -> String {
        let value = |row: &Row| {
            let text = one_line(&row.text);
            match &row.link {
                Some(url) => self.link(url, &text),
                None => self.escape(&text),
            }
        };
        let line = |row: &Row| match self {
            Self::Slack => format!("*{}:* {}", row.label, value(row)),
            Self::Markdown => format!("| {} | {} |", row.label, value(row)),
            Self::Plain => format!("{}: {}", row.label, value(row)),
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        let lines = lines.join("\n");
        match self {
            _ if lines.is_empty() => lines,
            Self::Markdown => format!("| | |\n| --- | --- |\n{lines}"),
            Self::Slack | Self::Plain => lines,
        }
    }
}

/// Line feeds and tabs stay; other control characters, and those that reorder the text around them
/// (Unicode TR 9), go.
fn without_controls(text: &str) -> String {
    let is_bidirectional = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace("\r\n", "\n")
        .chars()
        .filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || is_bidirectional(*c)))
        .collect()
}

pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The three characters that start anything in mrkdwn which is not mere style: links, mentions,
/// `<!channel>` (<https://docs.slack.dev/messaging/formatting-message-text#escaping>).
fn slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let broken = break_mentions(text);
    let mut characters = broken.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // `#12` would refer to an issue, there and here; a backslash does not prevent it
            // (github/cmark-gfm#181).
            '#' if characters.peek().is_some_and(char::is_ascii_digit) => {
                escaped.push('#');
                escaped.push(ZERO_WIDTH_SPACE);
            }
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Puts a zero-width space behind each `@` that could begin a mention, and leaves `name@host` and
/// `image@sha256:…` alone.
fn break_mentions(text: &str) -> String {
    let mut broken = String::with_capacity(text.len());
    let mut before = ' ';
    for character in text.chars() {
        broken.push(character);
        if character == '@' && !before.is_alphanumeric() {
            broken.push(ZERO_WIDTH_SPACE);
        }
        before = character;
    }
    broken
}

fn longest_run(text: &str, wanted: char) -> usize {
    text.split(|character| character != wanted)
        .map(str::len)
        .max()
        .unwrap_or(0)
        / wanted.len_utf8()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fact_mentions_nobody_on_slack() {
        let text = Markup::Slack.escape("<!channel> <@U123> & <https://evil.test|click>");
        assert_eq!(
            text,
            "&lt;!channel&gt; &lt;@U123&gt; &amp; &lt;https://evil.test|click&gt;"
        );
    }

    #[test]
    fn a_fact_mentions_nobody_on_github() {
        let text = Markup::Markdown.escape("@acme/ops (@ann) me@host app@sha256:1 <!-- x -->");
        assert_eq!(
            text,
            "@\u{200b}acme/ops (@\u{200b}ann) me@host app@sha256:1 &lt;\\!-- x --&gt;"
        );
        assert!(Markup::Markdown.block("by @ann").contains("@\u{200b}ann"));
    }

    #[test]
    fn a_fact_refers_to_no_issue_on_github() {
        let text = Markup::Markdown.escape("fixes acme/shop#12 # title");
        assert_eq!(text, "fixes acme/shop#\u{200b}12 \\# title");
    }

    #[test]
    fn a_block_cannot_be_left_from_inside() {
        assert_eq!(
            Markup::Slack.block("a\n```\n<!here>"),
            "```\na\nˋˋˋ\n&lt;!here&gt;\n```"
        );
        assert_eq!(
            Markup::Markdown.block("a\n```\nb"),
            "````text\na\n```\nb\n````"
        );
    }

    #[test]
    fn a_link_leads_only_into_the_web() {
        assert_eq!(
            Markup::Slack.link("https://a.test/?x=1&y=2", "run"),
            "<https://a.test/?x=1&amp;y=2|run>"
        );
        assert_eq!(
            Markup::Markdown.link("https://a.test/(1)", "a]b"),
            "[a\\]b](https://a.test/%281%29)"
        );
        for markup in [Markup::Slack, Markup::Markdown, Markup::Plain] {
            assert_eq!(markup.link("javascript:alert(1)", "run"), "run");
        }
    }

    proptest! {
        #[test]
        fn no_fact_can_start_anything_on_slack(text in "\\PC{0,200}") {
            for shown in [Markup::Slack.escape(&text), Markup::Slack.code(&text), Markup::Slack.block(&text), Markup::Slack.bold(&text)] {
                prop_assert!(!shown.contains(['<', '>']));
                let rest = shown.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
                prop_assert!(!rest.contains('&'));
            }
            let link = Markup::Slack.link("https://a.test", &text);
            prop_assert_eq!(link.matches('<').count(), 1);
            prop_assert_eq!(link.matches('|').count(), 1);
        }

        #[test]
        fn no_fact_can_start_html_or_a_mention_on_github(text in "[ -~\n]{0,200}") {
            let shown = Markup::Markdown.escape(&text);
            prop_assert!(!shown.contains(['<', '>']));
            let mut before = ' ';
            let mut characters = shown.chars().peekable();
            while let Some(character) = characters.next() {
                let mentions = character == '@' && !before.is_alphanumeric();
                prop_assert!(!mentions || characters.peek() == Some(&ZERO_WIDTH_SPACE));
                before = character;
            }
            let row = Row { label: "Error", text, link: None };
            prop_assert_eq!(Markup::Markdown.table(&[row]).lines().count(), 3);
        }
    }
}
