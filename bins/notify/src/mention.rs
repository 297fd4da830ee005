//! People to be called by a service itself, in that service's own syntax: the one text that may
//! mention somebody, therefore of a shape that can do nothing else.

use std::str::FromStr;

/// A Slack user, user group or the channel's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlackMention(String);

/// A GitHub user or team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitHubMention(String);

impl FromStr for SlackMention {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_id = |id: &str| {
            !id.is_empty()
                && id
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        };
        let bare = text
            .strip_prefix('<')
            .and_then(|text| text.strip_suffix('>'))
            .unwrap_or(text);
        let is_allowed = match bare.split_at_checked(1) {
            Some(("@", user)) => is_id(user),
            Some(("!", "here" | "channel" | "everyone")) => true,
            Some(("!", group)) => group.strip_prefix("subteam^").is_some_and(is_id),
            _ => false,
        };
        if is_allowed {
            Ok(Self(format!("<{bare}>")))
        } else {
            Err("a Slack mention is `@U012AB3CD`, `!subteam^S012AB3CD`, `!here` or `!channel`")
        }
    }
}

impl FromStr for GitHubMention {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let name = text.strip_prefix('@').unwrap_or(text);
        if name.split('/').count() <= 2 && name.split('/').all(is_name) {
            Ok(Self(format!("@{name}")))
        } else {
            Err("a GitHub mention is `@user` or `@organisation/team`")
        }
    }
}

/// The mentions in one line, for the end of a message.
pub(crate) fn line<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let texts: Vec<&str> = texts.collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

impl SlackMention {
    /// As Slack reads it.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl GitHubMention {
    /// As GitHub reads it.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mentions_are_mentions() {
        assert_eq!("!here".parse::<SlackMention>().unwrap().text(), "<!here>");
        assert_eq!(
            "<@U012AB3CD>".parse::<SlackMention>().unwrap().text(),
            "<@U012AB3CD>"
        );
        assert_eq!(
            "acme/ops".parse::<GitHubMention>().unwrap().text(),
            "@acme/ops"
        );
        for nonsense in ["", "here", "@ann", "!subteam^", "!x", "@U1>", "<@U1|x>"] {
            assert!(nonsense.parse::<SlackMention>().is_err(), "{nonsense}");
        }
        for nonsense in ["", "@", "a/b/c", "@a b", "/x"] {
            assert!(nonsense.parse::<GitHubMention>().is_err(), "{nonsense}");
        }
    }
}
