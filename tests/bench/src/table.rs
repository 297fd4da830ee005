//! The figures as a table: what was measured, ours, the peer's, the ratio, the goal, whether it is met.

use std::fmt;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// Our figure, with its unit.
    pub(crate) ours: String,
    /// The peer's figure, with the peer's name.
    pub(crate) peer: String,
    /// What the goal speaks of: a ratio, a count, a size.
    pub(crate) measured: f64,
    /// The most it may be.
    pub(crate) goal: f64,
    /// Unit of `measured` and `goal`; empty for a ratio.
    pub(crate) unit: &'static str,
}

impl Figure {
    /// Whether the goal is met.
    pub(crate) fn is_met(&self) -> bool {
        self.measured <= self.goal
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Table(pub(crate) Vec<Figure>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measured | ours | peer | result | goal | met |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
        for figure in &self.0 {
            let Figure {
                what,
                ours,
                peer,
                measured,
                goal,
                unit,
            } = figure;
            let unit = if unit.is_empty() {
                String::new()
            } else {
                format!(" {unit}")
            };
            let met = if figure.is_met() { "yes" } else { "**no**" };
            let digits = if unit.is_empty() { 3 } else { 1 };
            writeln!(
                f,
                "| {what} | {ours} | {peer} | {measured:.digits$}{unit} | ≤ {goal:.digits$}{unit} | {met} |"
            )?;
        }
        Ok(())
    }
}
