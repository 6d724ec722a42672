//! The last thing that a terminal shows: a mark for whoever writes its log.
//!
//! tmux drops what it has read and not yet handed on when the process of a pane ends (seen: the last 4 KiB of a burst). So
//! that process stays until its mark has come through.

use std::io::{self, Write};

/// An operating system command of a number that no terminal knows, so that nothing of it is seen.
pub(super) const END_MARK: &[u8] = b"\x1b]7707;moadim;end\x1b\\";

/// Passes everything on but the mark.
#[derive(Debug, Default)]
pub(super) struct EndMarkFilter {
    /// How much of the mark the input so far ends with.
    seen: usize,
}

impl EndMarkFilter {
    /// Passes the next bytes on; returns whether the mark came with them. What follows it, such as the echo of what a
    /// person types, is passed on too.
    ///
    /// # Errors
    /// Those of `output`; the bytes are then dropped.
    pub(super) fn pass(&mut self, bytes: &[u8], output: &mut impl Write) -> io::Result<bool> {
        let text = [&END_MARK[..self.seen], bytes].concat();
        let (mut kept, mut rest, mut came) = (Vec::with_capacity(text.len()), text.as_slice(), false);
        while let Some(at) = rest.windows(END_MARK.len()).position(|window| window == END_MARK) {
            kept.extend_from_slice(&rest[..at]);
            rest = &rest[at + END_MARK.len()..];
            came = true;
        }
        self.seen = (1..END_MARK.len()).rev().find(|&n| rest.ends_with(&END_MARK[..n])).unwrap_or(0);
        kept.extend_from_slice(&rest[..rest.len() - self.seen]);
        output.write_all(&kept)?;
        Ok(came)
    }

    /// Passes on what might have become the mark.
    ///
    /// # Errors
    /// Those of `output`.
    pub(super) fn finish(self, output: &mut impl Write) -> io::Result<()> {
        output.write_all(&END_MARK[..self.seen])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mark_that_is_cut_anywhere_is_seen_and_not_passed_on() {
        let all = [b"last words\x1b]77".as_slice(), END_MARK].concat();
        for cut in 0..all.len() {
            let (mut filter, mut log) = (EndMarkFilter::default(), Vec::new());
            assert!(!filter.pass(&all[..cut], &mut log).unwrap(), "{cut}");
            assert!(filter.pass(&all[cut..], &mut log).unwrap(), "{cut}");
            filter.finish(&mut log).unwrap();
            assert_eq!(log, b"last words\x1b]77", "{cut}");
        }
    }

    #[test]
    fn what_comes_after_the_mark_is_passed_on() {
        let (mut filter, mut log) = (EndMarkFilter::default(), Vec::new());
        assert!(filter.pass(&[b"a", END_MARK, b"b", END_MARK, b"\x1b]"].concat(), &mut log).unwrap());
        assert!(!filter.pass(b"c", &mut log).unwrap());
        filter.finish(&mut log).unwrap();
        assert_eq!(log, b"ab\x1b]c");
    }

    proptest! {
        #[test]
        fn whatever_holds_no_mark_is_passed_on_whole(pieces: Vec<Vec<u8>>, starts in prop::collection::vec(0..END_MARK.len(), 0..4)) {
            let mut pieces = pieces;
            pieces.extend(starts.into_iter().map(|n| END_MARK[..n].to_vec()));
            let (mut filter, mut log) = (EndMarkFilter::default(), Vec::new());
            for piece in &pieces {
                prop_assert!(!filter.pass(piece, &mut log).unwrap());
            }
            filter.finish(&mut log).unwrap();
            prop_assert_eq!(log, pieces.concat());
        }
    }
}
