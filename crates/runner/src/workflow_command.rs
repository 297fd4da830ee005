//! Workflow commands (`::error title=…::…`): escaping, and keeping untrusted text from being one.
//!
//! Rules: actions/toolkit `packages/core/src/command.ts` and actions/runner `ActionCommand.cs`.

/// Escapes the message of a workflow command. `%` first, or the other escapes would be escaped again.
#[must_use]
pub fn escape_data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes a property (`title`, `file`) of a workflow command.
#[must_use]
pub fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Renders `::name key=value,…::message`.
#[must_use]
pub fn render(name: &str, properties: &[(&str, &str)], message: &str) -> String {
    let mut line = format!("::{name}");
    for (index, (key, value)) in properties.iter().enumerate() {
        line.push(if index == 0 { ' ' } else { ',' });
        line.push_str(key);
        line.push('=');
        line.push_str(&escape_property(value));
    }
    line.push_str("::");
    line.push_str(&escape_data(message));
    line
}

/// Makes a line of our own text harmless: the runner trims a line before it looks for `::`, and takes
/// `##[command]` anywhere in a line.
#[must_use]
pub fn defuse(line: &str) -> String {
    let line = line.replace('\r', " ").replace("##[", "## [");
    if line.trim_start().starts_with("::") {
        format!("| {line}")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the runner does: the inverse of `escape_data`, `%25` last.
    fn unescape_data(text: &str) -> String {
        text.replace("%0D", "\r")
            .replace("%0A", "\n")
            .replace("%25", "%")
    }

    fn unescape_property(text: &str) -> String {
        text.replace("%0D", "\r")
            .replace("%0A", "\n")
            .replace("%3A", ":")
            .replace("%2C", ",")
            .replace("%25", "%")
    }

    /// Name, properties, data.
    type Parsed = (String, Vec<(String, String)>, String);

    /// `ActionCommand.TryParseV2` of the runner: name, properties, data.
    fn parse(line: &str) -> Option<Parsed> {
        let rest = line.trim_start().strip_prefix("::")?;
        let end = rest.find("::")?;
        let (head, data) = (&rest[..end], &rest[end + 2..]);
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        let properties = properties
            .split(',')
            .filter_map(|p| p.split_once('='))
            .map(|(k, v)| (k.to_owned(), unescape_property(v)))
            .collect();
        Some((name.to_owned(), properties, unescape_data(data)))
    }

    proptest! {
        #[test]
        fn what_goes_in_is_what_the_runner_parses_out(title in "\\PC*|[:,%\r\n]*", message in "(?s).*") {
            let line = render("error", &[("title", &title)], &message);
            prop_assert!(!line.contains('\n'));
            let (name, properties, data) = parse(&line).unwrap();
            prop_assert_eq!(name, "error");
            prop_assert_eq!(&properties[0].1, &title);
            prop_assert_eq!(data, message);
        }

        #[test]
        fn a_defused_line_is_never_a_command(line in "[ \t]*(::|##\\[)?[^\n]*") {
            let defused = defuse(&line);
            prop_assert!(!defused.trim_start().starts_with("::"));
            prop_assert!(!defused.contains("##["));
        }
    }
}
