//! The spread of a figure: half of what was seen lies between its quartiles.

use serde::Serialize;

/// Median and quartiles.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) quartile1: f64,
    pub(crate) median: f64,
    pub(crate) quartile3: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        // Between neighbours where it falls between them.
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            low + (high - low) * place.fract()
        };
        (!values.is_empty()).then(|| Self { quartile1: at(0.25), median: at(0.5), quartile3: at(0.75) })
    }
}
