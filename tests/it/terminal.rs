//! Agents that work on a terminal: a real tmux, a person who types, and the same promises as for every run.

use std::fs::File;
use std::io::Write;
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

/// Types in a run's window, which opens after its agent has started, and takes keys once it shows something.
fn type_keys(home: &TestHome, run: &str, keys: &[&str]) {
    let target = format!("=moadim-{run}:");
    wait_for(PATIENCE, "the window to show the run", || (!window(home, run).trim().is_empty()).then_some(()));
    assert!(tmux(&socket(home), &[&["send-keys", "-t", &target], keys].concat()).status.success());
}

/// Returns what a run's window shows.
fn window(home: &TestHome, run: &str) -> String {
    let shown = tmux(&socket(home), &["capture-pane", "-p", "-t", &format!("=moadim-{run}:")]);
    String::from_utf8(shown.stdout).unwrap()
}

/// Waits until every window is gone, which leave by themselves.
fn await_no_window(home: &TestHome) {
    wait_for(PATIENCE, "the windows to leave", || {
        tmux(&socket(home), &["list-sessions"]).stdout.is_empty().then_some(())
    });
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
    type_keys(&home, &run, &["Ada", "Enter"]);
    let ended = server.wait_for_run(&run, "failed");
    assert_eq!((&ended["exit_code"], &ended["status_reason"]), (&json!(7), &json!("its agent exited with status 7")));
    let log = server.log(&run);
    let workbench = home.workbench(&run).display().to_string();
    let first = log.lines().next().unwrap();
    assert!(first.starts_with("on /dev/"), "{log}");
    let rest = format!("screen-256color as {run} in {workbench} with red none");
    assert!(log.replace('\n', "").contains(&rest.replace('\n', "")), "{log}");
    assert!(log.ends_with("your name? Ada\nhello Ada\n"), "{log}");
    await_no_window(&home);
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
    await_no_window(&home);
    assert!(server.log(&run).contains("stopped on request"));
}

#[test]
fn what_an_agent_leaves_behind_on_its_terminal_is_ended() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let prompt = "(setsid env -i sleep 600 >/dev/null 2>&1 </dev/null &); sleep 0.3; echo done";
    let run = start(&mut server, "Leave", prompt, json!({}));
    let ended = server.wait_for_run(&run, "succeeded");
    assert!(text(&ended["status_reason"]).starts_with("its agent left processes behind"), "{ended}");
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
    await_no_window(&home);
    assert!(server.log(&mute).starts_with("sure? \n[moadim"), "{}", server.log(&mute));
}

#[test]
fn an_agent_whose_tmux_is_killed_lives_on() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let run = start(&mut server, "Alone", "echo at work; read name; echo \"hello $name\"", json!({}));
    wait_for(PATIENCE, "the window", || window(&home, &run).contains("at work").then_some(()));
    for tmux in home.processes().iter().filter(|process| process.name.contains("tmux")) {
        tmux.kill();
    }
    // The next run gets a new server.
    let next = start(&mut server, "Next", "echo again; read x", json!({}));
    type_keys(&home, &next, &["Enter"]);
    server.wait_for_run(&next, "succeeded");
    assert_eq!(server.run(&run)["status"], "running");
    let mut keys = File::options().write(true).open(home.entry(&run).join("keys")).unwrap();
    keys.write_all(b"\0\x04Ada\r").unwrap();
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), "at work\nAda\nhello Ada\n");
}

#[test]
fn an_agent_can_be_interrupted_by_hand() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let run = start(&mut server, "Break", "echo at work; sleep 600; echo not reached", json!({}));
    server.wait_for_log(&run, "at work");
    wait_for(PATIENCE, "the sleeper", || home.processes_named("sleep").first().cloned());
    type_keys(&home, &run, &["C-c"]);
    let ended = server.wait_for_run(&run, "failed");
    assert_eq!(ended["signal"], 2, "{ended}");
    assert!(!server.log(&run).contains("not reached"));
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
fn an_agent_gets_its_terminal_from_a_login_shell_with_job_control() {
    let home = TestHome::detached("");
    // As a shell does that begins its job control: it leads a process group of its own.
    let shell = home.script("zsh", "exec perl -e 'setpgrp; exec \"/bin/sh\", @ARGV' -- \"$@\"");
    home.add_agent("tty", "command = \"sh\"\nargs = [\"{prompt_file}\"]\nterminal = true\n");
    let mut server = Server::start_with_env(&home, &[("SHELL", shell.as_os_str())]);
    let run = start(&mut server, "Jobs", "sh -c 'echo on its terminal > /dev/tty'", json!({}));
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), "on its terminal\n");
}

#[test]
fn without_its_supervisor_an_agent_hangs_up_and_the_watchdog_ends_one_that_does_not() {
    let Some(home) = home() else { return };
    home.configure("session_host = \"tmux\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 1\n");
    let mut server = Server::start(&home);
    let obeys = start(&mut server, "Obeys", "echo at work; sleep 600", json!({}));
    server.wait_for_log(&obeys, "at work");
    home.noted(&obeys, "supervisor").kill();
    server.wait_for_run(&obeys, "lost");
    let prompt = "trap '' HUP; echo at work; while :; do sleep 0.1; done";
    let ignores = start(&mut server, "Ignores", prompt, json!({ "max_runtime_secs": 600 }));
    server.wait_for_log(&ignores, "at work");
    home.noted(&ignores, "supervisor").kill();
    server.ok("update_routine", json!({ "routine": "ignores", "max_runtime_secs": 1 }));
    server.wait_for_run(&ignores, "timed_out");
    assert!(home.processes_named("sleep").is_empty());
    await_no_window(&home);
}

#[test]
fn a_command_that_is_not_there_fails_the_trigger() {
    let Some(home) = home() else { return };
    home.add_agent("gone", "command = \"no-such-command\"\nterminal = true\n");
    let mut server = Server::start(&home);
    let routine = server.create("Gone", "x", json!({ "agent": "gone" }));
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(error.contains("no-such-command"), "{error}");
    await_no_window(&home);
}

#[test]
fn without_tmux_an_agent_has_its_terminal() {
    let home = TestHome::detached("");
    home.add_agent("tty", "command = \"sh\"\nargs = [\"{prompt_file}\"]\nterminal = true\nlogin_shell = false\n");
    let mut server = Server::start(&home);
    let run = start(&mut server, "Here", "test -t 0 && test -t 2 && stty size", json!({}));
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), "50 200\n");
}

#[test]
fn a_full_screen_program_is_used_and_read_as_a_person_sees_it() {
    let Some(home) = home() else { return };
    if !std::process::Command::new("less").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: less is not installed");
        return;
    }
    let mut server = Server::start(&home);
    let prompt = "seq -f 'line %.0f' 300 > text; LESS= less text; echo done";
    let run = start(&mut server, "Screen", prompt, json!({}));
    wait_for(PATIENCE, "the program", || window(&home, &run).contains("line 3\n").then_some(()));
    wait_for(PATIENCE, "its last page", || {
        // Keys are thrown away for a moment, with what the terminal answers to the output of before.
        type_keys(&home, &run, &["G"]);
        window(&home, &run).contains("line 300\n").then_some(())
    });
    assert!(server.log(&run).trim_end().ends_with("(END)"), "{}", server.log(&run));
    assert!(
        tmux(&socket(&home), &["resize-window", "-t", &format!("=moadim-{run}:"), "-x", "90", "-y", "20"])
            .status
            .success()
    );
    let shows = |server: &mut Server, line: &str| {
        let log = server.log(&run);
        (log.contains(line) && log.lines().count() <= 20).then_some(())
    };
    wait_for(PATIENCE, "the new size", || shows(&mut server, "line 260\n"));
    type_keys(&home, &run, &["G"]);
    wait_for(PATIENCE, "its last page again", || shows(&mut server, "line 300\n"));
    type_keys(&home, &run, &["q"]);
    server.wait_for_run(&run, "succeeded");
    let log = server.log(&run);
    assert!(log.contains("line 299\nline 300\n") && log.ends_with("\ndone\n") && !log.contains("line 200\n"), "{log}");
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
    await_no_window(&home);
}
