//! Figures, targets, and verdicts.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// One figure.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// The maximum, if there is a target.
    target: Option<f64>,
}

/// All figures of a run.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    failures: Vec<String>,
    skipped: Vec<String>,
}

impl Report {
    /// Adds a figure for information.
    pub(crate) fn note(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.add(name.into(), value, unit, None);
    }

    /// Adds a figure that must not exceed the target.
    pub(crate) fn hold(&mut self, name: impl Into<String>, value: f64, unit: &'static str, target: f64) {
        self.add(name.into(), value, unit, Some(target));
    }

    /// Adds a failed measurement and its reason.
    pub(crate) fn fail(&mut self, what: &str, error: &std::io::Error) {
        eprintln!("{what}: {error}");
        self.failures.push(format!("{what}: {error}"));
    }

    /// Adds what cannot be measured on this machine, and why. That is no failure.
    pub(crate) fn skip(&mut self, what: &str, error: &std::io::Error) {
        eprintln!("skipped: {what}: {error}");
        self.skipped.push(format!("{what}: {error}"));
    }

    fn add(&mut self, name: String, value: f64, unit: &'static str, target: Option<f64>) {
        let figure = Figure { name, value, unit, target };
        // Printed at once, because a run takes minutes.
        eprintln!("{}", figure.line());
        self.figures.push(figure);
    }

    #[allow(clippy::print_stdout, reason = "the figures are what stdout is for")]
    /// Prints the table, writes the JSON if requested, and returns whether every target is met.
    pub(crate) fn finish(&self, json: Option<&Path>) -> ExitCode {
        println!("\n{:<58} {:>12} {:>10}  verdict", "figure", "measured", "at most");
        self.figures.iter().for_each(|figure| println!("{}", figure.line()));
        self.failures.iter().for_each(|failure| println!("not measured: {failure}"));
        self.skipped.iter().for_each(|skipped| println!("skipped: {skipped}"));
        if let Some(path) = json
            && let Err(error) = std::fs::write(path, self.json())
        {
            eprintln!("{}: {error}", path.display());
        }
        let good = self.failures.is_empty() && self.figures.iter().all(Figure::is_met);
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn json(&self) -> String {
        let mut text = String::from("[\n");
        for (place, figure) in self.figures.iter().enumerate() {
            let comma = if place + 1 < self.figures.len() { "," } else { "" };
            let target = figure.target.map_or_else(|| "null".to_owned(), |target| target.to_string());
            let Figure { name, value, unit, .. } = figure;
            let value = if value.is_finite() { value.to_string() } else { "null".to_owned() };
            let _ = writeln!(
                text,
                "  {{\"figure\":\"{name}\",\"value\":{value},\"unit\":\"{unit}\",\"at_most\":{target},\"met\":{}}}{comma}",
                figure.is_met()
            );
        }
        text + "]\n"
    }
}

impl Figure {
    fn is_met(&self) -> bool {
        self.target.is_none_or(|target| self.value <= target)
    }

    fn line(&self) -> String {
        let measured = format!("{:.3} {}", self.value, self.unit);
        let target = self.target.map(|target| target.to_string()).unwrap_or_default();
        let verdict = match (self.target, self.is_met()) {
            (None, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        format!("{:<58} {measured:>12} {target:>10}  {verdict}", self.name)
    }
}

/// The middle value; the lower middle if the number is even.
pub(crate) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The smallest value that at least this share of the values does not exceed.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
