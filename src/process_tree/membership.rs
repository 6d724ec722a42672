//! Who in a listing belongs to a run: pure functions over it.

use std::collections::{HashMap, HashSet};

use super::listed::{Listed, Mark};
use super::{Cookie, Process, ProcessId, Scan};

/// How the processes of a listing are connected.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Of two that had one pid, the younger.
    by_pid: HashMap<i32, ProcessId>,
    children: HashMap<ProcessId, Vec<ProcessId>>,
    carriers: HashMap<Cookie, Vec<ProcessId>>,
}

impl Links {
    pub(super) fn of(listed: &HashMap<ProcessId, Listed>) -> Self {
        let mut links = Self::default();
        for id in listed.keys() {
            let holder = links.by_pid.entry(id.pid).or_insert(*id);
            if holder.start < id.start {
                *holder = *id;
            }
        }
        for (id, process) in listed {
            if let Some(parent) = links.parent_of(process) {
                links.children.entry(parent).or_default().push(*id);
            }
            if let Some(cookie) = process.mark.cookie() {
                links.carriers.entry(cookie).or_default().push(*id);
            }
        }
        links
    }

    /// Returns the listed parent of a process. A "parent" that is younger has only got the pid of the parent, which is dead.
    fn parent_of(&self, process: &Listed) -> Option<ProcessId> {
        let parent = self.by_pid.get(&process.parent?)?;
        (parent.start <= process.process.id.start).then_some(*parent)
    }
}

impl Scan {
    /// Returns the processes of our own user that carry this cookie themselves, ourselves included.
    pub fn carriers(&self, cookie: &Cookie) -> Vec<Process> {
        let carriers = self.links.carriers.get(cookie).into_iter().flatten().filter_map(|id| self.listed.get(id));
        carriers.filter(|listed| listed.ours).map(|listed| listed.process.clone()).collect()
    }

    /// Returns every cookie that a living process carries.
    pub fn cookies(&self) -> HashSet<Cookie> {
        self.links.carriers.keys().copied().collect()
    }

    /// Returns every cookie that a living process carries, with those that do, whatever their user.
    pub fn all_carriers(&self) -> impl Iterator<Item = (&Cookie, &[ProcessId])> {
        self.links.carriers.iter().map(|(cookie, carriers)| (cookie, &**carriers))
    }

    /// Returns the processes that belong to the run with this cookie: those for which the nearest mark, at themselves or
    /// above, is the cookie, or one of the processes `known` to belong, such as the supervisor; never ourselves.
    pub fn members(&self, cookie: &Cookie, known: &HashSet<ProcessId>) -> Vec<Process> {
        let (ours, beyond) = self.members_by_user(cookie, known);
        [ours, beyond].concat()
    }

    /// Returns the same, those of our own user apart from those that run as another one, and that we never signal.
    pub(super) fn members_by_user(&self, cookie: &Cookie, known: &HashSet<ProcessId>) -> (Vec<Process>, Vec<Process>) {
        let members = self.family(cookie, known).into_iter().filter(|listed| listed.process.id.pid > 1);
        let (ours, beyond): (Vec<_>, Vec<_>) =
            members.filter(|listed| listed.process.id.pid != self.us).partition(|listed| listed.ours);
        let processes = |all: Vec<&Listed>| all.into_iter().map(|listed| listed.process.clone()).collect();
        (processes(ours), processes(beyond))
    }

    /// Returns whether we ourselves belong to the run with this cookie.
    pub fn includes_us(&self, cookie: &Cookie) -> bool {
        self.family(cookie, &HashSet::new()).iter().any(|listed| listed.process.id.pid == self.us)
    }

    /// Returns those members that do not carry the cookie, and are recognised by their parents alone.
    pub(super) fn unmarked_members(&self, cookie: &Cookie, known: &HashSet<ProcessId>) -> HashSet<ProcessId> {
        let family = self.family(cookie, known).into_iter();
        let unmarked = family.filter(|listed| listed.mark != Mark::Cookie(*cookie) && listed.mark != Mark::Unsettled);
        unmarked.map(|listed| listed.process.id).filter(|id| id.pid > 1 && id.pid != self.us).collect()
    }

    /// Goes down from those that carry the cookie or are known, to everyone below who carries no cookie of their own.
    fn family(&self, cookie: &Cookie, known: &HashSet<ProcessId>) -> Vec<&Listed> {
        let carriers = self.links.carriers.get(cookie).into_iter().flatten();
        let mut to_visit: Vec<&ProcessId> = carriers.chain(known).collect();
        let mut visited = HashSet::new();
        let mut family = Vec::new();
        while let Some(id) = to_visit.pop() {
            let Some(listed) = self.listed.get(id) else { continue };
            if listed.mark.cookie().is_some_and(|carried| carried != *cookie) || !visited.insert(id) {
                continue;
            }
            family.push(listed);
            to_visit.extend(self.links.children.get(id).into_iter().flatten());
        }
        family
    }

    /// Returns all processes below this one, whatever they carry.
    pub(super) fn below(&self, ancestor: ProcessId) -> Vec<Process> {
        let mut to_visit = vec![ancestor];
        let mut visited = HashSet::new();
        while let Some(id) = to_visit.pop() {
            if visited.insert(id) {
                to_visit.extend(self.links.children.get(&id).into_iter().flatten());
            }
        }
        visited.remove(&ancestor);
        visited.iter().filter_map(|id| self.listed.get(id)).map(|listed| listed.process.clone()).collect()
    }

    /// Returns the processes of our own user that may be of any run: they hide their environment, started
    /// at or after `since` (in the unit of [`ProcessId::start`], see `start_at`), and are orphans, or below such as
    /// these alone. An orphan's parent is gone, is the first process, or one of `reapers`, which take in orphans.
    ///
    /// What is below a process that shows its environment, or below another user's, is that one's business.
    pub fn hidden_orphans(&self, since: u64, reapers: &HashSet<i32>) -> Vec<Process> {
        let is_hidden = |listed: &Listed| listed.ours && listed.mark == Mark::Hidden;
        let is_orphan = |listed: &&Listed| {
            let mut at = *listed;
            // Bounded: a list that was not read at one instant could hold a circle.
            for _ in 0..=self.listed.len() {
                match self.links.parent_of(at).and_then(|parent| self.listed.get(&parent)) {
                    None => return true,
                    Some(parent) if parent.process.id.pid == 1 || reapers.contains(&parent.process.id.pid) => {
                        return true;
                    }
                    Some(parent) if is_hidden(parent) => at = parent,
                    Some(_) => return false,
                }
            }
            true
        };
        let recent = |listed: &&Listed| listed.process.id.start >= since && listed.process.id.pid != self.us;
        let hidden = self.listed.values().filter(|listed| is_hidden(listed) && listed.process.id.pid > 1);
        hidden.filter(recent).filter(is_orphan).map(|listed| listed.process.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: i32 = 50;

    fn cookie(number: u8) -> Cookie {
        format!("{number:032x}").parse().unwrap()
    }

    /// A process as old as its pid.
    fn listed(pid: i32, parent: i32, carried: Option<u8>) -> Listed {
        Listed {
            process: Process { id: id(pid), name: format!("p{pid}") },
            parent: (parent != 0).then_some(parent),
            mark: carried.map_or(Mark::Missing, |number| Mark::Cookie(cookie(number))),
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
        let listed = rows.into_iter().map(|row| (row.process.id, row)).collect();
        Scan { us: US, links: Links::of(&listed), listed }
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

    /// A process that hides its environment, as old as its pid.
    fn hidden(pid: i32, parent: i32) -> Listed {
        Listed { mark: Mark::Hidden, ..listed(pid, parent, None) }
    }

    #[test]
    fn members_without_the_mark_are_told_apart() {
        let rows = [listed(US, 1, Some(1)), listed(60, US, Some(1)), listed(61, 60, None), listed(62, 61, Some(2))];
        let scan = scan_of(rows.into_iter().chain([hidden(63, US), listed(64, 62, None), listed(65, 1, None)]));
        assert_eq!(scan.unmarked_members(&cookie(1), &known(&[US])), known(&[61, 63]));
        assert_eq!(pids(scan.below(id(60))), [61, 62, 64]);
    }

    #[test]
    fn a_hidden_orphan_may_be_anybodys() {
        let anothers = Listed { ours: false, ..hidden(80, 1) };
        let scan = scan_of([
            listed(1, 0, None),
            hidden(60, 1),
            hidden(61, 60),
            // Its parent is gone; and another one has got the pid of its parent.
            hidden(62, 59),
            hidden(63, 90),
            listed(90, 1, None),
            // Below a process that shows that it is another's, or nobody's; and one that shows itself.
            listed(70, 1, None),
            hidden(71, 70),
            hidden(72, 71),
            listed(73, 60, None),
            anothers,
            hidden(81, 80),
            listed(82, 1, Some(1)),
            hidden(83, 82),
        ]);
        let orphans = |since, reapers: &[i32]| pids(scan.hidden_orphans(since, &reapers.iter().copied().collect()));
        assert_eq!(orphans(0, &[]), [60, 61, 62, 63]);
        assert_eq!(orphans(61, &[]), [61, 62, 63], "those that started before are nobody's business");
        assert_eq!(orphans(64, &[]), [0; 0]);
        assert_eq!(
            orphans(0, &[70]),
            [60, 61, 62, 63, 71, 72],
            "a process that takes in orphans shows nothing of them"
        );
    }

    proptest! {
        /// Whatever the tree: a hidden orphan is hidden, and the first visible process above it, if there is one, is the
        /// first process or takes in orphans.
        #[test]
        fn a_hidden_orphan_has_nobody_visible_above_it(
            rows in proptest::collection::vec((45..75_i32, any::<bool>(), 0..3_u64), 0..30),
            reaper in 45..75_i32,
            since in 0..3_u64,
        ) {
            let scan = scan_of((45..).zip(&rows).map(|(pid, &(parent, hides, start))| {
                let mut row = if hides { hidden(pid, parent) } else { listed(pid, parent, None) };
                row.process.id.start = start;
                row
            }));
            let find = |pid: i32| scan.listed.values().find(|row| row.process.id.pid == pid);
            let parent_of = |row: &Listed| {
                find(row.parent?).filter(|parent| parent.process.id.start <= row.process.id.start)
            };
            let orphans = pids(scan.hidden_orphans(since, &HashSet::from([reaper])));
            for row in scan.listed.values().filter(|row| row.process.id.pid != US) {
                let mut above = row;
                let mut visited = HashSet::new();
                let is_one = loop {
                    match parent_of(above) {
                        _ if above.mark != Mark::Hidden => break false,
                        Some(parent) if parent.process.id.pid == reaper => break true,
                        Some(parent) if visited.insert(parent.process.id) => above = parent,
                        _ => break true,
                    }
                };
                let is_one = is_one && row.process.id.start >= since;
                prop_assert_eq!(orphans.contains(&row.process.id.pid), is_one, "{:?}", row);
            }
        }
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
                    prop_assert!(row.mark.cookie().is_none_or(|carried| carried == cookie(1)));
                    if row.mark.cookie().is_some() || known.contains(&row.process.id) {
                        break;
                    }
                    at = row.parent.and_then(find);
                }
            }
        }
    }
}
