//! Deciding, once a second, what happens with the agent.

use crate::run::record::{
    AgentExit, EndCause, EndRequest, exceeded_job_limit, exceeded_max_runtime, exceeded_max_silence,
};

/// What the supervisor knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// How the agent ended, if it has.
    pub(super) exit: Option<AgentExit>,
    /// The request for its end that is on disk.
    pub(super) request: Option<EndRequest>,
    /// Whether a signal announced a request that could not be written.
    pub(super) request_unwritten: bool,
    /// Whether a termination signal arrived.
    pub(super) termination_signal: bool,
    pub(super) age_secs: u64,
    /// The bound as it is now, or as it was read last.
    pub(super) max_runtime_secs: u64,
    /// How long Slurm lets its job go on, if it is one.
    pub(super) job_limit_secs: Option<u64>,
    /// Time since the agent last printed something, or started.
    pub(super) silent_secs: u64,
    /// How long it may print nothing, as it is now.
    pub(super) max_silence_secs: Option<u64>,
    /// Time since the run's entry is gone; 0 while it is there.
    pub(super) entry_gone_secs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Finish(AgentExit),
    /// End it, as was asked.
    Obey(EndRequest),
    /// End it for a reason of our own.
    End(EndCause, String),
}

/// How long an entry may be gone before its run is ended: a home that is being moved or mounted comes back.
const MAX_ENTRY_GONE_SECS: u64 = 60;

/// How long before the limit of its job TERM may come from Slurm: it is asked for a minute before, may come a minute early, and the run
/// may have been taken a minute after the start of the job.
const LIMIT_SIGNAL_SECS: u64 = 180;

/// Decides: what was asked for first, then a signal from outside, then the agent's own end, then the bounds.
pub(super) fn decide(state: State) -> Step {
    let exceeded = state.age_secs > state.max_runtime_secs;
    let exceeds = || Step::End(EndCause::TimedOut, exceeded_max_runtime(state.age_secs, state.max_runtime_secs));
    match state {
        State { request: Some(request), .. } => Step::Obey(request),
        // The watchdog asks for it at the bound, and everybody else has it stopped.
        State { request_unwritten: true, .. } if exceeded => exceeds(),
        State { request_unwritten: true, .. } => Step::End(EndCause::Stopped, STOPPED_UNWRITTEN.to_owned()),
        State { termination_signal: true, job_limit_secs: Some(limit), age_secs, .. }
            if age_secs.saturating_add(LIMIT_SIGNAL_SECS) >= limit =>
        {
            Step::End(EndCause::TimedOut, exceeded_job_limit(limit))
        }
        State { termination_signal: true, .. } => Step::End(EndCause::Interrupted, TERMINATION_SIGNAL.to_owned()),
        State { exit: Some(exit), .. } => Step::Finish(exit),
        _ if exceeded => exceeds(),
        State { silent_secs, max_silence_secs: Some(max), .. } if silent_secs > max => {
            Step::End(EndCause::Silent, exceeded_max_silence(silent_secs, max))
        }
        State { entry_gone_secs, .. } if entry_gone_secs > MAX_ENTRY_GONE_SECS => {
            Step::End(EndCause::Interrupted, "its entry in running/ was removed while it ran".to_owned())
        }
        _ => Step::Wait,
    }
}

/// The reason of a run whose end was asked for by a request that is not on disk.
pub(super) const STOPPED_UNWRITTEN: &str = "stopped on request; the request could not be written down";

/// The reason of a run that something outside ended.
pub(super) const TERMINATION_SIGNAL: &str = "its supervisor received a termination signal, as at a shutdown or logout";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;
    use proptest::prelude::*;

    const CALM: State = State {
        exit: None,
        request: None,
        request_unwritten: false,
        termination_signal: false,
        age_secs: 60,
        max_runtime_secs: 60,
        job_limit_secs: None,
        silent_secs: 30,
        max_silence_secs: Some(30),
        entry_gone_secs: 60,
    };

    #[test]
    fn rule_3_within_its_bound_a_run_is_never_touched() {
        assert_eq!(decide(CALM), Step::Wait);
    }

    #[test]
    fn rule_3_past_its_bound_it_is_ended_with_both_numbers() {
        match decide(State { age_secs: 61, ..CALM }) {
            Step::End(EndCause::TimedOut, reason) => {
                assert_eq!(reason, "exceeded max runtime: 1 min 1 s, 1 min allowed");
            }
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn a_signal_close_to_the_limit_of_its_job_is_slurms_and_any_other_is_an_interruption() {
        let signalled = |age_secs| {
            let state = State { termination_signal: true, job_limit_secs: Some(600), max_runtime_secs: 900, ..CALM };
            decide(State { age_secs, ..state })
        };
        assert!(matches!(signalled(419), Step::End(EndCause::Interrupted, _)));
        assert!(matches!(signalled(420), Step::End(EndCause::TimedOut, reason) if reason.contains("10 min")));
    }

    #[test]
    fn rule_3_a_silence_beyond_its_bound_ends_it_with_both_numbers() {
        match decide(State { silent_secs: 31, ..CALM }) {
            Step::End(EndCause::Silent, reason) => assert!(reason.contains("31 s") && reason.contains("30 s")),
            step => panic!("{step:?}"),
        }
        assert_eq!(decide(State { silent_secs: u64::MAX, max_silence_secs: None, ..CALM }), Step::Wait);
    }

    #[test]
    fn a_run_whose_entry_is_gone_for_a_minute_is_ended() {
        let step = decide(State { entry_gone_secs: 61, ..CALM });
        assert!(matches!(step, Step::End(EndCause::Interrupted, _)), "{step:?}");
    }

    #[test]
    fn an_agent_that_ended_is_finished_even_past_its_bound() {
        let exit = AgentExit { code: Some(0), ..AgentExit::default() };
        assert_eq!(decide(State { exit: Some(exit), age_secs: 99, ..CALM }), Step::Finish(exit));
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
        let state = State { request: Some(request.clone()), termination_signal: true, age_secs: 99, ..CALM };
        assert_eq!(decide(state), Step::Obey(request));
    }

    #[test]
    fn a_signal_from_outside_interrupts_whichever_process_got_it_first() {
        let exit = AgentExit { code: None, signal: Some(15) };
        for exit in [None, Some(exit)] {
            let step = decide(State { termination_signal: true, exit, ..CALM });
            assert!(matches!(step, Step::End(EndCause::Interrupted, _)), "{step:?}");
        }
    }

    #[test]
    fn a_request_that_is_not_on_disk_stops_unless_the_bound_is_over() {
        let unwritten = State { request_unwritten: true, termination_signal: true, ..CALM };
        assert!(matches!(decide(unwritten.clone()), Step::End(EndCause::Stopped, _)));
        assert!(matches!(decide(State { age_secs: 61, ..unwritten }), Step::End(EndCause::TimedOut, _)));
    }

    proptest! {
        #[test]
        fn only_age_beyond_the_bound_times_out(age: u64, bound: u64) {
            let step = decide(State { age_secs: age, max_runtime_secs: bound, ..CALM });
            prop_assert_eq!(matches!(step, Step::End(EndCause::TimedOut, _)), age > bound);
        }
    }
}
