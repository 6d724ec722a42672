//! Runs that Slurm placed: their processes cannot be seen from here, so their records and Slurm's answers decide.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::Liveness;
use crate::clock::UnixSeconds;
use crate::engine::slurm::{
    Check, Facts, Job, JobEnd, JobState, Look, Node, OnNode, Seen, Slurm, Verdict, check_job_name, decide, run_job_name,
};
use crate::home::Home;
use crate::home::config::is_slurm_name;
use crate::run::check_job::said_by_check;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::outcome_file::written_outcome;
use crate::run::record::{Gone, JobOrder, Manifest, RecordError, SlurmJob};

/// How old Slurm's answer may be for a call that waits for one.
pub(super) const RECENT: Duration = Duration::from_secs(2);

/// How long a submission may take: a look that was asked for before it is over may lack its job.
const SUBMISSION_SECS: u64 = 10;

/// How much the clock of a node may differ from ours.
pub const CLOCKS_DIFFER_SECS: u64 = 300;

/// How long the outcome is waited for that a node wrote before it attested that nothing is left: the two lie in different directories,
/// which a file system may show at different times.
const OUTCOME_SECS: u64 = 60 + CLOCKS_DIFFER_SECS;

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

/// What is known of runs on Slurm, from before their locks were taken.
pub(super) struct OnSlurm {
    runs: HashMap<RunId, Known>,
    cluster: Cluster,
}

/// What runs on Slurm have in common.
#[derive(Debug, Default)]
struct Cluster {
    /// How those nodes are on which something depends.
    nodes: HashMap<String, Node>,
    tracks_by_cgroup: bool,
    fenced_secs: Option<u64>,
}

/// What is known of one run.
#[derive(Debug)]
struct Known {
    /// The supervisor that has it.
    taken: Option<OnNode>,
    seen: Seen,
    check: Check,
    /// The id with which Slurm accepted its job, if it said so.
    accepted: Option<String>,
}

/// What its records say once its lock is held.
#[derive(Debug)]
struct Records {
    gone: Result<Option<Attested>, String>,
    taken: Result<Option<OnNode>, String>,
}

/// Its node attested that nothing of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attested {
    /// And its outcome is here, or none will come.
    Complete,
    /// And its outcome has yet to show here.
    OutcomeUnderWay,
}

impl OnSlurm {
    /// Asks Slurm about those runs that it placed, once for all of them, until the deadline. A caller that cannot wait gets what is
    /// known.
    pub(super) fn ask(
        context: &Context,
        entries: &[(Result<Manifest, RecordError>, Entry)],
        timeout: Duration,
    ) -> Self {
        let deadline = Instant::now() + timeout;
        let placed: Vec<(&Entry, &JobOrder, UnixSeconds)> = entries.iter().filter_map(placed_by_slurm).collect();
        if placed.is_empty() {
            return Self { runs: HashMap::new(), cluster: Cluster::default() };
        }
        let may_wait = timeout >= LEAST_WAIT;
        let slurm = context.slurm();
        let look = if may_wait { slurm.look_until(RECENT, deadline) } else { slurm.last_look() };
        let known = |(entry, order, triggered): (&Entry, _, _)| {
            (entry.id().clone(), Known::of(&slurm, &look, entry, order, triggered))
        };
        let runs: HashMap<RunId, Known> = placed.into_iter().map(known).collect();
        let cluster = if may_wait { Cluster::ask(&slurm, &runs, deadline) } else { Cluster::default() };
        Self { runs, cluster: Cluster { fenced_secs: context.config.slurm_fenced_secs, ..cluster } }
    }

    /// Decides about a run of which `liveness` is what its lock says; returns that if Slurm did not place it.
    pub(super) fn decide(
        &self,
        home: &Home,
        entry: &Entry,
        manifest: &Result<Manifest, RecordError>,
        liveness: Liveness,
    ) -> (Liveness, Placed) {
        let (Some(known), Ok(manifest)) = (self.runs.get(entry.id()), manifest) else {
            return (liveness, Placed::default());
        };
        let placed = known.placed(entry);
        // Where somebody holds its lock, that is all there is to know.
        if liveness != Liveness::Dead {
            return (liveness, placed);
        }
        let records = Records::read(home, entry, manifest);
        match known.decide(&records, &self.cluster, UnixSeconds::now()) {
            (Liveness::Unknown(cause), Some(node)) => {
                let said = if known.check == Check::Failed { said_by_check(entry) } else { String::new() };
                (Liveness::Unknown(format!("{cause}{said}")), Placed { needs_check: Some(node), ..placed })
            }
            (liveness, _) => (liveness, placed),
        }
    }
}

fn placed_by_slurm(
    (manifest, entry): &(Result<Manifest, RecordError>, Entry),
) -> Option<(&Entry, &JobOrder, UnixSeconds)> {
    let manifest = manifest.as_ref().ok()?;
    Some((entry, manifest.job.as_ref()?, manifest.triggered.at))
}

impl Cluster {
    /// Asks how nodes are, and how Slurm tracks processes, where that decides. What is not answered counts as not known.
    fn ask(slurm: &Slurm, runs: &HashMap<RunId, Known>, deadline: Instant) -> Self {
        let deciding = runs.values().filter(|known| known.depends_on_node());
        let nodes: BTreeSet<&str> = deciding.filter_map(|known| Some(known.taken.as_ref()?.node.as_str())).collect();
        // One that is none would make Slurm refuse to answer for all.
        let nodes: Vec<&str> = nodes.into_iter().filter(|node| is_slurm_name(node)).collect();
        if nodes.is_empty() {
            return Self::default();
        }
        Self {
            nodes: slurm.nodes(&nodes, deadline).unwrap_or_default(),
            tracks_by_cgroup: slurm.survey(deadline).is_ok_and(|survey| survey.tracks_by_cgroup()),
            fenced_secs: None,
        }
    }
}

impl Known {
    fn of(slurm: &Slurm, look: &Look, entry: &Entry, order: &JobOrder, triggered: UnixSeconds) -> Self {
        let run = entry.id().to_string();
        let job = entry.job();
        let submitted = job.as_ref().map_or(triggered, |job| job.at.max(triggered)).plus_secs(SUBMISSION_SECS);
        let seen = match slurm.seen(look, &run_job_name(&run), &order.token, submitted) {
            absent @ Seen::Absent { .. } => entry.job_end().map_or(absent, |job| Seen::Jobs(vec![job])),
            seen => seen,
        };
        let (taken, seen) = match taken_by(entry) {
            Ok(taken) => (taken, seen),
            // It may say who has the run.
            Err(cause) => (None, Seen::NoAnswer(cause)),
        };
        let accepted = job.and_then(|job| job.job);
        Self { taken, seen, check: Check::of(look, &check_job_name(&run), &order.token), accepted }
    }

    /// Whether it matters how its node is: something took it, and its job is not known to be alive.
    fn depends_on_node(&self) -> bool {
        match (&self.taken, &self.seen) {
            (None, _) | (_, Seen::NoAnswer(_)) => false,
            (Some(_), Seen::Absent { .. }) => true,
            (Some(taken), Seen::Jobs(jobs)) => !jobs.iter().any(|job| job.id == taken.job && !job.is_over()),
        }
    }

    /// Returns its job: that of its supervisor, else the newest.
    fn job(&self) -> Option<&Job> {
        let Seen::Jobs(jobs) = &self.seen else { return None };
        let own = self.taken.as_ref().and_then(|taken| jobs.iter().find(|job| job.id == taken.job));
        let newest = jobs.iter().rev().find(|job| !job.is_over()).or_else(|| jobs.last());
        own.or_else(|| newest.filter(|_| self.taken.is_none()))
    }

    /// Decides about it, where nobody holds its lock here; also returns the node that must be asked. Records that came since it was
    /// looked at leave it alive until the next look.
    fn decide(&self, records: &Records, cluster: &Cluster, now: UnixSeconds) -> (Liveness, Option<String>) {
        match &records.gone {
            Ok(Some(Attested::OutcomeUnderWay)) => {
                return (Liveness::Elsewhere("it has ended; waiting for its outcome".to_owned()), None);
            }
            Ok(Some(Attested::Complete)) => return (Liveness::Dead, None),
            Ok(None) => {}
            Err(cause) => return (Liveness::Unknown(cause.clone()), None),
        }
        match &records.taken {
            Err(cause) => return (Liveness::Unknown(cause.clone()), None),
            Ok(taken) if *taken != self.taken => {
                return (Liveness::Elsewhere("a supervisor has just taken it".to_owned()), None);
            }
            Ok(_) => {}
        }
        let node = self.taken.as_ref().and_then(|taken| cluster.nodes.get(&taken.node));
        let verdict = decide(&Facts {
            taken: self.taken.as_ref(),
            seen: &self.seen,
            node: node.copied().unwrap_or(Node::Unclear),
            tracks_by_cgroup: cluster.tracks_by_cgroup,
            check: &self.check,
            fenced_secs: cluster.fenced_secs,
            now,
        });
        match verdict {
            Verdict::Queued(what) => {
                // The last look may be older than its submission.
                let accepted = self.accepted.as_ref().filter(|_| matches!(self.seen, Seen::Absent { .. }));
                (Liveness::Queued(accepted.map_or(what, |id| format!("its job {id} is submitted"))), None)
            }
            Verdict::Alive(what) => (Liveness::Elsewhere(what), None),
            Verdict::Gone => (Liveness::Dead, None),
            Verdict::Unknown(cause) => (Liveness::Unknown(cause), None),
            Verdict::NeedsCheck { node } => {
                let cause = match self.check {
                    Check::Failed => format!("the check job on {node} failed, and will be repeated"),
                    _ => format!("a check job must look on {node} for what is left of it"),
                };
                (Liveness::Unknown(cause), Some(node))
            }
        }
    }

    /// Returns what is known of its job, whatever follows from it.
    fn placed(&self, entry: &Entry) -> Placed {
        let Some(job) = self.job() else {
            let id = self.accepted.clone();
            let (id, node) = match &self.taken {
                Some(taken) => (Some(taken.job.clone()), Some(taken.node.clone())),
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
        let node = self.taken.as_ref().and_then(|taken| filled(&taken.node)).or_else(|| filled(&job.node));
        let shown = SlurmJob {
            id: job.id.clone(),
            node,
            partition: filled(&job.partition),
            state: Some(job.state_name.clone()).filter(|_| end != Some(JobEnd::Completed)),
        };
        let open_jobs = match &self.seen {
            Seen::Jobs(jobs) => jobs.iter().filter(|job| !job.is_over()).map(|job| job.id.clone()).collect(),
            _ => Vec::new(),
        };
        let unnoted_end = end.is_some() && entry.job_end().is_none();
        Placed { job: Some(shown), end, needs_check: None, open_jobs, unnoted_end: unnoted_end.then(|| job.clone()) }
    }
}

impl Records {
    fn read(home: &Home, entry: &Entry, manifest: &Manifest) -> Self {
        let attested = |gone: Gone| {
            let is_under_way = gone.has_outcome
                && gone.at.at.age_secs_at(UnixSeconds::now()) < OUTCOME_SECS
                && matches!(written_outcome(&manifest.workbench(home), entry.id(), &manifest.cookie), Ok(None));
            if is_under_way { Attested::OutcomeUnderWay } else { Attested::Complete }
        };
        let gone = entry.gone().map(|gone| gone.map(attested)).map_err(|error| error.to_string());
        Self { gone, taken: taken_by(entry) }
    }
}

/// Returns the supervisor that has a run.
fn taken_by(entry: &Entry) -> Result<Option<OnNode>, String> {
    let taken = entry.supervisor_on_node().map_err(|error| error.to_string())?;
    Ok(taken.and_then(|taken| taken.job).map(|job| OnNode { job: job.id, node: job.node.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn on(node: &str) -> OnNode {
        OnNode { job: "7".to_owned(), node: node.to_owned() }
    }

    fn known(taken: Option<OnNode>, job: Job) -> Known {
        Known { taken, seen: Seen::Jobs(vec![job]), check: Check::None, accepted: None }
    }

    #[test]
    fn a_run_is_where_its_supervisor_is_whatever_slurm_says_yet() {
        let directory = tempfile::tempdir().unwrap();
        let entry = Entry::of(&Home::open(directory.path().join("home")).unwrap(), &"a-1780000000".parse().unwrap());
        let waiting = |node: &str| Job { node: node.to_owned(), ..Job::example("7", "PENDING") };
        let node = |known: Known| known.placed(&entry).job.unwrap().node;
        assert_eq!(node(known(None, waiting(""))), None);
        assert_eq!(node(known(Some(on("n1")), waiting(""))).as_deref(), Some("n1"));
        assert_eq!(node(known(Some(on("n1")), waiting("n2"))).as_deref(), Some("n1"));
    }

    fn taken() -> impl Strategy<Value = Option<OnNode>> {
        prop::sample::select(vec![None, Some(on("n1")), Some(on("n2"))])
    }

    fn gone() -> impl Strategy<Value = Result<Option<Attested>, String>> {
        let all = [None, Some(Attested::Complete), Some(Attested::OutcomeUnderWay)].map(Ok);
        prop::sample::select(all.into_iter().chain([Err("unreadable".to_owned())]).collect::<Vec<_>>())
    }

    proptest! {
        /// Rule 2: what was seen before the lock was held counts only if the records still say the same.
        #[test]
        fn rule_2_records_that_arrive_meanwhile_keep_a_run_alive(
            before in taken(),
            taken in prop::result::maybe_err(taken(), Just("unreadable".to_owned())),
            gone in gone(),
            state in prop::sample::select(vec!["PENDING", "RUNNING", "COMPLETED", "NODE_FAIL", "NEW"]),
            node in prop::sample::select(vec![None, Some(Node::Answers), Some(Node::Silent)]),
        ) {
            let known = known(before.clone(), Job::example("7", state));
            let nodes = node.map(|node| ("n1".to_owned(), node)).into_iter().collect();
            let cluster = Cluster { nodes, tracks_by_cgroup: true, fenced_secs: Some(0) };
            let records = Records { gone: gone.clone(), taken: taken.clone() };
            let (liveness, check) = known.decide(&records, &cluster, UnixSeconds(1_000_000));
            match gone {
                Ok(Some(Attested::Complete)) => prop_assert_eq!(liveness, Liveness::Dead),
                Ok(Some(Attested::OutcomeUnderWay)) => prop_assert!(matches!(liveness, Liveness::Elsewhere(_))),
                Err(_) => prop_assert!(matches!(liveness, Liveness::Unknown(_))),
                Ok(None) => {
                    if liveness == Liveness::Dead {
                        prop_assert_eq!(taken, Ok(before.clone()));
                        let is_over = ["COMPLETED", "NODE_FAIL"].contains(&state);
                        prop_assert!(is_over, "{}", state);
                        let says_so = if state == "COMPLETED" { Node::Answers } else { Node::Silent };
                        prop_assert!(before.is_none() || (before == Some(on("n1")) && node == Some(says_so)));
                    }
                    prop_assert!(check.is_none() || matches!(liveness, Liveness::Unknown(_)));
                }
            }
        }
    }
}
