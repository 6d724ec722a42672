//! One listing of the processes, and who in it belongs to a run.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rustix::process::geteuid;
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, ThreadKind, UpdateKind};

use super::platform::{Newcomers, Starts, glimpse};
use super::{Cookie, Process, ProcessId, own_pid};

/// A process in the middle of exec(2) shows an empty environment; this much later it has the new one.
const EXEC_MOMENT: Duration = Duration::from_millis(1);

/// How many looks at what was born meanwhile follow a listing: they are short, so that few can slip through all of them.
const GLIMPSES: usize = 20;

/// The processes could not be listed, so nothing may be concluded from it.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The system refused.
    #[error("cannot list the processes: {source}; what runs is unknown until that works")]
    Refused {
        /// The system's word.
        source: sysinfo::Error,
    },
    /// Even we ourselves are missing, so others will be missing too.
    #[error("the list of processes lacks this program itself (pid {pid}); see that /proc is mounted and readable")]
    WithoutUs {
        /// Our pid.
        pid: i32,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) process: Process,
    pub(super) parent: Option<i32>,
    pub(super) cookie: Option<Cookie>,
    /// Whether it runs as our own effective user; others are never signalled.
    pub(super) ours: bool,
}

/// One listing of all living processes, taken at once and never refreshed.
///
/// A process that hands over to a child while the listing runs can be missed: what shows a run as dead is
/// [`Scan::take_twice`].
#[derive(Debug)]
pub struct Scan {
    us: i32,
    listed: HashMap<ProcessId, Listed>,
}

impl Scan {
    /// Lists the processes: a few milliseconds.
    ///
    /// # Errors
    /// The system refused, or a list without ourselves.
    pub fn take() -> Result<Self, ScanError> {
        let mut newcomers = Newcomers::from_now();
        let starts = Starts::read();
        let mut system = System::new().map_err(|source| ScanError::Refused { source })?;
        let wanted = ProcessRefreshKind::nothing()
            .without_tasks()
            .with_user(UpdateKind::OnlyIfNotSet)
            .with_environ(UpdateKind::OnlyIfNotSet);
        system.refresh_processes_specifics(starts.to_list(), true, wanted);
        let bare: Vec<_> = system.processes().values().filter(|p| is_bare(p)).map(sysinfo::Process::pid).collect();
        if !bare.is_empty() {
            std::thread::sleep(EXEC_MOMENT);
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&bare), true, wanted);
        }
        let mut scan = Self { us: own_pid(), listed: HashMap::new() };
        let listed = system.processes().values().filter_map(|p| Listed::read(p, |pid| starts.of(pid, p)));
        listed.for_each(|process| scan.note(process));
        for _ in 0..GLIMPSES {
            newcomers.pids().filter_map(glimpse).for_each(|process| scan.note(process));
        }
        if scan.listed.keys().any(|id| id.pid == scan.us) {
            Ok(scan)
        } else {
            Err(ScanError::WithoutUs { pid: scan.us })
        }
    }

    /// Lists the processes twice, and returns what either list holds: what is in neither is dead.
    ///
    /// # Errors
    /// As for [`Scan::take`].
    pub fn take_twice() -> Result<Self, ScanError> {
        let first = Self::take()?;
        Ok(first.joined_with(Self::take()?))
    }

    fn joined_with(mut self, later: Self) -> Self {
        later.listed.into_values().for_each(|process| self.note(process));
        self
    }

    /// Adds what was seen of a process; if it was seen before, the later sight counts, except that a cookie is not lost
    /// in the moment of an exec.
    fn note(&mut self, mut seen: Listed) {
        let before = self.listed.get(&seen.process.id);
        seen.cookie = seen.cookie.or(before.and_then(|before| before.cookie));
        self.listed.insert(seen.process.id, seen);
    }

    /// Returns the processes of our own user that carry this cookie themselves, ourselves included.
    #[must_use]
    pub fn carriers(&self, cookie: &Cookie) -> Vec<Process> {
        let carries = |listed: &&Listed| listed.ours && listed.cookie.as_ref() == Some(cookie);
        self.listed.values().filter(carries).map(|listed| listed.process.clone()).collect()
    }

    /// Returns every cookie that a living process carries.
    #[must_use]
    pub fn cookies(&self) -> HashSet<Cookie> {
        self.listed.values().filter_map(|listed| listed.cookie).collect()
    }

    /// Returns the processes by their pid; of two that had one, the younger.
    fn by_pid(&self) -> HashMap<i32, &Listed> {
        let mut by_pid: HashMap<i32, &Listed> = HashMap::new();
        for listed in self.listed.values() {
            let holder = by_pid.entry(listed.process.id.pid).or_insert(listed);
            if holder.process.id.start < listed.process.id.start {
                *holder = listed;
            }
        }
        by_pid
    }

    /// Returns the processes that belong to the run with this cookie: those for which the nearest mark, at themselves or
    /// above, is the cookie, or one of the processes `known` to belong, such as the supervisor; never ourselves.
    #[must_use]
    pub fn members(&self, cookie: &Cookie, known: &HashSet<ProcessId>) -> Vec<Process> {
        let (ours, beyond) = self.members_by_user(cookie, known);
        [ours, beyond].concat()
    }

    /// Returns the same, those of our own user apart from those that run as another one, and that we never signal.
    pub(super) fn members_by_user(&self, cookie: &Cookie, known: &HashSet<ProcessId>) -> (Vec<Process>, Vec<Process>) {
        let by_pid = self.by_pid();
        let belongs = |listed: &&Listed| {
            let id = listed.process.id;
            id.pid > 1 && id.pid != self.us && nearest_mark_is(cookie, known, listed, &by_pid)
        };
        let (ours, beyond): (Vec<&Listed>, Vec<&Listed>) =
            self.listed.values().filter(belongs).partition(|listed| listed.ours);
        let processes = |all: Vec<&Listed>| all.into_iter().map(|listed| listed.process.clone()).collect();
        (processes(ours), processes(beyond))
    }
}

fn nearest_mark_is(
    cookie: &Cookie,
    known: &HashSet<ProcessId>,
    listed: &Listed,
    by_pid: &HashMap<i32, &Listed>,
) -> bool {
    let mut at = listed;
    // Bounded, for a list that was not read at one instant could hold a circle.
    for _ in 0..=by_pid.len() {
        if let Some(carried) = &at.cookie {
            return carried == cookie;
        }
        if known.contains(&at.process.id) {
            return true;
        }
        match at.parent.and_then(|parent| by_pid.get(&parent)) {
            // A "parent" that is younger than its child has only got the pid of the parent, which is dead.
            Some(parent) if parent.process.id.start <= at.process.id.start => at = parent,
            _ => return false,
        }
    }
    false
}

impl Listed {
    /// Reads what was listed of a process, unless it has no start time, for it is dead.
    pub(super) fn read(process: &sysinfo::Process, start_of: impl FnOnce(i32) -> Option<u64>) -> Option<Self> {
        let pid = signed(process.pid())?;
        let start = start_of(pid)?;
        Some(Self {
            process: Process { id: ProcessId { pid, start }, name: process.name().to_string_lossy().into_owned() },
            parent: process.parent().and_then(signed),
            cookie: Cookie::in_environment(process.environ().iter().map(AsRef::as_ref)),
            ours: is_ours(process),
        })
    }
}

fn signed(pid: sysinfo::Pid) -> Option<i32> {
    i32::try_from(pid.as_u32()).ok()
}

fn is_ours(process: &sysinfo::Process) -> bool {
    process.effective_user_id().is_some_and(|uid| **uid == geteuid().as_raw())
}

/// Whether this process of ours shows no environment, as in the middle of exec(2).
fn is_bare(process: &sysinfo::Process) -> bool {
    process.environ().is_empty()
        && process.pid().as_u32() > 1
        && process.thread_kind() != Some(ThreadKind::Kernel)
        && process.status() != ProcessStatus::Zombie
        && is_ours(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    const US: i32 = 50;

    fn cookie(number: u8) -> Cookie {
        format!("{number:032x}").parse().unwrap()
    }

    /// A process as old as its pid.
    fn listed(pid: i32, parent: i32, carried: Option<u8>) -> Listed {
        Listed {
            process: Process { id: id(pid), name: format!("p{pid}") },
            parent: (parent != 0).then_some(parent),
            cookie: carried.map(cookie),
            ours: true,
        }
    }

    fn id(pid: i32) -> ProcessId {
        ProcessId { pid, start: u64::try_from(pid).unwrap() }
    }

    fn known(pids: &[i32]) -> HashSet<ProcessId> {
        pids.iter().copied().map(id).collect()
    }

    fn scan(rows: &[(i32, i32, Option<u8>)]) -> Scan {
        scan_of(rows.iter().map(|&(pid, parent, carried)| listed(pid, parent, carried)))
    }

    fn scan_of(rows: impl IntoIterator<Item = Listed>) -> Scan {
        Scan { us: US, listed: rows.into_iter().map(|row| (row.process.id, row)).collect() }
    }

    fn pids(processes: Vec<Process>) -> Vec<i32> {
        let mut pids: Vec<i32> = processes.into_iter().map(|process| process.id.pid).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn carriers_their_descendants_and_those_of_the_supervisor_belong() {
        let scan = scan(&[
            (1, 0, None),
            (60, 1, None),
            (61, 60, Some(1)),
            (62, 61, None),
            (63, 60, None),
            (70, 1, Some(1)),
            (80, 1, None),
        ]);
        assert_eq!(pids(scan.members(&cookie(1), &known(&[60]))), [60, 61, 62, 63, 70]);
        assert_eq!(pids(scan.members(&cookie(1), &known(&[]))), [61, 62, 70]);
        assert_eq!(pids(scan.carriers(&cookie(1))), [61, 70]);
    }

    #[test]
    fn a_subtree_with_another_cookie_is_spared_except_for_what_carries_ours() {
        let scan = scan(&[
            (60, 1, Some(1)),
            (61, 60, None),
            (62, 61, Some(2)),
            (63, 62, None),
            (64, 63, Some(1)),
            (65, 64, None),
        ]);
        assert_eq!(pids(scan.members(&cookie(1), &known(&[]))), [60, 61, 64, 65]);
        assert_eq!(pids(scan.members(&cookie(2), &known(&[]))), [62, 63]);
        assert_eq!(scan.cookies(), HashSet::from([cookie(1), cookie(2)]));
    }

    #[test]
    fn we_are_never_chosen_but_what_is_below_us_is() {
        let scan = scan(&[(1, 0, Some(1)), (US, 1, None), (51, US, None), (52, US, Some(1)), (53, US, Some(2))]);
        assert_eq!(pids(scan.members(&cookie(1), &known(&[US]))), [51, 52]);
    }

    #[test]
    fn a_supervisor_with_a_recycled_pid_or_another_cookie_is_none() {
        let scan = scan(&[(60, 1, None), (61, 60, None), (70, 1, Some(2)), (71, 70, None)]);
        let former = ProcessId { start: 59, ..id(60) };
        assert!(scan.members(&cookie(1), &HashSet::from([former])).is_empty());
        assert!(scan.members(&cookie(1), &known(&[70])).is_empty());
    }

    #[test]
    fn a_younger_parent_is_no_parent_and_a_circle_ends() {
        let scan = scan(&[(60, 61, None), (61, 1, Some(1))]);
        assert_eq!(pids(scan.members(&cookie(1), &known(&[]))), [61]);
        let mut circle = [listed(70, 71, None), listed(71, 70, None)];
        circle[1].process.id.start = 70;
        assert!(scan_of(circle).members(&cookie(1), &known(&[])).is_empty());
    }

    #[test]
    fn another_users_process_belongs_and_is_told_apart() {
        let mut scan = scan(&[(60, 1, Some(1)), (61, 60, None), (62, 61, None), (63, 1, Some(3))]);
        for pid in [61, 63] {
            scan.listed.get_mut(&id(pid)).unwrap().ours = false;
        }
        let (ours, beyond) = scan.members_by_user(&cookie(1), &known(&[]));
        assert_eq!((pids(ours), pids(beyond)), (vec![60, 62], vec![61]));
        assert_eq!(pids(scan.members(&cookie(1), &known(&[]))), [60, 61, 62]);
        assert_eq!(scan.cookies(), HashSet::from([cookie(1), cookie(3)]));
    }

    #[test]
    fn what_either_list_holds_is_alive() {
        let first = scan(&[(60, 1, Some(1)), (61, 1, Some(2)), (62, 1, None)]);
        let second = scan(&[(61, 1, None), (62, 1, Some(3)), (63, 1, Some(4))]);
        let both = first.joined_with(second);
        assert_eq!(both.cookies(), [1, 2, 3, 4].map(cookie).into());
        assert_eq!(both.listed.len(), 4);
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

    proptest! {
        /// Whatever the tree, circles included: a chosen process has no other cookie at itself, and climbing from it
        /// our cookie or a known process comes before any other cookie.
        #[test]
        fn nothing_of_another_run_is_ever_chosen(
            rows in proptest::collection::vec((45..75_i32, proptest::option::weighted(0.3, 1..4_u8), 0..3_u64), 0..30),
            known in proptest::collection::vec(45..75_i32, 0..3),
        ) {
            let scan = scan_of((45..).zip(&rows).map(|(pid, &(parent, carried, start))| {
                let mut row = listed(pid, parent, carried);
                row.process.id.start = start;
                row
            }));
            let find = |pid: i32| scan.listed.values().find(|row| row.process.id.pid == pid);
            let known: HashSet<ProcessId> = known.into_iter().filter_map(find).map(|row| row.process.id).collect();
            for chosen in scan.members(&cookie(1), &known) {
                prop_assert_ne!(chosen.id.pid, US);
                let mut at = find(chosen.id.pid);
                loop {
                    let row = at.expect("a mark at or above each chosen process");
                    prop_assert!(row.cookie.is_none_or(|carried| carried == cookie(1)));
                    if row.cookie.is_some() || known.contains(&row.process.id) {
                        break;
                    }
                    at = row.parent.and_then(find);
                }
            }
        }
    }
}
