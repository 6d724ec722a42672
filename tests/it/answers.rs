//! Answers, and more to do for runs that are over: who may give them, what they lead to, and what refuses them.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::harness::{ASKS, ASKS_UNTIL_DONE, Era, Scene, Server, TestHome, assert_has, assert_says, text, wait_until};
use serde_json::{Value, json};

/// Returns what the agents of a workbench were answered.
fn answers(home: &TestHome, run: &str) -> String {
    fs::read_to_string(home.workbench(run).join("answers")).unwrap_or_default()
}

/// Makes sure that a question still waits, and that nothing was started.
#[track_caller]
fn assert_open(home: &TestHome, server: &mut Server, run: &str) {
    assert_eq!(server.whole_run(run)["question"]["state"], "open");
    assert!(home.mark_file(run).exists() && !home.close_file(run).exists() && !home.continuation_file(run).exists());
    assert_eq!(
        (home.question_lines(run).len(), home.continued_by(run).len(), answers(home, run)),
        (0, 0, String::new())
    );
}

#[test]
fn an_answer_lets_the_work_go_on_where_it_was() {
    let (home, mut server) = Scene::asking("").start();
    let run = server.ask("Asks", ASKS, json!({}));
    let next = home.go_on(&run, "Postgres\nand no other");
    let view = server.wait_for_run(&next, "succeeded");
    assert_has(&view, json!({ "continues": run, "workbench": home.workbench(&run).display().to_string() }));
    assert_eq!(answers(&home, &run), "Postgres\nand no other\n");
    home.assert_continued_once(&run, &next);
    let before = server.whole_run(&run);
    assert_has(&before, json!({ "status": "asked", "continued_by": next }));
    let closed = json!({ "state": "answered", "answer": "Postgres\nand no other", "closed_by": "moadim-mcp answer" });
    assert_has(&before["question"], closed);
    assert_has(&home.question_lines(&run)[0], json!({ "text": "Postgres\nand no other", "by": "moadim-mcp answer" }));
    assert_eq!(home.history(&next)[0]["continues"], run.as_str());
    let previous = home.workbench(&run).join("previous").join(&run);
    for file in ["outcome.json", "agent.log", "prompt.md", "question.md"] {
        assert!(previous.join(file).is_file(), "{file}");
    }
    // The agent is not asked again, and what it is told comes with the answer.
    assert!(!home.workbench(&run).join("question.md").exists());
    assert_says(&home.moadim(&["runs"]).ok(), &["it asks: Which database? · answered"]);
    let more = home.scratch().join("more");
    fs::write(&more, "More").unwrap();
    let answer = home.moadim(&["answer", &next, "--text-file", &more.display().to_string(), "--json"]).json();
    assert_has(&answer["run"], json!({ "continues": next }));
    assert_eq!(home.ended(&text(&answer["run"]["id"])), "succeeded");
    assert_eq!(answers(&home, &run), "Postgres\nand no other\nMore\n");
}

#[test]
fn an_answer_is_written_in_an_editor_above_the_question() {
    let (home, mut server) = Scene::asking("").start();
    let run = server.ask("Asks", ASKS, json!({}));
    let drafts = home.scratch().join("drafts");
    fs::create_dir(&drafts).unwrap();
    let edit_for = |run: &str, script: &str| {
        let mut command = home.command();
        command.args(["answer", run]).env("EDITOR", home.script("editor", script)).env("TMPDIR", &drafts);
        crate::harness::Answer::from(command.stdin(Stdio::null()).output().unwrap())
    };
    let edit = |script: &str| edit_for(&run, script);
    for (script, said) in [("exit 0", "nothing is written"), ("exit 7", "failed"), (": > \"$1\"", "nothing is written")]
    {
        assert_says(&edit(script).failed(1), &[said]);
        assert_open(&home, &mut server, &run);
    }
    assert_eq!(fs::read_dir(&drafts).unwrap().count(), 0, "nothing was written that could be lost");
    let seen = home.scratch().join("seen");
    let script = format!("cp \"$1\" {0}; {{ echo 'SQLite, please.'; cat {0}; }} > \"$1\"", seen.display());
    let next = edit(&script).ok().trim().to_owned();
    assert_eq!(home.ended(&next), "succeeded");
    assert_eq!(answers(&home, &run), "SQLite, please.\n");
    assert_says(&fs::read_to_string(seen).unwrap(), &["above this line", &run, "Which database?", "- SQLite"]);
    // Nobody writes what leads nowhere, and what somebody else was faster with is not lost.
    let opened = home.scratch().join("opened");
    assert_says(&edit(&format!("touch {}", opened.display())).failed(1), &["was answered at", &next]);
    assert!(!opened.exists());
    let other = server.ask("Other", ASKS, json!({}));
    let program = env!("CARGO_BIN_EXE_moadim-mcp");
    let script = format!("'{program}' answer {other} Postgres >&2; echo 'Neither.' > \"$1\"");
    let refused = edit_for(&other, &script).failed(1);
    assert_says(&refused, &["was answered at", "what you wrote is in"]);
    let draft = refused.rsplit_once("is in ").unwrap().1.trim();
    assert_eq!(fs::read_to_string(std::path::Path::new(draft).join("answer.md")).unwrap(), "Neither.\n");
    assert_eq!(home.ended(&home.the_one_that_continues(&other)), "succeeded");
}

#[test]
fn words_that_say_nothing_or_too_much_are_refused() {
    let (home, mut server) = Scene::asking("answers_from = \"anyone\"\n").start();
    let run = server.ask("Asks", ASKS, json!({}));
    let long = "x".repeat(100_000);
    for words in ["", " \n\t", &long] {
        let refused = home.answer(&run, words).failed(1);
        assert!(refused.len() < 2048, "{}", refused.len());
        let by_tool = server.error("continue_run", json!({ "run": run, "text": words }));
        assert!(by_tool.len() < 2048 && by_tool.contains("text"), "{by_tool}");
        assert_open(&home, &mut server, &run);
    }
    // What steers a terminal reaches the agent alone, which is told exactly what was said.
    let hostile = "\u{1b}[2JYes\u{7}\u{9b}2J\u{7f}";
    let next = home.go_on(&run, hostile);
    assert_eq!(home.ended(&next), "succeeded");
    for words in [&["show", &run][..], &["runs"], &["questions"], &["show", &next]] {
        let shown = home.moadim(words).ok();
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{words:?}: {shown:?}");
    }
    for tool in [("get_run", json!({ "run": run })), ("list_runs", json!({}))] {
        let answer = server.call_tool(tool.0, tool.1);
        assert!(!answer.text.contains(|c: char| c.is_control() && c != '\n'), "{}: {:?}", tool.0, answer.text);
    }
}

#[test]
fn a_run_answers_nobody() {
    let (home, mut server) = Scene::asking("").start();
    let run = server.ask("Asks", ASKS, json!({}));
    for words in [&["answer", &run, "Yes"][..], &["answer", &run, "--dismiss"], &["answer", &run]] {
        let mut command = home.command();
        command.args(words).env("MOADIM_RUN", "other-1").env("EDITOR", "false").stdin(Stdio::null());
        let refused = crate::harness::Answer::from(command.output().unwrap()).failed(1);
        assert_says(&refused, &["this call comes from the run other-1", "ask a person"]);
        assert_open(&home, &mut server, &run);
    }
}

#[test]
fn a_tool_answers_only_where_the_home_says_so() {
    for era in [Era::Legacy("2025-11-25"), Era::Modern] {
        let (home, mut server) = Scene::asking("").start();
        let run = server.ask("Asks", ASKS, json!({}));
        let mut unable = Server::start_in(&home, era);
        for arguments in
            [json!({ "run": run, "text": "Postgres" }), json!({ "run": run, "dismiss": true }), json!({ "run": run })]
        {
            let refused = unable.error("continue_run", arguments);
            assert_says(&refused, &[&format!("moadim-mcp answer {run}"), "answers_from"]);
            assert_open(&home, &mut server, &run);
        }
        home.configure("session_host = \"detached\"\nkill_grace_secs = 1\nanswers_from = \"anyone\"\n");
        assert_says(&unable.error("continue_run", json!({ "run": run })), &["`text` is missing"]);
        assert_says(&unable.error("continue_run", json!({ "run": run, "text": "x", "dismiss": true })), &["either"]);
        let answer = unable.ok("continue_run", json!({ "run": run, "text": "Postgres" }));
        let next = text(&answer["run"]["id"]);
        assert_has(&answer["run"], json!({ "continues": run }));
        assert_eq!(home.ended(&next), "succeeded");
        assert_eq!(answers(&home, &run), "Postgres\n");
        assert_eq!(server.whole_run(&run)["question"]["closed_by"], "continue_run");
        home.assert_continued_once(&run, &next);
    }
}

/// Calls `continue_run`, has the person take so long to answer, and returns what they were asked and the call's result.
fn person_says(server: &mut Server, era: &Era, arguments: &Value, takes: Duration, says: &Value) -> (Value, Value) {
    let call = server.send_call("continue_run", arguments.clone());
    let read = || {
        let asked = Instant::now();
        wait_until("the person to have read it", || asked.elapsed() >= takes);
    };
    if *era != Era::Modern {
        let question = server.next_unasked();
        read();
        server.reply(&question, says.clone());
        return (question, server.answer(call).unwrap());
    }
    let mut handed = server.answer(call).unwrap();
    let question = handed["inputRequests"]["confirm"].take();
    read();
    let params = json!({
        "name": "continue_run", "arguments": arguments, "inputResponses": { "confirm": says },
        "requestState": handed["requestState"],
    });
    (question, server.request("tools/call", params).unwrap())
}

#[test]
fn a_person_is_asked_for_the_words_and_nobody_else_gives_them() {
    let read = Duration::from_millis(1200);
    let accept = |content: Value| json!({ "action": "accept", "content": content });
    for era in [Era::Legacy("2025-11-25"), Era::Modern] {
        let (home, mut server) = Scene::asking("").start();
        let run = server.ask("Asks", ASKS, json!({}));
        let mut able = Server::start_able(&home, era.clone(), json!({ "elicitation": { "form": {} } }));
        let proposed = json!({ "run": run, "text": "The model's own" });
        // Sooner than anybody can have read it.
        let (question, result) =
            person_says(&mut able, &era, &proposed, Duration::ZERO, &accept(json!({ "confirm": "Postgres" })));
        let message = text(&question["params"]["message"]);
        assert_says(&message, &[&run, "Which database?", "Proposed by the model: The model's own"]);
        let choices = &question["params"]["requestedSchema"]["properties"]["confirm"]["enum"];
        assert_eq!(*choices, json!(["Something else: what I type below", "Postgres", "SQLite", "The model's own"]));
        assert_eq!(result["isError"], true, "{result}");
        assert_says(
            &text(&result["content"][0]["text"]),
            &["sooner than a person can read", &format!("moadim-mcp answer {run}")],
        );
        for no in [
            json!({ "action": "decline" }),
            json!({ "action": "cancel" }),
            accept(json!({})),
            accept(json!({ "confirm": "Something else: what I type below" })),
        ] {
            let (_, result) = person_says(&mut able, &era, &proposed, read, &no);
            assert_eq!(result["isError"], true, "{no}: {result}");
            assert_open(&home, &mut server, &run);
        }
        let (_, result) = person_says(
            &mut able,
            &era,
            &proposed,
            read,
            &accept(json!({ "confirm": "Postgres", "text": " My own words " })),
        );
        let next = text(&result["structuredContent"]["run"]["id"]);
        assert_eq!(home.ended(&next), "succeeded");
        assert_eq!(answers(&home, &run), "My own words\n");
        assert_eq!(server.whole_run(&run)["question"]["closed_by"], "a person, asked by continue_run");
        home.assert_continued_once(&run, &next);
    }
}

#[test]
fn no_tool_has_words_for_a_routine_that_a_person_trusts_more() {
    let (home, mut server) = Scene::asking("answers_from = \"anyone\"\n").start();
    let program = home.script("codex", "[ -e answer.md ] && exit 0; echo 'Delete it?' > question.md");
    home.add_agent("codex", &format!("extends = \"codex\"\ncommand = \"{}\"\n", program.display()));
    let routine = server.create("Trusted", "Do it.", json!({ "agent": "codex" }));
    let file = format!("routines/{routine}/routine.toml");
    home.write(&file, &(home.read(&file) + "\n[trusted.options]\npermissions = \"full\"\n"));
    let run = server.trigger(&routine);
    server.wait_for_run(&run, "asked");
    let arguments = json!({ "run": run, "text": "Yes, all of it" });
    assert_says(&server.error("continue_run", arguments.clone()), &[&format!("moadim-mcp answer {run}")]);
    assert_open(&home, &mut server, &run);
    let era = Era::Legacy("2025-11-25");
    let mut able = Server::start_able(&home, era.clone(), json!({ "elicitation": { "form": {} } }));
    let no = json!({ "action": "decline" });
    let (question, result) = person_says(&mut able, &era, &arguments, Duration::from_millis(1200), &no);
    assert_says(&text(&question["params"]["message"]), &["Delete it?", "Proposed by the model: Yes, all of it"]);
    assert_says(&text(&result["content"][0]["text"]), &["declined"]);
    assert_open(&home, &mut server, &run);
    let next = home.go_on(&run, "No");
    home.ended(&next);
    home.assert_continued_once(&run, &next);
}

#[test]
fn of_many_people_who_answer_at_once_one_is_heard() {
    const PEOPLE: usize = 6;
    let (home, mut server) = Scene::asking("watchdog_interval_secs = 1\n").start();
    for round in 0..3 {
        let run = server.ask(&format!("Asks {round}"), ASKS, json!({}));
        let begin = Barrier::new(PEOPLE);
        let said: Vec<_> = std::thread::scope(|scope| {
            let (home, run, begin) = (&home, &run, &begin);
            let answering = |person: usize| {
                begin.wait();
                (person, home.answer(run, &format!("From {person}")))
            };
            let people: Vec<_> = (0..PEOPLE).map(|person| scope.spawn(move || answering(person))).collect();
            people.into_iter().map(|person| person.join().unwrap()).collect()
        });
        let (heard, refused): (Vec<_>, Vec<_>) = said.into_iter().partition(|(_, answer)| answer.code == Some(0));
        assert_eq!(heard.len(), 1, "{heard:?} {refused:?}");
        let next = heard[0].1.stdout.trim().to_owned();
        for (person, answer) in refused {
            let said = answer.failed(1);
            assert_says(&said, &[&run, "was answered at", "(moadim-mcp answer)"]);
            assert!(said.contains(&next) || said.contains("goes on soon"), "{person}: {said}");
        }
        assert_eq!(home.ended(&next), "succeeded");
        assert_eq!(answers(&home, &run), format!("From {}\n", heard[0].0));
        home.assert_continued_once(&run, &next);
    }
}

#[test]
fn what_cannot_be_continued_says_why_and_stays_as_it_is() {
    let (home, mut server) = Scene::asking("answers_from = \"anyone\"\n").start();
    let reaped = server.start_run("Reaped", "true", json!({ "ttl_secs": 1 }));
    server.wait_for_run(&reaped, "succeeded");
    let running = server.start_run("Running", "exec sleep 300", json!({}));
    home.add_agent("gone", "command = \"/nonexistent/agent\"\nlogin_shell = false\n");
    let routine = server.create("Never", "true", json!({ "agent": "gone" }));
    assert!(server.call_tool("trigger_routine", json!({ "routine": routine })).is_error);
    let listed = server.ok("list_runs", json!({ "routine": routine }));
    let never = text(&listed["runs"][0]["id"]);
    let continued = server.ask("Continued", ASKS, json!({}));
    let next = home.go_on(&continued, "Postgres");
    home.ended(&next);
    wait_until("the removal", || {
        server.clean_up();
        !home.workbench(&reaped).exists()
    });
    let before = home.readable_history().len();
    for (run, said) in [
        (&*reaped, "its workbench is gone"),
        (&running, "it is not over"),
        (&never, "its agent never started (launch_failed)"),
        (&continued, &next),
        ("running-1", "there is no run 'running-1'"),
        ("another-5", "there is no run 'another-5'"),
    ] {
        for refused in
            [home.answer(run, "Go on").failed(1), server.error("continue_run", json!({ "run": run, "text": "Go on" }))]
        {
            assert_says(&refused, &[run, said]);
        }
        assert!(run == continued || !home.continuation_file(run).exists(), "{run}");
        assert!(run == continued || !home.close_file(run).exists(), "{run}");
    }
    assert_eq!(home.readable_history().len(), before);
    assert_eq!(server.run(&running)["status"], "running");
    assert_eq!(server.clean_up()["killed"], json!([]));
    assert_eq!(server.problems(), Vec::<Value>::new());
    server.stop(&running);
}

#[test]
fn a_run_that_asked_nothing_is_given_more_to_do_once() {
    let (home, mut server) = Scene::asking("").start();
    for (title, prompt, status) in [("Good", "", "succeeded"), ("Bad", "exit 3", "failed")] {
        let prompt = format!("if [ -e answer.md ]; then cat answer.md >> answers; exit 0; fi\n{prompt}");
        let run = server.start_run(title, &prompt, json!({}));
        server.wait_for_run(&run, status);
        let next = home.go_on(&run, "Once more");
        assert_eq!(home.ended(&next), "succeeded");
        assert_eq!(answers(&home, &run), "Once more\n");
        assert_has(&server.whole_run(&run), json!({ "status": status, "continued_by": next, "question": null }));
        assert_says(&home.answer(&run, "And again").failed(1), &[&run, &next, "continues it already"]);
        assert_eq!((home.continued_by(&run), home.question_lines(&run).len()), (vec![next], 0));
    }
}

#[test]
fn a_process_in_the_workbench_is_named_and_keeps_a_continuation_out() {
    let (home, mut server) = Scene::asking("").start();
    let run = server.ask("Asks", ASKS, json!({}));
    let mut visitor = Command::new("sleep").arg("300").current_dir(home.workbench(&run)).spawn().unwrap();
    let refused = home.answer(&run, "Postgres").failed(1);
    assert_says(&refused, &["cannot continue", &format!("sleep ({})", visitor.id())]);
    assert_open(&home, &mut server, &run);
    visitor.kill().unwrap();
    visitor.wait().unwrap();
    assert_eq!(home.ended(&home.go_on(&run, "Postgres")), "succeeded");
}

#[test]
fn a_routine_that_is_off_or_gone_goes_on_with_nothing() {
    let (home, mut server) = Scene::asking("watchdog_interval_secs = 1\n").start();
    let run = server.ask("Asks", ASKS, json!({}));
    server.ok("update_routine", json!({ "routine": "asks", "enabled": false }));
    assert_says(&home.answer(&run, "Postgres").failed(1), &["'asks' is disabled"]);
    assert_open(&home, &mut server, &run);
    server.ok("update_routine", json!({ "routine": "asks", "enabled": true }));
    let left = server.ask("Left", ASKS, json!({}));
    server.ok("delete_routine", json!({ "routine": "left" }));
    assert_says(&home.answer(&left, "Postgres").failed(1), &["left"]);
    wait_until("the question to be moot", || !home.mark_file(&left).exists());
    assert_eq!(home.question_lines(&left)[0]["state"], "dismissed");
    // An answer that was given before its routine went leads nowhere, and troubles nobody.
    let late = server.ask("Late", ASKS, json!({}));
    server.ok("update_routine", json!({ "routine": "late", "enabled": false }));
    home.leave_answer(&late, "Postgres");
    wait_until("the trouble to be told", || {
        server.problems().iter().any(|one| one.to_string().contains("'late' is disabled"))
    });
    server.ok("delete_routine", json!({ "routine": "late" }));
    wait_until("the answer to be settled", || !home.mark_file(&late).exists());
    wait_until("no more trouble", || server.problems().is_empty());
    assert_eq!((home.continued_by(&late).len(), home.question_lines(&late).len()), (0, 1));
    assert_eq!(home.ended(&home.go_on(&run, "Postgres")), "succeeded");
}

#[test]
fn a_chain_has_one_workbench_which_each_of_its_runs_names_and_which_goes_once() {
    let (home, mut server) = Scene::asking("cleanup_interval_secs = 1\nwatchdog_interval_secs = 1\n").start();
    let more = json!({ "archive_files": ["work.txt"] });
    let mut chain = vec![server.ask("Chain", ASKS_UNTIL_DONE, more)];
    for answer in ["one", "two", "done"] {
        let next = home.go_on(chain.last().unwrap(), answer);
        chain.push(next.clone());
        home.ended(&next);
    }
    assert_eq!(answers(&home, &chain[0]), "one\ntwo\ndone\n");
    home.moadim(&["pin", &chain[3]]).ok();
    server.ok("update_routine", json!({ "routine": "chain", "ttl_secs": 1, "failed_ttl_secs": 1 }));
    // Others that are as old go.
    let control = server.start_run("Over", "true", json!({ "ttl_secs": 1 }));
    wait_until("the other one's removal", || !home.workbench(&control).exists());
    for (at, run) in chain.iter().enumerate() {
        assert_says(&home.moadim(&["logs", run]).ok(), &[&format!("this is {run}")]);
        assert_says(&server.log(run), &[&format!("this is {run}")]);
        let target = home.scratch().join(format!("live-{at}"));
        home.moadim(&["recover", run, target.to_str().unwrap()]).ok();
        assert_eq!(fs::read_to_string(target.join("work.txt")).unwrap(), "work\n".repeat(4), "{run}");
        assert_eq!(server.whole_run(run)["workbench"], home.workbench(&chain[0]).display().to_string());
    }
    home.moadim(&["pin", "--off", &chain[3]]).ok();
    wait_until("the workbench to go", || !home.workbench(&chain[0]).exists());
    let names = |folder: &str| -> Vec<String> {
        let files = fs::read_dir(home.root().join(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("chain-")).collect()
    };
    wait_until("its records to go", || names("questions").is_empty() && names("continuations").is_empty());
    assert_eq!((names("workbenches"), names("questions/open")), (vec![], vec![]));
    for (at, run) in chain.iter().enumerate() {
        let target = home.scratch().join(format!("archived-{at}"));
        home.moadim(&["recover", run, target.to_str().unwrap()]).ok();
        assert!(target.join("files/work.txt").is_file() || target.join("work.txt").is_file(), "{run}");
        let view = server.whole_run(run);
        let continues = if at == 0 { Value::Null } else { json!(chain[at - 1]) };
        assert_has(&view, json!({ "status": "reaped", "continues": continues }));
        assert_eq!(home.history(run).len(), 1);
        assert_eq!(home.question_lines(run).len(), usize::from(at < 3));
    }
    assert_eq!(server.problems(), Vec::<Value>::new());
}
