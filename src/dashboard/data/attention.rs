//! What needs a person, the worst first, each with its fix.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::content::{Content, Row};
use super::ended::EndedRun;
use super::past::RoutinePast;
use super::questions::OpenQuestion;
use super::routines::RoutineFacts;
use crate::clock::UnixSeconds;
use crate::home::stable_hash;
use crate::janitor::health::Problem;
use crate::query::view::RunView;
use crate::quote::shortened;
use crate::routine::slug::Slug;
use crate::run::disagreement::Disagreement;
use crate::run::hold::Hold;
use crate::run::id::RunId;
use crate::run::question::QuestionKind;

/// Something that needs a person.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Item {
    key: String,
    pub(super) kind: Kind,
    pub(super) severity: Severity,
    pub(super) text: String,
    pub(super) fix: Option<String>,
    pub(super) routine: Option<Slug>,
    pub(super) run: Option<RunId>,
    at: Option<UnixSeconds>,
    /// What to type.
    command: Option<String>,
    action: Option<Action>,
    question: Option<Asks>,
}

/// What a question has besides its first line, as data.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Asks {
    kind: QuestionKind,
    /// All of it, where that is more than its first line.
    text: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
    expires_at: UnixSeconds,
}

/// A call of a tool that helps.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Action {
    label: &'static str,
    tool: &'static str,
    arguments: Value,
}

/// The worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Problem,
    Notice,
}

/// The worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A run waits for an answer.
    Question,
    /// What health reports.
    Problem,
    /// The program has disabled a routine.
    Disabled,
    AsksLogin,
    Unknown,
    Failing,
    Disagreement,
    Missed,
    Hold,
    Budget,
}

/// What is looked through for it.
pub(super) struct Situation<'a> {
    pub(super) now: UnixSeconds,
    /// What health reports; `None` until it has been checked.
    pub(super) problems: Option<&'a [Problem]>,
    /// Why parts of the dashboard cannot be read.
    pub(super) unread: &'a BTreeSet<String>,
    pub(super) questions: Vec<Asking<'a>>,
    pub(super) routines: Vec<(&'a Slug, &'a RoutineFacts, Option<&'a RoutinePast>)>,
    pub(super) unknown: Vec<&'a RunView>,
    /// The newest first.
    pub(super) ended: Vec<(&'a RunId, &'a EndedRun)>,
    pub(super) holds: Vec<&'a Hold>,
    /// That a daily ceiling of the home is reached.
    pub(super) over_budget: Option<String>,
    /// The command of an agent.
    pub(super) command_of: &'a dyn Fn(&str) -> Option<String>,
}

/// An open question, and until when it waits.
pub(super) struct Asking<'a> {
    pub(super) asked: &'a OpenQuestion,
    pub(super) expires_at: UnixSeconds,
}

const MAX_ITEMS: usize = 200;
const MAX_TEXT_CHARS: usize = 500;
const DAY_SECS: u64 = 24 * 60 * 60;
/// From how many failures in a row on a routine is failing.
const FAILING: usize = 2;

impl Item {
    fn new(kind: Kind, severity: Severity, about: &str, text: &str) -> Self {
        let word = serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned));
        Self {
            key: format!("{}:{about}", word.unwrap_or_default()),
            kind,
            severity,
            text: shortened(text, MAX_TEXT_CHARS),
            fix: None,
            routine: None,
            run: None,
            at: None,
            command: None,
            action: None,
            question: None,
        }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    fn of_routine(self, routine: &Slug) -> Self {
        Self { routine: Some(routine.clone()), ..self }
    }

    fn of_run(self, run: &RunId) -> Self {
        Self { run: Some(run.clone()), ..self.of_routine(run.routine()) }
    }

    fn at(self, at: UnixSeconds) -> Self {
        Self { at: Some(at), ..self }
    }

    fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    fn action(self, label: &'static str, tool: &'static str, arguments: Value) -> Self {
        Self { action: Some(Action { label, tool, arguments }), ..self }
    }
}

/// Finds what needs a person.
pub(super) fn attention(situation: &Situation<'_>) -> Vec<Item> {
    let mut items: Vec<Item> = situation.problems().chain(situation.unread()).collect();
    items.extend(situation.questions());
    items.extend(situation.unknown());
    for (slug, facts, past) in &situation.routines {
        items.extend(disabled(slug, facts));
        items.extend(past.and_then(|past| failing(slug, facts, past)));
        items.extend(missed(slug, facts, situation.now));
        items.extend(facts.over_budget.as_ref().map(|over| {
            let item = Item::new(Kind::Budget, Severity::Notice, slug.as_str(), over).of_routine(slug);
            item.fix("runs resume when the day ends").command(format!("moadim-mcp edit {slug}"))
        }));
    }
    items.extend(situation.disagreements());
    items.extend(situation.logins());
    items.extend(situation.holds.iter().map(|hold| of_hold(hold)));
    items.extend(
        situation
            .over_budget
            .as_ref()
            .map(|over| Item::new(Kind::Budget, Severity::Notice, "home", over).fix("runs resume when the day ends")),
    );
    items.sort_unstable_by(|one, other| {
        // Of questions, the one that waits longest is first.
        let asked_at = |item: &Item| item.at.filter(|_| item.kind == Kind::Question);
        let rank = |item: &Item| (item.severity, item.kind, asked_at(item), std::cmp::Reverse(item.at));
        rank(one).cmp(&rank(other)).then_with(|| one.key.cmp(&other.key))
    });
    items.truncate(MAX_ITEMS);
    items
}

/// # Errors
/// It cannot be written as JSON.
pub(super) fn content(items: &[Item], snoozed_until: Option<UnixSeconds>) -> serde_json::Result<Content> {
    #[serde_with::skip_serializing_none]
    #[derive(Serialize)]
    struct Head {
        snoozed_until: Option<UnixSeconds>,
    }
    let rows = items.iter().map(|item| Row::of(item.key.as_str(), item)).collect::<Result<_, _>>()?;
    Content::of(rows).with_head(&Head { snoozed_until })
}

impl Situation<'_> {
    fn problems(&self) -> impl Iterator<Item = Item> {
        // Unknown runs have items of their own.
        let is_of_run =
            |problem: &&Problem| self.unknown.iter().any(|run| problem.path.as_deref() == Some(run.workbench.as_str()));
        let problems = self.problems.into_iter().flatten().filter(move |problem| !is_of_run(problem));
        let items = problems.map(|Problem { path, problem, fix }| {
            let about = stable_hash(format!("{} {problem}", path.as_deref().unwrap_or_default()).as_bytes());
            let text = match path {
                Some(path) if !problem.contains(path.as_str()) => format!("{path}: {problem}"),
                _ => problem.clone(),
            };
            Item::new(Kind::Problem, Severity::Problem, &format!("{about:016x}"), &text).fix(fix.as_str())
        });
        let checking = self.problems.is_none().then(|| {
            Item::new(Kind::Problem, Severity::Notice, "checking", "the home's health is still being checked")
                .fix("look again in a few seconds")
        });
        items.chain(checking)
    }

    fn unread(&self) -> impl Iterator<Item = Item> {
        let item = |error: &String| {
            let about = format!("{:016x}", stable_hash(error.as_bytes()));
            Item::new(Kind::Problem, Severity::Problem, &about, error)
                .fix("make it readable; the rest is shown as it was last read")
        };
        self.unread.iter().map(item)
    }

    fn questions(&self) -> impl Iterator<Item = Item> {
        self.questions.iter().map(|Asking { asked: OpenQuestion { run, agent, question, asked_at }, expires_at }| {
            let headline = question.headline();
            let item =
                Item::new(Kind::Question, Severity::Problem, &run.to_string(), &headline).of_run(run).at(*asked_at);
            let (fix, command) = match question.kind {
                QuestionKind::Decision => {
                    (format!("it goes on with the answer; in a terminal: moadim-mcp answer {run}"), None)
                }
                QuestionKind::Login => {
                    ("log in once in a terminal, then let it go on".to_owned(), (self.command_of)(agent))
                }
            };
            let asks = Asks {
                kind: question.kind,
                text: (question.text != headline).then(|| question.text.clone()),
                options: question.options.clone(),
                expires_at: *expires_at,
            };
            Item { command, question: Some(asks), ..item.fix(fix) }
        })
    }

    fn unknown(&self) -> impl Iterator<Item = Item> {
        self.unknown.iter().map(|run| {
            let reason = run.status_reason.as_deref().unwrap_or("no cause is on record");
            let text = format!("the state of run {} is not known: {reason}", run.id);
            let item = Item::new(Kind::Unknown, Severity::Problem, &run.id.to_string(), &text).of_run(&run.id);
            let is_of_run = |problem: &&Problem| problem.path.as_deref() == Some(run.workbench.as_str());
            match self.problems.into_iter().flatten().find(is_of_run) {
                Some(problem) => item.fix(problem.fix.as_str()),
                None => item.fix("look at its workbench and its log").command(format!("moadim-mcp show {}", run.id)),
            }
        })
    }

    fn disagreements(&self) -> impl Iterator<Item = Item> {
        let since = UnixSeconds(self.now.0.saturating_sub(DAY_SECS));
        let recent =
            self.ended.iter().filter(move |(_, run)| run.finished_at >= since && !run.disagreements.is_empty());
        recent.map(|(id, run)| {
            let is_refuted = run.disagreements.contains(&Disagreement::VerificationFailed);
            let severity = if is_refuted { Severity::Problem } else { Severity::Notice };
            let text = format!("run {id}: {}", run.reason.as_deref().unwrap_or("its facts contradict each other"));
            let item = Item::new(Kind::Disagreement, severity, &id.to_string(), &text).of_run(id).at(run.finished_at);
            item.fix("look at its log and its report before you trust it").command(format!("moadim-mcp show {id}"))
        })
    }

    /// Reports agents whose newest run asked for a login, unless an open question says so.
    fn logins(&self) -> Vec<Item> {
        let mut agents = BTreeSet::new();
        let newest =
            self.ended.iter().filter(|(_, run)| !run.status.never_had_agent() && agents.insert(run.agent.as_str()));
        let is_said = |(id, run): &(&RunId, &EndedRun)| {
            let says = |asked: &OpenQuestion| {
                asked.run == **id || (asked.question.kind == QuestionKind::Login && asked.agent == run.agent)
            };
            self.questions.iter().any(|Asking { asked, .. }| says(asked))
        };
        let asks = newest.filter(|newest| newest.1.needs_login && !is_said(newest));
        let item = |(id, run): &(&RunId, &EndedRun)| {
            let text = format!("agent '{}' asks for a login", run.agent);
            let item = Item::new(Kind::AsksLogin, Severity::Problem, &run.agent, &text).of_run(id).at(run.finished_at);
            let item = item.fix("log in once in a terminal; its next run shows whether that was enough");
            Item { command: (self.command_of)(&run.agent), ..item }
        };
        asks.map(item).collect()
    }
}

fn disabled(slug: &Slug, facts: &RoutineFacts) -> Option<Item> {
    let because = facts.disabled_because.as_ref()?;
    let text = format!("'{}' was disabled: {because}", facts.title);
    let item = Item::new(Kind::Disabled, Severity::Problem, slug.as_str(), &text).of_routine(slug);
    let item = item.fix("find out why its runs fail, then enable it");
    Some(item.action("Enable", "update_routine", json!({ "routine": slug, "enabled": true })))
}

fn failing(slug: &Slug, facts: &RoutineFacts, past: &RoutinePast) -> Option<Item> {
    let failed = past.failed_in_a_row().count();
    if failed < FAILING || !facts.enabled {
        return None;
    }
    let newest = &past.failed_in_a_row().next()?.id;
    let at_least = if failed == past.recent.len() && failed > FAILING { "at least " } else { "" };
    let text = format!("{at_least}the last {failed} runs of '{}' failed", facts.title);
    let item = Item::new(Kind::Failing, Severity::Problem, slug.as_str(), &text).of_run(newest).at(newest.stamp());
    let item = item.fix("read the log of its newest run, then change the routine or run it again");
    let item = item.command(format!("moadim-mcp logs {newest}"));
    Some(item.action("Run again", "trigger_routine", json!({ "routine": slug })))
}

fn missed(slug: &Slug, facts: &RoutineFacts, now: UnixSeconds) -> Option<Item> {
    let missed = facts.last_missed.as_ref()?;
    if missed.as_asked || missed.occurrence.age_secs_at(now) > DAY_SECS || !facts.enabled {
        return None;
    }
    let text = format!("'{}' did not fire at {}: {}", facts.title, missed.occurrence, missed.reason);
    let item = Item::new(Kind::Missed, Severity::Notice, slug.as_str(), &text).of_routine(slug).at(missed.occurrence);
    let item = item.fix("run it now, or wait for its next fire");
    Some(item.action("Run now", "trigger_routine", json!({ "routine": slug })))
}

fn of_hold(hold: &Hold) -> Item {
    let text = format!("agent '{}' waits until {}: {}", hold.agent, hold.held_until, hold.in_words());
    let item = Item::new(Kind::Hold, Severity::Notice, &hold.agent, &text).at(hold.held_until);
    item.fix("nothing to do: its scheduled runs start by themselves at that time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::data::past::RecentRun;
    use crate::routine::bounds::{Bounds, RoutineState};
    use crate::routine::ledger::LastMissed;
    use crate::run::context::App;
    use crate::run::question::Question;
    use crate::run::record::Outcome;
    use crate::run::status::Status;

    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    fn slug(text: &str) -> Slug {
        text.parse().unwrap()
    }

    fn past(statuses: &[Status]) -> RoutinePast {
        let run = |(n, status): (usize, &Status)| RecentRun {
            id: RunId::new(slug("a"), UnixSeconds(NOW.0 + n as u64)),
            status: *status,
            duration_secs: None,
        };
        RoutinePast { recent: statuses.iter().enumerate().map(run).collect(), ..RoutinePast::default() }
    }

    fn ended(id: &str, status: Status) -> (RunId, EndedRun) {
        let run = EndedRun::of(Outcome::example(id, status));
        (id.parse().unwrap(), EndedRun { finished_at: NOW, ..run })
    }

    fn calm() -> Situation<'static> {
        Situation {
            now: NOW,
            problems: Some(&[]),
            unread: const { &BTreeSet::new() },
            questions: Vec::new(),
            routines: Vec::new(),
            unknown: Vec::new(),
            ended: Vec::new(),
            holds: Vec::new(),
            over_budget: None,
            command_of: &|agent| Some(agent.to_owned()),
        }
    }

    fn kinds(situation: &Situation<'_>) -> Vec<Kind> {
        attention(situation).iter().map(|item| item.kind).collect()
    }

    #[test]
    fn a_routine_is_failing_from_two_failures_on_whatever_came_between() {
        use Status::{Failed, Interrupted, Limited, Skipped, Stopped, Succeeded, TimedOut};
        let (a, facts) = (slug("a"), RoutineFacts::example("A"));
        for (statuses, failed) in [
            (&[][..], 0),
            (&[Failed], 0),
            (&[Failed, Succeeded], 0),
            (&[Failed, Failed, Succeeded], 0),
            (&[Succeeded, Failed, TimedOut], 2),
            (&[Failed, Stopped, Interrupted, Limited, Skipped], 0),
            (&[Failed, Stopped, Failed, Interrupted, Limited, Skipped], 2),
            (&[Succeeded, Failed, Failed, Failed], 3),
        ] {
            let past = past(statuses);
            let item = failing(&a, &facts, &past);
            assert_eq!(item.is_some(), failed > 0, "{statuses:?}");
            if let Some(item) = item {
                assert!(item.text.contains(&format!("last {failed} runs of 'A'")), "{}", item.text);
                assert_eq!(item.action.unwrap().arguments, json!({ "routine": "a" }));
            }
        }
        let many = failing(&a, &facts, &past(&[Failed; 3])).unwrap();
        assert!(many.text.contains("at least the last 3 runs"), "older ones may have failed, too: {}", many.text);
        let disabled = RoutineFacts { enabled: false, ..facts };
        assert_eq!(failing(&a, &disabled, &past(&[Failed, Failed])), None, "nobody wants it to run");
    }

    #[test]
    fn a_fire_that_was_missed_on_purpose_or_long_ago_needs_nobody() {
        let a = slug("a");
        let missed_at = |ago: u64, as_asked| {
            let occurrence = UnixSeconds(NOW.0 - ago);
            let last_missed = Some(LastMissed { occurrence, reason: "nothing fired it".into(), as_asked });
            missed(&a, &RoutineFacts { last_missed, ..RoutineFacts::example("A") }, NOW)
        };
        assert!(missed_at(DAY_SECS, false).is_some());
        assert_eq!((missed_at(DAY_SECS + 1, false), missed_at(10, true)), (None, None));
    }

    #[test]
    fn only_what_an_agents_newest_run_asked_for_counts() {
        let asks = |id: &str, agent: &str, needs_login| {
            let (id, run) = ended(id, Status::Failed);
            (id, EndedRun { agent: agent.into(), needs_login, ..run })
        };
        let newest_first = [asks("a-9", "claude", false), asks("b-8", "codex", true), asks("a-7", "claude", true)];
        let situation = Situation { ended: newest_first.iter().map(|(id, run)| (id, run)).collect(), ..calm() };
        let items = attention(&situation);
        assert_eq!(items.len(), 1, "{items:?}");
        assert_eq!((items[0].key.as_str(), items[0].command.as_deref()), ("asks_login:codex", Some("codex")));
    }

    fn open_question(run: &str, kind: QuestionKind, text: &str) -> OpenQuestion {
        let question = Question { kind, text: text.into(), options: vec!["Yes".into()] };
        OpenQuestion { run: run.parse().unwrap(), agent: "claude".into(), question, asked_at: UnixSeconds(500) }
    }

    fn asking(asked: &OpenQuestion) -> Asking<'_> {
        Asking { asked, expires_at: UnixSeconds(NOW.0 + 60) }
    }

    #[test]
    fn open_questions_come_first_however_old_they_are() {
        let long = format!("# Which database?\n\n{}\n- Yes\n", "</script> \u{5d0} ".repeat(200));
        let asked = [
            open_question("a-400", QuestionKind::Decision, &long),
            open_question("b-400", QuestionKind::Decision, "Go on?"),
        ];
        let problems = [Problem { path: None, problem: "it is damaged".into(), fix: "fix it".into() }];
        let situation =
            Situation { problems: Some(&problems), questions: asked.iter().map(asking).collect(), ..calm() };
        assert_eq!(kinds(&situation), [Kind::Question, Kind::Question, Kind::Problem]);
        let items = attention(&situation);
        let [one, other] = [0, 1].map(|n| serde_json::to_value(&items[n]).unwrap());
        assert_eq!((&one["key"], &one["text"]), (&json!("question:a-400"), &json!("Which database?")));
        assert_eq!(
            (&one["run"], &one["severity"], &one["command"]),
            (&json!("a-400"), &json!("problem"), &Value::Null)
        );
        assert_eq!(one["at"], json!(UnixSeconds(500)));
        let whole =
            json!({ "kind": "decision", "text": long, "options": ["Yes"], "expires_at": UnixSeconds(NOW.0 + 60) });
        assert_eq!(one["question"], whole);
        assert!(one["fix"].as_str().unwrap().contains("moadim-mcp answer a-400"), "{one}");
        assert_eq!((&other["text"], other["question"].get("text")), (&json!("Go on?"), None), "it is said once");
    }

    #[test]
    fn a_login_is_asked_for_once() {
        let login = open_question("a-7", QuestionKind::Login, "Log claude in.\n\nclaude said: run /login");
        let decision = open_question("c-6", QuestionKind::Decision, "Which account?");
        let asks = |id: &str, agent: &str| {
            let (id, run) = ended(id, Status::Asked);
            (id, EndedRun { agent: agent.into(), needs_login: true, ..run })
        };
        let ended = [asks("b-9", "claude"), asks("a-7", "claude"), asks("c-6", "codex"), asks("d-5", "gemini")];
        let situation = Situation {
            questions: [&login, &decision].map(asking).into(),
            ended: ended.iter().map(|(id, run)| (id, run)).collect(),
            ..calm()
        };
        let items = attention(&situation);
        let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, ["question:a-7", "question:c-6", "asks_login:gemini"]);
        assert_eq!((items[0].command.as_deref(), items[1].command.as_deref()), (Some("claude"), None));
    }

    #[test]
    fn the_worst_comes_first_and_each_has_a_key_of_its_own() {
        let problem = |path: &str, problem: &str| Problem {
            path: Some(path.into()),
            problem: problem.into(),
            fix: "fix it".into(),
        };
        let problems = [problem("/h/config.toml", "/h/config.toml is damaged"), problem("/h/x", "it is too large")];
        let disabled =
            RoutineFacts { enabled: false, disabled_because: Some("3 failed".into()), ..RoutineFacts::example("D") };
        let over = RoutineFacts { over_budget: Some("daily ceiling reached".into()), ..RoutineFacts::example("O") };
        let last_missed = LastMissed { occurrence: NOW, reason: "nothing fired it".into(), as_asked: false };
        let missed = RoutineFacts { last_missed: Some(last_missed), ..RoutineFacts::example("M") };
        let (d, m, o) = (slug("d"), slug("m"), slug("o"));
        let (_dir, app) = App::example();
        let context = app.context_for_looking();
        let bounds = Bounds::decide(RoutineState::Gone, &context.config);
        let unknown = RunView::of_finished(&context, &"u-7".parse().unwrap(), &bounds);
        let refuted = {
            let (id, run) = ended("r-5", Status::Failed);
            (id, EndedRun { disagreements: vec![Disagreement::VerificationFailed], ..run })
        };
        let denied = {
            let (id, run) = ended("s-6", Status::Succeeded);
            (id, EndedRun { disagreements: vec![Disagreement::CallsDenied], ..run })
        };
        let situation = Situation {
            problems: Some(&problems),
            unread: &BTreeSet::from(["cannot list /h/running".to_owned()]),
            unknown: vec![&unknown],
            routines: vec![(&m, &missed, None), (&o, &over, None), (&d, &disabled, None)],
            ended: vec![(&denied.0, &denied.1), (&refuted.0, &refuted.1)],
            over_budget: Some("daily ceiling reached".into()),
            ..calm()
        };
        use Kind::{Budget, Disabled, Disagreement as Facts, Missed, Problem as Of, Unknown};
        assert_eq!(kinds(&situation), [Of, Of, Of, Disabled, Unknown, Facts, Facts, Missed, Budget, Budget]);
        let items = attention(&situation);
        assert!(items[..6].iter().all(|item| item.severity == Severity::Problem));
        assert!(items.iter().all(|item| item.fix.is_some()), "{items:?}");
        let keys: BTreeSet<&str> = items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys.len(), items.len());
        let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
        assert!(texts.contains(&"/h/x: it is too large") && texts.contains(&"/h/config.toml is damaged"), "{texts:?}");
        assert!(attention(&calm()).is_empty());
        let unchecked = attention(&Situation { problems: None, ..calm() });
        assert_eq!((unchecked.len(), unchecked[0].severity), (1, Severity::Notice), "not that all is well");
    }
}
