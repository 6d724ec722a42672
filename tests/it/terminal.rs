//! Agents that work on a terminal: a real tmux, a person who types, and the same promises as for every run.

use std::path::PathBuf;

use crate::harness::{Host, PATIENCE, Server, TestHome, text, tmux, wait_for};
use serde_json::{Value, json};

/// A home whose agent `tty` executes its prompt's file on a terminal.
fn home() -> Option<TestHome> {
    let home = Host::Tmux.home()?;
    home.add_agent("tty", "command = \"sh\"\nargs = [\"{prompt_file}\"]\nterminal = true\naccept_env = [\"COLOUR\"]\n");
    Some(home)
}

fn start(server: &mut Server, title: &str, prompt: &str, mut more: Value) -> String {
    more["agent"] = json!("tty");
    server.start_run(title, prompt, more)
}

fn socket(home: &TestHome) -> PathBuf {
    home.root().join("tmux.sock")
}

fn type_line(home: &TestHome, run: &str, line: &str) {
    let target = format!("=moadim-{run}:");
    assert!(tmux(&socket(home), &["send-keys", "-t", &target, line, "Enter"]).status.success());
}

fn sessions(home: &TestHome) -> String {
    String::from_utf8(tmux(&socket(home), &["list-sessions", "-F", "#{session_name}"]).stdout).unwrap()
}

#[test]
fn an_agent_has_a_terminal_and_a_person_can_type() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let prompt = "test -t 0 && test -t 1 && test -t 2 && echo on $(tty) $TERM as $MOADIM_RUN in $PWD with $COLOUR ${TMUX:-none}\n\
                  printf 'your name? '; read name; echo \"hello $name\"; exit 7";
    let run = start(&mut server, "Talk", prompt, json!({ "env": { "COLOUR": "red" } }));
    server.wait_for_log(&run, "your name?");
    let shown = server.run(&run);
    assert_eq!(shown["session_host"], "tmux");
    assert!(text(&shown["attach_command"]).contains(&format!("=moadim-{run}")));
    type_line(&home, &run, "Ada");
    let ended = server.wait_for_run(&run, "failed");
    assert_eq!((&ended["exit_code"], &ended["status_reason"]), (&json!(7), &json!("its agent exited with status 7")));
    let log = server.log(&run);
    let workbench = home.workbench(&run).display().to_string();
    let first = log.lines().next().unwrap();
    assert!(first.starts_with("on /dev/"), "{log}");
    let rest = format!("screen-256color as {run} in {workbench} with red none");
    assert!(log.replace('\n', "").contains(&rest.replace('\n', "")), "{log}");
    assert!(log.ends_with("your name? Ada\nhello Ada\n"), "{log}");
    assert_eq!(sessions(&home), "");
    assert_eq!(home.history(&run).len(), 1);
}

#[test]
fn all_output_is_in_the_log_from_the_first_byte_to_the_last() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    for number in 0..5 {
        let run = start(&mut server, &format!("Print {number}"), "seq 1 3000", json!({}));
        let ended = server.wait_for_run(&run, "succeeded");
        assert_eq!(ended["exit_code"], 0);
        let expected: String = (1..=3000).map(|n| format!("{n}\n")).collect();
        assert!(server.log(&run) == expected, "{:?}", server.log(&run).lines().count());
    }
}

#[test]
fn whatever_a_home_is_called_its_terminals_are_logged() {
    if !crate::harness::tmux_is_there() {
        return;
    }
    let outer = TestHome::new();
    for name in ["it's #(touch /tmp/no) #[x] %H \"ü\" $HOME;", "#{pane_id} ##[", "semicolon;"] {
        let root = outer.scratch().join(name).join("home");
        std::fs::create_dir_all(root.parent().unwrap()).unwrap();
        let mut command = outer.command();
        command.env("MOADIM_HOME", &root);
        let mut server = Server::spawn(command);
        server.introduce(crate::harness::Era::Legacy("2025-11-25"));
        std::fs::write(root.join("config.toml"), "session_host = \"tmux\"\n").unwrap();
        let agents = root.join("agents");
        let _ = std::fs::create_dir(&agents);
        std::fs::write(agents.join("tty.toml"), "command = \"sh\"\nargs = [\"{prompt_file}\"]\nterminal = true\n")
            .unwrap();
        let run = start(&mut server, "Name", "echo fine", json!({}));
        server.wait_for_run(&run, "succeeded");
        assert_eq!(server.log(&run), "fine\n", "{name}");
        tmux(&root.join("tmux.sock"), &["kill-server"]);
    }
}

#[test]
fn a_terminal_run_ends_with_everything_when_it_is_stopped() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let prompt = "trap '' HUP TERM INT; (setsid env -i sleep 600 &); nohup sleep 600 & echo at work; sleep 600";
    let run = start(&mut server, "Stop", prompt, json!({}));
    server.wait_for_log(&run, "at work");
    wait_for(PATIENCE, "the sleepers", || (home.processes_named("sleep").len() == 3).then_some(()));
    let stopped = server.stop(&run);
    assert_eq!(stopped["status"], "stopped");
    assert!(home.processes_named("sleep").is_empty() && home.processes_named("sh").is_empty());
    assert_eq!(sessions(&home), "");
    assert!(server.log(&run).contains("stopped on request"));
}

#[test]
fn what_an_agent_leaves_behind_on_its_terminal_is_ended() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let prompt = "(setsid env -i sleep 600 >/dev/null 2>&1 </dev/null &); sleep 0.3; echo done";
    let run = start(&mut server, "Leave", prompt, json!({}));
    let ended = server.wait_for_run(&run, "succeeded");
    assert!(text(&ended["status_reason"]).starts_with("1 processes"), "{ended}");
    assert!(home.processes_named("sleep").is_empty());
}

#[test]
fn a_terminal_run_is_held_to_its_bounds() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let late = start(&mut server, "Late", "while sleep 0.3; do echo tick; done", json!({ "max_runtime_secs": 2 }));
    home.add_agent("mute", "command = \"sh\"\nargs = [\"{prompt_file}\"]\nterminal = true\nmax_silence_secs = 1\n");
    let mute = server.start_run("Mute", "printf 'sure? '; read answer", json!({ "agent": "mute" }));
    server.wait_for_run(&late, "timed_out");
    server.wait_for_run(&mute, "silent");
    assert_eq!(sessions(&home), "");
    assert!(server.log(&mute).starts_with("sure? \n[moadim"), "{}", server.log(&mute));
}

#[test]
fn an_agent_whose_tmux_is_killed_ends_with_a_true_reason() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let run = start(&mut server, "Lost", "echo at work; while :; do sleep 0.1; done", json!({}));
    server.wait_for_log(&run, "at work");
    for tmux in home.processes().iter().filter(|process| process.name.contains("tmux")) {
        tmux.kill();
    }
    let ended = server.wait_for_run(&run, "failed");
    assert!(text(&ended["status_reason"]).contains("its terminal was closed"), "{ended}");
    assert_eq!(ended["signal"], 1);
    assert!(home.processes_named("sleep").is_empty());
    // The next run gets a new server.
    let next = start(&mut server, "Next", "echo again", json!({}));
    server.wait_for_run(&next, "succeeded");
}

#[test]
fn an_agent_can_be_interrupted_by_hand() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let run = start(&mut server, "Break", "echo at work; sleep 600; echo not reached", json!({}));
    server.wait_for_log(&run, "at work");
    wait_for(PATIENCE, "the sleeper", || home.processes_named("sleep").first().cloned());
    assert!(tmux(&socket(&home), &["send-keys", "-t", &format!("=moadim-{run}:"), "C-c"]).status.success());
    let ended = server.wait_for_run(&run, "failed");
    assert_eq!(ended["signal"], 2, "{ended}");
    assert!(!server.log(&run).contains("not reached"));
}

#[test]
fn whoever_holds_the_terminal_may_be_killed() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let run = start(&mut server, "Orphan", "echo at work; sleep 600", json!({}));
    server.wait_for_log(&run, "at work");
    let holder = home.json(format!("running/{run}/terminal.json")).unwrap()["holder"]["pid"].clone();
    home.processes().iter().find(|process| process.id.pid == holder).unwrap().kill();
    let ended = server.wait_for_run(&run, "failed");
    assert!(text(&ended["status_reason"]).contains("the system does not tell"), "{ended}");
    assert!(home.processes_named("sleep").is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn the_log_of_a_terminal_stays_within_its_size() {
    use std::os::unix::fs::MetadataExt;
    const CAP: u64 = 1024 * 1024;
    let Some(home) = home() else { return };
    home.configure(&format!("session_host = \"tmux\"\nmax_log_bytes = {CAP}\n"));
    let mut server = Server::start(&home);
    let prompt = "seq -f '%.0f zeile' 200000; until test -e go; do sleep 0.02; done; echo last";
    let run = start(&mut server, "Much", prompt, json!({}));
    server.wait_for_log(&run, "200000 zeile\n");
    let log = home.workbench(&run).join("agent.log");
    wait_for(PATIENCE, "the middle to go", || (log.metadata().unwrap().blocks() * 512 <= CAP).then_some(()));
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    server.wait_for_run(&run, "succeeded");
    assert!(server.log(&run).ends_with("200000 zeile\nlast\n"));
    let part = server.ok("read_log", json!({ "run": run, "offset": CAP / 2 }));
    assert!(text(&part["note"]).contains("were dropped"), "{}", part["note"]);
    assert!(home.raw_log(&run).starts_with("1 zeile\r\n"));
}

#[test]
fn without_its_supervisor_the_watchdog_ends_a_terminal_run() {
    let Some(home) = home() else { return };
    home.configure("session_host = \"tmux\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 1\n");
    let mut server = Server::start(&home);
    let run = start(&mut server, "Alone", "echo at work; sleep 600", json!({ "max_runtime_secs": 600 }));
    server.wait_for_log(&run, "at work");
    home.noted(&run, "supervisor").kill();
    server.ok("update_routine", json!({ "routine": "alone", "max_runtime_secs": 1 }));
    server.wait_for_run(&run, "timed_out");
    assert!(home.processes_named("sleep").is_empty());
    wait_for(PATIENCE, "the window to close", || sessions(&home).is_empty().then_some(()));
}

#[test]
fn a_command_that_is_not_there_fails_the_trigger() {
    let Some(home) = home() else { return };
    home.add_agent("gone", "command = \"no-such-command\"\nterminal = true\n");
    let mut server = Server::start(&home);
    let routine = server.create("Gone", "x", json!({ "agent": "gone" }));
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(error.contains("no-such-command"), "{error}");
    assert_eq!(sessions(&home), "");
}

#[test]
fn without_tmux_the_trigger_is_refused() {
    let home = TestHome::detached("");
    home.add_agent("tty", "command = \"sh\"\nterminal = true\n");
    let mut server = Server::start(&home);
    let routine = server.create("No", "x", json!({ "agent": "tty" }));
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(error.contains("terminal = true") && error.contains("detached"), "{error}");
    assert_eq!(server.ok("list_runs", json!({}))["total"], 0);
}

#[test]
fn a_setup_comes_before_the_agent_on_its_terminal_and_has_none() {
    let Some(home) = home() else { return };
    let agent = |setup: &str| {
        format!(
            "command = \"sh\"\nargs = [\"{{prompt_file}}\"]\nterminal = true\nsetup = [\"sh\", \"-c\", \"{setup}\"]\n"
        )
    };
    home.add_agent("ready", &agent("test -t 1 || echo no terminal; echo made > made"));
    home.add_agent("unready", &agent("exit 3"));
    let mut server = Server::start(&home);
    let run = server.start_run("Ready", "test -t 0 && cat made; exit 5", json!({ "agent": "ready" }));
    let ended = server.wait_for_run(&run, "failed");
    assert_eq!((&ended["exit_code"], server.log(&run).as_str()), (&json!(5), "no terminal\nmade\n"), "{ended}");
    let routine = server.create("Unready", "echo x", json!({ "agent": "unready" }));
    server.call_tool("trigger_routine", json!({ "routine": routine }));
    let failed = wait_for(PATIENCE, "the launch to fail", || {
        let listed = server.ok("list_runs", json!({ "routine": routine, "status": "launch_failed" }));
        listed["runs"].as_array().unwrap().first().cloned()
    });
    assert!(text(&failed["status_reason"]).contains("status 3"), "{failed}");
    assert_eq!(sessions(&home), "");
}
