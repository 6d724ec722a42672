//! The verification: a command of a person decides whether a run whose agent ended well has succeeded.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::harness::{
    PATIENCE, Scene, Seen, Server, TestHome, assert_has, assert_says, both_shells, lacks, sh, text, wait_for,
    wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Starts a run that goes on until its verification has begun, and returns its id.
#[track_caller]
fn verifying(home: &TestHome, server: &mut Server, title: &str, more: Value, lines: &str) -> String {
    let routine = server.routine(title, "echo work").with(more).create();
    home.trust(&routine, lines);
    let run = server.trigger(&routine);
    wait_until("the verification", || home.workbench(&run).join("began").exists());
    run
}

/// What says that it began, and then goes on for long.
const LONG: &str = "touch began; sleep 300";

#[test]
fn a_run_succeeds_only_if_its_verification_passes() {
    let (home, mut server) = Scene::new().start();
    for agent in both_shells(&home) {
        let good = sh("verify", "cat made; echo fine >&2; echo {run} {workbench} {prompt_file}");
        let run = home.run_checked(&mut server, agent, ("Good", "echo work > made"), &good, "succeeded");
        assert_has(
            &run.view,
            json!({ "verified": true, "exit_code": 0, "status_reason": null, "disagreements": null }),
        );
        let workbench = home.workbench(&run);
        let places = format!("{run} {0} {0}/prompt.md", workbench.display());
        assert_says(&server.log(&run), &["verifying: sh -c", "work\n", "fine\n", &places, "] verified\n"]);
        for (script, words) in [
            ("echo 1 of 3; echo 2 tests failed; exit 1", "sh exited with status 1: 1 of 3; 2 tests failed"),
            ("kill -9 $$", "sh was ended by signal 9"),
            ("printf '\\033[31mred\\033[0m'; exit 7", "sh exited with status 7: red"),
        ] {
            let run = home.run_checked(&mut server, agent, ("Bad", "echo work"), &sh("verify", script), "failed");
            let reason = format!("verification failed: {words}");
            let expected = json!({
                "verified": false, "exit_code": 0, "status_reason": reason, "disagreements": ["verification_failed"],
            });
            assert_has(&run.view, expected.clone());
            assert_has(&server.ok("get_run", json!({ "run": run }))["run"], expected);
            assert_has(&home.history(&run)[0], json!({ "verified": false, "reason": reason }));
            assert_says(&server.log(&run), &[&reason]);
            assert_says(&home.moadim(&["runs"]).ok(), &["verification failed"]);
            assert_says(&home.moadim(&["show", &run]).ok(), &["verified  ", "verification failed"]);
        }
        let missing = "verify = ['no-such-program', 'x']";
        let run = home.run_checked(&mut server, agent, ("Missing", "true"), missing, "failed");
        let reason = text(&run["status_reason"]);
        assert_says(&reason, &["verification failed: no-such-program could not be started: ", "no-such-program"]);
    }
    let routine = server.create("Waited", "true", json!({}));
    home.trust(&routine, "verify = ['false']");
    let waited = home.moadim(&["trigger", &routine, "--wait"]);
    assert_eq!(waited.code, Some(1), "{waited:?}");
}

#[test]
fn the_agents_verification_counts_unless_the_routine_has_its_own() {
    let (home, mut server) = Scene::new().agent("strict", &sh("verify", "exit 3")).start();
    let routine = server.routine("Strict", "echo work").with(json!({ "agent": "strict" })).create();
    assert_says(&text(&server.run_to(&routine, "failed")["status_reason"]), &["sh exited with status 3"]);
    home.trust(&routine, "verify = ['true']");
    assert_has(&server.run_to(&routine, "succeeded").view, json!({ "verified": true }));
    home.trust(&routine, "verify = []");
    let run = server.run_to(&routine, "succeeded");
    assert!(lacks(&run.view, "verified"), "{}", run.view);
    assert!(!server.log(&run).contains("verif"));
}

#[test]
fn only_what_ended_well_is_verified() {
    let (home, mut server) = Scene::new().start();
    let marks = sh("verify", "touch verified");
    let run = home.run_checked(&mut server, "shell", ("Fails", "exit 3"), &marks, "failed");
    assert_has(&run.view, json!({ "verified": null, "exit_code": 3, "disagreements": null }));
    assert!(!home.workbench(&run).join("verified").exists());
}

#[test]
fn no_secret_of_the_agent_is_in_its_environment() {
    let home = TestHome::detached("");
    home.write(".profile-made", "");
    fs::write(home.user().join(".profile"), "export FROM_HOST=hush-host FROM_PROFILE=open-profile\n").unwrap();
    let secrets = ["hush-host", "hush-file", "hush-trusted"];
    for (agent, login_shell) in [("plain", false), ("login", true)] {
        let lines =
            format!("inherit_env = ['FROM_HOST', 'PATH']\nlogin_shell = {login_shell}\n[env]\nOPEN = 'open-agent'\n");
        home.add_agent(agent, &format!("command = \"sh\"\n{lines}"));
        home.write(format!("agents/{agent}.env"), "FROM_FILE=hush-file\n");
        let file = home.root().join(format!("agents/{agent}.env"));
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let mut server = Server::start_with_env(&home, &[("FROM_HOST", "hush-host")]);
    for (agent, login_shell) in [("plain", false), ("login", true)] {
        let routine =
            server.routine(&format!("Keys {agent}"), "env > agent.env").with(json!({ "agent": agent })).create();
        let wait = "env > {workbench}/SELF; touch {workbench}/began; while [ ! -e go ]; do sleep 0.02; done";
        let lines = [
            sh("precheck", "env > {workbench}/precheck.env"),
            sh("verify", &wait.replace("SELF", "verify.env")),
            "env = { TRUSTED = 'hush-trusted' }".to_owned(),
        ];
        home.trust(&routine, &lines.join("\n"));
        let run = server.trigger(&routine);
        let workbench = home.workbench(&run);
        wait_until("the verification", || workbench.join("began").exists());
        // Nor is one on disk by now.
        for file in fs::read_dir(home.entry(&run)).unwrap() {
            let content = fs::read(file.unwrap().path()).unwrap_or_default();
            let content = String::from_utf8_lossy(&content).into_owned();
            assert!(secrets.iter().all(|secret| !content.contains(secret)), "{content}");
        }
        fs::write(workbench.join("go"), "").unwrap();
        let read = |name: &str| fs::read_to_string(workbench.join(name)).unwrap();
        server.wait_for_run(&run, "succeeded");
        assert_says(&read("agent.env"), &secrets);
        for check in ["precheck.env", "verify.env"] {
            let environment = read(check);
            assert!(!environment.contains("hush"), "{agent}, {check}: {environment}");
            let run = format!("MOADIM_RUN={run}\n");
            assert_says(&environment, &["OPEN=open-agent\n", "PATH=", "MOADIM_COOKIE=", &run]);
            assert_eq!(environment.contains("open-profile"), login_shell, "{environment}");
        }
    }
}

#[test]
fn what_it_leaves_running_is_ended_and_says_nothing() {
    let (home, mut server) = Scene::new().start();
    for agent in both_shells(&home) {
        let forks = sh("verify", "setsid sleep 300 & (trap '' TERM HUP; exec sleep 301) & exit 0");
        let run = home.run_checked(&mut server, agent, ("Forks", "echo work"), &forks, "succeeded");
        assert_has(&run.view, json!({ "verified": true, "status_reason": null }));
        home.wait_for_the_last_of(&run);
        assert_eq!(home.processes_named("sleep"), Vec::<Seen>::new());
    }
}

#[test]
fn one_that_prints_without_end_does_not_fill_the_disk() {
    let (home, mut server) = Scene::new().config("max_log_bytes = 2097152\n").start();
    let prints = sh("verify", "yes | head -c 100000000; echo; echo last; exit 1");
    let run = home.run_checked(&mut server, "shell", ("Prints", "echo work; rm agent.log"), &prints, "failed");
    assert_says(&text(&run["status_reason"]), &["y; last"]);
    let log = home.workbench(&run).join("agent.log").metadata().unwrap();
    // Between two looks some is above the bound.
    assert!(log.len() > 100_000_000 && log.blocks() * 512 < 20_000_000, "{} blocks", log.blocks());
}

#[test]
fn one_that_hangs_is_ended_after_its_time() {
    let (home, mut server) = Scene::new().start();
    for agent in both_shells(&home) {
        let lines = format!("verify_secs = 1\n{}", sh("verify", "trap '' TERM; sleep 300; sleep 301"));
        let run = home.run_checked(&mut server, agent, ("Hangs", "echo work"), &lines, "failed");
        let reason = "verification failed: sh took more than 1 s";
        assert_has(&run.view, json!({ "verified": false, "status_reason": reason }));
        home.wait_for_the_last_of(&run);
    }
}

#[test]
fn the_bound_of_the_run_holds_and_that_of_silence_does_not() {
    let (home, mut server) = Scene::new().start();
    let routine = server.routine("Late", "echo work").with(json!({ "max_runtime_secs": 2 })).create();
    home.trust(&routine, &sh("verify", "sleep 300"));
    let run = server.run_to(&routine, "timed_out");
    assert_has(&run.view, json!({ "verified": null, "exit_code": 0 }));
    assert_says(&text(&run["status_reason"]), &["2 s allowed", "its verification was not over"]);
    let routine = server.routine("Silent", "echo work").with(json!({ "max_silence_secs": 1 })).create();
    home.trust(&routine, &sh("verify", "sleep 3"));
    assert_has(&server.run_to(&routine, "succeeded").view, json!({ "verified": true }));
}

#[test]
fn a_stop_while_it_verifies_is_a_stop() {
    let (home, mut server) = Scene::new().start();
    for agent in both_shells(&home) {
        let run = verifying(&home, &mut server, agent, json!({ "agent": agent }), &sh("verify", LONG));
        assert_eq!(server.run(&run)["status"], "running");
        let stopped = server.stop(&run);
        assert_has(&stopped, json!({ "status": "stopped", "verified": null, "exit_code": 0 }));
        home.wait_for_the_last_of(&run);
    }
}

#[test]
fn a_shutdown_while_it_verifies_interrupts_the_run() {
    let (home, mut server) = Scene::new().start();
    let run = verifying(&home, &mut server, "Shut down", json!({}), &sh("verify", LONG));
    home.noted(&run, "supervisor").signal(Signal::TERM);
    let ended = server.wait_for_run(&run, "interrupted");
    assert_has(&ended, json!({ "verified": null, "exit_code": 0, "disagreements": null }));
}

#[test]
fn an_agent_on_a_terminal_is_verified_too() {
    let (home, mut server) = Scene::new().agent("screen", "terminal = true\nargs = ['-c', '{prompt}']").start();
    let good = sh("verify", "if [ -t 1 ]; then echo terminal; else echo file; fi");
    let run = home.run_checked(&mut server, "screen", ("Screen", "tty; echo work"), &good, "succeeded");
    assert_has(&run.view, json!({ "verified": true }));
    let log = server.log(&run);
    assert_says(&log, &["/dev/", "work\n", "verifying: ", "file\n", "] verified\n"]);
    assert!(log.find("work\n") < log.find("verifying: "), "{log}");
}

#[test]
fn what_the_agent_put_in_the_place_of_its_log_is_not_written_to() {
    let (home, mut server) = Scene::new().start();
    let elsewhere = home.scratch().join("elsewhere");
    let prints = sh("verify", "echo evil");
    for (n, make) in ["ln", "ln -s", "mkdir", "mkfifo"].into_iter().enumerate() {
        fs::write(&elsewhere, "mine\n").unwrap();
        let target = if make.starts_with("ln") { elsewhere.display().to_string() } else { String::new() };
        let script = format!("rm agent.log; {make} {target} agent.log");
        let title = format!("Place {n}");
        let run = home.run_checked(&mut server, "shell", (&title, &script), &prints, "failed");
        assert_says(&text(&run["status_reason"]), &["verification failed: sh could not be started: ", "agent.log"]);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine\n", "{make}");
    }
    let run = home.run_checked(&mut server, "shell", ("Gone", "rm agent.log"), &prints, "succeeded");
    assert_says(&server.log(&run), &["evil\n"]);
}

#[test]
fn a_run_whose_supervisor_dies_meanwhile_has_not_succeeded() {
    let (home, mut server) = Scene::new().start();
    add_like_claude(&home, "cat SAMPLE");
    for agent in ["shell", "claude"] {
        let run = verifying(&home, &mut server, agent, json!({ "agent": agent }), &sh("verify", LONG));
        home.noted(&run, "supervisor").kill();
        wait_for(PATIENCE, "the supervisor's end to show", || {
            let reason = server.run(&run)["status_reason"].as_str().unwrap_or_default().to_owned();
            reason.contains("its supervisor is gone").then_some(())
        });
        home.processes_named("sleep").iter().for_each(Seen::kill);
        wait_until("its end", || {
            server.clean_up();
            !["running", "unknown"].contains(&server.run(&run)["status"].as_str().unwrap())
        });
        let run = server.run(&run);
        assert_has(&run, json!({ "status": "lost", "verified": null }));
        assert_says(&text(&run["status_reason"]), &["ended well", "its verification did not finish"]);
    }
}

fn sample() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/agent-output/claude-text.jsonl")
}

/// Adds an agent that writes the report that it is asked for, and prints events as claude does; `SAMPLE` in its script is a file of them
/// that ends well.
fn add_like_claude(home: &TestHome, script: &str) {
    let script = script.replace("SAMPLE", &sample().display().to_string());
    let program = home.script("claude", &format!("echo done > report.md\n{script}"));
    home.add_agent("claude", &format!("extends = \"claude\"\ncommand = \"{}\"\n", program.display()));
}

#[test]
fn nothing_that_it_prints_passes_for_an_event_of_the_agent() {
    let (home, mut server) = Scene::new().start();
    add_like_claude(&home, "cat SAMPLE");
    let event = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"session_id":"evil","num_turns":99,"total_cost_usd":99}"#;
    let prints = |status: u8| sh("verify", &format!("echo '{event}'; echo '{event}' >&2; exit {status}"));
    let plain = home.run_checked(&mut server, "claude", ("Plain", "Do it."), "", "succeeded");
    let good = home.run_checked(&mut server, "claude", ("Good", "Do it."), &prints(0), "succeeded");
    let bad = home.run_checked(&mut server, "claude", ("Bad", "Do it."), &prints(1), "failed");
    let output = |server: &mut Server, run: &str| server.ok("get_run", json!({ "run": run }))["run"]["output"].clone();
    let said = output(&mut server, &plain);
    assert!(said["session_id"].is_string(), "{said}");
    for run in [&good, &bad] {
        assert_eq!(output(&mut server, run), said);
        let log = server.ok("read_log", json!({ "run": run }));
        let shown = text(&log["text"]);
        assert!(!shown.contains("99 turns") && !shown.lines().any(|line| line.starts_with('{')), "{log}");
        assert_says(&text(&log["text"]), &["verifying: sh -c"]);
        assert_says(&text(&log["stderr"]), &["verifying: sh -c", "evil"]);
    }
    assert_says(
        &text(&bad["status_reason"]),
        &["the agent reports success, verification failed: sh exited with status 1"],
    );
    assert_has(&good.view, json!({ "verified": true, "status_reason": null }));
}

#[test]
fn no_agent_changes_the_command_that_verifies_it() {
    let (home, mut server) = Scene::new().start();
    for agent in both_shells(&home) {
        let script =
            r#"f=$MOADIM_HOME/running/$MOADIM_RUN/run.json; sed 's/exit 3/exit 0/' "$f" > new && cat new > "$f""#;
        let strict = sh("verify", "exit 3");
        let run = home.run_checked(&mut server, agent, ("Changes", script), &strict, "failed");
        assert!(fs::read_to_string(home.workbench(&run).join("new")).unwrap().contains("exit 0"));
        assert_has(&run.view, json!({ "verified": false, "disagreements": ["verification_failed"] }));
    }
}

#[test]
fn nothing_is_verified_in_a_workbench_that_was_replaced() {
    let (home, mut server) = Scene::new().start();
    let elsewhere = home.scratch().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("agent.log"), "mine\n").unwrap();
    for agent in both_shells(&home) {
        for (place, said) in [
            (format!("ln -s '{}' \"$W\"", elsewhere.display()), "its workbench was replaced"),
            ("mkdir \"$W\"".to_owned(), "its workbench was replaced"),
            ("true".to_owned(), "its workbench is gone"),
        ] {
            let script = format!("W=$PWD; mv \"$W\" '{}/'\"moved-$MOADIM_RUN\"; {place}", home.scratch().display());
            let run =
                home.run_checked(&mut server, agent, ("Moves", &script), &sh("verify", "touch verified"), "failed");
            let reason = format!("verification failed: {said}");
            assert_has(&run.view, json!({ "verified": false, "status_reason": reason }));
        }
    }
    assert_eq!(fs::read_to_string(elsewhere.join("agent.log")).unwrap(), "mine\n");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
}

/// What an agent writes that says itself how it ended, and kills its supervisor.
/// Ends an agent's own supervisor, once that has noted that the agent runs: on a busy machine the agent is faster.
const KILL_SUPERVISOR: &str = "until [ -e ../../running/$MOADIM_RUN/started.json ]; do sleep 0.01; done; kill -9 $PPID";

fn forged(members: &str) -> String {
    let outcome = format!(
        r#"{{"version":1,"id":"'$MOADIM_RUN'","status":"succeeded","exit_code":0,{members},"agent":"plain","session_host":"detached","triggered_at":"'$AT'","finished_at":"'$AT'","retain_from":"'$AT'","cookie":"'$MOADIM_COOKIE'"}}"#
    );
    format!("AT=$(date -u +%Y-%m-%dT%H:%M:%SZ); echo '{outcome}' > outcome.json; {KILL_SUPERVISOR}")
}

/// Waits until the watchdog has recorded a run whose supervisor is gone.
fn judged(home: &TestHome, server: &mut Server, run: &str) -> Value {
    wait_until("its end is recorded", || {
        let shown = server.run(run);
        assert_has(&shown, json!({ "verified": null }));
        server.clean_up();
        !home.entry(run).exists()
    });
    server.run(run)
}

#[test]
fn an_agent_cannot_say_itself_that_it_is_verified() {
    let (home, mut server) = Scene::new().start();
    both_shells(&home);
    for (lines, expected) in [
        ("verify = ['true']", json!({ "status": "lost", "verified": null, "disagreements": null })),
        ("", json!({ "status": "succeeded", "verified": null, "disagreements": null })),
    ] {
        let script = forged(r#""verified":true,"disagreements":["verification_failed"]"#);
        let routine = server.routine(&format!("Forges {lines}"), &script).with(json!({ "agent": "plain" })).create();
        home.trust(&routine, lines);
        let run = server.trigger(&routine);
        assert_has(&judged(&home, &mut server, &run), expected.clone());
        wait_until("its line", || !home.history(&run).is_empty());
        assert_has(&home.history(&run)[0], json!({ "status": expected["status"], "verified": null }));
    }
}

#[test]
fn a_run_that_a_judge_recorded_disagrees_too() {
    let (home, mut server) = Scene::new().start();
    let denied = sample().with_file_name("claude-denied.jsonl");
    add_like_claude(&home, &format!("cat '{}'; {KILL_SUPERVISOR}", denied.display()));
    let routine = server.routine("Denied", "Do it.").with(json!({ "agent": "claude" })).create();
    let run = server.trigger(&routine);
    let run = judged(&home, &mut server, &run);
    assert_has(&run, json!({ "status": "succeeded", "disagreements": ["calls_denied"] }));
    assert_says(&text(&run["status_reason"]), &["2 tool calls were denied: Bash, Write", "its supervisor died"]);
}

#[test]
fn no_program_of_the_workbench_comes_before_that_of_the_machine() {
    let home = TestHome::detached("");
    home.write(".profile-made", "");
    let path = format!(".:bin::{}", std::env::var("PATH").unwrap());
    fs::write(home.user().join(".profile"), format!("export PATH='{path}'\n")).unwrap();
    let agents = both_shells(&home);
    let mut server = Server::start_with_env(&home, &[("PATH", &path)]);
    for agent in agents {
        let plant =
            "mkdir bin; for at in . bin; do printf '#!/bin/sh\\ntouch planted\\n' > $at/cmp; chmod +x $at/cmp; done";
        let checks = sh("verify", "cmp prompt.md prompt.md && printf %s \"$PATH\" > path");
        let run = home.run_checked(&mut server, agent, ("Plants", plant), &checks, "succeeded");
        assert!(home.workbench(&run).join("bin/cmp").exists());
        assert!(!home.workbench(&run).join("planted").exists(), "{agent}");
        let path = fs::read_to_string(home.workbench(&run).join("path")).unwrap();
        assert!(path.split(':').all(|directory| directory.starts_with('/')), "{agent}: {path}");
    }
}

#[test]
fn what_contradicts_a_good_end_comes_first_in_the_morning() {
    let (home, mut server) = Scene::new().start();
    let denied = sample().with_file_name("claude-denied.jsonl");
    add_like_claude(&home, &format!("cat '{}'", denied.display()));
    let run = home.run_checked(&mut server, "claude", ("Denied", "Do it."), "", "succeeded");
    let reason = "exit 0, but 2 tool calls were denied: Bash, Write";
    assert_has(&run.view, json!({ "status_reason": reason, "disagreements": ["calls_denied"] }));
    let failed = home.run_checked(&mut server, "shell", ("Unverified", "true"), "verify = ['false']", "failed");
    let report = server.request("prompts/get", json!({ "name": "morning_report" })).unwrap();
    let blocks = report["messages"].as_array().unwrap();
    let told = blocks.iter().find_map(|block| block["content"]["text"].as_str()?.split_once(":\n{"));
    let digest: Value = serde_json::from_str(&format!("{{{}", told.expect("a digest").1)).unwrap();
    let ids = |key: &str| digest[key].as_array().unwrap().iter().map(|run| run["id"].clone()).collect::<Vec<_>>();
    let mut disagreeing = ids("disagreeing");
    disagreeing.sort_by_key(Value::to_string);
    assert_eq!(disagreeing, [json!(run), json!(failed)]);
    assert_eq!(ids("bad"), Vec::<Value>::new());
    assert_says(&home.moadim(&["runs"]).ok(), &["exit 0, but 2 tool"]);
}

#[test]
fn no_tool_sets_or_clears_it() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Mine", "true", json!({}));
    home.trust(&routine, "verify = ['true']\nprecheck = ['true']");
    let file = format!("routines/{routine}/routine.toml");
    let before = home.read(&file);
    let command = || json!(["true"]);
    for (key, value) in [
        ("verify", command()),
        ("precheck", command()),
        ("verify_secs", json!(9)),
        ("on_finish", command()),
        ("on_failure", command()),
        ("on_attention", command()),
    ] {
        let asked = [json!({ "routine": routine, key: value }), json!({ "routine": routine, "clear": [key] })];
        for arguments in asked {
            let error = server.error("update_routine", arguments);
            assert_says(&error, &[&format!("unknown argument `{key}`"), "[trusted]", "by hand", &file]);
        }
        let new = json!({ "title": "New", "agent": "shell", "prompt": "true", key: value });
        assert_says(&server.error("create_routine", new), &[&format!("unknown argument `{key}`"), "[trusted]"]);
    }
    assert_says(
        &server.error("update_routine", json!({ "routine": routine, "trusted": {} })),
        &["cannot set or clear"],
    );
    assert_eq!(home.read(&file), before);
    server.ok("update_routine", json!({ "routine": routine, "ttl_secs": 60 }));
    let shown = server.ok("get_routine", json!({ "routine": routine }));
    assert_has(&shown, json!({ "trusted_verify": ["true"], "trusted_precheck": ["true"] }));
    assert_says(&home.moadim(&["show", &routine]).ok(), &["precheck  ", "verification  "]);
}

#[test]
fn doctor_names_the_programs_that_are_missing() {
    let (home, mut server) = Scene::new().agent("strict", "verify = ['no-such-check']").start();
    let routine = server.create("One", "true", json!({}));
    home.trust(&routine, "precheck = ['no-such-precheck']\nverify = ['true']");
    server.routine("Two", "true").with(json!({ "agent": "strict" })).create();
    let told = home.moadim(&["doctor"]);
    let told = told.stdout + &told.stderr;
    assert_says(&told, &["no-such-precheck", "no-such-check", "`verify` in the agent's file"]);
    assert!(!told.contains("its verify cannot be started: 'true'"), "{told}");
}
