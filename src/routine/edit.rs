//! Changing a routine's file as a person would: its comments and the order of its keys stay.

use toml_edit::{DocumentMut, value};

use super::slug::Slug;
use super::store::definition_file;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};

/// Enables or disables a routine. The caller holds the routines' lock.
///
/// # Errors
/// The file cannot be read or written, or is no TOML.
pub fn set_enabled(home: &Home, slug: &Slug, enabled: bool) -> Result<(), FileError> {
    let path = definition_file(home, slug);
    let text = atomic_file::read_text(&path)?;
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| FileError::damaged(&path, error.to_string().trim_end()))?;
    document["enabled"] = value(enabled);
    document["updated_at"] = value(UnixSeconds::now().to_string());
    atomic_file::write(&path, document.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routine::store;

    #[test]
    fn comments_and_order_stay() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let slug: Slug = "a".parse().unwrap();
        std::fs::create_dir(home.routines().join("a")).unwrap();
        let file = home.routines().join("a/routine.toml");
        let text = "# Mine.\nagent = \"claude\" # the good one\ntitle = \"A\"\ncreated_at = \"2026-01-01T00:00:00Z\"\n\
                    updated_at = \"2026-01-01T00:00:00Z\"\n\n[env]\nB = \"1\"\n";
        std::fs::write(&file, text).unwrap();
        set_enabled(&home, &slug, false).unwrap();
        let changed = std::fs::read_to_string(&file).unwrap();
        assert!(changed.starts_with("# Mine.\nagent = \"claude\" # the good one\ntitle = \"A\"\n"), "{changed}");
        assert!(!store::load(&home, &slug).unwrap().definition.enabled, "and not in a table: {changed}");
        set_enabled(&home, &slug, true).unwrap();
        assert!(store::load(&home, &slug).unwrap().definition.enabled);
    }
}
