//! The main job, on both session hosts: a routine is created, triggered, watched and ends by itself.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Host, PATIENCE, Server, TestHome, assert_says, text, tmux, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

on_both_hosts! {
    a_run_works_is_watched_and_succeeds,
    how_a_run_ended_is_told,
    the_environment_is_what_was_asked_for_and_nothing_else,
    placeholders_are_filled_and_stdin_is_the_prompt_or_nothing,
    a_second_trigger_is_skipped_unless_it_is_allowed,
    what_the_agent_leaves_behind_is_ended,
    a_run_outlives_its_server,
    an_orderly_end_of_the_server_touches_no_run,
    an_agent_that_wrecks_its_workbench_is_still_recorded,
}

fn a_run_works_is_watched_and_succeeds(home: TestHome, host: Host) {
    let mut server = Server::start(&home);
    let prompt = "echo first line\nuntil [ -e go ]; do sleep 0.05; done\necho second line\n";
    let routine = server.create("Two Lines!", prompt, json!({}));
    assert_eq!(routine, "two-lines");
    let run = server.ok("trigger_routine", json!({ "routine": routine }))["run"].clone();
    let id = text(&run["id"]);
    assert_eq!(run["status"], "running", "{run}");
    assert_eq!(run["session_host"], host.name());
    assert_eq!(run["routine"], "two-lines");
    assert_eq!(run["session"], format!("moadim-{id}"));
    assert_eq!(run["workbench"], home.workbench(&id).to_str().unwrap());
    assert_eq!(run["kept_because"], "it is alive");
    assert_eq!(std::fs::read_to_string(home.workbench(&id).join("prompt.md")).unwrap(), prompt);
    server.wait_for_log(&id, "first line");
    assert!(!server.log(&id).contains("second line"));
    match host {
        Host::Tmux => watch(&home, &run),
        Host::Detached => assert!(run.get("attach_command").is_none(), "{run}"),
    }
    let routines = server.ok("list_routines", json!({}));
    assert_eq!(routines["routines"][0]["running"], json!([id]));
    assert_eq!(routines["routines"][0]["last_run"]["status"], "running");

    std::fs::write(home.workbench(&id).join("go"), "").unwrap();
    let ended = server.wait_for_run(&id, "succeeded");
    assert_eq!(ended["exit_code"], 0);
    assert!(ended.get("signal").is_none() && ended.get("status_reason").is_none(), "{ended}");
    assert!(ended.get("attach_command").is_none() && ended["reap_at"].is_string(), "{ended}");
    assert_eq!(server.log(&id), "first line\nsecond line\n");
    assert_eq!(ended["log_bytes"], home.raw_log(&id).len());
    assert_eq!(home.history(&id).len(), 1);
    let routines = server.ok("list_routines", json!({}));
    assert_eq!(routines["routines"][0]["running"], json!([]));
    assert_eq!(routines["routines"][0]["last_run"]["status"], "succeeded");
    if host == Host::Tmux {
        wait_for(PATIENCE, "the window to leave", || {
            let sessions = tmux(&home.root().join("tmux.sock"), &["list-sessions"]).stdout;
            (!String::from_utf8_lossy(&sessions).contains(&id)).then_some(())
        });
    }
}

/// Does what a person does with the attach command, as far as that goes without a terminal.
fn watch(home: &TestHome, run: &Value) {
    let attach = text(&run["attach_command"]);
    let shell = |command: &str| {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).env_remove("TMUX").env("TERM", "screen").current_dir("/");
        shell.output().unwrap()
    };
    // It is exact: it finds the session, which opens a moment after the agent has started, and only then misses the terminal.
    wait_for(PATIENCE, "the window", || {
        String::from_utf8_lossy(&shell(&attach).stderr).contains("not a terminal").then_some(())
    });
    let (client, session) = attach.split_once(" attach -t ").expect("an attach command");
    assert!(session.contains(&format!("={}", text(&run["session"]))), "{attach}");
    assert!(client.contains(home.root().join("tmux.sock").to_str().unwrap()), "{attach}");
    wait_until("the window to show the log", || {
        let shown = shell(&format!("{client} capture-pane -p -t {session}:"));
        String::from_utf8_lossy(&shown.stdout).contains("first line")
    });
}

fn how_a_run_ended_is_told(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let code = server.start_run("Code", "exit 7", json!({}));
    let signal = server.start_run("Signal", "kill -KILL $$", json!({}));
    let code = server.wait_for_run(&code, "failed");
    assert_eq!(code["exit_code"], 7);
    assert!(code.get("signal").is_none() && text(&code["status_reason"]).contains("status 7"), "{code}");
    let signal = server.wait_for_run(&signal, "failed");
    assert_eq!(signal["signal"], 9);
    assert!(signal.get("exit_code").is_none() && text(&signal["status_reason"]).contains("signal 9"), "{signal}");
}

fn the_environment_is_what_was_asked_for_and_nothing_else(home: TestHome, host: Host) {
    home.add_agent(
        "shell",
        "command = 'sh'\ninherit_env = ['ASKED_FOR', 'NOT_SET']\naccept_env = ['ROUTINE_SAYS', 'BOTH']\nenv = { AGENT_SAYS = 'a b', BOTH = 'agent' }\n",
    );
    let mut command = home.command();
    command.envs([("ASKED_FOR", "granted"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("LC_TIME", "C")]);
    // A server that runs within a session, below a run of its own, passes none of that on.
    command.envs([("TMUX", "/nowhere,1,0"), ("MOADIM_RUN", "other-1"), ("MOADIM_COOKIE", "0")]);
    let mut server = Server::spawn(command);
    server.introduce(crate::harness::Era::Legacy("2025-11-25"));
    let env = json!({ "env": { "ROUTINE_SAYS": "$HOME '\"", "BOTH": "routine" } });
    let run = server.routine("Env", "env | sort; echo \"cwd=$(pwd -P)\"").with(env).run_to("succeeded");
    let log = server.log(&run);
    let manifest = &home.history(&run)[0];
    let expected = [
        "ASKED_FOR=granted".to_owned(),
        "AGENT_SAYS=a b".to_owned(),
        "BOTH=routine".to_owned(),
        "ROUTINE_SAYS=$HOME '\"".to_owned(),
        "LC_TIME=C".to_owned(),
        format!("HOME={}", home.user().display()),
        format!("MOADIM_RUN={run}"),
        format!("MOADIM_HOME={}", home.root().display()),
        format!("MOADIM_COOKIE={}", text(&manifest["cookie"])),
        format!("cwd={}", home.workbench(&run).display()),
    ];
    for line in &expected {
        assert!(log.lines().any(|found| found == line), "{line} is missing in:\n{log}");
    }
    for name in ["AWS_SECRET_ACCESS_KEY", "hunter2", "TMUX=", "NOT_SET"] {
        assert!(!log.contains(name), "{name} in:\n{log}");
    }
    if host == Host::Tmux {
        let windows = tmux(&home.root().join("tmux.sock"), &["show-environment", "-g"]);
        assert!(!String::from_utf8_lossy(&windows.stdout).contains("hunter2"), "{windows:?}");
    }
    let routines = server.ok("list_routines", json!({}));
    assert_eq!(routines["routines"][0]["env_keys"], json!(["BOTH", "ROUTINE_SAYS"]));
    assert!(!routines.to_string().contains("$HOME"), "values are never shown: {routines}");
}

fn placeholders_are_filled_and_stdin_is_the_prompt_or_nothing(home: TestHome, _: Host) {
    let script = r#"for word in "$@"; do printf '[%s]\n' "$word"; done; printf 'stdin:'; cat"#;
    let args = r#"["-c", SCRIPT, "name", "{prompt}", "{prompt_file}", "{workbench}:{run}", "{other}"]"#;
    for (agent, stdin) in [("quiet", "none"), ("fed", "prompt")] {
        let args = args.replace("SCRIPT", &format!("{script:?}"));
        home.add_agent(agent, &format!("command = \"sh\"\nargs = {args}\nstdin = \"{stdin}\"\n"));
    }
    let mut server = Server::start(&home);
    let prompt = "do {run}; $(touch hacked) 'x' \"y\"";
    for agent in ["quiet", "fed"] {
        let run = server.routine(agent, prompt).with(json!({ "agent": agent })).run_to("succeeded");
        let workbench = home.workbench(&run);
        let shown = workbench.display();
        let fed = if agent == "fed" { prompt } else { "" };
        let expected = format!("[{prompt}]\n[{shown}/prompt.md]\n[{shown}:{run}]\n[{{other}}]\nstdin:{fed}");
        assert_eq!(server.log(&run), expected);
        assert!(!workbench.join("hacked").exists());
    }
}

fn a_second_trigger_is_skipped_unless_it_is_allowed(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let routine = server.create("Long", "sleep 300", json!({}));
    let first = server.trigger(&routine);
    for arguments in [json!({ "routine": routine }), json!({ "routine": routine, "overlap": "skip" })] {
        let error = server.error("trigger_routine", arguments);
        assert_says(&error, &[first.as_str(), "stop_run", "overlap = \"allow\""]);
    }
    let allow = json!({ "routine": routine, "overlap": "allow" });
    let calls: Vec<u64> = (0..2).map(|_| server.send_call("trigger_routine", allow.clone())).collect();
    let mut ids: Vec<String> =
        calls.into_iter().map(|call| text(&server.tool_answer(call).ok()["run"]["id"])).collect();
    ids.push(first);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    let listed = server.ok("list_runs", json!({ "routine": routine, "status": "running" }));
    assert_eq!(listed["total"], 3);
    for id in &ids {
        assert_eq!(server.stop(id)["status"], "stopped");
    }
    assert!(server.ok("trigger_routine", json!({ "routine": routine }))["run"]["id"].is_string());
}

fn what_the_agent_leaves_behind_is_ended(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let prompt =
        "nohup sleep 300 >/dev/null 2>&1 &\nsetsid sleep 300 &\n(trap '' TERM HUP; exec sleep 300) &\nexit 3\n";
    let run = server.start_run("Litter", prompt, json!({}));
    let ended = server.wait_for_run(&run, "failed");
    assert_eq!(ended["exit_code"], 3, "its own end counts, not that of what was left");
    assert_eq!(home.processes_named("sleep"), []);
}

fn a_run_outlives_its_server(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let prompt = "echo up\nuntil [ -e go ]; do sleep 0.05; done\necho on and on\nsleep 300\n";
    let run = server.start_run("Survivor", prompt, json!({}));
    server.wait_for_log(&run, "up");
    server.signal(Signal::KILL);
    server.wait();
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    wait_until("the log to grow without a server", || home.raw_log(&run).contains("on and on"));
    let mut next = Server::start_modern(&home);
    let seen = next.run(&run);
    assert_eq!(seen["status"], "running", "{seen}");
    assert!(seen.get("status_reason").is_none(), "{seen}");
    assert_eq!(next.stop(&run)["status"], "stopped");
}

fn an_orderly_end_of_the_server_touches_no_run(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let run = server.start_run("Goes on", "until [ -e go ]; do sleep 0.05; done\necho done", json!({}));
    let (status, took) = server.close_stdin_and_wait();
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    assert!(!server.stderr().contains("left while calls were under way"), "{}", server.stderr());
    assert_eq!(home.outcome(&run), None);
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    let outcome = wait_for(PATIENCE, "the outcome", || home.outcome(&run));
    assert_eq!(outcome["status"], "succeeded", "{outcome}");
    assert_eq!(home.raw_log(&run), "done\n");
}

fn an_agent_that_wrecks_its_workbench_is_still_recorded(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let gone = server.start_run("Gone", "cd ..; rm -rf \"$MOADIM_RUN\"; exit 4", json!({}));
    let fooled = server.start_run(
        "Fooled",
        "rm -f agent.log prompt.md; ln -s /etc/passwd agent.log; mkdir outcome.json; touch outcome.json/x; exit 5",
        json!({}),
    );
    assert_eq!(server.wait_for_run(&gone, "failed")["exit_code"], 4);
    let run = server.wait_for_run(&fooled, "failed");
    assert_eq!((run["exit_code"].clone(), run["log_bytes"].clone()), (json!(5), json!(0)));
    assert!(server.error("read_log", json!({ "run": fooled })).contains("agent.log"));
    assert!(!home.entry(&gone).exists() && !home.entry(&fooled).exists());
}
