//! Whether a run on Slurm lives, where nobody holds its lock here: a pure function of its records and of what Slurm says.

use super::job::{Job, JobEnd, JobState};
use super::looks::Look;
use super::node::Node;
use crate::clock::UnixSeconds;

/// What Slurm says of the jobs of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It did not answer, and why.
    NoAnswer(String),
    /// It has answered for so many seconds that it knows of none.
    Absent { for_secs: u64 },
    /// It knows these, oldest first.
    Jobs(Vec<Job>),
}

/// The job that checks on a node what is left there of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// None is known.
    None,
    /// It waits or runs.
    Pending(String),
    /// It is over and has attested nothing.
    Failed,
}

impl Check {
    /// Says what a look shows of it.
    pub fn of(look: &Look, name: &str, token: &str) -> Self {
        let Ok(jobs) = &look.result else { return Self::None };
        let jobs = jobs.of(name, token);
        match jobs.iter().rev().find(|job| !job.is_over()) {
            Some(job) if job.state == JobState::Waiting => Self::Pending(job.waits_because()),
            Some(_) => Self::Pending("is under way".to_owned()),
            None if jobs.is_empty() => Self::None,
            None => Self::Failed,
        }
    }
}

/// Where the supervisor of a run is, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnNode {
    /// The id of its job.
    pub job: String,
    pub node: String,
}

/// What is known of a run whose lock is free here and of which no node attested that nothing is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The supervisor that took it, if one did.
    pub taken: Option<&'a OnNode>,
    pub seen: &'a Seen,
    /// How its node is; irrelevant before.
    pub node: Node,
    /// Whether Slurm finds every process of a job.
    pub tracks_by_cgroup: bool,
    pub check: &'a Check,
    /// After how many seconds a failed node that does not answer counts as powered off.
    pub fenced_secs: Option<u64>,
    pub now: UnixSeconds,
}

/// What follows, in sentences where there is more to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its job waits, or Slurm has not confirmed it yet.
    Queued(String),
    /// Its job is alive, or may still write records.
    Alive(String),
    /// Nothing of it is left.
    Gone,
    /// Nothing certain is known before its node was asked, by a job of ours.
    NeedsCheck { node: String },
    /// Nothing certain is known.
    Unknown(String),
}

/// How long a run must be absent from Slurm's answers, and how long records of a node are waited for: file systems show new files on
/// other machines up to a minute later.
pub const SETTLING_SECS: u64 = 60;

/// Decides. Dead needs a clear answer; a supervisor that took the run also needs a node that answers, and either control groups or a
/// check on the node.
pub fn decide(facts: &Facts<'_>) -> Verdict {
    match facts.taken {
        None => untaken(facts),
        Some(taken) => of_taken(facts, taken),
    }
}

/// No supervisor has it: one that comes up after the entry is gone starts nothing.
fn untaken(facts: &Facts<'_>) -> Verdict {
    let jobs = match facts.seen {
        Seen::NoAnswer(cause) => return Verdict::Unknown(cause.clone()),
        Seen::Absent { for_secs } if *for_secs >= SETTLING_SECS => return Verdict::Gone,
        Seen::Absent { .. } => {
            return Verdict::Queued("its job is submitted, and not confirmed by Slurm yet".to_owned());
        }
        Seen::Jobs(jobs) => jobs,
    };
    if let Some(job) = jobs.iter().rev().find(|job| !job.is_over()) {
        let (id, state) = (&job.id, &job.state_name);
        return match job.state {
            JobState::Waiting => Verdict::Queued(format!("it {}", job.waits_because())),
            JobState::Unclear => in_unknown_state(job),
            _ => Verdict::Alive(format!("its job {id} is {} on {}", state.to_lowercase(), job.node)),
        };
    }
    let settled = |job: &Job| job.node.is_empty() || is_settled(job, facts.now);
    match jobs.iter().rev().find(|job| !settled(job)) {
        Some(job) => Verdict::Alive(format!("its job ended on {}; waiting for its records", job.node)),
        None => Verdict::Gone,
    }
}

/// A supervisor has it, on one node: only its own job says something, and of its end only as much as the node can confirm.
fn of_taken(facts: &Facts<'_>, taken: &OnNode) -> Verdict {
    let (id, node) = (&taken.job, &taken.node);
    let jobs = match facts.seen {
        Seen::NoAnswer(cause) => return Verdict::Unknown(cause.clone()),
        Seen::Absent { .. } => &[][..],
        Seen::Jobs(jobs) => jobs,
    };
    let Some(job) = jobs.iter().find(|job| job.id == *id) else {
        return up_to_the_node(facts, node, "Slurm no longer knows its job");
    };
    let JobState::Over(end) = job.state else {
        return match job.state {
            JobState::Unclear => in_unknown_state(job),
            _ => Verdict::Alive(format!("its job {id} is {} on {node}", job.state_name.to_lowercase())),
        };
    };
    if job.node != *node {
        return up_to_the_node(facts, node, &format!("Slurm restarted its job {id} on {}", job.node));
    }
    if end == JobEnd::NodeFailed {
        let failed_secs = job.ended_at.map_or(0, |ended| ended.age_secs_at(facts.now));
        let is_fenced = facts.fenced_secs.is_some_and(|fenced| failed_secs > fenced);
        return match facts.node {
            Node::Silent if is_fenced => Verdict::Gone,
            _ => up_to_the_node(facts, node, "its node failed"),
        };
    }
    if !is_settled(job, facts.now) {
        return Verdict::Alive(format!("its job {id} ended on {node}; waiting for its records"));
    }
    // A job that Slurm wanted to end may be over only because its node did not answer.
    let ended_by_itself = matches!(end, JobEnd::Completed | JobEnd::Failed | JobEnd::OutOfMemory);
    match facts.node {
        Node::Answers if facts.tracks_by_cgroup && ended_by_itself => Verdict::Gone,
        _ => up_to_the_node(facts, node, &format!("its job {id} ended without recording an outcome")),
    }
}

/// Processes of it may be alive on its node, whose own look decides.
fn up_to_the_node(facts: &Facts<'_>, node: &str, because: &str) -> Verdict {
    match (facts.node, facts.check) {
        (Node::Silent, _) => Verdict::Unknown(format!("{because}, and {node} does not answer")),
        (Node::Unclear, _) => Verdict::Unknown(format!("{because}, and it is not known whether {node} is up")),
        (Node::Answers | Node::Drained, Check::Pending(what)) => {
            Verdict::Unknown(format!("{because}; a check on {node} {what}"))
        }
        (Node::Answers | Node::Drained, Check::None | Check::Failed) => Verdict::NeedsCheck { node: node.to_owned() },
    }
}

fn in_unknown_state(job: &Job) -> Verdict {
    let Job { id, state_name, .. } = job;
    Verdict::Unknown(format!("Slurm shows its job {id} in an unknown state ({state_name}); update moadim-mcp"))
}

/// Whether what a job wrote before its end must have arrived here.
fn is_settled(job: &Job, now: UnixSeconds) -> bool {
    job.ended_at.is_some_and(|ended| ended.age_secs_at(now) >= SETTLING_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATES: [&str; 14] = [
        "PENDING",
        "CONFIGURING",
        "RUNNING",
        "SUSPENDED",
        "COMPLETING",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "PREEMPTED",
        "OUT_OF_MEMORY",
        "NODE_FAIL",
        "REQUEUE_HOLD",
        "SOMETHING_NEW",
    ];

    fn job(id: &str, state: &str, node: &str, ended_at: u64) -> Job {
        let job = Job::example(id, state);
        let ended_at = job.ended_at.map(|_| UnixSeconds(ended_at));
        Job { node: node.to_owned(), ended_at, ..job }
    }

    fn seen() -> impl Strategy<Value = Seen> {
        let one = (prop::sample::select(vec!["1", "2"]), prop::sample::select(STATES.to_vec()), 0..3usize, 0..200u64);
        let one = one.prop_map(|(id, state, node, ended)| job(id, state, ["", "n1", "n2"][node], ended));
        prop_oneof![
            Just(Seen::NoAnswer("no answer".to_owned())),
            (0..200u64).prop_map(|for_secs| Seen::Absent { for_secs }),
            prop::collection::vec(one, 1..3).prop_map(Seen::Jobs),
        ]
    }

    fn check() -> impl Strategy<Value = Check> {
        prop_oneof![Just(Check::None), Just(Check::Failed), Just(Check::Pending("waits".to_owned()))]
    }

    fn node() -> impl Strategy<Value = Node> {
        prop::sample::select(vec![Node::Answers, Node::Drained, Node::Silent, Node::Unclear])
    }

    fn on_n1() -> OnNode {
        OnNode { job: "1".to_owned(), node: "n1".to_owned() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Rule 2, over every combination: nothing is called dead while it may be alive.
        #[test]
        fn rule_2_gone_needs_a_clear_answer_an_answering_node_and_a_sure_look(
            is_taken: bool,
            seen in seen(),
            node in node(),
            tracks_by_cgroup: bool,
            check in check(),
            fenced_secs in prop::option::of(0..200u64),
            now in 100..300u64,
        ) {
            let (on_node, now) = (on_n1(), UnixSeconds(now));
            let taken = is_taken.then_some(&on_node);
            let facts = Facts { taken, seen: &seen, node, tracks_by_cgroup, check: &check, fenced_secs, now };
            let verdict = decide(&facts);
            let jobs = match &seen {
                Seen::NoAnswer(_) => {
                    prop_assert!(matches!(verdict, Verdict::Unknown(_)), "{verdict:?}");
                    return Ok(());
                }
                Seen::Absent { for_secs } => {
                    prop_assert_eq!(verdict == Verdict::Gone, !is_taken && *for_secs >= SETTLING_SECS, "{:?}", verdict);
                    return Ok(());
                }
                Seen::Jobs(jobs) => jobs,
            };
            if verdict == Verdict::Gone {
                match taken {
                    None => prop_assert!(jobs.iter().all(Job::is_over)),
                    Some(OnNode { job: id, node: at }) => {
                        let own = jobs.iter().find(|job| job.id == *id).expect("its own job is known");
                        let over_secs = own.ended_at.expect("it is over").age_secs_at(now);
                        prop_assert!(own.is_over() && own.node == *at);
                        if own.state == JobState::Over(JobEnd::NodeFailed) {
                            prop_assert!(node == Node::Silent && fenced_secs.is_some_and(|fenced| over_secs > fenced));
                        } else {
                            prop_assert!(node == Node::Answers && tracks_by_cgroup && over_secs >= SETTLING_SECS);
                            let wanted = ["CANCELLED", "TIMEOUT", "PREEMPTED"].contains(&own.state_name.as_str());
                            prop_assert!(!wanted, "Slurm may have given up on it");
                        }
                    }
                }
            }
            if let Verdict::NeedsCheck { node: on } = &verdict {
                prop_assert!(is_taken && on == "n1" && !matches!(check, Check::Pending(_)));
                prop_assert!(matches!(node, Node::Answers | Node::Drained), "a check cannot run there");
            }
            // One that its supervisor took is alive only by its own job, and one that waits is all that there is of it.
            if matches!(verdict, Verdict::Alive(_)) && is_taken {
                prop_assert!(jobs.iter().any(|job| job.id == "1"));
            }
            if matches!(verdict, Verdict::Queued(_)) {
                prop_assert!(!is_taken && jobs.iter().any(|job| job.state == JobState::Waiting));
            }
        }
    }

    /// A run that was taken on a node that answers, with control groups.
    fn facts<'a>(taken: &'a OnNode, seen: &'a Seen) -> Facts<'a> {
        Facts {
            taken: Some(taken),
            seen,
            node: Node::Answers,
            tracks_by_cgroup: true,
            check: &Check::None,
            fenced_secs: None,
            now: UnixSeconds(1_000_000),
        }
    }

    fn check_on_n1() -> Verdict {
        Verdict::NeedsCheck { node: "n1".to_owned() }
    }

    #[test]
    fn a_failed_node_is_unknown_until_it_answers_and_then_is_asked() {
        let (taken, seen) = (on_n1(), Seen::Jobs(vec![job("1", "NODE_FAIL", "n1", 0)]));
        let facts = facts(&taken, &seen);
        assert_eq!(decide(&facts), check_on_n1());
        let silent = Facts { node: Node::Silent, ..facts.clone() };
        assert!(matches!(decide(&silent), Verdict::Unknown(cause) if cause.contains("does not answer")));
        let fenced = Facts { fenced_secs: Some(600), ..silent };
        assert_eq!(decide(&fenced), Verdict::Gone);
        let back = Facts { node: Node::Answers, ..fenced.clone() };
        assert_eq!(decide(&back), check_on_n1());
        let unasked = Facts { node: Node::Unclear, ..fenced };
        assert!(matches!(decide(&unasked), Verdict::Unknown(_)), "nobody said that it has no power");
    }

    #[test]
    fn control_groups_on_a_drained_node_prove_nothing() {
        let (taken, seen) = (on_n1(), Seen::Jobs(vec![job("1", "COMPLETED", "n1", 0)]));
        let facts = facts(&taken, &seen);
        assert_eq!(decide(&facts), Verdict::Gone);
        assert_eq!(decide(&Facts { node: Node::Drained, ..facts }), check_on_n1());
    }

    #[test]
    fn a_second_start_elsewhere_says_nothing_of_the_first() {
        let (taken, seen) = (on_n1(), Seen::Jobs(vec![job("1", "COMPLETED", "n2", 0)]));
        assert_eq!(decide(&Facts { fenced_secs: Some(1), ..facts(&taken, &seen) }), check_on_n1());
    }
}
