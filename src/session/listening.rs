//! Whether anything still listens on a socket's path, also when the path itself has been deleted.

#[cfg(target_os = "linux")]
pub(super) use by_the_kernels_table::is_bound;

#[cfg(not(target_os = "linux"))]
pub(super) use without_a_table::is_bound;

#[cfg(target_os = "linux")]
mod by_the_kernels_table {
    use std::io::ErrorKind;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    /// Tells whether a process of this network namespace is bound to `path`; `/proc/net/unix` (proc(5)) keeps the name
    /// of a socket whose file is gone.
    pub(in super::super) fn is_bound(path: &Path) -> bool {
        let table = match std::fs::read("/proc/net/unix") {
            Ok(table) => table,
            // Where it is not shown, what tmux says about the path has to do; where it could not be read, nothing is known.
            Err(error) => return !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied),
        };
        let entry = [b" ", path.as_os_str().as_bytes(), b"\n"].concat();
        table.windows(entry.len()).any(|window| window == entry)
    }
}

#[cfg(not(target_os = "linux"))]
mod without_a_table {
    use std::path::Path;

    /// Knows nothing here: what tmux says about the path has to do.
    pub(in super::super) fn is_bound(_: &Path) -> bool {
        false
    }
}
