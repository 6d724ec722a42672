//! Runs that an account's usage limit ended: how they are recognised, what is said of them, and when the next attempt is.

use super::record::AgentExit;
use crate::agent::output::{FinalEvent, Limit, Summary, limit_in_words};
use crate::clock::UnixSeconds;

/// How many attempts in a row may meet the limit before no further attempt is made.
pub(super) const MAX_TRIES: u32 = 8;

/// The pauses before the first attempts where it is not known when the limit is reset; the last one holds for all that follow.
const PAUSES_SECS: [u64; 3] = [15 * 60, 30 * 60, 60 * 60];

/// The shortest pause: the agent's clock and ours may differ.
const LEAST_PAUSE_SECS: u64 = 60;

/// Returns the usage limit that ended a run whose agent ended by itself. An agent that said that it succeeded was not ended by
/// one, and one that said nothing is believed only if it exited with an error.
pub(crate) fn that_ended(exit: AgentExit, summary: Option<&Summary>) -> Option<&Limit> {
    let summary = summary?;
    let has_failed = match summary.ended {
        Some(FinalEvent::Failed) => true,
        Some(FinalEvent::Succeeded) => false,
        None => exit.code.is_some_and(|code| code != 0),
    };
    summary.limit.as_ref().filter(|limit| has_failed && limit.is_of_usage())
}

/// Says that a limit is used up, and when it is reset.
pub(crate) fn in_words(limit: &Limit) -> String {
    let kind = limit_in_words(&limit.kind);
    match limit.resets_at {
        Some(at) => format!("the account's {kind} is used up; it resets at {at}"),
        None => format!("the account's {kind} is used up; when it resets is not known"),
    }
}

/// Returns until when nothing is tried after a run that a limit ended at `ended`, the `tries`-th in a row.
pub(super) fn held_until(limit: Option<&Limit>, ended: UnixSeconds, tries: u32) -> UnixSeconds {
    match limit.and_then(|limit| limit.resets_at) {
        Some(at) => at.max(ended.plus_secs(LEAST_PAUSE_SECS)),
        None => {
            let place = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
            ended.plus_secs(PAUSES_SECS[place.min(PAUSES_SECS.len() - 1)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_795_702_000);

    fn limit(kind: &str, resets_at: Option<UnixSeconds>) -> Limit {
        Limit { kind: kind.to_owned(), resets_at }
    }

    #[test]
    fn only_a_usage_limit_that_the_run_failed_of_counts() {
        use FinalEvent::{Failed, Succeeded};
        let exit = |code, signal| AgentExit { code, signal };
        let cases = [
            ("five_hour", Some(Failed), exit(Some(1), None), true),
            ("five_hour", Some(Failed), exit(Some(0), None), true),
            ("five_hour", Some(Failed), exit(None, Some(15)), true),
            ("five_hour", Some(Succeeded), exit(Some(1), None), false),
            ("five_hour", None, exit(Some(1), None), true),
            ("five_hour", None, exit(Some(0), None), false),
            ("five_hour", None, exit(None, Some(9)), false),
            ("rate_limit", Some(Failed), exit(Some(1), None), false),
        ];
        for (kind, ended, exit, counts) in cases {
            let summary = Summary { limit: Some(limit(kind, None)), ended, ..Summary::default() };
            assert_eq!(that_ended(exit, Some(&summary)).is_some(), counts, "{kind} {ended:?} {exit:?}");
        }
        let failed = Summary { ended: Some(Failed), ..Summary::default() };
        assert_eq!(that_ended(exit(Some(1), None), Some(&failed)), None);
        assert_eq!(that_ended(exit(Some(1), None), None), None, "an agent that prints text");
    }

    #[test]
    fn a_limit_without_a_known_reset_is_tried_after_15_30_and_60_minutes() {
        let pauses: Vec<u64> = (1..=5).map(|tries| held_until(None, NOW, tries).0 - NOW.0).collect();
        assert_eq!(pauses, [15, 30, 60, 60, 60].map(|minutes| minutes * 60));
        assert_eq!(held_until(Some(&limit("usage", None)), NOW, u32::MAX), NOW.plus_secs(3600));
        let known = limit("five_hour", Some(NOW.plus_secs(7200)));
        assert_eq!(held_until(Some(&known), NOW, 5), NOW.plus_secs(7200));
        let past = limit("five_hour", Some(UnixSeconds(NOW.0 - 60)));
        assert_eq!(held_until(Some(&past), NOW, 1), NOW.plus_secs(60));
    }

    #[test]
    fn a_limit_reads_as_a_sentence() {
        assert_eq!(
            in_words(&limit("five_hour", Some(NOW))),
            "the account's 5-hour limit is used up; it resets at 2026-11-26T14:06:40Z"
        );
        assert!(
            in_words(&limit("usage", None))
                .starts_with("the account's usage limit is used up; when it resets is not known")
        );
    }
}
