//! A routine's prompt, `prompt.md`: what may stand in it, and reading it while a person edits it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::invalid_field::InvalidField;
use super::slug::Slug;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::file_cache::Stamp;

pub(super) const PROMPT_FILE: &str = "prompt.md";

const MAX_BYTES: usize = 1024 * 1024;

/// The pause between two looks at a prompt that is being saved.
const SAVING_PAUSE: Duration = Duration::from_millis(20);

/// How long an editor may take to save a prompt that it has emptied.
const SAVED_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct EmptyPrompt {
    pub path: PathBuf,
    /// Whether it is so for longer than an editor needs to save it.
    pub is_certain: bool,
}

/// Returns the file of a routine's prompt; it need not be there.
pub fn file(home: &Home, slug: &Slug) -> PathBuf {
    slug.directory(home).join(PROMPT_FILE)
}

/// Refuses a prompt that is blank, too large, or holds a NUL.
pub(super) fn check(prompt: &str) -> Result<(), InvalidField> {
    if is_empty(prompt) {
        return Err(InvalidField::new("prompt", "empty", "the agent needs something to do; write it down"));
    }
    if prompt.len() > MAX_BYTES {
        let value = format_args!("{} bytes long", prompt.len()).to_string();
        let rule = format!("at most {MAX_BYTES} bytes; put the rest into a file and name it");
        return Err(InvalidField::new("prompt", value, rule));
    }
    if prompt.contains('\0') {
        return Err(InvalidField::new("prompt", "a text with a NUL character", "remove that character"));
    }
    Ok(())
}

pub fn read(home: &Home, slug: &Slug) -> Result<String, FileError> {
    read_with_stamp(&file(home, slug)).map(|(prompt, _)| prompt)
}

pub(super) fn read_with_stamp(file: &Path) -> Result<(String, Stamp), FileError> {
    atomic_file::read_text_with_stamp(file, MAX_BYTES as u64)
}

/// Reads a routine's prompt for a run. An editor that saves it in place empties it first, so one that is empty is looked at
/// again until `saved_by`.
pub fn read_for_run(home: &Home, slug: &Slug, saved_by: Instant) -> Result<Result<String, EmptyPrompt>, FileError> {
    loop {
        let prompt = read(home, slug)?;
        if !is_empty(&prompt) {
            return Ok(Ok(prompt));
        }
        if Instant::now() >= saved_by {
            let path = file(home, slug);
            let written = path.metadata().and_then(|metadata| metadata.modified());
            let age = written.ok().and_then(|written| written.elapsed().ok());
            return Ok(Err(EmptyPrompt { path, is_certain: age.is_some_and(|age| age > SAVED_AFTER) }));
        }
        std::thread::sleep(SAVING_PAUSE);
    }
}

pub(super) fn is_empty(prompt: &str) -> bool {
    prompt.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_is_being_saved_is_waited_for_and_an_empty_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let slug: Slug = "saved".parse().unwrap();
        std::fs::create_dir(slug.directory(&home)).unwrap();
        let file = file(&home, &slug);
        for empty in ["", " \n\t"] {
            std::fs::write(&file, empty).unwrap();
            let EmptyPrompt { path, is_certain } = read_for_run(&home, &slug, Instant::now()).unwrap().unwrap_err();
            assert!(path == file && !is_certain, "it was written just now");
        }
        let written = std::time::SystemTime::now() - 2 * SAVED_AFTER;
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(written).unwrap();
        assert!(read_for_run(&home, &slug, Instant::now()).unwrap().unwrap_err().is_certain);
        let saved = std::thread::scope(|scope| {
            let run = scope.spawn(|| read_for_run(&home, &slug, Instant::now() + Duration::from_secs(60)));
            std::thread::sleep(2 * SAVING_PAUSE);
            std::fs::write(&file, "do it again").unwrap();
            run.join().unwrap()
        });
        assert_eq!(saved.unwrap().unwrap(), "do it again");
    }
}
