//! The text format in which Prometheus reads metrics.
//!
//! In: families of samples. Out: text, each family's help and type before its samples. What must stay true: the samples
//! of a family follow each other, and no label's value can end its quotes. Source: prometheus.io, "Exposition formats",
//! text format 0.0.4.

use std::fmt::Write;

use super::Kind;

/// The media type of [`Exposition::text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics on their way to a reader.
#[derive(Debug, Default)]
pub struct Exposition {
    /// What was written so far.
    pub text: String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family: the samples that follow are its own.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::GaugeMs => "gauge",
        };
        self.begin(name, kind, help)
    }

    /// Begins a family of histograms.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.begin(name, "histogram", help)
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.name = name;
        // A help text is one line; a sentence of the metric table has no line end and no backslash.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self
    }

    /// A sample of the family begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.sample_of("", labels, value)
    }

    /// The same, of a part of a histogram: `_bucket`, `_sum`, `_count`.
    pub fn sample_of(&mut self, part: &str, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.text.push_str(self.name);
        self.text.push_str(part);
        for (index, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"", if index == 0 { '{' } else { ',' });
            for letter in value.chars() {
                match letter {
                    '\n' => self.text.push_str("\\n"),
                    '"' | '\\' => self.text.extend(['\\', letter]),
                    _ => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_help_type_and_samples() {
        let mut exposition = Exposition::default();
        exposition.family("a_total", Kind::Counter, "How many.").sample(&[], 3.0);
        exposition.family("b", Kind::GaugeMs, "Which.").sample(&[("x", "1"), ("y", "a\"b\\c\nd")], 0.5);
        exposition.histogram("c", "How long.").sample_of("_bucket", &[("le", "+Inf")], 1e18);
        let expected = "# HELP a_total How many.\n# TYPE a_total counter\na_total 3\n\
                        # HELP b Which.\n# TYPE b gauge\nb{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 0.5\n\
                        # HELP c How long.\n# TYPE c histogram\nc_bucket{le=\"+Inf\"} 1000000000000000000\n";
        assert_eq!(exposition.text, expected);
    }
}
