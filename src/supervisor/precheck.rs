//! The precheck: whether the run is started at all, and what its prompt hears of it.

use std::io::Read;
use std::time::Duration;

use super::check::{CheckEnd, last_words};
use super::exec::Part;
use super::setup_step::NotPrepared;
use super::supervision::Supervisor;
use crate::agent::output::plain;
use crate::agent::{AgentCommand, MAX_ARGUMENT_BYTES};
use crate::home::atomic_file::{self, FileError};
use crate::run::entry::PRECHECK_OUTPUT;
use crate::run::log;
use crate::run::prompt::{cut, precheck_frame};

/// How long it may take.
const PRECHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// How much of its output joins the prompt.
const MAX_OUTPUT_BYTES: usize = 16 * 1024;

/// What follows from how a precheck ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Start,
    /// It said no, for this reason.
    Skip(String),
    /// It said neither, which is said with the run's end.
    StartAnyway(String),
}

/// Decides: only exit status 1 means no, so that a check that is broken never passes for one that found nothing to do.
fn decide(end: &CheckEnd, last_words: &str) -> Decision {
    match end.code() {
        Some(0) => Decision::Start,
        Some(1) if last_words.is_empty() => Decision::Skip("its precheck exited with status 1".to_owned()),
        Some(1) => Decision::Skip(last_words.to_owned()),
        _ => {
            let said = if last_words.is_empty() { String::new() } else { format!(": {last_words}") };
            Decision::StartAnyway(format!("its precheck {}, so the run was started{said}", end.how()))
        }
    }
}

impl Supervisor {
    /// Runs the precheck, if there is one; returns why the run is skipped, if it is.
    pub(super) fn precheck(&mut self) -> Result<Option<String>, NotPrepared> {
        if self.manifest.has_checks() {
            // Now, because it is gone from the disk once the agent has started.
            self.check_environment = Some(self.entry.environment().map_err(NotPrepared::failed)?.for_checks());
        }
        let Some(precheck) = self.manifest.precheck.clone() else { return Ok(None) };
        let messages = self.mark_messages();
        let end = self.run_check(Part::Precheck, PRECHECK_TIMEOUT)?;
        let said = [last_words(&self.entry.file(PRECHECK_OUTPUT), 0), messages.last_words()];
        let said = said.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ");
        let output = match decide(&end, &said) {
            Decision::Skip(reason) => {
                log::append_note(&self.workbench(), &format!("skipped by its precheck: {reason}"));
                return Ok(Some(reason));
            }
            Decision::Start => self.precheck_output(),
            Decision::StartAnyway(trouble) => {
                log::append_note(&self.workbench(), &trouble);
                self.precheck_trouble = Some(trouble);
                String::new()
            }
        };
        if let Some(slot) = precheck.slot {
            self.fill_slot(&slot, &output).map_err(NotPrepared::failed)?;
        }
        Ok(None)
    }

    /// Reads the beginning of what the precheck printed, as plain text.
    fn precheck_output(&self) -> String {
        let read = || {
            let file = atomic_file::open_regular(&self.entry.file(PRECHECK_OUTPUT)).ok()?;
            let mut bytes = Vec::new();
            file.take(MAX_OUTPUT_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = plain(&String::from_utf8_lossy(&bytes));
        cut(text.trim_end(), MAX_OUTPUT_BYTES)
    }

    /// Puts the output, framed, in the place that the prompt has for it: in its file, in the words of the agent and its setup, and on disk, where
    /// the stub reads them.
    fn fill_slot(&mut self, slot: &str, output: &str) -> Result<(), FileError> {
        let output = if output.is_empty() { "(it printed nothing)" } else { output };
        let prompt_file = self.workbench().prompt_file();
        let prompt = atomic_file::read_text(&prompt_file)?;
        let output = framed(output, room(&self.manifest.command, slot));
        atomic_file::write(&prompt_file, prompt.replace(slot, &output).as_bytes())?;
        let command = &mut self.manifest.command;
        for word in command.args.iter_mut().chain(&mut command.setup).filter(|word| word.contains(slot)) {
            *word = word.replace(slot, &output);
        }
        self.entry.set_manifest(&self.manifest)
    }
}

/// Returns how long a text may be that takes the place of a slot, so that no argument becomes too long.
fn room(command: &AgentCommand, slot: &str) -> usize {
    let of = |word: &String| {
        let slots = word.matches(slot).count();
        let rest = word.len() - slots * slot.len();
        (slots > 0).then(|| MAX_ARGUMENT_BYTES.saturating_sub(rest) / slots)
    };
    command.args.iter().chain(&command.setup).filter_map(of).min().unwrap_or(usize::MAX)
}

/// Frames as much of an output as fits with its frame.
fn framed(output: &str, max_bytes: usize) -> String {
    let frame_bytes = precheck_frame("").len();
    max_bytes.checked_sub(frame_bytes).map_or_else(String::new, |rest| precheck_frame(&cut(output, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::AgentExit;
    use proptest::prelude::*;

    #[test]
    fn only_status_1_says_no() {
        let exit = |code, signal| CheckEnd::Exited(AgentExit { code, signal });
        assert_eq!(decide(&exit(Some(0), None), "3 issues"), Decision::Start);
        assert_eq!(decide(&exit(Some(1), None), "no issues"), Decision::Skip("no issues".into()));
        assert_eq!(decide(&exit(Some(1), None), ""), Decision::Skip("its precheck exited with status 1".into()));
        for (end, how) in [
            (exit(Some(2), None), "exited with status 2"),
            (exit(Some(255), None), "exited with status 255"),
            (exit(None, Some(9)), "was ended by signal 9"),
            (CheckEnd::TookTooLong(PRECHECK_TIMEOUT), "took more than 1 min"),
            (CheckEnd::NotStarted("no such program".into()), "could not be started: no such program"),
        ] {
            let expected = format!("its precheck {how}, so the run was started");
            assert_eq!(decide(&end, ""), Decision::StartAnyway(expected.clone()));
            assert_eq!(decide(&end, "oh"), Decision::StartAnyway(format!("{expected}: oh")));
        }
    }

    proptest! {
        #[test]
        fn what_fills_a_slot_makes_no_argument_too_long(before in 0..MAX_ARGUMENT_BYTES, slots in 1..4usize, text in "[a-zé]{0,40}", times in 0..500usize) {
            const SLOT: &str = "<slot 7>";
            prop_assume!(before + slots * SLOT.len() <= MAX_ARGUMENT_BYTES);
            let word = format!("{}{}", "x".repeat(before), SLOT.repeat(slots));
            let command = AgentCommand { args: vec!["-p".into(), word.clone()], ..AgentCommand::default() };
            let text = text.repeat(times);
            let filled = word.replace(SLOT, &framed(&text, room(&command, SLOT)));
            prop_assert!(filled.len() <= MAX_ARGUMENT_BYTES, "{}", filled.len());
            prop_assert!(!filled.contains(SLOT));
            if before + slots * precheck_frame(&text).len() <= MAX_ARGUMENT_BYTES {
                let whole = format!("]\n{text}\n[end ");
                prop_assert!(filled.contains(&whole));
            }
            prop_assert_eq!(room(&command, "elsewhere"), usize::MAX);
        }
    }
}
