//! A person's editor, on copies of files.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::home;

/// Why a text was not saved.
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Whether another look at the text helps.
    pub(super) is_in_the_text: bool,
}

/// What stands before each line of a reason in a draft.
const MARK: &str = "#! ";

fn marked(reason: &str) -> String {
    let lines = reason.lines().map(|line| format!("{MARK}{line}\n"));
    lines.chain([format!("{MARK}Correct it, or close the editor without changes to give up.\n")]).collect()
}

/// Takes out the lines that were put in, each once: one that a person wrote may begin like them.
fn without(inserted: &str, text: &str) -> String {
    let mut inserted: Vec<&str> = inserted.lines().collect();
    let is_theirs = |line: &&str| {
        let ours = inserted.iter().position(|ours| *ours == line.trim_end_matches(['\r', '\n']));
        ours.map(|index| inserted.remove(index)).is_none()
    };
    text.split_inclusive('\n').filter(is_theirs).collect()
}

/// Copies that only this user can read, in a directory that goes with them: they may hold keys.
pub(super) struct Drafts {
    directory: Arc<Directory>,
    files: Vec<PathBuf>,
}

/// A directory that is removed, unless somebody keeps it.
struct Directory {
    path: PathBuf,
    is_kept: AtomicBool,
}

impl Directory {
    fn remove(&self) {
        if !self.is_kept.load(Ordering::SeqCst) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    /// Removes it also where a signal ends this process, as when a terminal is closed. Ctrl-C is for the editor; what that does about
    /// it decides.
    fn remove_on_signals(self: &Arc<Self>) -> std::io::Result<()> {
        signal_hook::flag::register(SIGINT, Arc::default())?;
        let mut signals = Signals::new([SIGHUP, SIGTERM])?;
        let directory = Arc::clone(self);
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                directory.remove();
                let _ = emulate_default_handler(signal);
            }
        });
        Ok(())
    }
}

impl Drafts {
    /// Writes them, each a name and a text.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(texts: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("moadim-edit-{}", home::random_suffix()));
        let context = || format!("cannot write to {}", directory.display());
        let own = Arc::new(Directory { path: directory.clone(), is_kept: AtomicBool::new(false) });
        own.remove_on_signals().context("cannot listen for signals")?;
        DirBuilder::new().mode(0o700).create(&directory).with_context(context)?;
        let mut drafts = Self { directory: own, files: Vec::new() };
        for (name, text) in texts {
            let path = directory.join(name);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(context)?;
            file.write_all(text.as_bytes()).with_context(context)?;
            drafts.files.push(path);
        }
        Ok(drafts)
    }

    /// Opens the editor on all of them, and returns what they say once it has ended.
    ///
    /// # Errors
    /// There is no editor, it failed, or a file cannot be read.
    fn edit(&self) -> anyhow::Result<Vec<String>> {
        let editor =
            ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|word| !word.is_empty()));
        let editor = editor.unwrap_or_else(|| "vi".to_owned());
        // It may be several words, such as `code --wait`.
        let status = Command::new("sh").args(["-c", &format!("exec {editor} \"$@\""), "sh"]).args(&self.files).status();
        let status = status.with_context(|| format!("cannot start the editor '{editor}'; set VISUAL or EDITOR"))?;
        if !status.success() {
            bail!("the editor '{editor}' failed ({status}), so nothing was changed; set VISUAL or EDITOR to another");
        }
        let read =
            |file: &PathBuf| std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        self.files.iter().map(read).collect()
    }

    /// Writes one again, for another look.
    ///
    /// # Errors
    /// The system's.
    fn rewrite(&self, index: usize, text: &str) -> anyhow::Result<()> {
        let file = &self.files[index];
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Opens the editor until what was written can be saved: what is refused comes back with the reason at the top of the first file.
    /// Gives up, and leaves the files, if that was not corrected, or nobody is there to do so.
    ///
    /// # Errors
    /// The editor's, or the last reason.
    pub(super) fn edit_until<T>(self, mut save: impl FnMut(&[String]) -> Result<T, Refusal>) -> anyhow::Result<T> {
        let mut refused: Option<Vec<String>> = None;
        let mut inserted = String::new();
        loop {
            let mut texts = self.edit()?;
            if let Some(first) = texts.first_mut() {
                *first = without(&inserted, first);
            }
            let Refusal { reason, is_in_the_text } = match save(&texts) {
                Ok(saved) => return Ok(saved),
                Err(refusal) => refusal,
            };
            let is_stuck = refused.as_ref() == Some(&texts);
            if is_stuck || !is_in_the_text || !std::io::stdin().is_terminal() {
                bail!("{reason}; what you wrote is in {}", self.keep().display());
            }
            if let Some(first) = texts.first() {
                inserted = marked(&reason);
                self.rewrite(0, &(inserted.clone() + first))?;
            }
            refused = Some(texts);
        }
    }

    /// Leaves them where they are, and says where that is.
    fn keep(self) -> PathBuf {
        self.directory.is_kept.store(true, Ordering::SeqCst);
        self.directory.path.clone()
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        self.directory.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_that_were_put_in_are_taken_out() {
        let inserted = marked("routine.toml: bad\nline 3");
        let theirs = "#! mine\ntitle = \"x\"\n#! routine.toml: bad\n";
        assert_eq!(without("", theirs), theirs, "nothing was put in yet");
        assert_eq!(without(&inserted, &(inserted.clone() + theirs)), theirs, "each once");
        let (first, rest) = inserted.split_once('\n').unwrap();
        let moved = format!("{rest}title = \"x\"\r\n{first}");
        assert_eq!(without(&inserted, &moved), "title = \"x\"\r\n");
    }
}
