//! Splitting a stream of bytes into lines, in bounded memory.

/// A longer line is not understood, and only its beginning is shown.
///
/// Parsed, the worst of its length takes ninety times the memory.
pub(crate) const MAX_LINE_BYTES: usize = 1024 * 1024;
/// How much of a longer line is kept: 200 characters of any length.
const HEAD_BYTES: usize = 200 * 4;
/// Memory beyond this is given back after a line.
const KEPT_CAPACITY: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its end.
    Whole(&'a [u8]),
    /// The beginning of one longer than [`MAX_LINE_BYTES`], and how long it was.
    TooLong { head: &'a [u8], bytes: u64 },
}

/// The line of which the end did not come yet.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// How many bytes followed `begun` and were dropped.
    dropped: u64,
}

impl Lines {
    /// Takes the next bytes and gives each line that they end. Only `\n` ends one: agents leave other separators in texts as they are.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (piece, next) = rest.split_at(end);
            rest = &next[1..];
            if self.begun.is_empty() && piece.len() <= MAX_LINE_BYTES {
                each(Line::Whole(piece));
            } else {
                self.keep(piece);
                self.give(&mut each);
            }
        }
        self.keep(rest);
    }

    /// Gives the last line, if it has no end.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.begun.is_empty() {
            self.give(&mut each);
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let total = self.begun.len().saturating_add(piece.len());
        if self.dropped == 0 && total <= MAX_LINE_BYTES {
            if total > self.begun.capacity() {
                let capacity = total.max(2 * self.begun.capacity()).min(MAX_LINE_BYTES);
                self.begun.reserve_exact(capacity - self.begun.len());
            }
            self.begun.extend_from_slice(piece);
            return;
        }
        let missing = HEAD_BYTES.saturating_sub(self.begun.len()).min(piece.len());
        self.begun.extend_from_slice(&piece[..missing]);
        let over = self.begun.len().saturating_sub(HEAD_BYTES);
        self.begun.truncate(HEAD_BYTES);
        self.begun.shrink_to(HEAD_BYTES);
        self.dropped = self.dropped.saturating_add((over + piece.len() - missing) as u64);
    }

    fn give(&mut self, each: &mut impl FnMut(Line<'_>)) {
        each(match self.dropped {
            0 => Line::Whole(&self.begun),
            dropped => Line::TooLong { head: &self.begun, bytes: dropped.saturating_add(self.begun.len() as u64) },
        });
        self.begun.clear();
        self.begun.shrink_to(KEPT_CAPACITY);
        self.dropped = 0;
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.begun.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the lines of some pieces were; a long one as its length.
    fn lines(pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, u64>> {
        let mut found = Vec::new();
        let mut take = |line: Line<'_>| match line {
            Line::Whole(line) => found.push(Ok(line.to_vec())),
            Line::TooLong { head, bytes } => {
                assert_eq!(head.len(), HEAD_BYTES);
                found.push(Err(bytes));
            }
        };
        let mut lines = Lines::default();
        for piece in pieces {
            lines.feed(piece, &mut take);
            assert!(lines.capacity() <= MAX_LINE_BYTES);
        }
        lines.finish(&mut take);
        found
    }

    #[test]
    fn only_a_line_feed_ends_a_line() {
        let text = "a\u{2028}b\r\n\nc\u{85}d".as_bytes();
        let expected = ["a\u{2028}b\r", "", "c\u{85}d"].map(|line| Ok(line.as_bytes().to_vec()));
        assert_eq!(lines(&[text]), expected);
    }

    #[test]
    fn a_line_is_kept_up_to_the_bound_and_counted_beyond() {
        let longest = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(lines(&[&longest, b"\nrest"]), [Ok(longest.clone()), Ok(b"rest".to_vec())]);
        let counted = [Err(MAX_LINE_BYTES as u64 + 1), Ok(b"rest".to_vec())];
        assert_eq!(lines(&[&longest, b"x\nrest"]), counted);
        assert_eq!(lines(&[&longest[1..], b"x", b"x\nrest"]), counted);
        assert_eq!(lines(&[&[longest.as_slice(), b"x\nrest"].concat()]), counted);
        assert_eq!(lines(&[b"x", &longest]), [Err(MAX_LINE_BYTES as u64 + 1)]);
    }

    #[test]
    fn a_line_of_64_mb_is_read_in_bounded_memory() {
        let piece = vec![b'x'; 64 * 1024];
        let mut lines = Lines::default();
        let (mut capacity, mut found) = (0, None);
        for _ in 0..1024 {
            lines.feed(&piece, |_| panic!("no line ended"));
            capacity = capacity.max(lines.capacity());
        }
        lines.feed(b"\n", |line| {
            if let Line::TooLong { bytes, .. } = line {
                found = Some(bytes)
            }
        });
        assert_eq!(found, Some(64 * 1024 * 1024));
        assert!(capacity <= MAX_LINE_BYTES && lines.capacity() <= KEPT_CAPACITY, "{capacity}");
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_lines(text in "[a\n]{0,60}", cuts in proptest::collection::vec(0..60_usize, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let mut expected: Vec<_> = text.split('\n').map(|line| Ok(line.as_bytes().to_vec())).collect();
            if text.ends_with('\n') || text.is_empty() {
                expected.pop();
            }
            prop_assert_eq!(lines(&pieces), expected);
        }
    }
}
