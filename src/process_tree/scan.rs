//! Listings of processes.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use super::listed::{Listed, Mark};
use super::membership::Links;
use super::platform::{self, EXEC_LOOKS, Newcomers};
use super::{ProcessId, own_pid};

/// A process in the middle of exec(2) shows no environment; this much later it may have the new one.
const EXEC_MOMENT: Duration = Duration::from_millis(1);

/// How many looks at what was born meanwhile follow a listing: they are short, so that few can slip through all of them.
const GLIMPSES: usize = 20;

/// The processes could not be listed, so nothing may be concluded from it.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("cannot list the processes: {source}; what runs is unknown until that works")]
    Refused {
        #[from]
        source: io::Error,
    },
    /// Even we ourselves are missing, so others will be missing too.
    #[error("the list of processes lacks this program itself (pid {pid}); see that /proc is mounted and readable")]
    WithoutUs { pid: i32 },
}

/// One listing of living processes, taken at once and never refreshed.
///
/// A process that hands over to a child while the listing runs can be missed: what shows a run as dead is
/// [`Scan::take_twice`].
#[derive(Debug)]
pub struct Scan {
    pub(super) us: i32,
    pub(super) listed: HashMap<ProcessId, Listed>,
    pub(super) links: Links,
}

impl Scan {
    /// Lists the processes: some 20 ms for a thousand.
    pub fn take() -> Result<Self, ScanError> {
        list().map(Self::of)
    }

    /// Lists the processes twice, and returns what either list holds: what is in neither is dead.
    pub fn take_twice() -> Result<Self, ScanError> {
        let mut both = list()?;
        list()?.listed.into_values().for_each(|process| both.note(process));
        Ok(Self::of(both))
    }

    /// Lists these processes and all that is below them, at a cost that grows with those alone. Where the system does not
    /// show the children of a process, all processes are listed.
    pub(super) fn take_below(roots: &HashSet<ProcessId>) -> Result<Self, ScanError> {
        if !platform::shows_children() {
            return Self::take();
        }
        let mut listing = Listing::default();
        let mut dead = HashSet::new();
        // The children of one that ended meanwhile have become those of another, who may have been looked at before.
        for _ in 0..GLIMPSES {
            if !listing.note_tree(roots, &mut dead)? {
                break;
            }
        }
        listing.settle()?;
        // Without it, nothing of the above was seen.
        ProcessId::current()?;
        Ok(Self::of(listing))
    }

    fn of(listing: Listing) -> Self {
        Self { us: own_pid(), links: Links::of(&listing.listed), listed: listing.listed }
    }
}

fn list() -> Result<Listing, ScanError> {
    let mut newcomers = Newcomers::from_now();
    let mut listing = Listing::default();
    platform::list(&mut |process| listing.note(process))?;
    listing.settle()?;
    for _ in 0..GLIMPSES {
        for pid in newcomers.pids() {
            platform::glimpse(pid)?.into_iter().for_each(|process| listing.note(process));
        }
    }
    listing.settle()?;
    let us = own_pid();
    if listing.listed.keys().any(|id| id.pid == us) { Ok(listing) } else { Err(ScanError::WithoutUs { pid: us }) }
}

#[derive(Default)]
struct Listing {
    listed: HashMap<ProcessId, Listed>,
}

impl Listing {
    /// Adds what was seen of a process; if it was seen before, the later sight counts.
    fn note(&mut self, mut seen: Listed) {
        if let Some(before) = self.listed.get(&seen.process.id) {
            seen.mark = seen.mark.or_before(before.mark);
        }
        self.listed.insert(seen.process.id, seen);
    }

    /// Adds the roots and all that is below them; returns whether one of these has died that is not among the `dead` yet.
    fn note_tree(&mut self, roots: &HashSet<ProcessId>, dead: &mut HashSet<i32>) -> io::Result<bool> {
        let mut to_visit: Vec<i32> = roots.iter().map(|root| root.pid).collect();
        let mut visited = HashSet::new();
        let mut anyone_died = false;
        while let Some(pid) = to_visit.pop() {
            if !visited.insert(pid) {
                continue;
            }
            match platform::look_with_children(pid)? {
                // A pid of a root that was given to another process.
                Some((seen, _)) if roots.iter().any(|root| root.pid == pid) && !roots.contains(&seen.process.id) => {}
                Some((seen, children)) => {
                    self.note(seen);
                    to_visit.extend(children);
                }
                None => anyone_died |= dead.insert(pid),
            }
        }
        Ok(anyone_died)
    }

    /// Looks again at those that are in the middle of exec(2), until they show what they are.
    fn settle(&mut self) -> io::Result<()> {
        for _ in 0..EXEC_LOOKS {
            let unsettled: Vec<ProcessId> = self.unsettled().map(|process| process.process.id).collect();
            if unsettled.is_empty() {
                return Ok(());
            }
            std::thread::sleep(EXEC_MOMENT);
            for id in unsettled {
                match platform::glimpse(id.pid)? {
                    Some(seen) if seen.process.id == id => self.note(seen),
                    // It is gone.
                    seen => {
                        seen.into_iter().for_each(|other| self.note(other));
                        self.listed.entry(id).and_modify(|process| process.mark = Mark::Missing);
                    }
                }
            }
        }
        self.unsettled().for_each(|process| process.mark = Mark::Missing);
        Ok(())
    }

    fn unsettled(&mut self) -> impl Iterator<Item = &mut Listed> {
        self.listed.values_mut().filter(|process| process.mark == Mark::Unsettled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_tree::{Cookie, Process};
    use std::time::Instant;

    fn pids(processes: Vec<Process>) -> Vec<i32> {
        processes.into_iter().map(|process| process.id.pid).collect()
    }

    #[test]
    fn a_later_look_counts_but_loses_no_cookie() {
        let cookie = |number: u8| Mark::Cookie(format!("{number:032x}").parse().unwrap());
        let looks = [
            [Mark::Missing, Mark::Hidden, Mark::Hidden],
            [Mark::Hidden, cookie(1), cookie(1)],
            [cookie(1), Mark::Missing, cookie(1)],
            [cookie(1), Mark::Unsettled, cookie(1)],
            [cookie(1), cookie(2), cookie(2)],
            [Mark::Unsettled, Mark::Missing, Mark::Missing],
        ];
        for [first, second, both] in looks {
            let id = ProcessId { pid: 60, start: 60 };
            let process = Process { id, name: "p".to_owned() };
            let seen = |mark| Listed { process: process.clone(), parent: Some(1), mark, ours: true };
            let mut listing = Listing::default();
            listing.note(seen(first));
            listing.note(seen(second));
            assert_eq!(listing.listed[&id].mark, both);
        }
    }

    #[test]
    fn a_real_list_holds_us_and_a_child_with_its_cookie() {
        let mark = Cookie::random().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(crate::process_tree::COOKIE_VARIABLE, mark.to_string())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // In the midst of its exec it shows no cookie.
        let deadline = Instant::now() + Duration::from_secs(20);
        while Scan::take().unwrap().carriers(&mark).is_empty() && Instant::now() < deadline {}
        let scan = Scan::take_twice().unwrap();
        assert_eq!(pids(scan.carriers(&mark)), [pid]);
        assert_eq!(scan.carriers(&mark)[0].id, ProcessId::of(pid).unwrap());
        assert_eq!(scan.carriers(&mark)[0].name, "sleep");
        assert!(scan.cookies().contains(&mark));
        let ours = ProcessId::current().unwrap();
        assert!(scan.listed.contains_key(&ours));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Scan::take_twice().unwrap().carriers(&mark).is_empty());
    }
}
