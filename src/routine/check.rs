//! What may stand in a routine.

use super::invalid_field::InvalidField;
use super::repository::{self};
use super::schedule::{Schedule, check_as_meant};
use crate::clock::UnixSeconds;
use crate::environment::{EnvName, Variables};
use crate::home::config::Config;
use crate::options::{Options, PERMISSIONS};
use crate::quote::quote;

use super::model::{Definition, Retry};

const MAX_TITLE_CHARS: usize = 200;
const MAX_COUNT: u64 = 1_000_000;
const MAX_TAGS: usize = 20;
const MAX_TAG_CHARS: usize = 50;
const MAX_VARIABLES: usize = 100;
const MAX_VALUE_BYTES: usize = 32 * 1024;
const MAX_OPTIONS: usize = 20;
const MAX_OPTION_BYTES: usize = 1000;

impl Definition {
    /// Dates what a person wrote without saying when.
    pub(super) fn date(&mut self, written: UnixSeconds) {
        for time in [&mut self.created_at, &mut self.updated_at] {
            if *time == UnixSeconds::default() {
                *time = written;
            }
        }
    }

    /// Returns whether it fires by itself.
    pub fn has_schedule(&self) -> bool {
        self.schedule.is_some() || self.run_at.is_some()
    }

    pub fn parse_schedule(&self) -> Result<Option<Schedule>, InvalidField> {
        Schedule::parse(self.schedule.as_ref(), self.run_at.as_deref(), self.timezone.as_deref())
    }

    /// Checks a schedule that is about to be set in the place of `before`: that it is meant as it is written, and not past.
    pub(super) fn check_new_schedule(&self, before: &Self, now: UnixSeconds) -> Result<(), InvalidField> {
        if let Some(schedule) = self.schedule.as_ref().filter(|_| self.schedule != before.schedule) {
            check_as_meant(schedule)?;
        }
        self.check_new_run_at(before, now)
    }

    /// Checks a `run_at` that is about to be set in the place of that of `before`: it must not be past.
    pub(super) fn check_new_run_at(&self, before: &Self, now: UnixSeconds) -> Result<(), InvalidField> {
        let Some(text) = self.run_at.as_ref().filter(|_| self.run_at != before.run_at) else { return Ok(()) };
        match self.parse_schedule()?.and_then(|schedule| schedule.run_at()).filter(|at| *at <= now) {
            Some(past) => {
                let rule = format!("that is {past}, and it is {now} now; give a later time");
                Err(InvalidField::new("run_at", format_args!("'{text}'"), rule))
            }
            None => Ok(()),
        }
    }

    /// Checks what a tool was given, the home's ceilings included.
    pub fn check(&self, config: &Config) -> Result<(), InvalidField> {
        let ttl_ceiling = ("ttl_ceiling_secs", config.ttl_ceiling_secs);
        let runtime_ceiling = ("max_runtime_ceiling_secs", config.max_runtime_ceiling_secs);
        check_bound("ttl_secs", self.ttl_secs, ttl_ceiling)?;
        check_bound("max_runtime_secs", self.max_runtime_secs, runtime_ceiling)?;
        check_bound("failed_ttl_secs", self.failed_ttl_secs, ttl_ceiling)?;
        check_bound("max_silence_secs", self.max_silence_secs, runtime_ceiling)?;
        check_bound("answer_within_secs", self.answer_within_secs, ttl_ceiling)?;
        repository::check_names(&self.repositories)?;
        self.resources.check_allowed(config)?;
        self.checked_schedule().map(drop)
    }

    /// Checks what a person may have written by hand, whatever the ceilings, and returns the schedule, which had to be parsed.
    pub(super) fn checked_schedule(&self) -> Result<Option<Schedule>, InvalidField> {
        let positive = [
            ("ttl_secs", self.ttl_secs),
            ("max_runtime_secs", self.max_runtime_secs),
            ("failed_ttl_secs", self.failed_ttl_secs),
            ("max_silence_secs", self.max_silence_secs),
            ("answer_within_secs", self.answer_within_secs),
            ("max_consecutive_failures", self.max_consecutive_failures),
            ("max_daily_runs", self.max_daily_runs),
            ("max_daily_cost_usd", self.max_daily_cost_usd.map(|cost| cost.0)),
        ];
        for (field, value) in positive {
            if value == Some(0) {
                let least = if field == "max_daily_cost_usd" { "more than 0" } else { "at least 1" };
                let rule = format!("it must be {least}; leave it out for the default");
                return Err(InvalidField::new(field, 0, rule));
            }
        }
        for (field, value) in [
            ("keep_last", self.keep_last),
            ("max_consecutive_failures", self.max_consecutive_failures),
            ("max_daily_runs", self.max_daily_runs),
        ] {
            if let Some(count) = value.filter(|count| *count > MAX_COUNT) {
                return Err(InvalidField::new(field, count, format!("it must be at most {MAX_COUNT}; give less")));
            }
        }
        check_title(&self.title)?;
        if self.agent.is_empty() {
            return Err(InvalidField::new("agent", "missing", "each routine names one; list_agents shows them"));
        }
        check_tags(&self.tags)?;
        check_archive_files(self.archive_files.as_deref().unwrap_or_default())?;
        let schedule = self.parse_schedule()?;
        check_retry(self.retry)?;
        repository::check(&self.repositories)?;
        self.resources.check()?;
        check_env("env", &self.env)?;
        check_env("trusted.env", &self.trusted.env)?;
        self.trusted.check_hooks()?;
        check_command("trusted.precheck", &self.trusted.precheck)?;
        check_command("trusted.verify", self.trusted.verify.as_deref().unwrap_or_default())?;
        if self.trusted.verify_secs == Some(0) {
            let rule = "it must be at least 1; leave it out for 300";
            return Err(InvalidField::new("trusted.verify_secs", 0, rule));
        }
        check_options("options", &self.options)?;
        check_options("trusted.options", &self.trusted.options)?;
        // One that is misspelt would pass for none, and tools could instruct the routine until it is corrected.
        if let Some(level) = self.trusted.options.get(PERMISSIONS).filter(|_| self.trusted.permissions().is_none()) {
            let rule = "it must be read-only, files, edit or full; correct it by hand";
            return Err(InvalidField::new("trusted.options.permissions", format_args!("'{level}'"), rule));
        }
        Ok(schedule)
    }
}

const MAX_GLOBS: usize = 20;
const MAX_GLOB_BYTES: usize = 200;

fn check_archive_files(globs: &[String]) -> Result<(), InvalidField> {
    let invalid = |glob: &str, rule: &str| Err(InvalidField::new("archive_files", glob, rule));
    if globs.len() > MAX_GLOBS {
        let rule = format!("there may be at most {MAX_GLOBS}; use patterns such as \"out/**\"");
        return Err(InvalidField::new("archive_files", format!("{} globs", globs.len()), rule));
    }
    for glob in globs {
        if glob.is_empty() || glob.len() > MAX_GLOB_BYTES || glob.chars().any(char::is_control) {
            return invalid(glob, "each is a path or a pattern of at most 200 bytes on one line");
        }
        if glob.starts_with('/') || glob.split('/').any(|part| part == "..") {
            return invalid(glob, "each must be relative to the workbench, as in \"report.md\" or \"out/**/*.csv\"");
        }
    }
    Ok(())
}

const MAX_ATTEMPTS: u32 = 10;
const MAX_BACKOFF_SECS: u64 = 24 * 60 * 60;

fn check_retry(retry: Option<Retry>) -> Result<(), InvalidField> {
    let Some(Retry { max_attempts, backoff_secs }) = retry else { return Ok(()) };
    if !(2..=MAX_ATTEMPTS).contains(&max_attempts) {
        let rule =
            format!("it must be between 2 and {MAX_ATTEMPTS}, the first run included; leave `retry` out for one");
        return Err(InvalidField::new("retry.max_attempts", max_attempts, rule));
    }
    if backoff_secs > MAX_BACKOFF_SECS {
        let rule = format!("it must be at most {MAX_BACKOFF_SECS}; give a shorter time");
        return Err(InvalidField::new("retry.backoff_secs", backoff_secs, rule));
    }
    Ok(())
}

fn check_title(title: &str) -> Result<(), InvalidField> {
    let rule = format!("it must be one line of 1 to {MAX_TITLE_CHARS} characters; give a short name");
    if title.trim().is_empty() {
        return Err(InvalidField::new("title", "missing", rule));
    }
    if title.chars().count() > MAX_TITLE_CHARS || title.chars().any(char::is_control) {
        return Err(InvalidField::new("title", format_args!("'{title}'"), rule));
    }
    Ok(())
}

fn check_bound(field: &str, value: Option<u64>, (ceiling_key, ceiling): (&str, u64)) -> Result<(), InvalidField> {
    match value {
        Some(secs) if secs == 0 || secs > ceiling => {
            let rule = format!(
                "it must be between 1 and {ceiling} (the ceiling `{ceiling_key}` of the home's config.toml); give such a \
                 value, or leave it out for the default"
            );
            Err(InvalidField::new(field, secs, rule))
        }
        _ => Ok(()),
    }
}

fn check_tags(tags: &[String]) -> Result<(), InvalidField> {
    if tags.len() > MAX_TAGS {
        return Err(InvalidField::new("tags", tags.len(), format!("at most {MAX_TAGS} tags; give fewer")));
    }
    let bad = |tag: &&String| {
        tag.trim().is_empty() || tag.chars().count() > MAX_TAG_CHARS || tag.chars().any(char::is_control)
    };
    match tags.iter().find(bad) {
        Some(tag) => {
            let rule = format!("a tag has 1 to {MAX_TAG_CHARS} printable characters; give such a word");
            Err(InvalidField::new("tags", format_args!("'{tag}'"), rule))
        }
        None => Ok(()),
    }
}

fn check_env(field: &str, env: &Variables) -> Result<(), InvalidField> {
    if env.len() > MAX_VARIABLES {
        return Err(InvalidField::new(field, env.len(), format!("at most {MAX_VARIABLES} variables; give fewer")));
    }
    if let Some(name) = env.keys().find(|name| name.is_ours()) {
        let rule = "names that begin with MOADIM_ are this program's own; give another name";
        return Err(InvalidField::new(field, name, rule));
    }
    match env.iter().find(|(_, value)| value.contains('\0') || value.len() > MAX_VALUE_BYTES) {
        Some((name, _)) => {
            let rule = format!("its value holds a NUL or more than {MAX_VALUE_BYTES} bytes; give a shorter text");
            Err(InvalidField::new(field, name, rule))
        }
        None => Ok(()),
    }
}

/// Checks a person's command: it is found as an agent's is, and never in the workbench, where the agent could put another.
fn check_command(field: &str, command: &[String]) -> Result<(), InvalidField> {
    let invalid = |rule: &str| {
        let shown = command.first().map(|program| quote(program, 64)).unwrap_or_default();
        Err(InvalidField::new(field, format_args!("'{shown}'"), rule))
    };
    match command.first() {
        Some(program) if program.is_empty() => invalid("it names no program; give [\"npm\", \"test\"], for example"),
        Some(program) if program.contains('/') && !program.starts_with('/') => {
            invalid("a relative path; give a name on PATH or an absolute path")
        }
        _ if command.iter().any(|word| word.contains('\0')) => invalid("it holds a NUL character"),
        _ => Ok(()),
    }
}

/// Which options there are, and what they take, is their agent's matter, and checked at every launch.
fn check_options(field: &str, options: &Options) -> Result<(), InvalidField> {
    if options.len() > MAX_OPTIONS {
        return Err(InvalidField::new(field, options.len(), format!("at most {MAX_OPTIONS} options; give fewer")));
    }
    match options.iter().find(|(name, value)| name.len() > MAX_OPTION_BYTES || value.0.len() > MAX_OPTION_BYTES) {
        Some((name, _)) => {
            let rule =
                format!("a name or a value has more than {MAX_OPTION_BYTES} bytes; list_agents shows what they may be");
            Err(InvalidField::new(field, quote(name, 64), rule))
        }
        None => Ok(()),
    }
}

/// Checks the names of variables that came as plain text.
pub fn parse_env(env: std::collections::BTreeMap<String, String>) -> Result<Variables, InvalidField> {
    env.into_iter()
        .map(|(name, value)| match name.parse::<EnvName>() {
            Ok(name) => Ok((name, value)),
            Err(_) => {
                let rule = "a variable's name has letters, digits and underscores, and no digit first; rename it";
                Err(InvalidField::new("env", format_args!("'{name}'"), rule))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MicroDollars;
    use crate::options::OptionValue;
    use crate::routine::model::{Overlap, Trusted};
    use crate::routine::repository::Repository;

    fn definition() -> Definition {
        Definition {
            title: "Triage".into(),
            agent: "claude".into(),
            created_at: UnixSeconds(1),
            updated_at: UnixSeconds(1),
            ..Definition::default()
        }
    }

    #[test]
    fn bounds_outside_their_range_are_refused_with_the_ceiling() {
        let config = Config::default();
        for secs in [0, config.ttl_ceiling_secs + 1] {
            let error = Definition { ttl_secs: Some(secs), ..definition() }.check(&config).unwrap_err().to_string();
            assert!(error.contains("ttl_secs") && error.contains("2592000"), "{error}");
        }
        assert!(Definition { max_runtime_secs: Some(86_401), ..definition() }.check(&config).is_err());
        assert!(Definition { max_runtime_secs: Some(86_400), ..definition() }.check(&config).is_ok());
        for (ceilings, rule) in [
            (Definition { max_daily_runs: Some(0), ..definition() }, "`max_daily_runs` is 0: it must be at least 1"),
            (Definition { max_daily_runs: Some(1_000_001), ..definition() }, "`max_daily_runs` is 1000001"),
            (
                Definition { max_daily_cost_usd: Some(MicroDollars(0)), ..definition() },
                "`max_daily_cost_usd` is 0: it must be more than 0",
            ),
        ] {
            let error = ceilings.check(&config).unwrap_err().to_string();
            assert!(error.starts_with(rule), "{error}");
        }
    }

    #[test]
    fn our_own_and_malformed_variables_are_refused_by_name() {
        let env = |name: &str| parse_env([(name.to_owned(), "v".to_owned())].into());
        for ours in [
            Definition { env: env("MOADIM_COOKIE").unwrap(), ..definition() },
            Definition {
                trusted: Trusted { env: env("MOADIM_COOKIE").unwrap(), ..Trusted::default() },
                ..definition()
            },
        ] {
            assert!(ours.check(&Config::default()).unwrap_err().to_string().contains("MOADIM_COOKIE"));
        }
        assert!(env("A-B").unwrap_err().to_string().contains("A-B"));
    }

    #[test]
    fn a_hook_names_a_command_or_nothing() {
        let with = |hook: &[&str]| {
            let hook = hook.iter().map(|word| (*word).to_owned()).collect();
            let trusted = Trusted { on_attention: Some(hook), ..Trusted::default() };
            Definition { trusted, ..definition() }.check(&Config::default())
        };
        assert!(with(&[]).is_ok() && with(&["true"]).is_ok());
        for words in [&[""][..], &["echo", "a\0b"]] {
            assert!(with(words).unwrap_err().to_string().contains("trusted.on_attention"));
        }
    }

    #[test]
    fn a_command_that_could_be_the_agents_own_is_refused() {
        let check = |trusted: &str| {
            let trusted: Trusted = toml::from_str(trusted).unwrap();
            Definition { trusted, ..definition() }.check(&Config::default()).map_err(|error| error.to_string())
        };
        for good in ["verify = []", "verify = ['npm', 'test']", "precheck = ['/usr/bin/git', 'x/y']\nverify_secs = 1"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, words) in [
            ("verify = ['./check.sh']", "`trusted.verify`"),
            ("verify = ['']", "names no program"),
            ("precheck = ['a/b']", "`trusted.precheck`"),
            ("precheck = [\"sh\", \"a\\u0000\"]", "NUL"),
            ("verify_secs = 0", "at least 1"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn a_title_that_is_empty_is_missing() {
        for title in ["", "  "] {
            let error = Definition { title: title.into(), ..definition() }.check(&Config::default()).unwrap_err();
            assert!(error.to_string().starts_with("`title` is missing: "), "{error}");
        }
    }

    #[test]
    fn a_hostile_title_is_shown_short_and_printable() {
        let title = "\u{1b}[31m".repeat(100_000);
        let error = Definition { title, ..definition() }.check(&Config::default()).unwrap_err().to_string();
        assert!(error.len() < 1000 && !error.contains('\u{1b}'));
    }

    #[test]
    fn a_schedule_is_a_text_or_a_list_and_a_moment_needs_no_quotes() {
        let read = |text: &str| toml::from_str::<Definition>(text);
        assert_eq!(read("schedule = '@daily'").unwrap().schedule, Some("@daily".into()));
        let list = read("schedule = ['@daily', '@hourly']").unwrap().schedule.unwrap();
        assert_eq!(list.texts(), ["@daily", "@hourly"]);
        for text in ["schedule = 5", "schedule = [5]"] {
            assert!(read(text).unwrap_err().to_string().contains("a list of texts"), "{text}");
        }
        let run_at = |text: &str| read(&format!("run_at = {text}")).unwrap().run_at.unwrap();
        assert_eq!(run_at("2026-12-01T09:00:00"), "2026-12-01T09:00:00");
        assert_eq!(run_at("2026-12-01 09:00:00+01:00"), "2026-12-01T09:00:00+01:00");
        assert_eq!(run_at("'2026-12-01T09:00'"), "2026-12-01T09:00");
        assert!(read("run_at = 5").unwrap_err().to_string().contains("a date and a time"));
        let plain = toml::to_string(&Definition { schedule: Some("@daily".into()), ..definition() }).unwrap();
        assert!(plain.contains("schedule = \"@daily\"\n"), "{plain}");
    }

    #[test]
    fn a_new_moment_must_be_ahead() {
        let at =
            |run_at: &str| Definition { run_at: Some(run_at.into()), timezone: Some("UTC".into()), ..definition() };
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let none = definition();
        assert!(at("2026-06-01T00:01").check_new_schedule(&none, now).is_ok());
        let error = at("2026-06-01T00:00").check_new_schedule(&none, now).unwrap_err().to_string();
        assert!(error.contains("`run_at`") && error.contains("2026-06-01T00:00:00Z now"), "{error}");
        let past = at("2020-01-01T00:00");
        assert!(past.check_new_schedule(&past, now).is_ok(), "that was there");
        assert!(past.check(&Config::default()).is_ok(), "a person may have left it there");
    }

    #[test]
    fn a_definition_survives_its_file() {
        let full = Definition {
            ttl_secs: Some(5),
            max_daily_runs: Some(3),
            max_daily_cost_usd: Some(MicroDollars(2_500_000)),
            schedule: Some("0 9 * * 1-5".into()),
            run_at: Some("2026-12-01T09:00".into()),
            overlap: Overlap::Queue,
            tags: vec!["a".into()],
            retry: Some(Retry { max_attempts: 3, backoff_secs: 60 }),
            repositories: vec![Repository { url: "https://example.com/a.git".into(), branch: None, directory: None }],
            env: parse_env([("A".to_owned(), "b".to_owned())].into()).unwrap(),
            trusted: Trusted {
                on_finish: Some(vec!["notify-send".into(), "done".into()]),
                on_attention: Some(Vec::new()),
                precheck: vec!["true".into()],
                verify: Some(vec!["npm".into(), "test".into()]),
                verify_secs: Some(60),
                env: parse_env([("B".to_owned(), "c".to_owned())].into()).unwrap(),
                options: [("permissions".to_owned(), OptionValue("full".to_owned()))].into(),
                ..Trusted::default()
            },
            ..definition()
        };
        let text = toml::to_string_pretty(&full).unwrap();
        assert_eq!(toml::from_str::<Definition>(&text).unwrap(), full);
    }
}
