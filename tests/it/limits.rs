//! An account's usage limit is waited out: the run that met it, and what the schedule of its agent fires meanwhile. The agent is a
//! script that prints what the real program printed.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{
    HOUR, MINUTE, PATIENCE, Server, Stage, assert_has, at, may_take_long, now, routine_view, text, wait_for, wait_until,
};
use serde_json::{Value, json};

/// The longest that something waits after a hold.
const MAX_JITTER: u64 = 120;

/// When the limit is reset in the samples.
const RESET_IN_SAMPLES: &str = "1795710206";

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/agent-output/{name}.jsonl"));
    std::fs::read_to_string(path).unwrap()
}

/// A home with an agent `plan` whose account has a limit, and whose scheduler's clock begins now.
struct Account {
    stage: Stage,
}

impl Account {
    fn new(output: &str, settings: &str) -> Self {
        let stage = Stage::new(settings);
        stage.set_clock(now());
        stage.home.add_agent("plan", &format!("command = \"sh\"\nlogin_shell = false\noutput = \"{output}\"\n"));
        let account = Self { stage };
        account.says_otherwise("claude-text", 0);
        account
    }

    /// Has its agent print this sample from now on, and exit so; the limit is reset then.
    fn says(&self, name: &str, exit: u8, resets_at: u64) {
        let unix = resets_at + now_in_unix() - now();
        let output = sample(name).replace(RESET_IN_SAMPLES, &unix.to_string());
        self.prints(&output, exit);
    }

    fn says_otherwise(&self, name: &str, exit: u8) {
        self.prints(&sample(name), exit);
    }

    fn prints(&self, output: &str, exit: u8) {
        let scratch = self.stage.home.scratch();
        std::fs::write(scratch.join("said"), output).unwrap();
        std::fs::write(scratch.join("staged"), format!("cat {}/said; exit {exit}", scratch.display())).unwrap();
        std::fs::rename(scratch.join("staged"), scratch.join("turn")).unwrap();
    }

    fn is_limited_until(&self, resets_at: u64) {
        self.says("claude-limit-five-hour", 1, resets_at);
    }

    fn is_free(&self) {
        self.says_otherwise("claude-text", 0);
    }

    fn routine(&self, slug: &str, fields: &str) {
        let prompt = format!(". {}/turn", self.stage.home.scratch().display());
        self.stage.routine_of("plan", slug, &prompt, fields);
    }

    /// Returns the hold, as its file says; null while there is none.
    fn hold(&self) -> Value {
        self.stage.home.json("holds/plan.json").unwrap_or_default()
    }

    fn wait_for_the_next_second(&self) {
        let second = now();
        wait_until("the next second", || now() > second);
    }
}

fn now_in_unix() -> u64 {
    moadim_mcp::clock::UnixSeconds::now().0
}

/// Returns the seconds that a time is after the stage's beginning.
fn secs(time: &Value) -> u64 {
    let time: moadim_mcp::clock::UnixSeconds = text(time).parse().unwrap();
    time.0 + now() - now_in_unix()
}

/// Returns the next full hour, and its place in the day.
fn next_hour() -> (u64, u64) {
    let hour = now() / HOUR + 1;
    (hour * HOUR, hour % 24)
}

#[test]
fn all_routines_of_the_agent_wait_for_the_reset_and_each_then_starts_once() {
    let account = Account::new("claude-stream-json", "");
    let stage = &account.stage;
    let (begin, hour) = next_hour();
    let resets_at = begin + 4 * HOUR;
    account.is_limited_until(resets_at);
    let once = format!("0 {hour} * * *");
    let twice = format!("30 {hour},{} * * *", (hour + 1) % 24);
    account.routine("first", &format!("schedule = \"{once}\"\nmax_consecutive_failures = 1"));
    let others: Vec<String> = (0..4).map(|n| format!("other-{n}")).collect();
    others.iter().for_each(|slug| account.routine(slug, &format!("schedule = \"{twice}\"")));
    stage.routine("free", ":", &format!("schedule = \"{twice}\""));
    let mut servers: Vec<Server> = (0..if may_take_long() { 8 } else { 4 }).map(|_| stage.server()).collect();
    stage.wait_until_followed("first", &once);
    others.iter().map(String::as_str).chain(["free"]).for_each(|slug| stage.wait_until_followed(slug, &twice));

    stage.set_clock(begin);
    let limited = stage.wait_for_ended("first", 1).remove(0);
    assert_has(&limited, json!({ "status": "limited", "exit_code": 1, "version": 2 }));
    let ledger =
        wait_for(PATIENCE, "it to wait", || Some(stage.ledger("first")).filter(|ledger| ledger["waiting"].is_object()));
    assert_eq!(ledger["version"], 2, "what does not know of it leaves it alone");
    let fire = json!({ "of": limited["id"], "attempt": 1, "tries": 1, "occurrence": at(begin) });
    assert_eq!(ledger["waiting"]["fire"], json!({ "reset": fire }));
    let not_before = secs(&ledger["waiting"]["not_before"]);
    assert!((resets_at..=resets_at + MAX_JITTER).contains(&not_before), "{ledger}");
    assert_eq!(
        limited["reason"],
        format!(
            "the account's 5-hour limit is used up; it resets at {}; the next attempt is at {}",
            at(resets_at),
            at(not_before)
        )
    );
    assert_has(&account.hold(), json!({ "agent": "plan", "held_until": at(resets_at), "run": limited["id"] }));
    assert_eq!(stage.ledger("first")["consecutive_failures"], 0, "no failure in a row");

    // Occurrences of the agent wait, the newest of each routine; those of another do not.
    stage.set_clock(begin + 30 * MINUTE);
    stage.wait_for_ended("free", 1);
    for slug in &others {
        wait_until("it to wait", || stage.ledger(slug)["waiting"]["fire"]["occurrence"] == at(begin + 30 * MINUTE));
    }
    stage.set_clock(begin + 90 * MINUTE);
    stage.wait_for_ended("free", 2);
    for slug in &others {
        let missed = stage.wait_for_missed(slug, 1).remove(0);
        assert_has(&missed, json!({ "occurrence": at(begin + 30 * MINUTE), "why": "held" }));
        assert!(text(&missed["reason"]).contains(&format!("'plan' was held until {}", at(resets_at))), "{missed}");
        assert_eq!(stage.ended(slug), Vec::<Value>::new());
    }
    let view = routine_view(&mut servers[0], "other-0");
    let expected = format!("waits for the usage limit of agent 'plan' to reset at {}", at(resets_at));
    assert!(text(&view["waiting"]).contains(&expected), "{view}");
    let agents = servers[0].ok("list_agents", json!({}));
    let plan = agents["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == "plan").unwrap();
    assert_eq!(plan["held_until"], at(resets_at));
    assert!(text(&plan["held_because"]).contains("5-hour limit is used up"), "{plan}");
    let health = servers[0].ok("health", json!({}));
    assert_has(&health["held_agents"][0], json!({ "agent": "plan", "held_until": at(resets_at) }));
    let problems = health["problems"].as_array().unwrap();
    assert!(
        !problems.iter().any(|problem| problem.to_string().contains("plan")),
        "nothing to do is no problem: {health}"
    );
    let said = stage.home.moadim(&["agents"]).ok();
    assert!(said.contains("Scheduled runs of plan wait until ") && said.contains("5-hour limit is used up"), "{said}");

    stage.set_clock(resets_at - 1);
    account.is_free();
    assert!(others.iter().all(|slug| stage.ended(slug).is_empty() && stage.alive(slug).is_empty()));
    stage.set_clock(resets_at + MAX_JITTER);
    let again = stage.wait_for_ended("first", 2).remove(1);
    let origin = json!({ "by": "reset", "of": limited["id"], "attempt": 1, "tries": 1, "occurrence": at(begin) });
    assert_has(&again, json!({ "status": "succeeded", "origin": origin }));
    for slug in &others {
        let ended = stage.wait_for_ended(slug, 1);
        assert_eq!(ended[0]["origin"], json!({ "by": "schedule", "occurrence": at(begin + 90 * MINUTE) }));
    }
    // Everyone has looked again by then.
    stage.set_clock(resets_at + MAX_JITTER + 60);
    wait_until("the ledgers to rest", || stage.ledger("first")["waiting"].is_null());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(stage.ended("first").len(), 2);
    assert!(others.iter().all(|slug| stage.ended(slug).len() == 1 && stage.missed(slug).len() == 1), "each once");
    assert_eq!(stage.ledger("first")["version"], 1);
    let runs: BTreeSet<String> = others.iter().map(|slug| text(&stage.ended(slug)[0]["id"])).collect();
    assert_eq!(runs.len(), others.len());
}

#[test]
fn the_success_of_a_run_that_somebody_asked_for_lifts_the_hold() {
    let account = Account::new("claude-stream-json", "");
    let stage = &account.stage;
    let (begin, hour) = next_hour();
    account.is_limited_until(begin + 4 * HOUR);
    account.routine("first", "");
    let schedule = format!("30 {hour} * * *");
    account.routine("other", &format!("schedule = \"{schedule}\""));
    let mut server = stage.server();
    stage.wait_until_followed("other", &schedule);
    let answer = stage.home.moadim(&["trigger", "first", "--wait"]);
    assert_eq!(answer.code, Some(125), "{answer:?}");
    assert!(answer.stderr.contains("limited"), "{answer:?}");
    stage.wait_for_ended("first", 1);
    wait_until("the hold", || account.hold()["held_until"] == at(begin + 4 * HOUR));
    stage.set_clock(begin + 30 * MINUTE);
    wait_until("it to wait", || stage.ledger("other")["waiting"].is_object());

    // A probe that meets the limit again extends it.
    account.is_limited_until(begin + 5 * HOUR);
    let probe = server.trigger("first");
    server.wait_for_run(&probe, "limited");
    wait_until("the hold to be extended", || account.hold()["held_until"] == at(begin + 5 * HOUR));
    assert_eq!(account.hold()["run"], probe);
    assert_eq!(stage.ended("other"), Vec::<Value>::new());
    assert_eq!(stage.ledger("first")["waiting"]["fire"]["reset"]["tries"], 1, "a probe counts for nothing");

    account.wait_for_the_next_second();
    account.is_free();
    let probe = server.trigger("first");
    server.wait_for_run(&probe, "succeeded");
    wait_until("the hold to be lifted", || account.hold()["lifted_by"] == probe);
    // Both are due at once now, hours before the reset.
    stage.set_clock(now().max(begin + 30 * MINUTE) + MAX_JITTER);
    assert_eq!(stage.wait_for_ended("other", 1)[0]["origin"]["occurrence"], at(begin + 30 * MINUTE));
    let ended = stage.wait_for_ended("first", 4);
    assert_eq!((&ended[3]["status"], &ended[3]["origin"]["by"]), (&json!("succeeded"), &json!("reset")));
    let agents = server.ok("list_agents", json!({}));
    assert!(agents["agents"].as_array().unwrap().iter().all(|agent| agent["held_until"].is_null()), "{agents}");
    assert!(server.ok("health", json!({}))["held_agents"].is_null());
    assert_eq!(stage.missed("other").len(), 0);
}

#[test]
fn a_failure_in_between_loses_no_attempt() {
    let account = Account::new("claude-stream-json", "");
    let stage = &account.stage;
    let (first_reset, second_reset) = (now() + 2 * HOUR, now() + 5 * HOUR);
    account.is_limited_until(first_reset);
    account.routine("job", "");
    let mut server = stage.server();
    let first = server.trigger("job");
    server.wait_for_run(&first, "limited");
    let waits_for_try = |tries: u64| {
        wait_until("it to wait", || stage.ledger("job")["waiting"]["fire"]["reset"]["tries"] == tries);
    };
    waits_for_try(1);
    account.says_otherwise("claude-credit-too-low", 1);
    let failed = server.trigger("job");
    server.wait_for_run(&failed, "failed");
    wait_until("the failure to count", || stage.ledger("job")["consecutive_limits"].is_null());
    account.is_limited_until(second_reset);
    stage.set_clock(first_reset + MAX_JITTER);
    assert_eq!(stage.wait_for_ended("job", 3)[2]["status"], "limited");
    waits_for_try(2);
    account.is_free();
    stage.set_clock(second_reset + MAX_JITTER);
    let last = stage.wait_for_ended("job", 4).remove(3);
    let origin = json!({ "by": "reset", "of": first, "attempt": 1, "tries": 2 });
    assert_has(&last, json!({ "status": "succeeded", "origin": origin }));
}

#[test]
fn a_snooze_keeps_what_waited_for_the_reset_from_firing() {
    let account = Account::new("claude-stream-json", "");
    let stage = &account.stage;
    let (begin, hour) = next_hour();
    let resets_at = begin + 4 * HOUR;
    account.is_limited_until(resets_at);
    let schedule = format!("0 {hour} * * *");
    account.routine("job", "");
    account.routine("other", &format!("schedule = \"{schedule}\""));
    let mut server = stage.server();
    stage.wait_until_followed("other", &schedule);
    let first = server.trigger("job");
    server.wait_for_run(&first, "limited");
    wait_until("the hold", || account.hold()["held_until"] == at(resets_at));
    stage.set_clock(begin);
    wait_until("the other to wait", || stage.ledger("other")["waiting"]["fire"]["occurrence"] == at(begin));
    account.is_free();
    server.ok("snooze_routine", json!({ "until": at(resets_at + HOUR) }));
    stage.set_clock(resets_at + MAX_JITTER);
    assert_has(&stage.wait_for_missed("other", 1)[0], json!({ "occurrence": at(begin), "why": "snoozed" }));
    stage.set_clock(resets_at + HOUR - 1);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!((stage.ended("job").len(), stage.alive("job").len()), (1, 0));
    stage.set_clock(resets_at + HOUR);
    let origin = json!({ "by": "reset", "of": first, "attempt": 1, "tries": 1 });
    assert_has(&stage.wait_for_ended("job", 2)[1], json!({ "status": "succeeded", "origin": origin }));
    assert_eq!(stage.ended("other"), Vec::<Value>::new());
}

#[test]
fn without_a_known_reset_it_is_tried_eight_times_and_then_given_up() {
    // A hook's folder is the home.
    let account = Account::new("codex-json", "on_attention = [\"sh\", \"-c\", \"echo $MOADIM_RUN >> told\"]");
    let stage = &account.stage;
    account.says_otherwise("codex-limit-without-time", 1);
    let go = stage.home.scratch().join("go");
    let turn = stage.home.scratch().join("turn");
    let prompt = format!("while ! rm {} 2> /dev/null; do sleep 0.05; done; . {}", go.display(), turn.display());
    stage.routine_of("plan", "job", &prompt, "");
    let mut server = stage.server();
    let first = server.trigger("job");
    let pauses = [15, 30, 60, 60, 60, 60, 60, 60];
    for (tries, pause) in pauses.into_iter().enumerate() {
        // While it is at work: the next attempt may be due sooner than this one was.
        stage.wait_for_alive("job", 1);
        stage.set_clock(now());
        std::fs::write(&go, "").unwrap();
        let ended = stage.wait_for_ended("job", tries + 1).remove(tries);
        assert_has(&ended, json!({ "status": "limited" }));
        let waiting = wait_for(PATIENCE, "it to wait", || {
            let waiting = stage.ledger("job")["waiting"].clone();
            (waiting["fire"]["reset"]["tries"] == tries + 1).then_some(waiting)
        });
        assert_eq!(waiting["fire"]["reset"]["of"], first);
        let from_end = secs(&waiting["not_before"]) - secs(&ended["finished_at"]);
        assert!((pause * 60..=pause * 60 + MAX_JITTER).contains(&from_end), "{from_end} s at the {tries}.");
        let said = text(&ended["reason"]);
        assert!(said.contains("usage limit is used up") && said.contains("when it resets is not known"), "{said}");
        assert!(said.ends_with(&format!("the next attempt is at {}", text(&waiting["not_before"]))), "{said}");
        stage.set_clock(secs(&waiting["not_before"]));
    }
    stage.wait_for_alive("job", 1);
    std::fs::write(&go, "").unwrap();
    let last = stage.wait_for_ended("job", 9).remove(8);
    assert!(text(&last["reason"]).ends_with("gave up after 8 attempts"), "{last}");
    let told = || std::fs::read_to_string(stage.home.root().join("told")).unwrap_or_default();
    wait_until("a person to be told", || told() == format!("{}\n", text(&last["id"])));
    wait_until("nothing to wait", || stage.ledger("job")["waiting"].is_null());
    stage.set_clock(now() + 24 * HOUR);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(stage.ended("job").len(), 9);
    assert_eq!(told().lines().count(), 1, "once");
    assert!(server.run(&first)["status_reason"].is_string());
}

#[test]
fn what_is_no_usage_limit_is_a_failure_and_holds_nothing() {
    let account = Account::new("claude-stream-json", "");
    let words = sample("claude-text").replace(
        "\"type\":\"text\",\"text\":\"",
        "\"type\":\"text\",\"text\":\"You've hit your 5-hour limit · resets 4:23pm (UTC). ",
    );
    assert!(words.contains("hit your 5-hour limit"));
    let failed = json!({ "type": "result", "subtype": "error_during_execution", "is_error": true,
        "result": "You've hit your 5-hour limit · resets 4:23pm (UTC)", "num_turns": 1 });
    let in_words = words.lines().filter(|line| !line.contains("\"type\":\"result\"")).map(|line| format!("{line}\n"));
    let in_words = in_words.collect::<String>() + &failed.to_string() + "\n";
    account.routine("job", "");
    let mut server = account.stage.server();
    for output in [sample("claude-429-api-key-long-retry-after"), in_words, sample("claude-credit-too-low")] {
        account.prints(&output, 1);
        let run = server.trigger("job");
        server.wait_for_run(&run, "failed");
    }
    account.stage.wait_for_ended("job", 3);
    assert!(account.stage.ledger("job")["waiting"].is_null());
    assert_eq!(account.hold(), Value::Null);
}

#[test]
fn a_run_whose_supervisor_died_is_limited_too() {
    let account = Account::new("claude-stream-json", "watchdog_interval_secs = 1");
    let stage = &account.stage;
    let resets_at = now() + 3 * HOUR;
    account.is_limited_until(resets_at);
    let gate = stage.until_the_gate_opens();
    stage.routine_of("plan", "job", &format!("cat {}/said; {gate}; exit 1", stage.home.scratch().display()), "");
    let mut server = stage.server();
    let run = server.trigger("job");
    wait_until("the limit in its log", || stage.home.raw_log(&run).contains("\"result\""));
    stage.home.noted(&run, "supervisor").kill();
    stage.open_the_gate();
    let ended = stage.wait_for_ended("job", 1).remove(0);
    assert_has(&ended, json!({ "id": run, "status": "limited" }));
    assert!(
        text(&ended["reason"]).contains("its supervisor died before that was recorded; the next attempt"),
        "{ended}"
    );
    wait_until("the hold", || account.hold()["held_until"] == at(resets_at));
    wait_until("its next attempt", || stage.ledger("job")["waiting"]["fire"]["reset"]["of"] == run);
}

#[test]
fn a_stop_comes_before_a_limit() {
    let account = Account::new("claude-stream-json", "");
    let stage = &account.stage;
    account.is_limited_until(now() + 3 * HOUR);
    let said = stage.home.scratch().join("said");
    // A `cat` would be asked to end, too.
    let says = format!("trap \"\" TERM; while read -r line; do echo \"$line\"; done <{}; exit 1", said.display());
    let prompt = format!("trap '{says}' TERM; echo at work; while :; do sleep 0.05; done");
    stage.routine_of("plan", "job", &prompt, "");
    let mut server = stage.server();
    let run = server.trigger("job");
    wait_until("it to work", || stage.home.raw_log(&run).contains("at work"));
    server.stop(&run);
    let ended = stage.wait_for_ended("job", 1).remove(0);
    assert_has(&ended, json!({ "status": "stopped" }));
    assert_eq!(ended["output"]["limit"]["kind"], "five_hour", "it met it all the same");
    assert_eq!((account.hold(), stage.ledger("job")), (Value::Null, Value::Null));
}

#[test]
fn a_warning_before_the_limit_is_shown() {
    let account = Account::new("claude-stream-json", "");
    let resets_at = now() + 2 * HOUR;
    account.says("claude-limit-warning", 0, resets_at);
    account.routine("job", "");
    let mut server = account.stage.server();
    let run = server.trigger("job");
    let run = server.wait_for_run(&run, "succeeded");
    let warning = json!({ "kind": "five_hour", "used_percent": 95, "resets_at": at(resets_at) });
    assert_eq!(run["output"]["limit_warning"], warning, "{run}");
    let shown = account.stage.home.moadim(&["show", &text(&run["id"])]).ok();
    assert!(shown.contains("limit is near") && shown.contains("5-hour limit, 95 % used"), "{shown}");
    assert_eq!(account.hold(), Value::Null);
}

#[test]
fn a_hold_that_cannot_be_read_is_reported_and_holds_nothing() {
    let account = Account::new("claude-stream-json", "");
    let stage = &account.stage;
    let (begin, hour) = next_hour();
    let schedule = format!("0 {hour} * * *");
    account.routine("job", &format!("schedule = \"{schedule}\""));
    stage.home.write("holds/plan.json", "{");
    let mut server = stage.server();
    stage.wait_until_followed("job", &schedule);
    stage.set_clock(begin);
    assert_eq!(stage.wait_for_ended("job", 1)[0]["status"], "succeeded");
    let problems = server.ok("health", json!({}))["problems"].clone();
    let problems = problems.as_array().unwrap();
    assert!(problems.iter().any(|problem| text(&problem["problem"]).contains("plan.json is damaged")), "{problems:?}");
}
