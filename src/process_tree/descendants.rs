//! What is below a process, at a cost that grows with that alone.

use std::collections::HashSet;

use super::{Cookie, Process, ProcessId, Scan, ScanError};

/// Returns the living descendants of a process, whatever they carry.
pub fn descendants(of: ProcessId) -> Result<Vec<Process>, ScanError> {
    Ok(Scan::take_below(&HashSet::from([of]))?.below(of))
}

/// Returns the processes that belong to the run with this cookie and are below those that are known to, or are these; never
/// ourselves. It looks twice, because one look can miss a process that hands over to its child.
pub fn members_below(cookie: &Cookie, known: &HashSet<ProcessId>) -> Result<Vec<Process>, ScanError> {
    let members = Scan::take_below(known)?.members(cookie, known);
    Ok(both(members, Scan::take_below(known)?.members(cookie, known)))
}

/// Joins what two looks saw. A process that became another program in between is one, and the later sight counts.
fn both(mut earlier: Vec<Process>, later: Vec<Process>) -> Vec<Process> {
    let again: HashSet<ProcessId> = later.iter().map(|process| process.id).collect();
    earlier.retain(|process| !again.contains(&process.id));
    earlier.extend(later);
    earlier
}

/// Returns those descendants of this process that only their parents identify: they carry no cookie, or hide their
/// environment. Once this process is gone, they cannot be recognised.
pub fn unmarked_descendants(cookie: &Cookie) -> Result<HashSet<ProcessId>, ScanError> {
    let roots = HashSet::from([ProcessId::current()?]);
    Ok(Scan::take_below(&roots)?.unmarked_members(cookie, &roots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_tree::COOKIE_VARIABLE;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_that_becomes_another_program_is_one() {
        let process = |pid, name: &str| Process { id: ProcessId { pid, start: 1 }, name: name.to_owned() };
        let earlier = vec![process(7, "sh"), process(8, "sh")];
        let later = vec![process(8, "sleep"), process(9, "sh")];
        assert_eq!(both(earlier, later), [process(7, "sh"), process(8, "sleep"), process(9, "sh")]);
    }

    #[test]
    fn what_is_below_is_found_with_and_without_a_mark() {
        let (cookie, other) = (Cookie::random().unwrap(), Cookie::random().unwrap());
        let script = format!("env -i sleep 61 & MOADIM_COOKIE={other} sh -c 'env -i sleep 62; :' & sleep 63; :");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env(COOKIE_VARIABLE, cookie.to_string()).stdin(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let id = ProcessId::of(shell.id().try_into().unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let sleepers = || {
            let mut below = descendants(id).unwrap();
            below.retain(|process| process.name == "sleep");
            below
        };
        while sleepers().len() < 3 {
            assert!(Instant::now() < deadline, "not all are found: {:?}", descendants(id).unwrap());
        }
        let ours = descendants(ProcessId::current().unwrap()).unwrap();
        assert!(descendants(id).unwrap().iter().all(|process| ours.contains(process)) && !ours.is_empty());
        // Other tests have children of this process too.
        let below: HashSet<ProcessId> = descendants(id).unwrap().into_iter().map(|process| process.id).collect();
        let unmarked: Vec<ProcessId> = unmarked_descendants(&cookie).unwrap().intersection(&below).copied().collect();
        let marked = Scan::take().unwrap().members(&cookie, &HashSet::new());
        for process in descendants(id).unwrap() {
            process.id.signal(rustix::process::Signal::KILL).unwrap();
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(unmarked.len(), 1, "{unmarked:?}");
        assert!(marked.iter().any(|process| process.id == unmarked[0] && process.name == "sleep"));
        assert!(descendants(id).unwrap().is_empty());
    }
}
