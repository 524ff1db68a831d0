//! Line plots as SVG, drawn with the page's own colours.
//!
//! In: curves and axes in their own units. Out: an `<svg>` element. What must stay true: every curve is told from the
//! others by its dashes as well as by its colour, and every axis bears its unit.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// Dashes by which curves are told apart.
const DASHES: [&str; 4] = ["none", "7 3", "2 3", "9 3 2 3"];

/// One axis.
pub(super) struct Axis {
    pub(super) label: String,
    /// Position, from 0 to 1, and text.
    pub(super) ticks: Vec<(f64, String)>,
}

/// One curve: positions from 0 to 1, and what to say at each.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A logarithmic scale between two powers of ten.
pub(super) struct LogScale {
    least: f64,
    decades: f64,
}

impl LogScale {
    /// Wide enough for `values`, which are above zero.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.fold((f64::MAX, 1.0f64), |(least, most), value| (least.min(value), most.max(value)));
        let first = least.min(most).max(1.0).log10().floor();
        Self { least: 10f64.powf(first), decades: (most.log10().ceil() - first).max(1.0) }
    }

    /// Where a value lies, from 0 to 1.
    pub(super) fn position(&self, value: f64) -> f64 {
        ((value / self.least).log10() / self.decades).clamp(0.0, 1.0)
    }

    /// A tick at each power of ten.
    pub(super) fn ticks(&self, show: impl Fn(f64) -> String) -> Vec<(f64, String)> {
        let values = (0..=self.decades as i32).map(|decade| self.least * 10f64.powi(decade));
        values.map(|value| (self.position(value), show(value))).collect()
    }
}

/// A scale from zero to a round number, with about five ticks.
pub(super) fn linear_ticks(most: f64, show: impl Fn(f64) -> String) -> (f64, Vec<(f64, String)>) {
    let raw = most.max(1e-9) / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= raw).unwrap_or(raw);
    let count = (most / step).ceil().max(1.0);
    let ticks = (0..=count as u32).map(|tick| (f64::from(tick) / count, show(f64::from(tick) * step)));
    (count * step, ticks.collect())
}

/// Draws curves over two axes; `title` is what a screen reader says.
pub(super) fn draw(title: &str, x: &Axis, y: &Axis, curves: &[Curve]) -> String {
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n");
    for (at, text) in &y.ticks {
        let (_, down) = place(0.0, *at);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {down:.1}H{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 7.0,
            down + 4.0,
        );
    }
    for (at, text) in &x.ticks {
        let (across, down) = place(*at, 0.0);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{across:.1} {TOP}V{down:.1}\"/>\
             <text x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            down + 18.0,
        );
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ =
        writeln!(svg, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", HEIGHT - 6.0, x.label);
    let height = TOP + (HEIGHT - TOP - BOTTOM) / 2.0;
    let _ = writeln!(
        svg,
        "<text transform=\"translate(14 {height:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        y.label
    );
    for (number, curve) in curves.iter().enumerate() {
        let (dashes, name) = (DASHES[number % DASHES.len()], &curve.name);
        for run in curve.points.split(|(_, y)| y.is_nan()).filter(|run| !run.is_empty()) {
            // A line of one point is not seen.
            let points = run.first().into_iter().chain(run).map(|(x, y)| place(*x, *y));
            let points: Vec<String> = points.map(|(across, down)| format!("{across:.1},{down:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline class=\"c{number}\" stroke-dasharray=\"{dashes}\" points=\"{}\">\
                 <title>{name}</title></polyline>",
                points.join(" ")
            );
        }
    }
    svg + "</svg>\n"
}

/// The names of the curves beside a piece of each.
pub(super) fn legend(curves: &[Curve]) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for (number, curve) in curves.iter().enumerate() {
        let _ = write!(
            html,
            "<span><svg width=\"34\" height=\"10\" aria-hidden=\"true\">\
             <path class=\"c{number}\" stroke-dasharray=\"{}\" \
             d=\"M1 5H33\"/></svg> {}</span> ",
            DASHES[number % DASHES.len()],
            curve.name
        );
    }
    html + "</p>\n"
}

fn place(x: f64, y: f64) -> (f64, f64) {
    (LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_hold_their_values_and_have_round_ticks() {
        let scale = LogScale::over([25.0, 4300.0].into_iter());
        assert_eq!((scale.position(10.0), scale.position(10_000.0)), (0.0, 1.0));
        let texts: Vec<String> = scale.ticks(|value| value.to_string()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["10", "100", "1000", "10000"]);
        let (most, ticks) = linear_ticks(23.0, |value| value.to_string());
        assert_eq!((most, ticks.len(), ticks[1].1.as_str()), (25.0, 6, "5"));
        // Nothing was measured: still a scale.
        assert!(LogScale::over(std::iter::empty()).position(1.0).is_finite());
        assert!(linear_ticks(0.0, |value| value.to_string()).0 > 0.0);
    }
}
