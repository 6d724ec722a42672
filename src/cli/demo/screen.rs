//! What the demo prints: numbered steps, requests and answers. Colours only in a terminal that wants them.

use std::io::Write;

use anstyle::{AnsiColor, Style};

const HEADING: Style = Style::new().bold();
const ASKED: Style = AnsiColor::Cyan.on_default();
const ANSWERED: Style = AnsiColor::Green.on_default();
const FAINT: Style = Style::new().dimmed();

pub(super) struct Screen {
    pub(super) out: anstream::Stdout,
    /// How many were shown.
    pub(super) steps: u32,
}

/// A line of a table: a name, and a value of one line or more.
pub(super) type Row = (&'static str, String);

impl Screen {
    pub(super) fn step(&mut self, text: &str) -> anyhow::Result<()> {
        self.steps += 1;
        Ok(writeln!(self.out, "\n{HEADING}{:>2}. {text}{HEADING:#}", self.steps)?)
    }

    pub(super) fn heading(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "{HEADING}{text}{HEADING:#}")?)
    }

    pub(super) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "    {text}")?)
    }

    pub(super) fn asked(&mut self, method: &str, arguments: &[Row]) -> anyhow::Result<()> {
        writeln!(self.out, "    {ASKED}> {method}{ASKED:#}")?;
        self.table(arguments)
    }

    /// Shows an answer, or what the demo saw for itself.
    pub(super) fn answered(&mut self, summary: &str, rows: &[Row]) -> anyhow::Result<()> {
        writeln!(self.out, "    {ANSWERED}< {summary}{ANSWERED:#}")?;
        self.table(rows)
    }

    pub(super) fn verdict(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "\n{ANSWERED}{text}{ANSWERED:#}")?)
    }

    pub(super) fn verbatim(&mut self, text: &str) -> anyhow::Result<()> {
        text.lines().try_for_each(|line| Ok(writeln!(self.out, "  {line}")?))
    }

    fn table(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in rows {
            for (number, line) in value.lines().enumerate() {
                let name = if number == 0 { name } else { "" };
                writeln!(self.out, "        {FAINT}{name:width$}{FAINT:#}  {line}")?;
            }
        }
        Ok(())
    }
}
