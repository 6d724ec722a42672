//! Who may set a run's variables: tools only those that a person's file accepts, a person any.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::harness::{HOUR, PATIENCE, Scene, Server, Stage, TestHome, assert_says, text, wait_for};
use serde_json::{Value, json};

/// Names that make one program or another execute something, load something, or talk to somebody else. No such list can be
/// complete, which is why nothing of the kind is in the program.
const DANGEROUS: &[&str] = &[
    "ANTHROPIC_BASE_URL",
    "BASH_ENV",
    "BASH_FUNC_x",
    "BROWSER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CLAUDE_CODE_SHELL_PREFIX",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "COPILOT_ALLOW_ALL",
    "DYLD_INSERT_LIBRARIES",
    "EDITOR",
    "ENV",
    "GIT_CONFIG_COUNT",
    "GIT_EDITOR",
    "GIT_PAGER",
    "GIT_SSH_COMMAND",
    "HOME",
    "HTTPS_PROXY",
    "LD_PRELOAD",
    "LESSOPEN",
    "MAKEFLAGS",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "OPENAI_BASE_URL",
    "OPENCODE_CONFIG_CONTENT",
    "PAGER",
    "PATH",
    "PERL5OPT",
    "PIP_INDEX_URL",
    "PROMPT_COMMAND",
    "PYTHONPATH",
    "RUBYOPT",
    "RUSTC_WRAPPER",
    "SHELL",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "VISUAL",
    "XDG_CONFIG_HOME",
    "ZDOTDIR",
    "npm_config_script_shell",
];

fn definition_file(home: &TestHome, slug: &str) -> std::path::PathBuf {
    home.root().join(format!("routines/{slug}/routine.toml"))
}

#[test]
fn a_tool_sets_no_variable_that_the_agent_does_not_accept() {
    let (home, mut server) = Scene::new().agent("open", "accept_env = [\"REGION\"]").start();
    let routine = server.create("Existing", "true", json!({ "agent": "open", "env": { "REGION": "eu" } }));
    for agent in ["claude", "codex", "shell", "open"] {
        let plain = server.create(&format!("Plain {agent}"), "true", json!({ "agent": agent }));
        for name in DANGEROUS {
            let create = json!({ "title": "T", "agent": agent, "prompt": "true", "env": { *name: "x" } });
            let update = json!({ "routine": plain, "env": { "REGION": "x", *name: "x" } });
            for (tool, arguments) in [("create_routine", create), ("update_routine", update)] {
                let error = server.error(tool, arguments);
                for part in [*name, agent, "accept_env", "[trusted.env]", &format!("agents/{agent}.toml")] {
                    assert!(error.contains(part), "{tool} {name}: {part} is missing in: {error}");
                }
            }
        }
    }
    // Also where nothing differs, and the agent has come to accept less.
    home.add_agent("open", "command = \"sh\"\n");
    for change in [json!({ "env": { "REGION": "eu" } }), json!({ "agent": "open" })] {
        let mut update = change;
        update["routine"] = json!(routine);
        assert!(server.error("update_routine", update).contains("REGION"));
    }
    // What one agent accepts is not carried over to another.
    let before = fs::read_to_string(definition_file(&home, &routine)).unwrap();
    let error = server.error("update_routine", json!({ "routine": routine, "agent": "shell" }));
    assert!(error.contains("REGION") && error.contains("'shell'"), "{error}");
    assert_eq!(fs::read_to_string(definition_file(&home, &routine)).unwrap(), before);
    server.ok("update_routine", json!({ "routine": routine, "agent": "shell", "clear": ["env"] }));
    assert_eq!(server.ok("list_routines", json!({}))["total"], 5);
}

#[test]
fn a_launch_checks_it_too_and_both_ways_out_work() {
    let (home, mut server) = Scene::new().agent("shell", "accept_env = [\"REGION\"]").start();
    let routine = server.create("Old", "echo $REGION", json!({ "env": { "REGION": "eu-1" } }));
    // As a routine of 0.1.0 is, which says nothing of who wrote its variables.
    home.add_shell();
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    let problem = server.problems().remove(0);
    assert!(text(&problem["problem"]).contains("REGION"), "{problem}");
    for text in [error, text(&problem["fix"])] {
        assert_says(&text, &["accept_env", "agents/shell.toml", "[trusted.env]", "routines/old/routine.toml"]);
    }
    assert!(home.whole_history().is_empty(), "there was no run");
    // It can still be switched off and on.
    server.ok("update_routine", json!({ "routine": routine, "enabled": false }));
    server.ok("update_routine", json!({ "routine": routine, "enabled": true }));

    home.add_agent("shell", "command = \"sh\"\naccept_env = [\"REGION\"]\n");
    assert_eq!(server.problems(), Vec::<Value>::new());
    let run = server.run_to(&routine, "succeeded");
    assert_eq!(server.log(&run), "eu-1\n");

    home.add_shell();
    let file = definition_file(&home, &routine);
    let moved = fs::read_to_string(&file).unwrap().replace("[env]", "[trusted.env]");
    fs::write(&file, moved).unwrap();
    assert_eq!(server.problems(), Vec::<Value>::new());
    let run = server.run_to(&routine, "succeeded");
    assert_eq!(server.log(&run), "eu-1\n");
}

#[test]
fn a_scheduled_run_checks_it_too() {
    let stage = Stage::new("");
    stage.routine("old", "true", "schedule = \"@hourly\"\n[env]\nREGION = \"eu\"\n");
    let _server = stage.server();
    stage.wait_until_followed("old", "@hourly");
    stage.set_clock(HOUR);
    let missed = stage.wait_for_missed("old", 1).remove(0);
    assert!(text(&missed["reason"]).contains("REGION"), "{missed}");
    assert_eq!(stage.ended("old"), Vec::<Value>::new());
}

#[test]
fn what_only_a_person_writes_stays_as_they_wrote_it() {
    let (home, mut server) = Scene::new().agent("shell", "accept_env = [\"KEY\"]").start();
    let routine = server.create("Mine", "echo $KEY", json!({ "env": { "KEY": "of a tool" } }));
    let file = definition_file(&home, &routine);
    let written = fs::read_to_string(&file).unwrap();
    for trusted in [
        "# Mine alone.\n[trusted]   # really\n\n[trusted.env]\n  KEY    = 'hush-hush'  # do not touch\n\n# The end.\n",
        "[trusted]\nenv = { 'KEY' = \"hush-hush\", } # one line\n",
        "[trusted.env]\r\nKEY = \"\"\"\r\nhush-hush\"\"\"\r\n# and so on\r\n",
        "[trusted]\n[ \"trusted\" . 'env' ]\nKEY='hush-hush'\n# OTHER = 'off'\n",
        "[trusted.env]\nKEY = 'hush-hush'\n\n# the last line",
    ] {
        fs::write(&file, format!("{written}\n{trusted}")).unwrap();
        let updates = [
            json!({ "title": "Other", "tags": ["a"], "retry": { "max_attempts": 2, "backoff_secs": 1 }, "ttl_secs": 50 }),
            json!({ "env": { "KEY": "another" } }),
            json!({ "clear": ["retry", "tags", "ttl_secs", "env"], "enabled": false }),
            json!({ "enabled": true, "repositories": [{ "url": "https://example.com/a.git" }] }),
            json!({ "clear": ["repositories"] }),
        ];
        for mut update in updates {
            update["routine"] = json!(routine);
            server.ok("update_routine", update.clone());
            let now = fs::read_to_string(&file).unwrap();
            assert!(now.contains(trusted), "after {update}: {now:?}");
        }
        let run = server.run_to(&routine, "succeeded");
        assert_eq!(server.log(&run), "hush-hush\n", "a person's word counts most");
        let shown = server.ok("get_routine", json!({ "routine": routine }));
        assert_eq!(shown["trusted_env_keys"], json!(["KEY"]));
        for (tool, arguments) in [
            ("get_routine", json!({ "routine": routine })),
            ("list_routines", json!({})),
            ("get_run", json!({ "run": run, "log_lines": 0 })),
            ("health", json!({})),
        ] {
            let answer = server.call_tool(tool, arguments).text;
            assert!(!answer.replace("\"log_tail\":\"hush-hush", "").contains("hush-hush"), "{tool}: {answer}");
        }
    }
    // Whatever comes and goes behind it.
    let middle = "# Mine.\n[trusted.env]\nKEY = 'hush-hush' # x\n# OTHER = 'off for now'\n\n";
    fs::write(&file, format!("{written}{middle}[retry]\nmax_attempts = 2\nbackoff_secs = 1\n")).unwrap();
    for mut update in
        [json!({ "clear": ["retry"] }), json!({ "tags": ["b"], "retry": { "max_attempts": 3, "backoff_secs": 1 } })]
    {
        update["routine"] = json!(routine);
        server.ok("update_routine", update);
        assert!(fs::read_to_string(&file).unwrap().contains(middle));
    }
    // A file that cannot be read is named without its values.
    fs::write(&file, format!("{written}\n[trusted.env]\nKEY = \"hush-hush\" nonsense\n")).unwrap();
    for error in [server.error("get_routine", json!({ "routine": routine })), json!(server.problems()).to_string()] {
        assert!(error.contains("routine.toml") && error.contains("line ") && !error.contains("hush-hush"), "{error}");
    }
}

#[test]
fn a_tool_that_sets_or_clears_what_only_a_person_writes_is_sent_to_the_file() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Mine", "true", json!({}));
    let before = fs::read_to_string(definition_file(&home, &routine)).unwrap();
    for change in [
        json!({ "trusted": { "env": { "A": "x" } } }),
        json!({ "trusted": null }),
        json!({ "trusted.env": { "A": "x" } }),
        json!({ "trusted_env": { "A": "x" } }),
        json!({ "clear": ["trusted"] }),
        json!({ "clear": ["ttl_secs", "trusted.env"] }),
    ] {
        let mut update = change.clone();
        update["routine"] = json!(routine);
        let error = server.error("update_routine", update);
        assert!(error.contains("routines/mine/routine.toml") && error.contains("only a person"), "{change}: {error}");
        let mut create = change.clone();
        create
            .as_object_mut()
            .unwrap()
            .extend(json!({ "title": "New", "agent": "shell", "prompt": "x" }).as_object().unwrap().clone());
        let error = server.error("create_routine", create);
        assert!(error.contains("routine.toml") && error.contains("only a person"), "{change}: {error}");
    }
    assert_eq!(fs::read_to_string(definition_file(&home, &routine)).unwrap(), before);
    assert_eq!(server.ok("list_routines", json!({}))["total"], 1);
}

#[test]
fn an_agent_is_told_the_directory_that_it_is_in() {
    let home = TestHome::detached("");
    home.add_agent("plain", "command = \"sh\"\nlogin_shell = false\n");
    home.add_agent("prepared", "command = \"true\"\nsetup = [\"sh\", \"-c\", \"env; pwd -P\"]\n");
    let mut server = Server::start(&home);
    for agent in ["shell", "plain", "prepared"] {
        let more = json!({ "agent": agent });
        // The shell itself would set it.
        let run = server.routine(&format!("Where {agent}"), "exec env").with(more).run_to("succeeded");
        let log = server.log(&run);
        let expected = format!("PWD={}", home.workbench(&run).display());
        assert!(log.lines().any(|line| line == expected), "{agent}: {log}");
        assert!(!log.contains("OLDPWD"), "{agent}: {log}");
    }
}

fn keyed(home: &TestHome) {
    home.add_agent("keyed", "command = \"sh\"\ninherit_env = [\"API_KEY\", \"OTHER\"]\n[env]\nOTHER = \"here\"\n");
}

fn key_file(home: &TestHome, text: &str, mode: u32) {
    home.write("agents/keyed.env", text);
    let file = home.root().join("agents/keyed.env");
    fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_variable_that_the_starting_process_lacks_is_named() {
    let home = TestHome::detached("");
    keyed(&home);
    let mut server = Server::start(&home);
    let routine = server.create("Keyed", "test -n \"$API_KEY\" && echo $API_KEY", json!({ "agent": "keyed" }));
    let run = server.trigger(&routine);
    let failed = server.wait_for_run(&run, "failed");
    let doctor = home.moadim(&["doctor"]);
    assert_eq!(doctor.code, Some(1));
    let problem = server.problems().remove(0);
    for said in [text(&failed["status_reason"]), problem.to_string(), doctor.stdout] {
        assert_says(&said, &["API_KEY", "inherit_env", "agents/keyed.env"]);
        assert!(!said.contains("OTHER"), "{said}");
    }

    home.add_agent("prepared", "command = \"true\"\nsetup = [\"false\"]\ninherit_env = [\"API_KEY\"]\n");
    let prepared = server.create("Prepared", "x", json!({ "agent": "prepared" }));
    let error = server.error("trigger_routine", json!({ "routine": prepared }));
    assert!(error.contains("setup command false") && error.contains("API_KEY"), "{error}");
    home.write("agents/prepared.toml", "command = \"true\"\n");
    // Start-up files may set it.
    fs::write(home.user().join(".profile"), "export API_KEY=by-the-shell\n").unwrap();
    let other = server.create("By the shell", "echo $API_KEY; exit 3", json!({ "agent": "keyed" }));
    let run = server.trigger(&other);
    let failed = server.wait_for_run(&run, "failed");
    assert_eq!(
        (text(&failed["status_reason"]).contains("API_KEY"), server.log(&run)),
        (false, "by-the-shell\n".into())
    );
    fs::remove_file(home.user().join(".profile")).unwrap();

    key_file(&home, "# mine\nAPI_KEY = 'hush-hush'\n", 0o644);
    for refused in [server.error("trigger_routine", json!({ "routine": routine })), server.problems()[0].to_string()] {
        assert!(refused.contains("chmod 600") && !refused.contains("hush"), "{refused}");
    }
    key_file(&home, "API_KEY = 'hush-hush'\nMOADIM_COOKIE=x\n", 0o600);
    let refused = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(refused.contains("line 2") && refused.contains("MOADIM_COOKIE") && !refused.contains("hush"), "{refused}");

    key_file(&home, "API_KEY = 'hush-hush'\n", 0o600);
    assert_eq!(server.problems(), Vec::<Value>::new());
    let run = server.run_to(&routine, "succeeded");
    assert_eq!(server.log(&run), "hush-hush\n");
    for (tool, arguments) in
        [("get_routine", json!({ "routine": routine })), ("list_agents", json!({})), ("health", json!({}))]
    {
        assert!(!server.call_tool(tool, arguments).text.replace("log_tail", "").contains("hush-hush"), "{tool}");
    }
    // A home in git does not take the keys along.
    let git = |words: &[&str]| {
        let output =
            Command::new("git").args(words).current_dir(home.root()).env("HOME", home.user()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Also if a person had one of their own.
    fs::write(home.root().join(".gitignore"), "history*").unwrap();
    drop(Server::start(&home));
    assert_eq!(home.read(".gitignore"), "history*\nagents/*.env\nlocks/dashboard.json\n");
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    let kept = git(&["ls-files"]);
    assert!(kept.contains("agents/keyed.toml") && kept.contains(".gitignore") && !kept.contains("keyed.env"), "{kept}");
}

#[test]
fn a_janitor_that_lacks_what_a_host_has_is_named() {
    let home = TestHome::detached("");
    keyed(&home);
    let mut server = Server::start_with_env(&home, &[("API_KEY", "hush-hush")]);
    assert_eq!(server.problems(), Vec::<Value>::new());
    let mut janitor = home.command().arg("janitor").stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let name = format!("janitor {}", janitor.id());
    let named = wait_for(PATIENCE, "the janitor to be named", || {
        server.problems().into_iter().find(|problem| text(&problem["problem"]).contains(&name))
    });
    janitor.kill().unwrap();
    janitor.wait().unwrap();
    assert!(text(&named["problem"]).contains("API_KEY") && text(&named["fix"]).contains("agents/keyed.env"), "{named}");
    assert!(!named.to_string().contains("hush-hush"), "{named}");
}

#[test]
fn too_much_environment_is_named_before_anything_runs() {
    let home = TestHome::detached("");
    let names: Vec<String> = (0..90).map(|n| format!("BIG_{n}")).collect();
    home.add_agent("open", &format!("command = \"sh\"\naccept_env = {names:?}\n"));
    home.add_agent("argument", "command = \"sh\"\nargs = [\"-c\", \"{prompt}\"]\nstdin = \"none\"\n");
    let mut server = Server::start(&home);
    let value = "x".repeat(30 * 1024);
    let much: serde_json::Map<String, Value> = names.iter().map(|name| (name.clone(), json!(value))).collect();
    let arguments = json!({ "title": "Much", "agent": "open", "prompt": "true", "env": much });
    let created = server.error("create_routine", arguments);
    let routine = server.create("Little", "true", json!({ "agent": "open" }));
    let updated = server.error("update_routine", json!({ "routine": routine, "env": much }));
    // As a person writes it.
    let file = definition_file(&home, &routine);
    let before = fs::read_to_string(&file).unwrap();
    let lines: String = names.iter().map(|name| format!("{name} = \"{value}\"\n")).collect();
    fs::write(&file, format!("{before}\n[trusted.env]\n{lines}")).unwrap();
    let triggered = server.error("trigger_routine", json!({ "routine": routine }));
    for error in [created, updated, triggered] {
        assert_says(&error, &["too long", "BIG_", "KiB", "for all"]);
        assert!(!error.contains("xxxx"), "{error}");
    }
    fs::write(&file, &before).unwrap();
    home.add_agent("open", &format!("command = \"sh\"\n[env]\nHUGE = \"{}\"\n", "x".repeat(140 * 1024)));
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(error.contains("HUGE has 141 KiB") && error.contains("128 KiB for one"), "{error}");
    // A prompt that is an argument.
    let prompt = format!("true {}", "x".repeat(140 * 1024));
    let error = server.error("create_routine", json!({ "title": "Long", "agent": "argument", "prompt": prompt }));
    assert!(error.contains("{prompt_file}"), "{error}");
    assert!(home.whole_history().is_empty());
}
