//! Data types, and what changing a column from one to another costs.

use std::fmt;

use crate::{Name, ServerVersion};

/// A type as a column has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataType {
    /// PostgreSQL's own name for what has several (`int8` is `bigint`); a user's type by its name.
    pub base: BaseType,
    /// `(10, 2)` of `numeric(10, 2)`; `None` where nothing is written.
    pub modifiers: Option<Vec<i64>>,
    /// Whether it is an array.
    pub is_array: bool,
}

/// What a type is before its modifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseType {
    /// One of PostgreSQL's own types, by its canonical name such as `bigint`.
    BuiltIn(String),
    /// `smallserial`, `serial`, `bigserial`: an integer with a sequence.
    Serial(String),
    /// Anything else: an enum, a domain, a composite, or of an extension.
    Named(Name),
}

/// What a change of type costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeChange {
    /// The rows stay as they are.
    Free,
    /// The rows stay, the indexes on the column are built again.
    RebuildsIndexes,
    /// Every row is written again, and every index built again.
    Rewrite,
    /// The rows stay where the session's time zone is UTC and are written again elsewhere.
    FreeUnderUtc,
    /// Not known.
    Unknown,
}

/// Spellings that PostgreSQL takes for its own types.
const SPELLINGS: &[(&str, &str)] = &[
    ("int", "integer"),
    ("int4", "integer"),
    ("int2", "smallint"),
    ("int8", "bigint"),
    ("decimal", "numeric"),
    ("dec", "numeric"),
    ("bool", "boolean"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("float", "double precision"),
    ("character varying", "varchar"),
    ("char varying", "varchar"),
    ("national character varying", "varchar"),
    ("national char varying", "varchar"),
    ("nchar varying", "varchar"),
    ("character", "char"),
    ("national character", "char"),
    ("national char", "char"),
    ("nchar", "char"),
    ("bpchar", "char"),
    ("timestamp without time zone", "timestamp"),
    ("timestamp with time zone", "timestamptz"),
    ("time without time zone", "time"),
    ("time with time zone", "timetz"),
    ("bit varying", "varbit"),
];

const SERIALS: &[(&str, &str)] = &[
    ("serial2", "smallint"),
    ("smallserial", "smallint"),
    ("serial4", "integer"),
    ("serial", "integer"),
    ("serial8", "bigint"),
    ("bigserial", "bigint"),
];

const BUILT_IN: &[&str] = &[
    "bigint",
    "bit",
    "boolean",
    "box",
    "bytea",
    "char",
    "cidr",
    "circle",
    "date",
    "datemultirange",
    "daterange",
    "double precision",
    "inet",
    "int4multirange",
    "int4range",
    "int8multirange",
    "int8range",
    "integer",
    "interval",
    "json",
    "jsonb",
    "jsonpath",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "numeric",
    "nummultirange",
    "numrange",
    "oid",
    "path",
    "pg_lsn",
    "point",
    "polygon",
    "real",
    "regclass",
    "regproc",
    "regtype",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "tsmultirange",
    "tsquery",
    "tsrange",
    "tstzmultirange",
    "tstzrange",
    "tsvector",
    "uuid",
    "varbit",
    "varchar",
    "xid",
    "xml",
];

/// Types of well-known extensions; none of them is a domain.
const OF_EXTENSIONS: &[&str] = &[
    "citext",
    "cube",
    "ean13",
    "geography",
    "geometry",
    "halfvec",
    "hstore",
    "isbn",
    "ltree",
    "lquery",
    "raster",
    "seg",
    "semver",
    "sparsevec",
    "vector",
];

impl DataType {
    /// A built-in type or a user's, by how it is written before modifiers and array bounds; space and
    /// case do not matter unless it is quoted.
    #[must_use]
    pub(crate) fn new(written: &Name, modifiers: Option<Vec<i64>>, is_array: bool) -> Self {
        let is_built_in_schema = matches!(written.schema.as_deref(), None | Some("pg_catalog"));
        let find = |table: &[(&str, &str)]| {
            let found = table.iter().find(|(spelling, _)| *spelling == written.name);
            found.map(|(_, name)| (*name).to_owned())
        };
        let base = if !is_built_in_schema {
            BaseType::Named(written.clone())
        } else if let Some(serial) = find(SERIALS) {
            BaseType::Serial(serial)
        } else if let Some(name) = find(SPELLINGS) {
            BaseType::BuiltIn(name)
        } else if BUILT_IN.contains(&written.name.as_str()) {
            BaseType::BuiltIn(written.name.clone())
        } else {
            BaseType::Named(written.clone())
        };
        let mut data_type = Self {
            base,
            modifiers,
            is_array,
        };
        data_type.settle_modifiers(&written.name);
        data_type
    }

    /// `float(24)` is `real`, `char` alone is `char(1)`.
    fn settle_modifiers(&mut self, written: &str) {
        let modifiers = self.modifiers.as_deref();
        match &mut self.base {
            BaseType::BuiltIn(name) if written == "float" => {
                if modifiers.is_some_and(|bits| bits.first().is_some_and(|bits| *bits <= 24)) {
                    "real".clone_into(name);
                }
                self.modifiers = None;
            }
            BaseType::BuiltIn(name)
                if name == "char" && modifiers.is_none() && written != "bpchar" =>
            {
                self.modifiers = Some(vec![1]);
            }
            BaseType::BuiltIn(name)
                if name == "numeric" && modifiers.is_some_and(|m| m.len() == 1) =>
            {
                self.modifiers = modifiers.map(|precision| vec![precision[0], 0]);
            }
            BaseType::BuiltIn(_) | BaseType::Serial(_) | BaseType::Named(_) => {}
        }
    }

    /// Whether it is known to be no domain: a domain's constraints are checked against every row.
    pub(crate) fn is_surely_no_domain(&self) -> bool {
        match &self.base {
            BaseType::BuiltIn(_) | BaseType::Serial(_) => true,
            BaseType::Named(name) => OF_EXTENSIONS.contains(&name.name.as_str()),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            BaseType::BuiltIn(name) => f.write_str(name)?,
            BaseType::Serial(name) => write!(f, "serial ({name})")?,
            BaseType::Named(name) => name.fmt(f)?,
        }
        if let Some(modifiers) = &self.modifiers {
            let modifiers: Vec<String> = modifiers.iter().map(ToString::to_string).collect();
            write!(f, "({})", modifiers.join(", "))?;
        }
        if self.is_array {
            f.write_str("[]")?;
        }
        Ok(())
    }
}

/// What changing a column from `from` to `to` costs when every value is converted by the plain cast.
///
/// The rows stay where the cast only changes the label or a limit that is not narrower
/// (`ATColumnChangeRequiresRewrite` and the length coercions' support functions of PostgreSQL).
#[must_use]
pub fn type_change(from: &DataType, to: &DataType, version: ServerVersion) -> TypeChange {
    if from == to {
        return TypeChange::Free;
    }
    let (BaseType::BuiltIn(old), BaseType::BuiltIn(new)) = (&from.base, &to.base) else {
        return named_change(from, to);
    };
    if from.is_array != to.is_array {
        return TypeChange::Rewrite;
    }
    let (old_limit, new_limit) = (from.modifiers.as_deref(), to.modifiers.as_deref());
    let is_free = match (old.as_str(), new.as_str()) {
        ("varchar", "varchar") | ("varbit", "varbit") => is_not_narrower(old_limit, new_limit),
        ("text", "varchar") => new_limit.is_none(),
        ("varchar", "text") | ("cidr", "inet") | ("xml", "text") => true,
        ("xml", "varchar") => new_limit.is_none(),
        ("numeric", "numeric") => is_numeric_free(old_limit, new_limit),
        ("timestamp", "timestamp")
        | ("timestamptz", "timestamptz")
        | ("time", "time")
        | ("timetz", "timetz") => precision(old_limit) <= precision(new_limit),
        ("interval", "interval") => {
            // The fields of an interval are not looked at, so only the removal of a limit is known.
            new_limit.is_none()
        }
        ("integer", "oid" | "regclass" | "regproc" | "regtype")
        | ("oid" | "regclass" | "regproc" | "regtype", "integer" | "oid" | "regclass") => true,
        ("timestamp", "timestamptz") | ("timestamptz", "timestamp") => {
            return timestamp_change(from, to, version);
        }
        _ => false,
    };
    match is_free {
        false => TypeChange::Rewrite,
        true if from.is_array && old != new => TypeChange::Rewrite,
        true if changes_operators(old, new) => TypeChange::RebuildsIndexes,
        true => TypeChange::Free,
    }
}

/// Between types of users' own, or to and from PostgreSQL's.
fn named_change(from: &DataType, to: &DataType) -> TypeChange {
    let is_citext =
        |base: &BaseType| matches!(base, BaseType::Named(name) if name.name == "citext");
    let is_text = |base: &BaseType| matches!(base, BaseType::BuiltIn(name) if name == "text");
    if from.base == to.base {
        // Only a type of an extension takes modifiers.
        return TypeChange::Unknown;
    }
    if !from.is_array && !to.is_array {
        let between =
            |one: &DataType, other: &DataType| is_citext(&one.base) && is_text(&other.base);
        if between(from, to) || between(to, from) {
            return TypeChange::RebuildsIndexes;
        }
    }
    // A domain may be its base under another name.
    TypeChange::Unknown
}

/// From 12 on the rows stay under UTC, and only where no number of digits is demanded: that is a second
/// conversion. The indexes are built again, because their operators differ.
fn timestamp_change(from: &DataType, to: &DataType, version: ServerVersion) -> TypeChange {
    if version.major() >= 12 && to.modifiers.is_none() && !from.is_array {
        TypeChange::FreeUnderUtc
    } else {
        TypeChange::Rewrite
    }
}

fn is_not_narrower(old: Option<&[i64]>, new: Option<&[i64]>) -> bool {
    match (old, new) {
        (_, None) => true,
        (Some(old), Some(new)) => old.first() <= new.first(),
        (None, Some(_)) => false,
    }
}

fn is_numeric_free(old: Option<&[i64]>, new: Option<&[i64]>) -> bool {
    match (old, new) {
        (_, None) => true,
        (Some(old), Some(new)) => old.get(1) == new.get(1) && old.first() <= new.first(),
        (None, Some(_)) => false,
    }
}

/// Digits of a second: six where nothing is written.
fn precision(modifiers: Option<&[i64]>) -> i64 {
    modifiers
        .and_then(|digits| digits.first().copied())
        .unwrap_or(6)
}

/// Whether an index on a column has to be built again although the rows stay.
fn changes_operators(old: &str, new: &str) -> bool {
    old != new
        && !matches!(
            (old, new),
            ("varchar", "text") | ("text", "varchar") | ("cidr", "inet")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, modifiers: &[i64]) -> DataType {
        let modifiers = (!modifiers.is_empty()).then(|| modifiers.to_vec());
        DataType::new(&Name::plain(name), modifiers, false)
    }

    fn change(from: (&str, &[i64]), to: (&str, &[i64])) -> TypeChange {
        type_change(&of(from.0, from.1), &of(to.0, to.1), ServerVersion::DEFAULT)
    }

    #[test]
    fn widening_is_free_and_narrowing_is_not() {
        assert_eq!(
            change(("varchar", &[50]), ("character varying", &[100])),
            TypeChange::Free
        );
        assert_eq!(change(("varchar", &[50]), ("text", &[])), TypeChange::Free);
        assert_eq!(
            change(("varchar", &[50]), ("varchar", &[20])),
            TypeChange::Rewrite
        );
        assert_eq!(
            change(("numeric", &[10, 2]), ("decimal", &[12, 2])),
            TypeChange::Free
        );
        assert_eq!(
            change(("numeric", &[10, 2]), ("numeric", &[12, 4])),
            TypeChange::Rewrite
        );
        assert_eq!(change(("int", &[]), ("bigint", &[])), TypeChange::Rewrite);
        assert_eq!(change(("int4", &[]), ("integer", &[])), TypeChange::Free);
    }

    #[test]
    fn a_time_zone_is_free_under_utc_from_12_on() {
        let (from, to) = (of("timestamp", &[3]), of("timestamptz", &[]));
        let on = |major| type_change(&from, &to, ServerVersion::new(major).unwrap());
        assert_eq!(on(11), TypeChange::Rewrite);
        assert_eq!(on(12), TypeChange::FreeUnderUtc);
        assert_eq!(
            change(("timestamp", &[3]), ("timestamptz", &[3])),
            TypeChange::Rewrite
        );
    }

    #[test]
    fn what_a_named_type_is_is_not_guessed() {
        assert_eq!(change(("status", &[]), ("text", &[])), TypeChange::Unknown);
    }
}
