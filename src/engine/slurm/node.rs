//! How a node is, as far as runs on it depend on that.

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// It answers its controller.
    Answers,
    /// It answers, and Slurm starts nothing there. Slurm itself drains a node on which processes of a job outlive it.
    Drained,
    /// It does not answer, or has no power.
    Silent,
    /// Nothing certain is known of it: nobody asked, nobody answered, or its state leaves it open.
    Unclear,
}

impl Node {
    /// Reads a state as `sinfo` prints it with `%T`, with a mark behind it where there is more to say (`man sinfo`, "NODE STATE CODES").
    pub(super) fn of_state(state: &str) -> Self {
        let name = state.trim_end_matches(|mark: char| mark.is_ascii_punctuation() && mark != '_');
        match (name, state.chars().last()) {
            // Not responding, powered off, and about to be.
            (_, Some('*' | '~' | '%')) | ("powered_down" | "powering_down", _) => Self::Silent,
            // Being powered on, or started again.
            (_, Some('#' | '^')) => Self::Unclear,
            ("idle" | "mixed" | "allocated" | "completing" | "planned" | "reserved" | "maint", _) => Self::Answers,
            ("drained" | "draining", _) => Self::Drained,
            // A node that a person sets down is on, and may answer or not.
            _ => Self::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_answers_only_in_states_that_say_so() {
        let states = [
            (
                Node::Answers,
                &["idle", "mixed", "allocated", "completing", "idle-", "allocated@", "mixed$", "maint"][..],
            ),
            (Node::Drained, &["drained", "draining", "draining@"]),
            (Node::Silent, &["down*", "idle*", "drained*", "idle~", "allocated%", "powering_down", "powered_down"]),
            (
                Node::Unclear,
                &["down", "unknown", "fail", "failing", "future", "idle#", "reboot^", "powering_up", "", "new"],
            ),
        ];
        for (node, states) in states {
            for state in states {
                assert_eq!(Node::of_state(state), node, "{state}");
            }
        }
    }
}
