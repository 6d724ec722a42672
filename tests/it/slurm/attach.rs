//! `attach` of runs on Slurm.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{Answer, Cluster, PATIENCE, TestHome, script_is_there, text, wait_for, wait_until};
use serde_json::json;

#[test]
fn attach_opens_a_shell_in_the_workbench_on_the_node() {
    let home = TestHome::detached("engine = \"slurm\"\n");
    let Some(cluster) = Cluster::with(|settings| (settings.nodes, settings.cpus) = (1, 1)) else { return };
    let mut server = cluster.server(&home);
    let attach = |words: &[&str]| -> Answer {
        let mut command = home.command();
        command.arg("attach").args(words);
        cluster.on_login(&command).stdin(Stdio::null()).output().unwrap().into()
    };
    let run = server.start_run("Long", "sleep 300", json!({}));
    wait_until("the run's start", || server.run(&run)["status"] == "running");
    let shown = text(&server.run(&run)["attach_command"]);
    assert!(shown.starts_with("srun --jobid 1 --overlap --pty --chdir ") && shown.contains(&run), "{shown}");
    let error = attach(&["--shell", &run]).failed(1);
    assert!(error.contains("needs a terminal") && error.contains(&shown), "{error}");
    let error = attach(&[&run]).failed(1);
    assert!(error.contains(&format!("logs -f {run}")), "what it prints is shown as ever: {error}");

    let queued = server.start_run("Queued", "exec sleep 300", json!({}));
    wait_until("the queue", || server.run(&queued)["status"] == "queued");
    assert!(server.run(&queued).get("attach_command").is_none());
    let error = attach(&["--shell", &queued]).failed(1);
    assert!(error.contains("is on no node yet") && error.contains("Slurm's queue"), "{error}");
    let local = server.start_run("Local", "sleep 300", json!({ "engine": "local" }));
    let error = attach(&["--shell", &local]).failed(1);
    assert!(error.contains("is on this machine") && error.contains(&format!("workbenches/{local}")), "{error}");

    if script_is_there() {
        let mut command = home.on_a_terminal(&format!("attach --shell {run}"));
        command.current_dir(home.user());
        let mut command = cluster.on_login(&command);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut keys = shell.stdin.take().unwrap();
        keys.write_all(b"hostname > seen; pwd >> seen; tty >> seen; exit\n").unwrap();
        wait_for(PATIENCE, "the shell's end", || shell.try_wait().unwrap());
        let workbench = home.workbench(&run);
        let seen = std::fs::read_to_string(workbench.join("seen")).unwrap();
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen[..2], ["node1", workbench.to_str().unwrap()]);
        assert!(seen[2].starts_with("/dev/"), "{seen:?}");
        assert_eq!(server.run(&run)["status"], "running", "it goes on");
    }
    // The one that waits first: it would start in the other's place.
    for over in [&queued, &run, &local] {
        server.stop(over);
        let error = attach(&["--shell", over]).failed(1);
        assert!(error.contains("is over (stopped)"), "{error}");
    }
    server.close_stdin_and_wait();
}
