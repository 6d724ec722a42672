//! A person's own login shell: agents that a terminal finds are found, and start-up files are never cut off.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{PATIENCE, Scene, Server, TestHome, may_take_long, text, wait_for, wait_until};
use serde_json::{Value, json};

/// The longest that a trigger may take is 5 s; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns where a shell is; `None`, and a word about it, where it is not installed and nobody insists.
fn shell(name: &str) -> Option<PathBuf> {
    let found = ["/bin", "/usr/bin", "/usr/local/bin"].map(|place| Path::new(place).join(name));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        let insists = std::env::var("MOADIM_REQUIRE_SHELLS").is_ok_and(|value| value == "1");
        assert!(!insists, "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// Writes a start-up file that was not written a moment ago.
fn start_up_file(home: &TestHome, name: &str, text: &str) {
    let path = home.user().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let old = SystemTime::now() - Duration::from_secs(100);
    File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
}

fn started(home: &TestHome, shell: &Path, path: &str) -> Server {
    Server::start_with_env(home, &[("SHELL", shell.as_os_str()), ("PATH", path.as_ref())])
}

/// What a shell reads in a terminal alone, with a line at its end that adds a directory to PATH.
fn for_terminals(shell: &str, directory: &Path) -> (&'static str, String) {
    let directory = directory.display();
    match shell {
        // As in /etc/skel.
        "bash" => (
            ".bashrc",
            format!("case $- in *i*) ;; *) return;; esac\necho Welcome\nexport PATH=\"$PATH:{directory}\"\n"),
        ),
        "zsh" => (".zshrc", format!("echo Welcome\nexport PATH=\"$PATH:{directory}\"\n")),
        _ => (
            ".config/fish/config.fish",
            format!("if status is-interactive\n  echo Welcome\n  set -gx PATH $PATH {directory}\nend\n"),
        ),
    }
}

#[test]
fn an_agent_that_only_a_terminal_finds_is_found() {
    for name in ["bash", "zsh", "fish"] {
        let Some(shell) = shell(name) else { continue };
        let home = TestHome::detached("");
        // It and its interpreter are in a directory of their own.
        home.script("interpreter-of-agents", "echo \"working: $(cat)\"");
        home.script("terminal-agent", "");
        fs::write(home.scripts().join("terminal-agent"), "#!/usr/bin/env interpreter-of-agents\n").unwrap();
        home.add_agent("found", "command = \"terminal-agent\"\n");
        home.add_agent("nowhere", "command = \"no-such-agent\"\n");
        home.add_agent("strict", "command = \"terminal-agent\"\nlogin_shell = false\n");
        let (file, lines) = for_terminals(name, &home.scripts());
        start_up_file(&home, file, &lines);
        if name == "bash" {
            start_up_file(&home, ".profile", ". ~/.bashrc\n");
        }
        let mut server = started(&home, &shell, "/usr/bin:/bin");
        let agents = wait_for(PATIENCE, "the shells' answers", || {
            let agents = server.ok("list_agents", json!({}))["agents"].clone();
            let of =
                |name: &str| agents.as_array().unwrap().iter().find(|agent| agent["name"] == name).unwrap().clone();
            (of("found")["available"] == true).then(|| [of("found"), of("nowhere"), of("strict")])
        });
        assert!(text(&agents[0]["detail"]).contains("an interactive login shell"), "{name}: {agents:?}");
        assert!(text(&agents[1]["detail"]).contains("the PATH of an interactive login shell is"), "{agents:?}");
        assert_eq!(agents[2]["available"], false, "{agents:?}");
        let run = server.routine("Works", "hello").with(json!({ "agent": "found" })).run_to("succeeded");
        assert_eq!(server.log(&run), "working: hello\n", "{name}");
        let mut doctor = home.command();
        let doctor = doctor.args(["doctor"]).env("SHELL", &shell).env("PATH", "/usr/bin:/bin").output().unwrap();
        let doctor = String::from_utf8(doctor.stdout).unwrap();
        assert!(doctor.lines().any(|line| line.contains("agent found") && line.contains("interactive")), "{doctor}");
        let routine = server.create("Nowhere", "x", json!({ "agent": "nowhere" }));
        let error = server.error("trigger_routine", json!({ "routine": routine }));
        assert!(error.contains("no-such-agent") && error.contains("the PATH of moadim-mcp is"), "{error}");
    }
}

#[test]
fn what_the_server_was_started_with_counts_where_start_up_files_set_path_anew() {
    for name in ["bash", "zsh", "fish"] {
        let Some(shell) = shell(name) else { continue };
        let home = TestHome::detached("");
        home.script("mine", "echo mine; command -v mine");
        home.add_agent("mine", "command = \"mine\"\n");
        start_up_file(&home, ".profile", "PATH=/usr/bin:/bin\n");
        start_up_file(&home, ".zprofile", "PATH=/usr/bin:/bin\n");
        start_up_file(&home, ".config/fish/config.fish", "set -gx PATH /usr/bin /bin\n");
        let path = format!("{}:/usr/bin:/bin", home.scripts().display());
        let mut server = started(&home, &shell, &path);
        let run = server.routine("Mine", "x").with(json!({ "agent": "mine" })).run_to("succeeded");
        assert_eq!(server.log(&run), format!("mine\n{}\n", home.scripts().join("mine").display()), "{name}");
        let listed = server.ok("list_agents", json!({}))["agents"].clone();
        let mine = listed.as_array().unwrap().iter().find(|agent| agent["name"] == "mine").unwrap();
        assert!(text(&mine["detail"]).contains("the PATH of moadim-mcp"), "{mine}");
    }
}

#[test]
fn start_up_files_end_by_themselves_though_the_server_leaves_at_once() {
    for name in ["bash", "zsh", "fish"] {
        let Some(shell) = shell(name) else { continue };
        let home = TestHome::detached("");
        // As `pyenv init` takes a lock, and others work on in the background.
        let lines = "mkdir ~/lock\n(sleep 1; echo so far; echo done > ~/background) &\nsleep 0.5\nrmdir ~/lock\ncase $- in *i*) ;; *) echo x >> ~/asked;; esac\n";
        start_up_file(&home, ".profile", lines);
        start_up_file(&home, ".zprofile", lines);
        let fish = "mkdir ~/lock\nsh -c '(sleep 1; echo so far; echo done > ~/background) &'\nsleep 0.5\nrmdir ~/lock\nstatus is-interactive; or echo x >> ~/asked\n";
        start_up_file(&home, ".config/fish/config.fish", fish);
        let user = home.user();
        let mut server = started(&home, &shell, "/usr/bin:/bin");
        wait_until("the shell to be at work", || user.join("lock").exists());
        assert!(server.close_stdin_and_wait().0.success());
        wait_until("the start-up files to end", || user.join("background").exists() && user.join("asked").exists());
        assert!(!user.join("lock").exists(), "{name}");
        // What was answered after the server had gone is known to the next one, which asks nobody.
        wait_until("the end of what asks", || home.processes().is_empty());
        for _ in 0..3 {
            let mut server = started(&home, &shell, "/usr/bin:/bin");
            let listed = server.ok("list_agents", json!({}));
            assert!(listed.to_string().contains("the login shell's PATH"), "{listed}");
            assert!(server.close_stdin_and_wait().0.success());
        }
        let asked = || fs::read_to_string(user.join("asked")).unwrap().lines().count();
        assert_eq!(asked(), 1, "{name}");
        let extra = if name == "fish" { ".config/fish/conf.d/more.fish" } else { ".bashrc" };
        start_up_file(&home, extra, "# one more\n");
        let mut server = started(&home, &shell, "/usr/bin:/bin");
        wait_until("the shell to be asked again", || asked() == 2);
        assert!(server.close_stdin_and_wait().0.success());
        wait_until("the end of what asks", || home.processes().is_empty());
    }
}

#[test]
fn an_agent_that_only_slow_start_up_files_lead_to_is_found() {
    let Some(shell) = shell("bash") else { return };
    let home = TestHome::detached("");
    home.script("terminal-agent", "echo at work");
    home.add_agent("slow", "command = \"terminal-agent\"\n");
    start_up_file(&home, ".bash_profile", "sleep 3; . ~/.bashrc\n");
    start_up_file(&home, ".bashrc", &for_terminals("bash", &home.scripts()).1);
    let mut server = started(&home, &shell, "/usr/bin:/bin");
    let routine = server.create("Slow", "x", json!({ "agent": "slow" }));
    let began = Instant::now();
    let run = server.trigger(&routine);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), "at work\n");
    // Asked once, so it is known the next time.
    wait_until("the end of what asks", || home.processes_named("sleep").is_empty());
    let listed = server.ok("list_agents", json!({})).to_string();
    assert!(listed.contains("an interactive login shell"), "{listed}");
}

/// Returns how often the login shell was asked, by a counter that its start-up files keep.
fn asked(home: &TestHome) -> usize {
    fs::read_to_string(home.user().join("asked")).unwrap_or_default().lines().count()
}

const COUNT: &str = "case $- in *i*) ;; *) echo x >> ~/asked;; esac\n";

fn wait_for_the_login_shell(server: &mut Server) {
    wait_until("the answer", || server.ok("list_agents", json!({})).to_string().contains("the login shell's PATH"));
}

#[test]
fn a_shell_is_asked_once_though_its_files_are_new_or_write_each_other() {
    for lines in [COUNT.to_owned(), format!("{COUNT}touch ~/.bash_aliases\n")] {
        let home = TestHome::detached("");
        fs::write(home.user().join(".profile"), lines).unwrap();
        for _ in 0..3 {
            let mut server = Server::start(&home);
            wait_for_the_login_shell(&mut server);
            assert!(server.close_stdin_and_wait().0.success());
        }
        assert_eq!(asked(&home), 1);
    }
}

#[test]
fn a_host_that_ignores_its_childrens_ends_gets_an_answer_too() {
    let home = TestHome::detached("");
    let mut command = Command::new("/bin/sh");
    let program = home.command();
    command.args(["-c", "trap '' CHLD; exec \"$0\""]).arg(program.get_program()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(home.user());
    let mut server = Server::start_with(command);
    wait_for_the_login_shell(&mut server);
    wait_until("the end of what asks", || home.processes().len() == 1);
}

#[test]
fn a_path_that_no_text_can_name_loses_only_that() {
    let Some(shell) = shell("bash") else { return };
    let home = TestHome::detached("");
    home.script("mine", "echo mine");
    home.add_agent("mine", "command = \"mine\"\n");
    let scripts = home.scripts();
    start_up_file(&home, ".bash_profile", &format!("PATH=$PATH:$'/opt/\\xff':{}\n", scripts.display()));
    let mut server = started(&home, &shell, "/usr/bin:/bin");
    wait_for_the_login_shell(&mut server);
    let listed = server.ok("list_agents", json!({}))["agents"].clone();
    assert!(listed.to_string().contains(scripts.join("mine").to_str().unwrap()), "{listed}");
}

#[test]
fn a_login_shell_that_takes_long_is_waited_for_beyond_the_answer() {
    let home = TestHome::detached("");
    start_up_file(&home, ".profile", "sleep 7\n");
    let mut server = Server::start(&home);
    let routine = server.create("Slow", "echo at last", json!({}));
    let began = Instant::now();
    let answer = server.ok("trigger_routine", json!({ "routine": routine }));
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    assert_eq!(answer["run"]["status"], "preparing", "{answer}");
    let run = text(&answer["run"]["id"]);
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), "at last\n");
    wait_until("the end of what asks", || home.processes_named("sleep").is_empty());
}

#[test]
fn what_start_up_files_leave_running_is_not_the_agents_doing() {
    let home = TestHome::detached("");
    start_up_file(&home, ".profile", "(while :; do sleep 0.3; done) > /dev/null 2>&1 &\n");
    let mut server = Server::start(&home);
    for (title, prompt, reason) in [
        ("Good", "true", Value::Null),
        ("Careless", "sleep 302 &", json!("its agent left processes behind, which were ended (1)")),
        // By now what the start-up files left has children.
        ("Slow", "sleep 0.7", Value::Null),
    ] {
        let run = server.start_run(title, prompt, json!({}));
        let ended = server.wait_for_run(&run, "succeeded");
        assert_eq!(ended["status_reason"], reason, "{ended}");
        home.wait_for_the_last_of(&run);
    }
    // What the shell left that was asked for its PATH stays: it is the person's.
    drop(server);
    wait_until("what asks", || {
        let left = home.processes();
        left.iter().all(|process| process.name != "moadim-mcp")
    });
    let left = home.processes();
    assert!(!left.is_empty());
    left.iter().for_each(crate::harness::Seen::kill);
}

/// Takes 20 s, and another 60 s, so it runs with `MOADIM_LONG_TESTS=1` only.
#[test]
fn a_login_shell_that_hangs_may_clean_up_and_is_named() {
    if may_take_long() {
        let home = TestHome::detached("");
        let lines = "trap 'echo cleaned >> ~/cleaned; exit 1' TERM\nsleep 300 & wait\n";
        start_up_file(&home, ".profile", lines);
        let mut server = Server::start(&home);
        let routine = server.create("Hangs", "echo never", json!({ "max_runtime_secs": 300 }));
        let answer = server.ok("trigger_routine", json!({ "routine": routine }));
        let problem = wait_for(2 * PATIENCE, "the login shell to be named", || server.problems().pop());
        assert!(text(&problem["problem"]).contains("/bin/sh was silent for 20 s"), "{problem}");
        assert_eq!(fs::read_to_string(home.user().join("cleaned")).unwrap(), "cleaned\n");
        let run = text(&answer["run"]["id"]);
        let ended = wait_for(3 * PATIENCE, "the run to be given up", || {
            let run = server.run(&run);
            (run["status"] == "launch_failed").then_some(run)
        });
        assert!(text(&ended["status_reason"]).contains("silent for 60 s"), "{ended}");
    }
}

#[test]
fn the_answer_is_kept_for_nobody_else() {
    let (home, mut server) = Scene::new().start();
    wait_until("the answer", || server.ok("list_agents", json!({})).to_string().contains("the login shell's PATH"));
    let kept: Vec<PathBuf> =
        fs::read_dir(home.root().join("cache/paths")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!kept.is_empty());
    for file in kept {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
    }
    // A damaged one is asked for again.
    for entry in fs::read_dir(home.root().join("cache/paths")).unwrap() {
        fs::write(entry.unwrap().path(), "nonsense").unwrap();
    }
    let mut other = Server::start(&home);
    wait_until("the answer", || other.ok("list_agents", json!({})).to_string().contains("the login shell's PATH"));
}
