//! What an agent reads before its prompt: where it is, why it was started, and what is expected of it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::{HumanDuration, UnixSeconds};
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::run::question::QuestionKind;
use crate::run::record::{Origin, Outcome};
use crate::run::report::REPORT_FILE;

const BUILT_IN: &str = include_str!("preamble.md");
/// The same for an agent that has read it before.
const GOING_ON: &str = include_str!("going_on.md");

/// The place of how the agent reports.
const REPORT_PLACE: &str = "{report}";

const REPORT_IN_FILE: &str = "\
Before you end, write report.md into that directory. Make its first line one sentence that states the outcome. Then say what you
did, what you did not do and why, and what a person must decide. Report only what you checked.";

/// The same for an agent that can write no file.
const REPORT_IN_MESSAGE: &str = "\
Your last message is the report. Make its first line one sentence that states the outcome. Then say what you did, what you did not
do and why, and what a person must decide. Report only what you checked.";

const QUESTION_IN_FILE: &str = "\
Where only a person can decide, ask: write question.md into the directory that you were started in, and end. Its first line is the
question; then comes what one must know to answer it, then the options as a list, if there are any. You will be continued with the
answer, perhaps hours later.";

/// The same for an agent that can write no file.
const QUESTION_BY_TOOL: &str = "\
Where only a person can decide, ask with your tool for questions, if you have one.";

/// More than that is no preamble, but a mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// The text before a prompt, with the places of what differs from run to run.
#[derive(Debug, Clone)]
pub(super) struct Template(String);

impl Template {
    /// Reads the home's `preamble.md`, else takes the built-in text; `None` where that file is empty, which switches it off.
    ///
    /// # Errors
    /// It cannot be read, is no text, or is too large.
    pub(super) fn read(home: &Home) -> Result<Option<Self>, FileError> {
        let own = atomic_file::if_present(atomic_file::read_text_with_stamp(&home.preamble_file(), MAX_BYTES))?;
        let text = own.map_or_else(|| BUILT_IN.to_owned(), |(text, _)| text);
        Ok((!text.trim().is_empty()).then_some(Self(text)))
    }

    /// Returns the text before an answer, for an agent that remembers the rest.
    pub(super) fn going_on() -> Self {
        Self(GOING_ON.to_owned())
    }

    /// Whether it asks for a file with a report, which not every agent may write.
    pub(super) fn asks_for_report(&self, facts: &Facts<'_>) -> bool {
        !facts.is_read_only && (self.0.contains(REPORT_FILE) || self.0.contains(REPORT_PLACE))
    }

    /// Fills in the places, in one pass, so that a title that holds one keeps it.
    pub(super) fn fill(&self, facts: &Facts<'_>) -> String {
        let places = [
            ("{now}", facts.now_in_words()),
            ("{title}", facts.title.to_owned()),
            ("{why}", facts.why()),
            ("{bound}", HumanDuration(facts.max_runtime_secs).to_string()),
            ("{question}", facts.how_to_ask().to_owned()),
            (REPORT_PLACE, facts.how_to_report().to_owned()),
        ];
        let mut filled = String::new();
        let mut rest = self.0.trim();
        while let Some(open) = rest.find('{') {
            let (before, from) = rest.split_at(open);
            filled.push_str(before);
            let place = places.iter().find(|(name, _)| from.starts_with(name));
            let (value, length) = place.map_or(("{", 1), |(name, value)| (value.as_str(), name.len()));
            filled.push_str(value);
            rest = &from[length..];
        }
        filled + rest
    }
}

/// What a preamble can say about a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) title: &'a str,
    pub(super) origin: &'a Origin,
    /// The run that it goes on from.
    pub(super) continues: Option<&'a Outcome>,
    pub(super) now: UnixSeconds,
    pub(super) zone: &'a TimeZone,
    pub(super) max_runtime_secs: u64,
    /// Whether the agent can write no file.
    pub(super) is_read_only: bool,
}

/// How much later than its occurrence a run is on time.
const ON_TIME_SECS: u64 = 60;

impl Facts<'_> {
    fn now_in_words(&self) -> String {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        format!("{} ({zone})", self.moment(self.now))
    }

    fn moment(&self, at: UnixSeconds) -> String {
        let moment = i64::try_from(at.0).ok().and_then(|secs| Timestamp::from_second(secs).ok());
        let in_zone = |moment: Timestamp| moment.to_zoned(self.zone.clone());
        moment.map_or_else(|| at.to_string(), |moment| in_zone(moment).strftime("%A, %-d %B %Y, %H:%M").to_string())
    }

    fn how_to_report(&self) -> &'static str {
        if self.is_read_only { REPORT_IN_MESSAGE } else { REPORT_IN_FILE }
    }

    fn how_to_ask(&self) -> &'static str {
        if self.is_read_only { QUESTION_BY_TOOL } else { QUESTION_IN_FILE }
    }

    /// Says why the run was started, as what follows "because".
    fn why(&self) -> String {
        if let Some(before) = self.continues {
            let run = &before.id;
            return match before.question.as_ref().map(|question| question.kind) {
                Some(QuestionKind::Decision) => format!("the question with which the run {run} ended was answered"),
                Some(QuestionKind::Login) => format!("the login that the run {run} lacked was seen to"),
                None => format!("somebody wants the run {run} to go on"),
            };
        }
        match self.origin {
            Origin::Call => "it was triggered directly, not by its schedule".to_owned(),
            Origin::Schedule { occurrence } => self.scheduled(*occurrence),
            Origin::Retry { of, attempt } => format!("the run {of} did not succeed; this is attempt {attempt}"),
            Origin::Reset { of, occurrence, .. } => {
                let scheduled = occurrence.map(|occurrence| format!("{}; ", self.scheduled(occurrence)));
                let scheduled = scheduled.unwrap_or_default();
                format!("{scheduled}the run {of} hit its account's usage limit; this is the same attempt again")
            }
        }
    }

    fn scheduled(&self, occurrence: UnixSeconds) -> String {
        let late = occurrence.age_secs_at(self.now);
        let late = if late > ON_TIME_SECS { format!(" and is {} late", HumanDuration(late)) } else { String::new() };
        format!("it was scheduled for {}{late}", self.moment(occurrence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: UnixSeconds = UnixSeconds(1_795_867_200);

    fn facts<'a>(origin: &'a Origin, zone: &'a TimeZone) -> Facts<'a> {
        Facts {
            title: "Triage {why}",
            origin,
            continues: None,
            now: NOON,
            zone,
            max_runtime_secs: 5400,
            is_read_only: false,
        }
    }

    #[test]
    fn the_built_in_text_states_what_is_known_and_asks_for_a_report() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let template = Template::read(&home).unwrap().unwrap();
        let zone = crate::routine::zone::built_in("Europe/Berlin").unwrap();
        let facts = facts(&Origin::Call, &zone);
        let text = template.fill(&facts);
        assert!(template.asks_for_report(&facts) && text.contains("write report.md"), "{text}");
        assert!(text.contains("write question.md"), "{text}");
        for stated in
            ["Saturday, 28 November 2026, 13:00 (Europe/Berlin)", "\"Triage {why}\"", "directly", "1 h 30 min"]
        {
            assert!(text.contains(stated), "{stated}: {text}");
        }
        assert!(!text.replace("Triage {why}", "").contains('{'), "{text}");
    }

    #[test]
    fn an_agent_that_can_write_no_file_reports_in_its_last_message() {
        let zone = TimeZone::UTC;
        let facts = Facts { is_read_only: true, ..facts(&Origin::Call, &zone) };
        let built_in = Template(BUILT_IN.to_owned());
        let text = built_in.fill(&facts);
        assert!(text.contains("Your last message is the report") && !text.contains(REPORT_FILE), "{text}");
        assert!(text.contains("your tool for questions") && !text.contains("question.md"), "{text}");
        for template in [built_in, Template(format!("Write {REPORT_FILE}."))] {
            assert!(!template.asks_for_report(&facts), "{template:?}");
            assert!(template.asks_for_report(&Facts { is_read_only: false, ..facts }), "{template:?}");
        }
        assert_eq!(Template("{report}".into()).fill(&facts), REPORT_IN_MESSAGE);
    }

    #[test]
    fn why_a_run_was_started_is_said_with_how_late_it_is() {
        let why = |origin: &Origin| facts(origin, &TimeZone::UTC).why();
        let on_time = Origin::Schedule { occurrence: UnixSeconds(NOON.0 - 60) };
        assert_eq!(why(&on_time), "it was scheduled for Saturday, 28 November 2026, 11:59");
        let late = Origin::Schedule { occurrence: UnixSeconds(NOON.0 - 8400) };
        assert!(why(&late).ends_with("09:40 and is 2 h 20 min late"), "{}", why(&late));
        let retry = Origin::Retry { of: "a-1".parse().unwrap(), attempt: 2 };
        assert_eq!(why(&retry), "the run a-1 did not succeed; this is attempt 2");
        let reset = |occurrence| Origin::Reset { of: "a-1".parse().unwrap(), attempt: 1, tries: 2, occurrence };
        assert!(why(&reset(None)).starts_with("the run a-1 hit its account's usage limit"), "{}", why(&reset(None)));
        let scheduled = why(&reset(Some(UnixSeconds(NOON.0 - 8400))));
        assert!(scheduled.contains("09:40 and is 2 h 20 min late; the run a-1 hit"), "{scheduled}");
    }

    #[test]
    fn a_file_replaces_the_text_and_an_empty_one_switches_it_off() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let file = home.preamble_file();
        std::fs::write(&file, "Hello {title}; {json}").unwrap();
        let template = Template::read(&home).unwrap().unwrap();
        assert!(!template.asks_for_report(&facts(&Origin::Call, &TimeZone::UTC)));
        assert_eq!(template.fill(&facts(&Origin::Call, &TimeZone::UTC)), "Hello Triage {why}; {json}");
        std::fs::write(&file, " \n").unwrap();
        assert!(Template::read(&home).unwrap().is_none());
        std::fs::write(&file, "x".repeat(10 << 20)).unwrap();
        let error = Template::read(&home).unwrap_err().to_string();
        assert!(error.contains("preamble.md"), "{error}");
    }
}
