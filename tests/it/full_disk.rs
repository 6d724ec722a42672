//! A full disk: a home on a small file system of its own, in a mount namespace, which needs root.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PATIENCE, Scene, Server, TestHome, is_body, text, wait_for, wait_until, with_mounts};
use serde_json::{Value, json};

/// A home on a file system of its own, which is gone with it.
pub struct SmallDisk {
    // Dropped after the disk is unmounted by hand.
    pub home: TestHome,
}

impl SmallDisk {
    pub fn new(options: &str) -> Self {
        let home = TestHome::new();
        fs::create_dir(home.root()).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("mode=0700,{options}"), "none"])
            .arg(home.root())
            .status();
        assert!(mounted.unwrap().success());
        fs::set_permissions(home.root(), PermissionsExt::from_mode(0o700)).unwrap();
        home.configure("session_host = \"detached\"\nkill_grace_secs = 1\n");
        home.add_agent("shell", "command = \"sh\"\nlogin_shell = false\n");
        Self { home }
    }

    /// Uses up all bytes, to the last.
    pub fn fill(&self) -> PathBuf {
        let path = self.home.root().join("filler");
        let mut file = File::create(&path).unwrap();
        for block in [vec![0; 64 * 1024], vec![0; 1]] {
            while file.write_all(&block).is_ok() {}
        }
        path
    }

    /// Uses up all inodes, to the last.
    fn fill_inodes(&self) -> PathBuf {
        let directory = self.home.root().join("filler");
        fs::create_dir(&directory).unwrap();
        for n in 0.. {
            if File::create(directory.join(n.to_string())).is_err() {
                break;
            }
        }
        directory
    }

    /// Lists all that is below some directories of the home.
    fn names(&self) -> Vec<PathBuf> {
        let mut todo: Vec<PathBuf> =
            ["routines", "running", "workbenches", "trash"].iter().map(|name| self.home.root().join(name)).collect();
        let mut names = Vec::new();
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                }
                names.push(entry.path());
            }
        }
        names.sort();
        names
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What a failed test left running has its directory there; the home kills it afterwards.
        let _ = Command::new("umount").arg("--lazy").arg(self.home.root()).status();
    }
}

fn remove(filler: &Path) {
    if filler.is_dir() { fs::remove_dir_all(filler).unwrap() } else { fs::remove_file(filler).unwrap() }
}

#[test]
fn on_a_full_disk_nothing_begins_and_cleaning_up_works() {
    with_mounts("full_disk::full");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn full() {
    if !is_body() {
        return;
    }
    for kind in ["bytes", "inodes"] {
        let disk = SmallDisk::new("size=4m,nr_inodes=400");
        let home = &disk.home;
        let mut server = Server::start_swept(home);
        server.create("First", "head -c 100000 /dev/zero", json!({ "ttl_secs": 1 }));
        let run = server.run_to("first", "succeeded");
        wait_until("it to be due", || {
            let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
            foreseen["removed"][0]["run"] == run
        });
        let filler = if kind == "bytes" { disk.fill() } else { disk.fill_inodes() };
        let before = disk.names();
        let create = json!({ "title": "Second", "agent": "shell", "prompt": "x".repeat(10_000) });
        for (tool, arguments) in [("create_routine", create), ("trigger_routine", json!({ "routine": "first" }))] {
            let error = server.error(tool, arguments);
            assert!(error.contains("No space left"), "{kind}: {error}");
            assert_eq!(disk.names(), before, "{kind}: {tool} leaves nothing behind");
        }
        assert_eq!(server.ok("list_routines", json!({}))["total"], 1, "{kind}");
        assert_eq!(server.run(&run)["status"], "succeeded", "{kind}");
        let report = server.clean_up();
        assert_eq!(
            (&report["removed"][0]["run"], &report["failed_total"]),
            (&json!(run), &json!(0)),
            "{kind}: {report}"
        );
        assert!(!home.workbench(&run).exists());
        // Another server starts on the full disk, too.
        disk_is_full_again(&filler);
        let mut another = Server::start_swept(home);
        another.clean_up();
        assert_eq!(another.problems(), Vec::<Value>::new(), "{kind}");
        remove(&filler);
        server.run_to("first", "succeeded");
    }
}

/// Takes what the sweep has given back.
fn disk_is_full_again(filler: &Path) {
    if filler.is_dir() {
        for n in 1_000_000.. {
            if File::create(filler.join(n.to_string())).is_err() {
                break;
            }
        }
    } else {
        let mut file = File::options().append(true).open(filler).unwrap();
        while file.write_all(&[0]).is_ok() {}
    }
}

#[test]
fn an_end_that_cannot_be_written_is_written_when_there_is_room() {
    with_mounts("full_disk::later");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn later() {
    if !is_body() {
        return;
    }
    for supervisor_lives in [true, false] {
        let disk = SmallDisk::new("size=4m,nr_inodes=400");
        let home = &disk.home;
        let mut server = Server::start_swept(home);
        let prompt = "while ! test -e go; do sleep 0.02; done; echo more than fits; exit 3";
        let run = server.start_run("Ends", prompt, json!({}));
        // An empty file takes an inode, and no block.
        let filler = disk.fill();
        let agent = home.noted(&run, "agent");
        File::create(home.workbench(&run).join("go")).unwrap();
        wait_until("the agent's end", || !agent.id.is_alive());
        if !supervisor_lives {
            home.noted(&run, "supervisor").kill();
            let failed = wait_for(PATIENCE, "a clean-up that tells", || {
                server.clean_up()["failed"].as_array().unwrap().iter().find(|one| one["run"] == run).cloned()
            });
            assert!(text(&failed["error"]).contains("No space left"), "{failed}");
        }
        assert_eq!(home.outcome(&run), None);
        assert!(home.entry(&run).exists() && home.history(&run).is_empty());
        remove(&filler);
        wait_until("its end to be recorded", || {
            if !supervisor_lives {
                server.clean_up();
            }
            !home.entry(&run).exists()
        });
        let status = if supervisor_lives { "failed" } else { "lost" };
        assert_eq!(home.outcome(&run).unwrap()["status"], status);
        assert_eq!(home.history(&run).len(), 1);
        let left = disk.names().into_iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.'));
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn what_a_person_stops_on_a_full_disk_is_stopped() {
    with_mounts("full_disk::stopped");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn stopped() {
    if !is_body() {
        return;
    }
    for supervisor_lives in [true, false] {
        let disk = SmallDisk::new("size=4m,nr_inodes=400");
        let home = &disk.home;
        let out = home.scratch().join("failed");
        let hook = format!("on_failure = [\"touch\", \"{}\"]\n", out.display());
        home.configure(&format!(
            "session_host = \"detached\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 1\n{hook}"
        ));
        let mut server = Server::start(home);
        let run = server.start_run("Stopped", "sleep 300 & exec sleep 301", json!({}));
        if !supervisor_lives {
            home.noted(&run, "supervisor").kill();
        }
        let filler = disk.fill();
        let answer = server.ok("stop_run", json!({ "run": run, "reason": "enough" }));
        let note = text(&answer["note"]);
        assert!(note.starts_with("the run and all its processes have ended"), "{answer}");
        assert!(note.contains("No space left"), "{answer}");
        assert!(home.processes_named("sleep").is_empty());
        assert_eq!((home.outcome(&run), home.history(&run).len()), (None, 0));
        remove(&filler);
        wait_until("its end to be recorded", || !home.entry(&run).exists());
        let outcome = home.outcome(&run).unwrap();
        assert_eq!(outcome["status"], "stopped", "{outcome}");
        if !supervisor_lives {
            assert_eq!(outcome["reason"], "enough", "{outcome}");
        }
        assert_eq!(home.history(&run).len(), 1);
        assert!(!out.exists(), "the failure hook is for failures");
    }
}

#[test]
fn the_log_stays_small_while_its_run_is_being_ended() {
    const CAP: u64 = 1 << 20;
    let home = TestHome::detached("");
    home.configure(&format!("session_host = \"detached\"\nmax_log_bytes = {CAP}\nkill_grace_secs = 20\n"));
    home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    let mut server = Server::start(&home);
    // Asked to end, it prints much, and waits for its log to be small again.
    let prompt = format!(
        "trap 'until n=$(stat -c %s agent.log) && [ $n -ge 20000000 ]; do yes | head -c 10000000; done
         until n=$(stat -c %b agent.log) && [ $n -le {} ]; do sleep 0.1; done; : > small; exit' TERM
         echo ready; while :; do sleep 0.05; done",
        CAP / 512
    );
    server.ok("create_routine", json!({ "title": "Loud", "agent": "quick", "prompt": prompt }));
    let run = server.trigger("loud");
    server.wait_for_log(&run, "ready");
    server.stop(&run);
    server.wait_for_run(&run, "stopped");
    assert!(home.workbench(&run).join("small").exists());
    assert!(home.workbench(&run).join("agent.log").metadata().unwrap().len() >= 20_000_000);
}

#[test]
fn the_log_of_a_run_that_prints_300_mb_stays_small() {
    const CAP: u64 = 4 << 20;
    let (home, mut server) =
        Scene::new().config(&format!("max_log_bytes = {CAP}\n")).agent("quick", "login_shell = false").start();
    // As much at a time as is allowed at the peak, and on when the log is small again: 512 bytes a block.
    let prompt = format!(
        "echo the beginning\nfor n in 0 1 2 3 4 5 6 7 8 9; do\n\
         yes 'one line of many that nobody reads' | head -c 30000000\n\
         while [ $(stat -c %b agent.log) -gt {} ]; do sleep 0.01; done\ndone\necho; echo the end",
        CAP / 512
    );
    server.ok("create_routine", json!({ "title": "Loud", "agent": "quick", "prompt": prompt }));
    let run = server.trigger("loud");
    let log = home.workbench(&run).join("agent.log");
    let mut peak = 0;
    wait_until("its end", || {
        peak = peak.max(log.metadata().unwrap().blocks() * 512);
        !home.entry(&run).exists()
    });
    let allocated = log.metadata().unwrap().blocks() * 512;
    eprintln!("peak: {} MiB, at the end: {} MiB", peak >> 20, allocated >> 20);
    assert!(peak < CAP + (64 << 20), "{peak} bytes at the peak");
    assert!(allocated <= CAP + (64 << 10), "{allocated} bytes at the end");
    let read = server.ok("read_log", json!({ "run": run, "tail_lines": 3 }));
    assert!(text(&read["text"]).ends_with("\nthe end\n"), "{read}");
    assert!(log.metadata().unwrap().len() > 300_000_000, "offsets stay");
    assert_eq!(server.run(&run)["status"], "succeeded");
}
