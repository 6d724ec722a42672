//! `setup`: an entry comes into a host's configuration and goes again, and nothing else in the file changes.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::harness::TestHome;
use moadim_mcp::setup::{HOSTS, Host, Surroundings};
use serde_json::{Value, json};

/// A person with a home directory of their own, who has no `MOADIM_HOME` unless a test sets it.
struct Person {
    home: TestHome,
}

impl Person {
    fn new() -> Self {
        Self { home: TestHome::new() }
    }

    fn setup(&self, words: &[&str]) -> Output {
        let mut command = self.home.command();
        command.env_remove("MOADIM_HOME").arg("setup").args(words).output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, words: &[&str]) -> String {
        let output = self.setup(words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        let output = self.setup(words);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    fn config(&self, host: &str) -> PathBuf {
        let macos = cfg!(target_os = "macos");
        let here = Surroundings { home: self.home.user(), macos, variable: |_| None };
        Host::by_name(host).unwrap().configs(&here).pop().unwrap()
    }

    /// Writes a host's configuration.
    fn has(&self, host: &str, text: &str) -> PathBuf {
        let file = self.config(host);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }
}

/// Does the same for every host, side by side, each for a person of its own.
fn for_each_host(test: impl Fn(&Person, &Host) + Sync) {
    std::thread::scope(|scope| {
        for host in &HOSTS {
            let test = &test;
            scope.spawn(move || test(&Person::new(), host));
        }
    });
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

fn backups(file: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(".moadim-backup")).collect()
}

/// What the servers of a host's configuration are called in it.
fn key(host: &str) -> &'static str {
    match host {
        "vscode" => "servers",
        "zed" => "context_servers",
        "codex" => "mcp_servers",
        "opencode" => "mcp",
        _ => "mcpServers",
    }
}

/// Reads our entry as the host would.
fn entry(host: &str, text: &str) -> Value {
    let text = text.trim_start_matches('\u{feff}');
    let whole: Value = if host == "codex" {
        serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
    } else {
        serde_json::from_str(&without_comments(text)).unwrap()
    };
    whole[key(host)]["moadim"].clone()
}

/// Returns the program and the arguments of an entry.
fn started(host: &str, entry: &Value) -> Value {
    let arguments = entry["args"].as_array().map(Vec::as_slice).unwrap_or_default();
    if host == "opencode" { entry["command"].clone() } else { [&[entry["command"].clone()], arguments].concat().into() }
}

/// Enough for the fixtures here: comments of whole lines or behind a space, and trailing commas.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines = lines.map(|line| if line.starts_with("//") { "" } else { line.split(" //").next().unwrap() });
    let joined: String = lines.collect();
    joined.replace(",}", "}").replace(",]", "]")
}

/// Configurations as they are found, for a host whose servers are under `key`.
fn fixtures(host: &str) -> Vec<String> {
    if host == "codex" {
        let servers = "model = \"gpt-5\" # mine\n\n[mcp_servers.other]\ncommand = 'npx' # as it is\nargs = [\n  \"-y\", # yes\n  \"other\",\n]\n\n# projects\n[projects.\"/home/me\"]\ntrust_level = \"trusted\"\n";
        return vec![
            String::new(),
            "# only a comment\n".to_owned(),
            "model = \"gpt-5\"".to_owned(),
            servers.to_owned(),
            servers.replace('\n', "\r\n"),
            format!("\u{feff}{servers}\n# the end"),
            "mcp_servers = { other = { command = \"npx\" } }\n".to_owned(),
            "mcp_servers.other.command = \"npx\"\nlast = 1\n\n[tui]\nx = 1\n".to_owned(),
            "[mcp_servers]\n[mcp_servers.other]\ncommand = \"npx\"\n[mcp_servers.other.env]\nA = \"b\"\n\n\n"
                .to_owned(),
        ];
    }
    let key = key(host);
    let servers = format!(
        "// mine\n{{\n  \"theme\": \"dark\", // at night\n  \"{key}\": {{\n    // the other one\n    \"other\": {{ \"command\": \"npx\", \"args\": [\"-y\", \"other\"] }}\n  }},\n  \"last\": [1, 2]\n}}\n"
    );
    vec![
        String::new(),
        "{}".to_owned(),
        "{ \"theme\": \"dark\" }".to_owned(),
        format!("{{\"{key}\":{{}}}}\n"),
        format!("{{\"{key}\":{{\"other\":{{\"command\":\"npx\"}}}},\"last\":1}}"),
        servers.clone(),
        servers.replace('\n', "\r\n").replace("  ", "\t"),
        format!("\u{feff}{}", servers.trim_end()),
        format!(
            "{{\n    \"{key}\": {{\n        \"other\": {{\n            \"url\": \"https://a.b/c\",\n        }},\n    }},\n}}\n"
        ),
    ]
}

#[test]
fn an_entry_comes_and_goes_and_the_file_is_as_it_was() {
    for_each_host(|person, host| {
        for before in fixtures(host.name) {
            let file = person.has(host.name, &before);
            person.succeeds(&[host.name]);
            let with = read(&file);
            let ours = started(host.name, &entry(host.name, &with));
            assert_eq!(ours, json!([env!("CARGO_BIN_EXE_moadim-mcp")]), "{with}");
            let lines = |text: &str| text.matches('\n').count();
            assert!(!before.contains("\r\n") || lines(&with) == with.matches("\r\n").count(), "{with:?}");
            assert!(person.succeeds(&[host.name]).contains("nothing changes"));
            assert_eq!(read(&file), with);
            person.succeeds(&[host.name, "--remove"]);
            assert_eq!(read(&file), before, "{}", host.name);
            assert!(person.succeeds(&[host.name, "--remove"]).contains("nothing changes"));
            backups(&file).iter().for_each(|backup| std::fs::remove_file(backup).unwrap());
        }
    });
}

#[test]
fn without_a_backup_an_entry_goes_and_every_other_line_stays() {
    for_each_host(|person, host| {
        for before in fixtures(host.name) {
            let file = person.has(host.name, &before);
            person.succeeds(&[host.name]);
            backups(&file).iter().for_each(|backup| std::fs::remove_file(backup).unwrap());
            person.succeeds(&[host.name, "--remove"]);
            let after = read(&file);
            assert!(entry(host.name, &after).is_null());
            if host.name == "codex" && before.ends_with('\n') && !before.starts_with("mcp_servers") {
                assert_eq!(after, before);
            }
            let lines =
                before.lines().filter(|line| line.contains("//") || line.contains('#') || line.contains("last"));
            for line in lines.filter(|line| !line.starts_with("{\"")) {
                assert!(after.lines().any(|other| other == line), "{}: {line:?} in {after:?}", host.name);
            }
            backups(&file).iter().for_each(|backup| std::fs::remove_file(backup).unwrap());
        }
    });
    let person = Person::new();
    let file = person.config("cursor");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let before = fixtures("cursor").remove(5);
    std::fs::write(&file, &before).unwrap();
    person.succeeds(&["cursor"]);
    backups(&file).iter().for_each(|backup| std::fs::remove_file(backup).unwrap());
    person.succeeds(&["cursor", "--remove"]);
    assert_eq!(read(&file), before);
}

#[test]
fn a_dry_run_shows_and_writes_nothing() {
    let person = Person::new();
    assert!(person.succeeds(&["cursor", "--dry-run"]).contains("+    \"moadim\": {"));
    assert!(!person.config("cursor").parent().unwrap().exists());
    let file = person.has("zed", "{\n  \"theme\": \"dark\"\n}\n");
    let shown = person.succeeds(&["zed", "--dry-run"]);
    assert!(shown.contains("+  \"context_servers\": {") && !shown.contains('\u{1b}'), "{shown}");
    assert_eq!(read(&file), "{\n  \"theme\": \"dark\"\n}\n");
    assert_eq!(backups(&file), [] as [PathBuf; 0]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_left_alone() {
    let person = Person::new();
    for (host, broken) in [
        ("cursor", "{ \"mcpServers\": { "),
        ("cursor", "{ 'mcpServers': {} }"),
        ("vscode", "[]"),
        ("zed", "{ \"context_servers\": 7 }"),
        ("codex", "[mcp_servers\n"),
        ("codex", "mcp_servers = 1\n"),
    ] {
        let file = person.has(host, broken);
        let error = person.fails(&[host]);
        assert!(error.contains(file.to_str().unwrap()) && error.contains("left as it was"), "{error}");
        assert!(error.contains("by hand:\n") && error.contains(env!("CARGO_BIN_EXE_moadim-mcp")), "{error}");
        assert!(!person.fails(&[host, "--remove"]).contains("by hand"));
        assert_eq!((read(&file).as_str(), backups(&file).len()), (broken, 0));
    }
}

#[test]
fn what_a_person_added_to_the_entry_stays() {
    let person = Person::new();
    let file = person.has(
        "claude-code",
        r#"{
  "mcpServers": {
    "moadim": {
      "command": "/old/moadim-mcp",
      "args": ["--mine"],
      "env": { "RUST_LOG": "info" }, // noisy
      "timeout": 5
    }
  }
}
"#,
    );
    let shown = person.succeeds(&["claude-code"]);
    assert!(shown.contains("-      \"command\": \"/old/moadim-mcp\","), "{shown}");
    let ours = entry("claude-code", &read(&file));
    let expected = json!({
        "type": "stdio", "command": env!("CARGO_BIN_EXE_moadim-mcp"), "args": ["--mine"],
        "env": { "RUST_LOG": "info" }, "timeout": 5
    });
    assert_eq!(ours, expected);
    assert!(read(&file).contains("// noisy"));
    person.succeeds(&["claude-code", "--remove"]);
    assert!(entry("claude-code", &read(&file)).is_null(), "not the backup with the older entry");

    let file = person.has(
        "codex",
        "[mcp_servers.moadim]\ncommand = \"npx\" # ours\nargs = [\"moadim\"]\ntool_timeout_sec = 300\n\n[mcp_servers.moadim.env]\nRUST_LOG = \"info\"\n\n# after\n[tui]\n",
    );
    person.succeeds(&["codex"]);
    let ours = entry("codex", &read(&file));
    let expected = json!({
        "command": env!("CARGO_BIN_EXE_moadim-mcp"), "args": [], "tool_timeout_sec": 300, "startup_timeout_sec": 10,
        "env": { "RUST_LOG": "info" }
    });
    assert_eq!(ours, expected);
    assert!(read(&file).contains(" # ours\n"));
    person.succeeds(&["codex", "--remove"]);
    assert_eq!(read(&file), "\n# after\n[tui]\n");
}

#[test]
fn an_entry_of_another_transport_is_replaced_whole() {
    let person = Person::new();
    let remote = |host: &str| -> Vec<Value> {
        match host {
            "codex" => vec![
                json!({ "url": "https://example.com/mcp" }),
                json!({ "url": "https://example.com/mcp", "bearer_token_env_var": "TOKEN", "http_headers": { "A": "b" } }),
                json!({ "env_http_headers": { "A": "B" }, "enabled": true }),
            ],
            "gemini" => vec![
                json!({ "httpUrl": "https://example.com/mcp", "timeout": 5 }),
                json!({ "url": "https://example.com/sse", "oauth": { "enabled": true } }),
                json!({ "command": "moadim-mcp", "httpUrl": "https://example.com/mcp" }),
                json!({ "tcp": "http.example.com:1234" }),
            ],
            "opencode" => vec![
                json!({ "type": "remote", "url": "https://example.com/mcp", "enabled": true }),
                json!({ "type": "local", "command": "http" }),
                json!({ "type": "local", "command": [], "url": "https://example.com/mcp" }),
                json!({ "type": "http", "command": ["/old/moadim-mcp"] }),
            ],
            "windsurf" => vec![json!({ "serverUrl": "https://example.com/mcp", "disabled": false })],
            "zed" => vec![
                json!({ "url": "https://example.com/mcp", "headers": { "A": "b" } }),
                json!({ "command": { "path": "/old/moadim-mcp", "args": [] }, "settings": {} }),
                json!({ "source": "extension", "settings": { "http": 1 } }),
            ],
            _ => vec![
                json!({ "type": "http", "url": "https://example.com/mcp", "headers": { "A": "b" } }),
                json!({ "type": "sse" }),
                json!({ "transport": "streamable-http" }),
                json!({ "url": "https://example.com/mcp" }),
                json!({ "command": "/old/moadim-mcp", "type": "http", "url": "https://example.com/mcp" }),
            ],
        }
    };
    for host in &HOSTS {
        let (host, key) = (host.name, key(host.name));
        let fresh = entry(host, &{
            let file = person.has(host, "");
            person.succeeds(&[host]);
            read(&file)
        });
        for old in remote(host) {
            let whole = json!({ key: { "other": { "command": "npx" }, "moadim": old } });
            let text = if host == "codex" {
                toml::to_string(&whole).unwrap()
            } else {
                serde_json::to_string_pretty(&whole).unwrap()
            };
            let file = person.has(host, &text);
            let shown = person.succeeds(&[host]);
            let after = read(&file);
            assert_eq!(entry(host, &after), fresh, "{host}: {after}");
            assert!(after.contains("npx"), "{after}");
            let gone = |line: &&str| {
                line.starts_with('-')
                    && ["example.com", "http", "sse", "settings", "headers"].iter().any(|word| line.contains(word))
            };
            assert!(shown.lines().any(|line| gone(&line)), "{host}: {shown}");
            person.succeeds(&[host, "--remove"]);
            assert!(entry(host, &read(&file)).is_null());
            backups(&file).iter().for_each(|backup| std::fs::remove_file(backup).unwrap());
        }
    }
}

#[test]
fn a_host_that_takes_a_list_keeps_what_a_person_added_to_it() {
    let person = Person::new();
    let file = person.has(
        "opencode",
        r#"{
  // mine
  "mcp": {
    "other": { "type": "local", "command": ["npx", "other"] },
    "moadim": { "type": "local", "command": ["/old/moadim-mcp", "--read-only"], "enabled": false } // off
  }
}
"#,
    );
    person.succeeds(&["opencode"]);
    let expected = json!({
        "type": "local", "command": [env!("CARGO_BIN_EXE_moadim-mcp"), "--read-only"], "enabled": false
    });
    assert_eq!(entry("opencode", &read(&file)), expected);
    assert!(read(&file).contains("// mine\n") && read(&file).contains("} // off\n"), "{}", read(&file));
    let mut command = person.home.command();
    assert!(command.env("MOADIM_HOME", "/one").args(["setup", "opencode"]).output().unwrap().status.success());
    assert_eq!(entry("opencode", &read(&file))["environment"], json!({ "MOADIM_HOME": "/one" }));
    person.succeeds(&["opencode", "--remove"]);
    assert!(read(&file).contains("\"other\"") && entry("opencode", &read(&file)).is_null());
}

#[test]
fn of_two_files_the_one_with_the_entry_is_edited_else_the_one_that_counts() {
    let person = Person::new();
    let plain = person.has("opencode", "{}");
    let with_comments = plain.with_extension("jsonc");
    person.succeeds(&["opencode"]);
    std::fs::write(&with_comments, "{} // mine\n").unwrap();
    assert!(person.succeeds(&["opencode"]).contains("nothing changes"));
    person.succeeds(&["opencode", "--remove"]);
    assert_eq!((read(&plain).as_str(), read(&with_comments).as_str()), ("{}", "{} // mine\n"));
    person.succeeds(&["opencode"]);
    assert_eq!(read(&plain), "{}");
    assert_eq!(
        started("opencode", &entry("opencode", &read(&with_comments))),
        json!([env!("CARGO_BIN_EXE_moadim-mcp")])
    );
}

#[test]
fn copilot_may_use_every_tool_of_the_entry() {
    let person = Person::new();
    let file = person.has("copilot", "");
    person.succeeds(&["copilot"]);
    let expected = json!({ "type": "local", "tools": ["*"], "command": env!("CARGO_BIN_EXE_moadim-mcp"), "args": [] });
    assert_eq!(entry("copilot", &read(&file)), expected);
    let own = json!({ "mcpServers": { "moadim": {
        "type": "stdio", "command": "/old/moadim-mcp", "args": [], "tools": ["health"]
    } } });
    std::fs::write(&file, own.to_string()).unwrap();
    person.succeeds(&["copilot"]);
    let ours = entry("copilot", &read(&file));
    assert_eq!((&ours["type"], &ours["tools"]), (&json!("stdio"), &json!(["health"])), "a person's choice");
}

#[test]
fn what_lets_a_host_work_unattended_is_shown_with_its_entry() {
    for_each_host(|person, host| {
        let line = host.unattended("moadim").unwrap_or_else(|| "without asking".to_owned());
        let is_known = host.unattended("moadim").is_some();
        assert!(!person.succeeds(&[host.name, "--dry-run"]).contains(&line), "nothing was written");
        assert_eq!(person.succeeds(&[host.name]).contains(&line), is_known, "{}", host.name);
        assert_eq!(person.succeeds(&[host.name]).contains(&line), is_known, "{} again", host.name);
        assert!(!person.succeeds(&[host.name, "--remove"]).contains(&line));
    });
}

#[test]
fn keys_that_only_sound_foreign_are_left_alone() {
    let person = Person::new();
    let old = json!({ "command": "/old/moadim-mcp", "type": "STDIO", "security": "high", "env": { "URL": "x" } });
    let file = person.has("cursor", &json!({ "mcpServers": { "moadim": old } }).to_string());
    person.succeeds(&["cursor"]);
    let now = entry("cursor", &read(&file));
    assert_eq!((&now["security"], &now["env"]["URL"]), (&json!("high"), &json!("x")), "{now}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let person = Person::new();
    for (host, twice) in [
        ("cursor", r#"{ "mcpServers": {}, "mcpServers": { "moadim": { "command": "x" } } }"#),
        ("cursor", r#"{ "mcpServers": { "moadim": { "command": "x" }, "other": {}, "moadim": { "command": "y" } } }"#),
        ("vscode", r#"{ "servers": { "moadim": { "command": "x", "command": "y" } } }"#),
        ("vscode", r#"{ "servers": { "moadim": { "command": "x", "\u0063ommand": "y" } } }"#),
        ("cursor", r#"{ "mcpServers": { "moadim": { "command": "x", "env": { "A": "1", "A": "2" } } } }"#),
        ("cursor", r#"{ "mcpServers": { "other": { "args": [{ "a": 1, "a": 2 }] } } }"#),
        ("codex", "[mcp_servers.moadim]\ncommand = 'x'\n[mcp_servers.moadim]\ncommand = 'y'\n"),
    ] {
        let file = person.has(host, twice);
        for words in [&[host][..], &[host, "--remove"]] {
            let error = person.fails(words);
            assert!(error.contains("twice") || error.contains("duplicate"), "{error}");
        }
        assert_eq!((read(&file).as_str(), backups(&file).len()), (twice, 0));
    }
}

#[test]
fn a_home_that_is_set_goes_into_the_entry() {
    let person = Person::new();
    for host in ["cursor", "codex"] {
        let file = person.has(host, "");
        for home in ["/one", "/other"] {
            let mut command = person.home.command();
            assert!(command.env("MOADIM_HOME", home).args(["setup", host]).output().unwrap().status.success());
            assert_eq!(entry(host, &read(&file))["env"], json!({ "MOADIM_HOME": home }));
        }
        person.succeeds(&[host]);
        assert_eq!(entry(host, &read(&file))["env"], json!({ "MOADIM_HOME": "/other" }), "nobody said otherwise");
    }
}

#[test]
fn a_symlink_stays_one_and_modes_are_kept() {
    let person = Person::new();
    let real = person.home.scratch().join("dotfiles.json");
    std::fs::write(&real, "{}\n").unwrap();
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
    let link = person.config("gemini");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(&real, &link).unwrap();
    person.succeeds(&["gemini"]);
    let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert!(link.is_symlink() && !entry("gemini", &read(&real)).is_null());
    assert_eq!((mode(&real), mode(&backups(&real)[0])), (0o640, 0o600));
    assert_eq!(read(&backups(&real)[0]), "{}\n");
    person.succeeds(&["gemini", "--remove"]);
    assert_eq!(read(&link), "{}\n");

    std::fs::remove_file(&real).unwrap();
    assert!(person.fails(&["gemini"]).contains("cannot follow"));
    assert!(!real.exists());
}

#[test]
fn without_a_name_the_hosts_found_are_listed() {
    let person = Person::new();
    assert!(person.succeeds(&[]).contains("No agent host found"));
    person.succeeds(&["codex"]);
    person.has("zed", "{ nonsense");
    person.has("windsurf", r#"{ "mcpServers": { "moadim": { "command": "/old/moadim-mcp" } } }"#);
    std::fs::create_dir(person.home.user().join(".claude")).unwrap();
    let listed = person.succeeds(&[]);
    let line = |host: &str| listed.lines().find(|line| line.starts_with(host)).unwrap_or_default();
    assert!(line("codex").contains("  set up  "), "{listed}");
    assert!(line("zed").contains("cannot be read"), "{listed}");
    assert!(line("claude-code").contains("  not set up  "), "{listed}");
    assert!(line("windsurf").contains("with other settings"), "{listed}");
    assert_eq!(line("cursor"), "", "{listed}");
    assert!(!person.home.user().join(".claude.json").exists(), "listing makes nothing");
}

#[test]
fn a_link_on_path_that_leads_here_is_what_is_written() {
    let person = Person::new();
    let file = person.has("cursor", "{}");
    let scripts = person.home.scripts();
    std::fs::create_dir_all(&scripts).unwrap();
    let link = scripts.join("moadim-mcp");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_moadim-mcp"), &link).unwrap();
    let mut command = person.home.command_of(&link);
    command.env("PATH", person.home.path_with_scripts()).env_remove("MOADIM_HOME").args(["setup", "cursor"]);
    assert!(command.output().unwrap().status.success());
    assert!(read(&file).contains(&format!("\"{}\"", link.display())), "{}", read(&file));
    // Another program of that name is not meant.
    std::fs::remove_file(&link).unwrap();
    person.home.script("moadim-mcp", "true");
    let mut command = person.home.command();
    command.env("PATH", person.home.path_with_scripts()).env_remove("MOADIM_HOME").args(["setup", "cursor"]);
    assert!(command.output().unwrap().status.success());
    assert!(!read(&file).contains(&format!("{}", link.display())), "{}", read(&file));
}
