//! How a run ended.

use serde::{Deserialize, Serialize};

use super::{AgentExit, EndRequest, Manifest, Origin, RECORD_VERSION, SlurmJob, Started};
use crate::agent::AgentCommand;
use crate::agent::output::{Summary, one_line};
use crate::clock::UnixSeconds;
use crate::engine::slurm::JobEnd;
use crate::git::Work;
use crate::home::Home;
use crate::money::MicroDollars;
use crate::options::Options;
use crate::process_tree::Cookie;
use crate::run::disagreement::Disagreement;
use crate::run::id::RunId;
use crate::run::question::Question;
use crate::run::report::{Report, report_of};
use crate::run::status::Status;
use crate::run::workbench::Workbench;
use crate::session::HostKind;

/// `outcome.json`, and a line of the history: how a run ended, with its evidence.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The oldest version whose readers know the status, and what started the run.
    pub version: u32,
    pub id: RunId,
    pub status: Status,
    pub reason: Option<String>,
    /// Who ended it by force; `None` if it ended by itself.
    pub ended_by: Option<String>,
    pub exit_code: Option<i32>,
    /// The signal that ended the agent.
    pub signal: Option<i32>,
    /// Whether its verification passed; absent where none was made.
    pub verified: Option<bool>,
    /// What contradicts its agent's good end; `reason` has the words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disagreements: Vec<Disagreement>,
    pub agent: String,
    /// Where it could be watched.
    pub session_host: HostKind,
    /// The job as which it took place; absent if it ran on the machine that triggered it.
    pub job: Option<SlurmJob>,
    #[serde(default)]
    pub origin: Origin,
    /// The run that it went on from.
    pub continues: Option<RunId>,
    /// The name of its workbench, if that was made for another run.
    pub workbench: Option<RunId>,
    pub triggered_at: UnixSeconds,
    pub started_at: Option<UnixSeconds>,
    pub finished_at: UnixSeconds,
    /// From when its retention counts: its last output if it was ended by force, so that our note is no new life.
    pub retain_from: UnixSeconds,
    /// How its processes were recognised: none may be alive when its workbench goes.
    pub cookie: Cookie,
    /// What each repository of its workbench held that nobody else had. Empty also where nobody looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<Work>,
    /// What its agent's output said; absent where that is text.
    pub output: Option<Summary>,
    /// What it ended with, if it asks a person.
    pub question: Option<Question>,
    /// What its agent says that it did; absent where it reported nothing.
    pub report: Option<Report>,
    /// The command with which a person continues its session.
    pub resume_command: Option<String>,
    /// The values of its agent's options.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

/// How a run ended, as its owner or its judge found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub status: Status,
    pub reason: Option<String>,
    /// Who ended it by force; `None` if it ended by itself.
    pub ended_by: Option<String>,
    pub exit_code: Option<i32>,
    /// The signal that ended the agent.
    pub signal: Option<i32>,
    pub finished_at: UnixSeconds,
    /// From when its retention counts.
    pub retain_from: UnixSeconds,
}

impl Outcome {
    pub(crate) fn new(manifest: &Manifest, started: Option<&Started>, ending: Ending) -> Self {
        Self {
            version: match manifest.continues {
                Some(_) => RECORD_VERSION,
                None => ending.status.record_version().max(manifest.origin.record_version()),
            },
            continues: manifest.continues.clone(),
            workbench: manifest.workbench.clone(),
            agent: manifest.command.agent.clone(),
            session_host: manifest.session_host,
            origin: manifest.origin.clone(),
            triggered_at: manifest.triggered.at,
            started_at: started.map(|started| started.at),
            options: manifest.command.options.clone(),
            ..Self::without_manifest(&manifest.id, manifest.cookie, ending)
        }
    }

    /// Makes the record of a run of which nothing but its name can be read. No process carries its `cookie`.
    pub(crate) fn without_manifest(id: &RunId, cookie: Cookie, ending: Ending) -> Self {
        Self {
            version: ending.status.record_version(),
            id: id.clone(),
            status: ending.status,
            reason: ending.reason,
            ended_by: ending.ended_by,
            exit_code: ending.exit_code,
            signal: ending.signal,
            verified: None,
            disagreements: Vec::new(),
            agent: "unknown".to_owned(),
            session_host: HostKind::Detached,
            job: None,
            origin: Origin::Call,
            continues: None,
            workbench: None,
            triggered_at: id.stamp(),
            started_at: None,
            finished_at: ending.finished_at,
            retain_from: ending.retain_from,
            cookie,
            work: Vec::new(),
            output: None,
            question: None,
            report: None,
            resume_command: None,
            options: Options::new(),
        }
    }

    /// Returns the workbench in which it took place, with the files of the newest run there.
    pub(crate) fn workbench(&self, home: &Home) -> Workbench {
        Workbench::named(home, self.workbench_name())
    }

    /// Returns the name of that workbench, and of what was archived of it.
    pub(crate) fn workbench_name(&self) -> &RunId {
        self.workbench.as_ref().unwrap_or(&self.id)
    }

    /// Adds what its repositories held. Release 0.1.0 leaves a run alone whose outcome is newer than it, and so does not remove
    /// its work.
    pub(crate) fn set_work(&mut self, work: Vec<Work>) {
        if !work.is_empty() {
            self.version = self.version.max(RECORD_VERSION);
        }
        self.work = work;
    }

    /// Bounds its texts, and takes out what controls a terminal: the file lies where the agent can write.
    pub(crate) fn in_plain_words(mut self) -> Self {
        const MAX_CHARS: usize = 2000;
        for text in [&mut self.reason, &mut self.ended_by, &mut self.resume_command].into_iter().flatten() {
            *text = one_line(text, MAX_CHARS);
        }
        self.output = self.output.map(Summary::in_plain_words);
        self.question = self.question.map(Question::in_plain_words);
        self.report = self.report.map(Report::in_plain_words);
        self
    }

    /// Adds what its agent said, in its output and in its report, and how a person continues its session in the workbench.
    pub(crate) fn set_said(&mut self, summary: Option<Summary>, command: &AgentCommand, workbench: &Workbench) {
        // What never began has no session either.
        let summary = summary.filter(|summary| *summary != Summary::default());
        self.output = summary.map(|summary| {
            // One that it was given, and that it keeps only once the model has answered.
            let given = command.session_id.clone().filter(|_| summary.has_answered);
            Summary { session_id: summary.session_id.or(given), ..summary }
        });
        let session = self.output.as_ref().and_then(|summary| summary.session_id.as_ref());
        self.resume_command = session.and_then(|session| command.resume_command(session, workbench.directory()));
        self.report = report_of(workbench, command, self.output.as_ref());
    }

    /// Returns the list price that its agent reported; `None` if it is not known, which is not the same as nothing.
    pub(crate) fn cost(&self) -> Option<MicroDollars> {
        let reported = self.output.as_ref().and_then(|summary| summary.usage.as_ref()?.cost_usd);
        reported.or_else(|| self.never_had_agent().then_some(MicroDollars(0)))
    }

    /// Whether its agent never started: it did not come to that, or the run was ended by force before.
    pub(crate) fn never_had_agent(&self) -> bool {
        let was_forced = matches!(self.status, Status::TimedOut | Status::Stopped | Status::Interrupted);
        self.status.never_had_agent() || (was_forced && self.started_at.is_none() && self.output.is_none())
    }

    /// Returns the time from the agent's start to the run's end, if it started.
    pub(crate) fn duration_secs(&self) -> Option<u64> {
        self.started_at.map(|from| from.age_secs_at(self.finished_at))
    }
}

/// Why nobody knows how a run ended whose agent ended well.
pub(crate) const UNVERIFIED: &str =
    "its agent ended well, and its verification did not finish, because its supervisor died";

impl Ending {
    /// Decides how a run ended whose processes are gone and whose end nobody wrote down: by the request that was made, else it
    /// never started, else as its agent did if that is known, else it is lost. Its last output is the last thing known of it. One that
    /// was to be verified has not succeeded.
    pub(crate) fn of_abandoned(
        started: bool,
        request: Option<&EndRequest>,
        exit: Option<AgentExit>,
        was_to_be_verified: bool,
        last_output: UnixSeconds,
        now: UnixSeconds,
    ) -> Self {
        let unforced = |status, reason: &str, at| Self::of(status, reason.to_owned(), at);
        match (request, exit) {
            (Some(request), _) => Self::by_request(request, now),
            (None, Some(exit)) if started => {
                let ending = if was_to_be_verified && exit.status() == Status::Succeeded {
                    unforced(Status::Lost, UNVERIFIED, last_output)
                } else {
                    let reason = format!("its agent {} after its supervisor had died", exit.how());
                    unforced(exit.status(), &reason, last_output)
                };
                Self { exit_code: exit.code, signal: exit.signal, ..ending }
            }
            (None, None) if started => unforced(
                Status::Lost,
                "its supervisor and its processes vanished without recording an end",
                last_output,
            ),
            (None, _) => unforced(
                Status::LaunchFailed,
                "the process that launched it vanished before its agent had started",
                now,
            ),
        }
    }

    /// Gives way to what Slurm says of its job, if nobody asked for the end and nobody knows better. `was_taken` is whether a
    /// supervisor had it.
    pub(crate) fn or_by_job(self, end: Option<JobEnd>, was_taken: bool, now: UnixSeconds) -> Self {
        if self.ended_by.is_some() || !matches!(self.status, Status::Lost | Status::LaunchFailed) {
            return self;
        }
        let by_job =
            |status, reason: &str| Self { retain_from: self.retain_from, ..Self::of(status, reason.to_owned(), now) };
        match end {
            Some(JobEnd::Cancelled) => by_job(Status::Interrupted, "its job was cancelled"),
            Some(JobEnd::Preempted) => by_job(Status::Interrupted, "its job was preempted"),
            Some(JobEnd::NodeFailed) => by_job(Status::Interrupted, "its node failed"),
            Some(JobEnd::TimedOut) if was_taken => by_job(Status::TimedOut, "Slurm ended its job at the time limit"),
            Some(JobEnd::OutOfMemory) => {
                by_job(Status::Failed, "its job ran out of memory; raise resources.memory_mib")
            }
            Some(JobEnd::TimedOut | JobEnd::Completed | JobEnd::Failed) | None if was_taken => {
                Self { status: Status::Lost, ..self }
            }
            Some(_) => by_job(Status::LaunchFailed, "its job ended before its supervisor started"),
            None => by_job(
                Status::LaunchFailed,
                "Slurm does not know its job: it never accepted it, or lost it; trigger it again",
            ),
        }
    }

    /// Describes the end of a run that was ended by force.
    pub(crate) fn by_request(request: &EndRequest, now: UnixSeconds) -> Self {
        Self {
            ended_by: Some(request.by.clone()),
            retain_from: request.last_output,
            ..Self::of(request.cause.into(), request.reason.clone(), now)
        }
    }

    /// Describes the end of a run of whose agent and whose ender nothing is known.
    pub(crate) fn of(status: Status, reason: String, at: UnixSeconds) -> Self {
        Self {
            status,
            reason: Some(reason),
            ended_by: None,
            exit_code: None,
            signal: None,
            finished_at: at,
            retain_from: at,
        }
    }
}

#[cfg(test)]
impl Outcome {
    /// Makes the outcome of a run that was triggered and started at the second of its name and took one more.
    pub(crate) fn example(id: &str, status: Status) -> Self {
        let id: RunId = id.parse().unwrap();
        let (began, ended) = (id.stamp(), id.stamp().plus_secs(1));
        Self {
            version: status.record_version(),
            id,
            status,
            reason: None,
            ended_by: None,
            exit_code: None,
            signal: None,
            verified: None,
            disagreements: Vec::new(),
            agent: "a".into(),
            session_host: HostKind::Detached,
            job: None,
            origin: Origin::Call,
            continues: None,
            workbench: None,
            triggered_at: began,
            started_at: Some(began),
            finished_at: ended,
            retain_from: ended,
            cookie: Cookie::random().unwrap(),
            work: Vec::new(),
            output: None,
            question: None,
            report: None,
            resume_command: None,
            options: Options::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::EndCause;

    #[test]
    fn what_ended_before_its_agent_started_cost_nothing() {
        let cost = |status, started_at| Outcome { started_at, ..Outcome::example("a-1", status) }.cost();
        for status in [Status::TimedOut, Status::Stopped, Status::Interrupted] {
            assert_eq!(cost(status, None), Some(MicroDollars(0)), "{status:?}");
            assert_eq!(cost(status, Some(UnixSeconds(1))), None, "{status:?}");
        }
        for status in [Status::Lost, Status::Unknown, Status::Failed, Status::Succeeded] {
            assert_eq!(cost(status, None), None, "{status:?}");
        }
    }

    fn stop_request(last_output: UnixSeconds) -> EndRequest {
        EndRequest {
            cause: EndCause::Stopped,
            reason: "asked".into(),
            by: "stop_run".into(),
            at: UnixSeconds(60),
            last_output,
        }
    }

    #[test]
    fn an_abandoned_run_ended_as_asked_else_never_started_else_is_lost() {
        let (last, now) = (UnixSeconds(50), UnixSeconds(99));
        let request = stop_request(last);
        let asked = Ending::of_abandoned(true, Some(&request), Some(AgentExit::default()), true, UnixSeconds(61), now);
        assert_eq!((asked.status, asked.retain_from, asked.finished_at), (Status::Stopped, last, now));
        assert_eq!(Ending::of_abandoned(false, None, None, true, last, now).status, Status::LaunchFailed);
        let lost = Ending::of_abandoned(true, None, None, false, last, now);
        assert_eq!((lost.status, lost.finished_at, lost.retain_from), (Status::Lost, last, last));
    }

    #[test]
    fn an_abandoned_run_ended_as_its_agent_did_if_that_is_known() {
        let (last, now) = (UnixSeconds(50), UnixSeconds(99));
        let ending = |started, exit| Ending::of_abandoned(started, None, Some(exit), false, last, now);
        let exit = |code, signal| AgentExit { code, signal };
        let good = ending(true, exit(Some(0), None));
        assert_eq!((good.status, good.exit_code, good.retain_from), (Status::Succeeded, Some(0), last));
        for (exit, how) in [
            (exit(Some(3), None), "exited with status 3"),
            (exit(None, Some(9)), "signal 9"),
            (exit(None, None), "does not tell"),
        ] {
            let bad = ending(true, exit);
            assert_eq!((bad.status, bad.exit_code, bad.signal), (Status::Failed, exit.code, exit.signal));
            let reason = bad.reason.unwrap();
            assert!(reason.contains("after its supervisor had died") && reason.contains(how), "{reason}");
        }
        let stub = ending(false, exit(Some(1), None));
        assert_eq!(stub.status, Status::LaunchFailed, "what ended was not the agent yet");
    }

    #[test]
    fn how_its_job_ended_decides_where_nothing_better_is_known() {
        let (last, now) = (UnixSeconds(50), UnixSeconds(99));
        let by_job = |was_taken, end| {
            Ending::of_abandoned(was_taken, None, None, false, last, now).or_by_job(end, was_taken, now)
        };
        let vanished = "its supervisor and its processes vanished without recording an end";
        let early = (Status::LaunchFailed, "its job ended before its supervisor started");
        let cancelled = (Status::Interrupted, "its job was cancelled");
        let preempted = (Status::Interrupted, "its job was preempted");
        let node_failed = (Status::Interrupted, "its node failed");
        let memory = (Status::Failed, "its job ran out of memory; raise resources.memory_mib");
        let too_late = (Status::TimedOut, "Slurm ended its job at the time limit");
        let unknown = "Slurm does not know its job: it never accepted it, or lost it; trigger it again";
        for (end, with_supervisor, without) in [
            (Some(JobEnd::Completed), (Status::Lost, vanished), early),
            (Some(JobEnd::Failed), (Status::Lost, vanished), early),
            (Some(JobEnd::TimedOut), too_late, early),
            (Some(JobEnd::Cancelled), cancelled, cancelled),
            (Some(JobEnd::Preempted), preempted, preempted),
            (Some(JobEnd::OutOfMemory), memory, memory),
            (Some(JobEnd::NodeFailed), node_failed, node_failed),
            (None, (Status::Lost, vanished), (Status::LaunchFailed, unknown)),
        ] {
            for (was_taken, expected) in [(true, with_supervisor), (false, without)] {
                let ending = by_job(was_taken, end);
                assert_eq!((ending.status, ending.reason.as_deref().unwrap()), expected, "{end:?}, {was_taken}");
            }
        }
        let request = stop_request(last);
        let exit = AgentExit { code: Some(0), signal: None };
        for known in [
            Ending::of_abandoned(true, Some(&request), None, false, last, now),
            Ending::of_abandoned(true, None, Some(exit), false, last, now),
        ] {
            assert_eq!(known.clone().or_by_job(Some(JobEnd::Cancelled), true, now), known, "that is better");
        }
    }

    #[test]
    fn an_abandoned_run_that_was_to_be_verified_has_not_succeeded() {
        let (last, now) = (UnixSeconds(50), UnixSeconds(99));
        let ending = |code| {
            let exit = AgentExit { code: Some(code), signal: None };
            Ending::of_abandoned(true, None, Some(exit), true, last, now)
        };
        let unverified = ending(0);
        assert_eq!((unverified.status, unverified.exit_code), (Status::Lost, Some(0)));
        assert_eq!(unverified.reason.as_deref(), Some(UNVERIFIED));
        assert_eq!(ending(3).status, Status::Failed);
    }
}
