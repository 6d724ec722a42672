//! A person's editor, on copies of files.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::home;

/// Why a text was not saved.
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Whether another look at the text helps.
    pub(super) is_in_the_text: bool,
}

/// What stands before each line of a reason in a draft; such lines are taken out again.
const MARK: &str = "#! ";

fn marked(reason: &str) -> String {
    let lines = reason.lines().map(|line| format!("{MARK}{line}\n"));
    lines.chain([format!("{MARK}Correct it, or close the editor without changes to give up.\n")]).collect()
}

fn without_marks(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(MARK)).collect()
}

/// Copies that only this user can read, in a directory that goes with them.
pub(super) struct Drafts {
    directory: PathBuf,
    files: Vec<PathBuf>,
}

impl Drafts {
    /// Writes them, each a name and a text.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(texts: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("moadim-edit-{}", home::random_suffix()));
        let context = || format!("cannot write to {}", directory.display());
        DirBuilder::new().mode(0o700).create(&directory).with_context(context)?;
        let mut drafts = Self { directory: directory.clone(), files: Vec::new() };
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
        loop {
            let mut texts = self.edit()?;
            if let Some(first) = texts.first_mut() {
                *first = without_marks(first);
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
                self.rewrite(0, &(marked(&reason) + first))?;
            }
            refused = Some(texts);
        }
    }

    /// Leaves them where they are, and says where that is.
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.directory)
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        if self.directory != Path::new("") {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}
