//! Findings for people and for programs.
//!
//! In: findings. Out: text with what costs first, or one JSON object. What must stay true: both say the same.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Basis, Finding, Look};

/// What costs first, each with its reason and its remedy; then a line for each of the others.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Look::Costs { what, fix } = &finding.look else { continue };
        let check = finding.check;
        let mark = if finding.is_accepted { "accepted" } else { "COSTS" };
        let basis = match check.basis {
            Basis::Verified => "seen",
            Basis::Inferred => "inferred",
        };
        let _ = write!(
            text,
            "{mark:<9} {}: {what}\n{:9} why: {}\n{:9} fix: {fix}\n{:9} {basis}\n",
            check.name, "", check.why, "", ""
        );
    }
    for finding in findings {
        let (mark, seen) = match &finding.look {
            Look::Costs { .. } => continue,
            Look::Good(what) => ("good", what.as_str()),
            Look::Unknown(why) => ("unknown", *why),
        };
        let _ = writeln!(text, "{mark:<9} {}: {seen}", finding.check.name);
    }
    let count = findings.iter().filter(|finding| finding.costs()).count();
    let _ = match count {
        0 => writeln!(text, "Nothing found that costs latency."),
        1 => writeln!(text, "One thing costs latency."),
        count => writeln!(text, "{count} things cost latency."),
    };
    text
}

/// The same as one JSON object.
pub fn json(findings: &[Finding]) -> Value {
    let row = |finding: &Finding| {
        let (state, what, fix) = match &finding.look {
            Look::Good(what) => ("good", what.as_str(), None),
            Look::Costs { what, fix } => ("costs", what.as_str(), Some(fix)),
            Look::Unknown(why) => ("unknown", *why, None),
        };
        let is_verified = finding.check.basis == Basis::Verified;
        json!({
            "check": finding.check.name, "state": state, "what": what, "why": finding.check.why, "fix": fix,
            "verified": is_verified, "accepted": finding.is_accepted,
        })
    };
    let costs = findings.iter().filter(|finding| finding.costs()).count();
    json!({"costs": costs, "findings": findings.iter().map(row).collect::<Vec<_>>()})
}
