//! Telling a person of runs whose state stays unknown: `on_attention`, once for each run, whichever process sees it first.

use std::collections::BTreeSet;

use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::home::{self, Home, names};
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::hook;
use crate::run::id::RunId;
use crate::run::janitor_status::JanitorStatus;
use crate::run::record::Outcome;
use crate::run::status::Hook;

/// Starts `on_attention` for those of the `unknown` that were so at the pass before as well: a doubt often ends by itself.
///
/// # Errors
/// Cannot note that a person was called, and so calls none.
pub(super) fn call_for(context: &Context, status: &JanitorStatus, unknown: &[Outcome]) -> Result<(), FileError> {
    let lasting = status.stay_unknown(unknown.iter().map(|run| run.id.clone()).collect());
    let directory = context.home.attention();
    for run in unknown.iter().filter(|run| lasting.contains(&run.id)) {
        let mark = directory.join(run.id.to_string());
        if mark.exists() || !Hook::Attention.is_set(context, &run.id) {
            continue;
        }
        home::make_directory(&directory).map_err(|source| FileError::io("make", &directory, source))?;
        // One process makes it.
        if atomic_file::write_once(&mark, format!("{}\n", UnixSeconds::now()).as_bytes())? {
            hook::start_attention(context, run);
        }
    }
    Ok(())
}

/// Removes the marks of runs that are over.
pub(super) fn remove_stale(home: &Home) {
    let directory = home.attention();
    let mut marked = BTreeSet::new();
    // The folder is missing until somebody was called.
    let _ = names::scan(&directory, |name, _| marked.extend(name.parse::<RunId>()));
    for run in marked.into_iter().filter(|run| !Entry::of(home, run).exists()) {
        if let Err(error) = std::fs::remove_file(directory.join(run.to_string())) {
            tracing::debug!(%error, %run, "cannot remove the mark of a run that is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_until_its_run_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        remove_stale(&home);
        let run: RunId = "a-1".parse().unwrap();
        let entry = Entry::of(&home, &run);
        std::fs::create_dir(entry.directory()).unwrap();
        std::fs::create_dir(home.attention()).unwrap();
        for name in ["a-1", "b-1", "a person's"] {
            std::fs::write(home.attention().join(name), "").unwrap();
        }
        let left = || ["a-1", "b-1", "a person's"].map(|name| home.attention().join(name).exists());
        remove_stale(&home);
        assert_eq!(left(), [true, false, true]);
        std::fs::remove_dir(entry.directory()).unwrap();
        remove_stale(&home);
        assert_eq!(left(), [false, false, true]);
    }
}
