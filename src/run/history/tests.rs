use super::line::{KEPT_OUTPUT_BYTES, Past};
use super::*;
use crate::run::context::{Context, Program};
use crate::run::entry::Entry;
use crate::run::status::Status;
use crate::run::workbench::Workbench;

#[test]
fn a_status_of_a_newer_version_is_shown_as_it_is_written() {
    let line = serde_json::to_value(Outcome::example("a-1", Status::Failed)).unwrap();
    let text = line.to_string().replace("\"failed\"", "\"pondering\"");
    let past = Past::parse(text.as_bytes()).unwrap();
    assert_eq!(past.outcome.status, Status::Unknown);
    assert!(past.outcome.reason.unwrap().contains("'pondering'"));
    assert_eq!(Past::parse(line.to_string().as_bytes()).unwrap().outcome.status, Status::Failed);
    assert!(Past::parse(b"{\"status\":\"failed\"}").is_none());
}

struct Fixture {
    _dir: tempfile::TempDir,
    context: Context,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    let context = Context::of_supervisor(home, Config::default(), Program::current().unwrap());
    Fixture { _dir: dir, context }
}

fn outcome(run: &str, status: Status) -> Outcome {
    Outcome { reason: Some("for a test".into()), exit_code: Some(0), ..Outcome::example(run, status) }
}

impl Fixture {
    fn append(&self, run: &str) -> bool {
        append(&self.context.home, &self.context.config, &outcome(run, Status::Failed), Known::Perhaps).unwrap()
    }

    fn write(&self, text: &str) {
        std::fs::write(self.context.home.history_file(), text).unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.context.home.history_file()).unwrap()
    }

    /// Closes the file as if it were full.
    fn close(&self, at: u64) {
        let home = &self.context.home;
        std::fs::rename(home.history_file(), home.root().join(format!("history.{at}.jsonl"))).unwrap();
    }

    /// Returns the runs in the history, newest first.
    fn runs(&self) -> Vec<String> {
        let lines = self.context.history.read(&self.context.home).unwrap();
        lines.newest_first().map(|line| lines.past(line).expect("the line").outcome.id.to_string()).collect()
    }

    fn damaged(&self) -> u64 {
        self.context.history.read(&self.context.home).unwrap().damaged()
    }
}

#[test]
fn a_line_is_added_once_also_when_the_file_was_closed_meanwhile() {
    let it = fixture();
    assert!(it.append("a-5"));
    assert!(!it.append("a-5"));
    it.close(6);
    assert!(!it.append("a-5"));
    assert!(it.append("a-50"));
    assert!(!it.append("a-50"));
    assert_eq!(it.text().lines().count(), 1);
}

#[test]
fn a_line_says_all_that_its_reader_will_need() {
    let it = fixture();
    let workbench = Workbench::of(&it.context.home, &"a-5".parse().unwrap());
    workbench.make().unwrap();
    std::fs::write(workbench.log(), format!("{}\x1b[1mthe é end\x1b[0m\n", "x".repeat(5000))).unwrap();
    it.append("a-5");
    let past = it.context.history.find(&it.context.home, &"a-5".parse().unwrap()).unwrap().unwrap();
    let tail = past.tail.unwrap();
    assert!(
        tail.ends_with("xthe é end\n") && (KEPT_OUTPUT_BYTES - 4..=KEPT_OUTPUT_BYTES).contains(&tail.len()),
        "{}",
        tail.len()
    );
    assert_eq!(past.outcome.status, Status::Failed);
    let line: serde_json::Value = serde_json::from_str(&it.text()).unwrap();
    assert_eq!((&line["kind"], &line["routine"], &line["duration_secs"]), (&"run".into(), &"a".into(), &1.into()));
}

#[test]
fn a_full_file_is_closed_and_all_files_are_read() {
    let mut it = fixture();
    it.context.config.max_history_bytes = 16 * 600;
    let names: Vec<String> = (1..=10).map(|n| format!("a-{n}")).collect();
    for name in &names {
        it.append(name);
    }
    let files = std::fs::read_dir(it.context.home.root()).unwrap();
    let closed = files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("history.1"));
    assert!(closed.count() > 1);
    let newest_first: Vec<String> = names.into_iter().rev().collect();
    assert_eq!(it.runs(), newest_first);
}

#[test]
fn what_is_known_grows_with_the_file_and_follows_it() {
    let it = fixture();
    assert_eq!(it.runs(), [] as [&str; 0]);
    it.append("b-9");
    assert_eq!(it.runs(), ["b-9"]);
    // They end in another order than they began.
    it.append("a-7");
    it.append("a-9");
    assert_eq!(it.runs(), ["b-9", "a-9", "a-7"]);
    it.close(100);
    it.append("a-8");
    assert_eq!(it.runs(), ["b-9", "a-9", "a-8", "a-7"]);
    std::fs::remove_file(it.context.home.root().join("history.100.jsonl")).unwrap();
    assert_eq!(it.runs(), ["a-8"]);
    // An editor replaces a file, or writes the same one.
    let text = it.text();
    it.write(&text.replace("a-8", "c-3"));
    assert_eq!(it.runs(), ["c-3"]);
    it.write("");
    assert_eq!(it.runs(), [] as [&str; 0]);
}

#[test]
fn damaged_lines_are_skipped_and_counted_and_one_that_is_being_written_is_neither() {
    let it = fixture();
    it.append("a-1");
    let line = it.text();
    let missed = "{\"kind\":\"missed\",\"version\":1,\"routine\":\"a\"}\n";
    it.write(&format!("{line}{{torn\n{missed}\u{0}\u{0}\n{{\"id\":\"no run\"}}\n{}", &line[..40]));
    assert_eq!((it.runs(), it.damaged()), (vec!["a-1".to_owned()], 3));
    it.append("a-2");
    assert_eq!((it.runs(), it.damaged()), (vec!["a-2".to_owned(), "a-1".to_owned()], 4));
}

#[test]
fn only_what_changed_is_read_again() {
    let it = fixture();
    it.append("a-1");
    it.close(10);
    it.append("b-2");
    it.close(20);
    it.append("b-3");
    let newest = |slug: &str| it.context.history.newest(&slug.parse().unwrap()).map(|at| at.0);
    assert_eq!(it.runs(), ["b-3", "b-2", "a-1"]);
    assert_eq!((newest("a"), newest("b"), newest("c")), (Some(1), Some(3), None));
    // An edit that does not show, so that it is seen only if the file is read again.
    let closed = it.context.home.root().join("history.10.jsonl");
    let written = closed.metadata().unwrap().modified().unwrap();
    let text = std::fs::read_to_string(&closed).unwrap().replace("a-1", "a-9");
    std::fs::write(&closed, text).unwrap();
    std::fs::File::options().append(true).open(&closed).unwrap().set_modified(written).unwrap();
    let indexed = || {
        let lines = it.context.history.read(&it.context.home).unwrap();
        lines.newest_first().map(|line| line.stamp().0).collect::<Vec<_>>()
    };
    it.write("");
    assert_eq!((indexed(), newest("b")), (vec![2, 1], Some(2)));
    std::fs::remove_file(it.context.home.root().join("history.20.jsonl")).unwrap();
    assert_eq!((indexed(), newest("b")), (vec![1], None));
    assert!(it.context.history.find(&it.context.home, &"a-1".parse().unwrap()).unwrap().is_none());
    assert_eq!((it.runs(), it.damaged()), (vec!["a-9".to_owned()], 0));
}

#[test]
fn a_copied_line_is_shown_once_and_still_once_when_its_copy_is_gone() {
    let it = fixture();
    it.append("a-1");
    it.append("a-2");
    let copy = it.context.home.root().join("history.1.jsonl");
    std::fs::copy(it.context.home.history_file(), &copy).unwrap();
    assert_eq!(it.runs(), ["a-2", "a-1"]);
    std::fs::remove_file(copy).unwrap();
    assert_eq!(it.runs(), ["a-2", "a-1"]);
}

#[test]
fn a_line_that_only_looks_like_one_of_a_run_is_damaged() {
    let it = fixture();
    it.append("a-1");
    it.append("a-2");
    let agent = format!("\"agent\":{}", serde_json::json!(outcome("a-1", Status::Failed).agent));
    it.write(&it.text().replacen(&agent, "\"agent\":7", 1));
    assert_eq!(it.damaged(), 0);
    for _ in 0..2 {
        assert_eq!(it.context.history.find(&it.context.home, &"a-1".parse().unwrap()).unwrap(), None);
        assert_eq!((it.runs(), it.damaged()), (vec!["a-2".to_owned()], 1));
    }
    // A person repairs it.
    it.write(&it.text().replacen("\"agent\":7", &agent, 1));
    assert_eq!((it.runs(), it.damaged()), (vec!["a-2".to_owned(), "a-1".to_owned()], 0));
}

#[test]
fn lines_of_before_and_of_later_are_read() {
    let it = fixture();
    it.append("a-1");
    let mut line: serde_json::Value = serde_json::from_str(&it.text()).unwrap();
    for key in ["kind", "routine", "duration_secs", "tail"] {
        line.as_object_mut().unwrap().remove(key);
    }
    let older = line.to_string();
    line["id"] = "a-2".into();
    line["status"] = "enlightened".into();
    it.write(&format!("{older}\n{line}\n"));
    let lines = it.context.history.read(&it.context.home).unwrap();
    let statuses: Vec<Status> = lines.newest_first().map(Line::status).collect();
    assert_eq!((statuses, lines.damaged()), (vec![Status::Unknown, Status::Failed], 0));
}

/// The second `n` of some hours that are not long ago.
fn second(n: u64) -> u64 {
    UnixSeconds::now().0 / 3600 * 3600 - 7200 + n
}

impl Fixture {
    /// Makes the workbench of a run that ended at the second after that in its name.
    fn finish(&self, run: &str) {
        let workbench = Workbench::of(&self.context.home, &run.parse().unwrap());
        workbench.make().unwrap();
        atomic_file::write_json(&workbench.outcome_file(), &outcome(run, Status::Failed)).unwrap();
    }

    /// Returns the context of another process.
    fn in_another_process(&self) -> Context {
        let Context { home, config, program, .. } = self.context.clone();
        Context::of_supervisor(home, config, program)
    }
}

#[test]
fn a_run_that_ended_without_a_line_gets_one_and_only_one() {
    let it = fixture();
    let [recorded, lost, ending, older] = [30, 20, 40, 10].map(|n| format!("a-{}", second(n)));
    for run in [&recorded, &lost, &ending, &older] {
        it.finish(run);
    }
    it.append(&recorded);
    std::fs::create_dir(Entry::of(&it.context.home, &ending.parse().unwrap()).directory()).unwrap();
    Workbench::of(&it.context.home, &format!("b-{}", second(50)).parse().unwrap()).make().unwrap();
    complete(&it.context).unwrap();
    let ids = || {
        it.text().lines().map(|line| Past::parse(line.as_bytes()).unwrap().outcome.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(), [recorded.clone(), older.clone(), lost.clone()], "in the order of their ends");
    complete(&it.in_another_process()).unwrap();
    assert_eq!(ids().len(), 3);
    // What is removed while the process lives was removed by somebody.
    it.write("");
    complete(&it.context).unwrap();
    assert_eq!(ids(), [] as [&str; 0]);
    complete(&it.in_another_process()).unwrap();
    assert_eq!(ids(), [older, lost, recorded]);
}

#[test]
fn what_the_history_dropped_on_purpose_stays_dropped() {
    let mut it = fixture();
    let runs = [10, 20, 30].map(|n| format!("a-{}", second(n)));
    runs.iter().for_each(|run| it.finish(run));
    let closed = |n| it.context.home.root().join(format!("history.{}.jsonl", second(n)));
    // As much as is left when room was made.
    std::fs::write(closed(21), vec![b'\n'; 900]).unwrap();
    std::fs::write(closed(29), vec![b'\n'; 300]).unwrap();
    it.context.config.max_history_bytes = 2000;
    complete(&it.context).unwrap();
    assert_eq!(it.runs(), [runs[2].clone()], "of this one, the file would still be there");
    it.context.config.history_age_secs = 1;
    it.write("");
    complete(&it.in_another_process()).unwrap();
    assert_eq!(it.runs(), [] as [&str; 0], "too old");
    it.context.config = Config::default();
    complete(&it.in_another_process()).unwrap();
    assert_eq!(it.runs().len(), 3, "there was never too much");
}

#[test]
fn what_cannot_be_completed_is_reported_and_tried_again() {
    let it = fixture();
    let run = format!("a-{}", second(0));
    it.finish(&run);
    let lock = it.context.home.history_lock();
    std::fs::create_dir_all(&lock).unwrap();
    assert_eq!(complete(&it.context).unwrap_err().workbenches, [run.parse().unwrap()].into());
    std::fs::remove_dir(&lock).unwrap();
    std::fs::create_dir(it.context.home.history_file()).unwrap();
    assert_eq!(complete(&it.context).unwrap_err().workbenches, [].into(), "nothing is known of what cannot be read");
    std::fs::remove_dir(it.context.home.history_file()).unwrap();
    complete(&it.context).unwrap();
    assert_eq!(it.runs(), [run]);
}

#[test]
fn a_file_that_cannot_be_opened_leaves_its_time_unknown() {
    let fixture = fixture();
    let home = &fixture.context.home;
    fixture.append("a-1000");
    let check = |since| fixture.context.history.read(home).unwrap().check_since(UnixSeconds(since));
    assert!(check(0).is_ok());
    let closed = home.root().join("history.500000.jsonl");
    std::os::unix::fs::symlink("/dev/null", &closed).unwrap();
    let error = check(499_000).unwrap_err().to_string();
    assert!(error.contains("history.500000.jsonl") && error.contains("cannot be opened"), "{error}");
    assert!(check(500_000 + CLOCK_MARGIN_SECS + 1).is_ok(), "what it has is older");
    std::fs::remove_file(&closed).unwrap();
    assert!(check(0).is_ok());
}

/// Returns how many runs of `a` ended how, as `status count`, and the durations as `runs/secs`.
fn tally(it: &Fixture) -> (Vec<String>, Vec<String>) {
    let lines = it.context.history.read(&it.context.home).unwrap();
    let tally = lines.tally();
    let ended = tally.ended().map(|(slug, status, count)| format!("{slug} {status} {count}")).collect();
    let durations = tally.durations().map(|(slug, count, secs)| format!("{slug} {count}/{secs}")).collect();
    (ended, durations)
}

#[test]
fn runs_are_counted_as_they_come_and_none_is_uncounted_because_its_file_goes() {
    let it = fixture();
    assert_eq!(tally(&it), (vec![], vec![]));
    for run in ["a-1", "b-2", "a-3"] {
        it.append(run);
    }
    assert_eq!(tally(&it), (vec!["a failed 2".into(), "b failed 1".into()], vec!["a 2/2".into(), "b 1/1".into()]));
    it.close(4);
    it.append("a-5");
    assert_eq!(tally(&it).0, ["a failed 3", "b failed 1"]);
    std::fs::remove_file(it.context.home.root().join("history.4.jsonl")).unwrap();
    it.append("a-6");
    for _ in 0..2 {
        assert_eq!(tally(&it), (vec!["a failed 4".into(), "b failed 1".into()], vec!["a 4/4".into(), "b 1/1".into()]));
    }
    assert_eq!(it.runs(), ["a-6", "a-5"]);
    // What was edited is counted as it is now.
    let edited = it.text().replace("\"failed\"", "\"lost\"");
    it.write(&edited);
    assert_eq!(tally(&it).0, ["a failed 2", "a lost 2", "b failed 1"]);
}

#[test]
fn a_run_is_counted_once_however_its_file_is_moved_or_replaced() {
    let it = fixture();
    for run in ["a-1", "a-2"] {
        it.append(run);
    }
    let assert_counted = |what| assert_eq!(tally(&it), (vec!["a failed 2".into()], vec!["a 2/2".into()]), "{what}");
    assert_counted("as it was written");
    let (root, file) = (it.context.home.root().to_owned(), it.context.home.history_file());
    // An editor writes another file, and renames it.
    std::fs::write(root.join("new"), it.text()).unwrap();
    std::fs::rename(root.join("new"), &file).unwrap();
    for _ in 0..2 {
        assert_counted("replaced");
    }
    // While a file is renamed, it may be listed under neither name.
    for (from, to) in [(&file, root.join("away")), (&root.join("away"), file.clone())] {
        std::fs::rename(from, to).unwrap();
        for _ in 0..2 {
            assert_counted("moved");
        }
    }
    it.close(7);
    assert_counted("closed");
    std::fs::remove_file(root.join("history.7.jsonl")).unwrap();
    for _ in 0..2 {
        assert_counted("removed");
    }
}
