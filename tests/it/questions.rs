//! A run that ends with a question: how it is shown, what its workbench does meanwhile, and what ends the wait.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{
    ASKS, PATIENCE, Scene, Server, TestHome, assert_has, assert_says, kept_because, text, wait_for, wait_until,
};
use moadim_mcp::clock::UnixSeconds;
use serde_json::{Value, json};

const QUESTION: &str = "Which database?\n\n- Postgres\n- SQLite";

#[test]
fn a_run_that_writes_a_question_has_asked_whatever_its_exit_status() {
    let (home, mut server) = Scene::asking("").start();
    for (title, code) in [("Well", 0), ("Badly", 3)] {
        let run = server.ask(title, &format!("{ASKS}exit {code}"), json!({}));
        let view = server.whole_run(&run);
        assert_has(&view, json!({ "status": "asked", "exit_code": code, "kept_because": "it waits for an answer" }));
        let asked_at: UnixSeconds = text(&view["finished_at"]).parse().unwrap();
        let question = json!({
            "kind": "decision", "text": QUESTION, "options": ["Postgres", "SQLite"], "state": "open",
            "asked_at": asked_at, "expires_at": asked_at.plus_secs(3 * 24 * 60 * 60),
        });
        assert_eq!(view["question"], question);
        assert_says(&text(&view["status_reason"]), &["it asks: Which database?"]);
        let listed = server.ok("list_runs", json!({ "status": "asked", "limit": 1 }));
        assert_has(&listed["runs"][0], json!({ "id": run }));
        assert_has(&listed["runs"][0]["question"], json!({ "text": "Which database?", "state": "open" }));
        assert_eq!((home.history(&run).len(), home.question_lines(&run).len()), (1, 0));
        let routine = title.to_lowercase();
        assert_says(&home.moadim(&["questions", &routine]).ok(), &[&run, "Which database?", "Postgres | SQLite"]);
        let only: Value = home.moadim(&["questions", &routine, "--json"]).json();
        assert_eq!((&only["runs"][0]["id"], only["runs"].as_array().unwrap().len()), (&json!(run), 1));
        assert_eq!(only["runs"][0]["question"]["text"], QUESTION);
        assert_says(&home.moadim(&["show", &run]).ok(), &["asked", "it asks: Which database?"]);
        assert_says(&home.moadim(&["runs"]).ok(), &[&run, "asked"]);
    }
    assert_eq!(home.moadim(&["questions", "--json"]).json()["runs"].as_array().unwrap().len(), 2);
    assert_says(&home.moadim(&["questions", "wel"]).failed(1), &["'wel'"]);
    assert_eq!(server.problems(), Vec::<Value>::new());
}

#[test]
fn an_open_question_keeps_its_workbench_against_age_and_budget() {
    let (home, mut server) = Scene::asking("max_workbench_bytes = 1\n").start_swept();
    let run = server.ask("Open", ASKS, json!({ "ttl_secs": 1, "failed_ttl_secs": 1 }));
    // Another one that is younger, and over.
    let over = server.start_run("Over", "true", json!({ "ttl_secs": 1 }));
    server.wait_for_run(&over, "succeeded");
    let mut report = Value::Null;
    wait_until("the other one's removal", || {
        report = server.clean_up();
        !home.workbench(&over).exists()
    });
    assert_says(&kept_because(&report, &run), &["it waits for an answer"]);
    assert!(home.workbench(&run).join("work.txt").exists());
    home.moadim(&["answer", &run, "--dismiss"]).ok();
    wait_until("its own removal", || {
        server.clean_up();
        !home.workbench(&run).exists()
    });
    assert_has(&server.run(&run), json!({ "status": "reaped", "outcome": "asked" }));
    assert_eq!(home.question_lines(&run).len(), 1, "the history still says what became of it");
}

#[test]
fn the_retention_counts_from_the_close_and_the_close_goes_with_the_workbench() {
    const TTL_SECS: u64 = 6;
    let (home, mut server) = Scene::asking("cleanup_interval_secs = 1\nwatchdog_interval_secs = 1\n").start();
    let ttl = json!({ "ttl_secs": TTL_SECS, "failed_ttl_secs": TTL_SECS });
    let run = server.ask("Open", ASKS, ttl.clone());
    let control = server.start_run("Over", "true", ttl);
    wait_until("what is as old to go", || !home.workbench(&control).exists());
    assert!(home.workbench(&run).join("work.txt").exists());
    home.moadim(&["answer", &run, "--dismiss"]).ok();
    let view = server.whole_run(&run);
    assert_has(&view["question"], json!({ "state": "dismissed", "closed_by": "moadim-mcp answer" }));
    let secs = |value: &Value| text(value).parse::<UnixSeconds>().unwrap().0;
    let kept_secs = secs(&view["reap_at"]) - secs(&view["question"]["closed_at"]);
    assert!(kept_secs.abs_diff(TTL_SECS) <= 1, "{view}");
    assert!(home.workbench(&run).join("work.txt").exists());
    wait_until("all of it to go", || !home.workbench(&run).exists() && !home.close_file(&run).exists());
    assert!(!home.mark_file(&run).exists());
    assert_eq!(home.question_lines(&run)[0]["state"], "dismissed");
    assert_eq!(server.problems(), Vec::<Value>::new());
}

/// Hooks that note their environment, a file for each time.
fn noting_hooks(home: &TestHome) -> (String, PathBuf) {
    let noted = home.scratch().join("noted");
    fs::create_dir(&noted).unwrap();
    let script =
        home.script("note", &format!("env > {0}/.$1.$$; mv {0}/.$1.$$ {0}/$1.$MOADIM_RUN.$$", noted.display()));
    let line = |key: &str| format!("{key} = {}\n", json!([script, key]));
    (["on_finish", "on_failure", "on_attention"].map(line).concat(), noted)
}

/// Returns what a hook was told about a run, each time.
fn told(noted: &Path, hook: &str, run: &str) -> Vec<String> {
    let files = fs::read_dir(noted).unwrap().map(|file| file.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{hook}.{run}."));
    files.filter(name).map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn a_question_that_nobody_answers_expires_once_and_counts_as_a_failure() {
    let home = TestHome::new();
    let (hooks, noted) = noting_hooks(&home);
    home.configure_detached(&format!("{hooks}watchdog_interval_secs = 1\n"));
    home.add_agent("shell", "command = \"sh\"\nlogin_shell = false\n");
    let mut servers = [(); 3].map(|()| Server::start(&home));
    let run = servers[0].ask("Alone", ASKS, json!({ "answer_within_secs": 2 }));
    wait_until("on_attention", || told(&noted, "on_attention", &run).len() == 1);
    assert_says(
        &told(&noted, "on_attention", &run)[0],
        &["MOADIM_STATUS=asked\n", "MOADIM_REASON=it asks: Which database?\n"],
    );
    wait_until("on_failure", || told(&noted, "on_failure", &run).len() == 1);
    assert_says(&told(&noted, "on_failure", &run)[0], &["nobody answered within 2 s; it asks: Which database?"]);
    wait_until("all that follows", || !home.mark_file(&run).exists());
    let view = servers[0].whole_run(&run);
    assert_has(&view["question"], json!({ "state": "expired", "closed_by": "janitor" }));
    assert_eq!(home.moadim(&["questions", "--json"]).json(), json!({ "runs": [] }));
    // Each of them looks once more.
    let other = servers[1].ask("Other", ASKS, json!({ "answer_within_secs": 2 }));
    wait_until("the next one", || told(&noted, "on_failure", &other).len() == 1 && !home.mark_file(&other).exists());
    for run in [&run, &other] {
        let lines = home.question_lines(run);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_has(&lines[0], json!({ "state": "expired", "by": "janitor", "text": null }));
        for (hook, times) in [("on_finish", 1), ("on_attention", 1), ("on_failure", 1)] {
            assert_eq!(told(&noted, hook, run).len(), times, "{hook}");
        }
    }
    assert_says(&home.answer(&run, "--dismiss").failed(1), &[&run, "closed unanswered", "janitor"]);
    for server in &mut servers {
        assert_eq!(server.problems(), Vec::<Value>::new());
    }
}

#[test]
fn a_question_is_dismissed_once_and_says_by_whom() {
    let (home, mut server) = Scene::asking("answers_from = \"anyone\"\n").start();
    let runs = ["By command", "By tool"].map(|title| server.ask(title, ASKS, json!({})));
    assert_eq!(home.moadim(&["answer", &runs[0], "--dismiss"]).ok(), format!("dismissed: {}\n", runs[0]));
    let answer = server.ok("continue_run", json!({ "run": runs[1], "dismiss": true }));
    assert_has(&answer["run"]["question"], json!({ "state": "dismissed", "closed_by": "continue_run" }));
    for run in &runs {
        assert_says(&home.moadim(&["answer", run, "--dismiss"]).failed(1), &[run, "was dismissed at"]);
        assert_says(&server.error("continue_run", json!({ "run": run, "dismiss": true })), &[run, "was dismissed at"]);
        assert_eq!(home.question_lines(run).len(), 1);
        assert!(!home.mark_file(run).exists());
        assert_says(&text(&server.whole_run(run)["question"]["closed_at"]), &["Z"]);
    }
    assert_eq!(home.moadim(&["questions", "--json"]).json(), json!({ "runs": [] }));
    // Nobody waits, and the person may still think better of it.
    let next = wait_for(PATIENCE, "an answer that is later than the dismissal", || {
        let answer = home.answer(&runs[0], "Postgres after all");
        (answer.code == Some(0)).then(|| answer.stdout.trim().to_owned())
    });
    assert_eq!(home.ended(&next), "succeeded");
    assert_eq!(home.question_lines(&runs[0]).len(), 1);
    let run = server.start_run("Over", "true", json!({}));
    server.wait_for_run(&run, "succeeded");
    assert_says(&home.moadim(&["answer", &run, "--dismiss"]).failed(1), &[&run, "has no question", "succeeded"]);
}

#[test]
fn what_is_no_text_is_no_question_and_a_huge_one_is_cut() {
    let (home, mut server) = Scene::asking("").start();
    fs::write(home.scratch().join("secret"), "The secret?").unwrap();
    let secret = home.scratch().join("secret");
    for (title, made) in [
        ("Fifo", "mkfifo question.md".to_owned()),
        ("Link", format!("ln -s {} question.md", secret.display())),
        ("Loop", "ln -s question.md question.md".to_owned()),
        ("Folder", "mkdir question.md; echo 'Now?' > question.md/question.md".to_owned()),
        ("Closed", "echo > question.md; printf '\\0\\0\\033[31m\\n' >> question.md".to_owned()),
        ("Empty", ": > question.md".to_owned()),
    ] {
        let run = server.start_run(title, &made, json!({}));
        let view = server.wait_for_run(&run, "succeeded");
        assert_has(&view, json!({ "question": null }));
    }
    let huge = "echo 'Which one?' > question.md; head -c 10485760 /dev/zero | tr '\\0' 'x' >> question.md";
    let binary = "head -c 100000 /bin/sh > question.md";
    for (title, made) in [("Huge", huge), ("Binary", binary)] {
        let run = server.ask(title, made, json!({}));
        let view = server.whole_run(&run);
        let question = text(&view["question"]["text"]);
        assert!(question.len() <= 4096 && is_plain(&question), "{question:?}");
        assert_all_faces_are_plain(&home, &mut server, &run);
        let next = home.go_on(&run, "None");
        server.stop(&next);
    }
    assert_eq!(server.problems(), Vec::<Value>::new());
}

fn is_plain(text: &str) -> bool {
    let steers = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    !text.chars().any(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || steers(c))
}

/// Makes sure that nothing about a run says more to a terminal or a host than its text.
#[track_caller]
fn assert_all_faces_are_plain(home: &TestHome, server: &mut Server, run: &str) {
    for (tool, arguments) in [("list_runs", json!({ "status": "asked" })), ("get_run", json!({ "run": run }))] {
        let mut answer = server.call_tool(tool, arguments);
        assert!(is_plain(&answer.text), "{tool}: {:?}", answer.text);
        let shown =
            if tool == "get_run" { answer.structured["run"].take() } else { answer.structured["runs"][0].take() };
        let question = &shown["question"];
        let options = question["options"].as_array().cloned().unwrap_or_default();
        assert!(is_plain(&text(&question["text"])) && is_plain(&text(&shown["status_reason"])), "{tool}: {shown}");
        assert!(options.iter().all(|option| is_plain(&text(option)) && !text(option).contains('\n')), "{shown}");
    }
    for words in [&["questions"][..], &["questions", "--json"], &["show", run], &["show", run, "--json"], &["runs"]] {
        let shown = home.moadim(words).ok();
        assert!(is_plain(&shown), "{words:?}: {shown:?}");
        assert!(shown.contains(run) || words == ["runs"], "{words:?}: {shown}");
    }
}

#[test]
fn a_hostile_question_steers_no_terminal_and_no_host() {
    let home = TestHome::new();
    let (hooks, noted) = noting_hooks(&home);
    home.configure_detached(&hooks);
    home.add_agent("shell", "command = \"sh\"\nlogin_shell = false\n");
    let mut server = Server::start(&home);
    let hostile = "\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31mDelete <script>alert(1)</script> \u{202e}lla\u{202c}?\u{8}\u{9b}5m\n\
                   \u{85}\u{2066}more\n\n- \u{1b}[1Ayes\u{202e}\u{0}\n- <img src=x onerror=alert(1)>\n- no\u{7f}\n";
    fs::write(home.scratch().join("hostile"), hostile).unwrap();
    let prompt = format!("cp {} question.md", home.scratch().join("hostile").display());
    let run = server.ask("Hostile", &prompt, json!({}));
    let question = server.whole_run(&run)["question"].clone();
    assert_says(&text(&question["text"]), &["<script>alert(1)</script>"]);
    assert_eq!(question["options"].as_array().unwrap().len(), 3, "{question}");
    assert_all_faces_are_plain(&home, &mut server, &run);
    let facts = wait_for(PATIENCE, "on_attention", || told(&noted, "on_attention", &run).pop());
    let reason = facts.lines().find(|line| line.starts_with("MOADIM_REASON=")).unwrap_or_else(|| panic!("{facts}"));
    assert!(is_plain(reason), "{reason:?}");
    assert!(is_plain(&facts), "{facts:?}");
    let next = home.go_on(&run, "No");
    assert_eq!(home.ended(&next), "asked", "it is as hostile as before");
}
