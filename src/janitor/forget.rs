//! Giving up a run that cannot be judged, because a person says that it is over.

use crate::clock::UnixSeconds;
use crate::process_tree::{Cookie, NoCookie, ScanError, Whereabouts, whereabouts};
use crate::query::listing;
use crate::run::context::Context;
use crate::run::end::EndError;
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, JUDGE_PATIENCE, Liveness, judge};
use crate::run::record::{Ending, Outcome, RecordError};
use crate::run::recording::{self, RecordingError, read_outcome};
use crate::run::status::Status;

/// A run was not given up.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// There is no such run, or it cannot be looked at.
    #[error(transparent)]
    Run(#[from] EndError),
    /// It can be judged, so nobody has to give it up.
    #[error("cannot forget the run {run}: it is {status}; only a run that is unknown can be forgotten")]
    NotUnknown {
        /// The run.
        run: RunId,
        /// What it is.
        status: Status,
    },
    /// A newer version knows what it is.
    #[error("cannot forget the run {run}: {newer}")]
    Newer {
        /// The run.
        run: RunId,
        /// What that version wrote.
        newer: RecordError,
    },
    /// Something lives in its workbench.
    #[error("cannot forget the run {run}: a process works in its workbench; end it first")]
    Inhabited {
        /// The run.
        run: RunId,
    },
    /// The processes cannot be listed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Another process is about to know.
    #[error("cannot forget the run {run}: another process is judging it ({by}); try again")]
    Judging {
        /// The run.
        run: RunId,
        /// Which process.
        by: String,
    },
    /// The system has no random numbers.
    #[error(transparent)]
    Cookie(#[from] NoCookie),
    /// The end could not be written down.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// Whether a process works in a workbench, or says that it is of its run.
fn is_inhabited(workbench: &Workbench, run: &RunId) -> Result<bool, ScanError> {
    let (directory, run) = (workbench.directory(), run.to_string());
    let lives = |one: &Whereabouts| {
        one.directory.as_ref().is_some_and(|at| at.starts_with(directory)) || one.run.as_ref() == Some(&run)
    };
    Ok(whereabouts()?.iter().any(lives))
}

/// A run that is unknown, held so that nobody else decides about it.
#[derive(Debug)]
pub struct Forgettable {
    run: RunId,
    cause: String,
    assessment: Option<Assessment>,
}

impl Forgettable {
    /// Finds out why a run is unknown.
    ///
    /// # Errors
    /// There is no such run, or it is not unknown.
    pub fn find(context: &Context, run: &RunId) -> Result<Self, ForgetError> {
        let unknown = |cause, assessment| Ok(Self { run: run.clone(), cause, assessment });
        let known = || {
            let status = listing::find(context, run)?.status;
            Err(ForgetError::NotUnknown { run: run.clone(), status })
        };
        let entry = Entry::of(&context.home, run);
        let assessment = if entry.exists() { judge(&context.home, vec![entry], JUDGE_PATIENCE).pop() } else { None };
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
            // Without an entry nothing else shows whether it lives.
            Err(_) if is_inhabited(&workbench, run)? => Err(ForgetError::Inhabited { run: run.clone() }),
            Err(RecordError::File(error)) if error.is_not_found() => {
                unknown("it has neither an entry nor an outcome".to_owned(), None)
            }
            Err(error) => unknown(error.to_string(), None),
        }
    }

    /// Returns why it is unknown.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// Records it as lost. Nothing of it is ended: nobody knows what that would be.
    ///
    /// # Errors
    /// The end could not be written down.
    pub fn forget(self, context: &Context, by: &str) -> Result<Outcome, ForgetError> {
        let entry = Entry::of(&context.home, &self.run);
        let manifest = self.assessment.as_ref().and_then(|assessment| assessment.manifest.as_ref().ok());
        let triggered_at = manifest.map_or(self.run.stamp(), |manifest| manifest.triggered.at);
        let last_output = Workbench::of(&context.home, &self.run).last_output_or(triggered_at);
        let ending = Ending {
            status: Status::Lost,
            reason: Some(format!("forgotten by a person: {}", self.cause)),
            ended_by: Some(by.to_owned()),
            exit_code: None,
            signal: None,
            finished_at: UnixSeconds::now(),
            retain_from: last_output,
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
