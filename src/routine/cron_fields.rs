//! What a cron library lets pass and nobody means: a step that leads out of its field, a range that runs backwards, an item
//! that is empty. Each is refused with a schedule that works.

/// One of the five fields.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// The names of its values, the first one of `min`.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: &MONTHS },
    // 0 and 7 are both Sunday.
    Field { name: "weekday", min: 0, max: 7, names: &WEEKDAYS },
];

/// Checks five fields for what is not meant as it is written; whatever else is wrong with them is the parser's to say.
///
/// # Errors
/// The rule that is broken, with a schedule that keeps it.
pub(super) fn check(fields: &str) -> Result<(), String> {
    let texts: Vec<&str> = fields.split_whitespace().collect();
    for (at, (field, text)) in FIELDS.iter().zip(&texts).enumerate() {
        let (sign, items) = text.strip_prefix('+').map_or(("", *text), |items| ("+", items));
        for (nth, item) in items.split(',').enumerate() {
            let Some(Fault { problem, instead }) = field.fault_of(item) else { continue };
            let mut items: Vec<&str> = items.split(',').collect();
            items[nth] = instead.as_deref().unwrap_or_default();
            items.retain(|item| !item.is_empty());
            let mut texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            texts[at] = if items.is_empty() { "*".to_owned() } else { format!("{sign}{}", items.join(",")) };
            let in_hours = hours_instead(at, item, &texts).unwrap_or_default();
            return Err(format!("its {} {problem}; write '{}'{in_hours}", field.name, texts.join(" ")));
        }
    }
    Ok(())
}

/// What is wrong with an item, and what to write instead of it, if not nothing.
struct Fault {
    problem: String,
    instead: Option<String>,
}

impl Field {
    fn fault_of(&self, item: &str) -> Option<Fault> {
        let fault = |problem, instead| Some(Fault { problem, instead });
        if item.is_empty() {
            return fault("has an empty item".to_owned(), None);
        }
        // `#2`, the second one of the month, may stand behind anything.
        let (item, nth) = item.find('#').map_or((item, ""), |at| item.split_at(at));
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (self.min, self.last()),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None => (self.value(range)?, self.value(range)?),
        };
        let Self { min, max, .. } = self;
        if let Some(beyond) = [first, last].into_iter().find(|value| !(*min..=*max).contains(value)) {
            return fault(format!("has {beyond}, and goes from {min} to {max}"), Some(min.to_string()));
        }
        if first > last {
            let (before, after) = (from_to(first, self.last()), from_to(*min, last));
            return fault(format!("range {range} runs backwards"), Some(format!("{before}{nth},{after}{nth}")));
        }
        let step: u16 = step?.parse().ok()?;
        // A step from a single value is the parser's to refuse.
        if first < last && step > last - first {
            let problem = format!("step of {step} leads beyond {last}, so that only {first} would match");
            return fault(problem, Some(format!("{first}{nth}")));
        }
        None
    }

    /// Returns the largest value that is no other one again.
    fn last(&self) -> u16 {
        if self.names.len() == WEEKDAYS.len() { 6 } else { self.max }
    }

    fn value(&self, text: &str) -> Option<u16> {
        let named = self.names.iter().zip(self.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, value)| value).or_else(|| text.parse().ok())
    }
}

fn from_to(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Returns the schedule that comes next to a step of an hour and more in the minutes, ready to be appended.
fn hours_instead(at: usize, item: &str, texts: &[String]) -> Option<String> {
    let minutes: u16 = item.strip_prefix("*/").filter(|_| at == 0 && texts[1] == "*")?.parse().ok()?;
    let hours = minutes.div_ceil(60);
    let rest = texts[2..].join(" ");
    match hours {
        2..=12 => Some(format!(", or '0 */{hours} {rest}' for every {hours} hours")),
        13.. => Some(format!(", or '0 0 {rest}' for once a day")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_meant_is_refused_with_what_works() {
        let cases = [
            ("*/90 * * * *", "'0 * * * *', or '0 */2 * * *' for every 2 hours"),
            ("*/60 * * * *", "'0 * * * *'"),
            ("*/1440 * * * *", "or '0 0 * * *' for once a day"),
            ("0 */24 * * *", "'0 0 * * *'"),
            ("0 9 */31 * *", "'0 9 1 * *'"),
            ("0 9 1 */12 *", "'0 9 1 1 *'"),
            ("0 9 1 jan-mar/3 *", "'0 9 1 1 *'"),
            ("0 9 * * */7", "'0 9 * * 0'"),
            ("0 9 * * mon-wed/5#2", "'0 9 * * 1#2'"),
            ("5,0-10/30 * * * *", "'5,0 * * * *'"),
            ("0 22-6 * * *", "'0 22-23,0-6 * * *'"),
            ("0 9 * * fri-mon", "'0 9 * * 5-6,0-1'"),
            ("0 9 * * +sat-sun", "'0 9 * * +6,0'"),
            ("0 9 * nov-FEB *", "'0 9 * 11-12,1-2 *'"),
            ("0,,30 * * * *", "'0,30 * * * *'"),
            (", * * * *", "'* * * * *'"),
            ("0-70 * * * *", "goes from 0 to 59"),
            ("0 24 * * *", "goes from 0 to 23"),
            ("0 0 0 * *", "goes from 1 to 31"),
            ("0 0 * 13 *", "goes from 1 to 12"),
            ("0 0 * * 8", "goes from 0 to 7"),
        ];
        for (fields, part) in cases {
            let error = check(fields).unwrap_err();
            assert!(error.contains(part), "{fields}: {error}");
            for written in error.split('\'').skip(1).step_by(2).filter(|text| text.split_whitespace().count() == 5) {
                assert_eq!(check(written), Ok(()), "{fields}: {error}");
            }
        }
    }

    #[test]
    fn what_means_something_passes() {
        for fields in [
            "* * * * *",
            "*/59 */23 */30 */11 */6",
            "0-59/59 0 1-31 1-12 0-7",
            "0 9 L * *",
            "0 9 LW,15W ? mon#2",
            "0 9 * * 5L",
            "0 0 29 feb +sun",
            "1,2,3-5/2 0 ? jan,Mar 7",
        ] {
            assert_eq!(check(fields), Ok(()), "{fields}");
        }
    }
}
