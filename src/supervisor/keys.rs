//! What is written into a run's `keys`: what people type for an agent on a terminal, and the size of theirs.
//!
//! Each piece is written at once and is at most `PIPE_BUF` bytes long, so that those of several people never mix: the number of
//! bytes typed, in two bytes, and those; or 0, and the rows and the columns of a terminal.

use rustix::termios::Winsize;

/// The most keys in one piece: POSIX promises a `PIPE_BUF` of 512.
pub(crate) const MAX_KEYS: usize = 500;

/// Returns the piece for at most [`MAX_KEYS`] typed bytes.
pub(crate) fn typed(keys: &[u8]) -> Vec<u8> {
    let keys = &keys[..keys.len().min(MAX_KEYS)];
    let length = u16::try_from(keys.len()).unwrap_or(0);
    [&length.to_be_bytes(), keys].concat()
}

/// Returns the piece for a terminal's size.
pub(crate) fn resize(rows: u16, columns: u16) -> Vec<u8> {
    [[0, 0], rows.to_be_bytes(), columns.to_be_bytes()].concat()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Keys(Vec<u8>),
    Size(Winsize),
}

/// Takes the first whole piece out of what was read.
pub(super) fn next(read: &mut Vec<u8>) -> Option<Piece> {
    let number = |at: usize| Some(u16::from_be_bytes([*read.get(at)?, *read.get(at + 1)?]));
    let (piece, length) = match number(0)? {
        0 => {
            let size = Winsize { ws_row: number(2)?, ws_col: number(4)?, ws_xpixel: 0, ws_ypixel: 0 };
            (Piece::Size(size), 6)
        }
        keys => {
            let end = 2 + usize::from(keys);
            (Piece::Keys(read.get(2..end)?.to_vec()), end)
        }
    };
    read.drain(..length);
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_they_were_written_wherever_the_reading_is_cut() {
        let written = [typed(b"ls\r"), resize(40, 120), typed(&[0; 2 * MAX_KEYS]), typed(b"\x03")].concat();
        for cut in 0..written.len() {
            let (mut read, mut pieces) = (written[..cut].to_vec(), Vec::new());
            while let Some(piece) = next(&mut read) {
                pieces.push(piece);
            }
            read.extend_from_slice(&written[cut..]);
            pieces.extend(std::iter::from_fn(|| next(&mut read)));
            assert!(read.is_empty());
            assert_eq!(pieces[0], Piece::Keys(b"ls\r".to_vec()));
            let Piece::Size(size) = &pieces[1] else { panic!("{pieces:?}") };
            assert_eq!((size.ws_row, size.ws_col), (40, 120));
            assert_eq!(pieces[2..], [Piece::Keys(vec![0; MAX_KEYS]), Piece::Keys(b"\x03".to_vec())]);
        }
    }
}
