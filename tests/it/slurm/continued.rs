//! A run on a cluster that asks, and one on another node that goes on with the answer.

use std::process::Stdio;

use super::scene::{home, node_of, submit, wait_for_line};
use crate::harness::{ASKS, Answer, Cluster, PATIENCE, assert_says, wait_for};
use serde_json::json;

#[test]
fn a_run_that_asked_goes_on_on_another_node_and_by_whichever_process_is_there() {
    let home = home("");
    let Some(cluster) = Cluster::with(|settings| settings.nodes = 2) else { return };
    let mut server = cluster.server(&home);
    let answer = |run: &str, text: &str| {
        let mut command = home.command();
        command.args(["answer", run, text]);
        Answer::from(cluster.on_login(&command).stdin(Stdio::null()).output().unwrap())
    };
    let run = submit(&mut server, "Asks", &format!("hostname >> hosts\n{ASKS}"), json!({}));
    let asked = server.wait_for_run(&run, "asked");
    assert_eq!(asked["question"]["options"], json!(["Postgres", "SQLite"]), "{asked}");
    let node = format!("node{}", node_of(&mut server, &run));
    cluster.run("scontrol", ["update", &format!("nodename={node}"), "state=drain", "reason=test"]).ok();
    let next = answer(&run, "Postgres").ok().trim().to_owned();
    let seen = server.wait_for_run(&next, "succeeded");
    assert_eq!((&seen["continues"], &seen["workbench"]), (&json!(run), &json!(home.workbench(&run))), "{seen}");
    let workbench = home.workbench(&run);
    let read = |file: &str| std::fs::read_to_string(workbench.join(file)).unwrap();
    let other = format!("node{}", node_of(&mut server, &next));
    assert_eq!((read("hosts"), read("answers")), (format!("{node}\n{other}\n"), "Postgres\n".to_owned()));
    assert_ne!(node, other);
    assert_eq!(wait_for_line(&home, &next)["continues"], json!(run));
    assert!(workbench.join("previous").join(&run).join("outcome.json").is_file());
    assert_says(&answer(&run, "SQLite").failed(1), &["was answered at", &next]);

    // Nobody goes on with the second answer but the janitor of the server, which may not have recorded yet that it was asked.
    cluster.run("scontrol", ["update", &format!("nodename={node}"), "state=resume"]).ok();
    let left = submit(&mut server, "Left", ASKS, json!({}));
    server.wait_for_run(&left, "asked");
    home.leave_answer(&left, "SQLite");
    let line = wait_for(PATIENCE, "the run that goes on", || {
        home.readable_history().into_iter().find(|line| line["continues"] == json!(left))
    });
    assert_eq!((&line["status"], home.continued_by(&left).len()), (&json!("succeeded"), 1), "{line}");
}
