//! What a run asks a person: its `question.md`, or a login that its agent lacks.

pub mod state;

use std::io::Read;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::workbench::Workbench;
use crate::agent::output::{AskedQuestion, FinalEvent, Needs, Summary, one_line, plain};
use crate::home::atomic_file;

/// The file at the top of a workbench.
pub(crate) const QUESTION_FILE: &str = "question.md";

/// How much of a question is kept.
const MAX_TEXT_BYTES: usize = 4 * 1024;
const MAX_OPTIONS: usize = 20;
const MAX_OPTION_CHARS: usize = 200;
const MAX_HEADLINE_CHARS: usize = 200;

/// What a person has to decide or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// Its agent wants a decision.
    Decision,
    /// Its agent is not logged in.
    Login,
}

/// A question that a run ended with. Its words are the agent's, and data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// What is asked for.
    pub kind: QuestionKind,
    /// Its beginning: at most 4 KiB. The first line is the question itself.
    pub text: String,
    /// Answers to choose from; others are as good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Question {
    /// Reads a question as an agent writes it; `None` if it says nothing.
    fn parse(text: &str) -> Option<Self> {
        let text = plain(text);
        text.chars().any(char::is_alphanumeric).then(|| {
            let text = text.trim();
            // They stand at the end, which may not be kept.
            let options = options_in(text);
            Self { kind: QuestionKind::Decision, text: kept(text), options }
        })
    }

    fn of_tool(asked: AskedQuestion) -> Self {
        Self { kind: QuestionKind::Decision, text: asked.text, options: asked.options }
    }

    /// Says that an agent is not logged in, in its own words if it had any.
    fn login(agent: &str, words: Option<&str>) -> Self {
        let words = words.map_or_else(String::new, |words| format!("\n\n{agent} said: {words}"));
        let text =
            format!("Log {agent} in on the machine of this run, or give it a key; then let the run go on.{words}");
        Self { kind: QuestionKind::Login, text, options: Vec::new() }
    }

    /// Returns its first line that says something.
    pub fn headline(&self) -> String {
        let words = |line: &str| line.trim_start_matches(['#', '*', '>', ' ', '\t']).trim_end().to_owned();
        let said = self.text.lines().map(words).find(|line| line.chars().any(char::is_alphanumeric));
        one_line(&said.unwrap_or_default(), MAX_HEADLINE_CHARS)
    }

    /// Says that it was asked, for the reason of its run; its agent's own words say most of why it lacks a login.
    pub(crate) fn in_words(&self, last_words: Option<&str>) -> String {
        let headline = self.headline();
        match self.kind {
            QuestionKind::Decision => format!("it asks: {headline}"),
            QuestionKind::Login => format!("its agent is not logged in: {}", last_words.unwrap_or(&headline)),
        }
    }

    /// Bounds its texts as if they had just been read: others may have written the file that it comes from.
    pub(crate) fn in_plain_words(self) -> Self {
        let text = plain(&self.text);
        let options = self.options.into_iter().take(MAX_OPTIONS);
        Self {
            text: text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned(),
            options: options.map(|option| one_line(&option, MAX_OPTION_CHARS)).collect(),
            ..self
        }
    }
}

/// The end of a text that is too long.
const CUT: &str = "\n… (question.md in the workbench has all of it)";

/// Returns as much of a text as is kept.
fn kept(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    text[..text.floor_char_boundary(MAX_TEXT_BYTES - CUT.len())].to_owned() + CUT
}

/// Returns the items of the last list in a text: what comes before may be lists of another kind.
fn options_in(text: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut is_within = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // What is indented belongs to the item before it.
        if is_within && line.starts_with([' ', '\t']) {
            continue;
        }
        let item = list_item(line);
        if item.is_some() && !is_within {
            options.clear();
        }
        is_within = item.is_some();
        options.extend(item.map(|item| one_line(item, MAX_OPTION_CHARS)));
    }
    options.truncate(MAX_OPTIONS);
    options
}

/// Returns what stands behind the mark of a list's item.
fn list_item(line: &str) -> Option<&str> {
    let numbered = || {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        let mark_chars = line.len() - rest.len();
        let rest = rest.strip_prefix(['.', ')'])?;
        let mark = &line[..mark_chars];
        let is_mark =
            mark.len() <= 2 && !mark.is_empty() && (mark.len() == 1 || mark.bytes().all(|b| b.is_ascii_digit()));
        is_mark.then_some(rest)
    };
    let rest = line.strip_prefix(['-', '*', '+']).or_else(numbered)?;
    let item = rest.strip_prefix([' ', '\t'])?.trim();
    item.chars().any(char::is_alphanumeric).then_some(item)
}

/// Reads the question in a workbench; `None` if there is none that says anything. No symlink is followed, and no fifo waited for.
fn read_question(workbench: &Workbench) -> Option<Question> {
    // What is stripped may be longer than what stays.
    const READ_BYTES: u64 = 4 * MAX_TEXT_BYTES as u64;
    let mut bytes = Vec::new();
    let file = atomic_file::open_regular(&workbench.question_file()).ok()?;
    file.take(READ_BYTES).read_to_end(&mut bytes).ok()?;
    Question::parse(&String::from_utf8_lossy(&bytes))
}

/// Returns what a run asks whose agent ended by itself: what its own tool asked, else its `question.md`, else a login without which
/// it could not work.
pub(crate) fn question_of(workbench: &Workbench, agent: &str, summary: Option<&Summary>) -> Option<Question> {
    let lacks_login =
        |summary: &&Summary| summary.needs == Some(Needs::Login) && summary.ended != Some(FinalEvent::Succeeded);
    let login = summary.filter(lacks_login).map(|summary| Question::login(agent, summary.last_words.as_deref()));
    let asked = summary.and_then(|summary| summary.question.clone()).map(Question::of_tool);
    asked.or_else(|| read_question(workbench)).or(login)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use proptest::prelude::*;

    fn workbench() -> (tempfile::TempDir, Workbench) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        workbench.make().unwrap();
        (dir, workbench)
    }

    fn asked(content: impl AsRef<[u8]>) -> Option<Question> {
        let (_dir, workbench) = workbench();
        std::fs::write(workbench.question_file(), content).unwrap();
        question_of(&workbench, "sh", None)
    }

    #[test]
    fn a_question_is_its_first_line_its_context_and_the_last_list() {
        let question = asked(
            "# Which database?\n\nBoth were found:\n- one in CI\n- one here\n\nChoose:\n\n1. Postgres\n   as now\n2) SQLite\n",
        )
        .unwrap();
        assert_eq!(question.headline(), "Which database?");
        assert_eq!(question.options, ["Postgres", "SQLite"]);
        assert!(question.text.contains("one in CI") && question.kind == QuestionKind::Decision);
        assert_eq!(asked("Go on?").unwrap().options, [""; 0]);
        assert_eq!(asked("Go on?\n- yes\n\n- no").unwrap().options, ["yes", "no"]);
        assert_eq!(asked("Which?\na) one\nb) two\nI.e. this\n10. ten").unwrap().options, ["ten"]);
        for nothing in ["", "\n \n", "---\n", "\u{1b}[31m"] {
            assert_eq!(asked(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_long_question_keeps_its_options_and_says_that_it_was_cut() {
        let long = asked(format!("Which?\n\n{}\n\n- Postgres\n- SQLite\n", "Ω".repeat(MAX_TEXT_BYTES))).unwrap();
        assert_eq!(long.options, ["Postgres", "SQLite"]);
        assert!(long.text.len() <= MAX_TEXT_BYTES && long.text.ends_with(CUT), "{}", long.text);
        assert_eq!(long.clone().in_plain_words(), long);
    }

    #[test]
    fn a_hostile_question_is_bounded_and_controls_nothing() {
        let long = asked(format!("é?\n{}", "- x\n".repeat(3 << 20))).unwrap();
        assert!(long.text.len() <= MAX_TEXT_BYTES && long.options.len() == MAX_OPTIONS);
        let odd = asked(b"\x1b]0;title\x07a?\x1b[31m\xff\xe2\x80\xae\x00\n- \x1b[2Jno\n").unwrap();
        let all = odd.text.clone() + &odd.options.concat() + &odd.headline();
        assert!(!all.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{all:?}");
        let forged = Question { options: vec!["o\n".repeat(9000); 900], ..odd }.in_plain_words();
        assert!(forged.options.len() == MAX_OPTIONS && forged.options[0].lines().count() == 1);
    }

    #[test]
    fn what_is_no_file_is_no_question() {
        let (dir, workbench) = workbench();
        let path = workbench.question_file();
        let read = || question_of(&workbench, "sh", None);
        assert_eq!(read(), None);
        std::fs::write(dir.path().join("secret"), "secret?").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), &path).unwrap();
        assert_eq!(read(), None, "a symlink");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read(), None, "a directory");
        std::fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(read(), None, "a fifo");
    }

    #[test]
    fn an_agent_that_is_not_logged_in_asks_for_that() {
        let (_dir, workbench) = workbench();
        let summary = Summary {
            needs: Some(Needs::Login),
            ended: Some(FinalEvent::Failed),
            last_words: Some("Please run /login".into()),
            ..Summary::default()
        };
        let of = |summary: &Summary| question_of(&workbench, "claude", Some(summary));
        let question = of(&summary).unwrap();
        assert_eq!(question.kind, QuestionKind::Login);
        assert!(question.text.contains("claude said: Please run /login"), "{}", question.text);
        assert_eq!(of(&Summary { ended: Some(FinalEvent::Succeeded), ..summary.clone() }), None);
        assert_eq!(of(&Summary { needs: Some(Needs::Money), ..summary.clone() }), None);
        std::fs::write(workbench.question_file(), "Which account?").unwrap();
        assert_eq!(of(&summary).unwrap().kind, QuestionKind::Decision, "its own words say more");
    }

    proptest! {
        #[test]
        fn what_was_read_is_plain_already(text in "\\PC{0,200}(\n[-*1] \\PC{0,30}){0,5}") {
            if let Some(question) = Question::parse(&text) {
                prop_assert_eq!(question.clone().in_plain_words(), question);
            }
        }
    }
}
