//! Checks of the locks that all processes of a home share: none may be held for longer than any working process needs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Finding, Subject};
use crate::clock::Moment;
use crate::home::Home;
use crate::home::holder::{self, Holder};
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::names;

pub(super) fn locks(subject: &Subject<'_>) -> Vec<Finding> {
    let stuck = stuck(&subject.context.home);
    if stuck.is_empty() {
        return vec![Finding::well("locks", "they work, and nobody holds one for long")];
    }
    stuck
}

/// How long a lock may be held while a few files are written.
const BRIEF: Duration = Duration::from_secs(10);
/// The same while something is measured, or fetched over a network.
const LONG: Duration = Duration::from_secs(60 * 60);

/// How long a lock is watched whose holder does not say since when it holds it. A stopped process never releases it.
const WATCHED: Duration = Duration::from_secs(2);

/// Finds the locks that are not released; takes two seconds where one is held by a process that does not sign it.
fn stuck(home: &Home) -> Vec<Finding> {
    let until = Instant::now() + WATCHED;
    // Nobody waits for the probe, a dashboard has its lock as long as it runs, and the others are no locks.
    let excluded = [
        home.janitor_lock(),
        home.lock_probe(),
        home.dashboard_file(),
        home.servers(),
        home.attention(),
        home.machine_file(),
        home.locks_reach(),
    ];
    let brief = names_in(&home.locks()).into_iter().filter(|path| !excluded.contains(path));
    let mirrors = names_in(&home.cache()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "lock"));
    let long = mirrors.chain([home.janitor_lock()]).map(|path| (path, LONG));
    let all = brief.map(|path| (path, BRIEF)).chain(long);
    all.filter_map(|(path, longest)| look(&path, longest, until)).collect()
}

/// Lists a directory, which may be missing.
fn names_in(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let _ = names::scan(directory, |name, _| {
        if !name.starts_with('.') {
            paths.push(directory.join(name));
        }
    });
    paths
}

fn look(path: &Path, longest: Duration, until: Instant) -> Option<Finding> {
    let mut seen: Option<Holder> = None;
    loop {
        match FileLock::try_existing(path, Mode::Exclusive) {
            Ok(_) => return None,
            Err(LockError::Held { .. }) => {}
            Err(error) if error.is_not_found() => return None,
            Err(error) => {
                let fix = format!("ls -l '{}'", path.display());
                return Some(Finding::problem_at(path, error.to_string(), fix));
            }
        }
        let holder = holder::of(path);
        match judge(holder.as_ref(), longest, &Moment::now()) {
            Judgement::Stuck => return Some(held(path, holder)),
            Judgement::Fine => return None,
            Judgement::Unsigned => {}
        }
        let another = |holder: &Holder| seen.as_ref().is_some_and(|seen| seen.pid != holder.pid);
        if holder.as_ref().is_some_and(another) {
            return None;
        }
        // The list of processes changes while it is read, so one look may miss the holder.
        seen = holder.or(seen);
        if Instant::now() >= until {
            return Some(held(path, seen));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Fine,
    Stuck,
    /// The holder does not say since when it holds the lock.
    Unsigned,
}

fn judge(holder: Option<&Holder>, longest: Duration, now: &Moment) -> Judgement {
    let since = holder.and_then(|holder| holder.since.as_ref());
    match (holder, since) {
        (Some(holder), _) if holder.is_stopped() => Judgement::Stuck,
        (_, Some(since)) if since.elapsed_secs_at(now) > longest.as_secs() => Judgement::Stuck,
        (_, Some(_)) => Judgement::Fine,
        (_, None) if longest == BRIEF => Judgement::Unsigned,
        (_, None) => Judgement::Fine,
    }
}

fn held(path: &Path, holder: Option<Holder>) -> Finding {
    let shown = path.display();
    let (who, fix) = match holder {
        Some(holder) => (holder.to_string(), holder.way_out()),
        None => (
            "an unknown process".to_owned(),
            format!("find it with fuser -v '{shown}' (or lsof '{shown}'), and end it if it hangs"),
        ),
    };
    Finding::problem_at(path, format!("{shown} is held by {who}; everything else waits for it"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;
    use crate::home::holder::Condition;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    #[test]
    fn a_lock_is_stuck_when_its_holder_is_stopped_or_takes_too_long() {
        let moment = |since_boot_ms| Moment { at: UnixSeconds(0), boot_id: "b".into(), since_boot_ms };
        let holder = |condition, since| Holder { pid: 7, name: "x".into(), condition, since };
        let now = moment(100_000);
        let young = holder(Condition::AtWork, Some(moment(95_000)));
        let old = holder(Condition::AtWork, Some(moment(80_000)));
        let stopped = holder(Condition::Stopped, Some(moment(100_000)));
        let unsigned = holder(Condition::AtWork, None);
        assert_eq!(judge(Some(&young), BRIEF, &now), Judgement::Fine);
        assert_eq!(judge(Some(&old), BRIEF, &now), Judgement::Stuck);
        assert_eq!(judge(Some(&old), LONG, &now), Judgement::Fine, "a large repository, many workbenches");
        for longest in [BRIEF, LONG] {
            assert_eq!(judge(Some(&stopped), longest, &now), Judgement::Stuck);
        }
        assert_eq!(judge(Some(&unsigned), BRIEF, &now), Judgement::Unsigned);
        assert_eq!((judge(None, BRIEF, &now), judge(None, LONG, &now)), (Judgement::Unsigned, Judgement::Fine));
    }

    #[test]
    fn a_lock_that_is_held_on_and_on_is_found_and_one_that_is_let_go_is_not() {
        let (_dir, home) = home();
        for directory in [home.servers(), home.attention(), home.locks_reach()] {
            std::fs::create_dir(directory).unwrap();
        }
        assert_eq!(stuck(&home), []);
        let held = FileLock::acquire(&home.history_lock(), Mode::Exclusive, Duration::ZERO).unwrap();
        assert_eq!(stuck(&home), [], "not for long yet");
        drop(held);
        let probed = FileLock::acquire_unsigned(&home.lock_probe(), Duration::ZERO).unwrap();
        assert_eq!(stuck(&home), []);
        drop(probed);
        let path = home.locks().join("another");
        let unsigned = FileLock::acquire_unsigned(&path, Duration::ZERO).unwrap();
        let found = stuck(&home);
        assert_eq!((found.len(), found[0].path.as_deref()), (1, path.to_str()));
        assert!(found[0].fix.as_ref().unwrap().contains("end it"), "{found:?}");
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(unsigned);
        });
        assert_eq!(stuck(&home), []);
        letting_go.join().unwrap();
    }

    #[test]
    fn a_lock_that_cannot_be_taken_is_reported() {
        let (_dir, home) = home();
        std::fs::create_dir(home.routines_lock()).unwrap();
        let found = stuck(&home);
        assert!(found.len() == 1 && found[0].found.contains("cannot lock"), "{found:?}");
    }
}
