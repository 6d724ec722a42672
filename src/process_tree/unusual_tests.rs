//! Real processes that show less of themselves than others do, or more.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use super::process::Seen;
use super::*;

/// Its first thread ends, another one goes on.
const HEADLESS: &str = "
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
";

/// Nobody of its own user may read its environment any more, as with a key agent.
const HIDDEN: &str = "
import ctypes, time
ctypes.CDLL(None).prctl(4, 0)
time.sleep(60)
";

/// Starts threads from the moment when it is asked to end, for a second, and counts how often it is.
const COUNTING: &str = "
import os, signal, threading, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(time.time()))
open('ready', 'w').close()
while not asked or time.time() < asked[0] + 1.5:
    if asked and time.time() < asked[0] + 1:
        threading.Thread(target=time.sleep, args=(0.1,)).start()
    time.sleep(0.002)
open('count', 'w').write(str(len(asked)))
os._exit(0)
";

struct Python(Child);

impl Python {
    fn start(program: &str, cookie: &Cookie, directory: &Path) -> Self {
        let mut python = Command::new("python3");
        python.args(["-c", program]).current_dir(directory).stdin(Stdio::null());
        python.env(COOKIE_VARIABLE, cookie.to_string()).env(RUN_VARIABLE, "unusual-1");
        Self(python.spawn().expect("python3"))
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    /// Waits until it has ended by itself, or was ended.
    fn reap(&mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn state_of(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| Some(line.strip_prefix("State:")?.trim().to_owned())).unwrap_or_default()
}

#[test]
fn a_process_whose_first_thread_has_ended_is_recognised_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let cookie = Cookie::random().unwrap();
    let mut python = Python::start(HEADLESS, &cookie, dir.path());
    let pid = python.pid();
    wait_for("the end of its first thread", || state_of(pid).starts_with('Z'));
    assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(), b"", "it looks as if it had none");
    let id = ProcessId::of(pid).expect("it lives");
    assert!(id.is_alive());
    let ids = |processes: Vec<Process>| processes.into_iter().map(|process| process.id).collect::<Vec<_>>();
    assert_eq!(ids(Scan::take().unwrap().carriers(&cookie)), [id]);
    assert_eq!(Seen::at(pid).unwrap().unwrap().cookie, Some(cookie));
    let place = dir.path().canonicalize().unwrap();
    let wanted = Whereabouts { directory: Some(place), run: Some("unusual-1".to_owned()) };
    assert!(whereabouts().unwrap().contains(&wanted));
    let left = end_tree(&cookie, KnownProcesses::default(), Reach::Everywhere, Duration::from_secs(20), &mut |_| {});
    assert_eq!(left.unwrap(), []);
    python.reap();
    assert!(!id.is_alive() && Scan::take_twice().unwrap().carriers(&cookie).is_empty());
}

#[test]
fn a_thread_is_no_process() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let link = std::fs::read_link("/proc/thread-self").unwrap();
        sender.send(link.file_name().unwrap().to_str().unwrap().parse::<i32>().unwrap()).unwrap();
        let _ = stopped.recv();
    });
    let tid = receiver.recv().unwrap();
    assert!(Path::new(&format!("/proc/{tid}/stat")).exists(), "/proc answers for it");
    assert_eq!((ProcessId::of(tid), Seen::at(tid).unwrap()), (None, None));
    let start = std::fs::read(format!("/proc/{tid}/stat")).unwrap();
    let start = String::from_utf8_lossy(&start).rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse();
    let as_if = ProcessId { pid: tid, start: start.unwrap() };
    // It would be all of ours that got it.
    assert_eq!(as_if.signal(Signal::KILL).unwrap(), Signalled::Gone);
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn who_starts_threads_while_it_ends_is_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let cookie = Cookie::random().unwrap();
    let mut python = Python::start(COUNTING, &cookie, dir.path());
    wait_for("its handler", || dir.path().join("ready").exists());
    let mut most = 0;
    let none = KnownProcesses::default();
    let left = end_tree(&cookie, none, Reach::Everywhere, Duration::from_secs(60), &mut |processes| {
        most = most.max(processes.known.len());
    });
    assert_eq!(left.unwrap(), []);
    python.reap();
    assert_eq!(most, 1, "threads were taken for processes");
    assert_eq!(std::fs::read_to_string(dir.path().join("count")).unwrap(), "1");
}

#[test]
fn who_was_asked_by_one_who_gave_up_is_not_asked_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let cookie = Cookie::random().unwrap();
    let mut python = Python::start(COUNTING, &cookie, dir.path());
    wait_for("its handler", || dir.path().join("ready").exists());
    let grace = Duration::from_secs(60);
    let asked = ProcessId::of(python.pid()).unwrap();
    let mut noted = KnownProcesses::default();
    let mut passes = 0;
    let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        end_tree(&cookie, KnownProcesses::default(), Reach::Everywhere, grace, &mut |processes| {
            passes += 1;
            assert!(passes <= 1, "the first one is killed");
            noted = processes.clone();
        })
    }));
    assert!(first.is_err());
    assert_eq!(noted.asked, [asked].into(), "written down before it is asked");
    assert_eq!(end_tree(&cookie, noted, Reach::Everywhere, grace, &mut |_| {}).unwrap(), []);
    python.reap();
    assert_eq!(std::fs::read_to_string(dir.path().join("count")).unwrap(), "1");
}

/// Tells that we are the program below, which lacks the right to look into everybody.
const HUMBLE: &str = "MOADIM_TEST_HUMBLE";

#[test]
fn a_hidden_environment_is_told_from_a_missing_cookie() {
    if rustix::process::geteuid().is_root() && std::env::var_os(HUMBLE).is_none() {
        let name = "process_tree::unusual_tests::a_hidden_environment_is_told_from_a_missing_cookie";
        let mut humble = Command::new("setpriv");
        humble.args(["--bounding-set=-all", "--"]).arg(std::env::current_exe().unwrap());
        let status = humble.args(["--exact", name, "--nocapture"]).env(HUMBLE, "1").status().expect("setpriv");
        assert!(status.success(), "see its own message above");
        return;
    }
    let boot_clock = || u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap() * 1000;
    let before = boot_clock();
    let dir = tempfile::tempdir().unwrap();
    let cookie = Cookie::random().unwrap();
    let python = Python::start(HIDDEN, &cookie, dir.path());
    let pid = python.pid();
    let is_hidden = || {
        let read = std::fs::read(format!("/proc/{pid}/environ"));
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    wait_for("its environment to be hidden", is_hidden);
    let id = ProcessId::of(pid).unwrap();
    let scan = Scan::take().unwrap();
    assert!(scan.carriers(&cookie).is_empty());
    assert_eq!(Seen::at(pid).unwrap().unwrap().cookie, None);
    let us = ProcessId::current().unwrap();
    let holds = |processes: Vec<Process>| processes.iter().any(|process| process.id == id);
    assert!(!holds(scan.hidden_orphans(0, &HashSet::new())), "we, its parent, are there to see");
    // As if we were one who takes in orphans.
    let reapers = HashSet::from([us.pid]);
    assert!(holds(scan.hidden_orphans(start_at(before), &reapers)));
    assert!(!holds(scan.hidden_orphans(start_at(before + 3_600_000), &reapers)));
    assert!(unmarked_descendants(&cookie).unwrap().contains(&id), "only we can tell whose it is");
}
