//! The names in a directory.

use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, open};
use rustix::io::Errno;

use super::atomic_file::FileError;

/// Calls `see` with each name in a directory and what is a directory itself (a symlink is none), in no order; names that are not
/// UTF-8 are left out, because ours are. There may be very many, so no list of them is made.
pub fn scan(directory: &Path, mut see: impl FnMut(&str, Kind)) -> Result<(), FileError> {
    let fail = |source: Errno| FileError::io("list", directory, source.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = open(directory, flags, Mode::empty()).map_err(fail)?;
    let mut files = Dir::new(opened).map_err(fail)?;
    while let Some(file) = files.read() {
        let file = file.map_err(fail)?;
        let Ok(name) = file.file_name().to_str() else { continue };
        if [".", ".."].contains(&name) {
            continue;
        }
        let is_directory = match file.file_type() {
            FileType::Directory => true,
            // Some file systems do not say.
            FileType::Unknown => directory.join(name).symlink_metadata().is_ok_and(|it| it.is_dir()),
            _ => false,
        };
        see(name, if is_directory { Kind::Directory } else { Kind::Other });
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// Anything else; a symlink to a directory is that.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn each_name_is_seen_once_with_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("directory")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("directory", dir.path().join("link")).unwrap();
        let _ = std::fs::write(dir.path().join(OsStr::from_bytes(b"\xff")), "");
        let mut seen = BTreeMap::new();
        scan(dir.path(), |name, kind| assert_eq!(seen.insert(name.to_owned(), kind), None)).unwrap();
        let expected = [("directory", Kind::Directory), ("file", Kind::Other), ("link", Kind::Other)];
        assert_eq!(seen, expected.map(|(name, kind)| (name.to_owned(), kind)).into());
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_that_names_it() {
        let gone = tempfile::tempdir().unwrap().path().join("workbenches");
        let error = scan(&gone, |_, _| {}).unwrap_err().to_string();
        assert!(error.contains(gone.to_str().unwrap()), "{error}");
    }
}
