//! Tables that fit the terminal, coloured where there is one.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, presets};

use crate::quote::quote;
use crate::run::status::{Status, Tone};

pub(super) use comfy_table::Cell;

pub(super) struct Table(comfy_table::Table);

/// The longest text of a cell, in characters: others chose it.
const MAX_CELL_CHARS: usize = 300;

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        let heading = |text: &&str| Cell::new(text).add_attribute(Attribute::Bold);
        table.load_style(presets::NOTHING).set_header(headings.iter().map(heading).collect::<Vec<_>>());
        // In a pipe, each row is one line.
        let terminal = io::stdout().is_terminal();
        let arrangement = if terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        // anstream removes colours where they are not wanted.
        table.set_content_arrangement(arrangement).enforce_styling();
        Self(table)
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.0.add_row(cells);
    }

    /// Writes the table to stdout, or `none` to stderr if it has no rows.
    pub(super) fn print(mut self, none: &str) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(anstream::stderr(), "{none}");
        }
        if let Some(first) = self.0.column_mut(0) {
            // A name that is split over two lines cannot be copied.
            first.set_padding((0, 1)).set_constraint(ColumnConstraint::ContentWidth);
        }
        writeln!(anstream::stdout(), "{}", self.0.trim_fmt())
    }
}

/// Makes a cell of a text that others chose.
pub(super) fn text(text: &str) -> Cell {
    Cell::new(quote(text, MAX_CELL_CHARS))
}

/// Makes a cell that matters less.
pub(super) fn faint(words: &str) -> Cell {
    text(words).add_attribute(Attribute::Dim)
}

/// Makes a green or a red cell.
pub(super) fn judged(words: &str, good: bool) -> Cell {
    text(words).fg(if good { Color::Green } else { Color::Red })
}

pub(super) fn status(status: Status) -> Cell {
    let cell = Cell::new(status);
    match status.tone() {
        Tone::Good => cell.fg(Color::Green),
        Tone::Active => cell.fg(Color::Cyan),
        Tone::Neutral => cell.fg(Color::Yellow),
        Tone::Faded => cell.add_attribute(Attribute::Dim),
        Tone::Bad => cell.fg(Color::Red),
    }
}
