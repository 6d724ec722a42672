//! Deciding, once a second, what is to happen with the agent.

use crate::run::record::{AgentExit, EndCause, EndRequest, exceeded_max_runtime, exceeded_max_silence};

/// What the supervisor knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// How the agent ended, if it has.
    pub(super) exit: Option<AgentExit>,
    /// What somebody asked for.
    pub(super) request: Option<EndRequest>,
    /// Whether a signal told us to end.
    pub(super) signalled: bool,
    /// Time since the trigger.
    pub(super) age_secs: u64,
    /// The bound as it is now.
    pub(super) max_runtime_secs: u64,
    /// Time since the agent last printed something, or started.
    pub(super) silent_secs: u64,
    /// How long it may print nothing, as it is now.
    pub(super) max_silence_secs: Option<u64>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Let it work.
    Wait,
    /// It ended by itself.
    Finish(AgentExit),
    /// End it, as was asked.
    Obey(EndRequest),
    /// End it for a reason of our own.
    End(EndCause, String),
}

/// Decides: what was asked for first, then the agent's own end, then a signal, then the bounds.
pub(super) fn decide(facts: Facts) -> Step {
    match facts {
        Facts { request: Some(request), .. } => Step::Obey(request),
        Facts { exit: Some(exit), .. } => Step::Finish(exit),
        Facts { signalled: true, .. } => Step::End(EndCause::Stopped, "its supervisor was told to end".to_owned()),
        Facts { age_secs, max_runtime_secs, .. } if age_secs > max_runtime_secs => {
            Step::End(EndCause::TimedOut, exceeded_max_runtime(age_secs, max_runtime_secs))
        }
        Facts { silent_secs, max_silence_secs: Some(max), .. } if silent_secs > max => {
            Step::End(EndCause::Silent, exceeded_max_silence(silent_secs, max))
        }
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;
    use proptest::prelude::*;

    const CALM: Facts = Facts {
        exit: None,
        request: None,
        signalled: false,
        age_secs: 60,
        max_runtime_secs: 60,
        silent_secs: 30,
        max_silence_secs: Some(30),
    };

    #[test]
    fn rule_3_within_its_bound_a_run_is_never_touched() {
        assert_eq!(decide(CALM), Step::Wait);
    }

    #[test]
    fn rule_3_past_its_bound_it_is_ended_with_both_numbers() {
        match decide(Facts { age_secs: 61, ..CALM }) {
            Step::End(EndCause::TimedOut, reason) => {
                assert!(reason.contains("exceeded max runtime") && reason.contains("60") && reason.contains("61"));
            }
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn rule_3_a_silence_beyond_its_bound_ends_it_with_both_numbers() {
        match decide(Facts { silent_secs: 31, ..CALM }) {
            Step::End(EndCause::Silent, reason) => assert!(reason.contains("31 s") && reason.contains("30 s")),
            step => panic!("{step:?}"),
        }
        assert_eq!(decide(Facts { silent_secs: u64::MAX, max_silence_secs: None, ..CALM }), Step::Wait);
    }

    #[test]
    fn an_agent_that_ended_is_finished_even_past_its_bound() {
        let exit = AgentExit { code: Some(0), ..AgentExit::default() };
        assert_eq!(decide(Facts { exit: Some(exit), age_secs: 99, ..CALM }), Step::Finish(exit));
    }

    #[test]
    fn the_first_reason_counts() {
        let request = EndRequest {
            cause: EndCause::Stopped,
            reason: "r".into(),
            by: "b".into(),
            at: UnixSeconds(1),
            last_output: UnixSeconds(1),
        };
        let facts = Facts { request: Some(request.clone()), signalled: true, age_secs: 99, ..CALM };
        assert_eq!(decide(facts), Step::Obey(request));
    }

    proptest! {
        #[test]
        fn only_age_beyond_the_bound_times_out(age: u64, bound: u64) {
            let step = decide(Facts { age_secs: age, max_runtime_secs: bound, ..CALM });
            prop_assert_eq!(matches!(step, Step::End(EndCause::TimedOut, _)), age > bound);
        }
    }
}
