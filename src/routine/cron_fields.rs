//! What a cron library lets pass and nobody means, or refuses without a way out: a step that is larger than its range, a range
//! that runs backwards, a value outside its field. Each is named with a schedule that works.

struct Field {
    name: &'static str,
    min: u64,
    max: u64,
    /// The largest value that is no other one again.
    last: u64,
    /// The names of its values, the first one of `min`.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, last: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, last: 23, names: &[] },
    Field { name: "day", min: 1, max: 31, last: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, last: 12, names: &MONTHS },
    // 0 and 7 are both Sunday.
    Field { name: "weekday", min: 0, max: 7, last: 6, names: &WEEKDAYS },
];

/// A schedule that works whatever was meant.
const EXAMPLE: &str = "0 9 * * 1-5";

/// Checks five fields for what is not meant as it is written; the parser reports what else is wrong with them. `works` says
/// whether a schedule would fire.
///
/// # Errors
/// The rule that is broken, with a schedule that keeps it.
pub(super) fn check(fields: &str, works: impl Fn(&str) -> bool) -> Result<(), String> {
    let texts: Vec<String> = fields.split_whitespace().map(str::to_owned).collect();
    let Some((at, first)) = first_fault(&texts) else { return Ok(()) };
    let name = FIELDS[at].name;
    let mut repaired = texts.clone();
    // Each repair leaves one fault less.
    while let Some((at, fault)) = first_fault(&repaired) {
        repaired[at] = fault.instead;
    }
    let instead = repaired.join(" ");
    let instead = if works(&instead) { &instead } else { EXAMPLE };
    let in_hours = hours_instead(&texts, &repaired).filter(|(schedule, _)| works(schedule));
    let in_hours = in_hours.map_or_else(String::new, |(schedule, rhythm)| format!(", or '{schedule}' for {rhythm}"));
    Err(format!("its {name} {}; write '{instead}'{in_hours}", first.problem))
}

/// What is wrong with a field, and what to write instead of it.
struct Fault {
    problem: String,
    instead: String,
}

fn first_fault(texts: &[String]) -> Option<(usize, Fault)> {
    let fault = |(field, text): (&Field, &String)| field.fault(text);
    FIELDS.iter().zip(texts).map(fault).enumerate().find_map(|(at, fault)| Some((at, fault?)))
}

impl Field {
    fn fault(&self, text: &str) -> Option<Fault> {
        let (sign, items) = text.strip_prefix('+').map_or(("", text), |items| ("+", items));
        let mut items: Vec<&str> = items.split(',').collect();
        let (nth, (problem, instead)) =
            items.iter().enumerate().find_map(|(nth, item)| Some((nth, self.fault_of_item(item)?)))?;
        items[nth] = &instead;
        items.retain(|item| !item.is_empty());
        let instead = if items.is_empty() { "*".to_owned() } else { format!("{sign}{}", items.join(",")) };
        Some(Fault { problem, instead })
    }

    /// Returns what is wrong with an item, and what to write instead of it, which may be nothing.
    fn fault_of_item(&self, item: &str) -> Option<(String, String)> {
        let Self { min, max, .. } = *self;
        if item.is_empty() {
            return Some(("has an empty item".to_owned(), String::new()));
        }
        if self.is_weekday() && item.eq_ignore_ascii_case("l") {
            return Some(("is L, which is the last one of a weekday such as 5L".to_owned(), "5L".to_owned()));
        }
        // `#2`, the second one of the month, may stand behind anything.
        let (item, nth) = item.find('#').map_or((item, ""), |at| item.split_at(at));
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let (first, last, is_range) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (min, self.last, true),
            Some((first, last)) => (self.value(first)?, self.end(last)?, true),
            None => (self.value(range)?, self.value(range)?, false),
        };
        if let Some(beyond) = [first, last].into_iter().find(|value| !(min..=max).contains(value)) {
            return Some((format!("is {beyond}, but must be {min} to {max}"), format!("{min}{nth}")));
        }
        let step: Option<u64> = match step {
            Some(step) => Some(step.parse().ok().filter(|step| *step > 0)?),
            None => None,
        };
        if first > last {
            let around = (first..=self.last).chain(min..=last);
            let instead = match step.unwrap_or(1) {
                1 => format!("{}{nth},{}{nth}", from_to(first, self.last), from_to(min, last)),
                step => {
                    let step = usize::try_from(step).unwrap_or(usize::MAX);
                    around.step_by(step).map(|value| format!("{value}{nth}")).collect::<Vec<_>>().join(",")
                }
            };
            return Some((format!("range {range} runs backwards"), instead));
        }
        let step = step?;
        if !is_range {
            let problem = format!("has a step without a range ({item})");
            let fits = step <= self.last.saturating_sub(first);
            let instead = if fits { format!("{first}-{}/{step}{nth}", self.last) } else { format!("{first}{nth}") };
            return Some((problem, instead));
        }
        (first < last && step > last - first).then(|| {
            let problem = format!("step of {step} is larger than its range, so that only {first} would match");
            (problem, format!("{first}{nth}"))
        })
    }

    fn is_weekday(&self) -> bool {
        self.last < self.max
    }

    fn value(&self, text: &str) -> Option<u64> {
        let named = self.names.iter().zip(self.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, value)| value).or_else(|| text.parse().ok())
    }

    /// Returns the value at the end of a range: a Sunday there is the one after Saturday.
    fn end(&self, text: &str) -> Option<u64> {
        let is_sunday = self.is_weekday() && text.eq_ignore_ascii_case(WEEKDAYS[0]);
        if is_sunday { Some(7) } else { self.value(text) }
    }
}

fn from_to(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Returns the schedule of whole hours that comes next to a step of an hour and more in the minutes, and its rhythm.
fn hours_instead(texts: &[String], repaired: &[String]) -> Option<(String, String)> {
    let minutes: u64 = texts[0].strip_prefix("*/").filter(|_| texts[1] == "*")?.parse().ok()?;
    let rest = repaired[2..].join(" ");
    // Only these come at the same times each day.
    match [1, 2, 3, 4, 6, 8, 12].into_iter().find(|hours| hours * 60 >= minutes) {
        Some(1) => None,
        Some(hours) => Some((format!("0 */{hours} {rest}"), format!("every {hours} hours"))),
        None => Some((format!("0 0 {rest}"), "once a day".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(fields: &str) -> String {
        check(fields, |_| true).unwrap_err()
    }

    #[test]
    fn what_is_not_meant_is_refused_with_what_works() {
        let cases = [
            ("*/90 * * * *", "'0 * * * *', or '0 */2 * * *' for every 2 hours"),
            ("*/60 * * * *", "write '0 * * * *'"),
            ("*/300 * * * *", "or '0 */6 * * *' for every 6 hours"),
            ("*/1440 * * * *", "or '0 0 * * *' for once a day"),
            ("*/65536 * * * *", "or '0 0 * * *' for once a day"),
            ("*/61 */25 * * *", "write '0 0 * * *'"),
            ("5/15 * * * *", "write '5-59/15 * * * *'"),
            ("5/90 * * * *", "write '5 * * * *'"),
            ("0 */24 * * *", "'0 0 * * *'"),
            ("0 9 */31 * *", "'0 9 1 * *'"),
            ("0 9 1 */12 *", "'0 9 1 1 *'"),
            ("0 9 1 jan-mar/3 *", "'0 9 1 1 *'"),
            ("0 9 * * */7", "'0 9 * * 0'"),
            ("0 9 * * mon-wed/5#2", "'0 9 * * 1#2'"),
            ("5,0-10/30 * * * *", "'5,0 * * * *'"),
            ("0 22-6 * * *", "'0 22-23,0-6 * * *'"),
            ("0 22-6/2 * * *", "'0 22,0,2,4,6 * * *'"),
            ("0 9 * * fri-mon", "'0 9 * * 5-6,0-1'"),
            ("0 9 * * +6-0", "'0 9 * * +6,0'"),
            ("0 9 * nov-FEB *", "'0 9 * 11-12,1-2 *'"),
            ("0,,30 * * * *", "'0,30 * * * *'"),
            (", * * * *", "'* * * * *'"),
            ("0-70 * * * *", "must be 0 to 59"),
            ("0 70000 * * *", "must be 0 to 23"),
            ("0 0 0 * *", "must be 1 to 31"),
            ("0 0 * 13 *", "must be 1 to 12"),
            ("0 0 * * 8", "must be 0 to 7"),
            ("0 9 * * L", "'0 9 * * 5L'"),
        ];
        for (fields, part) in cases {
            let error = error(fields);
            assert!(error.contains(part), "{fields}: {error}");
            for written in error.split('\'').skip(1).step_by(2).filter(|text| text.split_whitespace().count() == 5) {
                assert_eq!(check(written, |_| true), Ok(()), "{fields}: {error}");
            }
        }
        assert!(check("0 9 31 2-4/9 *", |text| text == EXAMPLE).unwrap_err().contains(EXAMPLE));
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
            "0 9 * * sat-sun",
            "0 9 * * FRI-SUN,mon-sun",
            "0 0 29 feb +sun",
            "1,2,3-5/2 0 ? jan,Mar 7",
        ] {
            assert_eq!(check(fields, |_| true), Ok(()), "{fields}");
        }
    }
}
