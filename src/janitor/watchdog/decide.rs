//! What to do with one run: a pure function.

use crate::run::end::SUPERVISOR_MARGIN;
use crate::run::liveness::Liveness;
use crate::run::record::{EndCause, exceeded_max_queue, exceeded_max_runtime, exceeded_max_silence};

/// How much longer than its bound and grace a run may take while it has a supervisor, which should end it.
const SUPERVISOR_ALLOWANCE_SECS: u64 = 15;

/// How much longer than allowed an agent without a supervisor may be silent: its last output is a time on the wall clock,
/// which may have been set by that much unnoticed.
const SILENCE_ALLOWANCE_SECS: u64 = 60;

/// What the watchdog knows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched<'a> {
    pub(super) liveness: &'a Liveness,
    pub(super) age_secs: u64,
    /// The cause of an end that was requested, and the seconds since.
    pub(super) ending: Option<(EndCause, u64)>,
    pub(super) max_runtime_secs: u64,
    /// How long it may wait in a queue.
    pub(super) max_queue_secs: u64,
    /// Seconds since its last output, if certain, and how many are allowed.
    pub(super) silence_secs: Option<(u64, u64)>,
    pub(super) grace_secs: u64,
}

/// What to do with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Leave,
    Record,
    End(EndCause, String),
}

/// Decides about one run (rule 3). A run within its bounds is left alone, and so is an unknown one.
pub(super) fn decide(watched: &Watched<'_>) -> Action {
    let Watched { age_secs, max_runtime_secs, grace_secs, .. } = *watched;
    let exceeded = || Action::End(EndCause::TimedOut, exceeded_max_runtime(age_secs, max_runtime_secs));
    let undone = |cause, how: &str| Action::End(cause, format!("its end was requested, but {how}"));
    match (watched.liveness, watched.ending) {
        (Liveness::Unknown(_) | Liveness::Judging(_), _) => Action::Leave,
        (Liveness::Dead, _) => Action::Record,
        (Liveness::Queued(_), Some((cause, _))) => undone(cause, "Slurm still has its job"),
        (Liveness::Queued(_), None) if age_secs > watched.max_queue_secs => {
            Action::End(EndCause::LaunchFailed, exceeded_max_queue(age_secs, watched.max_queue_secs))
        }
        (Liveness::Queued(_), None) => Action::Leave,
        (Liveness::Unsupervised(_), Some((cause, _))) => undone(cause, "nothing has ended it"),
        (Liveness::Unsupervised(_), None) if age_secs > max_runtime_secs => exceeded(),
        (Liveness::Unsupervised(_), None) => match watched.silence_secs {
            Some((silent, max)) if silent > max.saturating_add(SILENCE_ALLOWANCE_SECS) => {
                Action::End(EndCause::Silent, exceeded_max_silence(silent, max))
            }
            _ => Action::Leave,
        },
        (Liveness::Owned | Liveness::Elsewhere(_), Some((cause, since)))
            if since > grace_secs + SUPERVISOR_MARGIN.as_secs() =>
        {
            undone(cause, "its supervisor did not end it")
        }
        // Also if its end was requested: the time of the request is on the wall clock, which can be set.
        (Liveness::Owned | Liveness::Elsewhere(_), _)
            if age_secs > max_runtime_secs.saturating_add(grace_secs + SUPERVISOR_ALLOWANCE_SECS) =>
        {
            exceeded()
        }
        _ => Action::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_tree::{Process, ProcessId};
    use proptest::prelude::*;

    fn unsupervised() -> Liveness {
        Liveness::Unsupervised(vec![Process { id: ProcessId { pid: 2, start: 2 }, name: "x".into() }])
    }

    fn watched(liveness: &Liveness, age_secs: u64, ending_secs: Option<u64>) -> Watched<'_> {
        let ending = ending_secs.map(|secs| (EndCause::Stopped, secs));
        Watched {
            liveness,
            age_secs,
            ending,
            max_runtime_secs: 100,
            max_queue_secs: 500,
            silence_secs: None,
            grace_secs: 10,
        }
    }

    #[test]
    fn rule_3_the_supervisor_gets_its_chance_first() {
        assert_eq!(decide(&watched(&Liveness::Owned, 125, None)), Action::Leave);
        assert!(
            matches!(decide(&watched(&Liveness::Owned, 126, None)), Action::End(_, reason) if reason.contains("2 min 6 s"))
        );
        assert_eq!(decide(&watched(&Liveness::Owned, 50, Some(15))), Action::Leave);
        assert!(matches!(decide(&watched(&Liveness::Owned, 50, Some(16))), Action::End(..)));
    }

    #[test]
    fn rule_3_an_end_that_was_asked_for_in_the_future_does_not_lift_the_bound() {
        assert!(matches!(decide(&watched(&Liveness::Owned, 126, Some(0))), Action::End(..)));
    }

    #[test]
    fn rule_3_without_a_supervisor_the_bound_itself_counts() {
        let alone = unsupervised();
        assert_eq!(decide(&watched(&alone, 100, None)), Action::Leave);
        assert!(matches!(decide(&watched(&alone, 101, None)), Action::End(..)));
        let undone = decide(&watched(&alone, 1, Some(0)));
        assert!(matches!(undone, Action::End(EndCause::Stopped, _)), "for the cause that was given: {undone:?}");
    }

    #[test]
    fn rule_3_without_a_supervisor_a_certain_silence_counts_with_an_allowance() {
        let alone = unsupervised();
        let silent = |secs| Watched { silence_secs: Some((secs, 20)), ..watched(&alone, 90, None) };
        assert_eq!(decide(&silent(80)), Action::Leave);
        assert!(matches!(decide(&silent(81)), Action::End(EndCause::Silent, reason) if reason.contains("1 min 21 s")));
        let supervised = Watched { liveness: &Liveness::Owned, ..silent(9999) };
        assert_eq!(decide(&supervised), Action::Leave, "its supervisor knows better");
    }

    #[test]
    fn in_the_queue_only_the_bound_of_the_queue_counts() {
        let queued = Liveness::Queued("waits".to_owned());
        assert_eq!(decide(&watched(&queued, 500, None)), Action::Leave);
        let too_long = decide(&watched(&queued, 501, None));
        assert!(matches!(too_long, Action::End(EndCause::LaunchFailed, reason) if reason.contains("max_queue_secs")));
        assert!(matches!(decide(&watched(&queued, 1, Some(0))), Action::End(EndCause::Stopped, _)));
    }

    #[test]
    fn rule_3_where_slurm_placed_it_its_supervisor_gets_its_chance_first_too() {
        let elsewhere = Liveness::Elsewhere("on n1".to_owned());
        assert_eq!(decide(&watched(&elsewhere, 125, None)), Action::Leave);
        assert!(matches!(decide(&watched(&elsewhere, 126, None)), Action::End(EndCause::TimedOut, _)));
    }

    #[test]
    fn the_dead_are_recorded() {
        assert_eq!(decide(&watched(&Liveness::Dead, 1, None)), Action::Record);
    }

    proptest! {
        #[test]
        fn rule_2_the_unknown_are_never_touched(age: u64, ending: Option<u64>) {
            prop_assert_eq!(decide(&watched(&Liveness::Unknown("x".into()), age, ending)), Action::Leave);
        }

        #[test]
        fn rule_3_within_its_bounds_no_run_is_touched(age in 0..=100u64, owned: bool) {
            let liveness = if owned { Liveness::Owned } else { unsupervised() };
            prop_assert_eq!(decide(&watched(&liveness, age, None)), Action::Leave);
        }
    }
}
