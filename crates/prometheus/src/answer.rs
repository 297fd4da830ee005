//! The answer to a query, read strictly: what is not understood is an error, never a number.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since 1970.
    pub at: f64,
    /// The value; NaN and the infinities are as Prometheus says them.
    pub value: f64,
}

/// A series with its samples, the oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels; `__name__` only where the query left the metric's name.
    pub labels: BTreeMap<String, String>,
    /// One sample of an instant vector, several of a range; never none.
    pub samples: Vec<Sample>,
}

impl Series {
    /// The newest sample.
    #[must_use]
    pub fn last(&self) -> Option<Sample> {
        self.samples.last().copied()
    }
}

/// What a query gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number.
    Scalar(Sample),
    /// A sample of each series; none is an empty answer.
    Vector(Vec<Series>),
    /// A range of samples of each series.
    Matrix(Vec<Series>),
    /// A text.
    Text(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the query gave.
    pub value: Value,
    /// What Prometheus warns of; with any, the answer may be a part of what there is.
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Written {
    status: String,
    #[serde(default)]
    data: Option<WrittenData>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum WrittenData {
    Scalar((f64, String)),
    Vector(Vec<WrittenSeries>),
    Matrix(Vec<WrittenSeries>),
    String((f64, String)),
}

#[derive(Deserialize)]
struct WrittenSeries {
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    values: Option<Vec<(f64, String)>>,
    histogram: Option<serde_json::Value>,
    histograms: Option<serde_json::Value>,
}

/// Why a body is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Prometheus says that the query failed.
    Refused {
        /// Its `errorType`.
        kind: String,
        /// Its words.
        message: String,
    },
    /// It is not what Prometheus answers.
    Foreign(String),
}

/// Reads the body of an answer.
///
/// # Errors
/// What it is instead.
pub fn parse(body: &[u8]) -> Result<Answer, Unread> {
    let written: Written =
        serde_json::from_slice(body).map_err(|cause| Unread::Foreign(cause.to_string()))?;
    match written.status.as_str() {
        "success" => {}
        "error" => {
            return Err(Unread::Refused {
                kind: written.error_type,
                message: written.error,
            });
        }
        other => return Err(Unread::Foreign(format!("its status is `{other}`"))),
    }
    let value = match written.data {
        None => return Err(Unread::Foreign("it has no `data`".to_owned())),
        Some(WrittenData::Scalar(written)) => Value::Scalar(sample(&written)?),
        Some(WrittenData::String((_, text))) => Value::Text(text),
        Some(WrittenData::Vector(all)) => {
            Value::Vector(all.into_iter().map(of_vector).collect::<Result<_, _>>()?)
        }
        Some(WrittenData::Matrix(all)) => {
            Value::Matrix(all.into_iter().map(of_matrix).collect::<Result<_, _>>()?)
        }
    };
    Ok(Answer {
        value,
        warnings: written.warnings,
    })
}

fn of_vector(written: WrittenSeries) -> Result<Series, Unread> {
    match (written.value, written.histogram) {
        (Some(value), None) => Ok(Series {
            samples: vec![sample(&value)?],
            labels: written.metric,
        }),
        (None, Some(_)) => Err(native_histogram()),
        (None, None) | (Some(_), Some(_)) => Err(Unread::Foreign(
            "a series of its vector has not exactly one value".to_owned(),
        )),
    }
}

fn of_matrix(written: WrittenSeries) -> Result<Series, Unread> {
    if written.histograms.is_some() {
        return Err(native_histogram());
    }
    let values = written.values.unwrap_or_default();
    if values.is_empty() {
        return Err(Unread::Foreign(
            "a series of its matrix has no values".to_owned(),
        ));
    }
    Ok(Series {
        samples: values.iter().map(sample).collect::<Result<_, _>>()?,
        labels: written.metric,
    })
}

fn native_histogram() -> Unread {
    Unread::Refused {
        kind: "unsuitable".to_owned(),
        message: "the query gives native histograms, not numbers; take `histogram_quantile`, \
                  `histogram_count` or `histogram_sum` of them"
            .to_owned(),
    }
}

fn sample((at, text): &(f64, String)) -> Result<Sample, Unread> {
    let value = match text.as_str() {
        "NaN" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        // What else Rust takes for a number (`nan`, `infinity`), Prometheus never writes.
        number
            if number
                .starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) =>
        {
            number.parse().ok()
        }
        _ => None,
    };
    value
        .map(|value| Sample { at: *at, value })
        .ok_or_else(|| Unread::Foreign(format!("`{text}` is no value of a sample")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Answer, Unread> {
        parse(body.as_bytes())
    }

    fn success(data: &str) -> Value {
        let body = format!(r#"{{"status":"success","data":{data}}}"#);
        read(&body).unwrap().value
    }

    #[test]
    fn each_shape_is_read() {
        assert_eq!(
            success(r#"{"resultType":"scalar","result":[1700000000.5,"2"]}"#),
            Value::Scalar(Sample {
                at: 1_700_000_000.5,
                value: 2.0
            })
        );
        assert_eq!(
            success(r#"{"resultType":"string","result":[1,"up"]}"#),
            Value::Text("up".to_owned())
        );
        let Value::Vector(series) = success(
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1,"1e3"]}]}"#,
        ) else {
            panic!("no vector");
        };
        assert_eq!(series[0].labels["job"], "a");
        assert_eq!(series[0].last().unwrap().value, 1000.0);
        let Value::Matrix(series) = success(
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"2"]]}]}"#,
        ) else {
            panic!("no matrix");
        };
        assert_eq!(series[0].samples.len(), 2);
        assert_eq!(
            success(r#"{"resultType":"vector","result":[]}"#),
            Value::Vector(vec![])
        );
    }

    #[test]
    fn values_that_are_no_numbers_are_kept_as_such() {
        for (text, is_nan) in [("NaN", true), ("+Inf", false), ("-Inf", false)] {
            let data = format!(r#"{{"resultType":"scalar","result":[1,"{text}"]}}"#);
            let Value::Scalar(sample) = success(&data) else {
                panic!("no scalar");
            };
            assert!(!sample.value.is_finite());
            assert_eq!(sample.value.is_nan(), is_nan);
        }
    }

    #[test]
    fn warnings_are_kept() {
        let answer = read(
            r#"{"status":"success","warnings":["partial"],"data":{"resultType":"vector","result":[]}}"#,
        );
        assert_eq!(answer.unwrap().warnings, ["partial"]);
    }

    #[test]
    fn a_refusal_says_its_type_and_its_words() {
        let refused =
            read(r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error"}"#);
        assert_eq!(
            refused.unwrap_err(),
            Unread::Refused {
                kind: "bad_data".to_owned(),
                message: "1:5: parse error".to_owned()
            }
        );
    }

    #[test]
    fn everything_else_is_no_answer() {
        for body in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"{"status":"ok"}"#,
            r#"{"status":"success"}"#,
            r#"{"status":"success","data":{"resultType":"table","result":[]}}"#,
            r#"{"status":"success","data":{"resultType":"scalar","result":["1","1"]}}"#,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"many"]}}"#,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"nan"]}}"#,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,""]}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[]}]}}"#,
        ] {
            assert!(matches!(read(body), Err(Unread::Foreign(_))), "{body}");
        }
        let histogram = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}}"#;
        assert!(matches!(read(histogram), Err(Unread::Refused { .. })));
    }
}
