//! Whether a workbench is still the directory that its agent was started in: in another one, a verification would run elsewhere.

use std::os::unix::fs::MetadataExt;

use crate::run::workbench::Workbench;

/// The device and the inode of a workbench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct WorkbenchIdentity(Option<(u64, u64)>);

impl WorkbenchIdentity {
    /// Looks at a workbench; there is none where a symlink or nothing is in its place.
    pub(super) fn of(workbench: &Workbench) -> Self {
        let metadata = workbench.directory().symlink_metadata().ok().filter(std::fs::Metadata::is_dir);
        Self(metadata.map(|metadata| (metadata.dev(), metadata.ino())))
    }

    /// Says why nothing may run in a workbench that had this identity; `None` if it has it still.
    pub(super) fn trouble(self, workbench: &Workbench) -> Option<&'static str> {
        let is_same = self.0.is_some() && self == Self::of(workbench);
        match workbench.directory().symlink_metadata() {
            Ok(_) if is_same => None,
            Ok(_) => Some("its workbench was replaced"),
            Err(_) => Some("its workbench is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_the_same_directory_is_the_same_workbench() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        let (path, moved) = (workbench.directory(), dir.path().join("moved"));
        fs::create_dir(path).unwrap();
        let identity = WorkbenchIdentity::of(&workbench);
        assert_eq!(identity.trouble(&workbench), None);
        assert!(WorkbenchIdentity::default().trouble(&workbench).is_some());
        fs::rename(path, &moved).unwrap();
        assert_eq!(identity.trouble(&workbench), Some("its workbench is gone"));
        symlink(&moved, path).unwrap();
        assert_eq!(identity.trouble(&workbench), Some("its workbench was replaced"), "a symlink to itself");
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        assert_eq!(identity.trouble(&workbench), Some("its workbench was replaced"), "another directory");
        fs::remove_dir(path).unwrap();
        fs::rename(&moved, path).unwrap();
        assert_eq!(identity.trouble(&workbench), None);
    }
}
