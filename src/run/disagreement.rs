//! Facts about a run that contradict each other: how its agent exited, what a check found, and what the agent said.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::output::{denied_in_words, status_by};
use super::record::AgentExit;
use super::status::Status;
use crate::agent::output::{FinalEvent, Summary};

/// How a verification ended: why it failed, if it did.
pub(crate) type Verification = Result<(), String>;

/// What contradicts the agent's good end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disagreement {
    /// The verification failed.
    VerificationFailed,
    /// Tool calls were denied.
    CallsDenied,
    /// There is no report, and one was asked for.
    NoReport,
}

/// What is known of a run whose agent ended by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) exit: AgentExit,
    pub(crate) summary: Option<&'a Summary>,
    /// Whether its agent ended with a question.
    pub(crate) asks: bool,
    /// `None` where nothing was verified.
    pub(crate) verification: Option<&'a Verification>,
    pub(crate) has_report: bool,
    pub(crate) report_was_asked: bool,
}

/// Finds what contradicts an agent's good end, each with its words. An agent that did not end well contradicts nothing.
pub(crate) fn disagreements(facts: Facts<'_>) -> Vec<(Disagreement, String)> {
    let Facts { exit, summary, asks, verification, has_report, report_was_asked } = facts;
    if status_by(exit, summary, asks) != Status::Succeeded {
        return Vec::new();
    }
    let reports_success = summary.is_some_and(|summary| summary.ended == Some(FinalEvent::Succeeded));
    let failed = verification.and_then(|verification| verification.as_ref().err()).map(|failure| {
        let agent = if reports_success { "the agent reports success, " } else { "" };
        (Disagreement::VerificationFailed, format!("{agent}verification failed: {failure}"))
    });
    let denied = summary.and_then(denied_in_words).map(|denied| {
        let exited = if exit.code == Some(0) { "exit 0, but " } else { "" };
        (Disagreement::CallsDenied, format!("{exited}{denied}"))
    });
    let unreported = (exit.code == Some(0) && report_was_asked && !has_report)
        .then(|| (Disagreement::NoReport, "exit 0 without the report that was asked for".to_owned()));
    [failed, denied, unreported].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::output::Denied;

    const EXIT_0: AgentExit = AgentExit { code: Some(0), signal: None };

    fn words(facts: Facts<'_>) -> Vec<String> {
        disagreements(facts).into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn each_fact_that_contradicts_a_good_end_is_named() {
        let failed = Err("npm exited with status 1: 2 tests failed".to_owned());
        let text = Facts {
            exit: EXIT_0,
            summary: None,
            asks: false,
            verification: Some(&failed),
            has_report: false,
            report_was_asked: true,
        };
        let verification = "verification failed: npm exited with status 1: 2 tests failed";
        let unreported = "exit 0 without the report that was asked for";
        assert_eq!(words(text), [verification, unreported]);
        assert_eq!(words(Facts { has_report: true, verification: Some(&Ok(())), ..text }), [""; 0]);
        assert_eq!(words(Facts { report_was_asked: false, verification: None, ..text }), [""; 0]);
        let denied = vec![Denied { tool: "Bash".into(), count: 2 }, Denied { tool: "Write".into(), count: 1 }];
        let summary = Summary { ended: Some(FinalEvent::Succeeded), denied, ..Summary::default() };
        let events = Facts { summary: Some(&summary), ..text };
        assert_eq!(
            words(events),
            [
                &format!("the agent reports success, {verification}"),
                "exit 0, but 3 tool calls were denied: Bash, Write",
                unreported
            ]
        );
    }

    #[test]
    fn an_agent_that_ended_badly_contradicts_nothing() {
        let failed = Summary { ended: Some(FinalEvent::Failed), ..Summary::default() };
        for (code, summary) in [(Some(1), None), (Some(0), Some(&failed)), (Some(0), Some(&Summary::default()))] {
            let exit = AgentExit { code, signal: None };
            let facts =
                Facts { exit, summary, asks: false, verification: None, has_report: false, report_was_asked: true };
            assert_eq!(disagreements(facts), []);
        }
    }
}
