//! What is believed of a verification once the run's supervisor is gone: what that wrote down in the entry, and nothing that an agent
//! may have written in its workbench.

use super::disagreement::{Disagreement, Facts, Verification, disagreements};
use super::record::{Ending, Outcome, UNVERIFIED};
use super::status::Status;

/// Makes a written outcome say of the verification what is on record; returns whether it said something else.
pub(super) fn believe_only(outcome: &mut Outcome, was_to_be_verified: bool, on_record: Option<&Verification>) -> bool {
    let before = (outcome.status, outcome.verified, outcome.disagreements.clone());
    outcome.disagreements.retain(|one| *one != Disagreement::VerificationFailed);
    match (outcome.status, on_record) {
        (Status::Succeeded, None) if was_to_be_verified => {
            (outcome.status, outcome.reason) = (Status::Lost, Some(UNVERIFIED.to_owned()));
            outcome.disagreements.clear();
        }
        (Status::Succeeded | Status::Failed, Some(Err(failure))) => {
            outcome.disagreements.insert(0, Disagreement::VerificationFailed);
            if outcome.status == Status::Succeeded {
                (outcome.status, outcome.reason) = (Status::Failed, Some(format!("verification failed: {failure}")));
            }
        }
        _ => {}
    }
    outcome.verified = verified(outcome.status, on_record);
    before != (outcome.status, outcome.verified, outcome.disagreements.clone())
}

/// Describes the end of a run whose verification is on record, and that nobody wanted to end.
pub(super) fn of_verified(ending: Ending) -> Ending {
    let reason = "its supervisor died before its end was recorded".to_owned();
    Ending { status: Status::Succeeded, reason: Some(reason), ..ending }
}

/// Adds what was verified of a run that nobody recorded, and what contradicts its good end.
pub(super) fn add_evidence(outcome: &mut Outcome, facts: Facts<'_>) {
    if outcome.status == Status::Succeeded {
        let (contradictions, words): (Vec<_>, Vec<_>) = disagreements(facts).into_iter().unzip();
        let reason = words.into_iter().chain(outcome.reason.take()).reduce(|one, other| format!("{one}; {other}"));
        (outcome.disagreements, outcome.reason) = (contradictions, reason);
        if facts.verification.is_some_and(Result::is_err) {
            outcome.status = Status::Failed;
        }
    }
    outcome.verified = verified(outcome.status, facts.verification);
}

/// One that failed may have been ended together with its run.
fn verified(status: Status, on_record: Option<&Verification>) -> Option<bool> {
    let counts = |passed: &bool| *passed || matches!(status, Status::Succeeded | Status::Failed);
    on_record.map(Result::is_ok).filter(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::output::{Denied, FinalEvent, Summary};
    use crate::run::record::AgentExit;

    #[test]
    fn an_outcome_says_of_its_verification_what_is_on_record() {
        let failed: Verification = Err("make exited with status 2".into());
        let said = |status, on_record: Option<&Verification>, was_to_be_verified| {
            let disagreements = vec![Disagreement::CallsDenied];
            let mut forged = Outcome { verified: Some(true), disagreements, ..Outcome::example("a-1", status) };
            let was_false = believe_only(&mut forged, was_to_be_verified, on_record);
            assert_eq!(was_false, on_record != Some(&Ok(())), "{status:?}");
            (forged.status, forged.verified, forged.disagreements, forged.reason)
        };
        let denied = || vec![Disagreement::CallsDenied];
        let lost = (Status::Lost, None, vec![], Some(UNVERIFIED.to_owned()));
        assert_eq!(said(Status::Succeeded, None, true), lost);
        assert_eq!(said(Status::Succeeded, None, false), (Status::Succeeded, None, denied(), None));
        assert_eq!(said(Status::Succeeded, Some(&Ok(())), true), (Status::Succeeded, Some(true), denied(), None));
        assert_eq!(said(Status::Stopped, None, true), (Status::Stopped, None, denied(), None));
        assert_eq!(said(Status::Stopped, Some(&failed), true), (Status::Stopped, None, denied(), None));
        let both = || vec![Disagreement::VerificationFailed, Disagreement::CallsDenied];
        let reason = Some("verification failed: make exited with status 2".to_owned());
        assert_eq!(said(Status::Succeeded, Some(&failed), true), (Status::Failed, Some(false), both(), reason));
        assert_eq!(said(Status::Failed, Some(&failed), true), (Status::Failed, Some(false), both(), None));
    }

    #[test]
    fn a_true_outcome_stays_as_it_is() {
        let failed: Verification = Err("make exited with status 2".into());
        for (status, verified, disagreements, on_record) in [
            (Status::Succeeded, Some(true), vec![Disagreement::NoReport], Some(&Ok(()))),
            (Status::Failed, Some(false), vec![Disagreement::VerificationFailed], Some(&failed)),
            (Status::Interrupted, None, vec![], Some(&failed)),
            (Status::Failed, None, vec![], None),
        ] {
            let outcome = Outcome { verified, disagreements, ..Outcome::example("a-1", status) };
            let mut believed = outcome.clone();
            assert!(!believe_only(&mut believed, true, on_record), "{status:?}");
            assert_eq!(believed, outcome);
        }
    }

    #[test]
    fn a_run_that_nobody_recorded_has_its_disagreements() {
        let denied = vec![Denied { tool: "Bash".into(), count: 2 }];
        let summary = Summary { ended: Some(FinalEvent::Succeeded), denied, ..Summary::default() };
        let failed: Verification = Err("make exited with status 2".into());
        let facts = Facts {
            exit: AgentExit { code: Some(0), signal: None },
            summary: Some(&summary),
            asks: false,
            verification: None,
            has_report: true,
            report_was_asked: true,
        };
        let of = |status, facts| {
            let mut outcome = Outcome { reason: Some("died".into()), ..Outcome::example("a-1", status) };
            add_evidence(&mut outcome, facts);
            (outcome.status, outcome.verified, outcome.disagreements, outcome.reason.unwrap())
        };
        let (status, verified, disagreements, reason) = of(Status::Succeeded, facts);
        assert_eq!((status, verified, disagreements), (Status::Succeeded, None, vec![Disagreement::CallsDenied]));
        assert_eq!(reason, "exit 0, but 2 tool calls were denied: Bash; died");
        let (status, verified, disagreements, reason) =
            of(Status::Succeeded, Facts { verification: Some(&failed), ..facts });
        assert_eq!((status, verified), (Status::Failed, Some(false)));
        assert_eq!(disagreements, [Disagreement::VerificationFailed, Disagreement::CallsDenied]);
        assert!(reason.contains("verification failed: make exited with status 2; exit 0, but"), "{reason}");
        assert_eq!(of(Status::Lost, facts), (Status::Lost, None, vec![], "died".into()));
    }
}
