//! From a query to one number or to series: what is nothing, what is an error. It refuses to judge numbers.

use std::time::Duration;

use switchyard_prometheus::{Answer, Prometheus, Sample, Series, Value, is_plain_selector};

/// Why there is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing is there.
    NoData(String),
    /// The question failed.
    Error(String),
}

/// Asks, and refuses what is too old.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) prometheus: Prometheus,
    pub(crate) max_age: Duration,
}

impl Asker {
    /// The one number that a query gives.
    pub(crate) async fn number(&self, query: &str) -> Result<f64, Trouble> {
        let answer = self.answer(query).await?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of our time are exact"
        )]
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
        number(answer, now, self.max_age)
    }

    /// All series that a query gives, with their newest sample; none is no error.
    pub(crate) async fn series(&self, query: &str) -> Result<Vec<Series>, Trouble> {
        series(self.answer(query).await?)
    }

    /// An instant vector carries the time of the question, not of the sample, and reaches five minutes back. The samples
    /// of a plain selector are therefore asked for as they were scraped, no further back than their age may be.
    async fn answer(&self, query: &str) -> Result<Answer, Trouble> {
        let asked = if is_plain_selector(query) {
            format!("{}[{}ms]", query.trim(), self.max_age.as_millis())
        } else {
            query.to_owned()
        };
        let answer = self.prometheus.query(&asked).await;
        answer.map_err(|error| Trouble::Error(chain(&error)))
    }
}

fn series(answer: Answer) -> Result<Vec<Series>, Trouble> {
    if !answer.warnings.is_empty() {
        let text = format!("the answer may be a part: {}", answer.warnings.join("; "));
        return Err(Trouble::Error(text));
    }
    match answer.value {
        Value::Vector(series) | Value::Matrix(series) => Ok(series),
        Value::Scalar(sample) => Ok(vec![Series {
            labels: std::collections::BTreeMap::new(),
            samples: vec![sample],
        }]),
        Value::Text(_) => Err(Trouble::Error(
            "the query gives a text, no number".to_owned(),
        )),
    }
}

fn number(answer: Answer, now: f64, max_age: Duration) -> Result<f64, Trouble> {
    let series = series(answer)?;
    let sample = match &series[..] {
        [] => return Err(Trouble::NoData("the query gives nothing".to_owned())),
        [one] => one.last(),
        several => {
            let text = format!(
                "the query gives {} series, not one; take `sum(…)` or `max(…)` of them",
                several.len()
            );
            return Err(Trouble::Error(text));
        }
    };
    let Some(Sample { at, value }) = sample else {
        return Err(Trouble::NoData("its series has no sample".to_owned()));
    };
    if now - at > max_age.as_secs_f64() {
        let text = format!("its last sample is {:.0} s old", now - at);
        return Err(Trouble::NoData(text));
    }
    if !value.is_finite() {
        return Err(Trouble::NoData(format!("the query gives {value}")));
    }
    Ok(value)
}

/// An error and its causes on one line.
fn chain(error: &switchyard_prometheus::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    format!("{text} ({})", error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: &str) -> Answer {
        let body = format!(r#"{{"status":"success","data":{result}}}"#);
        switchyard_prometheus::parse(body.as_bytes()).unwrap()
    }

    fn read(result: &str) -> Result<f64, Trouble> {
        number(answer(result), 1000.0, Duration::from_secs(60))
    }

    #[test]
    fn one_number_is_a_number() {
        let vector = r#"{"resultType":"vector","result":[{"metric":{},"value":[999,"0.5"]}]}"#;
        assert_eq!(read(vector), Ok(0.5));
        let matrix =
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[900,"1"],[990,"2"]]}]}"#;
        assert_eq!(read(matrix), Ok(2.0));
        assert_eq!(
            read(r#"{"resultType":"scalar","result":[1000,"3"]}"#),
            Ok(3.0)
        );
    }

    #[test]
    fn nothing_no_number_and_what_is_old_are_no_data() {
        for (result, part) in [
            (r#"{"resultType":"vector","result":[]}"#, "gives nothing"),
            (
                r#"{"resultType":"vector","result":[{"metric":{},"value":[999,"NaN"]}]}"#,
                "gives NaN",
            ),
            (
                r#"{"resultType":"scalar","result":[999,"+Inf"]}"#,
                "gives inf",
            ),
            (
                r#"{"resultType":"matrix","result":[{"metric":{},"values":[[900,"1"]]}]}"#,
                "100 s old",
            ),
        ] {
            match read(result) {
                Err(Trouble::NoData(why)) => assert!(why.contains(part), "{why}"),
                other => panic!("{result}: {other:?}"),
            }
        }
    }

    #[test]
    fn several_series_texts_and_parts_are_errors() {
        let two = r#"{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[999,"1"]},{"metric":{"a":"2"},"value":[999,"1"]}]}"#;
        match read(two) {
            Err(Trouble::Error(why)) => assert!(why.contains("2 series"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            read(r#"{"resultType":"string","result":[999,"1"]}"#),
            Err(Trouble::Error(_))
        ));
        let mut partial = answer(r#"{"resultType":"scalar","result":[999,"1"]}"#);
        partial.warnings.push("a store is away".to_owned());
        assert!(matches!(series(partial), Err(Trouble::Error(_))));
    }
}
