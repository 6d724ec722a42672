//! The end of the history, which is searched before a line is added that may be there already.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::{files, open_if_there};
use crate::home::Home;
use crate::home::atomic_file::FileError;

/// How much of the end of the history is searched: more than the lines of one gap.
const SEARCHED_BYTES: u64 = 256 * 1024;

/// Gives each of the last lines to `see`, damaged ones too, and returns the files that were read.
pub(super) fn each_recent_line(home: &Home, mut see: impl FnMut(&[u8])) -> Result<Vec<File>, FileError> {
    let mut read = Vec::new();
    let mut wanted_bytes = SEARCHED_BYTES;
    // The newest file may just have been begun.
    for found in files::list(home)? {
        if wanted_bytes == 0 {
            break;
        }
        let Some(mut file) = open_if_there(&found)? else { continue };
        let fail = |source| FileError::io("read", &found.path, source);
        let length = file.metadata().map_err(fail)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(wanted_bytes))).map_err(fail)?;
        let mut end = Vec::new();
        file.by_ref().take(wanted_bytes).read_to_end(&mut end).map_err(fail)?;
        wanted_bytes = wanted_bytes.saturating_sub(length);
        end.split(|byte| *byte == b'\n').for_each(&mut see);
        read.push(file);
    }
    Ok(read)
}
