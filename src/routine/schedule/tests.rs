use super::*;
use croner::parser::{Seconds, Year};
use proptest::prelude::*;

fn at(text: &str) -> UnixSeconds {
    text.parse().unwrap()
}

fn parse(text: &str, timezone: Option<&str>) -> Result<Schedule, InvalidField> {
    Schedule::parse(Some(&text.into()), None, timezone).map(Option::unwrap)
}

fn in_berlin(text: &str) -> Schedule {
    parse(text, Some("Europe/Berlin")).unwrap()
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
        let error = parse(text, None).unwrap_err().to_string();
        assert!(error.starts_with("`schedule` is '"), "{text}: {error}");
    }
    let never = parse("0 0 30 2 *", None).unwrap_err().to_string();
    assert!(never.contains("never fire"), "{never}");
    for every_day in ["* * * * *", "0 0 * 2 0", "0 0 * * +mon#5", "59 23 ? 12 7L"] {
        let schedule = parse(every_day, Some("UTC")).unwrap();
        assert!(!schedule.upcoming(NEAR_THE_END, 1).is_empty(), "{every_day}");
    }
    for weekday in 0..7 {
        let leap_day = format!("0 0 29 2 +{weekday}");
        assert!(parse(&leap_day, None).is_ok(), "a leap year will come");
    }
}

#[test]
fn what_is_not_meant_is_not_set_and_was_it_set_before_it_fires_on() {
    let error = check_as_meant(&"*/90 * * * *".into()).unwrap_err().to_string();
    assert!(error.starts_with("`schedule` is '*/90 * * * *'") && error.contains("'0 */2 * * *'"), "{error}");
    fires("*/90 * * * *", "2026-01-01T00:30:00Z", &["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]);
    assert_eq!(in_berlin("*/90 * * * *").description(), "At minute 0 past every hour (Europe/Berlin)");
    let refused = parse("0 22-6 * * *", None).unwrap_err().to_string();
    assert!(refused.contains("'0 22-23,0-6 * * *'"), "{refused}");
    for given in ["*/61 */25 * * *", "0 9 31 2-4/9 *", "0 70000 * * *", "5/15 * * * *", "0 9 * * 8", "*/90 25 * * *"] {
        let error = check_as_meant(&given.into()).unwrap_err().to_string();
        let written = error.split('\'').filter(|text| text.split_whitespace().count() == 5 && *text != given);
        let written: Vec<_> = written.collect();
        assert!(!written.is_empty() && written.iter().all(|text| parse(text, None).is_ok()), "{error}");
    }
    assert_eq!(CronExpressions::from(" @Midnight ").tidied(), "@midnight".into());
    for meant in [" @Midnight ", "0 9 * * 1-5"] {
        assert!(check_as_meant(&meant.into()).is_ok());
    }
    assert!(check_as_meant(&"@never".into()).is_err());
}

#[test]
fn an_unknown_zone_names_the_closest() {
    let error = parse("@daily", Some("Europe/Berln")).unwrap_err().to_string();
    assert!(error.contains("`timezone`") && error.contains("'Europe/Berlin'"), "{error}");
    assert!(parse("@daily", Some("")).is_err());
    assert!(parse("@daily", Some(&"x".repeat(1 << 20))).is_err(), "and soon");
    assert!(parse(&"1,".repeat(1 << 20), None).is_err(), "and soon");
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
            assert_eq!(parse(&written, None).unwrap(), parse(fields, None).unwrap(), "{written}");
        }
    }
}

fn several(texts: &[&str], run_at: Option<&str>, zone: &str) -> Schedule {
    let texts = CronExpressions::Several(texts.iter().map(|text| (*text).to_owned()).collect());
    Schedule::parse(Some(&texts), run_at, Some(zone)).unwrap().unwrap()
}

fn once(run_at: &str, zone: &str) -> Option<UnixSeconds> {
    Schedule::parse(None, Some(run_at), Some(zone)).unwrap().unwrap().run_at()
}

#[test]
fn a_list_is_bounded_named_by_its_item_and_kept_as_it_means() {
    let parse = |texts: &[&str]| {
        let texts = CronExpressions::Several(texts.iter().map(|text| (*text).to_owned()).collect());
        Schedule::parse(Some(&texts), None, None)
    };
    assert!(parse(&["@daily"; 20]).is_ok());
    for (texts, part) in
        [(&[][..], "1 to 20"), (&["@daily"; 21], "1 to 20"), (&["@daily", "0 25 * * *"], "'0 25 * * *'")]
    {
        let error = parse(texts).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("`schedule`"), "{error}");
    }
    let written = CronExpressions::Several(vec!["@daily".into(), "*/90 * * * *".into()]);
    assert!(check_as_meant(&written).unwrap_err().to_string().contains("*/90"));
    assert_eq!(CronExpressions::Several(vec![" @DAILY".into()]).tidied(), "@daily".into());
    assert_eq!(Schedule::parse(None, None, Some("UTC")).unwrap(), None);
}

#[test]
fn a_moment_is_read_exactly_or_by_the_clock_on_the_wall() {
    let cases = [
        ("2026-12-01T09:00", "2026-12-01T08:00:00Z"),
        ("2026-12-01 09:00:05", "2026-12-01T08:00:05Z"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
        ("2026-12-01T09:00-05:00", "2026-12-01T14:00:00Z"),
        ("2026-12-01T09:00:00.75+01:00", "2026-12-01T08:00:00Z"),
        // The clock skips it, and it comes twice.
        ("2026-03-29T02:30", "2026-03-29T01:00:00Z"),
        ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
    ];
    for (text, expected) in cases {
        assert_eq!(once(text, "Europe/Berlin"), Some(at(expected)), "{text}");
    }
    for text in ["", "tomorrow", "2026-12-01", "09:00", "2026-13-01T09:00", "2026-12-01T09:00[Asia/Tokyo]", "@5"] {
        let error = Schedule::parse(None, Some(text), None).unwrap_err().to_string();
        assert!(error.contains("`run_at`") && error.contains("2026-12-01T09:00"), "{text}: {error}");
    }
    let both = several(&["0 9 * * *", "0 17 * * *"], Some("2026-12-01T12:30"), "Europe/Berlin");
    assert_eq!(both.description(), "At 09:00; At 17:00; Once on 2026-12-01 at 12:30 (Europe/Berlin)");
    assert!(both.clone().without_run_at().unwrap().run_at().is_none());
    let follows = |text| Schedule::parse(None, Some(text), None).unwrap().unwrap().follows_machine_zone();
    assert_eq!([follows("2026-12-01T09:00"), follows("2026-12-01T09:00:00Z")], [true, false]);
}

#[test]
fn a_long_gap_is_a_bounded_amount_of_work() {
    let until = at("2026-06-01T00:00:00Z");
    let total = |Passed { older, newest }: Passed| older.map_or(0, |(count, _)| count) + newest.len() as u64;
    let twice = several(&["@hourly", "@hourly"], Some("2021-05-05T05:05:00Z"), "UTC");
    let passed = twice.passed(at("2020-01-01T00:00:00Z"), until);
    assert_eq!(total(passed), 366 * 24 + 1, "a year, and the moment");
    for dense in [&["* * * * *"] as &[&str], &["* * * * *", "*/2 * * * *", "1-59/2 * * * *"]] {
        let passed = total(several(dense, None, "UTC").passed(at("2020-01-01T00:00:00Z"), until));
        assert!((MOST_PASSED as u64 / 2..=MOST_PASSED as u64).contains(&passed), "{dense:?}: {passed}");
    }
    let moment = Schedule::parse(None, Some("2021-05-05T05:05:00Z"), None).unwrap().unwrap();
    assert_eq!(moment.passed(at("2020-01-01T00:00:00Z"), until).newest, [at("2021-05-05T05:05:00Z")]);
    assert_eq!(moment.passed(at("2022-01-01T00:00:00Z"), until), Passed::default());
}

proptest! {
    #[test]
    fn a_list_fires_at_each_occurrence_of_any_of_its_items_once(
        items in proptest::collection::vec("(\\*/15|\\*/7|[1-5]?[0-9]) (\\*|\\*/[2-9]|[0-4]|1,2,3) \\* \\* \\*", 1..6),
        from in 1_767_225_600..1_830_000_000_u64, once in 0..150_000_u64,
    ) {
        let zone = "Australia/Lord_Howe";
        let (from, run_at, until) = (UnixSeconds(from), UnixSeconds(from + once), UnixSeconds(from + 100_000));
        let texts: Vec<&str> = items.iter().map(String::as_str).collect();
        let all = several(&texts, Some(&run_at.to_string()), zone);
        let of_each = |text| parse(text, Some(zone)).unwrap().all_after(from).take_while(|at| *at <= until).collect::<Vec<_>>();
        let mut union: std::collections::BTreeSet<UnixSeconds> = texts.into_iter().flat_map(of_each).collect();
        if run_at > from && run_at <= until {
            union.insert(run_at);
        }
        let union: Vec<UnixSeconds> = union.into_iter().collect();
        prop_assert_eq!(all.all_after(from).take_while(|at| *at <= until).collect::<Vec<_>>(), union.clone());
        // Also one after the other, as plans are made.
        let next = |at: &UnixSeconds| all.next_after(&TimeZone::UTC, *at).filter(|at| *at <= until);
        prop_assert_eq!(std::iter::successors(next(&from), next).collect::<Vec<_>>(), union);
    }

    #[test]
    fn a_moment_falls_where_a_schedule_of_that_one_time_would(
        day in 0..2_000_i64, minute in 0..1440_i64, zone in 0..5_usize,
    ) {
        let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca"][zone];
        let local = jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0).checked_add(jiff::Span::new().minutes(day * 1440 + minute)).unwrap();
        let cron = format!("{} {} {} {} *", local.minute(), local.hour(), local.day(), local.month());
        let around = local.to_zoned(TimeZone::UTC).unwrap().timestamp().as_second() - 100_000;
        let expected = parse(&cron, Some(zone)).unwrap().upcoming(UnixSeconds(around.try_into().unwrap()), 1);
        prop_assert_eq!(once(&local.to_string(), zone).into_iter().collect::<Vec<_>>(), expected, "{} in {}", local, zone);
    }

    #[test]
    fn each_occurrence_is_later_than_the_one_before_in_whatever_zone(
        minute in "(\\*/15|\\*/7|[1-5]?[0-9])", hour in "(\\*|\\*/[2-9]|[0-4]|1,2,3)", zone in 0..5_usize,
        from in 1_767_225_600..1_830_000_000_u64,
    ) {
        let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"][zone];
        let schedule = parse(&format!("{minute} {hour} * * *"), Some(zone)).unwrap();
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
        let _ = parse(&text, Some(&zone));
        let _ = parse(&text, None);
        let _ = Schedule::parse(None, Some(&text), Some("Europe/Berlin"));
    }
}
