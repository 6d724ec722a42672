//! `report.md`: what an agent says that it did, in its own words.

use std::io::Read;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::workbench::Workbench;
use crate::agent::AgentCommand;
use crate::agent::output::{FinalEvent, Summary, one_line, plain};
use crate::home::atomic_file;
use crate::options::{PERMISSIONS, Permissions};

/// The file at the top of a workbench.
pub(crate) const REPORT_FILE: &str = "report.md";

const MAX_HEADLINE_CHARS: usize = 200;
/// How much of it the history keeps.
const MAX_TEXT_BYTES: usize = 4 * 1024;
/// How much of it a look at the run itself shows.
const MAX_SHOWN_BYTES: usize = 32 * 1024;

/// What a run's agent says that it did. It is the agent's word, and data.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Report {
    /// Its first line, at most 200 characters.
    pub headline: String,
    /// Its beginning: at most 4 KiB, or 32 KiB in `get_run` while the file is there or in the archive.
    pub text: Option<String>,
    /// Whether the file says more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

impl Report {
    /// Leaves out what is long.
    pub fn in_brief(self) -> Self {
        Self { text: None, ..self }
    }

    /// Bounds its texts as if they had just been read: others may have written the file that it comes from.
    pub fn in_plain_words(self) -> Self {
        let Self { headline, text, is_cut } = self;
        let (text, is_longer) = text.map_or((None, false), |text| {
            let (text, is_longer) = beginning(&plain(&text), MAX_TEXT_BYTES);
            (Some(text), is_longer)
        });
        Self { headline: one_line(&headline, MAX_HEADLINE_CHARS), text, is_cut: is_cut || is_longer }
    }

    fn of(text: &str, is_longer: bool, max_bytes: usize) -> Option<Self> {
        let text = plain(text);
        let words = |line: &str| line.trim_start_matches(['#', '*', '-', '>', ' ', '\t']).trim_end().to_owned();
        let headline = text.lines().map(words).find(|line| line.chars().any(char::is_alphanumeric))?;
        let (beginning, is_cut) = beginning(&text, max_bytes);
        let headline = one_line(&headline, MAX_HEADLINE_CHARS);
        Some(Self { headline, text: Some(beginning), is_cut: is_cut || is_longer })
    }
}

fn beginning(text: &str, max_bytes: usize) -> (String, bool) {
    let text = text.trim();
    let end = text.floor_char_boundary(max_bytes);
    (text[..end].to_owned(), end < text.len())
}

/// Reads the report in a workbench; `None` if there is none that says anything. No symlink is followed, and no fifo waited for.
pub(crate) fn read_report(workbench: &Workbench) -> Option<Report> {
    read(&workbench.report_file(), MAX_TEXT_BYTES)
}

/// Returns the report of a run: its `report.md`, or the last message of an agent that could write no file and ended well.
pub(crate) fn report_of(workbench: &Workbench, command: &AgentCommand, summary: Option<&Summary>) -> Option<Report> {
    let level = command.options.get(PERMISSIONS).and_then(|level| Permissions::of_name(&level.0));
    let ended_well = |summary: &&Summary| summary.ended == Some(FinalEvent::Succeeded);
    let message = summary.filter(ended_well).and_then(|summary| summary.result.as_ref());
    let message = message.filter(|_| level == Some(Permissions::ReadOnly));
    read_report(workbench).or_else(|| Report::of(message?, false, MAX_TEXT_BYTES))
}

/// Reads as much as is shown of the report in a file, if it is still the one that was recorded.
pub(crate) fn read_more(file: &Path, recorded: &Report) -> Option<Report> {
    read(file, MAX_SHOWN_BYTES).filter(|report| report.headline == recorded.headline)
}

fn read(file: &Path, max_bytes: usize) -> Option<Report> {
    // What is stripped may be longer than what stays.
    let read_bytes = 4 * max_bytes;
    let mut bytes = Vec::new();
    atomic_file::open_regular(file).ok()?.take(read_bytes as u64).read_to_end(&mut bytes).ok()?;
    Report::of(&String::from_utf8_lossy(&bytes), bytes.len() == read_bytes, max_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::options::OptionValue;

    fn report(content: impl AsRef<[u8]>) -> Option<Report> {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        workbench.make().unwrap();
        std::fs::write(workbench.report_file(), content).unwrap();
        read_report(&workbench)
    }

    #[test]
    fn the_headline_is_the_first_line_that_says_something() {
        for (text, headline) in [
            ("# Two issues were closed.\n\nDetails.", "Two issues were closed."),
            ("\n---\n\n* **One** thing\n", "One** thing"),
            ("no heading", "no heading"),
        ] {
            let report = report(text).unwrap();
            assert_eq!(
                (report.headline.as_str(), report.text.as_deref(), report.is_cut),
                (headline, Some(text.trim()), false)
            );
        }
        for nothing in ["", "\n\n", "---\n***\n", "\u{1b}[31m\n"] {
            assert_eq!(report(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_hostile_report_is_bounded_and_controls_nothing() {
        let long = report("é".repeat(1 << 20)).unwrap();
        assert!(long.is_cut && long.text.unwrap().len() <= MAX_TEXT_BYTES && long.headline.chars().count() <= 200);
        let odd = report(b"\x1b]0;title\x07a\x1b[31m red \xff\xfe\xe2\x80\xae\nb\x00c").unwrap();
        let all = odd.headline.clone() + &odd.text.unwrap();
        assert!(!all.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{all:?}");
        assert_eq!(
            Report { headline: "x\ny".repeat(900), ..Report::default() }.in_plain_words().headline.lines().count(),
            1
        );
    }

    #[test]
    fn the_last_message_is_the_report_of_an_agent_that_could_write_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        workbench.make().unwrap();
        let command = |level: &str| AgentCommand {
            options: [(PERMISSIONS.to_owned(), OptionValue(level.to_owned()))].into(),
            ..AgentCommand::default()
        };
        let summary = Summary {
            result: Some("# All is well.\n\nNothing to do.".into()),
            ended: Some(FinalEvent::Succeeded),
            ..Summary::default()
        };
        let headline = |level: &str, summary: Option<&Summary>| {
            report_of(&workbench, &command(level), summary).map(|report| report.headline)
        };
        assert_eq!(headline("read-only", Some(&summary)).as_deref(), Some("All is well."));
        assert_eq!(headline("files", Some(&summary)), None, "it could have written one");
        assert_eq!(headline("read-only", None), None);
        let unfinished = Summary { ended: None, so_far: true, ..summary.clone() };
        assert_eq!(headline("read-only", Some(&unfinished)), None, "it was to say more");
        std::fs::write(workbench.report_file(), "Written.").unwrap();
        assert_eq!(headline("read-only", Some(&summary)).as_deref(), Some("Written."));
    }

    #[test]
    fn what_is_no_file_is_no_report() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        workbench.make().unwrap();
        let path = workbench.report_file();
        assert_eq!(read_report(&workbench), None);
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), &path).unwrap();
        assert_eq!(read_report(&workbench), None, "a symlink");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read_report(&workbench), None, "a directory");
        std::fs::remove_dir(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        assert_eq!(read_report(&workbench), None, "1 GiB of nothing");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(read_report(&workbench), None, "a fifo");
    }
}
