//! Channel `summary`: a section in the step's summary. The runner's own file, no network.

use switchyard_runner::{Failure, Summary};

use crate::channel::{Channel, Delivered, Delivery, Receipt};
use crate::markup::Markup;
use crate::plan::Ingredients;

/// The step's summary.
pub(crate) struct StepSummary {
    summary: Summary,
    markdown: String,
}

impl StepSummary {
    pub(crate) fn new(ingredients: &Ingredients<'_>) -> Result<Self, Failure> {
        let body = ingredients.body(Markup::Markdown)?;
        let markdown = if ingredients.is_built_in() {
            let title = Markup::Markdown.escape(ingredients.title);
            format!("### {} {title}\n\n{body}", ingredients.inputs.event.sign())
        } else {
            body
        };
        Ok(Self {
            summary: Summary::new(ingredients.environment),
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
            self.summary.markdown(&self.markdown)?;
            let done = "written to the step summary".to_owned();
            Ok(Delivered::Sent(Receipt {
                done,
                ..Receipt::default()
            }))
        })
    }
}
