//! Ending real trees: everything that is known to outlive a `kill`, at once.
//!
//! All processes of a run hold a pipe open: once it ends, the run is gone.

use std::collections::HashSet;
use std::io::{PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitOptions, wait};

use super::*;

/// Escapees that are marked or have a parent who is; each would end by itself after a minute.
const ESCAPEES: &str = r#"
    sleep 60 &
    nohup sleep 61 2>/dev/null &
    setsid sleep 62 &
    ( ( sleep 63 & ) & )
    timeout 64 sleep 64 &
    sh -c 'trap "" HUP TERM; for i in 1 2 3 4 5 6; do sleep 10; done' &
    sh -c 'trap "" HUP TERM; for i in 1 2 3 4 5 6; do setsid sleep 11; done' &
    sh -c 'trap "" TERM; i=0; while [ $i -lt 1000 ]; do sleep 1 & sleep 0.02; i=$((i + 1)); done' &
    sh -c "$CHAIN" chain 1000 &
    sh -c 'env -i sleep 65; :' &
"#;

/// A process that ends as soon as its child runs, over and over.
const CHAIN: &str = r#"trap "" TERM; [ "$1" -gt 0 ] && sh -c "$CHAIN" chain $(($1 - 1)) &"#;

/// An orphan without the cookie: only a subreaper knows whose it is.
const UNMARKED_ORPHAN: &str = "( env -i sleep 66 & )\n";

/// Processes of another run that this one started.
const OTHER_RUN: &str = r#"
    MOADIM_COOKIE=$OTHER setsid sh -c 'env -i sleep 67; :' >/dev/null &
    MOADIM_COOKIE=$OTHER sleep 68 >/dev/null &
"#;

/// The same, its processes gone before a listing is through; bounded, because each of them is a pid until it is reaped.
const FAST_CHAIN: &str = r#"
    exec perl -e '$SIG{TERM} = $SIG{HUP} = "IGNORE"; for (1 .. 1500) { exit if fork; select undef, undef, undef, 0.001 }'
"#;

/// The tests take turns: together their loops would starve each other, and everyone else.
static TURN: Mutex<()> = Mutex::new(());

const RUN: &str = "MOADIM_TEST_RUN";
const EVERYWHERE: &str = "looks everywhere";
const BELOW: &str = "looks below";
const FROM_OUTSIDE: &str = "is ended from outside";
const GRACE: Duration = Duration::from_millis(150);

/// How long a busy machine is waited for.
const A_MINUTE: Duration = Duration::from_secs(60);

/// The other run's processes: those with the cookie, and the one without it below them.
struct Other(Cookie);

impl Other {
    fn ids(&self) -> HashSet<ProcessId> {
        Scan::take().unwrap().members(&self.0, &HashSet::new()).into_iter().map(|process| process.id).collect()
    }

    /// Waits until the two marked ones and the unmarked one run.
    fn started(&self) -> HashSet<ProcessId> {
        wait_for("the other run", || Some(self.ids()).filter(|ids| ids.len() == 3))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        for id in self.ids() {
            let _ = id.signal(Signal::KILL);
        }
    }
}

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + A_MINUTE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until each escapee runs; the chain and the loop have no fixed number of processes.
fn wait_for_escapees(cookie: &Cookie) {
    wait_for("the escapees", || {
        let carriers = Scan::take().unwrap().carriers(cookie);
        let sleeping = carriers.iter().filter(|process| process.name == "sleep").count();
        (sleeping >= 12).then_some(())
    });
}

/// Fails unless the last process that holds the pipe ends soon.
fn assert_all_gone(mut pipe: PipeReader) {
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(pipe.read_to_end(&mut Vec::new())));
    ended.recv_timeout(A_MINUTE).expect("a process of the run still lives").unwrap();
}

/// Whether nothing holds the other end of a pipe, into which nobody writes.
fn is_over(pipe: &PipeReader) -> bool {
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&Timespec::default())).unwrap() > 0
}

fn shell(script: &str, cookie: &Cookie, other: &Cookie) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{script} wait")).stdin(Stdio::null());
    command.env(COOKIE_VARIABLE, cookie.to_string()).env("OTHER", other.to_string()).env("CHAIN", CHAIN);
    command
}

/// Ends a tree as the supervisor and then the watchdog do: again, until nothing is left. On a busy machine a chain runs on for
/// longer than one attempt takes.
fn end(cookie: &Cookie, known: Option<ProcessId>, reach: Reach, grace: Duration, on_pass: &mut dyn FnMut()) {
    let mut grace = grace;
    wait_for("the end of the tree", || {
        let known = KnownProcesses::of(known);
        let survivors = end_tree(cookie, known, reach, std::mem::take(&mut grace), &mut |_| on_pass()).unwrap();
        survivors.is_empty().then_some(())
    });
}

fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Not a test by itself: the supervisor of the tests below, which start this very program with only this test.
#[test]
#[expect(clippy::zombie_processes, reason = "the supervisor reaps whatever ends, as the real one does")]
fn supervisor() {
    let Ok(role) = std::env::var(RUN) else { return };
    let parse = |name: &str| std::env::var(name).unwrap().parse::<Cookie>().unwrap();
    let (cookie, other) = (parse(COOKIE_VARIABLE), Other(parse("OTHER")));
    become_subreaper().unwrap();
    let script = format!("{OTHER_RUN}{ESCAPEES}{UNMARKED_ORPHAN}");
    if role == FROM_OUTSIDE {
        shell(&script, &cookie, &other.0).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            reap();
            std::thread::sleep(Duration::from_millis(5));
        }
        return;
    }
    let (pipe, held) = std::io::pipe().unwrap();
    shell(&script, &cookie, &other.0).stdout(held).spawn().unwrap();
    let spared = other.started();
    wait_for_escapees(&cookie);
    let reach = if role == BELOW { Reach::Below } else { Reach::Everywhere };
    end(&cookie, Some(ProcessId::current().unwrap()), reach, GRACE, &mut reap);
    assert_all_gone(pipe);
    assert_eq!(other.ids(), spared);
}

fn start_supervisor(role: &str, cookie: &Cookie, other: &Cookie, stdout: impl Into<Stdio>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process_tree::escape_tests::supervisor", "--nocapture"])
        .env(RUN, role)
        .env(COOKIE_VARIABLE, cookie.to_string())
        .env("OTHER", other.to_string())
        .stdin(Stdio::null())
        .stdout(stdout)
        .spawn()
        .unwrap()
}

#[test]
fn a_supervisor_ends_all_that_is_below_it_and_spares_the_other_run() {
    for role in [EVERYWHERE, BELOW] {
        let _turn = turn();
        let (cookie, other) = (Cookie::random().unwrap(), Cookie::random().unwrap());
        let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
        let status = start_supervisor(role, &cookie, &other, Stdio::null()).wait().unwrap();
        assert!(status.success(), "{role}: {status}: see the supervisor's own message above");
        assert!(bystander.try_wait().unwrap().is_none(), "a process without a cookie was hurt");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}

#[test]
fn a_hung_supervisor_is_ended_from_outside_with_all_that_is_below_it() {
    let _turn = turn();
    let (cookie, other) = (Cookie::random().unwrap(), Other(Cookie::random().unwrap()));
    let (pipe, held) = std::io::pipe().unwrap();
    let mut supervisor = start_supervisor(FROM_OUTSIDE, &cookie, &other.0, held);
    let id = ProcessId::of(supervisor.id().try_into().unwrap()).unwrap();
    let spared = other.started();
    wait_for_escapees(&cookie);
    id.signal(Signal::STOP).unwrap();
    end(&cookie, Some(id), Reach::Everywhere, Duration::ZERO, &mut || {});
    supervisor.wait().unwrap();
    assert_all_gone(pipe);
    assert_eq!(other.ids(), spared);
}

#[test]
fn what_a_killed_supervisor_left_is_known_by_its_cookie() {
    let _turn = turn();
    let (cookie, other) = (Cookie::random().unwrap(), Other(Cookie::random().unwrap()));
    let (pipe, held) = std::io::pipe().unwrap();
    let mut agent = shell(&format!("{OTHER_RUN}{ESCAPEES}"), &cookie, &other.0).stdout(held).spawn().unwrap();
    let spared = other.started();
    wait_for_escapees(&cookie);
    end(&cookie, None, Reach::Everywhere, GRACE, &mut || {});
    agent.wait().unwrap();
    assert_all_gone(pipe);
    assert_eq!(other.ids(), spared);
    assert!(Scan::take_twice().unwrap().carriers(&cookie).is_empty());
}

#[test]
fn a_chain_that_forks_faster_than_a_look_is_seen_and_ended() {
    let _turn = turn();
    let (cookie, other) = (Cookie::random().unwrap(), Cookie::random().unwrap());
    let (pipe, held) = std::io::pipe().unwrap();
    let mut first = shell(FAST_CHAIN, &cookie, &other).stdout(held).spawn().unwrap();
    first.wait().unwrap();
    for _ in 0..3 {
        let seen = !Scan::take_twice().unwrap().carriers(&cookie).is_empty();
        assert!(seen || is_over(&pipe), "a living run was taken for dead");
    }
    end(&cookie, None, Reach::Everywhere, Duration::ZERO, &mut || {});
    assert_all_gone(pipe);
}

#[test]
fn what_ends_when_asked_is_given_the_time() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let (cookie, other) = (Cookie::random().unwrap(), Cookie::random().unwrap());
    let (pipe, held) = std::io::pipe().unwrap();
    let script = "trap 'sleep 0.2; echo tidy > out; exit' TERM; touch ready; while :; do sleep 0.01; done;";
    let mut agent = shell(script, &cookie, &other).current_dir(dir.path()).stdout(held).spawn().unwrap();
    wait_for("the trap", || dir.path().join("ready").exists().then_some(()));
    let started = Instant::now();
    end(&cookie, None, Reach::Everywhere, 2 * A_MINUTE, &mut || {});
    assert!(started.elapsed() < A_MINUTE, "the grace was waited for in vain");
    agent.wait().unwrap();
    assert_all_gone(pipe);
    assert_eq!(std::fs::read_to_string(dir.path().join("out")).unwrap(), "tidy\n");
}
