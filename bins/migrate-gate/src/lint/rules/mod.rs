//! The rules, one file each: id, severity, reason, examples and check.
//!
//! A rule sees one statement at its place in a script; it refuses to know files, comments and baselines.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a rule names the statements that it is about"
)]

mod add_column_constraint;
mod add_column_rewrite;
mod add_required_column;
mod allow_comment;
mod attach_partition;
mod change_without_where;
mod check_without_not_valid;
mod cluster;
mod column_type_rewrite;
mod concurrent_index_if_not_exists;
mod concurrently_in_transaction;
mod ddl_in_do;
mod ddl_with_backfill;
mod disable_trigger;
mod domain_constraint;
mod drop_column;
mod drop_default;
mod drop_foreign_key;
mod drop_index_without_concurrently;
mod drop_object;
mod drop_table;
mod enum_order;
mod enum_value_used_at_once;
mod foreign_key_without_not_valid;
mod index_without_concurrently;
mod lock_table;
mod lock_timeout;
mod partition_locks_parent;
mod refresh_without_concurrently;
mod reindex_without_concurrently;
mod rename_column;
mod rename_enum_value;
mod rename_table;
mod rewrite_table;
mod set_not_null;
mod truncate;
mod unbatched_change;
mod unique_constraint_builds_index;
mod unknown_statement;
mod work_under_lock;

use super::finding::{Found, Severity};
use super::moment::Moment;

/// A rule.
pub(crate) struct Rule {
    /// Name in reports, comments and the baseline; the file's name with hyphens.
    pub(crate) id: &'static str,
    /// How much a finding of it matters.
    pub(crate) severity: Severity,
    /// What it reports, in a few words.
    pub(crate) summary: &'static str,
    /// Why, in markdown.
    pub(crate) reason: &'static str,
    /// The migration before the examples.
    pub(crate) before: &'static str,
    /// A migration that it reports.
    pub(crate) bad: &'static str,
    /// What to do instead: migrations divided by lines that begin with `-- next migration`.
    pub(crate) good: &'static str,
    /// Looks at a statement.
    pub(crate) check: fn(&Moment<'_>) -> Vec<Found>,
}

/// Every rule, by its id.
pub(crate) const ALL: &[&Rule] = &[
    &add_column_constraint::RULE,
    &add_column_rewrite::RULE,
    &add_required_column::RULE,
    &allow_comment::RULE,
    &attach_partition::RULE,
    &change_without_where::RULE,
    &check_without_not_valid::RULE,
    &cluster::RULE,
    &column_type_rewrite::RULE,
    &concurrent_index_if_not_exists::RULE,
    &concurrently_in_transaction::RULE,
    &ddl_in_do::RULE,
    &ddl_with_backfill::RULE,
    &disable_trigger::RULE,
    &domain_constraint::RULE,
    &drop_column::RULE,
    &drop_default::RULE,
    &drop_foreign_key::RULE,
    &drop_index_without_concurrently::RULE,
    &drop_object::RULE,
    &drop_table::RULE,
    &enum_order::RULE,
    &enum_value_used_at_once::RULE,
    &foreign_key_without_not_valid::RULE,
    &index_without_concurrently::RULE,
    &lock_table::RULE,
    &lock_timeout::RULE,
    &partition_locks_parent::RULE,
    &refresh_without_concurrently::RULE,
    &reindex_without_concurrently::RULE,
    &rename_column::RULE,
    &rename_enum_value::RULE,
    &rename_table::RULE,
    &rewrite_table::RULE,
    &set_not_null::RULE,
    &truncate::RULE,
    &unbatched_change::RULE,
    &unique_constraint_builds_index::RULE,
    &unknown_statement::RULE,
    &work_under_lock::RULE,
];

/// A rule by its id.
pub(crate) fn find(id: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::lint::judge::tests::findings;

    #[test]
    fn the_folder_and_the_registry_agree() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lint/rules");
        let files = std::fs::read_dir(folder).unwrap().map(|file| {
            let path = file.unwrap().path();
            path.file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .replace('_', "-")
        });
        let files: BTreeSet<String> = files.filter(|name| name != "mod").collect();
        let ids: Vec<&str> = ALL.iter().map(|rule| rule.id).collect();
        assert!(ids.is_sorted(), "the registry goes by the alphabet");
        assert_eq!(files, ids.into_iter().map(str::to_owned).collect());
    }

    #[test]
    fn every_rule_reports_its_bad_example() {
        for rule in ALL {
            let found = findings(&[rule.before, rule.bad]);
            assert!(
                found.iter().any(|finding| finding.rule == rule.id),
                "{}: {found:?}",
                rule.id
            );
        }
    }

    /// What is told to do instead is reported by no rule at all.
    #[test]
    fn no_rule_reports_a_good_example() {
        for rule in ALL {
            let mut scripts = vec![rule.before.to_owned(), String::new()];
            for line in rule.good.lines() {
                if line.starts_with("-- next migration") {
                    scripts.push(String::new());
                } else if let Some(script) = scripts.last_mut() {
                    script.push_str(line);
                    script.push('\n');
                }
            }
            for length in 2..=scripts.len() {
                let scripts: Vec<&str> = scripts[..length].iter().map(String::as_str).collect();
                let found = findings(&scripts);
                assert!(found.is_empty(), "{}: {found:?}", rule.id);
            }
        }
    }
}
