//! How long values are.
//!
//! In: `64`, `100-2000`, `trace`, or a file with a published distribution (CacheLib's `valSizeRange` and
//! `valSizeRangeProbability`). Out: the length of each key's value. What must stay true: a key's value always has the
//! same length, so that every reply can be checked.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::config::value::parse_bytes;

/// Longest value.
pub const VALUE_BYTES_MAX: u32 = 512 << 20;

/// How long values are.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(u32),
    /// Between two lengths, both included, each as likely.
    Range(u32, u32),
    /// As measured elsewhere.
    Measured(Arc<Distribution>),
    /// As the trace says.
    Trace,
}

/// Ranges of lengths with their shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Largest length of each range; the smallest is one more than the range before.
    ends: Vec<u32>,
    /// Sum of the shares up to and including each range.
    shares: Vec<f64>,
}

/// The file's own words.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "valSizeRange")]
    ends: Vec<f64>,
    #[serde(rename = "valSizeRangeProbability")]
    shares: Vec<f64>,
}

impl Sizes {
    /// Reads the option.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = |text: &str| match parse_bytes(text) {
            Ok(bytes) if bytes <= u64::from(VALUE_BYTES_MAX) => Ok(bytes as u32),
            _ => Err("is no length; write bytes, 16kb, or a range such as 10-500, up to 512mb, or a file".to_owned()),
        };
        if text == "trace" {
            return Ok(Sizes::Trace);
        }
        if Path::new(text).is_file() {
            return Distribution::load(Path::new(text)).map(|measured| Sizes::Measured(Arc::new(measured)));
        }
        match text.split_once('-') {
            None => bytes(text).map(Sizes::Fixed),
            Some((least, most)) => match (bytes(least)?, bytes(most)?) {
                (least, most) if least <= most => Ok(Sizes::Range(least, most)),
                _ => Err("is a range from more to less".to_owned()),
            },
        }
    }

    /// No value is longer. A trace knows its own.
    pub fn longest(&self) -> u32 {
        match self {
            Sizes::Fixed(bytes) | Sizes::Range(_, bytes) => *bytes,
            Sizes::Measured(distribution) => distribution.ends.last().copied().unwrap_or(0),
            Sizes::Trace => 0,
        }
    }

    /// The length for a key, from 64 random bits that belong to it. A trace knows its own.
    pub fn pick(&self, random: u64) -> u32 {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::Range(least, most) => least + (random % (u64::from(most - least) + 1)) as u32,
            Sizes::Measured(distribution) => distribution.pick(random),
            Sizes::Trace => 0,
        }
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sizes::Fixed(bytes) => write!(f, "{bytes}"),
            Sizes::Range(least, most) => write!(f, "{least}-{most}"),
            Sizes::Measured(distribution) => write!(f, "distribution of {} ranges", distribution.ends.len()),
            Sizes::Trace => f.write_str("trace"),
        }
    }
}

impl Distribution {
    fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
        let file: File = serde_json::from_str(&text).map_err(|error| {
            format!("is no distribution of sizes (an object with valSizeRange and valSizeRangeProbability): {error}")
        })?;
        // Lengths are whole: 0.2 and 0.7 would be the same one twice.
        let is_ascending = file.ends.is_sorted_by(|a, b| a.trunc() < b.trunc());
        let is_bounded = file.ends.iter().all(|end| (0.0..=f64::from(VALUE_BYTES_MAX)).contains(end));
        let are_shares = file.shares.iter().all(|share| *share >= 0.0) && file.shares.iter().sum::<f64>() > 0.0;
        if file.ends.len() != file.shares.len() || !is_ascending || !is_bounded || !are_shares {
            return Err("is no distribution of sizes: it needs as many shares as ascending lengths".to_owned());
        }
        let mut sum = 0.0;
        let shares = file.shares.iter().map(|share| {
            sum += share;
            sum
        });
        Ok(Self { shares: shares.collect(), ends: file.ends.iter().map(|end| *end as u32).collect() })
    }

    /// The range by the upper half of the bits, the place in it by the lower.
    fn pick(&self, random: u64) -> u32 {
        let total = *self.shares.last().expect("checked when loaded");
        let wanted = (random >> 32) as f64 / (1u64 << 32) as f64 * total;
        let range = self.shares.partition_point(|sum| *sum <= wanted).min(self.ends.len() - 1);
        let least = range.checked_sub(1).map_or(0, |before| self.ends[before] + 1);
        least + (random & 0xffff_ffff) as u32 % (self.ends[range] - least + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_ranges_are_read() {
        assert_eq!(Sizes::parse("64"), Ok(Sizes::Fixed(64)));
        assert_eq!(Sizes::parse("16kb"), Ok(Sizes::Fixed(16384)));
        assert_eq!(Sizes::parse("10-500"), Ok(Sizes::Range(10, 500)));
        for bad in ["", "x", "5-1", "-3", "1gb", "1-2-3", "/nowhere/at/all"] {
            assert!(Sizes::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_is_covered_to_its_ends() {
        let lengths: std::collections::BTreeSet<u32> = (0..100).map(|n| Sizes::Range(3, 7).pick(n)).collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_distribution_gives_its_shares() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"valSizeRange":[9,99,999],"valSizeRangeProbability":[5,0,15]}"#).unwrap();
        let sizes = Sizes::parse(file.path().to_str().unwrap()).unwrap();
        let mut counts = [0; 3];
        for n in 0..10_000u64 {
            let length = sizes.pick(super::super::items::mix(n));
            counts[match length {
                0..=9 => 0,
                10..=99 => 1,
                _ => 2,
            }] += 1;
            assert!(length <= 999);
        }
        assert!((2300..2700).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fractions = r#"{"valSizeRange":[0.2,0.7],"valSizeRangeProbability":[1,1]}"#;
        let shares = r#"{"valSizeRange":[9],"valSizeRangeProbability":[]}"#;
        for text in ["", "[]", shares, fractions, r#"{"popularity":[1]}"#] {
            std::fs::write(file.path(), text).unwrap();
            assert!(Sizes::parse(file.path().to_str().unwrap()).unwrap_err().starts_with("is no distribution"));
        }
    }
}
