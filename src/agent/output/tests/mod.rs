//! The recorded output of the real programs, read in every way: see `tests/agent-output/README.md`.

mod cut;
mod hostile;
mod samples;

use std::path::{Path, PathBuf};

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde_json::json;

use super::summary::{Denied, Limit};
use super::*;
use crate::clock::UnixSeconds;
use crate::money::MicroDollars;

/// Shortly before the samples were recorded.
const NOW: UnixSeconds = UnixSeconds(1_795_702_000);

const FORMATS: [(&str, OutputFormat); 6] = [
    ("claude", OutputFormat::ClaudeStreamJson),
    ("codex", OutputFormat::CodexJson),
    ("gemini", OutputFormat::GeminiStreamJson),
    ("opencode", OutputFormat::OpencodeJson),
    ("qwen", OutputFormat::QwenStreamJson),
    ("copilot", OutputFormat::CopilotJson),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent-output")
}

fn zone() -> TimeZone {
    TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap()
}

fn format_of(name: &str) -> OutputFormat {
    let agent = name.split('-').next().unwrap();
    FORMATS.iter().find(|(known, _)| *known == agent).unwrap().1
}

fn sample(name: &str) -> (OutputFormat, Vec<u8>) {
    (format_of(name), std::fs::read(directory().join(format!("{name}.jsonl"))).unwrap())
}

/// The names of all samples, in order.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|file| file.strip_suffix(".jsonl").map(str::to_owned)).collect();
    names.sort();
    assert!(names.len() > 100);
    names
}

fn read_in(format: OutputFormat, pieces: &[&[u8]]) -> (String, Summary) {
    let (mut reader, mut shown) = (Reader::new(format, NOW, &zone()), String::new());
    for piece in pieces {
        reader.read(piece, &mut shown);
    }
    reader.finish(&mut shown);
    (shown, reader.summary())
}

fn read(format: OutputFormat, output: impl AsRef<[u8]>) -> (String, Summary) {
    read_in(format, &[output.as_ref()])
}

fn read_sample(name: &str) -> (String, Summary) {
    let (format, output) = sample(name);
    read(format, output)
}

fn is_shown(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !turns && (!c.is_control() || matches!(c, '\n' | '\t'))
}

#[test]
fn names_of_formats_are_as_in_agent_files() {
    let names = ["claude-stream-json", "codex-json", "gemini-stream-json", "opencode-json", "qwen-stream-json"];
    for name in names.into_iter().chain(["copilot-json", "text"]) {
        let format: OutputFormat = serde_json::from_value(json!(name)).unwrap();
        assert_eq!(serde_json::to_value(format).unwrap(), name);
        let of_session = ["claude-stream-json", "codex-json", "qwen-stream-json"].contains(&name);
        assert_eq!(is_usage_of_whole_session(format), of_session);
    }
    assert_eq!(OutputFormat::default(), OutputFormat::Text);
}
