//! What a person does with routines in a shell, as tools do it for a model.

use std::fs;

use crate::harness::{Answer, Scene, TestHome, assert_has, assert_says, script_is_there, text};
use serde_json::json;

fn moadim_with(home: &TestHome, words: &[&str], variables: &[(&str, &str)], input: &str) -> (bool, String, String) {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = home.command();
    command.args(words).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_routine_is_created_with_several_times_and_with_a_moment() {
    let (home, mut server) = Scene::new().start();
    let create = |title: &str, more: &[&str]| {
        home.moadim(&[&["create", title, "--agent", "shell", "--prompt", "true"], more].concat())
    };
    create("Often", &["--schedule", "0 9 * * *", "--schedule", "@HOURLY", "--timezone", "UTC"]).ok();
    create("Plain", &["--schedule", " @Daily "]).ok();
    create("Once", &["--run-at", "2090-12-01T09:00", "--timezone", "Europe/Berlin"]).ok();
    let routine =
        |server: &mut crate::harness::Server, slug: &str| server.ok("get_routine", json!({ "routine": slug }));
    let often = routine(&mut server, "often");
    assert_eq!(often["settings"]["schedule"], json!(["0 9 * * *", "@hourly"]));
    assert_says(&text(&often["routine"]["schedule_description"]), &["At 09:00", "; ", "(UTC)"]);
    assert!(home.read("routines/plain/routine.toml").contains("schedule = \"@daily\""));
    let once = routine(&mut server, "once")["routine"].clone();
    assert_has(&once, json!({ "run_at": "2090-12-01T09:00", "next_fires": ["2090-12-01T08:00:00Z"] }));
    assert_says(&text(&once["schedule_description"]), &["Once on 2090-12-01 at 09:00 (Europe/Berlin)"]);
    for (more, part) in [
        (&["--run-at", "2020-12-01T09:00"][..], "give a later time"),
        (&["--run-at", "soon"], "2026-12-01T09:00"),
        (&["--schedule", "@daily", "--schedule", "*/90 * * * *"], "*/90"),
    ] {
        assert_says(&create("Wrong", more).failed(1), &[part]);
    }
    assert_says(&create("Wrong", &["--timezone", "UTC"]).failed(2), &["--schedule"]);
    let update = |server: &mut crate::harness::Server, more: serde_json::Value| {
        let mut arguments = more;
        arguments["routine"] = json!("once");
        server.call_tool("update_routine", arguments)
    };
    assert_says(&update(&mut server, json!({ "run_at": "2020-01-01T00:00:00Z" })).error(), &["`run_at`", "later"]);
    update(&mut server, json!({ "schedule": ["@daily", "@weekly"], "clear": ["run_at"] })).ok();
    let file = home.read("routines/once/routine.toml");
    assert!(file.contains("schedule = [\"@daily\", \"@weekly\"]") && !file.contains("run_at"), "{file}");
    // A person may leave one that is past, and change the rest.
    let past = file.replace("schedule = [", "run_at = 2020-01-01T00:00:00Z\nschedule = [");
    home.write("routines/once/routine.toml", &past);
    update(&mut server, json!({ "keep_last": 2 })).ok();
    assert!(home.read("routines/once/routine.toml").contains("run_at = 2020-01-01T00:00:00Z\n"));
    assert!(edit(&home, "once", "sed -i 's/keep_last = 2/keep_last = 3/' \"$1\"").0);
    let (well, _, errors) = edit(&home, "once", "sed -i 's/2020-01-01/2021-01-01/' \"$1\"");
    assert!(!well && errors.contains("`run_at`") && errors.contains("later"), "{errors}");
    fs::remove_dir_all(errors.trim().split_once("what you wrote is in ").unwrap().1).unwrap();
}

#[test]
fn a_routine_is_created_shown_switched_snoozed_and_deleted() {
    let (home, mut server) = Scene::new().start();
    let created = home.moadim(&[
        "create",
        "Morning news",
        "--agent",
        "shell",
        "--prompt",
        "echo the news",
        "--schedule",
        "0 9 * * *",
        "--timezone",
        "UTC",
        "--max-runtime",
        "30m",
        "--ttl",
        "2d",
        "--tag",
        "daily",
        "--keep-last",
        "3",
    ]);
    assert_says(&created.ok(), &["Created the routine morning-news.", "moadim-mcp trigger morning-news"]);
    let seen = server.ok("get_routine", json!({ "routine": "morning-news" }));
    assert_has(
        &seen["routine"],
        json!({ "max_runtime_secs": 1800, "ttl_secs": 172_800, "tags": ["daily"], "enabled": true }),
    );
    assert_eq!(seen["prompt"], "echo the news");
    let shown = home.moadim(&["show", "morning-news"]).ok();
    assert_says(&shown, &["Morning news", "30 min", "2 days", "PROMPT", "echo the news", "fires next"]);
    assert_eq!(home.moadim(&["show", "morning-news", "--json"]).json()["prompt"], "echo the news");
    let run = server.run_to("morning-news", "succeeded");
    assert_says(&home.moadim(&["show", &run]).ok(), &["succeeded", "the news", "retention"]);
    assert_eq!(home.moadim(&["show", "--run", "morning-news", "--json"]).json()["run"]["id"], run.id.as_str());

    assert_says(&home.moadim(&["disable", "morning-news"]).ok(), &["morning-news is disabled"]);
    assert_says(&server.error("trigger_routine", json!({ "routine": "morning-news" })), &["disabled"]);
    assert_says(&home.moadim(&["enable", "morning-news"]).ok(), &["morning-news is enabled"]);
    let before = text(&server.ok("get_routine", json!({ "routine": "morning-news" }))["routine"]["next_fires"][0]);
    assert_says(&home.moadim(&["snooze", "morning-news", "3d"]).ok(), &["morning-news fires next: ", "days"]);
    let after = text(&server.ok("get_routine", json!({ "routine": "morning-news" }))["routine"]["next_fires"][0]);
    assert!(after > before, "{before} {after}");
    assert_says(&home.moadim(&["snooze", "morning-news", "--off"]).ok(), &["fires next"]);
    assert_says(&home.moadim(&["snooze", "morning-news"]).failed(2), &["required"]);
    assert_says(&home.moadim(&["snooze"]).failed(2), &["required"]);
    // A word that stands alone is a time, unless a routine has that name.
    assert_says(&home.moadim(&["snooze", "2h"]).ok(), &["No schedule fires until", "(in 2 h)"]);
    let snoozed = home.moadim(&["snooze", "--until", "2040-01-01", "--json"]).json();
    assert!(*text(&snoozed["snoozed_until"]) > *"2039-12-31" && snoozed["routine"].is_null(), "{snoozed}");
    assert_says(&home.moadim(&["snooze", "--next"]).failed(2), &["--next needs a routine"]);
    assert_says(&home.moadim(&["snooze", "2x"]).failed(2), &["'2x' is neither a routine nor a time"]);
    assert_says(&home.moadim(&["show", "no-such", "--preview"]).failed(1), &["'no-such'", "moadim-mcp routines"]);
    assert_says(&home.moadim(&["snooze", "--off"]).ok(), &["Schedules fire again"]);
    assert_says(&home.moadim(&["snooze", "no-such", "2h"]).failed(1), &["no-such"]);

    let deleted = home.moadim(&["delete", "morning-news"]).ok();
    assert_says(&deleted, &["Deleted morning-news", "recover --routine morning-news"]);
    assert_says(&home.moadim(&["show", "morning-news", "--json"]).ok(), &["the news"]);
    assert_says(&home.moadim(&["disable", "morning-news"]).failed(1), &["morning-news"]);
}

#[test]
fn a_routine_with_live_runs_is_deleted_only_if_they_may_end() {
    let (home, mut server) = Scene::new().start();
    let run = server.start_run("Busy", "exec sleep 300", json!({}));
    assert_says(&home.moadim(&["delete", "busy"]).failed(1), &[&run, "--end-runs"]);
    assert_eq!(server.run(&run)["status"], "running");
    assert_says(&home.moadim(&["delete", "busy", "--end-runs"]).ok(), &["Ended", &run, "Deleted busy"]);
}

#[test]
fn a_prompt_comes_from_a_file_the_standard_input_or_nowhere() {
    let (home, mut server) = Scene::new().start();
    let file = home.scratch().join("prompt.md");
    fs::write(&file, "echo from a file\n").unwrap();
    let words = ["create", "From a file", "--agent", "shell", "--prompt-file", file.to_str().unwrap()];
    home.moadim(&words).ok();
    let (well, _, errors) =
        moadim_with(&home, &["create", "Typed", "--agent", "shell", "--prompt-file", "-"], &[], "echo typed\n");
    assert!(well, "{errors}");
    for (slug, prompt) in [("from-a-file", "echo from a file\n"), ("typed", "echo typed\n")] {
        assert_eq!(server.ok("get_routine", json!({ "routine": slug }))["prompt"], prompt);
    }
    let (well, _, errors) = moadim_with(&home, &["create", "None", "--agent", "shell"], &[], "");
    assert!(!well && errors.contains("--prompt-file"), "{errors}");
    let wrong = ["create", "Wrong", "--agent", "shell", "--prompt", "x", "--option", "model=opus"];
    assert_says(&home.moadim(&wrong).failed(1), &["no option 'model'"]);
    for (flag, value, example) in [("--max-runtime", "soon", "2h"), ("--option", "model", "NAME=VALUE")] {
        assert_says(
            &home.moadim(&["create", "Wrong", "--agent", "shell", "--prompt", "x", flag, value]).failed(2),
            &[example],
        );
    }
    assert_eq!(server.ok("list_routines", json!({}))["total"], 2);
}

#[test]
fn a_prompt_that_tools_wrote_controls_no_terminal() {
    let (home, mut server) = Scene::new().start();
    let prompt = "echo hi\n# \u{1b}]52;c;bHM=\u{7}\u{1b}[2J\u{202e}over";
    let routine = server.create("Odd", prompt, json!({}));
    for words in [&["show", &routine][..], &["show", &routine, "--preview"]] {
        let said = home.moadim(words).ok();
        assert!(said.contains("echo hi\n# ") && said.contains("over"), "{said:?}");
        assert!(!said.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{said:?}");
    }
    assert_eq!(home.moadim(&["show", &routine, "--json"]).json()["prompt"], prompt, "programs get it as it is");
}

/// Edits a routine with an editor that runs this script on the two files.
fn edit(home: &TestHome, routine: &str, script: &str) -> (bool, String, String) {
    let editor = home.script("editor", script);
    moadim_with(home, &["edit", routine], &[("VISUAL", editor.to_str().unwrap())], "")
}

#[test]
fn both_files_are_edited_and_saved_only_if_they_make_sense() {
    let (home, mut server) = Scene::new().start();
    server.create("Job", "echo one", json!({ "max_runtime_secs": 60 }));
    let (well, said, errors) =
        edit(&home, "job", "sed -i 's/60/90/' \"$1\"; echo '# mine' >> \"$1\"; echo 'echo two' > \"$2\"");
    assert!(well && said.contains("Saved job."), "{said}{errors}");
    let seen = server.ok("get_routine", json!({ "routine": "job" }));
    assert_eq!((&seen["routine"]["max_runtime_secs"], &seen["prompt"]), (&json!(90), &json!("echo two\n")));
    let file = home.root().join("routines/job/routine.toml");
    let saved = fs::read_to_string(&file).unwrap();
    assert!(saved.ends_with("# mine\n"));
    assert!(edit(&home, "job", "true").1.contains("Nothing changed."));
    for (script, words) in [
        ("sed -i 's/90/ninety/' \"$1\"", "line"),
        ("sed -i 's/90/0/' \"$1\"", "max_runtime_secs"),
        ("printf '[trusted.options]\\npermissions = \"all\"\\n' >> \"$1\"", "trusted.options.permissions"),
        ("printf '' > \"$2\"", "prompt.md"),
        ("exit 3", "VISUAL"),
    ] {
        let (well, _, errors) = edit(&home, "job", script);
        assert!(!well && errors.contains(words), "{script}: {errors}");
        assert_eq!(fs::read_to_string(&file).unwrap(), saved, "{script}");
        if let Some((_, kept)) = errors.trim().split_once("what you wrote is in ") {
            assert!(fs::read_dir(kept).unwrap().count() == 2, "{errors}");
            fs::remove_dir_all(kept).unwrap();
        }
    }
    // What was changed meanwhile is not written over.
    let script = format!("sed -i 's/90/91/' \"$1\"; echo '# theirs' >> '{}'", file.display());
    let (well, _, errors) = edit(&home, "job", &script);
    assert!(!well && errors.contains("changed meanwhile"), "{errors}");
    assert!(fs::read_to_string(&file).unwrap().contains("max_runtime_secs = 90"));
    let kept = errors.trim().split_once("what you wrote is in ").unwrap().1;
    fs::remove_dir_all(kept).unwrap();
    assert_says(&home.moadim(&["edit", "nobody"]).failed(1), &["nobody"]);
}

#[test]
fn drafts_go_with_an_edit_that_a_signal_ends() {
    let (home, mut server) = Scene::new().start();
    server.create("Job", "true", json!({}));
    let file = home.root().join("routines/job/routine.toml");
    let saved = fs::read_to_string(&file).unwrap();
    let temporary = home.scratch().join("temporary");
    fs::create_dir(&temporary).unwrap();
    for (signal, code) in [("HUP", None), ("TERM", None), ("INT", Some(0))] {
        let wait = "n=0; while [ -e \"$1\" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done";
        let wait = if code.is_none() { wait } else { "sleep 0.2" };
        let editor = home.script("editor", &format!("ls -d \"$1\" >&2; kill -{signal} $PPID; {wait}"));
        let mut command = home.command();
        let ended = command.args(["edit", "job"]).env("VISUAL", editor).env("TMPDIR", &temporary).output().unwrap();
        assert_eq!(ended.status.code(), code, "{signal}: {ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains(temporary.to_str().unwrap()), "{ended:?}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{signal}");
        assert_eq!(fs::read_to_string(&file).unwrap(), saved);
    }
}

#[test]
fn every_setting_has_a_flag() {
    let (home, mut server) = Scene::new().start();
    home.add_agent("shell", "command = \"sh\"\naccept_env = [\"A\"]\npreamble = true\n");
    let words = "create Everything --agent shell --prompt true --slug all --schedule @daily --timezone UTC --overlap queue \
                 --catch-up none --max-runtime 1h --max-silence 90s --ttl 2d --failed-ttl 1w --keep-last 3 --max-attempts 2 \
                 --backoff 1m --max-consecutive-failures 4 --env A=b=c --repository https://example.com/a.git --branch main \
                 --unsaved-work keep --archive-file out/** --archive-file a.csv --tag x --tag y --continuity --disabled";
    home.moadim(&words.split_whitespace().collect::<Vec<_>>()).ok();
    let seen = server.ok("get_routine", json!({ "routine": "all" }));
    assert_has(
        &seen["settings"],
        json!({
            "schedule": "@daily", "timezone": "UTC", "overlap": "queue", "catch_up": "none", "max_runtime_secs": 3600,
            "max_silence_secs": 90, "ttl_secs": 172_800, "failed_ttl_secs": 604_800, "keep_last": 3,
            "retry": { "max_attempts": 2, "backoff_secs": 60 }, "max_consecutive_failures": 4,
            "repositories": [{ "url": "https://example.com/a.git", "branch": "main" }], "unsaved_work": "keep",
            "archive_files": ["out/**", "a.csv"], "continuity": true,
        }),
    );
    assert_has(&seen["routine"], json!({ "tags": ["x", "y"], "env_keys": ["A"], "enabled": false }));
    for (more, code, says) in [
        ("--max-attempts 2", 2, "--backoff"),
        ("--branch main", 2, "--repository"),
        ("--ttl 500ms", 2, "90s"),
        ("--overlap wait", 2, "queue"),
        ("--repository /a --repository /b --branch main", 1, "--branch"),
    ] {
        let words = format!("create Wrong --agent shell --prompt true {more}");
        let said = home.moadim(&words.split_whitespace().collect::<Vec<_>>()).failed(code);
        assert!(said.contains(says), "{more}: {said}");
    }
    assert_says(&home.moadim(&["create", "--prompt", "x"]).failed(2), &["TITLE", "--agent"]);
}

/// Runs a command on a terminal, with an editor that runs the next of these scripts each time it is opened; it keeps what it saw of
/// the first file as `seen-0`, `seen-1` and so on.
fn edited_on_a_terminal(home: &TestHome, words: &str, scripts: &[&str]) -> Answer {
    let scratch = home.scratch().display();
    let cases: Vec<String> = scripts.iter().enumerate().map(|(n, script)| format!("{n}) {script} ;;")).collect();
    let text = format!(
        "n=$(cat {scratch}/opened 2>/dev/null || echo 0); echo $((n + 1)) > {scratch}/opened; cp \"$1\" {scratch}/seen-$n\n\
         case $n in\n{}\n*) exit 9 ;;\nesac",
        cases.join("\n")
    );
    let editor = home.script("editor", &text);
    let _ = fs::remove_file(home.scratch().join("opened"));
    home.on_a_terminal(words).env("VISUAL", editor).output().unwrap().into()
}

fn seen(home: &TestHome, opening: usize) -> String {
    fs::read_to_string(home.scratch().join(format!("seen-{opening}"))).unwrap()
}

fn opened(home: &TestHome) -> String {
    fs::read_to_string(home.scratch().join("opened")).unwrap().trim().to_owned()
}

/// Removes what a command says it has kept.
fn discard_kept(answer: &Answer) {
    let kept = answer.stdout.split("what you wrote is in ").nth(1).unwrap_or_else(|| panic!("{answer:?}"));
    fs::remove_dir_all(kept.trim()).unwrap();
}

#[test]
fn a_routine_is_written_over_a_template_until_it_makes_sense() {
    if !script_is_there() {
        return;
    }
    let (home, mut server) = Scene::new().start();
    let wrong = r#"sed -i 's/^#ttl_secs = 86400/# mine\nttl_secs = -5/' "$1"; printf '# Goal\necho hi\n' | cat - "$2" > "$2.new"; mv "$2.new" "$2""#;
    let right = r#"sed -i 's/^ttl_secs = -5/ttl_secs = 3600/' "$1""#;
    let answer = edited_on_a_terminal(&home, "create 'Rust news' --agent shell --keep-last 2", &[wrong, right]);
    assert!(answer.code == Some(0) && answer.stdout.contains("Created the routine rust-news."), "{answer:?}");
    let template = seen(&home, 0);
    assert_says(
        &template,
        &["title = \"Rust news\"\nagent = \"shell\"\n", "\nkeep_last = 2\n", "#schedule = ", "#[retry]\n"],
    );
    assert_says(&template, &["# How long a finished run's workbench is kept."]);
    let again = seen(&home, 1);
    assert!(
        again.starts_with("#! ") && again.contains("ttl_secs") && again.contains("# mine\nttl_secs = -5\n"),
        "{again}"
    );
    let found = server.ok("get_routine", json!({ "routine": "rust-news" }));
    assert_eq!((&found["routine"]["ttl_secs"], &found["prompt"]), (&json!(3600), &json!("# Goal\necho hi\n")));
    let saved = home.read("routines/rust-news/routine.toml");
    assert!(
        saved.contains("# mine\nttl_secs = 3600\n") && !saved.contains("How long") && !saved.contains("#!"),
        "{saved}"
    );
    assert!(saved.contains("\ncreated_at = \""), "{saved}");
    server.run_to("rust-news", "succeeded");
}

#[test]
fn an_editor_that_changes_nothing_creates_nothing_and_never_opens_for_ever() {
    if !script_is_there() {
        return;
    }
    let (home, mut server) = Scene::new().start();
    let answer = edited_on_a_terminal(&home, "create", &["true"]);
    assert!(answer.code == Some(1) && answer.stdout.contains("nothing was created"), "{answer:?}");
    assert_says(&seen(&home, 0), &["title = \"\"\nagent = \"\"\n# One of: claude, codex", "shell"]);
    // Without a prompt; then it is left so.
    let answer = edited_on_a_terminal(&home, "create T --agent shell", &["echo 'keep_last = 1' >> \"$1\"", "true"]);
    assert!(answer.code == Some(1) && opened(&home) == "2", "{answer:?}");
    discard_kept(&answer);
    let answer = edited_on_a_terminal(&home, "create T --agent shell", &["exit 3"]);
    assert!(answer.code == Some(1) && answer.stdout.contains("nothing was changed"), "{answer:?}");
    assert_eq!(server.ok("list_routines", json!({}))["total"], 0);
}

#[test]
fn an_edit_that_makes_no_sense_comes_back_with_the_reason() {
    if !script_is_there() {
        return;
    }
    let (home, mut server) = Scene::new().start();
    server.create("Job", "echo one", json!({ "max_runtime_secs": 60 }));
    let wrong = "sed -i 's/60/ninety/' \"$1\"; echo 'echo two' > \"$2\"";
    let answer = edited_on_a_terminal(&home, "edit job", &[wrong, "sed -i 's/ninety/90/' \"$1\""]);
    assert!(answer.code == Some(0) && answer.stdout.contains("Saved job."), "{answer:?}");
    let again = seen(&home, 1);
    assert!(again.starts_with("#! routine.toml: ") && again.contains("max_runtime_secs = ninety"), "{again}");
    let found = server.ok("get_routine", json!({ "routine": "job" }));
    assert_eq!((&found["routine"]["max_runtime_secs"], &found["prompt"]), (&json!(90), &json!("echo two\n")));
    assert!(!home.read("routines/job/routine.toml").contains("#!"));
    let answer = edited_on_a_terminal(&home, "edit job", &["sed -i 's/90/0/' \"$1\"", "true"]);
    assert!(answer.code == Some(1) && opened(&home) == "2" && answer.stdout.contains("max_runtime_secs"), "{answer:?}");
    discard_kept(&answer);
    assert!(home.read("routines/job/routine.toml").contains("max_runtime_secs = 90"));
}
