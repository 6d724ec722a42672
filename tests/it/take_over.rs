//! Killed at whatever step between an answer and the end of the run that goes on with it: one run goes on, no answer is lost, and the
//! workbench stays with all that is in it.
//!
//! 8 moments by default, 48 with `MOADIM_LONG_TESTS=1`, spread evenly over an answer.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    ASKS, ASKS_AND_STAYS, PATIENCE, Scene, Server, SetOnDrop, TestHome, assert_has, cut_the_power, may_take_long, text,
    wait_for, wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const SERVERS: usize = 8;

fn servers(home: &TestHome) -> Vec<Server> {
    // All at once: each looks at what was left when it starts.
    let mut servers: Vec<Server> = (0..SERVERS).map(|_| Server::spawn(home.command())).collect();
    servers.iter_mut().for_each(|server| drop(server.introduce(crate::harness::Era::Legacy("2025-11-25"))));
    servers
}

/// Waits until no server sees a problem any more: what one of them met a moment ago may still be told.
#[track_caller]
fn assert_no_problems(servers: &mut [Server]) {
    for server in servers {
        assert_eq!(server.problems(), Vec::<Value>::new());
    }
}

/// Lists all names of runs in the workbenches, links too.
fn names(home: &TestHome) -> BTreeSet<String> {
    let files = fs::read_dir(home.root().join("workbenches")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

fn work(home: &TestHome, run: &str) -> String {
    fs::read_to_string(home.workbench(run).join("work.txt")).unwrap_or_default()
}

#[test]
fn an_answer_that_was_kept_and_not_gone_on_with_starts_one_run() {
    let (home, mut server) = Scene::asking("watchdog_interval_secs = 1\n").start();
    let runs: Vec<String> = (0..3).map(|n| server.ask(&format!("Asks {n}"), ASKS, json!({}))).collect();
    drop(server);
    for run in &runs {
        home.leave_answer(run, &format!("For {run}"));
    }
    let mut servers = servers(&home);
    for run in &runs {
        let next = home.the_one_that_continues(run);
        home.assert_continued_once(run, &next);
        assert_eq!(home.history(&next)[0]["status"], "succeeded");
        assert_eq!(fs::read_to_string(home.workbench(run).join("answers")).unwrap(), format!("For {run}\n"));
        assert_eq!(work(&home, run), "work\n");
    }
    assert_no_problems(&mut servers);
}

#[test]
fn a_continuation_that_never_came_to_be_gives_way() {
    let (home, mut server) = Scene::asking("watchdog_interval_secs = 1\ncleanup_interval_secs = 1\n").start();
    let runs = ["By hand", "By a janitor", "Taken back"].map(|title| server.ask(title, ASKS, json!({})));
    drop(server);
    let ghosts = runs.clone().map(|run| {
        let (routine, stamp) = run.rsplit_once('-').unwrap();
        format!("{routine}-{}", stamp.parse::<u64>().unwrap() + 1)
    });
    for (run, ghost) in runs.iter().zip(&ghosts) {
        home.leave_continuation(run, ghost, run);
    }
    let by_hand = home.go_on(&runs[0], "By hand");
    home.leave_answer(&runs[1], "By a janitor");
    let mut servers = servers(&home);
    for run in &runs[..2] {
        let next = home.the_one_that_continues(run);
        home.assert_continued_once(run, &next);
        assert_eq!(home.history(&next)[0]["status"], "succeeded");
        assert_eq!(work(&home, run), "work\n");
    }
    assert_eq!(home.continued_by(&runs[0]), [by_hand]);
    // Nobody answered this one, which is as open as before.
    wait_until("it to be taken back", || !home.continuation_file(&runs[2]).exists());
    assert_has(
        &servers[0].whole_run(&runs[2]),
        json!({ "status": "asked", "continued_by": null, "kept_because": "it waits for an answer" }),
    );
    assert_eq!(home.ended(&home.go_on(&runs[2], "Now")), "succeeded");
    for routine in ["by-hand", "by-a-janitor", "taken-back"] {
        let ttl = json!({ "routine": routine, "ttl_secs": 1, "failed_ttl_secs": 1 });
        servers[0].ok("update_routine", ttl);
    }
    wait_until("all to go", || {
        runs.iter().all(|run| !home.workbench(run).exists() && !home.continuation_file(run).exists())
    });
    assert_eq!(names(&home), BTreeSet::new(), "a link stayed");
    assert_no_problems(&mut servers);
}

/// Where a launch was when its process died, after the claim.
#[derive(Debug, Clone, Copy)]
enum Moves {
    Before,
    Amid,
    After,
}

/// Copies a directory as it is.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn a_claim_whose_process_died_is_recorded_beside_what_the_run_before_left() {
    let (home, mut server) = Scene::asking("watchdog_interval_secs = 600\n").start();
    let died = [Moves::Before, Moves::Amid, Moves::After];
    let asked = died.map(|died| server.ask(&format!("{died:?} the moves"), ASKS_AND_STAYS, json!({})));
    let before = asked.each_ref().map(|run| home.outcome(run).unwrap());
    let mut claimed = Vec::new();
    for (run, died) in asked.iter().zip(died) {
        let (workbench, kept) = (home.workbench(run), home.scratch().join(run));
        fs::create_dir(&kept).unwrap();
        copy(&workbench, &kept.join("workbench"));
        let next = home.go_on(run, "stay");
        let entry = home.entry(&next);
        fs::create_dir(kept.join("entry")).unwrap();
        for file in ["lock", "judge", "run.json"] {
            copy(&entry.join(file), &kept.join("entry").join(file));
        }
        cut_the_power(&home, &next);
        fs::remove_dir_all(&entry).unwrap();
        fs::rename(kept.join("entry"), &entry).unwrap();
        fs::remove_dir_all(&workbench).unwrap();
        fs::rename(kept.join("workbench"), &workbench).unwrap();
        let moved: &[&str] = match died {
            Moves::Before => &[],
            Moves::Amid => &["agent.log", "prompt.md"],
            Moves::After => &["agent.log", "prompt.md", "question.md", "outcome.json"],
        };
        let previous = workbench.join("previous").join(run);
        fs::create_dir_all(&previous).unwrap();
        moved.iter().for_each(|file| fs::rename(workbench.join(file), previous.join(file)).unwrap());
        claimed.push(next);
    }
    drop(server);
    let mut servers = servers(&home);
    for ((run, next), outcome) in asked.iter().zip(&claimed).zip(before) {
        assert_eq!(home.ended(next), "launch_failed");
        assert_eq!((home.continued_by(run), home.history(run).len()), (vec![next.clone()], 1));
        let kept = home.json(format!("workbenches/{run}/previous/{run}/outcome.json")).expect("the outcome before");
        assert_eq!((&kept, home.outcome(run).unwrap()["id"].as_str()), (&outcome, Some(&**next)));
        assert_eq!(work(&home, run), "work\n");
        let view = servers[0].whole_run(run);
        assert_has(&view, json!({ "status": "asked", "continued_by": next }));
        assert_has(&view["question"], json!({ "state": "answered", "answer": "stay", "text": "Which?" }));
        // What it was answered is known, and it goes on from the run that failed.
        let last = home.go_on(next, "go");
        assert_eq!(home.ended(&last), "succeeded");
        assert_eq!(home.continued_by(next), [last]);
        assert_eq!((work(&home, run), home.question_lines(run).len()), ("work\n".to_owned(), 1));
        assert_eq!(home.moadim(&["logs", run]).code, Some(0));
    }
    assert_no_problems(&mut servers);
}

#[test]
fn a_continuation_that_loses_its_supervisor_is_recorded_and_can_be_continued() {
    let (home, mut server) = Scene::asking("watchdog_interval_secs = 1\n").start();
    let run = server.ask("Asks", ASKS_AND_STAYS, json!({}));
    let next = home.go_on(&run, "stay");
    server.wait_for_run(&next, "running");
    assert!(server.error("trigger_routine", json!({ "routine": "asks" })).contains(&next), "it is alive");
    cut_the_power(&home, &next);
    assert_eq!(home.ended(&next), "lost");
    assert_has(&server.whole_run(&run), json!({ "status": "asked", "continued_by": next }));
    // Killed alone, its agent is left, and is ended at its bound or by a person.
    let second = home.go_on(&next, "stay");
    server.wait_for_run(&second, "running");
    home.noted(&second, "supervisor").kill();
    assert!(home.answer(&second, "go").failed(1).contains("it is not over"));
    server.stop(&second);
    assert_eq!(home.ended(&second), "stopped");
    let third = home.go_on(&second, "go");
    assert_eq!(home.ended(&third), "succeeded");
    assert_eq!(work(&home, &run), "work\n");
    for (before, after) in [(&run, &next), (&next, &second), (&second, &third)] {
        assert_eq!(home.continued_by(before), [after.as_str()]);
        assert_eq!(home.history(before).len(), 1);
        assert!(home.workbench(&run).join("previous").join(before).join("outcome.json").is_file(), "{before}");
    }
    assert_eq!(server.problems(), Vec::<Value>::new());
}

/// Stops every process of the home, those too that others start meanwhile, and ends them all.
fn end_everything(home: &TestHome) {
    let mut stopped = 0;
    wait_until("all to stand still", || {
        let all = home.processes();
        all.iter().for_each(|one| drop(one.id.signal(Signal::STOP)));
        let are_all = all.len() == stopped;
        stopped = all.len();
        are_all
    });
    wait_until("the end of everything", || {
        let left = home.processes();
        left.iter().for_each(crate::harness::Seen::kill);
        left.is_empty()
    });
}

#[test]
fn killed_at_any_moment_of_an_answer_one_run_goes_on_with_it() {
    let rounds = if may_take_long() { 48 } else { 8 };
    let config = "watchdog_interval_secs = 1\nanswers_from = \"anyone\"\nmax_concurrent_runs = 100\n";
    let (home, mut server) = Scene::asking(config).start();
    let mut others: Vec<Server> =
        (0..if may_take_long() { SERVERS - 1 } else { 2 }).map(|_| Server::start(&home)).collect();
    let whole = server.ask("Whole", ASKS, json!({}));
    let began = Instant::now();
    home.go_on(&whole, "all of it");
    let takes = began.elapsed();
    let mut asked = Vec::new();
    for round in 0..rounds {
        let run = server.ask(&format!("Asks {round}"), ASKS, json!({}));
        let moment = takes * 5 / 4 * round / rounds;
        match round % 4 {
            0 => {
                let mut person = home.answering(&run, "theirs").spawn().unwrap();
                std::thread::sleep(moment);
                let _ = person.kill();
                let _ = person.wait();
            }
            1 => {
                server.send_call("continue_run", json!({ "run": run, "text": "theirs" }));
                std::thread::sleep(moment);
                server.signal(Signal::KILL);
                server.wait();
                server = Server::start(&home);
            }
            2 => {
                // As far as anybody can tell, the power goes.
                let mut person = home.answering(&run, "theirs").spawn().unwrap();
                std::thread::sleep(moment);
                end_everything(&home);
                let _ = person.wait();
                server.wait();
                others.iter_mut().for_each(|other| _ = other.wait());
                others = others.iter().map(|_| Server::start(&home)).collect();
                server = Server::start(&home);
            }
            _ => {
                // All that belongs to this one, as far as it has come.
                let mut person = home.answering(&run, "theirs").spawn().unwrap();
                std::thread::sleep(moment);
                let routine = format!("asks-{round}-");
                home.processes()
                    .iter()
                    .filter(|one| one.command.contains(&routine))
                    .for_each(crate::harness::Seen::kill);
                let _ = person.kill();
                let _ = person.wait();
            }
        }
        eprintln!("killed at {moment:?} of {takes:?}: answered {}", home.close_file(&run).exists());
        asked.push(run);
    }
    for run in &asked {
        let next = if home.close_file(run).exists() {
            home.the_one_that_continues(run)
        } else {
            assert_eq!(server.whole_run(run)["question"]["state"], "open");
            home.go_on(run, "theirs")
        };
        // One whose agent was killed is not tried again by itself: a person says so. One that never started is, by a janitor.
        let mut last = next.clone();
        wait_until("a run that succeeds", || {
            match &*home.ended(&last) {
                "succeeded" => return true,
                "launch_failed" | "lost" | "failed" => {}
                status => panic!("{last}: {status}"),
            }
            let answer = home.answer(&last, "theirs");
            let newest = if answer.code == Some(0) { Some(answer.stdout) } else { home.continued_by(&last).pop() };
            last = newest.map_or_else(|| last.clone(), |newest| newest.trim().to_owned());
            false
        });
        home.assert_continued_once(run, &next);
        assert_eq!(home.question_lines(run)[0]["text"], "theirs");
        assert_eq!(work(&home, run), "work\n");
        assert_eq!(home.outcome(run).unwrap()["id"], last.as_str());
    }
    wait_until("the entries to go", || {
        fs::read_dir(home.root().join("running"))
            .unwrap()
            .flatten()
            .all(|one| one.file_name().to_string_lossy().starts_with('.'))
    });
    others.push(server);
    assert_no_problems(&mut others);
}

#[test]
fn no_sweep_takes_the_workbench_of_a_run_that_was_claimed() {
    const ROUTINES: usize = 3;
    const EACH: usize = 10;
    let config = "watchdog_interval_secs = 1\ncleanup_interval_secs = 1\nmax_concurrent_runs = 100\n";
    let (home, mut server) = Scene::asking(config).start();
    let over = AtomicBool::new(false);
    let more = std::thread::scope(|scope| {
        let (home, over) = (&home, &over);
        let _over = SetOnDrop(over);
        scope.spawn(move || {
            let mut sweeping = Server::start(home);
            while !over.load(Ordering::Relaxed) {
                sweeping.clean_up();
            }
        });
        for routine in 0..ROUTINES {
            server.create(&format!("Asks {routine}"), ASKS, json!({ "ttl_secs": 1, "failed_ttl_secs": 600 }));
        }
        let people: Vec<_> =
            (0..ROUTINES).map(|n| scope.spawn(move || answer_on_and_on(home, &format!("asks-{n}"), EACH))).collect();
        people.into_iter().map(|person| person.join().unwrap()).sum::<usize>()
    });
    eprintln!("{} answers, and {more} runs that were given more", ROUTINES * EACH);
    assert_eq!(server.problems(), Vec::<Value>::new());
}

/// Answers so many runs of a routine, and gives each more to do when its time is almost over; returns how many took that.
fn answer_on_and_on(home: &TestHome, routine: &str, count: usize) -> usize {
    let mut more = 0;
    for n in 0..count {
        let started = home.moadim(&["trigger", routine, "--overlap", "allow", "--wait", "--json"]);
        let run = text(
            &serde_json::from_str::<Value>(&started.stdout).unwrap_or_else(|_| panic!("{started:?}"))["run"]["id"],
        );
        let next = heard(home, &run, "Postgres").expect("an open question keeps its workbench");
        // About when a sweep takes it.
        let until = Instant::now() + Duration::from_millis(1000 + 100 * (n as u64 % 10));
        wait_for(PATIENCE, "its time", || (Instant::now() >= until).then_some(()));
        more += usize::from(heard(home, &next, "More").is_some());
    }
    more
}

/// Answers a run until that leads to one that does its work, also on a machine that is too busy for one that starts in time; `None`
/// once the workbench is gone.
fn heard(home: &TestHome, run: &str, answer: &str) -> Option<String> {
    let mut run = run.to_owned();
    wait_for(PATIENCE, "the answer to be heard", || {
        let said = home.answer(&run, answer);
        let next = match said.code {
            Some(0) => said.stdout.trim().to_owned(),
            _ if said.stderr.contains("its workbench is gone") => return Some(None),
            _ if said.stderr.contains("is kept") || said.stderr.contains("did not start") => {
                home.the_one_that_continues(&run)
            }
            _ => {
                assert!(said.stderr.contains("try again"), "{said:?}");
                return None;
            }
        };
        match &*home.ended(&next) {
            "succeeded" => Some(Some(next)),
            "launch_failed" => {
                run = next;
                None
            }
            status => panic!("{next} is {status}: its work was not there"),
        }
    })
}

#[test]
fn a_run_that_was_killed_can_be_continued_at_once() {
    let (home, mut server) = Scene::asking("watchdog_interval_secs = 3600\n").start();
    let run = server.ask("Asks", ASKS_AND_STAYS, json!({}));
    let next = home.go_on(&run, "stay");
    server.wait_for_run(&next, "running");
    cut_the_power(&home, &next);
    server.wait_for_run(&next, "lost");
    assert!(home.history(&next).is_empty(), "no janitor has seen it");
    let last = home.go_on(&next, "go");
    assert_eq!(home.ended(&last), "succeeded");
    assert_eq!((home.ended(&next), home.history(&next).len()), ("lost".to_owned(), 1));
}
