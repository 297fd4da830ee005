//! The Prometheus text format, as far as counters and gauges need it.
//! Refuses to know what any metric means.

use std::collections::BTreeMap;

/// One sample of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// The samples of the metric called `name`; lines that cannot be read are left out.
pub fn samples<'text>(text: &'text str, name: &'text str) -> impl Iterator<Item = Sample> + 'text {
    text.lines().filter_map(move |line| sample(line, name))
}

fn sample(line: &str, name: &str) -> Option<Sample> {
    let rest = line.strip_prefix(name)?;
    let (labels, value) = if rest.starts_with('{') {
        let (labels, end) = read_labels(rest)?;
        (labels, rest.get(end..)?)
    } else if rest.starts_with(' ') || rest.starts_with('\t') {
        (BTreeMap::new(), rest)
    } else {
        // Another metric whose name begins the same way.
        return None;
    };
    let value = value.split_whitespace().next()?.parse().ok()?;
    Some(Sample { labels, value })
}

/// Reads `{key="value",…}` with its escapes; returns the labels and where they end.
fn read_labels(text: &str) -> Option<(BTreeMap<String, String>, usize)> {
    let mut labels = BTreeMap::new();
    let (mut key, mut value) = (String::new(), String::new());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, character) in text.char_indices().skip(1) {
        match (is_quoted, is_escaped, character) {
            (true, true, 'n') => value.push('\n'),
            (true, true, other) => value.push(other),
            (true, false, '\\') => {
                is_escaped = true;
                continue;
            }
            (true, false, '"') => {
                is_quoted = false;
                labels.insert(std::mem::take(&mut key), std::mem::take(&mut value));
            }
            (true, false, other) => value.push(other),
            (false, _, '"') => is_quoted = true,
            (false, _, '}') => return Some((labels, index + 1)),
            (false, _, '=' | ',' | ' ') => {}
            (false, _, other) => key.push(other),
        }
        is_escaped = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_exact_name_with_their_labels() {
        let text = "# HELP a_total x\na_total{service=\"x@y\",code=\"200\"} 12\na_total_other 3\na_total 4 1700000000\n";
        let found: Vec<_> = samples(text, "a_total").collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].labels["service"], "x@y");
        assert!((found[0].value - 12.0).abs() < f64::EPSILON);
        assert!((found[1].value - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn braces_and_quotes_inside_a_label_end_nothing() {
        let text = r#"m{path="/a}\"b\\",x="1"} 2"#;
        let found: Vec<_> = samples(text, "m").collect();
        assert_eq!(found[0].labels["path"], r#"/a}"b\"#);
        assert_eq!(found[0].labels["x"], "1");
    }
}
