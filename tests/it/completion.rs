//! Completing names in a shell: a real one asks the real program.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Scene, TestHome};

/// Returns a command that has the program under test on its PATH, and variables as a shell of that home.
fn shell(home: &TestHome, name: &str) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_moadim-mcp")).parent().unwrap().display();
    let mut shell = home.command_of(Path::new(name));
    shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap())).stdin(Stdio::null());
    shell
}

/// Types these words in bash, and returns what it would offer for the last of them.
#[track_caller]
fn offered(home: &TestHome, words: &[&str]) -> Vec<String> {
    const TYPE: &str = r#"
        source <(MOADIM_COMPLETE=bash moadim-mcp)
        registered=$(complete -p moadim-mcp)
        [[ $registered =~ -F\ ([^ ]+) ]] || exit 9
        COMP_WORDS=(moadim-mcp "$@") COMP_CWORD=$# COMP_TYPE=9 COMPREPLY=()
        "${BASH_REMATCH[1]}" moadim-mcp "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        (( ${#COMPREPLY[@]} == 0 )) || printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = shell(home, "bash");
    let output = bash.args(["--norc", "--noprofile", "-c", TYPE, "bash"]).args(words).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_the_names_that_fit_a_command() {
    let (home, mut server) = Scene::new().start();
    server.create("Tidy", "exec sleep 300", json!({}));
    server.create("Job", "true", json!({}));
    let over = server.run_to("job", "succeeded").id;
    let live = server.start_run("Busy", "exec sleep 300", json!({}));
    let (over, live) = (over.as_str(), live.as_str());

    // The newest first, where they are not of one second.
    let shown = offered(&home, &["show", ""]);
    assert_eq!(shown[..3], ["busy", "job", "tidy"]);
    assert!(shown.len() == 5 && shown[3..].iter().any(|run| run == live) && shown[3..].iter().any(|run| run == over));
    assert_eq!(offered(&home, &["show", "jo"]), ["job", over]);
    for command in ["stop", "attach"] {
        assert_eq!(offered(&home, &[command, ""]), ["busy", live], "{command}");
        assert!(offered(&home, &[command, "job"]).is_empty(), "{command}");
    }
    for command in ["edit", "trigger", "delete", "snooze", "enable", "disable"] {
        assert_eq!(offered(&home, &[command, ""]), ["busy", "job", "tidy"], "{command}");
    }
    assert_eq!(offered(&home, &["runs", "--routine", "t"]), ["tidy"]);
    assert_eq!(offered(&home, &["cleanup", "--discard", "job"]), [over]);
    assert_eq!(offered(&home, &["create", "New", "--agent", "c"]), ["claude", "codex", "copilot"]);
    assert_eq!(offered(&home, &["create", "New", "--agent", "sh"]), ["shell"]);
    #[cfg(feature = "dashboard")]
    {
        let made = home.moadim(&["token", "new", "--routine", "tidy", "--json"]).json();
        assert_eq!(offered(&home, &["token", "new", "--routine", "t"]), ["tidy"]);
        assert_eq!(offered(&home, &["token", "revoke", ""]), [made["id"].as_str().unwrap()]);
        assert_eq!(offered(&home, &["dash"]), ["dashboard"]);
    }
    // Flags come where one is begun, or where nothing else can stand.
    assert_eq!(offered(&home, &["show", "--r"]), ["--run"]);
    assert!(offered(&home, &["doctor", ""]).contains(&"--json".to_owned()));
    assert_eq!(offered(&home, &["rec"]), ["recover"]);
    home.moadim(&["delete", "tidy"]).ok();
    assert_eq!(offered(&home, &["recover", "--routine", ""]), ["tidy"]);
    assert_eq!(offered(&home, &["edit", ""]), ["busy", "job"]);
    home.moadim(&["stop", live]).ok();
    assert!(names(&home, &["stop", ""]).is_empty());
}

/// Returns the names that are offered; where none is known, there are flags instead.
#[track_caller]
fn names(home: &TestHome, words: &[&str]) -> Vec<String> {
    let (flags, names): (Vec<String>, Vec<String>) =
        offered(home, words).into_iter().partition(|word| word.starts_with('-'));
    assert_eq!(flags.is_empty(), !names.is_empty(), "{flags:?} {names:?}");
    names
}

#[test]
fn a_home_that_is_missing_or_damaged_offers_nothing_and_stays_as_it_is() {
    let home = TestHome::new();
    assert!(names(&home, &["show", ""]).is_empty());
    assert!(!home.root().exists(), "completing makes nothing");
    home.write("routines", "a file");
    home.write("agents/broken.toml", "command = 7");
    assert!(names(&home, &["show", ""]).is_empty());
    assert_eq!(offered(&home, &["create", "New", "--agent", "b"]), ["broken"]);
    let mut names: Vec<_> = std::fs::read_dir(home.root()).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["agents", "routines"]);
}

#[test]
fn the_newest_hundred_of_very_many_runs_are_offered_at_once() {
    let (home, home_of_few) = (TestHome::new(), TestHome::new());
    for (home, count) in [(&home, 10_000), (&home_of_few, 10)] {
        home.write("routines/job/routine.toml", "");
        for stamp in 1_780_010_000 - count..1_780_010_000_u32 {
            std::fs::create_dir_all(home.workbench(&format!("job-{stamp}"))).unwrap();
        }
    }
    let asked = |home: &TestHome| {
        let mut command = home.command();
        command.env("MOADIM_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
        let began = std::time::Instant::now();
        let output = command.args(["--", "moadim-mcp", "show", "job-178"]).output().unwrap();
        (began.elapsed(), String::from_utf8(output.stdout).unwrap())
    };
    let answers: Vec<_> = (0..5).map(|_| (asked(&home), asked(&home_of_few))).collect();
    let runs: Vec<&str> = answers[0].0.1.lines().collect();
    assert_eq!((runs.len(), runs[0], runs[99]), (100, "job-1780009999", "job-1780009900"));
    // Names alone are read: what a thousand times as many cost beside the start of a program. The machine may be busy.
    let of_many = answers.iter().map(|((took, _), _)| *took).min().unwrap();
    let of_few = answers.iter().map(|(_, (took, _))| *took).min().unwrap();
    assert!(of_many < of_few * 10, "{of_many:?} against {of_few:?}");
}

#[test]
fn other_shells_are_answered_in_their_way() {
    let (home, mut server) = Scene::new().start();
    server.create("Job", "true", json!({}));
    let mut zsh = home.command();
    zsh.env("MOADIM_COMPLETE", "zsh").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
    let output = zsh.args(["--", "moadim-mcp", "edit", ""]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "job");

    if Command::new("fish").arg("--version").output().is_err() {
        eprintln!("SKIPPED: fish is not installed, so it is not asked");
        return;
    }
    let type_it = "MOADIM_COMPLETE=fish moadim-mcp | source; complete -C 'moadim-mcp edit '";
    let output = shell(&home, "fish").args(["--no-config", "-c", type_it]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "job");
}

#[test]
fn a_script_that_cannot_be_answered_gets_no_words_and_a_person_does() {
    let home = TestHome::new();
    let run = |arguments: &[&str], shell: &str| {
        home.command().env("MOADIM_COMPLETE", shell).args(arguments).output().unwrap()
    };
    let output = run(&["--", "moadim-mcp"], "nosh");
    assert!(!output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let output = run(&[], "nosh");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("nosh") && said.contains("fish"), "{said}");
    // Set to nothing, it means nothing.
    assert!(run(&["--version"], "").status.success());
}
