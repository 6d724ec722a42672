//! Forgetting continuations: with their workbench, and where their run never came to be.

use std::io::ErrorKind;
use std::time::Duration;

use super::index::Continuations;
use super::{Continuation, after, is_any_unfinished, withdraw};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::run::entry::Entry;
use crate::run::outcome_file::read_outcome;
use crate::run::workbench::Workbench;

/// Forgets what is over, and makes links that are missing; returns what could not be done. The caller holds the lock of a sweep, so
/// that no workbench is in the trash only for a moment.
pub(crate) fn tidy(home: &Home) -> Vec<FileError> {
    match Continuations::read(home) {
        Ok(known) if known.is_empty() => Vec::new(),
        Ok(known) => tidy_all(home, &known),
        Err(error) => vec![error],
    }
}

fn tidy_all(home: &Home, known: &Continuations) -> Vec<FileError> {
    // Held, a claim is under way; the next sweep looks again.
    let Ok(_lock) = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, Duration::ZERO) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    // The last ones first: a chain that lacks its beginning would not be found any more.
    for one in known.iter().rev() {
        // Before the lock was there, another run may have taken the place of one that never came to be.
        if !after(home, &one.continues).is_ok_and(|now| now.as_ref() == Some(one)) {
            continue;
        }
        let done = if is_over(home, one) { withdraw(home, &one.run, &one.continues) } else { one.link(home) };
        errors.extend(done.err());
    }
    errors
}

/// Whether nobody needs to know of a continuation: its workbench is gone, or its process died before its run came to be.
fn is_over(home: &Home, one: &Continuation) -> bool {
    let workbench = Workbench::named(home, &one.workbench);
    let is_gone = workbench.directory().symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_gone {
        // In this order: a process that records an end may make the workbench again before the entry goes.
        return !is_any_unfinished(home, &one.workbench)
            && workbench.directory().symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    }
    // The history may have dropped the line of one that came to be, whose outcome is there.
    !Entry::of(home, &one.run).exists() && read_outcome(&workbench, &one.continues).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::continuation::is_continued;
    use crate::run::id::RunId;
    use crate::run::outcome_file::write_outcome;
    use crate::run::record::Outcome;
    use crate::run::status::Status;

    fn id(text: &str) -> RunId {
        text.parse().unwrap()
    }

    fn known(home: &Home) -> usize {
        Continuations::read(home).unwrap().iter().count()
    }

    /// A home in which a-1 ended, and a-5 continues it, and a-9 that.
    fn chain() -> (tempfile::TempDir, Home, Workbench) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::named(&home, &id("a-1"));
        workbench.make().unwrap();
        for (run, before) in [("a-5", "a-1"), ("a-9", "a-5")] {
            let claimed = Continuation::now(&id(run), &id(before), &id("a-1"));
            assert!(claimed.create(&home).unwrap());
            claimed.link(&home).unwrap();
        }
        (dir, home, workbench)
    }

    fn ended(home: &Home, run: &str) {
        let workbench = (run != "a-1").then(|| id("a-1"));
        write_outcome(home, &Outcome { workbench, ..Outcome::example(run, Status::Succeeded) }).unwrap();
    }

    #[test]
    fn a_chain_is_forgotten_with_its_workbench_and_not_before() {
        let (_dir, home, workbench) = chain();
        ended(&home, "a-9");
        std::fs::remove_file(home.workbenches().join("a-5")).unwrap();
        assert!(tidy(&home).is_empty() && known(&home) == 2);
        assert_eq!(Workbench::of(&home, &id("a-5")).directory(), workbench.directory(), "its link is there again");
        std::fs::remove_dir_all(workbench.directory()).unwrap();
        std::fs::create_dir(Entry::of(&home, &id("a-9")).directory()).unwrap();
        assert!(tidy(&home).is_empty() && known(&home) == 2, "it is unfinished");
        std::fs::remove_dir(Entry::of(&home, &id("a-9")).directory()).unwrap();
        assert!(tidy(&home).is_empty() && known(&home) == 0);
        assert_eq!(std::fs::read_dir(home.workbenches()).unwrap().count(), 0);
    }

    #[test]
    fn a_continuation_that_never_came_to_be_is_forgotten() {
        let (_dir, home, _) = chain();
        ended(&home, "a-5");
        let entry = Entry::of(&home, &id("a-9"));
        std::fs::create_dir(entry.directory()).unwrap();
        assert!(tidy(&home).is_empty() && is_continued(&home, &id("a-5")), "it lives");
        std::fs::remove_dir(entry.directory()).unwrap();
        assert!(tidy(&home).is_empty() && !is_continued(&home, &id("a-5")));
        assert!(home.workbenches().join("a-9").symlink_metadata().is_err());
        assert!(is_continued(&home, &id("a-1")), "its own came to be");
    }

    #[test]
    fn a_run_that_took_the_place_of_another_meanwhile_keeps_it() {
        let (_dir, home, _) = chain();
        ended(&home, "a-5");
        let before = Continuations::read(&home).unwrap();
        withdraw(&home, &id("a-9"), &id("a-5")).unwrap();
        let claimed = Continuation::now(&id("a-10"), &id("a-5"), &id("a-1"));
        assert!(claimed.create(&home).unwrap());
        assert!(tidy_all(&home, &before).is_empty());
        assert_eq!(after(&home, &id("a-5")).unwrap(), Some(claimed));
        assert!(home.workbenches().join("a-9").symlink_metadata().is_err());
    }
}
