//! A schedule while a run of its routine waits for an answer: its occurrences are missed and say so, or fire all the same.

use std::collections::BTreeSet;

use crate::harness::{HOUR, Server, Stage, assert_has, assert_says, at, may_take_long, text, wait_until};
use serde_json::{Value, json};

const SERVERS: usize = 3;

/// The first hours after a question for which nobody has an answer: up to two weeks.
fn hours() -> u64 {
    if may_take_long() { 14 * 24 } else { 12 }
}

/// A routine that asks in its first run, and in no other.
fn asking_at_first(stage: &Stage, fields: &str) {
    let asked = stage.home.scratch().join("asked");
    let prompt = format!(
        "if [ -e answer.md ]; then cat answer.md > answered; exit; fi\n[ -e {0} ] && exit; touch {0}; echo 'Which?' > question.md",
        asked.display()
    );
    stage.routine("job", &prompt, &format!("schedule = \"@hourly\"\n{fields}"));
}

/// Starts servers, lets the first occurrence fire, and returns them and the run, which has asked.
fn fire_first(stage: &Stage) -> (Vec<Server>, String) {
    let mut servers: Vec<Server> = (0..SERVERS).map(|_| stage.server()).collect();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    let run = text(&stage.wait_for_ended("job", 1)[0]["id"]);
    assert_eq!(servers[0].run(&run)["status"], "asked");
    (servers, run)
}

#[test]
fn each_occurrence_is_missed_once_while_a_question_is_open_and_the_next_fires_after_the_answer() {
    let stage = Stage::new("");
    asking_at_first(&stage, "");
    let (mut servers, run) = fire_first(&stage);
    for hour in 2..=hours() {
        stage.set_clock(hour * HOUR);
        wait_until("the occurrence to be dealt with", || stage.ledger("job")["fired_until"] == at(hour * HOUR));
    }
    let missed = stage.wait_for_missed("job", usize::try_from(hours() - 1).unwrap());
    for line in &missed {
        assert_has(line, json!({ "why": "asked" }));
        assert_says(&text(&line["reason"]), &[&run, "waits for an answer"]);
    }
    let occurrences: Vec<String> = missed.iter().map(|line| text(&line["occurrence"])).collect();
    let expected: BTreeSet<String> = (2..=hours()).map(|hour| at(hour * HOUR)).collect();
    assert_eq!(occurrences.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(occurrences.len(), expected.len(), "each once");
    assert_eq!(stage.ended("job").len(), 1);

    let next = stage.home.go_on(&run, "This one");
    assert_eq!(stage.home.ended(&next), "succeeded");
    assert_eq!(std::fs::read_to_string(stage.home.workbench(&run).join("answered")).unwrap(), "This one\n");
    for hour in hours() + 1..=hours() + 2 {
        stage.set_clock(hour * HOUR);
        let ended = stage.wait_for_ended("job", usize::try_from(hour - hours() + 2).unwrap());
        assert_has(
            ended.last().unwrap(),
            json!({ "status": "succeeded", "origin": { "by": "schedule", "occurrence": at(hour * HOUR) } }),
        );
    }
    assert_eq!(stage.missed("job").len(), missed.len());
    for server in &mut servers {
        assert_eq!(server.problems(), Vec::<Value>::new());
    }
}

#[test]
fn the_schedule_goes_on_beside_an_open_question_where_the_routine_says_so() {
    let stage = Stage::new("");
    asking_at_first(&stage, "when_asked = \"run\"");
    let (mut servers, run) = fire_first(&stage);
    for hour in 2..=hours() {
        stage.set_clock(hour * HOUR);
        stage.wait_for_ended("job", usize::try_from(hour).unwrap());
    }
    let ended = stage.ended("job");
    let fired: BTreeSet<String> = ended.iter().map(|line| text(&line["origin"]["occurrence"])).collect();
    assert_eq!(fired, (1..=hours()).map(|hour| at(hour * HOUR)).collect());
    assert_eq!((fired.len(), stage.missed("job").len()), (ended.len(), 0));
    assert_eq!(servers[0].whole_run(&run)["question"]["state"], "open");
    let next = stage.home.go_on(&run, "Late");
    assert_eq!(stage.home.ended(&next), "succeeded");
    assert!(stage.home.workbench(&run).join("answered").exists());
}

#[test]
fn a_call_triggers_beside_an_open_question_and_a_dismissal_lets_the_schedule_go_on() {
    let stage = Stage::new("");
    asking_at_first(&stage, "when_asked = \"skip\"");
    let (mut servers, run) = fire_first(&stage);
    // Whoever calls knows better.
    let called = servers[0].trigger("job");
    assert_eq!(stage.home.ended(&called), "succeeded");
    stage.set_clock(2 * HOUR);
    stage.wait_for_missed("job", 1);
    stage.home.moadim(&["answer", &run, "--dismiss"]).ok();
    stage.set_clock(3 * HOUR);
    let ended = stage.wait_for_ended("job", 3);
    assert_eq!(ended[2]["origin"]["occurrence"], at(3 * HOUR));
    assert_eq!(stage.missed("job").len(), 1);
}
