//! The report as one page.
//!
//! In: a report. Out: HTML. What must stay true: no script, no file beside it, no network; light and dark as the
//! reader's system is; whatever a server or an operator named is escaped.

use std::fmt::Write;

use super::plot::{Axis, Curve, LogScale, draw, legend, linear_ticks};
use super::{Report, bytes, duration};

/// Shared with the console, so that both are of one kind.
const PALETTE: &str = include_str!("palette.css");

const STYLE: &str = "\
body{margin:2rem auto;max-width:900px;padding:0 1rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .3rem}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem .9rem .15rem 0;text-align:left;vertical-align:top}
th{color:var(--soft);font-weight:normal}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto}svg text{fill:var(--soft);font-size:12px}.grid{stroke:var(--grid);fill:none}
.c0,.c1,.c2,.c3{fill:none;stroke-width:2}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}
.legend{margin:.2rem 0}.legend span{margin-right:1.2rem;white-space:nowrap}.legend svg{width:34px;height:10px}
.note{color:var(--warn)}p{max-width:72ch}";

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    let _ = write!(
        page,
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>Latency: {}</title>\n<style>\n{PALETTE}{STYLE}\n</style>\n</head>\n<body>\n<h1>Latency of {}</h1>\n",
        escape(fact(report, "server")),
        escape(fact(report, "server")),
    );
    for note in &report.notes {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escape(note));
    }
    page.push_str(&facts(report));
    page.push_str(&percentile_table(report));
    page.push_str(&percentile_plot(report));
    page.push_str(&time_plots(report));
    page.push_str(&totals(report));
    page + "</body>\n</html>\n"
}

fn fact<'a>(report: &'a Report, name: &str) -> &'a str {
    report.facts.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value)
}

fn facts(report: &Report) -> String {
    let mut html = String::from("<table>\n");
    for (name, value) in &report.facts {
        let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(value));
    }
    html + "</table>\n"
}

fn percentile_table(report: &Report) -> String {
    let from = if report.rate.is_some() { "the scheduled time" } else { "the sending (closed loop)" };
    let mut html = format!("<h2>Percentiles</h2>\n<p>Latency from {from} to the reply.</p>\n<table>\n<tr>");
    for percentile in &report.percentiles {
        let _ = write!(html, "<th scope=\"col\">{}</th>", percentile.name);
    }
    html.push_str("</tr>\n<tr>");
    for percentile in &report.percentiles {
        let mark = if percentile.is_valid { "" } else { " <span class=\"note\">!</span>" };
        let _ = write!(html, "<td class=\"n\">{}{mark}</td>", duration(percentile.latency_ns));
    }
    html + "</tr>\n</table>\n"
}

/// Latency over the share of requests, both logarithmic: each step to the right is a tenth of the requests before.
fn percentile_plot(report: &Report) -> String {
    let latencies = &report.latencies;
    if latencies.is_empty() {
        return String::new();
    }
    let nines = (latencies.len() as f64).log10().ceil().clamp(2.0, 7.0);
    let steps: Vec<(f64, f64)> = (0..=200)
        .map(|step| {
            let x = f64::from(step) / 200.0;
            (x, latencies.value_at_quantile(1.0 - 10f64.powf(-x * nines)).max(1) as f64)
        })
        .collect();
    let scale = LogScale::over(steps.iter().map(|(_, latency)| *latency));
    let points = steps.iter().map(|(x, latency)| (*x, scale.position(*latency))).collect();
    let curves = [Curve { name: "latency".to_owned(), points }];
    let shares = (0..=nines as i32).map(|nine| {
        let name = if nine == 0 { "0".to_owned() } else { format!("{:.*}", (nine - 2).max(0) as usize, percent(nine)) };
        (f64::from(nine) / nines, format!("{name} %"))
    });
    let x = Axis { label: "share of the requests that were at least as fast".to_owned(), ticks: shares.collect() };
    let y = Axis { label: "latency".to_owned(), ticks: scale.ticks(|ns| duration(ns as u64)) };
    format!("<h2>Latency by percentile</h2>\n{}{}", draw("latency by percentile", &x, &y, &curves), legend(&curves))
}

/// 90, 99, 99.9 …
fn percent(nines: i32) -> f64 {
    100.0 - 100.0 * 10f64.powi(-nines)
}

fn time_plots(report: &Report) -> String {
    let Some(last) = report.timeline.last() else { return String::new() };
    let (end, seconds) = linear_ticks(last.at_seconds, |seconds| {
        format!("{seconds:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
    });
    let x = Axis { label: "time (s)".to_owned(), ticks: seconds };
    let answered = report.timeline.iter().filter(|point| point.max_ns > 0);
    let scale = LogScale::over(answered.flat_map(|point| [point.p50_ns as f64, point.max_ns as f64]));
    let curve = |name: &str, of: fn(&crate::load::session::Point) -> u64| Curve {
        name: name.to_owned(),
        points: (report.timeline.iter())
            .map(|point| {
                let y = if point.max_ns > 0 { scale.position(of(point).max(1) as f64) } else { f64::NAN };
                (point.at_seconds / end, y)
            })
            .collect(),
    };
    let curves = [
        curve("p50", |point| point.p50_ns),
        curve("p99", |point| point.p99_ns),
        curve("p99.9", |point| point.p999_ns),
        curve("max", |point| point.max_ns),
    ];
    let y = Axis { label: "latency".to_owned(), ticks: scale.ticks(|ns| duration(ns as u64)) };
    let latency = draw("latency over time", &x, &y, &curves);

    let most = report.timeline.iter().map(|point| point.rate).fold(0.0, f64::max);
    let (top, rates) = linear_ticks(most / 1e3, |rate| format!("{rate:.1}"));
    let points = report.timeline.iter().map(|point| (point.at_seconds / end, point.rate / 1e3 / top)).collect();
    let throughput = [Curve { name: "replies".to_owned(), points }];
    let y = Axis { label: "thousand replies/s".to_owned(), ticks: rates };
    let rate = draw("replies per second over time", &x, &y, &throughput);
    format!(
        "<h2>Latency over time</h2>\n<p>By the time at which replies arrived; a gap is a time without replies.</p>\n\
         {latency}{}<h2>Replies over time</h2>\n{rate}{}",
        legend(&curves),
        legend(&throughput)
    )
}

fn totals(report: &Report) -> String {
    let counts = &report.counts;
    let cpu = report.server_cpu_ns.map_or_else(|| "unknown".to_owned(), |ns| format!("{:.2} µs per reply", ns / 1e3));
    let mut rows = vec![
        ("throughput", format!("{:.0} replies/s", report.throughput)),
        ("server CPU", cpu),
        ("generator", format!("busy {:.0} %", report.generator_busy * 100.0)),
        ("received", bytes(counts.bytes_received as f64)),
        ("sent", bytes(counts.bytes_sent as f64)),
        ("look-ups", format!("{} found, {} not", counts.hits, counts.misses)),
        ("errors", format!("{} refused, {} wrong", counts.errors, counts.wrong)),
    ];
    rows.extend(report.errors.iter().map(|(text, count)| ("", format!("{count} × {text}"))));
    let mut html = String::from("<h2>Totals</h2>\n<table>\n");
    for (name, value) in rows {
        let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(&value));
    }
    html + "</table>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
