//! Times, sizes and lists as people type them, in the configuration file and on the command line.

use std::str::FromStr;
use std::time::Duration;

/// `200us`, `10s`, `2m`, `1.5s`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, unit) = split_unit(text);
    let wrong = || format!("'{text}' is not a time such as 200us, 10s or 2m");
    let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// `64`, `4KiB`, `500k`: powers of two with an `i`, of ten without.
pub fn parse_size(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("k", 1_000),
        ("kB", 1_000),
        ("KiB", 1 << 10),
        ("M", 1_000_000),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("G", 1_000_000_000),
        ("GiB", 1 << 30),
    ];
    let (number, unit) = split_unit(text);
    let wrong = || format!("'{text}' is not a size such as 64, 4KiB or 500k");
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)
}

/// A count with a unit, such as `1M` requests.
pub fn parse_count(text: &str) -> Result<u64, String> {
    parse_size(text).map(|count| count as u64)
}

/// Numbers and ranges: `0`, `2-9`, `0,2,4-6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberList(pub Vec<u32>);

impl FromStr for NumberList {
    type Err = String;

    fn from_str(text: &str) -> Result<NumberList, String> {
        /// More cores or queues than this nobody has.
        const MOST: u32 = 65_536;
        let wrong = || format!("'{text}' is not a list such as 0, 2-9 or 0,2,4-6");
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) =
                (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
            if first > last || last >= MOST {
                return Err(wrong());
            }
            numbers.extend(first..=last);
        }
        Ok(NumberList(numbers))
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ns) in
            [("200us", 200_000), ("10s", 10_000_000_000), ("2m", 120_000_000_000), ("1.5ms", 1_500_000)]
        {
            assert_eq!(parse_duration(text).unwrap().as_nanos(), ns, "{text}");
        }
        for text in ["", "10", "s", "-1s", "1d", "1e400s", "s10", "10 s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("64", 64), ("4KiB", 4096), ("500k", 500_000), ("16MiB", 16 << 20)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1.5k", "1kb", "99999999999999999999", "64:64"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!("0,2,4-6".parse(), Ok(NumberList(vec![0, 2, 4, 5, 6])));
        assert_eq!("3".parse(), Ok(NumberList(vec![3])));
        for text in ["", "a", "3-1", "1,,2", "0-70000", "-1"] {
            assert!(text.parse::<NumberList>().is_err(), "{text}");
        }
    }
}
