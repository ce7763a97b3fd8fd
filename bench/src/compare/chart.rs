//! Horizontal bars as SVG, readable on a light and a dark page. Knows nothing of what they mean.

use std::fmt::Write as _;

/// The bars of one name, one for each series.
pub(super) struct Bars {
    /// Their name.
    pub(super) label: String,
    /// Drawn in the strong colour.
    pub(super) strong: bool,
    /// Their values; what is not a number has no bar.
    pub(super) values: Vec<f64>,
}

/// Widths of the whole, of the names, and of the longest bar; height of a bar, of its text, and the space between names.
const WIDTH: usize = 760;
const LEFT: usize = 210;
const LONGEST: f64 = 450.0;
const BAR: usize = 15;
const GAP: usize = 12;
/// Where the bars begin below the title, and the height of the legend.
const TOP: usize = 40;
const LEGEND: usize = 22;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#3d444d}.title{font-weight:600;font-size:15px}\
.quiet{fill:#6e7781}.other{fill:#9aa5b1}.strong{fill:#2f6fb5}.s1{fill-opacity:.55}.s2{fill-opacity:.3}\
@media(prefers-color-scheme:dark){text{fill:#d1d7e0}.quiet{fill:#9198a1}.other{fill:#6b7682}.strong{fill:#5b9be0}}";

/// Draws them. Series have a name each; with one, there is no legend.
pub(super) fn svg(title: &str, series: &[&str], bars: &[Bars]) -> String {
    let most = bars.iter().flat_map(|bars| &bars.values).copied().fold(0.0, f64::max);
    let (mut body, mut y) = (String::new(), TOP);
    if series.len() > 1 {
        legend(&mut body, series);
        y += LEGEND;
    }
    for bars in bars {
        let middle = y + bars.values.len() * BAR / 2 + 4;
        let _ = writeln!(body, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>", LEFT - 10, bars.label);
        for (number, value) in bars.values.iter().enumerate() {
            bar(&mut body, y, number, *value, most, bars.strong);
            y += BAR;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"10\" y=\"22\">{title}</text>\n{body}</svg>\n"
    )
}

fn legend(body: &mut String, series: &[&str]) {
    let mut x = LEFT;
    for (number, name) in series.iter().enumerate() {
        let _ =
            writeln!(body, "<rect class=\"other s{number}\" x=\"{x}\" y=\"36\" width=\"11\" height=\"11\" rx=\"2\"/>");
        let _ = writeln!(body, "<text class=\"quiet\" x=\"{}\" y=\"46\">{name}</text>", x + 16);
        x += 40 + 8 * name.len();
    }
}

fn bar(body: &mut String, y: usize, series: usize, value: f64, most: f64, strong: bool) {
    let class = if strong { "strong" } else { "other" };
    let width = if value.is_finite() && most > 0.0 { (value / most * LONGEST).max(1.0) } else { 0.0 };
    let (height, text_y, text_x) = (BAR - 2, y + BAR - 4, LEFT as f64 + width + 6.0);
    let text = number(value);
    let _ = writeln!(
        body,
        "<rect class=\"{class} s{series}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\"/>"
    );
    let _ = writeln!(body, "<text class=\"quiet\" x=\"{text_x:.1}\" y=\"{text_y}\">{text}</text>");
}

/// A value with three digits or so: `0.42`, `13.6`, `113`, `1,920`.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    match value {
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value if value < 1_000.0 => format!("{value:.0}"),
        value => format!("{},{:03}", value.round() as u64 / 1_000, value.round() as u64 % 1_000),
    }
}
