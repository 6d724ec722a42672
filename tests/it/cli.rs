//! The commands for people: the real program, real runs, and what a person or a script gets of it.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::harness::{Answer, Host, PATIENCE, Server, TestHome, script_is_there, tmux, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn spawn(home: &TestHome, words: &[&str]) -> std::process::Child {
    let mut command = home.command();
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Writes a routine by hand, as a person does; the agent `shell` executes its prompt.
fn routine(home: &TestHome, slug: &str, prompt: &str, more: &str) {
    // The program makes the home, and with it the folder.
    home.moadim(&["runs"]).ok();
    let text = format!(
        "title = \"The {slug}\"\nagent = \"shell\"\ncreated_at = \"2026-01-01T00:00:00Z\"\nupdated_at = \
         \"2026-01-01T00:00:00Z\"\n{more}"
    );
    home.write(format!("routines/{slug}/routine.toml"), &text);
    home.write(format!("routines/{slug}/prompt.md"), prompt);
}

/// Triggers a routine and returns the run's id.
#[track_caller]
fn trigger(home: &TestHome, slug: &str) -> String {
    home.moadim(&["trigger", slug]).ok().trim().to_owned()
}

#[test]
fn lists_are_tables_for_people_and_documents_for_programs() {
    let home = TestHome::detached("");
    let none = home.moadim(&["runs"]);
    assert!(none.stdout.is_empty() && none.stderr.contains("no runs"), "{none:?}");
    routine(&home, "tidy", "echo hello; exit 3", "tags = [\"x\"]\n");
    routine(&home, "other", "echo", "enabled = false\n");
    assert_eq!(home.moadim(&["trigger", "tidy", "--wait"]).code, Some(3));

    let table = home.moadim(&["routines"]).ok();
    assert!(table.starts_with("ROUTINE") && !table.contains('\u{1b}'), "no colour in a pipe: {table}");
    assert!(table.contains("The tidy") && table.contains("failed") && table.contains("disabled"), "{table}");
    let listed = home.moadim(&["routines", "--json"]).json();
    assert_eq!((&listed["total"], &listed["routines"][1]["slug"]), (&2.into(), &"tidy".into()));
    assert_eq!(home.moadim(&["routines", "--tag", "x", "--json"]).json()["total"], 1);
    assert_eq!(home.moadim(&["routines", "OTH", "--json"]).json()["routines"][0]["slug"], "other");

    let run = listed["routines"][1]["last_run"]["run"].as_str().unwrap().to_owned();
    let table = home.moadim(&["runs"]).ok();
    assert_eq!(table.lines().count(), 2, "a line for each row: {table}");
    assert!(table.contains(&run) && table.contains("exited with status 3") && table.contains("ago)"), "{table}");
    assert_eq!(home.moadim(&["runs", "--json", "--status", "failed"]).json()["runs"][0]["id"], run.as_str());
    assert_eq!(home.moadim(&["runs", "--json", "--status", "succeeded"]).json()["total"], 0);
    assert_eq!(home.moadim(&["runs", "--json", "--routine", "other"]).json()["total"], 0);

    let table = home.moadim(&["agents"]).ok();
    assert!(table.contains("shell") && table.contains("yes"), "{table}");
    assert_eq!(home.moadim(&["agents", "--json"]).json()["agents"][6]["name"], "shell");
}

#[test]
fn a_log_is_printed_cut_searched_and_followed_to_the_end_of_its_run() {
    let home = TestHome::detached("");
    let go = home.scratch().join("go");
    let prompt = format!("echo one; echo two; until [ -e {} ]; do sleep 0.05; done; echo last", go.display());
    routine(&home, "talker", &prompt, "");
    let run = trigger(&home, "talker");
    wait_until("its first lines", || home.moadim(&["logs", &run]).ok().contains("two"));
    assert_eq!(home.moadim(&["logs", "talker"]).ok(), "one\ntwo\n", "by the routine's name");
    assert_eq!(home.moadim(&["logs", "talker", "-n", "1"]).ok(), "two\n");
    assert_eq!(home.moadim(&["logs", "talker", "--grep", "ON"]).ok(), "one\n");
    assert_eq!(home.moadim(&["logs", "talker", "--json"]).json()["text"], "one\ntwo\n");

    let mut follower = spawn(&home, &["logs", "-f", "-n", "1", &run]);
    let mut stdout = follower.stdout.take().unwrap();
    let mut first = [0; 4];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"two\n");
    std::fs::write(&go, "").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last\n");
    assert!(follower.wait().unwrap().success());
    assert_eq!(home.moadim(&["logs", "-f", &run]).ok(), "one\ntwo\nlast\n", "of a run that is over");
}

#[test]
fn what_shows_a_run_in_its_window_stays_while_the_log_cannot_be_read() {
    let home = TestHome::detached("");
    let go = home.scratch().join("go");
    let prompt = format!("echo one; until [ -e {} ]; do sleep 0.05; done; echo last", go.display());
    routine(&home, "talker", &prompt, "");
    let run = trigger(&home, "talker");
    let (log, aside) = (home.workbench(&run).join("agent.log"), home.workbench(&run).join("aside"));
    wait_until("its first line", || home.raw_log(&run) == "one\n");
    let mut window = spawn(&home, &["follow", home.root().to_str().unwrap(), &run]);
    let mut stdout = window.stdout.take().unwrap();
    let mut first = [0; 4];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"one\n");
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    let mut problem = [0; 9];
    stdout.read_exact(&mut problem).unwrap();
    assert_eq!(&problem, b"[moadim] ");
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    std::fs::write(&go, "").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("agent.log") && rest.ends_with("last\n") && !rest.contains("[moadim]"), "{rest}");
    assert!(window.wait().unwrap().success());
}

#[test]
fn a_trigger_that_waits_exits_as_the_run_did() {
    let home = TestHome::detached("");
    let cases = [
        ("good", "echo fine", "", 0, "succeeded"),
        ("bad", "exit 7", "", 7, "failed"),
        ("shot", "kill -9 $$", "", 137, "failed"),
        ("late", "sleep 100", "max_runtime_secs = 1\n", 124, "timed_out"),
        ("mute", "sleep 100", "max_silence_secs = 1\n", 124, "silent"),
    ];
    for (slug, prompt, more, ..) in cases {
        routine(&home, slug, prompt, more);
    }
    let waiting = cases.map(|(slug, ..)| spawn(&home, &["trigger", slug, "--wait"]));
    for (child, (slug, _, _, code, status)) in waiting.into_iter().zip(cases) {
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert_eq!(answer.code, Some(code), "{slug}: {answer:?}");
        assert!(answer.stdout.starts_with(&format!("{slug}-")) && answer.stderr.contains(status), "{answer:?}");
    }
    let answer = home.moadim(&["trigger", "bad", "--wait", "--json"]);
    assert_eq!(answer.code, Some(7));
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((&answer["finished"], &answer["run"]["status"]), (&true.into(), &"failed".into()));
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_run_which_a_stop_does() {
    let home = TestHome::detached("");
    routine(&home, "long", "sleep 1000", "");
    let mut waiting = spawn(&home, &["trigger", "long", "--wait"]);
    let mut run = Vec::new();
    let stdout = waiting.stdout.as_mut().unwrap();
    while !run.ends_with(b"\n") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        run.push(byte[0]);
    }
    let run = String::from_utf8(run).unwrap().trim().to_owned();
    kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    waiting.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("goes on"), "{said}");

    let error = home.moadim(&["trigger", "long"]).failed(1);
    assert!(error.contains("overlap"), "{error}");
    let second = home.moadim(&["trigger", "long", "--overlap", "allow", "--json"]).json();
    assert_eq!(second["run"]["status"], "running");
    let stopped = home.moadim(&["stop", &run, "--reason", "enough"]).ok();
    assert!(stopped.contains("stopped: enough"), "{stopped}");
    let stopped = home.moadim(&["stop", "long", "--json"]).json();
    assert_eq!((&stopped["run"]["id"], &stopped["run"]["status"]), (&second["run"]["id"], &"stopped".into()));
}

#[test]
fn attach_says_why_there_is_nothing_to_attach_to() {
    let home = TestHome::detached("");
    routine(&home, "here", "sleep 1000", "");
    let run = trigger(&home, "here");
    let error = home.moadim(&["attach", "here"]).failed(1);
    assert!(error.contains("detached") && error.contains(&format!("logs -f {run}")), "{error}");
    home.moadim(&["stop", "here"]).ok();
    let error = home.moadim(&["attach", &run]).failed(1);
    assert!(error.contains("is over (stopped)"), "{error}");
    let error = home.moadim(&["attach", "nowhere"]).failed(1);
    assert!(error.contains("no run 'nowhere'"), "{error}");
}

#[test]
fn attach_is_tmux_where_there_is_a_window() {
    let Some(home) = Host::Tmux.home() else { return };
    home.add_shell();
    routine(&home, "here", "sleep 1000", "");
    trigger(&home, "here");
    let error = home.moadim(&["attach", "here"]).failed(1);
    assert!(error.contains("needs a terminal") && error.contains(" attach -t "), "{error}");
    if !script_is_there() {
        return;
    }
    let mut attached = home.on_a_terminal("attach here").spawn().unwrap();
    let socket = home.root().join("tmux.sock");
    wait_until("a client of the session", || {
        let clients = tmux(&socket, &["list-clients", "-F", "#{session_name}"]);
        String::from_utf8_lossy(&clients.stdout).contains("moadim-here-")
    });
    home.moadim(&["stop", "here"]).ok();
    wait_for(PATIENCE, "the end of the terminal", || attached.try_wait().unwrap());
}

#[test]
fn on_a_terminal_tables_fit_it_and_are_coloured_unless_that_is_not_wanted() {
    if !script_is_there() {
        return;
    }
    let home = TestHome::detached("");
    routine(&home, "a-routine-with-a-long-name", "echo", "");
    trigger(&home, "a-routine-with-a-long-name");
    let shown = |mut command: Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    let coloured = shown(home.on_a_terminal("runs"));
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    let mut plain = home.on_a_terminal("runs");
    plain.env("NO_COLOR", "1");
    let plain = shown(plain);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(plain.lines().all(|line| line.trim_end().chars().count() <= 70), "{plain}");
    assert!(plain.contains("a-routine-with-a-long-name-1"), "whole: {plain}");
    assert!(plain.lines().count() > 2, "what does not fit is wrapped: {plain}");
}

#[test]
fn a_clean_up_says_what_it_would_do_and_does_it_and_a_pin_keeps() {
    let home = TestHome::detached("");
    routine(&home, "brief", "head -c 300000 /dev/zero > big", "ttl_secs = 1\n");
    let runs: Vec<String> = (0..2)
        .map(|_| {
            let answer = home.moadim(&["trigger", "brief", "--wait", "--json"]).json();
            answer["run"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    runs.iter().for_each(|run| home.wait_for_the_last_of(run));
    let (doomed, pinned) = (&runs[0], &runs[1]);
    assert!(home.moadim(&["pin", "brief"]).ok().starts_with(pinned), "the newest");
    let table = home.moadim(&["runs"]).ok();
    assert!(table.contains("WORKBENCH") && table.contains("kept: it is pinned"), "{table}");
    let would = wait_for(PATIENCE, "the end of its retention", || {
        let table = home.moadim(&["cleanup", "--dry-run"]).ok();
        table.contains("would be removed").then_some(table)
    });
    assert!(would.contains(doomed) && would.contains("KiB") && would.contains("pinned"), "{would}");
    let sizes = home.moadim(&["cleanup", "--dry-run", "--json"]).json();
    assert_eq!(sizes["removable_bytes"], sizes["removed"][0]["bytes"], "{sizes}");
    let elsewhere = home.moadim(&["cleanup", "--routine", "nothing", "--json"]).json();
    assert_eq!(elsewhere["removed_total"], 0);
    let done = home.moadim(&["cleanup"]);
    assert!(done.stderr.contains("1 of 2 workbenches removed"), "{done:?}");
    assert!(!done.stderr.contains('\u{1b}') && done.ok().contains("removed"));
    assert!(!home.workbench(doomed).exists() && home.workbench(pinned).exists());
    let reaped = home.moadim(&["runs", "--status", "reaped", "--json"]).json();
    assert_eq!(reaped["runs"][0]["id"], doomed.as_str());
    let unpinned = home.moadim(&["pin", pinned, "--off", "--json"]).json();
    assert!(unpinned["run"].get("pinned").is_none(), "{unpinned}");
    wait_until("the end of the other's retention", || {
        let report = home.moadim(&["cleanup", "--json"]).json();
        report["removed"][0]["run"] == pinned.as_str()
    });
    if script_is_there() {
        routine(&home, "bar", "head -c 300000 /dev/zero > big", "ttl_secs = 1\n");
        assert_eq!(home.moadim(&["trigger", "bar", "--wait"]).code, Some(0));
        let shown = wait_for(PATIENCE, "a clean-up with something to do", || {
            let output = home.on_a_terminal("cleanup").output().unwrap();
            let shown = String::from_utf8(output.stdout).unwrap();
            shown.contains("1 of 1 workbenches removed").then_some(shown)
        });
        assert!(shown.contains("0/1 workbenches, 0 B freed"), "{shown:?}");
    }
    let error = home.moadim(&["pin", doomed]).failed(1);
    assert!(error.contains("no workbench"), "{error}");
}

/// Returns the checks that are not well.
fn wrong(answer: Answer) -> Vec<Value> {
    let code = answer.code;
    let report: Value = serde_json::from_str(&answer.stdout).expect("one JSON document");
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["well"] == false);
    let wrong: Vec<Value> = checks.cloned().collect();
    assert_eq!((report["well"] == true, code), (wrong.is_empty(), Some(i32::from(!wrong.is_empty()))));
    wrong
}

#[test]
fn the_doctor_finds_what_is_wrong_and_names_what_mends_it() {
    let home = TestHome::detached("");
    let doctor = || wrong(home.moadim(&["doctor", "--json"]));
    assert_eq!(doctor(), [] as [Value; 0], "a fresh home");
    let server = Server::start(&home);
    let all = home.moadim(&["doctor"]).ok();
    assert!(all.contains("background: server "), "{all}");
    drop(server);
    for what in ["ok    home", "tmux", "login shell", "agent shell", "locks", "clock", "disk", "service"] {
        assert!(all.contains(what), "{what}: {all}");
    }
    routine(&home, "alien", "echo", "");
    home.write("routines/alien/routine.toml", "title = ");
    routine(&home, "orphan", "echo", "");
    std::fs::remove_file(home.root().join("agents/shell.toml")).unwrap();
    home.add_agent("broken", "command = 7\n");
    let found = doctor();
    let fix = |what: &str| -> String {
        let check = found.iter().find(|check| check["what"].as_str().unwrap().contains(what));
        check.unwrap_or_else(|| panic!("{what}: {found:?}"))["fix"].as_str().unwrap().to_owned()
    };
    assert!(fix("alien/routine.toml").contains("mv '"));
    assert!(fix("agents/broken.toml").contains("mv '"));
    assert!(fix("agent shell").contains("agents/shell.toml"));
    let said = home.moadim(&["doctor"]);
    assert!(said.code == Some(1) && said.stdout.contains("WRONG agent shell") && said.stdout.contains("fix: "));
    assert!(said.stdout.contains("broken.toml is damaged: line 1, column 11: "), "{}", said.stdout);
}

#[test]
fn the_doctor_asks_tmux_whether_it_answers() {
    let Some(home) = Host::Tmux.home() else { return };
    let of_tmux = || -> Vec<Value> {
        let found = wrong(home.moadim(&["doctor", "--json"]));
        found.into_iter().filter(|check| check["what"] == "tmux").collect()
    };
    assert_eq!(of_tmux(), [] as [Value; 0], "no server yet");
    routine(&home, "here", "sleep 1000", "");
    trigger(&home, "here");
    assert_eq!(of_tmux(), [] as [Value; 0]);
    let pid = tmux(&home.root().join("tmux.sock"), &["display-message", "-p", "#{pid}"]).stdout;
    let server = Pid::from_raw(String::from_utf8(pid).unwrap().trim().parse().unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    let found = of_tmux();
    kill_process(server, Signal::CONT).unwrap();
    assert!(found[0]["found"].as_str().unwrap().starts_with("tmux did not answer in time"), "{found:?}");
    home.moadim(&["stop", "here"]).ok();
}

#[test]
fn the_doctor_looks_at_a_home_that_no_other_command_opens() {
    let home = TestHome::detached("");
    std::fs::set_permissions(home.root(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let found = wrong(home.moadim(&["doctor", "--json"]));
    assert_eq!(found[0]["fix"], format!("chmod go-w '{}'", home.root().display()));
    assert!(home.moadim(&["runs"]).failed(1).contains("chmod go-w"));
    std::fs::set_permissions(home.root(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    home.configure("kill_grace_secs = \"long\"\n");
    let found = wrong(home.moadim(&["doctor", "--json"]));
    assert!(found.iter().any(|check| check["what"].as_str().unwrap().ends_with("config.toml")), "{found:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = TestHome::detached("");
    routine(&home, "much", "yes | head -n 100000", "");
    assert_eq!(home.moadim(&["trigger", "much", "--wait"]).code, Some(0));
    let script = |words: &str| -> Answer {
        let mut shell = Command::new("bash");
        let program = env!("CARGO_BIN_EXE_moadim-mcp");
        let text = format!("set -o pipefail; '{program}' {words} | head -n 1");
        let ours = home.command();
        shell.arg("-c").arg(text).env_clear();
        ours.get_envs().for_each(|(name, value)| {
            shell.env(name, value.unwrap());
        });
        shell.output().unwrap().into()
    };
    for words in ["logs much -n 10000", "logs -f much -n 10000", "logs much --grep y", "generate zsh", "agents --json"]
    {
        let answer = script(words);
        assert_eq!((answer.code, answer.stdout.lines().count()), (Some(0), 1), "{words}: {answer:?}");
        assert!(answer.stderr.lines().all(|line| line.contains("cut: ")), "{words}: {answer:?}");
    }
}

#[test]
fn wrong_words_are_refused_with_2_and_failures_with_1() {
    let home = TestHome::detached("");
    for words in [
        ["runs", "--status", "odd"].as_slice(),
        &["trigger"],
        &["trigger", "Not A Slug"],
        &["logs", "a", "-f", "--json"],
        &["fly"],
    ] {
        home.moadim(words).failed(2);
    }
    let error = home.moadim(&["runs", "--limit", "9999"]).failed(1);
    assert!(error.contains("200"), "{error}");
    let error = home.moadim(&["trigger", "nothing"]).failed(1);
    assert!(error.contains("nothing"), "{error}");
    assert!(home.moadim(&["--help"]).ok().contains("Exit status"));
}

#[test]
fn completions_and_the_man_page_are_made() {
    let home = TestHome::new();
    for (what, sign) in [
        ("bash", "complete "),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
        ("elvish", "edit:"),
        ("powershell", "Register"),
    ] {
        let script = home.moadim(&["generate", what]).ok();
        assert!(script.contains(sign) && script.contains("trigger") && !script.contains("print-path"), "{what}");
    }
    let page = home.moadim(&["generate", "man"]).ok();
    assert!(page.contains(".TH moadim-mcp 1") && page.contains("trigger"), "{page}");
}

#[test]
fn a_run_that_was_reaped_while_it_was_waited_for_ends_the_waiting_as_it_ended() {
    let home = TestHome::detached("default_failed_ttl_secs = 1\n");
    routine(&home, "quick", "sleep 1; exit 3", "");
    let mut waiting = spawn(&home, &["trigger", "quick", "--wait"]);
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(waiting.stdout.as_mut().unwrap()), &mut first).unwrap();
    let run = first.trim();
    let pid = rustix::process::Pid::from_child(&waiting);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    wait_until("the workbench to go", || {
        home.moadim(&["cleanup"]);
        !home.workbench(run).exists()
    });
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let answer: Answer = waiting.wait_with_output().unwrap().into();
    assert!(answer.code == Some(3) && answer.stderr.contains("failed after"), "{answer:?}");
    assert!(home.moadim(&["stop", run]).ok().contains("failed"), "stopping it says how it ended");
}

#[test]
fn runs_are_listed_since_times_as_people_type_them() {
    let home = TestHome::detached("");
    routine(&home, "job", "true", "");
    home.moadim(&["trigger", "job", "--wait"]);
    let total = |words: &[&str]| home.moadim(&[&["runs", "--json"], words].concat()).json()["total"].clone();
    for (words, expected) in [
        (&["--since", "2h"][..], 1),
        (&["--since", "yesterday"], 1),
        (&["--since", "2020-01-31"], 1),
        (&["--until", "2020-01-31"], 0),
        (&["--until", "1h"], 0),
        (&["--since", "2020-01-31", "--until", "now"], 1),
    ] {
        assert_eq!(total(words), expected, "{words:?}");
    }
    let error = home.moadim(&["runs", "--since", "someday"]).failed(2);
    assert!(error.contains("yesterday") && error.contains("2026-01-31"), "{error}");
    let error = home.moadim(&["runs", "--routine", "jop"]).failed(1);
    assert!(error.contains("no routine 'jop'") && error.contains("'job'"), "{error}");
}

#[test]
fn a_title_in_any_script_is_shown_as_it_is() {
    let home = TestHome::detached("");
    for (slug, title) in [("hindi", "हिन्दी सारांश"), ("family", "👨‍👩‍👧‍👦 plan"), ("cafe", "cafe\u{301}")]
    {
        routine(&home, slug, "true", "");
        let file = format!("routines/{slug}/routine.toml");
        let text = home.read(&file);
        home.write(&file, &text.replace(&format!("title = \"The {slug}\""), &format!("title = \"{title}\"")));
        let table = home.moadim(&["routines"]).ok();
        assert!(table.contains(title), "{title}: {table}");
    }
}

#[test]
fn a_reader_that_is_gone_is_no_error_of_any_command() {
    let home = TestHome::detached("");
    home.add_shell();
    let mut server = Server::start(&home);
    let run = server.start_run("Ends", "true", json!({}));
    server.wait_for_run(&run, "succeeded");
    for words in [
        vec!["agents"],
        vec!["routines"],
        vec!["runs"],
        vec!["usage"],
        vec!["show", "ends"],
        vec!["show", &run],
        vec!["logs", &run],
        vec!["doctor"],
        vec!["recover", "--list"],
        vec!["cleanup", "--dry-run"],
        vec!["generate", "config.schema.json"],
    ] {
        // A pipe that nobody reads is closed before the program can write.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = home.command().args(&words).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && !said.contains("panicked"), "{words:?}: {} {said}", ended.status);
    }
}
