//! `corering bench`: from a plan to a written report.
//!
//! In: a plan. Out: its report, and on the way what a person at a terminal wants to see. What must stay true: the
//! server that is started for a run ends with it.

use super::embedded::Embedded;
use super::plan::Plan;
use super::session::{Point, measure};
use super::slo::{self, Step};
use super::{LoadError, Report};

/// Something to show while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A second of load has passed.
    Second(&'a Point),
    /// A rate was tried.
    Step(&'a Step),
    /// The measuring is over.
    Done,
}

/// Runs a plan and writes the files that it asks for.
///
/// # Errors
/// The server, the host or a file.
pub fn run(plan: &Plan, mut tell: impl FnMut(Event<'_>)) -> Result<Report, LoadError> {
    let embedded = if plan.target.is_none() { Some(Embedded::start(plan)?) } else { None };
    let (target, meter) = match (&embedded, &plan.target) {
        (Some(embedded), _) => (embedded.target.clone(), Some(embedded.meter.clone())),
        (None, Some(target)) => (target.clone(), None),
        (None, None) => unreachable!("a server is started when there is no target"),
    };
    let report = match plan.find_slo {
        None => {
            let outcome = measure(plan, &target, meter, |second| tell(Event::Second(second)))?;
            tell(Event::Done);
            Report::new(plan, &target, outcome)
        }
        Some(objective) => slo::find(plan, objective, &target, meter.as_ref(), |step| tell(Event::Step(step)))?,
    };
    report.write(&plan.files)?;
    Ok(report)
}
