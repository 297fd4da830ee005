//! Channel `summary`: a section in the step's summary. The runner's own file, no network.

use switchyard_runner::{Failure, Summary};

use crate::channel::{Channel, Delivered, Delivery, Receipt};
use crate::markup::Markup;
use crate::plan::Ingredients;

/// The step's summary.
pub(crate) struct StepSummary {
    /// Absent where there is no runner that shows one.
    summary: Option<Summary>,
    markdown: String,
}

impl StepSummary {
    pub(crate) fn new(ingredients: &Ingredients<'_>) -> Result<Self, Failure> {
        let environment = ingredients.environment;
        let body = ingredients.body(Markup::Markdown)?;
        let markdown = if ingredients.is_built_in() {
            let title = Markup::Markdown.escape(ingredients.title);
            format!("### {} {title}\n\n{body}", ingredients.inputs.event.sign())
        } else {
            body
        };
        Ok(Self {
            summary: environment
                .get("GITHUB_STEP_SUMMARY")
                .map(|_| Summary::new(environment)),
            markdown,
        })
    }
}

impl Channel for StepSummary {
    fn preview(&self) -> String {
        self.markdown.clone()
    }

    fn deliver(&self) -> Delivery<'_> {
        Box::pin(async {
            let Some(summary) = &self.summary else {
                return Ok(Delivered::Skipped(
                    "GITHUB_STEP_SUMMARY is not set: nobody would show it",
                ));
            };
            summary.markdown(&self.markdown)?;
            Ok(Delivered::Sent(Receipt {
                done: "written to the step summary".to_owned(),
                ..Receipt::default()
            }))
        })
    }
}
