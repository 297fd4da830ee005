//! Cutting text to a service's limit: at a line where possible, never inside an entity, a link or a
//! code block left open, and always said.

/// What was left out of a text, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// What was too long, such as `the Slack message`.
    pub(crate) what: &'static str,
    /// The service's limit.
    pub(crate) limit: usize,
    /// Characters left out.
    pub(crate) dropped: usize,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            what,
            limit,
            dropped,
        } = self;
        write!(
            formatter,
            "{what} was cut to the service's limit of {limit} characters; {dropped} were left out"
        )
    }
}

/// The sign at the end of a text that was cut.
const NOTICE: &str = "… (cut)";

/// Longest line, in characters, that counts as a code block's fence; it is repeated in each piece.
const LONGEST_FENCE: usize = 16;

/// A code block's fence: what opens it, what closes it.
fn fence(line: &str) -> Option<(&str, String)> {
    let ticks = line
        .chars()
        .take_while(|character| *character == '`')
        .count();
    (ticks >= 3 && line.chars().count() <= LONGEST_FENCE).then(|| (line, "`".repeat(ticks)))
}

/// Keeps the beginning of a text, in at most `limit` characters, with a sign that it was cut.
pub(crate) fn to_limit(text: &str, limit: usize, what: &'static str) -> (String, Option<Cut>) {
    let length = text.chars().count();
    if length <= limit {
        return (text.to_owned(), None);
    }
    // Room for the fence that may have to be closed, and the notice.
    let room = limit.saturating_sub(NOTICE.chars().count() + LONGEST_FENCE + 2);
    let kept = first_piece(text, room);
    let dropped = length - kept.chars().count();
    let mut shown = kept.trim_end().to_owned();
    if let Some((_, closing)) = open_fence(&shown) {
        shown = format!("{shown}\n{closing}");
    }
    shown = format!("{shown}\n{NOTICE}");
    (
        shown,
        Some(Cut {
            what,
            limit,
            dropped,
        }),
    )
}

/// Splits a text into pieces of at most `limit` characters; a code block that a border crosses is
/// closed before it and opened again behind it.
pub(crate) fn pieces(text: &str, limit: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text.to_owned();
    while rest.chars().count() > limit {
        let kept = first_piece(&rest, limit.saturating_sub(LONGEST_FENCE + 1));
        let behind = rest[kept.len()..].trim_start_matches('\n').to_owned();
        let mut piece = kept.trim_end().to_owned();
        rest = behind;
        if let Some((opening, closing)) =
            open_fence(&piece).map(|(opening, closing)| (opening.to_owned(), closing))
        {
            piece = format!("{piece}\n{closing}");
            rest = format!("{opening}\n{rest}");
        }
        pieces.push(piece);
    }
    pieces.push(rest);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

/// The beginning of a text that may stand alone: up to the last line end in the last half of the
/// room, else up to a character that no entity or `<…>` encloses.
fn first_piece(text: &str, room: usize) -> &str {
    let end = text
        .char_indices()
        .nth(room)
        .map_or(text.len(), |(index, _)| index);
    let piece = &text[..end];
    if let Some(line_end) = piece.rfind('\n').filter(|line_end| *line_end > end / 2) {
        return &piece[..line_end];
    }
    let unclosed = |open: char, close: char| {
        let start = piece.rfind(open)?;
        (!piece[start..].contains(close)).then_some(start)
    };
    // An entity is short; a `&` far back is none.
    let entity = unclosed('&', ';').filter(|start| piece.len() - start < 8);
    let link = unclosed('<', '>');
    let safe_end = [entity, link].into_iter().flatten().min().unwrap_or(end);
    // A text that is one single link cannot be cut well; cut it anyhow.
    if safe_end == 0 {
        piece
    } else {
        &piece[..safe_end]
    }
}

/// The fence that is open at the end of a text, with what closes it.
fn open_fence(text: &str) -> Option<(&str, String)> {
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        match (&open, fence(line)) {
            (None, Some(opened)) => open = Some(opened),
            (Some((_, closing)), Some(_)) if line.trim_end() == closing => open = None,
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::markup::Markup;

    #[test]
    fn a_text_that_fits_stays_as_it_is() {
        assert_eq!(to_limit("short", 10, "it"), ("short".to_owned(), None));
    }

    #[test]
    fn what_was_cut_is_said_in_the_text_and_to_the_caller() {
        let (text, cut) = to_limit(&"line of text\n".repeat(100), 200, "the message");
        assert!(text.ends_with("line of text\n… (cut)"), "{text}");
        let said = cut.unwrap().to_string();
        assert!(
            said.starts_with("the message was cut to the service's limit of 200 characters; "),
            "{said}"
        );
    }

    #[test]
    fn a_code_block_is_closed_before_a_border_and_opened_behind_it() {
        let block = Markup::Markdown.block(&"line\n".repeat(50));
        let pieces = pieces(&block, 100);
        assert!(pieces.len() > 2);
        assert!(
            pieces
                .iter()
                .all(|piece| piece.starts_with("```text\n") && piece.ends_with("\n```")),
            "{pieces:?}"
        );
        let (cut, _) = to_limit(&block, 100, "it");
        assert!(cut.ends_with("\n```\n… (cut)"), "{cut}");
    }

    proptest! {
        #[test]
        fn cut_text_keeps_the_limit_and_no_entity_is_torn(text in "[a-z&<> \n]{0,400}", limit in 40usize..200) {
            let escaped = Markup::Slack.escape(&text);
            let (cut, said) = to_limit(&escaped, limit, "it");
            prop_assert!(cut.chars().count() <= limit);
            prop_assert_eq!(said.is_some(), escaped.chars().count() > limit);
            for shown in pieces(&escaped, limit).into_iter().chain([cut]) {
                prop_assert!(shown.chars().count() <= limit);
                let rest = shown.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
                prop_assert!(!rest.contains('&'), "{}", shown);
            }
        }

        #[test]
        fn pieces_lose_no_word(words in proptest::collection::vec("[a-z]{1,12}", 0..80), limit in 40usize..120) {
            let text = words.join(" ");
            let joined: String = pieces(&text, limit).concat();
            prop_assert_eq!(joined.replace(' ', ""), text.replace(' ', ""));
        }
    }
}
