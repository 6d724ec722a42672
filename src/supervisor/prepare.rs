//! What comes before the agent's start: clones of the routine's repositories, then the agent's setup.
//!
//! All of it happens in the run's process tree and under its bound, and ends when the run is to end. A trigger does not wait
//! for it, and answers that the run is being prepared.

use super::exec::Part;
use super::mirror::Git;
use super::setup_step::{NotPrepared, quoted};
use super::supervision::Supervisor;
use crate::agent::output::OutputFormat;
use crate::run::log::{Log, MAX_TEXT_BYTES, stderr_end};
use crate::run::record::EndCause;

impl Supervisor {
    /// Does what has to be done before the agent can start.
    pub(super) fn prepare(&mut self) -> Result<(), NotPrepared> {
        if !self.manifest.needs_preparation() {
            return Ok(());
        }
        let repositories = self.manifest.repositories.clone();
        if !repositories.is_empty() {
            let environment = self.entry.environment().map_err(NotPrepared::failed)?;
            let git = Git::find(&environment.inherited, &self.manifest.cookie).map_err(NotPrepared::failed)?;
            for repository in &repositories {
                self.clone_repository(&git, repository)?;
            }
        }
        if self.manifest.command.setup.is_empty() { Ok(()) } else { self.set_up() }
    }

    fn set_up(&mut self) -> Result<(), NotPrepared> {
        if let Err(not) = self.start_part(Part::Setup) {
            self.children.forget();
            return Err(match not {
                NotPrepared::End(EndCause::LaunchFailed, reason) => {
                    NotPrepared::failed(format_args!("its setup failed: {reason}"))
                }
                not => not,
            });
        }
        let exit = self.await_child()?;
        if exit.code == Some(0) {
            return Ok(());
        }
        const SHOWN_LINES: usize = 5;
        const SHOWN_BYTES: u64 = 2 * 1024;
        let said = match self.manifest.command.output {
            OutputFormat::Text => Log::open(&self.workbench())
                .and_then(|log| log.tail(SHOWN_LINES, MAX_TEXT_BYTES))
                .map(|tail| tail.text)
                .unwrap_or_default(),
            _ => stderr_end(&self.workbench(), SHOWN_BYTES),
        };
        let program = self.manifest.command.setup.first().map_or("", String::as_str);
        Err(NotPrepared::failed(format_args!("its setup command {program} {}{}", exit.how(), quoted(&said))))
    }
}
