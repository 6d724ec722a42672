//! Which home this is: a copy of a home has the same records, and other runs.

use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use super::Home;

/// By which a home differs from a copy of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeIdentity {
    pub path: String,
    /// The device of its directory. The system may number devices differently after each boot.
    pub device: u64,
    pub inode: u64,
}

impl Home {
    /// Fails where the home's directory is gone or cannot be read.
    pub fn identity(&self) -> io::Result<HomeIdentity> {
        let metadata = self.root().symlink_metadata()?;
        let path = self.root().to_string_lossy().into_owned();
        Ok(HomeIdentity { path, device: metadata.dev(), inode: metadata.ino() })
    }
}

impl HomeIdentity {
    /// Returns how the home `here` differs from this one; `None` if it is the same. Devices and inodes are compared only
    /// within one boot of one machine.
    pub fn difference(&self, here: &Self, same_boot: bool) -> Option<String> {
        if self.path != here.path {
            Some(format!("it belongs to the home {}, and this one is {}", self.path, here.path))
        } else if same_boot && (self.device, self.inode) != (here.device, here.inode) {
            Some(format!("it belongs to another directory that was at {}, of which this one is a copy", self.path))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_another_home_and_a_reboot_is_none() {
        let here = HomeIdentity { path: "/a".into(), device: 1, inode: 2 };
        assert_eq!(here.difference(&here, true), None);
        let moved = HomeIdentity { path: "/b".into(), ..here.clone() };
        assert!(here.difference(&moved, false).unwrap().contains("/b"));
        for other in [HomeIdentity { inode: 3, ..here.clone() }, HomeIdentity { device: 3, ..here.clone() }] {
            assert!(here.difference(&other, true).unwrap().contains("a copy"));
            assert_eq!(here.difference(&other, false), None, "devices are numbered at each boot");
        }
    }
}
