//! Launches that fail: within 5 s, with the reason, and with nothing left alive.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::harness::{Server, TestHome, copy_program, text};
use serde_json::{Value, json};

/// The longest that a trigger may take is 5 s; the rest is for a busy disk. What hangs here does so for much longer.
const LIMIT: Duration = Duration::from_secs(10);

/// Triggers a routine whose launch must fail in time, and returns what is said and the run that tells of it.
fn failed_launch(home: &TestHome, server: &mut Server, routine: &str) -> (String, Value) {
    let began = Instant::now();
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    let took = began.elapsed();
    assert!(took < LIMIT, "it took {took:?}: {error}");
    let listed = server.ok("list_runs", json!({ "routine": routine }));
    assert_eq!(listed["total"], 1, "{listed}");
    let run = recorded(home, server, routine);
    assert_eq!(run["status"], "launch_failed", "{run}");
    let id = text(&run["id"]);
    assert!(error.contains(&id), "the run is named: {error}");
    assert!(run.get("started_at").is_none() && run["finished_at"].is_string(), "{run}");
    assert_eq!(home.history(&id).len(), 1);
    // The next trigger is not held up by it.
    let again = server.error("trigger_routine", json!({ "routine": routine, "overlap": "skip" }));
    assert!(!again.contains("alive"), "{again}");
    (error, run)
}

/// Returns the one run of a routine once its end is recorded, which on a busy disk takes longer than its trigger waits for it.
fn recorded(home: &TestHome, server: &mut Server, routine: &str) -> Value {
    let run = text(&server.ok("list_runs", json!({ "routine": routine }))["runs"][0]["id"]);
    crate::harness::wait_for(crate::harness::PATIENCE, "its end to be recorded", || {
        (!home.entry(&run).exists()).then_some(())
    });
    server.run(&run)
}

fn assert_reason(error: &str, run: &Value, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part} is missing in: {error}");
        assert!(text(&run["status_reason"]).contains(part), "{part} is missing in: {run}");
    }
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let home = TestHome::detached("");
    home.add_agent("none", "command = 'no-such-agent-anywhere'\n");
    let mut server = Server::start(&home);
    let routine = server.create("None", "x", json!({ "agent": "none" }));
    let (error, run) = failed_launch(&home, &mut server, &routine);
    assert_reason(&error, &run, &["no-such-agent-anywhere", "not found", "PATH is", "install it"]);
    assert!(server.log(&text(&run["id"])).contains("no-such-agent-anywhere"));
    let agents = server.ok("list_agents", json!({}))["agents"].clone();
    let agent = agents.as_array().unwrap().iter().find(|agent| agent["name"] == "none").unwrap();
    assert_eq!(agent["available"], false);
    assert_eq!(server.ok("list_routines", json!({}))["routines"][0]["agent_available"], false);
}

#[test]
fn a_command_that_cannot_be_executed_is_named() {
    let home = TestHome::detached("");
    let plain = home.script("plain", "exit 0");
    std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    let broken = home.script("broken", "");
    std::fs::write(&broken, "#!/nowhere/interpreter\n").unwrap();
    home.add_agent("plain", &format!("command = {plain:?}\n"));
    home.add_agent("broken", &format!("command = {broken:?}\nlogin_shell = false\n"));
    let mut server = Server::start(&home);
    for (agent, file) in [("plain", plain), ("broken", broken)] {
        let routine = server.create(agent, "x", json!({ "agent": agent }));
        let (error, run) = failed_launch(&home, &mut server, &routine);
        assert_reason(&error, &run, &[file.to_str().unwrap()]);
    }
}

#[test]
fn a_script_that_names_no_interpreter_is_run_by_a_shell_and_a_program_for_another_machine_is_not() {
    let home = TestHome::detached("");
    let script = home.script("script", "");
    std::fs::write(&script, "echo \"ran with $1\"\n").unwrap();
    let foreign = home.script("foreign", "");
    std::fs::write(&foreign, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xff\xff").unwrap();
    let mut server = Server::start(&home);
    for (name, login_shell) in [("at-once", false), ("by-login-shell", true)] {
        home.add_agent(name, &format!("command = {script:?}\nargs = [\"{{prompt}}\"]\nlogin_shell = {login_shell}\n"));
        let run = server.start_run(name, "words", json!({ "agent": name }));
        server.wait_for_run(&run, "succeeded");
        assert_eq!(server.log(&run), "ran with words\n");
    }
    home.add_agent("foreign", &format!("command = {foreign:?}\nlogin_shell = false\n"));
    let routine = server.create("Foreign", "x", json!({ "agent": "foreign" }));
    let (error, run) = failed_launch(&home, &mut server, &routine);
    assert_reason(&error, &run, &[foreign.to_str().unwrap(), "a program for this machine"]);
}

#[test]
fn a_login_shell_that_ends_early_is_named_with_its_words() {
    let home = TestHome::detached("");
    let shell = home.script("zsh", "echo 'your licence has expired' >&2; exit 3");
    let mut command = home.command();
    command.env("SHELL", &shell);
    let mut server = Server::start_with(command);
    let routine = server.create("Ends", "echo never", json!({}));
    let (error, run) = failed_launch(&home, &mut server, &routine);
    assert_reason(&error, &run, &[shell.to_str().unwrap(), "your licence has expired"]);
}

/// Returns why a run has no window, once that is known.
fn window_problem(server: &mut Server, run: &str) -> String {
    crate::harness::wait_for(crate::harness::PATIENCE, "why it has no window", || {
        let shown = server.ok("get_run", json!({ "run": run }));
        assert_eq!(shown["run"]["status"], "running", "{shown}");
        let problem = shown["window_problem"].as_str().map(str::to_owned);
        assert!(problem.is_none() || shown["run"].get("attach_command").is_none(), "{shown}");
        problem
    })
}

#[test]
fn a_tmux_that_refuses_is_quoted_and_the_run_goes_on() {
    for setting in ["tmux", "auto"] {
        let home = TestHome::with_config(&format!("session_host = \"{setting}\"\n"));
        home.add_shell();
        home.script("tmux", "if [ \"$1\" = -V ]; then echo 'tmux 3.4'; exit 0; fi\necho 'lost its mind' >&2; exit 1");
        let mut command = home.command();
        command.env("PATH", home.path_with_scripts());
        let mut server = Server::start_with(command);
        let run = server.start_run("Windowless", "exec sleep 300", json!({}));
        let problem = window_problem(&mut server, &run);
        assert!(problem.contains("lost its mind"), "{setting}: {problem}");
        assert_eq!(server.stop(&run)["status"], "stopped");
    }
}

#[test]
fn a_tmux_that_is_missing_is_a_problem_only_where_it_was_asked_for() {
    let home = TestHome::with_config("session_host = \"tmux\"\n");
    home.add_shell();
    // The usual places are looked at as well, so that an old version has to stand in for none.
    home.script("tmux", "echo 'tmux 2.9'");
    let mut command = home.command();
    command.env("PATH", home.path_with_scripts());
    let mut server = Server::start_with(command);
    let run = server.start_run("Asked", "exec sleep 300", json!({}));
    let problem = window_problem(&mut server, &run);
    for part in ["2.9", "older than 3.2", "session_host = \"auto\""] {
        assert!(problem.contains(part), "{part} is missing in: {problem}");
    }
    assert_eq!(server.stop(&run)["status"], "stopped");
    assert!(server.problems().iter().any(|one| text(&one["problem"]).contains("2.9")));
    home.configure("session_host = \"auto\"\n");
    let run = server.start_run("Automatic", "echo yes", json!({}));
    assert_eq!(server.wait_for_run(&run, "succeeded")["session_host"], "detached");
    let health = server.ok("health", json!({}));
    assert_eq!((&health["session_host"], &health["problems"]), (&json!("detached"), &json!([])));
    assert!(text(&health["session_host_reason"]).contains("2.9") && health.get("tmux_version").is_none());
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_written() {
    let home = TestHome::detached("");
    home.add_agent("argument", "command = 'true'\nargs = ['{prompt}']\nstdin = 'none'\n");
    home.add_agent("passing", "command = 'true'\n");
    let mut server = Server::start(&home);
    server.create("Night Triage", "true", json!({ "enabled": false }));
    server.create("Too Long", "true", json!({ "agent": "argument" }));
    home.write("routines/too-long/prompt.md", &"x".repeat(200_000));
    server.create("Deserted", "true", json!({ "agent": "passing" }));
    std::fs::remove_file(home.root().join("agents/passing.toml")).unwrap();
    let cases: [(&str, &[&str]); 4] = [
        ("night-triage", &["night-triage", "disabled", "enabled = true", "routine.toml"]),
        ("night-trige", &["night-trige", "night-triage", "list_routines"]),
        ("too-long", &["argument", "200000", "stdin", "{prompt_file}"]),
        ("deserted", &["deserted", "passing", "claude", "agents/passing.toml"]),
    ];
    for (routine, parts) in cases {
        let error = server.error("trigger_routine", json!({ "routine": routine }));
        for part in parts {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }
    assert_eq!(server.ok("list_runs", json!({}))["total"], 0);
    for directory in ["running", "workbenches"] {
        assert_eq!(std::fs::read_dir(home.root().join(directory)).unwrap().count(), 0, "{directory}");
    }
}

#[test]
fn a_program_that_was_replaced_under_the_server_says_so() {
    let home = TestHome::detached("");
    let copy = home.scratch().join("moadim-copy");
    let original = env!("CARGO_BIN_EXE_moadim-mcp");
    if std::fs::hard_link(original, &copy).is_err() {
        copy_program(original, &copy);
    }
    let mut server = Server::start_with(home.command_of(&copy));
    let routine = server.create("Late", "echo never", json!({}));
    std::fs::remove_file(&copy).unwrap();
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(error.contains("restart the host") && error.contains("moadim-copy"), "{error}");
    assert_eq!(server.ok("list_runs", json!({}))["total"], 0);
    let problems = server.problems();
    assert!(problems.iter().any(|one| text(&one["fix"]).contains("restart the host")), "{problems:?}");
}

#[test]
fn a_trigger_counts_its_5_s_from_the_request_also_where_tmux_hangs_first() {
    let home = TestHome::with_config("kill_grace_secs = 1\n");
    home.script("tmux", "exec sleep 60");
    let shell = home.script("bash", "exec sleep 60");
    home.add_agent("slow", "command = \"sh\"\n");
    home.write("routines/slow/routine.toml", "title = \"slow\"\nagent = \"slow\"\n");
    home.write("routines/slow/prompt.md", "true");
    let began = Instant::now();
    let mut command = home.command();
    command.args(["trigger", "slow", "--json"]).env("PATH", home.path_with_scripts()).env("SHELL", &shell);
    let output = command.output().unwrap();
    let took = began.elapsed();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(answer["run"]["status"], "preparing", "{answer}");
    // Two of the five seconds went by while tmux was asked for its version.
    assert!(took < Duration::from_millis(6_200), "it took {took:?}");
    let run = text(&answer["run"]["id"]);
    assert!(home.command().args(["stop", &run]).output().unwrap().status.success());
    crate::harness::wait_for(crate::harness::PATIENCE, "its end to be recorded", || {
        (!home.entry(&run).exists()).then_some(())
    });
}

#[test]
fn a_login_shell_that_is_not_installed_is_named_with_what_to_do() {
    let home = TestHome::detached("");
    let mut command = home.command();
    command.env("SHELL", "/not/installed/zsh");
    let mut server = Server::start_with(command);
    let routine = server.create("Any", "true", json!({}));
    let (error, run) = failed_launch(&home, &mut server, &routine);
    assert_reason(
        &error,
        &run,
        &["cannot start the login shell /not/installed/zsh", "set SHELL to", "login_shell = false"],
    );
}

#[test]
fn a_prompt_that_is_empty_is_not_run_and_one_that_is_being_saved_is_waited_for() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let routine = server.create("Saved", "echo whole", json!({}));
    home.write("routines/saved/prompt.md", "");
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(error.contains("prompt.md is empty; write what"), "{error}");
    assert_eq!(server.ok("list_runs", json!({ "routine": routine }))["total"], 0, "nothing was started");
    let problem = server.problems().into_iter().find(|one| text(&one["path"]).ends_with("saved/prompt.md"));
    assert!(text(&problem.expect("it is in health")["problem"]).contains("it is empty"));
    let call = server.send_call("trigger_routine", json!({ "routine": routine }));
    std::thread::sleep(Duration::from_millis(50));
    home.write("routines/saved/prompt.md", "echo whole");
    let run = text(&server.tool_answer(call).ok()["run"]["id"]);
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), "whole\n");
}
