//! What a node writes, and what of it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::scene::{home, submit, wait_for_job, wait_for_line};
use crate::harness::{Cluster, TestHome, assert_has, assert_says, wait_until};
use crate::unsaved::{GIT, sh};
use serde_json::json;

/// Lists the files of the home, each with what changes when it is written.
fn files(home: &TestHome) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![home.root()];
    while let Some(directory) = directories.pop() {
        for file in std::fs::read_dir(directory).unwrap() {
            let file = file.unwrap();
            let data = file.metadata().unwrap();
            if data.is_dir() {
                directories.push(file.path());
            } else {
                let path = file.path().strip_prefix(home.root()).unwrap().to_owned();
                found.insert(path, (data.len(), data.modified().unwrap()));
            }
        }
    }
    found
}

/// The node notes what the clones had, in `archive/clones`. The workbench is archived before it goes, where that is decided.
#[test]
fn a_node_writes_what_is_its_runs_alone_and_its_unsaved_work_comes_back() {
    let home = home("slurm_args = [\"--hold\"]\n");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let url = home.scratch().join("remote.git");
    sh(
        home.scratch(),
        "git init -q --bare -b main remote.git; git clone -q remote.git seed 2>/dev/null; cd seed; git checkout -q -b main; \
         commit a; git push -q origin main",
    );
    let prompt = format!("{GIT}; cd remote; commit b; echo more >> a; hostname > new");
    let more = json!({ "repositories": [{ "url": url }], "ttl_secs": 1 });
    let run = submit(&mut server, "Work", &prompt, more);
    let job = wait_for_job(&cluster, &run, "PENDING");
    // What is written while nobody is at work elsewhere was written on the node.
    server.close_stdin_and_wait();
    let before = files(&home);
    cluster.run("scontrol", ["release", &job]).ok();
    wait_for_job(&cluster, &run, "COMPLETED");
    let after = files(&home);
    let entry = Path::new("running").join(&run);
    assert!(after.contains_key(&entry.join("gone.json")), "it has ended: {after:?}");
    let its_own = [entry, Path::new("workbenches").join(&run), format!("archive/clones/{run}.json").into()];
    // Beside that, what runs share: mirrors of remotes, each locked while it is written, and a listing of processes, which says of
    // which machine it is.
    let shared = ["cache", "locks/listing"];
    let is_allowed =
        |path: &Path| shared.iter().any(|one| path.starts_with(one)) || its_own.iter().any(|own| path.starts_with(own));
    let written = after.iter().filter(|(path, data)| before.get(*path) != Some(data)).map(|(path, _)| path);
    let removed = before.keys().filter(|path| !after.contains_key(*path));
    let others: Vec<&PathBuf> = written.chain(removed).filter(|path| !is_allowed(path)).collect();
    assert!(others.is_empty(), "{others:?}");
    let outcome = home.outcome(&run).expect("an outcome");
    assert_has(
        &outcome["work"][0],
        json!({ "path": "remote", "branch": "main", "unpushed_commits": 1, "changed_files": 1, "untracked_files": 1 }),
    );
    assert!(home.history(&run).is_empty() && !home.root().join("archive").join(&run).exists());

    let mut server = cluster.server(&home);
    let line = wait_for_line(&home, &run);
    assert_eq!(line["status"], "succeeded", "{line} {}", home.raw_log(&run));
    wait_until("its workbench to go", || {
        server.clean_up();
        !home.workbench(&run).exists()
    });
    std::fs::rename(url, home.scratch().join("gone.git")).unwrap();
    let target = home.scratch().join("back");
    let recovered = home.command().args(["recover", &run]).arg(&target).output().unwrap();
    assert!(recovered.status.success(), "{recovered:?}");
    let seen = sh(&target.join("remote"), "git log --format=%s; cat a; git status --porcelain");
    assert_eq!(seen, "b\na\na\nmore\n M a\n?? new\n");
    assert_says(&sh(&target.join("remote"), "cat new"), &["node"]);
}
