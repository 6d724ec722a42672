//! Forgetting a run that is unknown, because a person says that it is over.

use crate::clock::UnixSeconds;
use crate::process_tree::{Cookie, NoCookie, ScanError, Whereabouts, whereabouts};
use crate::query::listing;
use crate::run::context::Context;
use crate::run::end::EndError;
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, JUDGE_LOCK_TIMEOUT, Liveness, judge};
use crate::run::record::{Ending, Outcome, RecordError};
use crate::run::recording::{self, RecordingError, read_outcome};
use crate::run::status::Status;

/// A run was not forgotten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForgetError {
    /// There is no such run, or it cannot be read.
    #[error(transparent)]
    Run(#[from] EndError),
    #[error("cannot forget the run {run}: it is {status}; only a run that is unknown can be forgotten")]
    NotUnknown { run: RunId, status: Status },
    #[error("cannot forget the run {run}: {newer}")]
    Newer { run: RunId, newer: RecordError },
    #[error("cannot forget the run {run}: a process works in its workbench; end it first")]
    InUse { run: RunId },
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("cannot forget the run {run}: another process is judging it ({by}); try again")]
    Judging { run: RunId, by: String },
    #[error(transparent)]
    Cookie(#[from] NoCookie),
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

fn is_in_use(workbench: &Workbench, run: &RunId) -> Result<bool, ScanError> {
    let (directory, run) = (workbench.directory(), run.to_string());
    let uses = |one: &Whereabouts| {
        one.directory.as_ref().is_some_and(|at| at.starts_with(directory)) || one.run.as_ref() == Some(&run)
    };
    Ok(whereabouts()?.iter().any(uses))
}

/// A run that is unknown, locked so that no other process decides about it.
#[derive(Debug)]
pub(crate) struct Forgettable {
    run: RunId,
    cause: String,
    assessment: Option<Assessment>,
}

impl Forgettable {
    /// Locks an unknown run and finds out why it is unknown.
    ///
    /// # Errors
    /// There is no such run, or it is not unknown.
    pub(crate) fn find(context: &Context, run: &RunId) -> Result<Self, ForgetError> {
        let unknown = |cause, assessment| Ok(Self { run: run.clone(), cause, assessment });
        let known = || {
            let status = listing::find(context, run)?.status;
            Err(ForgetError::NotUnknown { run: run.clone(), status })
        };
        let entry = Entry::of(&context.home, run);
        let assessment =
            if entry.exists() { judge(&context.home, vec![entry], JUDGE_LOCK_TIMEOUT).pop() } else { None };
        if let Some(assessment) = assessment {
            return match assessment.liveness.clone() {
                Liveness::Unknown(cause) => unknown(cause, Some(assessment)),
                Liveness::Judging(by) => Err(ForgetError::Judging { run: run.clone(), by }),
                Liveness::Owned | Liveness::Unsupervised(_) | Liveness::Dead => {
                    drop(assessment);
                    known()
                }
            };
        }
        let workbench = Workbench::of(&context.home, run);
        if !workbench.exists() {
            return known();
        }
        match read_outcome(&workbench, run) {
            Ok(_) => known(),
            Err(newer @ RecordError::Newer { .. }) => Err(ForgetError::Newer { run: run.clone(), newer }),
            // Without an entry nothing else shows whether it is alive.
            Err(_) if is_in_use(&workbench, run)? => Err(ForgetError::InUse { run: run.clone() }),
            Err(RecordError::File(error)) if error.is_not_found() => {
                unknown("it has neither an entry nor an outcome".to_owned(), None)
            }
            Err(error) => unknown(error.to_string(), None),
        }
    }

    /// Returns why it is unknown.
    pub(crate) fn cause(&self) -> &str {
        &self.cause
    }

    /// Records it as lost. Ends nothing: its processes are not known.
    ///
    /// # Errors
    /// The end could not be recorded.
    pub(crate) fn forget(self, context: &Context, by: &str) -> Result<Outcome, ForgetError> {
        let entry = Entry::of(&context.home, &self.run);
        let manifest = self.assessment.as_ref().and_then(|assessment| assessment.manifest.as_ref().ok());
        let triggered_at = manifest.map_or(self.run.stamp(), |manifest| manifest.triggered.at);
        let last_output = Workbench::of(&context.home, &self.run).last_output_or(triggered_at);
        let reason = format!("forgotten by a person: {}", self.cause);
        let ending = Ending {
            ended_by: Some(by.to_owned()),
            retain_from: last_output,
            ..Ending::of(Status::Lost, reason, UnixSeconds::now())
        };
        let started = entry.started().ok().flatten();
        let outcome = match manifest {
            Some(manifest) => Outcome::new(manifest, started.as_ref(), ending),
            None => Outcome::without_manifest(&self.run, Cookie::random()?, ending),
        };
        recording::record_forgotten(context, &entry, &outcome)?;
        Ok(outcome)
    }
}
