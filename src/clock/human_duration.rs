//! A length of time as a sentence says it.

use std::fmt;

/// A number of seconds, shown in its two largest units: `3 h 20 min`, `1 day`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(pub u64);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl HumanDuration {
    /// Rounds it down to its largest unit: `3 h`, where a second unit would say too much.
    pub fn largest_unit(self) -> Self {
        let unit = [DAY, HOUR, MINUTE].into_iter().find(|unit| self.0 >= *unit).unwrap_or(1);
        Self(self.0 / unit * unit)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0;
        let (large, rest, rest_unit) = match secs {
            ..MINUTE => return write!(f, "{secs} s"),
            MINUTE..HOUR => (format!("{} min", secs / MINUTE), secs % MINUTE, "s"),
            HOUR..DAY => (format!("{} h", secs / HOUR), secs % HOUR / MINUTE, "min"),
            DAY.. => {
                let days = secs / DAY;
                (format!("{days} {}", if days == 1 { "day" } else { "days" }), secs % DAY / HOUR, "h")
            }
        };
        f.write_str(&large)?;
        if rest == 0 { Ok(()) } else { write!(f, " {rest} {rest_unit}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_units_at_most() {
        let cases = [
            (0, "0 s", "0 s"),
            (59, "59 s", "59 s"),
            (60, "1 min", "1 min"),
            (75, "1 min 15 s", "1 min"),
            (3600, "1 h", "1 h"),
            (12_000, "3 h 20 min", "3 h"),
            (86_399, "23 h 59 min", "23 h"),
            (86_400, "1 day", "1 day"),
            (90_000, "1 day 1 h", "1 day"),
            (200_000, "2 days 7 h", "2 days"),
        ];
        for (secs, two_units, one_unit) in cases {
            assert_eq!(HumanDuration(secs).to_string(), two_units);
            assert_eq!(HumanDuration(secs).largest_unit().to_string(), one_unit);
        }
    }
}
