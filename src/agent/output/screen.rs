//! What a person reads of a run: one line, or a few, for each event.

use std::fmt::Write;

use serde_json::Value;

use super::plain::{cut, one_line, plain};
use super::question::AskedQuestion;
use super::summary::{Denied, Usage};
use crate::money::MicroDollars;

const MAX_DETAIL_CHARS: usize = 200;
const MAX_ERROR_CHARS: usize = 300;
const MAX_RAW_CHARS: usize = 300;
const MAX_RESULT_LINES: usize = 5;
const MAX_RESULT_CHARS: usize = 500;

/// The argument that tells most of a tool call, the best first.
const TELLING_ARGUMENTS: [&str; 9] =
    ["command", "file_path", "filePath", "path", "absolute_path", "pattern", "query", "url", "question"];

/// Text to be shown, always of whole lines but for text that comes in pieces.
#[derive(Default)]
pub(super) struct Screen {
    shown: String,
    /// Whether the last line waits for more pieces.
    is_open: bool,
    /// Whether the last line says that the model thinks.
    says_thinking: bool,
    /// How many tool calls were shown.
    pub calls: u64,
    /// The last error, not to be repeated by the end.
    last_error: String,
}

impl Screen {
    /// Moves what there is to show to the end of `shown`.
    pub(super) fn move_to(&mut self, shown: &mut String) {
        shown.push_str(&self.shown);
        self.shown.clear();
        self.shown.shrink_to(64 * 1024);
    }

    /// Ends a line that waits for more pieces.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.shown.push('\n');
        }
        self.says_thinking = false;
    }

    fn line(&mut self, line: &str) {
        self.close();
        self.shown.push_str(line);
        self.shown.push('\n');
    }

    /// Shows a message of the agent.
    pub(super) fn text(&mut self, text: &str) {
        let text = plain(text);
        let text = text.trim_end_matches('\n');
        if !text.trim().is_empty() {
            self.line(text);
        }
    }

    /// Shows a piece of a message; the next continues it.
    pub(super) fn piece(&mut self, piece: &str) {
        let piece = plain(piece);
        if !self.is_open {
            self.close();
        }
        if let Some(last) = piece.chars().last() {
            self.shown.push_str(&piece);
            self.is_open = last != '\n';
        }
    }

    pub(super) fn thinking(&mut self) {
        if !self.says_thinking {
            self.line("(thinking)");
            self.says_thinking = true;
        }
    }

    pub(super) fn started(&mut self, model: &str, session: &str) {
        let model = one_line(model, MAX_DETAIL_CHARS);
        let session = one_line(session, MAX_DETAIL_CHARS);
        match (model.as_str(), session.as_str()) {
            ("", "") => {}
            (model, "") => self.line(model),
            ("", session) => self.line(&format!("session {session}")),
            (model, session) => self.line(&format!("{model} · session {session}")),
        }
    }

    /// Shows a tool call: the tool, and the most telling of its arguments.
    pub(super) fn call(&mut self, tool: &str, arguments: &Value) {
        self.call_with(tool, &telling(arguments));
    }

    pub(super) fn call_with(&mut self, tool: &str, detail: &str) {
        self.calls += 1;
        let tool = one_line(tool, MAX_DETAIL_CHARS);
        match one_line(detail, MAX_DETAIL_CHARS).as_str() {
            "" => self.line(&format!("→ {tool}")),
            detail => self.line(&format!("→ {tool}: {detail}")),
        }
    }

    /// Shows the beginning of what a tool returned.
    pub(super) fn result(&mut self, text: &str) {
        self.indented(&plain(text));
    }

    /// Shows the beginning of what a tool returned that failed.
    pub(super) fn failed_result(&mut self, text: &str) {
        let text = plain(text);
        let (first, rest) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
        let first = if first.is_empty() { "failed" } else { first };
        self.line(&format!("✗ {}", cut(first, MAX_ERROR_CHARS)));
        self.indented(rest);
    }

    fn indented(&mut self, text: &str) {
        let text = text.trim_end().trim_start_matches('\n');
        if text.is_empty() {
            return;
        }
        let (mut left, mut lines) = (MAX_RESULT_CHARS, text.lines());
        for line in lines.by_ref().take(MAX_RESULT_LINES) {
            let shown = cut(line, left.max(1));
            self.line(&format!("  {shown}"));
            left = left.saturating_sub(line.chars().count());
            if left == 0 {
                break;
            }
        }
        match lines.count() {
            0 => {}
            1 => self.line("  … (1 more line)"),
            more => self.line(&format!("  … ({} more lines)", grouped(more as u64))),
        }
    }

    pub(super) fn error(&mut self, text: &str) {
        let text = one_line(text, MAX_ERROR_CHARS);
        self.line(&format!("✗ {}", if text.is_empty() { "error" } else { &text }));
        self.last_error = text;
    }

    pub(super) fn denied(&mut self, tool: &str, why: &str) {
        let tool = one_line(tool, MAX_DETAIL_CHARS);
        match one_line(why, MAX_DETAIL_CHARS).as_str() {
            "" => self.line(&format!("✗ denied: {tool}")),
            why => self.line(&format!("✗ denied: {tool}: {why}")),
        }
    }

    /// Shows that a request is made again: which attempt it is, of how many, and why.
    pub(super) fn retrying(&mut self, attempt: Option<(u64, u64)>, why: &str) {
        let mut line = String::from("… retrying");
        if let Some((attempt, of)) = attempt {
            _ = write!(line, " (attempt {attempt} of {of})");
        }
        match one_line(why, MAX_DETAIL_CHARS).as_str() {
            "" => self.line(&line),
            why => self.line(&format!("{line}: {why}")),
        }
    }

    /// Shows something short about the run itself.
    pub(super) fn note(&mut self, text: &str) {
        self.line(&format!("({})", one_line(text, MAX_DETAIL_CHARS)));
    }

    /// Shows what a person is asked, each question in a line.
    pub(super) fn question(&mut self, asked: &AskedQuestion) {
        for question in asked.text.lines() {
            self.line(&format!("question: {}", one_line(question, MAX_ERROR_CHARS)));
        }
        if !asked.options.is_empty() {
            self.line(&format!("  options: {}", one_line(&asked.options.join(", "), MAX_ERROR_CHARS)));
        }
    }

    pub(super) fn done(&mut self, turns: Option<u64>, usage: Option<&Usage>, denied: &[Denied]) {
        let mut figures = Vec::new();
        if let Some(turns) = turns {
            figures.push(format!("{} turn{}", grouped(turns), if turns == 1 { "" } else { "s" }));
        }
        if let Some(usage) = usage {
            figures.push(format!("{} tokens in", grouped(usage.input_tokens)));
            figures.push(format!("{} out", grouped(usage.output_tokens)));
            figures.extend(usage.cost_usd.map(dollars));
        }
        let count: u64 = denied.iter().fold(0, |sum, denied| sum.saturating_add(denied.count));
        if count > 0 {
            figures.push(format!("{} denied", grouped(count)));
        }
        let colon = if figures.is_empty() { "" } else { ": " };
        self.line(&format!("✓ done{colon}{}", figures.join(", ")));
    }

    pub(super) fn failed(&mut self, words: &str) {
        let words = one_line(words, MAX_ERROR_CHARS);
        if words.is_empty() || words == self.last_error {
            self.line("✗ failed");
        } else {
            self.line(&format!("✗ failed: {words}"));
        }
    }

    /// Shows the beginning of an event that is not known.
    pub(super) fn raw(&mut self, line: &str) {
        self.line(&cut(&plain(line), MAX_RAW_CHARS));
    }

    /// Shows a line that is no event.
    pub(super) fn other(&mut self, line: &str) {
        self.line(&plain(line));
    }
}

fn telling(arguments: &Value) -> String {
    let named = TELLING_ARGUMENTS.iter().find_map(|name| arguments.get(name)?.as_str());
    match (named, arguments) {
        (Some(text), _) => text.to_owned(),
        (None, Value::String(text)) => text.clone(),
        (None, Value::Null) => String::new(),
        (None, Value::Object(fields)) if fields.is_empty() => String::new(),
        (None, other) => other.to_string(),
    }
}

/// Writes a number with commas.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes an amount in cents, a small one in tenths of them, and what is below a cent exactly.
fn dollars(amount: MicroDollars) -> String {
    let dollars = f64::from(amount);
    if amount.0 < 10_000 {
        amount.to_string()
    } else if amount.0 < 100_000 {
        format!("${dollars:.3}")
    } else {
        format!("${dollars:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(show: impl Fn(&mut Screen)) -> String {
        let (mut screen, mut shown) = (Screen::default(), String::new());
        show(&mut screen);
        screen.close();
        screen.move_to(&mut shown);
        shown
    }

    #[test]
    fn a_call_shows_its_most_telling_argument() {
        for (arguments, expected) in [
            (json!({"description": "d", "command": "cargo\n test"}), "→ T: cargo test\n"),
            (json!({"content": "x", "filePath": "a.rs"}), "→ T: a.rs\n"),
            (json!({"depth": 3}), "→ T: {\"depth\":3}\n"),
            (json!({}), "→ T\n"),
            (json!(null), "→ T\n"),
            (json!("text"), "→ T: text\n"),
        ] {
            assert_eq!(shown(|screen| screen.call("T", &arguments)), expected);
        }
        let long = json!({ "command": "x".repeat(1000) });
        assert_eq!(shown(|screen| screen.call("T", &long)).chars().count(), "→ T: \n".len() - 2 + MAX_DETAIL_CHARS);
    }

    #[test]
    fn a_result_is_cut_to_a_few_lines() {
        assert_eq!(shown(|screen| screen.result("\na\n b\n\n")), "  a\n   b\n");
        assert_eq!(shown(|screen| screen.result(" \n")), "");
        let lines: String = (1..=17).map(|line| format!("{line}\n")).collect();
        assert_eq!(shown(|screen| screen.result(&lines)), "  1\n  2\n  3\n  4\n  5\n  … (12 more lines)\n");
        assert!(shown(|screen| screen.result(&"x\n".repeat(6))).ends_with("… (1 more line)\n"));
        let long = shown(|screen| screen.result(&format!("{}\nnext\n", "é".repeat(1000))));
        assert_eq!(long, format!("  {}…\n  … (1 more line)\n", "é".repeat(499)));
        assert_eq!(shown(|screen| screen.failed_result("no\nwhy\n")), "✗ no\n  why\n");
        assert_eq!(shown(|screen| screen.failed_result("")), "✗ failed\n");
    }

    #[test]
    fn pieces_continue_a_line_and_anything_else_begins_one() {
        let show = |screen: &mut Screen| {
            screen.piece("Hel");
            screen.piece("lo.\n");
            screen.piece("");
            screen.piece("More");
            screen.thinking();
            screen.thinking();
            screen.piece("x");
            screen.text("y\n\n");
        };
        assert_eq!(shown(show), "Hello.\nMore\n(thinking)\nx\ny\n");
    }

    #[test]
    fn the_end_shows_figures_and_repeats_no_error() {
        let usage = Usage {
            input_tokens: 12_345,
            output_tokens: 678,
            cost_usd: Some(MicroDollars(123_456)),
            ..Usage::default()
        };
        let denied = [Denied { tool: "Write".into(), count: 2 }];
        let done = shown(|screen| screen.done(Some(3), Some(&usage), &denied));
        assert_eq!(done, "✓ done: 3 turns, 12,345 tokens in, 678 out, $0.12, 2 denied\n");
        assert_eq!(shown(|screen| screen.done(None, None, &[])), "✓ done\n");
        let failed = |screen: &mut Screen| {
            screen.error("no");
            screen.failed("no");
            screen.failed("other");
        };
        assert_eq!(shown(failed), "✗ no\n✗ failed\n✗ failed: other\n");
        let written = [0, 2_500, 12_345, 1_005_000].map(|micros| dollars(MicroDollars(micros)));
        assert_eq!(written, ["$0.00", "$0.0025", "$0.012", "$1.00"]);
    }
}
