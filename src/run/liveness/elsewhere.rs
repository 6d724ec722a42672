//! Runs that Slurm placed: their processes cannot be seen from here, so their records and Slurm's answers decide.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::Liveness;
use crate::clock::UnixSeconds;
use crate::engine::slurm::{
    Check, Facts, Freshness, Job, JobEnd, JobState, Look, Node, Seen, Slurm, Verdict, check_job_name, decide,
    run_job_name,
};
use crate::home::Home;
use crate::home::config::is_slurm_name;
use crate::process_tree::Cookie;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::outcome_file::written_outcome;
use crate::run::record::{Gone, JobOrder, Manifest, RecordError, SlurmJob};
use crate::run::submit::said_by_check;

/// How old Slurm's answer may be for a call that waits for one. The watchdog asks before each pass.
pub(super) const RECENT: Duration = Duration::from_secs(2);

/// How long a submission may take: a look that was asked for before it is over may lack its job.
const SUBMISSION_SECS: u64 = 10;

/// How long the outcome is waited for that a node wrote before it attested that nothing is left: the two lie in different directories,
/// which a file system may show at different times.
const OUTCOME_SECS: u64 = 60;

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
    /// The ids of its jobs that are not over: mostly one.
    pub open_jobs: Vec<String>,
    /// Its job as Slurm saw it end, if that is not on disk yet.
    pub unnoted_end: Option<Job>,
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
        let deadline = Instant::now() + timeout;
        let placed: Vec<(&Entry, &JobOrder, UnixSeconds)> = entries.iter().filter_map(placed_by_slurm).collect();
        if placed.is_empty() {
            return Self(HashMap::new());
        }
        let may_wait = timeout >= LEAST_WAIT;
        let slurm = context.slurm();
        let look = slurm.look_until(if may_wait { Freshness::Within(RECENT) } else { Freshness::Known }, deadline);
        let known = placed.into_iter().map(|(entry, order, triggered)| {
            let mut known = Known::of(&slurm, &look, entry, order, triggered);
            known.fenced_secs = context.config.slurm_fenced_secs;
            (entry.id().clone(), known)
        });
        let mut known: HashMap<RunId, Known> = known.collect();
        if may_wait {
            ask_about_nodes(&slurm, known.values_mut().filter(|one| one.depends_on_node()).collect(), deadline);
        }
        Self(known)
    }

    /// Returns what is known of a run; `None` if Slurm did not place it.
    pub(super) fn take(&mut self, run: &RunId) -> Option<Known> {
        self.0.remove(run)
    }
}

fn placed_by_slurm(
    (manifest, entry): &(Result<Manifest, RecordError>, Entry),
) -> Option<(&Entry, &JobOrder, UnixSeconds)> {
    let manifest = manifest.as_ref().ok()?;
    Some((entry, manifest.job.as_ref()?, manifest.triggered.at))
}

/// Asks which nodes answer, and how Slurm tracks processes: only where that decides.
fn ask_about_nodes(slurm: &Slurm, runs: Vec<&mut Known>, deadline: Instant) {
    let nodes: BTreeSet<&str> = runs.iter().filter_map(|one| Some(one.taken.as_ref()?.1.as_str())).collect();
    // One that is none would make Slurm refuse to answer for all.
    let nodes: Vec<&str> = nodes.into_iter().filter(|node| is_slurm_name(node)).collect();
    if nodes.is_empty() {
        return;
    }
    // What is not answered counts as not known.
    let answering = slurm.answering(&nodes, deadline).unwrap_or_default();
    let tracks_by_cgroup = slurm.survey().is_ok_and(|survey| survey.tracks_by_cgroup());
    for one in runs {
        let answers = one.taken.as_ref().and_then(|(_, node)| answering.get(node)).copied();
        one.node = if answers == Some(true) { Node::Answers } else { Node::Silent };
        one.tracks_by_cgroup = tracks_by_cgroup;
    }
}

impl Known {
    fn of(slurm: &Slurm, look: &Result<Look, String>, entry: &Entry, order: &JobOrder, triggered: UnixSeconds) -> Self {
        let run = entry.id().to_string();
        let submitted = entry.job().map_or(triggered, |job| job.at.max(triggered)).plus_secs(SUBMISSION_SECS);
        let seen = match slurm.seen(look, &run_job_name(&run), &order.token, submitted) {
            absent @ Seen::Absent { .. } => entry.job_end().map_or(absent, |job| Seen::Jobs(vec![job])),
            seen => seen,
        };
        let (taken, seen) = match taken_by(entry) {
            Ok(taken) => (taken, seen),
            // It may say who has the run.
            Err(cause) => (None, Seen::NoAnswer(cause)),
        };
        let check = Check::of(look, &check_job_name(&run), &order.token);
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
        let is_open = |job: &&Job| !matches!(job.state, JobState::Over(_));
        let newest = jobs.iter().rev().find(is_open).or_else(|| jobs.last());
        own.or_else(|| newest.filter(|_| self.taken.is_none()))
    }

    /// Decides about it, once its lock is found to be free and is held. Records that came since then leave it alive until the next
    /// look.
    pub(super) fn decide(self, home: &Home, entry: &Entry, cookie: &Cookie) -> (Liveness, Placed) {
        let placed = self.placed(entry);
        match entry.gone() {
            Ok(Some(gone)) if is_outcome_under_way(home, entry, cookie, &gone) => {
                return (Liveness::Elsewhere("it has ended; waiting for its outcome".to_owned()), placed);
            }
            Ok(Some(_)) => return (Liveness::Dead, placed),
            Ok(None) => {}
            Err(error) => return (Liveness::Unknown(error.to_string()), placed),
        }
        match taken_by(entry) {
            Err(cause) => return (Liveness::Unknown(cause), placed),
            Ok(taken) if taken != self.taken => {
                return (Liveness::Elsewhere("a supervisor has just taken it".to_owned()), placed);
            }
            Ok(_) => {}
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
            Verdict::Gone => (Liveness::Dead, placed),
            Verdict::Unknown(cause) => (Liveness::Unknown(cause), placed),
            Verdict::NeedsCheck { node } => {
                let cause = match self.check {
                    Check::Failed => {
                        format!("a check on {node} did not find out what is left of it{}", said_by_check(entry))
                    }
                    _ => format!("what is left of it on {node} must be checked there"),
                };
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
        let open = |job: &&Job| !matches!(job.state, JobState::Over(_));
        let open_jobs = match &self.seen {
            Seen::Jobs(jobs) => jobs.iter().filter(open).map(|job| job.id.clone()).collect(),
            _ => Vec::new(),
        };
        let unnoted_end = end.is_some() && entry.job_end().is_none();
        Placed { job: Some(shown), end, needs_check: None, open_jobs, unnoted_end: unnoted_end.then(|| job.clone()) }
    }
}

/// Whether a node wrote an outcome that is not seen here yet.
fn is_outcome_under_way(home: &Home, entry: &Entry, cookie: &Cookie, gone: &Gone) -> bool {
    gone.has_outcome
        && gone.at.at.age_secs_at(UnixSeconds::now()) < OUTCOME_SECS
        && matches!(written_outcome(home, entry.id(), cookie), Ok(None))
}

/// Returns the job and the node of the supervisor that has a run.
fn taken_by(entry: &Entry) -> Result<Option<(String, String)>, String> {
    let taken = entry.supervisor_on_node().map_err(|error| error.to_string())?;
    Ok(taken.and_then(|taken| taken.job).map(|job| (job.id, job.node.unwrap_or_default())))
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
