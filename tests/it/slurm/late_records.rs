//! What a node wrote is seen later on the login machine, as on file systems that cache listings.

use std::time::{Duration, Instant};

use super::scene::{assert_all_is_kept, home, submit, wait_for_job, wait_for_line};
use crate::harness::{Cluster, wait_until};
use serde_json::json;

#[test]
fn records_that_arrive_late_are_waited_for() {
    let home = home("");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let gate = home.scratch().join("gate");
    let prompt = format!("until [ -e {} ]; do sleep 0.05; done; echo well", gate.display());
    let run = submit(&mut server, "Late Records", &prompt, json!({}));
    server.wait_for_run(&run, "running");
    // The login machine sees its directory as it was before, as a file system does that caches listings.
    let entry = home.entry(&run);
    let old = home.scratch().join("old");
    std::fs::create_dir(&old).unwrap();
    for name in ["run.json", "env.json", "lock", "judge", "job.json", "job.sh"] {
        if entry.join(name).exists() {
            std::fs::copy(entry.join(name), old.join(name)).unwrap();
        }
    }
    cluster.run("mount", ["--bind", old.to_str().unwrap(), entry.to_str().unwrap()]).ok();
    std::fs::write(&gate, "").unwrap();
    wait_for_job(&cluster, &run, "COMPLETED");
    for _ in 0..5 {
        assert_all_is_kept(&mut server);
        let seen = server.run(&run);
        assert!(seen.get("finished_at").is_none(), "{seen}");
    }
    cluster.run("umount", [entry.to_str().unwrap()]).ok();
    let seen = server.wait_for_run(&run, "succeeded");
    assert_eq!(seen.get("status_reason"), None, "{seen}");
    wait_until("its entry to go", || !home.entry(&run).exists());
    assert_eq!(home.history(&run).len(), 1);
}

/// The two lie in different directories, so that nothing says which of them is seen first.
#[test]
fn an_outcome_that_arrives_after_the_word_that_nothing_is_left_is_waited_for() {
    const LATE: Duration = Duration::from_secs(5);
    let home = home("default_ttl_secs = 600\n");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let gate = home.scratch().join("gate");
    let prompt = format!("until [ -e {} ]; do sleep 0.05; done; echo well", gate.display());
    let run = submit(&mut server, "Late Outcome", &prompt, json!({}));
    server.wait_for_run(&run, "running");
    let workbench = home.workbench(&run);
    let old = home.scratch().join("old");
    std::fs::create_dir(&old).unwrap();
    cluster.run("mount", ["--bind", old.to_str().unwrap(), workbench.to_str().unwrap()]).ok();
    std::fs::write(&gate, "").unwrap();
    wait_until("the word that nothing is left", || home.entry(&run).join("gone.json").exists());
    let since = Instant::now();
    wait_until("the outcome's time", || {
        assert_all_is_kept(&mut server);
        let seen = server.run(&run);
        assert!(seen["status"] == "running" && seen.get("finished_at").is_none(), "{seen}");
        assert!(home.history(&run).is_empty() && home.entry(&run).exists());
        since.elapsed() >= LATE
    });
    assert_eq!(home.outcome(&run).expect("the node wrote it")["status"], "succeeded");
    cluster.run("umount", [workbench.to_str().unwrap()]).ok();
    let line = wait_for_line(&home, &run);
    assert_eq!((&line["status"], line.get("reason")), (&json!("succeeded"), None), "{line}");
    assert_eq!(home.raw_log(&run), "well\n");
}
