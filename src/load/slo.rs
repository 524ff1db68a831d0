//! The highest rate at which an objective holds.
//!
//! In: a plan with an objective. Out: the steps that were tried, and the report of the best one. What must stay true: a
//! step holds only when its percentile is the server's own, almost all of the rate was answered and every reply was
//! right; a step that fails is tried once more before it is believed, since hosts have hiccups.

use super::LoadError;
use super::cpu::Meter;
use super::plan::{Objective, Plan, Rate, Target};
use super::report::{Report, duration};
use super::session::measure;

/// The search ends when the highest rate that holds and the lowest that does not are this close.
const PRECISION: f64 = 0.05;

/// Lowest rate that is tried.
const RATE_MIN: f64 = 100.0;

/// So much of what arrived must be answered; replies that cross the ends of a short window differ by a little.
const ANSWERED_MIN: f64 = 0.95;

/// One rate that was tried.
#[derive(Clone, Debug)]
pub struct Step {
    /// Requests a second.
    pub rate: f64,
    /// The percentile, nanoseconds.
    pub latency_ns: u64,
    /// What is against it; `None` when the objective holds.
    pub failure: Option<String>,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = self.failure.as_deref().unwrap_or("holds");
        write!(f, "{:>9.0} requests/s  {:>8}  {verdict}", self.rate, duration(self.latency_ns))
    }
}

/// Searches; `tell` hears of each step.
///
/// # Errors
/// The server fails, or no rate keeps the objective.
pub fn find(
    plan: &Plan,
    objective: Objective,
    target: &Target,
    meter: Option<&Meter>,
    mut tell: impl FnMut(&Step),
) -> Result<Report, LoadError> {
    let mut plan = Plan { find_slo: None, ..plan.clone() };
    let mut run = |rate: Rate| -> Result<Report, LoadError> {
        plan.rate = rate;
        let outcome = measure(&plan, target, meter.cloned(), |_| ())?;
        plan.populate = false;
        Ok(Report::new(&plan, target, outcome))
    };
    let highest = run(Rate::Max)?.throughput;
    let (mut holds, mut fails) = (0.0, highest * 1.1);
    let (mut best, mut failure) = (None, String::new());
    let mut rate = highest / 2.0;
    while fails - holds > PRECISION * fails && rate >= RATE_MIN {
        let mut report = run(Rate::PerSecond(rate))?;
        let mut step = judge(&report, rate, objective);
        if step.failure.is_some() {
            report = run(Rate::PerSecond(rate))?;
            step = judge(&report, rate, objective);
        }
        tell(&step);
        match step.failure {
            None => (holds, best) = (rate, Some(report)),
            Some(why) => (fails, failure) = (rate, why),
        }
        rate = f64::midpoint(holds, fails);
    }
    best.ok_or_else(|| {
        let (percentile, limit) = (objective.quantile * 100.0, objective.limit);
        LoadError::Unmet(format!(
            "p{percentile} stays below {limit:?} at no rate: even at {fails:.0} requests/s {failure}"
        ))
    })
}

fn judge(report: &Report, rate: f64, objective: Objective) -> Step {
    let at = report.quantile(objective.quantile);
    let limit_ns = objective.limit.as_nanos() as u64;
    let failure = if !report.is_clean() {
        Some(format!("{} errors, {} wrong replies", report.counts.errors, report.counts.wrong))
    } else if !at.is_valid {
        Some(format!("the generator was late by {}", duration(at.lateness_ns)))
    } else if at.latency_ns > limit_ns {
        Some(format!("it is {}", duration(at.latency_ns)))
    } else if report.throughput < ANSWERED_MIN * report.offered {
        Some(format!("only {:.0}/s answered", report.throughput))
    } else {
        None
    };
    Step { rate, latency_ns: at.latency_ns, failure }
}
