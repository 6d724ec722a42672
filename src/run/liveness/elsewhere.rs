//! Runs that Slurm placed: their processes cannot be seen from here, so their records and Slurm's answers decide.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::Liveness;
use crate::clock::UnixSeconds;
use crate::engine::slurm::{
    Check, Facts, Freshness, Job, JobEnd, JobState, Look, Node, Seen, Slurm, Verdict, check_job_name, decide,
    run_job_name,
};
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::record::{JobOrder, Manifest, RecordError, SlurmJob};

/// How old Slurm's answer may be for a call that waits for one. The watchdog asks before each pass.
const RECENT: Duration = Duration::from_secs(2);

/// A caller that waits less for judges does not wait for Slurm.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// What is known of the job of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Its job; `None` of a run that is none, or of which Slurm said nothing yet.
    pub job: Option<SlurmJob>,
    /// How that ended, if it did.
    pub end: Option<JobEnd>,
    /// The node that only a job there can tell more of.
    pub needs_check: Option<String>,
}

/// The facts about runs that Slurm placed, as they were before their locks were taken.
pub(super) struct Elsewhere(HashMap<RunId, Known>);

pub(super) struct Known {
    /// The job and the node of the supervisor that has it.
    taken: Option<(String, String)>,
    seen: Seen,
    node: Node,
    tracks_by_cgroup: bool,
    check: Check,
    fenced_secs: Option<u64>,
}

impl Elsewhere {
    /// Asks Slurm about those runs that it placed, once for all of them. A caller that cannot wait gets what is known.
    pub(super) fn ask(
        context: &Context,
        entries: &[(Result<Manifest, RecordError>, Entry)],
        timeout: Duration,
    ) -> Self {
        let placed = |(manifest, entry): &'_ (Result<Manifest, RecordError>, Entry)| {
            let order = manifest.as_ref().ok()?.job.clone()?;
            Some((entry.clone(), order))
        };
        let placed: Vec<(Entry, JobOrder)> = entries.iter().filter_map(placed).collect();
        if placed.is_empty() {
            return Self(HashMap::new());
        }
        let may_wait = timeout >= LEAST_WAIT;
        let slurm = context.slurm();
        let look = slurm.look(if may_wait { Freshness::Within(RECENT) } else { Freshness::Known });
        let known = placed.into_iter().map(|(entry, order)| {
            let mut known = Known::of(&slurm, &look, &entry, &order);
            known.fenced_secs = context.config.slurm_fenced_secs;
            (entry.id().clone(), known)
        });
        let mut known: HashMap<RunId, Known> = known.collect();
        if may_wait {
            ask_about_nodes(&slurm, known.values_mut().filter(|one| one.depends_on_node()).collect());
        }
        Self(known)
    }

    /// Returns what is known of a run; `None` if Slurm did not place it.
    pub(super) fn take(&mut self, run: &RunId) -> Option<Known> {
        self.0.remove(run)
    }
}

/// Asks which nodes answer, and how Slurm tracks processes: only where that decides.
fn ask_about_nodes(slurm: &Slurm, runs: Vec<&mut Known>) {
    let nodes: BTreeSet<&str> = runs.iter().filter_map(|one| Some(one.taken.as_ref()?.1.as_str())).collect();
    let nodes: Vec<&str> = nodes.into_iter().filter(|node| !node.is_empty()).collect();
    if nodes.is_empty() {
        return;
    }
    // What is not answered counts as not known.
    let answering = slurm.answering(&nodes).unwrap_or_default();
    let tracks_by_cgroup = slurm.tracks_by_cgroup().unwrap_or(false);
    for one in runs {
        let answers = one.taken.as_ref().and_then(|(_, node)| answering.get(node)).copied();
        one.node = if answers == Some(true) { Node::Answers } else { Node::Silent };
        one.tracks_by_cgroup = tracks_by_cgroup;
    }
}

impl Known {
    fn of(slurm: &Slurm, look: &Result<Look, String>, entry: &Entry, order: &JobOrder) -> Self {
        let run = entry.id().to_string();
        let seen = slurm.seen(look, &run_job_name(&run), &order.token);
        let (taken, seen) = match taken_by(entry) {
            Ok(taken) => (taken, seen),
            // It may say who has the run.
            Err(cause) => (None, Seen::NoAnswer(cause)),
        };
        let check = check_of(&slurm.seen(look, &check_job_name(&run), &order.token));
        Self { taken, seen, node: Node::Silent, tracks_by_cgroup: false, check, fenced_secs: None }
    }

    /// Whether it matters if its node answers: something took it, and its job is not known to be alive.
    fn depends_on_node(&self) -> bool {
        let is_alive = |job: &Job| !matches!(job.state, JobState::Over(_));
        match (&self.taken, &self.seen) {
            (None, _) | (_, Seen::NoAnswer(_)) => false,
            (Some(_), Seen::Absent { .. }) => true,
            (Some((id, _)), Seen::Jobs(jobs)) => !jobs.iter().any(|job| job.id == *id && is_alive(job)),
        }
    }

    /// Returns its job: that of its supervisor, else the newest.
    fn job(&self) -> Option<&Job> {
        let Seen::Jobs(jobs) = &self.seen else { return None };
        let own = self.taken.as_ref().and_then(|(id, _)| jobs.iter().find(|job| job.id == *id));
        own.or_else(|| jobs.last().filter(|_| self.taken.is_none()))
    }

    /// Decides about it, once its lock is found to be free and is held. Records that came since then leave it alive until the next
    /// look.
    pub(super) fn decide(self, entry: &Entry) -> (Liveness, Placed) {
        let placed = self.placed(entry);
        match entry.gone() {
            Ok(Some(_)) => return (Liveness::Dead, placed),
            Ok(None) => {}
            Err(error) => return (Liveness::Unknown(error.to_string()), placed),
        }
        if taken_by(entry).as_ref() != Ok(&self.taken) {
            return (Liveness::Elsewhere("a supervisor has just taken it".to_owned()), placed);
        }
        let facts = Facts {
            taken: self.taken.as_ref().map(|(job, node)| (job.as_str(), node.as_str())),
            seen: &self.seen,
            node: self.node,
            tracks_by_cgroup: self.tracks_by_cgroup,
            check: &self.check,
            fenced_secs: self.fenced_secs,
            now: UnixSeconds::now(),
        };
        match decide(&facts) {
            Verdict::Queued(words) => (Liveness::Queued(words), placed),
            Verdict::Alive(words) => (Liveness::Elsewhere(words), placed),
            Verdict::Gone(_) => (Liveness::Dead, placed),
            Verdict::Unknown(cause) => (Liveness::Unknown(cause), placed),
            Verdict::NeedsCheck { node } => {
                let cause = format!("what is left of it on {node} must be checked there");
                (Liveness::Unknown(cause), Placed { needs_check: Some(node), ..placed })
            }
        }
    }

    /// Returns what is known of its job, whatever follows from it.
    pub(super) fn placed(&self, entry: &Entry) -> Placed {
        let Some(job) = self.job() else {
            let id = entry.job().and_then(|submitted| submitted.job);
            let (id, node) = match &self.taken {
                Some((id, node)) => (Some(id.clone()), Some(node.clone())),
                None => (id, None),
            };
            let job = id.map(|id| SlurmJob { id, node, partition: None, state: None });
            return Placed { job, ..Placed::default() };
        };
        let end = match job.state {
            JobState::Over(end) => Some(end),
            _ => None,
        };
        let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        // Its supervisor knows it first, and where Slurm starts the job again, the run stays there.
        let node = self.taken.as_ref().and_then(|(_, node)| filled(node)).or_else(|| filled(&job.node));
        let shown = SlurmJob {
            id: job.id.clone(),
            node,
            partition: filled(&job.partition),
            state: Some(job.state_name.clone()).filter(|_| end != Some(JobEnd::Completed)),
        };
        Placed { job: Some(shown), end, needs_check: None }
    }
}

/// Returns the job and the node of the supervisor that has a run.
fn taken_by(entry: &Entry) -> Result<Option<(String, String)>, String> {
    let taken = entry.supervisor().map_err(|error| error.to_string())?;
    let place = taken.map(|taken| taken.job.map(|job| (job.id, job.node.unwrap_or_default())).unwrap_or_default());
    Ok(place)
}

fn check_of(seen: &Seen) -> Check {
    let Seen::Jobs(jobs) = seen else { return Check::None };
    let pending = jobs.iter().rev().find(|job| !matches!(job.state, JobState::Over(_)));
    match pending {
        Some(job) if job.state == JobState::Waiting => Check::Pending(job.waits_because()),
        Some(_) => Check::Pending("is under way".to_owned()),
        None => Check::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;

    #[test]
    fn a_run_is_where_its_supervisor_is_whatever_slurm_says_yet() {
        let directory = tempfile::tempdir().unwrap();
        let entry = Entry::of(&Home::open(directory.path().join("home")).unwrap(), &"a-1780000000".parse().unwrap());
        let waiting = |node: &str| {
            Seen::Jobs(vec![Job {
                id: "7".to_owned(),
                state: JobState::Waiting,
                state_name: "PENDING".to_owned(),
                node: node.to_owned(),
                partition: "main".to_owned(),
                reason: "None".to_owned(),
                ended_at: None,
            }])
        };
        let known = |taken: Option<(&str, &str)>, seen: Seen| Known {
            taken: taken.map(|(job, node)| (job.to_owned(), node.to_owned())),
            seen,
            node: Node::Silent,
            tracks_by_cgroup: false,
            check: Check::None,
            fenced_secs: None,
        };
        let node = |known: Known| known.placed(&entry).job.unwrap().node;
        assert_eq!(node(known(None, waiting(""))), None);
        assert_eq!(node(known(Some(("7", "n1")), waiting(""))).as_deref(), Some("n1"));
        assert_eq!(node(known(Some(("7", "n1")), waiting("n2"))).as_deref(), Some("n1"));
    }
}
