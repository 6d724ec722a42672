//! What programs get of commands: one JSON value on stdout, with the names of the tools' answers.

use serde_json::{Value, json};

use crate::harness::Scene;

#[test]
fn each_command_answers_programs_with_one_json_value() {
    let (home, mut server) = Scene::new().start();
    server.create("Job", "echo hello", json!({ "schedule": "@yearly" }));
    let live = server.start_run("Busy", "exec sleep 300", json!({}));
    std::fs::create_dir_all(home.workbench("gone-1780000000")).unwrap();
    let all = [
        ("create New --agent shell --prompt true", "/routine/slug"),
        ("routines", "/routines/0/slug"),
        ("trigger job --wait", "/run/status"),
        ("runs", "/runs/0/id"),
        ("usage", "/total/runs"),
        ("show job", "/settings/schedule"),
        ("show --run job", "/run/id"),
        ("logs job", "/text"),
        ("pin job", "/run/pinned"),
        ("snooze job 2h", "/routine"),
        ("disable job new", "/routines/1/enabled"),
        ("enable job", "/routines/0/enabled"),
        ("edit job", "/routine/slug"),
        #[cfg(feature = "dashboard")]
        ("token new --routine job --text", "/token"),
        #[cfg(feature = "dashboard")]
        ("token list", "/tokens/0/id"),
        ("stop busy --reason enough", "/run/status_reason"),
        ("forget gone-1780000000 --yes", "/run/status"),
        ("cleanup --dry-run", "/removed_total"),
        ("cleanup", "/removed_total"),
        ("snooze 2h", ""),
        ("snooze --off", ""),
        ("delete new", "/archived_to"),
        ("recover --routine new", "/directory"),
        ("recover --list", ""),
        ("agents", "/agents/0/name"),
        ("doctor", "/checks/0/what"),
        ("service install --dry-run", "/commands"),
        ("setup", "/hosts"),
        ("setup cursor --dry-run", "/diff"),
        ("setup cursor", "/written"),
        ("generate routine.schema.json", "/properties/title"),
    ];
    for (words, pointer) in all {
        let mut command = home.command();
        command.args(words.split_whitespace());
        if !words.starts_with("generate") {
            command.arg("--json");
        }
        // An editor that changes nothing.
        let output = command.env("VISUAL", "true").output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() || words == "doctor", "{words}: {stderr}");
        let answer: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{words}: {error}: {stdout}"));
        assert!(answer.pointer(pointer).is_some(), "{words}: no {pointer} in {answer}");
    }
    assert_eq!(server.run(&live)["status"], "stopped");
}

#[test]
fn what_was_switched_is_told_also_if_another_could_not_be() {
    let (home, mut server) = Scene::new().start();
    server.create("Job", "true", json!({}));
    let answer = home.moadim(&["disable", "job", "nothing", "--json"]);
    let told: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((answer.code, &told["routines"][0]["enabled"]), (Some(1), &json!(false)));
    assert!(answer.stderr.contains("nothing") && told["routines"].as_array().unwrap().len() == 1, "{answer:?}");
    assert_eq!(home.moadim(&["disable", "nothing", "--json"]).failed(1).lines().count(), 1);
}
