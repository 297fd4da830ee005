//! Templates: the built-in ones and the user's own, rendered in a channel's markup. What a template's
//! author writes is taken as written; what comes from a fact is escaped.

use minijinja::value::Value;
use minijinja::{Environment, Error, UndefinedBehavior};

use crate::event::Event;
use crate::facts::Facts;
use crate::markup::Markup;

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    /// It names a variable that there is not.
    #[error("input `{input}` uses the unknown variable `{variable}`")]
    UnknownVariable {
        input: &'static str,
        variable: String,
        suggestion: Option<String>,
    },
    /// It does not parse, or rendering it failed.
    #[error("input `{input}` cannot be rendered{}", line.map(|line| format!(" (line {line})")).unwrap_or_default())]
    Render {
        input: &'static str,
        line: Option<usize>,
        source: Error,
    },
}

impl TemplateError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::UnknownVariable { suggestion: Some(name), .. } => format!("did you mean `{name}`?"),
            Self::UnknownVariable { suggestion: None, .. } => {
                format!("variables are: {}", variable_names().join(", "))
            }
            Self::Render { .. } => "templates are written as for Jinja2; functions are `table()`, `link(url, text)`, `bold(text)`, `code(text)` and `block(text)`".to_owned(),
        }
    }
}

/// A text to render, and the input it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template<'a> {
    pub(crate) input: &'static str,
    pub(crate) text: &'a str,
}

/// Renders a template with the facts of an event in a markup.
pub(crate) fn render(
    template: Template<'_>,
    event: Event,
    facts: &Facts,
    markup: Markup,
    title: &str,
) -> Result<String, TemplateError> {
    let environment = environment(event, facts, markup);
    let failed = |source: Error| TemplateError::Render {
        input: template.input,
        line: source.line(),
        source,
    };
    let parsed = environment
        .template_from_named_str(template.input, template.text)
        .map_err(failed)?;
    check_variables(&parsed, &environment, template.input)?;
    let mut variables = facts.variables(event);
    variables.insert("title", Value::from(title));
    let rendered = parsed.render(variables).map_err(failed)?;
    Ok(rendered.trim().to_owned())
}

/// Refuses a variable that no notice has, before anything is rendered, so that it is named even where
/// a condition hides it this time.
fn check_variables(
    template: &minijinja::Template<'_, '_>,
    environment: &Environment<'_>,
    input: &'static str,
) -> Result<(), TemplateError> {
    let globals: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
    let known = variable_names();
    let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    unknown.retain(|name| !known.contains(&name.as_str()) && !globals.contains(&name.as_str()));
    unknown.sort();
    let Some(variable) = unknown.into_iter().next() else {
        return Ok(());
    };
    let suggestion =
        switchyard_runner::inputs::closest(&variable, known.into_iter()).map(str::to_owned);
    Err(TemplateError::UnknownVariable {
        input,
        variable,
        suggestion,
    })
}

fn variable_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Facts::default()
        .variables(Event::Started)
        .into_keys()
        .collect();
    names.push("title");
    names
}

fn environment(event: Event, facts: &Facts, markup: Markup) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(move |out, state, value| {
        if value.is_undefined() {
            // The default formatter knows how to say which value is missing.
            return minijinja::escape_formatter(out, state, value);
        }
        let text = value.to_string();
        let text = if value.is_safe() {
            text
        } else {
            markup.escape(&text)
        };
        out.write_str(&text).map_err(Error::from)
    });
    let rows = facts.rows(event);
    let safe = Value::from_safe_string;
    environment.add_function("table", move || safe(markup.table(&rows)));
    environment.add_function("link", move |url: String, text: String| {
        safe(markup.link(&url, &text))
    });
    environment.add_function("bold", move |text: String| safe(markup.bold(&text)));
    environment.add_function("code", move |text: String| safe(markup.code(&text)));
    environment.add_function("block", move |text: String| safe(markup.block(&text)));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            application: Some("shop".to_owned()),
            error: Some("<!channel> @ops".to_owned()),
            ..Facts::default()
        }
    }

    fn rendered(text: &str, markup: Markup) -> Result<String, TemplateError> {
        let template = Template {
            input: "template",
            text,
        };
        render(
            template,
            Event::Failure,
            &facts(),
            markup,
            "Deployment of shop failed",
        )
    }

    #[test]
    fn the_authors_words_are_kept_and_facts_are_escaped() {
        let text = "<!here> {{ application }}: {{ error }}{% if url %} at {{ url }}{% endif %}";
        assert_eq!(
            rendered(text, Markup::Slack).unwrap(),
            "<!here> shop: &lt;!channel&gt; @ops"
        );
        assert_eq!(
            rendered(text, Markup::Markdown).unwrap(),
            "<!here> shop: &lt;\\!channel&gt; @\u{200b}ops"
        );
    }

    #[test]
    fn functions_mark_up_for_the_channel() {
        let text = "{{ bold(application) }} {{ link('https://a.test', 'run') }} {{ code(error) }}";
        assert_eq!(
            rendered(text, Markup::Slack).unwrap(),
            "*shop* <https://a.test|run> `&lt;!channel&gt; @ops`"
        );
        assert_eq!(
            rendered(text, Markup::Plain).unwrap(),
            "shop run (https://a.test) <!channel> @ops"
        );
    }

    #[test]
    fn an_unknown_variable_is_named_even_where_a_condition_hides_it() {
        let error = rendered("{% if url %}{{ enviroment }}{% endif %}", Markup::Plain).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input `template` uses the unknown variable `enviroment`"
        );
        assert_eq!(error.hint(), "did you mean `environment`?");
    }

    #[test]
    fn a_syntax_error_is_told_with_its_line() {
        let error = rendered("fine\n{{ application", Markup::Plain).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input `template` cannot be rendered (line 2)"
        );
        let error = rendered("{{ application.name }}", Markup::Plain).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
