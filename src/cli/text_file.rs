//! Reading what a person says to a run from a file, or from standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::run::prompt::MAX_TEXT_BYTES;

/// Reads a text; `-` is standard input.
///
/// # Errors
/// It cannot be read, is too long for a run, or is not UTF-8.
pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?),
    };
    let read = source.take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", file.display()))?;
    // Before it is read as text: the last byte may be part of a character.
    if bytes.len() > MAX_TEXT_BYTES {
        bail!(
            "{} has more than {MAX_TEXT_BYTES} bytes, which is too long for the text of a run; put the rest into a file and name it",
            file.display()
        );
    }
    String::from_utf8(bytes).with_context(|| format!("cannot read {}", file.display()))
}
