//! What an agent does to its own workbench while it runs, and what a client writes into arguments: the server reads and
//! writes nowhere else, never hangs, and says clearly what is wrong.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Host, Scene, Server, TestHome, ToolAnswer, wait_until};
use serde_json::{Value, json};

/// What an agent can put in a file's place; `$X` is the file, `$SECRET` a file elsewhere.
const SWAPS: [&str; 8] = [
    r#"rm -rf "$X"; ln -s "$SECRET" "$X""#,
    r#"rm -rf "$X"; ln -s "$SECRET.new" "$X""#,
    r#"rm -rf "$X"; ln -s "$X" "$X""#,
    r#"rm -rf "$X"; ln -s / "$X""#,
    r#"rm -rf "$X"; mkfifo "$X""#,
    r#"rm -rf "$X"; mkdir "$X"; ln -s "$SECRET" "$X/in"; chmod 0 "$X""#,
    HARD_LINK,
    r#"rm -rf "$X""#,
];

const HARD_LINK: &str = r#"rm -rf "$X"; ln "$SECRET" "$X""#;

/// A file elsewhere that nobody may read or write.
struct Secret {
    path: PathBuf,
    before: (u64, u64, u32, i64, i64),
}

const SECRET: &str = "{\"version\": 1, \"text\": \"the secret\"}\n";

impl Secret {
    fn new(home: &TestHome) -> Self {
        let path = home.scratch().join("secret");
        fs::write(&path, SECRET).unwrap();
        let before = Self::look(&path);
        Self { path, before }
    }

    fn look(path: &Path) -> (u64, u64, u32, i64, i64) {
        let metadata = path.symlink_metadata().unwrap();
        (metadata.ino(), metadata.len(), metadata.mode(), metadata.mtime(), metadata.mtime_nsec())
    }

    #[track_caller]
    fn assert_intact(&self, what: &str) {
        assert_eq!(Self::look(&self.path), self.before, "{what}");
        assert_eq!(fs::read_to_string(&self.path).unwrap(), SECRET, "{what}");
        let new = self.path.with_file_name("secret.new");
        assert!(new.symlink_metadata().is_err(), "{what}: it was made through a link");
    }
}

/// Calls whatever looks at a run, and makes sure that each answers at once and that none tells the secret.
#[track_caller]
fn look_at(server: &mut Server, run: &str, what: &str) {
    let calls = [
        ("list_runs", json!({})),
        ("read_log", json!({ "run": run })),
        ("list_routines", json!({})),
        ("cleanup_workbenches", json!({ "dry_run": true })),
        ("cleanup_workbenches", json!({})),
        ("health", json!({})),
    ];
    for (tool, arguments) in calls {
        let began = Instant::now();
        let answer = server.call_tool(tool, arguments);
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: {tool} took {:?}", began.elapsed());
        // What a file of the same owner holds when the log is another name of it, the agent could have printed.
        let may_tell = tool == "read_log" && what == format!("agent.log: {HARD_LINK}");
        assert!(may_tell || !answer.text.contains("the secret"), "{what}: {tool} tells it: {}", answer.text);
    }
}

/// Has agents put each of these in the place of one of our files: they lead nowhere.
fn swaps_lead_nowhere(file: &str) {
    let (home, mut server) = Scene::new().agent("quick", "login_shell = false").start();
    let secret = Secret::new(&home);
    let outside = home.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    for (number, swap) in SWAPS.into_iter().enumerate() {
        let what = format!("{file}: {swap}");
        let place = if file == "." { "$PWD".to_owned() } else { format!("$PWD/{file}") };
        let (flag, go) = (outside.join(number.to_string()), outside.join(format!("go{number}")));
        let prompt = format!(
            "X={place}; SECRET={}\n{swap}\ntouch {}\nwhile ! test -e {}; do sleep 0.02; done\nexit 3\n",
            secret.path.display(),
            flag.display(),
            go.display()
        );
        let run = server.start_run(&format!("Swap {number}"), &prompt, json!({ "agent": "quick", "ttl_secs": 1 }));
        wait_until(&what, || flag.exists());
        look_at(&mut server, &run, &what);
        // Every second one ends by itself, the others are stopped, which adds a note to the log; so is each whose log is a
        // file elsewhere.
        let expected = if number % 2 == 0 && swap != HARD_LINK {
            fs::write(&go, "").unwrap();
            wait_until(&format!("the end after {what}"), || !home.entry(&run).exists());
            "failed"
        } else {
            assert_eq!(server.stop(&run)["status"], "stopped", "{what}");
            "stopped"
        };
        assert_eq!(home.history(&run).len(), 1, "{what}");
        assert_eq!(home.history(&run)[0]["status"], expected, "{what}");
        look_at(&mut server, &run, &what);
        secret.assert_intact(&what);
    }
    // All of them are due a second after their ends.
    wait_until("the last workbench to go", || {
        server.clean_up();
        fs::read_dir(home.root().join("workbenches")).unwrap().count() == 0
    });
    secret.assert_intact("after the sweep");
    server.clean_up();
    assert!(server.problems().is_empty());
}

#[test]
fn whatever_an_agent_puts_in_the_place_of_its_log_leads_nowhere() {
    swaps_lead_nowhere("agent.log");
}

#[test]
fn whatever_an_agent_puts_in_the_place_of_its_outcome_leads_nowhere() {
    swaps_lead_nowhere("outcome.json");
}

#[test]
fn whatever_an_agent_puts_in_the_place_of_its_prompt_leads_nowhere() {
    swaps_lead_nowhere("prompt.md");
}

#[test]
fn whatever_an_agent_puts_in_the_place_of_its_workbench_leads_nowhere() {
    swaps_lead_nowhere(".");
}

on_both_hosts! {
    senseless_arguments_get_clear_and_short_errors,
}

/// A value in each place of an argument where a text can be: itself, an item, a name, a value.
fn with_text(schema: &Value, bad: &str) -> Vec<Value> {
    match schema["type"].as_str() {
        Some("string") => vec![json!(bad)],
        Some("array") => vec![json!([bad])],
        Some("object") => vec![json!({ bad: "1" }), json!({ "NAME": bad })],
        None if schema["oneOf"].is_array() => vec![json!(bad)],
        None if schema["anyOf"].is_array() => {
            schema["anyOf"].as_array().unwrap().iter().flat_map(|one| with_text(one, bad)).collect()
        }
        Some("integer" | "number" | "boolean") => vec![],
        _ => panic!("another kind of argument: {schema}"),
    }
}

/// Free text, which may be anything within bounds: these may be taken as they are.
const FREE: [&str; 10] = ["title", "tags", "prompt", "text", "env", "query", "tag", "reason", "grep", "archive_files"];

fn senseless_arguments_get_clear_and_short_errors(home: TestHome, host: Host) {
    let mut server = Server::start(&home);
    server.create("Real", "true", json!({}));
    let mut texts = vec![
        String::new(),
        "../../etc/passwd".to_owned(),
        "real/../real".to_owned(),
        "/etc/passwd".to_owned(),
        "..".to_owned(),
        "re\0al".to_owned(),
        "re\u{1b}[31mal\r\n\u{7}".to_owned(),
        "réal\u{202e}".to_owned(),
        "R-99999999999999999999999999".to_owned(),
    ];
    if host == Host::Detached {
        // No host ever sees these.
        texts.extend(["x".repeat(1 << 20), "\u{0}".repeat(1 << 18), "../".repeat(1 << 18)]);
    }
    // What is required beside the senseless one; the run never was.
    let sound = json!({ "title": "T", "agent": "shell", "prompt": "x", "routine": "real", "run": "real-1" });
    let tools = server.request("tools/list", json!({})).unwrap()["tools"].clone();
    let mut places = 0;
    for tool in tools.as_array().unwrap() {
        let (name, schema) = (tool["name"].as_str().unwrap(), &tool["inputSchema"]);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let required: Vec<&str> = required.iter().map(|field| field.as_str().unwrap()).collect();
        for (field, kind) in schema["properties"].as_object().unwrap() {
            for bad in &texts {
                for value in with_text(kind, bad) {
                    let mut arguments = json!({});
                    required.iter().for_each(|field| arguments[*field] = sound[*field].clone());
                    arguments[field] = value;
                    judge(name, field, bad, &server.call_tool(name, arguments));
                    places += 1;
                }
            }
        }
        let unknown = server.error(name, json!({ "x".repeat(1 << 20): 1 }));
        assert!(unknown.len() < 2048, "{name}: {} bytes", unknown.len());
    }
    assert!(places >= 18 * texts.len(), "all that has a text: {places}");
    for routine in fs::read_dir(home.root().join("routines")).unwrap() {
        let name = routine.unwrap().file_name().into_string().unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name:?}");
    }
    assert!(fs::read_dir(home.root().join("running")).unwrap().next().is_none());
}

#[track_caller]
fn judge(tool: &str, field: &str, bad: &str, answer: &ToolAnswer) {
    let what = format!("{tool}, {field} = {:?}", bad.chars().take(40).collect::<String>());
    let free = FREE.contains(&field);
    assert!(!answer.text.contains(|c: char| c.is_control() && c != '\n'), "{what}: {:?}", answer.text);
    if !answer.is_error {
        assert!(free, "{what} was taken");
        // Of a title only the slug has to be made.
        let sound = bad.chars().count() < 200 && !bad.contains(char::is_control);
        assert!(sound || !["title", "tags"].contains(&field), "{what} was taken");
        return;
    }
    assert!(answer.text.len() < 2048, "{what}: {} bytes", answer.text.len());
    // What is free may also fail for another reason: there is a T by now, and no such run.
    assert!(free || answer.text.contains(field), "{what}: {}", answer.text);
}
