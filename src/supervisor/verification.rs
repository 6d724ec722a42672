//! The verification: a person's command decides whether a run whose agent ended well has succeeded.

use std::time::Duration;

use super::exec::Part;
use super::setup_step::NotPrepared;
use super::supervision::Supervisor;
use crate::quote::{quote, shell_word};
use crate::run::disagreement::Verification;
use crate::run::log;
use crate::run::record::{AgentExit, Verify};

impl Supervisor {
    /// Verifies what an agent did that ended like this; `None` where nobody wants that.
    ///
    /// # Errors
    /// The run has to end first.
    pub(super) fn verify(&mut self, exit: AgentExit) -> Result<Option<Verification>, NotPrepared> {
        const SHOWN_COLUMNS: usize = 200;
        let Some(Verify { command, max_secs }) = self.manifest.verify.clone() else { return Ok(None) };
        if let Some(trouble) = self.workbench_identity.trouble(&self.workbench()) {
            self.note(&format!("verification failed: {trouble}"));
            return Ok(Some(self.verified(Err(trouble.to_owned()))));
        }
        // What the agent printed last comes before what is printed now.
        if let Some(terminal) = self.terminal.take() {
            terminal.finish();
        }
        if let Err(error) = self.entry.set_verifying(&exit) {
            tracing::warn!(%error, "that the verification began is not on disk");
        }
        let words: Vec<String> = command.iter().map(|word| shell_word(word)).collect();
        self.note(&format!("verifying: {}", quote(&words.join(" "), SHOWN_COLUMNS)));
        let messages = self.mark_messages();
        let end = self.run_check(Part::Verify, Duration::from_secs(max_secs))?;
        if end.code() == Some(0) {
            self.note("verified");
            return Ok(Some(self.verified(Ok(()))));
        }
        let program = quote(command.first().map_or("", String::as_str), SHOWN_COLUMNS);
        let said = messages.last_words();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let failure = format!("{program} {}{said}", end.how());
        self.note(&format!("verification failed: {failure}"));
        Ok(Some(self.verified(Err(failure))))
    }

    /// Writes down how it ended, for a judge that records the run in our place.
    fn verified(&self, verification: Verification) -> Verification {
        if let Err(error) = self.entry.set_verified(&verification) {
            tracing::warn!(%error, "how the verification ended is not on disk");
        }
        verification
    }

    /// Adds a line of our own to every log: one of events shows nothing of what a check prints.
    fn note(&self, text: &str) {
        log::append_note(&self.workbench(), text);
        log::append_note_to_stderr(&self.workbench(), text);
    }
}
