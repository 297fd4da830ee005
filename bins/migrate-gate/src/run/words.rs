//! Why a run stopped, and how to go on, in words. It decides nothing.

use super::attempt::Stopped;

/// What the words are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    /// The schema.
    pub(crate) schema: &'a str,
    /// Who was seen in the way; empty when nobody was.
    pub(crate) in_the_way: &'a str,
    /// How often the tool was started.
    pub(crate) attempts: u32,
    /// What marks a failed migration as rolled back, without its name; none where the tool has no such mark.
    pub(crate) resolve: Option<&'a str>,
}

/// What was seen, in one sentence.
pub(crate) fn seen(stopped: &Stopped, about: &About<'_>) -> String {
    let schema = about.schema;
    match stopped {
        Stopped::LockTimedOut { .. } => {
            let who = match about.in_the_way {
                "" => "nobody was seen in the way".to_owned(),
                who => format!("in the way: {who}"),
            };
            let times = match about.attempts {
                1 => "one attempt".to_owned(),
                number => format!("{number} attempts"),
            };
            format!("schema `{schema}`: a lock was not had in {times}; {who}; nothing was changed")
        }
        Stopped::Incomplete { missing } => format!(
            "schema `{schema}`: the tool says that it succeeded, and its ledger that {} not applied",
            listed(missing)
        ),
        Stopped::FailedCleanly { migration } => format!(
            "schema `{schema}`: {} failed; the catalog is as it was before it",
            named(migration.as_deref())
        ),
        Stopped::FailedHalfWay { migration } => format!(
            "schema `{schema}`: {} failed half-way; the catalog is not what it was before it",
            named(migration.as_deref())
        ),
        Stopped::FailedPerhapsWithRows { migration } => format!(
            "schema `{schema}`: {} failed; the catalog is as it was, and rows may have been written",
            named(migration.as_deref())
        ),
        Stopped::FailedUnproven { migration } => format!(
            "schema `{schema}`: {} failed after others had been applied; what is left of it cannot be told",
            named(migration.as_deref())
        ),
        Stopped::InvalidIndexes(indexes) => format!(
            "schema `{schema}`: left {} that no query uses and every write pays for: {}",
            if indexes.len() == 1 {
                "an index"
            } else {
                "indexes"
            },
            indexes.join(", ")
        ),
    }
}

/// How to go on.
pub(crate) fn how_to_go_on(stopped: &Stopped, about: &About<'_>) -> String {
    let mark = |migration: Option<&str>| match (about.resolve, migration) {
        (Some(resolve), Some(migration)) => {
            format!("then mark it as rolled back: `{resolve} {migration}`")
        }
        (Some(_) | None, _) => "then run this step again".to_owned(),
    };
    match stopped {
        Stopped::LockTimedOut { .. } => {
            "run this step again when those sessions have ended, or raise `lock-timeout` or `attempts`"
                .to_owned()
        }
        Stopped::Incomplete { .. } => {
            "read the tool's output: it may have worked on another database or folder; then run this step again"
                .to_owned()
        }
        Stopped::FailedCleanly { migration } => format!(
            "correct the migration; {}",
            mark(migration.as_deref())
        ),
        Stopped::FailedHalfWay { migration }
        | Stopped::FailedPerhapsWithRows { migration }
        | Stopped::FailedUnproven { migration } => format!(
            "compare the database with the migration and undo by hand what it did, or restore the backup (`policy: restore`); {}",
            mark(migration.as_deref())
        ),
        Stopped::InvalidIndexes(indexes) => format!(
            "drop {} (`DROP INDEX CONCURRENTLY`), end what made it fail, and create it again in a new migration",
            if indexes.len() == 1 { "it" } else { "them" }
        ),
    }
}

fn named(migration: Option<&str>) -> String {
    migration.map_or_else(
        || "the tool".to_owned(),
        |migration| format!("migration `{migration}`"),
    )
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About<'_> = About {
        schema: "shop",
        in_the_way: "process 7 (web)",
        attempts: 3,
        resolve: Some("npx prisma migrate resolve --rolled-back"),
    };

    #[test]
    fn a_lock_that_was_not_had_names_who_was_in_the_way() {
        let failed = vec!["1_a".to_owned()];
        let text = seen(&Stopped::LockTimedOut { failed }, &ABOUT);
        assert_eq!(
            text,
            "schema `shop`: a lock was not had in 3 attempts; in the way: process 7 (web); nothing was changed"
        );
    }

    #[test]
    fn a_clean_failure_says_which_command_lets_the_next_run_begin() {
        let stopped = Stopped::FailedCleanly {
            migration: Some("1_a".to_owned()),
        };
        let text = how_to_go_on(&stopped, &ABOUT);
        assert!(
            text.ends_with("`npx prisma migrate resolve --rolled-back 1_a`"),
            "{text}"
        );
        let without = About {
            resolve: None,
            ..ABOUT
        };
        assert!(how_to_go_on(&stopped, &without).ends_with("run this step again"));
    }

    #[test]
    fn what_the_ledger_misses_is_named() {
        let missing = vec!["1_a".to_owned(), "2_b".to_owned()];
        let text = seen(&Stopped::Incomplete { missing }, &ABOUT);
        assert!(
            text.ends_with("that `1_a`, `2_b` are not applied"),
            "{text}"
        );
    }
}
