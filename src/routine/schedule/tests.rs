use super::*;
use croner::parser::{Seconds, Year};
use proptest::prelude::*;

fn at(text: &str) -> UnixSeconds {
    text.parse().unwrap()
}

fn in_berlin(text: &str) -> Schedule {
    Schedule::parse(text, Some("Europe/Berlin")).unwrap()
}

#[track_caller]
fn fires(schedule: &str, after: &str, expected: &[&str]) {
    let found = in_berlin(schedule).upcoming(at(after), expected.len());
    assert_eq!(found, expected.iter().map(|text| at(text)).collect::<Vec<_>>(), "{schedule}");
}

#[test]
fn a_schedule_is_in_its_zone() {
    fires("30 9 * * 1-5", "2026-01-02T12:00:00Z", &["2026-01-05T08:30:00Z", "2026-01-06T08:30:00Z"]);
    fires("@daily", "2026-07-01T00:00:00Z", &["2026-07-01T22:00:00Z"]);
    assert_eq!(in_berlin("30 9 * * 1-5").upcoming(at("2026-01-05T08:30:00Z"), 1), [at("2026-01-06T08:30:00Z")]);
}

#[test]
fn a_time_that_the_clock_skips_fires_right_after_the_gap_if_it_is_one_time_a_day() {
    // On 2026-03-29 at 02:00 the clock goes to 03:00, which is 01:00 UTC.
    fires("30 2 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
}

#[test]
fn an_interval_leaves_out_what_the_clock_skips() {
    let expected = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
    fires("*/30 * * * *", "2026-03-29T00:00:00Z", &expected);
}

#[test]
fn a_time_that_comes_twice_fires_the_first_time_only_if_it_is_one_time_a_day() {
    // On 2026-10-25 at 03:00 the clock goes back to 02:00, which is 01:00 UTC.
    fires("30 2 * * *", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
}

#[test]
fn an_interval_fires_in_both_of_the_hours_that_the_clock_repeats() {
    let expected = [
        "2026-10-25T00:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:00:00Z",
    ];
    fires("*/30 * * * *", "2026-10-24T23:30:00Z", &expected);
}

#[test]
fn nonsense_names_the_field_and_what_would_do() {
    let bad = [
        "",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "0 9 * * blue",
        "@reboot",
        "@DAILY x",
        "@ midnight",
        "a b c d e",
        "0 0 30 2 *",
        "0 0 31 4 *",
        "*/0 * * * *",
        ", * * * *",
        "0 , * * *",
        "0 9 * * ,",
        "0 9 * * L",
        "0 9 * * +L",
    ];
    for text in bad {
        let error = Schedule::parse(text, None).unwrap_err().to_string();
        assert!(error.starts_with("`schedule` is '"), "{text}: {error}");
    }
    let never = Schedule::parse("0 0 30 2 *", None).unwrap_err().to_string();
    assert!(never.contains("never fire"), "{never}");
    for every_day in ["* * * * *", "0 0 * 2 0", "0 0 * * +mon#5", "59 23 ? 12 7L"] {
        let schedule = Schedule::parse(every_day, Some("UTC")).unwrap();
        assert!(!schedule.upcoming(NEAR_THE_END, 1).is_empty(), "{every_day}");
    }
    for weekday in 0..7 {
        let leap_day = format!("0 0 29 2 +{weekday}");
        assert!(Schedule::parse(&leap_day, None).is_ok(), "a leap year will come");
    }
}

#[test]
fn what_is_not_meant_is_not_set_and_was_it_set_before_it_fires_on() {
    let error = check_as_meant("*/90 * * * *").unwrap_err().to_string();
    assert!(error.starts_with("`schedule` is '*/90 * * * *'") && error.contains("'0 */2 * * *'"), "{error}");
    fires("*/90 * * * *", "2026-01-01T00:30:00Z", &["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]);
    assert_eq!(in_berlin("*/90 * * * *").description(), "At minute 0 past every hour (Europe/Berlin)");
    let refused = Schedule::parse("0 22-6 * * *", None).unwrap_err().to_string();
    assert!(refused.contains("'0 22-23,0-6 * * *'"), "{refused}");
    for given in ["*/61 */25 * * *", "0 9 31 2-4/9 *", "0 70000 * * *", "5/15 * * * *", "0 9 * * 8", "*/90 25 * * *"] {
        let error = check_as_meant(given).unwrap_err().to_string();
        let written = error.split('\'').filter(|text| text.split_whitespace().count() == 5 && *text != given);
        let written: Vec<_> = written.collect();
        assert!(!written.is_empty() && written.iter().all(|text| Schedule::parse(text, None).is_ok()), "{error}");
    }
    assert_eq!(tidied(" @Midnight "), "@midnight");
    for meant in [" @Midnight ", "0 9 * * 1-5"] {
        assert!(check_as_meant(meant).is_ok());
    }
    assert!(check_as_meant("@never").is_err());
}

#[test]
fn an_unknown_zone_names_the_closest() {
    let error = Schedule::parse("@daily", Some("Europe/Berln")).unwrap_err().to_string();
    assert!(error.contains("`timezone`") && error.contains("'Europe/Berlin'"), "{error}");
    assert!(Schedule::parse("@daily", Some("")).is_err());
    assert!(Schedule::parse("@daily", Some(&"x".repeat(1 << 20))).is_err(), "and soon");
    assert!(Schedule::parse(&"1,".repeat(1 << 20), None).is_err(), "and soon");
}

#[test]
fn it_is_described_with_its_zone() {
    let words = in_berlin("0 9 * * 1-5").description();
    assert_eq!(words, "At 09:00, on Monday, Tuesday, Wednesday, Thursday, and Friday (Europe/Berlin)");
}

#[test]
fn of_a_long_gap_the_newest_are_listed_and_the_others_counted() {
    let hourly = in_berlin("@hourly");
    let passed = hourly.passed(at("2026-01-01T00:00:00Z"), at("2026-01-11T00:00:00Z"));
    assert_eq!((passed.older, passed.newest.len()), (Some((240 - 101, at("2026-01-06T19:00:00Z"))), 101));
    assert_eq!(passed.newest.last(), Some(&at("2026-01-11T00:00:00Z")));
    let older = hourly.passed(UnixSeconds(0), at("2026-01-11T00:00:00Z")).older;
    assert_eq!(older.unwrap().0, 366 * 24 - 101, "a year at most");
    assert_eq!(hourly.passed(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:59:59Z")), Passed::default());
}

#[test]
fn fields_are_parsed_as_they_would_be_with_every_year() {
    let whole = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let texts = NAMES.into_iter().map(|(_, fields)| fields);
    for text in texts.chain(["0 9 * * 1-5", "*/7 0-5/2 L * *", "0 0 ? jan-mar mon#2", "5 5 13W * +fri"]) {
        let (ours, theirs) = (parse_fields(text).unwrap(), whole.parse(text).unwrap());
        assert_eq!((&ours, ours.describe()), (&theirs, theirs.describe()));
    }
    for (name, fields) in NAMES {
        let written = ["  NAME\n", "name"].map(|form| form.replace("NAME", &name.to_uppercase()).replace("name", name));
        for written in written {
            assert_eq!(Schedule::parse(&written, None).unwrap(), Schedule::parse(fields, None).unwrap(), "{written}");
        }
    }
}

proptest! {
    #[test]
    fn each_occurrence_is_later_than_the_one_before_in_whatever_zone(
        minute in "(\\*/15|\\*/7|[1-5]?[0-9])", hour in "(\\*|\\*/[2-9]|[0-4]|1,2,3)", zone in 0..5_usize,
        from in 1_767_225_600..1_830_000_000_u64,
    ) {
        let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"][zone];
        let schedule = Schedule::parse(&format!("{minute} {hour} * * *"), Some(zone)).unwrap();
        let mut last = UnixSeconds(from);
        let upcoming = schedule.upcoming(last, 200);
        prop_assert_eq!(upcoming.len(), 200);
        for next in upcoming {
            prop_assert!(next > last && next.0 % 60 == 0);
            last = next;
        }
    }

    #[test]
    fn no_text_does_worse_than_an_error(text in "[ -~]{0,30}", zone in "[ -~]{0,20}") {
        let _ = Schedule::parse(&text, Some(&zone));
        let _ = Schedule::parse(&text, None);
    }
}
