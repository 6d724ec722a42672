//! Runs that end with a question, and people who answer them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use moadim_mcp::clock::UnixSeconds;
use moadim_mcp::run::record::RECORD_VERSION;
use serde_json::{Value, json};

use super::calls::text;
use super::commands::Answer;
use super::home::TestHome;
use super::scene::Scene;
use super::server::Server;
use super::{PATIENCE, wait_for, wait_until};

/// A prompt that works and asks. Once it is answered it goes on with its work, notes the answer, and is over.
pub const ASKS: &str = "\
if [ -e answer.md ]; then
  [ -e work.txt ] || exit 9
  cat answer.md >> answers; echo answered; exit
fi
echo work >> work.txt
printf 'Which database?\\n\\n- Postgres\\n- SQLite\\n' > question.md
";

/// The same, but it asks again unless the answer is `done`.
pub const ASKS_UNTIL_DONE: &str = "\
if [ -e answer.md ]; then [ -e work.txt ] || exit 9; cat answer.md >> answers; fi
echo work >> work.txt; echo \"this is $MOADIM_RUN\"
[ \"$(cat answer.md)\" = done ] && exit 0
printf 'What now?\\n' > question.md
";

/// The same as [`ASKS`], but once it is answered it stays.
pub const ASKS_AND_STAYS: &str = "\
if [ -e answer.md ]; then
  [ -e work.txt ] || exit 9
  [ \"$(cat answer.md)\" = stay ] && { sleep 300 & exec sleep 301; }
  exit 0
fi
echo work >> work.txt
echo 'Which?' > question.md
";

impl Scene {
    /// One whose agent `shell` is a plain `sh`, with these settings.
    pub fn asking(config: &str) -> Self {
        Self::new().config(config).agent("shell", "login_shell = false")
    }
}

impl TestHome {
    /// Runs `answer` for a run, and returns what it said.
    pub fn answer(&self, run: &str, text: &str) -> Answer {
        self.moadim(&["answer", run, text])
    }

    /// Answers a run, which must be taken; returns the run that goes on.
    #[track_caller]
    pub fn go_on(&self, run: &str, text: &str) -> String {
        self.answer(run, text).ok().trim().to_owned()
    }

    /// Returns a command that answers, for a process that is killed.
    pub fn answering(&self, run: &str, text: &str) -> Command {
        let mut command = self.command();
        command.args(["answer", run, text]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Returns the lines of the history about the question of a run.
    pub fn question_lines(&self, run: &str) -> Vec<Value> {
        let lines = self.readable_history();
        lines.into_iter().filter(|line| line["kind"] == "question" && line["run"] == run).collect()
    }

    /// Returns the runs in the history that continue a run.
    pub fn continued_by(&self, run: &str) -> Vec<String> {
        let lines = self.readable_history();
        lines.iter().filter(|line| line["continues"] == run).map(|line| text(&line["id"])).collect()
    }

    pub fn close_file(&self, run: &str) -> PathBuf {
        self.root().join("questions").join(format!("{run}.json"))
    }

    /// Returns the file that is there until all has been done that follows from a question.
    pub fn mark_file(&self, run: &str) -> PathBuf {
        self.root().join("questions/open").join(format!("{run}.json"))
    }

    pub fn continuation_file(&self, run: &str) -> PathBuf {
        self.root().join("continuations").join(format!("{run}.json"))
    }

    /// Writes an answer down as a process does that dies right after.
    pub fn leave_answer(&self, run: &str, answer: &str) {
        let close = json!({
            "version": RECORD_VERSION, "run": run, "state": "answered", "text": answer, "by": "a test",
            "at": UnixSeconds::now(),
        });
        self.write(format!("questions/{run}.json"), &close.to_string());
    }

    /// Writes down that another run continues this one, as a process does that dies before it claims that run.
    pub fn leave_continuation(&self, run: &str, next: &str, workbench: &str) {
        let record = json!({
            "version": RECORD_VERSION, "run": next, "continues": run, "workbench": workbench, "at": "2026-01-01T00:00:00Z",
        });
        self.write(format!("continuations/{run}.json"), &record.to_string());
        std::os::unix::fs::symlink(workbench, self.workbench(next)).unwrap();
    }

    /// Waits until the history has the end of a run, and it has no entry; returns its status.
    #[track_caller]
    pub fn ended(&self, run: &str) -> String {
        wait_for(PATIENCE, &format!("the end of {run}"), || {
            let line = self.history(run).pop()?;
            (!self.entry(run).exists()).then(|| text(&line["status"]))
        })
    }

    /// Waits until exactly one run continues a run and is over; returns it.
    #[track_caller]
    pub fn the_one_that_continues(&self, run: &str) -> String {
        wait_until("a run that goes on", || !self.continued_by(run).is_empty());
        let next = self.continued_by(run);
        assert_eq!(next.len(), 1, "{next:?}");
        self.ended(&next[0]);
        next[0].clone()
    }

    /// Makes sure that all is as it should be with a run that was answered and continued.
    #[track_caller]
    pub fn assert_continued_once(&self, run: &str, next: &str) {
        wait_until("all that follows from the answer", || !self.mark_file(run).exists());
        assert_eq!(self.continued_by(run), [next]);
        assert_eq!(self.question_lines(run).len(), 1);
        assert_eq!(self.question_lines(run)[0]["state"], "answered");
        assert_eq!((self.history(run).len(), self.history(next).len()), (1, 1));
    }
}

impl Server {
    /// Starts a run of a new routine that asks, and waits until it has.
    #[track_caller]
    pub fn ask(&mut self, title: &str, prompt: &str, more: Value) -> String {
        let run = self.start_run(title, prompt, more);
        self.wait_for_run(&run, "asked");
        run
    }

    /// Returns a run as `get_run` shows it.
    #[track_caller]
    pub fn whole_run(&mut self, run: &str) -> Value {
        self.ok("get_run", json!({ "run": run }))["run"].clone()
    }
}
