//! The home: who may use it, what is damaged in it, and what of it others may read.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Era, PATIENCE, Scene, Server, TestHome, text, wait_for, wait_until};
use serde_json::json;

/// Starts a server that must refuse to, and returns what it says.
fn refusal(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "stdout is the protocol's");
    String::from_utf8(output.stderr).unwrap()
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_home_that_others_may_write_is_refused_with_the_cure() {
    let home = TestHome::new();
    drop(Server::start(&home));
    for place in ["", "agents", "running"] {
        let path = home.root().join(place);
        chmod(&path, 0o775);
        let error = refusal(home.command());
        let path = path.to_str().unwrap().trim_end_matches('/');
        assert!(error.contains(&format!("chmod go-w '{path}'")), "{error}");
        chmod(Path::new(path), 0o700);
    }
    Server::start(&home).ok("health", json!({}));
}

#[test]
fn a_home_that_is_nowhere_is_refused() {
    let home = TestHome::new();
    let mut command = home.command();
    command.env("MOADIM_HOME", "relative/home");
    assert!(refusal(command).contains("not an absolute path"));
    let file = home.scratch().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = home.command();
    command.env("MOADIM_HOME", &file);
    assert!(refusal(command).contains(file.to_str().unwrap()));
}

#[test]
fn damaged_settings_are_named_and_nothing_is_ended_or_removed_by_defaults() {
    let home = TestHome::with_config("session_host = \"detached\"\nwatchdog_interval_secs = 1\nkill_grace_secs = 1\n");
    home.add_shell();
    let mut server = Server::start(&home);
    let run = server.start_run("Runs", "sleep 300", json!({}));
    home.configure("defualt_ttl_secs = 5\n");
    let calls = [
        ("create_routine", json!({ "title": "T", "agent": "shell", "prompt": "x" })),
        ("trigger_routine", json!({ "routine": "runs" })),
        ("cleanup_workbenches", json!({})),
    ];
    for (tool, arguments) in calls {
        let error = server.error(tool, arguments);
        assert!(error.contains("config.toml") && error.contains("defualt_ttl_secs"), "{tool}: {error}");
    }
    let config = home.root().join("config.toml");
    wait_until("the problem in health", || {
        let problems = server.problems();
        problems.iter().any(|one| one["path"] == config.to_str().unwrap())
    });
    assert!(home.entry(&run).exists());
    home.configure("session_host = \"detached\"\nwatchdog_interval_secs = 1\n");
    wait_until("the problem to go", || server.problems().is_empty());
    assert_eq!(server.stop(&run)["status"], "stopped");
}

#[test]
fn settings_that_go_away_or_are_empty_are_not_taken_for_the_defaults() {
    let settings = "session_host = \"detached\"\ndefault_ttl_secs = 2592000\n";
    let home = TestHome::with_config(settings);
    home.add_shell();
    let mut server = Server::start(&home);
    server.routine("Kept", "true").run_to("succeeded");
    let config = home.root().join("config.toml");
    let damages: [(&str, &dyn Fn()); 2] = [
        ("disappeared", &|| std::fs::remove_file(&config).unwrap()),
        ("empty", &|| std::fs::write(&config, "").unwrap()),
    ];
    for (word, damage) in damages {
        damage();
        let error = server.error("cleanup_workbenches", json!({}));
        assert!(error.contains("config.toml") && error.contains(word), "{error}");
        let problems = server.problems();
        let reported = problems.iter().find(|one| one["path"] == config.to_str().unwrap()).expect("a problem");
        assert!(text(&reported["fix"]).contains("until then no server"), "{reported}");
        home.configure(settings);
        assert_eq!(server.clean_up()["kept_total"], 1);
    }
}

#[test]
fn a_damaged_routine_is_a_problem_and_the_others_are_listed() {
    let home = TestHome::with_config("session_host = \"detached\"\n");
    home.add_shell();
    let mut server = Server::start(&home);
    server.create("Whole", "true", json!({}));
    home.write("routines/broken/routine.toml", "title = 'Broken'\nagnt = 'x'\n");
    home.write("routines/huge/routine.toml", &"x".repeat(5 << 20));
    let listed = server.ok("list_routines", json!({}));
    assert_eq!((&listed["total"], &listed["routines"][0]["slug"]), (&json!(3), &json!("whole")));
    let problems = server.problems();
    for file in ["routines/broken/routine.toml", "routines/huge/routine.toml"] {
        assert!(problems.iter().any(|one| text(&one["path"]).ends_with(file)), "{file}: {problems:?}");
    }
    let error = server.error("trigger_routine", json!({ "routine": "broken" }));
    assert!(error.contains("broken/routine.toml") && error.contains("fix or remove"), "{error}");
}

#[test]
fn a_home_that_the_original_daemon_sweeps_is_left_to_it() {
    let home = TestHome::at_the_default_place();
    home.add_shell();
    let pid_file = home.user().join(".config/moadim/moadim.pid");
    std::fs::create_dir_all(pid_file.parent().unwrap()).unwrap();
    let mut command = home.command();
    command.env_remove("MOADIM_HOME");
    let mut server = Server::spawn(command);
    server.introduce(Era::Legacy("2025-11-25"));
    assert_eq!(server.ok("health", json!({}))["home"], home.root().to_str().unwrap());
    server.create("Ours", "true", json!({}));
    // A pid file stays when its daemon is killed, and an innocent process may have the pid by now.
    std::fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
    assert_eq!(server.problems(), [] as [serde_json::Value; 0]);
    let program = home.scratch().join("moadim");
    std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    let mut daemon = Command::new(program).arg("60").spawn().unwrap();
    let pid = daemon.id().to_string();
    std::fs::write(&pid_file, format!("{pid}\n")).unwrap();
    let refusals = [
        server.error("trigger_routine", json!({ "routine": "ours" })),
        server.error("cleanup_workbenches", json!({})),
        server.problems().iter().map(|one| text(&one["problem"])).collect::<String>(),
    ];
    // It is our own child, and only we kill it; whatever is asserted comes after.
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    for error in refusals {
        assert!(error.contains(&pid) && error.contains("MOADIM_HOME"), "{error}");
    }
    server.run_to("ours", "succeeded");
}

#[test]
fn a_server_that_does_not_register_is_named_as_an_older_one() {
    let (home, mut server) = Scene::new().start();
    let registration = |pid: u32| home.root().join("locks/servers").join(pid.to_string());
    assert_eq!(home.json(registration(server.pid())).unwrap()["version"], env!("CARGO_PKG_VERSION"));
    // What an older server looks like: its name, no arguments, and this home.
    std::fs::create_dir_all(home.scripts()).unwrap();
    let program = home.scripts().join("moadim-mcp");
    crate::harness::copy_program("/bin/sh", &program);
    let mut older = home.command_of(&program).stdin(Stdio::piped()).spawn().unwrap();
    let named = |problems: &[serde_json::Value], pid: u32, words: &str| {
        let problem = problems.iter().find(|one| text(&one["problem"]).contains(&format!("pid {pid}")))?;
        assert!(
            text(&problem["problem"]).contains(words) && text(&problem["fix"]).contains("restart its host"),
            "{problem}"
        );
        Some(())
    };
    wait_for(PATIENCE, "the older one to be named", || named(&server.problems(), older.id(), "0.1.0"));
    let said = home.moadim(&["doctor"]).stdout;
    assert!(said.contains(&format!("pid {}", older.id())) && said.contains("restart its host"), "{said}");
    assert!(!said.contains(&format!("pid {}", server.pid())), "ours is well: {said}");
    drop(older.stdin.take());
    older.wait().unwrap();
    assert_eq!(named(&server.problems(), older.id(), ""), None);
    // One of another version, that says so.
    let mut another = Server::start(&home);
    home.change_json(registration(another.pid()), |note| note["version"] = serde_json::json!("9.9.9"));
    assert_eq!(named(&server.problems(), another.pid(), "9.9.9"), Some(()));
    let pid = another.pid();
    another.close_stdin_and_wait();
    assert!(!registration(pid).exists());
    // One that was killed leaves its registration to the next sweep.
    let killed = Server::start(&home);
    killed.signal(rustix::process::Signal::KILL);
    let pid = killed.pid();
    drop(killed);
    assert!(registration(pid).exists());
    let _server = Server::start(&home);
    wait_until("its registration to go", || !registration(pid).exists());
}

/// Lists all that is below a directory. What is found may be removed at any time.
fn below(directory: &Path) -> Vec<PathBuf> {
    let files = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        files => files.unwrap(),
    };
    let mut found = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        if path.symlink_metadata().is_ok_and(|file| file.is_dir()) {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn nobody_else_can_read_anything_and_secrets_are_gone_once_the_agent_runs() {
    let home = TestHome::new();
    // What the program itself makes, however careless its host is.
    let mut shell = Command::new("/bin/sh");
    let program = home.command();
    shell.args(["-c", "umask 000; exec \"$0\""]).arg(program.get_program());
    shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
    let mut server = Server::spawn(shell);
    server.introduce(Era::Legacy("2025-11-25"));
    home.add_agent("shell", "command = \"sh\"\naccept_env = [\"TOKEN\"]\n");
    chmod(&home.root().join("agents/shell.toml"), 0o600);
    let secret = json!({ "env": { "TOKEN": "hunter2" } });
    let run = server.start_run("Secret", "until [ -e go ]; do sleep 0.05; done", secret);
    let entry = home.entry(&run);
    assert!(entry.join("started.json").exists() && !entry.join("env.json").exists());
    let assert_private = || {
        for path in below(&home.root()) {
            // A file may be replaced at any time.
            let Ok(found) = path.symlink_metadata() else { continue };
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            let ours = !path.ends_with("tmux.sock");
            assert!(!ours || found.mode() & 0o777 == expected, "{} is {:o}", path.display(), found.mode());
            if found.is_file() && !path.ends_with("routine.toml") {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
                assert!(!text.contains("hunter2"), "a secret is in {}", path.display());
            }
        }
    };
    assert_private();
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    chmod(&home.workbench(&run).join("go"), 0o600);
    server.wait_for_run(&run, "succeeded");
    assert_private();
    assert_eq!(home.root().metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_home_whose_path_is_too_long_for_a_socket_works_all_the_same() {
    if !crate::harness::tmux_is_there() {
        return;
    }
    let home = TestHome::new();
    let root = home.scratch().join("x".repeat(60)).join("y".repeat(60));
    let mut command = home.command();
    command.env("MOADIM_HOME", &root);
    let mut server = Server::spawn(command);
    server.introduce(Era::Legacy("2025-11-25"));
    std::fs::write(root.join("agents/shell.toml"), "command = 'sh'\n").unwrap();
    let routine = server.create("Long", "sleep 300", json!({}));
    let run = server.ok("trigger_routine", json!({ "routine": routine }))["run"].clone();
    let socket = text(&run["attach_command"]).split(" -S ").nth(1).unwrap().split(" attach").next().unwrap().to_owned();
    let socket = PathBuf::from(socket.trim_matches('\''));
    assert!(socket.starts_with("/tmp") && !socket.starts_with(home.scratch()), "{}", socket.display());
    crate::harness::wait_for(crate::harness::PATIENCE, "its window", || {
        let sessions = crate::harness::tmux(&socket, &["list-sessions", "-F", "#{session_name}"]).stdout;
        (String::from_utf8_lossy(&sessions).trim() == text(&run["session"])).then_some(())
    });
    assert_eq!(server.stop(&text(&run["id"]))["status"], "stopped");
    crate::harness::tmux(&socket, &["kill-server"]);
    let _ = std::fs::remove_dir_all(socket.parent().unwrap());
}
