//! Whether a home is all in one piece: a rename goes neither to another file system nor to another mount of the same one.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::random_suffix;

/// Returns those of the folders that nothing can be renamed to from the home's own directory. Writes nothing.
pub fn folders_apart(root: &Path, folders: &[PathBuf]) -> Vec<PathBuf> {
    let is_apart = |folder: &&PathBuf| on_another_device(root, folder) || on_another_mount(root, folder);
    folders.iter().filter(is_apart).cloned().collect()
}

/// Catches what has no mount of its own, such as a subvolume of btrfs.
fn on_another_device(root: &Path, folder: &Path) -> bool {
    match (root.symlink_metadata(), folder.symlink_metadata()) {
        (Ok(root), Ok(folder)) => root.dev() != folder.dev(),
        // What cannot be looked at is reported where it is used.
        _ => false,
    }
}

/// Catches a bind mount, which has the device of what is around it. Linux compares the mounts before it looks for the name, which
/// nothing has.
fn on_another_mount(root: &Path, folder: &Path) -> bool {
    let nothing = format!(".{}.none", random_suffix());
    let renamed = std::fs::rename(folder.join(&nothing), root.join(&nothing));
    renamed.is_err_and(|error| error.kind() == io::ErrorKind::CrossesDevices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_directory_are_in_one_piece_and_another_file_system_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (root, folder) = (dir.path(), dir.path().join("folder"));
        std::fs::create_dir(&folder).unwrap();
        let gone = root.join("gone");
        assert_eq!(folders_apart(root, &[folder.clone(), gone.clone()]), [] as [PathBuf; 0]);
        // Of a file system of its own on every system that has it.
        let elsewhere = PathBuf::from("/dev");
        assert_eq!(folders_apart(root, &[folder, elsewhere.clone(), gone]), [elsewhere]);
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 1, "nothing was written");
    }
}
