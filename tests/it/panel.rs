//! The dashboard as a panel inside a host: what a host gets in both eras, and what the panel polls.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Era, PATIENCE, Server, TestHome, text, wait_for};

const URI: &str = "ui://moadim/dashboard";
const UI: &str = "io.modelcontextprotocol/ui";
const LEGACY: Era = Era::Legacy("2025-11-25");

/// The capabilities of a host that shows panels.
fn panels() -> Value {
    json!({ "extensions": { UI: { "mimeTypes": ["text/html;profile=mcp-app"] } } })
}

fn start(home: &TestHome, era: Era, capabilities: Value, arguments: &[&str]) -> Server {
    let mut command = home.command();
    command.args(arguments);
    let mut server = Server::spawn_able(command, capabilities);
    server.introduce(era);
    server
}

fn tools(server: &mut Server) -> BTreeMap<String, Value> {
    let listed = server.request("tools/list", json!({})).unwrap();
    listed["tools"].as_array().unwrap().iter().map(|tool| (text(&tool["name"]), tool.clone())).collect()
}

/// Returns the summary once the home's health has been checked, which takes a moment after the start.
fn checked_summary(server: &mut Server, arguments: Value) -> Value {
    wait_for(PATIENCE, "a summary with the home's health", || {
        let summary = server.ok("show_dashboard", arguments.clone());
        (!summary["problems"].to_string().contains("still being checked")).then_some(summary)
    })
}

/// What a panel has: its parts, with their rows by key.
#[derive(Default)]
struct Panel {
    parts: BTreeMap<String, (String, Value, BTreeMap<String, Value>)>,
}

const KEYS: [(&str, &str); 7] = [
    ("attention", "key"),
    ("live", "id"),
    ("routines", "slug"),
    ("ended", "id"),
    ("disk", "name"),
    ("plan", "run"),
    ("usage", "name"),
];

impl Panel {
    /// Polls, takes in the changes, and returns the answer.
    fn poll(&mut self, server: &mut Server) -> Value {
        let known: BTreeMap<&String, &String> =
            self.parts.iter().map(|(part, (version, ..))| (part, version)).collect();
        let answer = server.ok("dashboard_data", json!({ "known": known }));
        assert_eq!(answer["format"], 1);
        for (part, changes) in answer["parts"].as_object().unwrap() {
            let has = self.parts.entry(part.clone()).or_default();
            if changes["whole"] == true {
                *has = Default::default();
            }
            for gone in changes["gone"].as_array().into_iter().flatten() {
                assert!(has.2.remove(gone.as_str().unwrap()).is_some(), "{part} had no {gone}");
            }
            let key = KEYS.iter().find(|(name, _)| name == part).map_or("", |(_, key)| key);
            for row in changes["rows"].as_array().unwrap() {
                has.2.insert(text(&row[key]), row.clone());
            }
            if let Some(head) = changes.get("head") {
                has.1 = head.clone();
            }
            has.0 = text(&changes["version"]);
        }
        answer
    }

    /// Polls until a part is as wanted.
    #[track_caller]
    fn wait_for(&mut self, server: &mut Server, what: &str, wanted: impl Fn(&Self) -> bool) {
        wait_for(PATIENCE, what, || {
            self.poll(server);
            wanted(self).then_some(())
        });
    }

    fn rows(&self, part: &str) -> &BTreeMap<String, Value> {
        static NONE: BTreeMap<String, Value> = BTreeMap::new();
        self.parts.get(part).map_or(&NONE, |(_, _, rows)| rows)
    }

    fn head(&self, part: &str) -> &Value {
        &self.parts[part].1
    }
}

#[test]
fn the_panel_is_announced_in_both_eras() {
    let home = TestHome::detached("");
    for era in [LEGACY, Era::Modern] {
        let mut server = start(&home, era.clone(), panels(), &[]);
        let capabilities = match era {
            Era::Modern => server.request("server/discover", json!({})).unwrap()["capabilities"].clone(),
            _ => server.handshake["capabilities"].clone(),
        };
        let extensions = capabilities["extensions"].as_object().unwrap();
        assert_eq!(extensions[UI], json!({ "mimeTypes": ["text/html;profile=mcp-app"] }));
        // Tasks are not of the legacy era.
        assert_eq!(extensions.contains_key("io.modelcontextprotocol/tasks"), era == Era::Modern, "{extensions:?}");

        let tools = tools(&mut server);
        let meta = &tools["show_dashboard"]["_meta"];
        assert_eq!((&meta["ui"]["resourceUri"], &meta["ui/resourceUri"]), (&json!(URI), &json!(URI)));
        assert_eq!(tools["dashboard_data"]["_meta"]["ui"]["visibility"], json!(["app"]));
        assert_eq!(tools["list_runs"].get("_meta"), None);

        let read = server.request("resources/read", json!({ "uri": URI })).unwrap();
        let contents = read["contents"].as_array().unwrap();
        assert_eq!(contents.len(), 1);
        assert_eq!((&contents[0]["uri"], &contents[0]["mimeType"]), (&json!(URI), &json!("text/html;profile=mcp-app")));
        assert_eq!(contents[0]["_meta"]["ui"], json!({ "prefersBorder": true }), "it asks for no policy");
        assert!(text(&contents[0]["text"]).starts_with("<!doctype html>"));
        assert_eq!(read.get("ttlMs").is_some(), era == Era::Modern);
        let listed = server.request("resources/list", json!({})).unwrap();
        assert!(!listed.to_string().contains("ui://"), "a host finds it through the tool: {listed}");
    }
}

#[test]
fn what_is_for_panels_is_listed_for_hosts_that_show_some_and_can_always_be_called() {
    let home = TestHome::detached("");
    for era in [LEGACY, Era::Modern] {
        let other = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
        for (capabilities, is_listed) in [(panels(), true), (json!({}), false), (other, false)] {
            let mut server = start(&home, era.clone(), capabilities.clone(), &[]);
            let tools = tools(&mut server);
            assert_eq!(tools.contains_key("dashboard_data"), is_listed, "{era:?} {capabilities}");
            assert!(tools.contains_key("show_dashboard"));
            assert_eq!(server.ok("dashboard_data", json!({}))["parts"]["live"]["whole"], true);
            let error = server.request("tools/call", json!({ "name": "nothing" })).unwrap_err();
            assert!(!error.message.contains("dashboard_data"), "a model would try it: {}", error.message);
        }
    }
    let mut server = start(&home, Era::Modern, json!({}), &[]);
    let listed = server.request("tools/list", json!({})).unwrap();
    assert_eq!(listed["cacheScope"], "private", "another client may get another list");
}

#[test]
fn each_request_of_the_modern_era_is_answered_as_its_own_capabilities_say() {
    let home = TestHome::detached("");
    let mut server = Server::start_modern(&home);
    let asked = [(panels(), true), (json!({}), false), (panels(), true)].map(|(capabilities, is_listed)| {
        server.set_capabilities(capabilities);
        (server.send("tools/list", json!({})), is_listed)
    });
    for (id, is_listed) in asked {
        let listed = server.answer(id).unwrap();
        let has = |name: &str| listed["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == name);
        assert_eq!((has("dashboard_data"), has("show_dashboard")), (is_listed, true), "{id}");
    }
}

#[test]
fn where_fewer_tools_are_served_the_panel_knows_it() {
    let home = TestHome::detached("");
    let served = |server: &mut Server| {
        let data = server.ok("dashboard_data", json!({}));
        let served = data["parts"]["server"]["head"]["tools"].as_array().unwrap().clone();
        served.iter().map(text).collect::<Vec<_>>()
    };
    let mut server = start(&home, Era::Modern, panels(), &["--read-only"]);
    let listed: Vec<String> = tools(&mut server).into_keys().collect();
    assert_eq!(served(&mut server), listed);
    assert!(listed.contains(&"show_dashboard".to_owned()) && !listed.contains(&"stop_run".to_owned()), "{listed:?}");

    let mut server = start(&home, LEGACY, panels(), &["--tools", "show_dashboard,pin_run"]);
    assert_eq!(served(&mut server), ["dashboard_data", "pin_run", "show_dashboard"]);
    assert!(server.request("resources/read", json!({ "uri": URI })).is_ok());
    let instructions = text(&server.handshake["instructions"]);
    assert!(instructions.ends_with("offered here: pin_run, show_dashboard."), "{instructions}");

    let mut server = start(&home, LEGACY, panels(), &["--tools", "list_runs"]);
    assert_eq!(server.handshake["capabilities"].get("extensions"), None);
    assert!(server.request("resources/read", json!({ "uri": URI })).is_err());
    assert!(server.request("tools/call", json!({ "name": "dashboard_data" })).is_err());
}

#[test]
fn a_poll_answers_what_has_changed() {
    let home = TestHome::detached("");
    let mut server = Server::start_swept(&home);
    let prompt = "i=0; while :; do echo line; sleep 0.1; done";
    let routine = server.create("Nightly triage of the issues", prompt, json!({ "schedule": "0 3 1 1 *" }));
    for _ in 0..3 {
        server.ok("trigger_routine", json!({ "routine": routine, "overlap": "allow" }));
    }
    let mut panel = Panel::default();
    panel.wait_for(&mut server, "three live runs and the first plan", |panel| {
        panel.rows("live").len() == 3 && panel.rows("plan").len() == 3 && panel.rows("disk").len() == 5
    });
    let live = panel.rows("live").values().next().unwrap();
    assert_eq!(live["routine"], json!(routine));
    assert_eq!((&live["status"], &live["max_runtime_secs"]), (&json!("running"), &json!(3600)));
    assert!(panel.rows("routines")[&routine]["running"].as_array().unwrap().len() == 3);
    // While they print, a poll has their rows and no others.
    let answer = wait_for(PATIENCE, "a poll with the three live runs alone", || {
        let answer = panel.poll(&mut server);
        let parts = answer["parts"].as_object().unwrap();
        (parts.len() == 1 && parts.get("live")?["rows"].as_array().unwrap().len() == 3).then_some(answer)
    });
    assert_eq!(answer["parts"]["live"]["whole"], false);
    assert!(answer.to_string().len() <= 1_228, "{} bytes: {answer}", answer.to_string().len());

    let runs: Vec<String> = panel.rows("live").keys().cloned().collect();
    runs.iter().for_each(|run| drop(server.stop(run)));
    panel.wait_for(&mut server, "the runs to be among the ended ones", |panel| {
        panel.rows("live").is_empty() && panel.rows("ended").len() == 3
    });
    let ended = &panel.rows("ended")[&runs[0]];
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("stopped"), &json!("stopped on request")));
    assert!(ended["reap_at"].is_string() && ended.get("reaped").is_none() && ended.get("pinned").is_none(), "{ended}");

    server.ok("pin_run", json!({ "run": runs[0], "pinned": true }));
    std::fs::remove_dir_all(home.workbench(&runs[1])).unwrap();
    panel.wait_for(&mut server, "the pin, and the workbench to be gone", |panel| {
        let ended = panel.rows("ended");
        ended[&runs[0]]["pinned"] == true && ended[&runs[1]]["reaped"] == true
    });
    assert_eq!(panel.rows("ended")[&runs[0]].get("reap_at"), None, "it stays");
    panel.wait_for(&mut server, "the plan to know of the pin", |panel| {
        panel.rows("plan").len() == 2 && panel.rows("plan")[&runs[0]]["why"] == "pinned"
    });

    // Once nothing changes, nothing is said.
    wait_for(PATIENCE, "an unchanged poll", || (panel.poll(&mut server).to_string().len() < 200).then_some(()));

    // Another process knows none of these versions, but has the same content.
    let mut other = Server::start(&home);
    let mut fresh = Panel::default();
    fresh.wait_for(&mut other, "its plan", |fresh| fresh.rows("plan").len() == 2);
    // A run whose name is ahead of the clock, because three were triggered in one second, counts as ended now until then.
    wait_for(PATIENCE, "the same content", || {
        fresh.poll(&mut other);
        panel.poll(&mut server);
        let is_same = |part| panel.parts[part] == fresh.parts[part];
        ["live", "routines", "ended", "usage", "attention"].into_iter().all(is_same).then_some(())
    });
    // Versions that nobody knows give everything.
    panel.parts.values_mut().for_each(|(version, ..)| *version = "0".repeat(16));
    panel.poll(&mut server);
    assert_eq!(panel.parts["ended"], fresh.parts["ended"]);
}

#[test]
fn what_needs_a_person_is_shown_with_its_fix_and_in_the_summary() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let failing = server.create("Fails", "exit 3", json!({ "max_consecutive_failures": 3 }));
    let mut runs = Vec::new();
    for _ in 0..2 {
        let run = server.trigger(&failing);
        server.wait_for_run(&run, "failed");
        runs.push(run);
    }
    let mut panel = Panel::default();
    let key = format!("failing:{failing}");
    panel.wait_for(&mut server, "the failures", |panel| panel.rows("attention").contains_key(&key));
    let item = &panel.rows("attention")[&key];
    assert_eq!((&item["severity"], &item["run"]), (&json!("problem"), &json!(runs[1])));
    assert_eq!(item["action"]["tool"], "trigger_routine");
    let row = &panel.rows("routines")[&failing];
    assert_eq!((&row["success_rate"], row["recent"].as_array().unwrap().len()), (&json!(0.0), 2));

    // Its own action makes it worse.
    let run = text(&server.ok("trigger_routine", item["action"]["arguments"].clone())["run"]["id"]);
    server.wait_for_run(&run, "failed");
    let key = format!("disabled:{failing}");
    panel.wait_for(&mut server, "the routine to be disabled", |panel| panel.rows("attention").contains_key(&key));
    let item = panel.rows("attention")[&key].clone();
    assert_eq!(item["action"]["label"], "Enable");
    let summary = checked_summary(&mut server, json!({}));
    assert_eq!((&summary["running"], &summary["failed_24h"]["count"]), (&json!(0), &json!(3)));
    assert_eq!(summary["failed_24h"]["runs"][0], run);
    assert!(text(&summary["problems"][0]).contains("'Fails' was disabled"), "{summary}");

    server.ok("update_routine", item["action"]["arguments"].clone());
    home.add_agent("broken", "comand = 'x'\n");
    panel.wait_for(&mut server, "the routine to be enabled, and a broken file", |panel| {
        let items: Vec<&Value> = panel.rows("attention").values().collect();
        !panel.rows("attention").contains_key(&key)
            && items.iter().any(|item| item["kind"] == "problem" && text(&item["text"]).contains("comand"))
    });

    let daily = server.create("Daily", "true", json!({ "schedule": "0 0 1 1 *", "timezone": "UTC" }));
    let summary = checked_summary(&mut server, json!({ "routine": daily }));
    assert_eq!((&summary["failed_24h"]["count"], &summary["next"]["routine"]), (&json!(0), &json!(daily)));
    assert!(text(&summary["next"]["at"]).ends_with("-01-01T00:00:00Z"), "{summary}");
    assert_eq!(summary["problems"], json!([]), "of this routine");
    assert!(server.error("show_dashboard", json!({ "routine": "dialy" })).contains("'daily'"));
}

#[test]
fn a_question_is_shown_first_until_somebody_closes_it() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let ask = r"printf '# Which database?\n\n- Postgres\n- SQLite\n' > question.md";
    let run = server.start_run("Asks", ask, json!({ "answer_within_secs": 3600 }));
    server.wait_for_run(&run, "asked");
    let mut panel = Panel::default();
    let key = format!("question:{run}");
    panel.wait_for(&mut server, "the question", |panel| {
        panel.rows("attention").contains_key(&key) && panel.rows("ended").contains_key(&run)
    });
    let item = panel.rows("attention")[&key].clone();
    assert_eq!((&item["text"], &item["severity"]), (&json!("Which database?"), &json!("problem")));
    assert_eq!(item["question"]["options"], json!(["Postgres", "SQLite"]));
    assert!(text(&item["question"]["expires_at"]) > text(&item["at"]), "{item}");
    assert_eq!(panel.rows("ended")[&run].get("reap_at"), None, "it waits");
    let summary = checked_summary(&mut server, json!({}));
    let first = json!([{ "run": run, "text": "Which database?" }]);
    assert_eq!(summary["questions"], json!({ "count": 1, "first": first }), "{summary}");
    assert_eq!(summary["problems"], json!([]), "it is named once");

    // By another process.
    let mut answer = home.command();
    assert!(answer.args(["answer", &run, "--dismiss"]).output().unwrap().status.success());
    panel.wait_for(&mut server, "the question to go, and the workbench to have an end", |panel| {
        !panel.rows("attention").contains_key(&key) && panel.rows("ended")[&run].get("reap_at").is_some()
    });
    assert_eq!(server.ok("show_dashboard", json!({})).get("questions"), None);
}

#[test]
fn a_snooze_a_schedule_and_a_workbench_of_another_program_are_shown() {
    let home = TestHome::detached("");
    let mut server = Server::start_swept(&home);
    let often = server.create("Often", "true", json!({ "schedule": "*/30 * * * *", "timezone": "UTC" }));
    let mut panel = Panel::default();
    panel.wait_for(&mut server, "the fires", |panel| panel.rows("routines").contains_key(&often));
    let row = panel.rows("routines")[&often].clone();
    assert_eq!(row["next_fires"].as_array().unwrap().len(), 50);
    assert_eq!((row["fires_per_day"].as_array().unwrap().len(), &row["fires_per_day"][5]), (28, &json!(48)));
    let until = "2099-01-01T00:00:00Z";
    server.ok("snooze_routine", json!({ "until": until }));
    let stranger = home.workbench("another-1780000000");
    let recent = format!("another-{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - 100);
    for workbench in [&stranger, &home.workbench(&recent)] {
        std::fs::create_dir(workbench).unwrap();
    }
    panel.wait_for(&mut server, "the snooze and the workbench", |panel| {
        panel.head("attention")["snoozed_until"] == until
            && panel.rows("routines")[&often]["snoozed_until"] == until
            && panel.rows("live").contains_key(&recent)
    });
    let row = &panel.rows("routines")[&often];
    assert_eq!((&row["next_fires"], row.get("fires_per_day")), (&json!([until]), None), "once it is over");
    assert_eq!(panel.rows("live")[&recent]["status"], "unknown");
    let summary = checked_summary(&mut server, json!({}));
    assert_eq!((&summary["running"], &summary["unknown"]), (&json!(0), &json!(2)));
    assert_eq!(panel.rows("attention")[&format!("unknown:{recent}")]["kind"], "unknown");
}
