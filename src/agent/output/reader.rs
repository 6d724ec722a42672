//! From the bytes of a run's stdout to what a person reads and what it says.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::claude::Claude;
use super::codex::Codex;
use super::copilot::Copilot;
use super::event::{Dialect, Known, Sink};
use super::format::OutputFormat;
use super::gemini::Gemini;
use super::lines::{Line, Lines};
use super::opencode::Opencode;
use super::plain::{cut, plain};
use super::screen::Screen;
use super::summary::Summary;
use crate::clock::UnixSeconds;

/// How much of a line is shown that is too long to be understood.
const SHOWN_OF_LONG_LINE_CHARS: usize = 200;

/// Reads stdout in pieces of any size. It may begin at any line: what came before it adds convenience only.
pub(crate) struct Reader {
    source: Source,
    summary: Summary,
    screen: Screen,
    now: UnixSeconds,
    zone: TimeZone,
    /// Whether its program keeps a session only once the model has answered.
    keeps_answered_sessions_alone: bool,
}

enum Source {
    Text(IncompleteText),
    Events { lines: Lines, dialect: Box<dyn Dialect> },
}

impl Reader {
    /// Begins to read. Times of day that an agent prints are taken in `zone`, as the next ones after `now`.
    pub(crate) fn new(format: OutputFormat, now: UnixSeconds, zone: &TimeZone) -> Self {
        let dialect: Option<Box<dyn Dialect>> = match format {
            OutputFormat::ClaudeStreamJson => Some(Box::new(Claude::default())),
            OutputFormat::QwenStreamJson => Some(Box::new(Claude::qwen())),
            OutputFormat::CodexJson => Some(Box::new(Codex::default())),
            OutputFormat::GeminiStreamJson => Some(Box::new(Gemini::default())),
            OutputFormat::OpencodeJson => Some(Box::new(Opencode::default())),
            OutputFormat::CopilotJson => Some(Box::new(Copilot::default())),
            OutputFormat::Text => None,
        };
        let source = match dialect {
            Some(dialect) => Source::Events { lines: Lines::default(), dialect },
            None => Source::Text(IncompleteText::default()),
        };
        let (summary, screen) = (Summary::default(), Screen::default());
        let keeps_answered_sessions_alone = format.keeps_answered_sessions_alone();
        Self { source, summary, screen, now, zone: zone.clone(), keeps_answered_sessions_alone }
    }

    /// Takes the next bytes and appends what a person reads of the lines that they end.
    pub(crate) fn read(&mut self, bytes: &[u8], shown: &mut String) {
        let Self { source, summary, screen, now, zone, .. } = self;
        match source {
            Source::Text(incomplete) => incomplete.pass_on(bytes, shown),
            Source::Events { lines, dialect } => {
                let mut sink = Sink { summary, screen, now: *now, zone };
                lines.feed(bytes, |line| take_line(line, dialect.as_mut(), &mut sink));
                screen.move_to(shown);
            }
        }
    }

    /// Takes a last line that has no end.
    pub(crate) fn finish(&mut self, shown: &mut String) {
        let Self { source, summary, screen, now, zone, .. } = self;
        match source {
            Source::Text(incomplete) => incomplete.finish(shown),
            Source::Events { lines, dialect } => {
                let mut sink = Sink { summary, screen, now: *now, zone };
                lines.finish(|line| take_line(line, dialect.as_mut(), &mut sink));
                screen.close();
                screen.move_to(shown);
            }
        }
    }

    /// Returns what the lines that were read say; nothing for [`OutputFormat::Text`].
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = self.summary.as_of_now(self.screen.calls);
        if self.keeps_answered_sessions_alone && !summary.has_answered {
            // What was only announced may not be there when somebody wants to go on with it.
            summary.session_id = None;
        }
        summary
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        match &self.source {
            Source::Text(incomplete) => incomplete.0.capacity(),
            Source::Events { lines, .. } => lines.capacity(),
        }
    }
}

fn take_line(line: Line<'_>, dialect: &mut dyn Dialect, sink: &mut Sink<'_>) {
    match line {
        Line::TooLong { head, bytes } => {
            let head = cut(&plain(&String::from_utf8_lossy(head)), SHOWN_OF_LONG_LINE_CHARS);
            let head = head.strip_suffix('…').unwrap_or(&head);
            sink.screen.other(&format!("{head}… (a line of {} MB)", bytes >> 20));
        }
        Line::Whole(line) => {
            let text = || String::from_utf8_lossy(line);
            if !line.trim_ascii_start().starts_with(b"{") {
                sink.screen.other(&text());
                return;
            }
            match serde_json::from_slice::<Value>(line) {
                Ok(event) => {
                    let calls = sink.screen.calls;
                    if dialect.event(&event, sink) == Known::No {
                        sink.screen.raw(&text());
                    }
                    if sink.screen.calls > calls {
                        sink.summary.go_on();
                    }
                }
                // Half an event, or text that begins like one.
                Err(_) => sink.screen.raw(&text()),
            }
        }
    }
}

/// The beginning of a character of which the rest did not come yet.
#[derive(Default)]
struct IncompleteText(Vec<u8>);

impl IncompleteText {
    fn pass_on(&mut self, bytes: &[u8], shown: &mut String) {
        self.0.extend_from_slice(bytes);
        let mut whole = self.0.len();
        if let Some(last) = self.0.utf8_chunks().last() {
            // A chunk's invalid end is a beginning if nothing follows it and it is no character's wrong byte.
            let invalid = last.invalid();
            if std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
                whole -= invalid.len();
            }
        }
        shown.push_str(&String::from_utf8_lossy(&self.0[..whole]));
        self.0.drain(..whole);
        self.0.shrink_to(4);
    }

    fn finish(&mut self, shown: &mut String) {
        shown.push_str(&String::from_utf8_lossy(&self.0));
        self.0.clear();
    }
}
