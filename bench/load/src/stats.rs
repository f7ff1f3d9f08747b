//! Medians and quartiles of a handful of rounds.

use serde::Serialize;

/// Five-number summary of some rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub q1: f64,
    pub median: f64,
    pub q3: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without values. Quartiles interpolate linearly between order statistics (type 7 of Hyndman
    /// and Fan, what numpy and R do unasked).
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let at = |share| quantile(&sorted, share);
        Some(Spread { min, q1: at(0.25), median: at(0.5), q3: at(0.75), max })
    }
}

/// Linear interpolation in a sorted slice that is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * share;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

/// What the rounds show about a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Faster,
    Slower,
    NoDifferenceShown,
}

/// Closer to 1 than this shows nothing: with 64 in flight the blocking and the spinning kernel server make the
/// same system calls, and came out up to 3 % apart (compare quick, 2 cores of an AMD EPYC VM, Linux 6.18).
const MARGIN: f64 = 0.03;

impl Verdict {
    /// A difference is shown when the whole middle half of the rounds lies on one side of 1, and not at it.
    pub fn of_ratios(ratios: &Spread) -> Verdict {
        if ratios.q1 > 1.0 + MARGIN {
            Verdict::Faster
        } else if ratios.q3 < 1.0 - MARGIN {
            Verdict::Slower
        } else {
            Verdict::NoDifferenceShown
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NoDifferenceShown => "no difference shown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_odd_even_and_single() {
        assert_eq!(Spread::of([]), None);
        let one = Spread::of([3.0]).unwrap();
        assert_eq!((one.min, one.q1, one.median, one.q3, one.max), (3.0, 3.0, 3.0, 3.0, 3.0));
        let nine = Spread::of((1..=9).rev().map(f64::from)).unwrap();
        assert_eq!((nine.min, nine.q1, nine.median, nine.q3, nine.max), (1.0, 3.0, 5.0, 7.0, 9.0));
        let four = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((four.q1, four.median, four.q3), (1.75, 2.5, 3.25));
    }

    #[test]
    fn a_verdict_needs_the_middle_half_on_one_side() {
        let verdict = |values: [f64; 5]| Verdict::of_ratios(&Spread::of(values).unwrap());
        assert_eq!(verdict([0.9, 1.1, 1.2, 1.3, 1.4]), Verdict::Faster);
        assert_eq!(verdict([0.5, 0.6, 0.7, 0.8, 1.3]), Verdict::Slower);
        assert_eq!(verdict([0.8, 0.9, 1.1, 1.2, 1.3]), Verdict::NoDifferenceShown);
        assert_eq!(verdict([1.0; 5]), Verdict::NoDifferenceShown);
        assert_eq!(verdict([0.99; 5]), Verdict::NoDifferenceShown);
        assert_eq!(verdict([1.02; 5]), Verdict::NoDifferenceShown);
    }
}
