//! The recorded output of the real programs, read in every way: see `tests/agent-output/README.md`.

use std::path::{Path, PathBuf};

use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::lines::MAX_LINE_BYTES;
use super::*;
use crate::clock::UnixSeconds;

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

fn read_in(format: OutputFormat, pieces: &[&[u8]]) -> (String, Report) {
    let (mut reader, mut shown) = (Reader::new(format, NOW, &zone()), String::new());
    for piece in pieces {
        reader.read(piece, &mut shown);
    }
    reader.finish(&mut shown);
    (shown, reader.report())
}

fn read(format: OutputFormat, output: impl AsRef<[u8]>) -> (String, Report) {
    read_in(format, &[output.as_ref()])
}

fn read_sample(name: &str) -> (String, Report) {
    let (format, output) = sample(name);
    read(format, output)
}

fn is_shown(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !turns && (!c.is_control() || matches!(c, '\n' | '\t'))
}

#[test]
fn every_sample_reads_as_expected() {
    for name in names() {
        let (shown, report) = read_sample(&name);
        assert!(shown.chars().all(is_shown), "{name}: {shown:?}");
        let report = serde_json::to_string_pretty(&report).unwrap();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(directory().join("expected"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name.as_str(), format!("{shown}----\n{report}")));
    }
}

#[test]
fn the_final_event_decides_and_an_interrupted_run_has_none() {
    use FinalEvent::{Failed, Succeeded};
    let cases = [
        ("claude-text", Some(Succeeded)),
        ("claude-denied", Some(Succeeded)),
        // `subtype` is "success".
        ("claude-401", Some(Failed)),
        ("claude-int", Some(Failed)),
        ("claude-term", None),
        ("claude-500-unfinished", None),
        ("codex-text", Some(Succeeded)),
        ("codex-401", Some(Failed)),
        ("codex-term", None),
        ("gemini-text", Some(Succeeded)),
        // It exits 0.
        ("gemini-stream-cut-always", Some(Failed)),
        ("gemini-term", None),
        ("opencode-text", Some(Succeeded)),
        ("opencode-429", Some(Failed)),
        // It exits 0.
        ("opencode-denied", Some(Failed)),
        ("opencode-term", None),
        ("qwen-text", Some(Succeeded)),
        ("qwen-401", Some(Failed)),
        ("qwen-max-turns", None),
        ("copilot-text", Some(Succeeded)),
        ("copilot-500", Some(Failed)),
        ("copilot-term", None),
    ];
    for (name, ended) in cases {
        let (_, report) = read_sample(name);
        assert_eq!(report.ended, ended, "{name}");
        assert_eq!(report.last_words.is_some(), ended == Some(Failed), "{name}: {report:?}");
    }
    assert!(read_sample("claude-term").1.so_far);
    assert!(read_sample("opencode-term").1.so_far);
    assert!(!read_sample("claude-text").1.so_far);
    assert!(!read_sample("claude-500-unfinished").1.so_far, "there are no figures");
}

#[test]
fn a_login_and_money_are_told_apart_from_a_limit() {
    let (login, money) = (Some(Needs::Login), Some(Needs::Money));
    let cases = [
        ("claude-401", login, None),
        ("claude-login-missing", login, None),
        ("claude-login-expired", login, None),
        ("claude-login-org-forbids", login, None),
        ("claude-credit-too-low", money, None),
        ("claude-limit-five-hour", None, Some(("five_hour", Some("2026-11-26T16:23:26Z")))),
        ("claude-limit-weekly", None, Some(("seven_day", Some("2026-11-26T16:23:26Z")))),
        ("claude-limit-warning", None, None),
        ("claude-429-api-key-long-retry-after", None, Some(("rate_limit", None))),
        ("claude-529-recovers", None, None),
        ("codex-401", login, None),
        ("codex-login-missing", login, None),
        ("codex-login-missing-env", login, None),
        ("codex-quota", money, None),
        ("codex-limit", None, Some(("usage", Some("2026-11-26T14:54:00Z")))),
        ("codex-limit-days", None, Some(("usage", Some("2026-12-01T04:31:00Z")))),
        ("codex-limit-without-time", None, Some(("usage", None))),
        ("codex-429", None, Some(("rate_limit", None))),
        ("codex-500", None, None),
        ("gemini-401", login, None),
        ("gemini-login-bad-key", login, None),
        ("gemini-limit-day", None, Some(("daily", None))),
        ("opencode-401", login, None),
        ("opencode-429", None, Some(("rate_limit", Some("2026-11-26T14:30:25Z")))),
        ("qwen-401", login, None),
        ("qwen-login-missing", login, None),
        ("copilot-401", login, None),
        ("copilot-429", None, Some(("rate_limit", None))),
        ("copilot-limit", None, Some(("usage", None))),
        ("copilot-500", None, None),
    ];
    for (name, needs, limit) in cases {
        let (_, report) = read_sample(name);
        assert_eq!(report.needs, needs, "{name}");
        let found = report.limit.map(|limit| (limit.kind, limit.resets_at.map(|at| at.to_string())));
        let limit = limit.map(|(kind, at)| (kind.to_owned(), at.map(str::to_owned)));
        assert_eq!(found, limit, "{name}");
    }
}

#[test]
fn programs_that_say_it_on_stderr_only_are_understood_too() {
    for (name, code, words) in [
        ("gemini-login-missing", 41, "Please set an Auth method in your"),
        ("gemini-login-oauth-missing", 41, "Manual authorization is required"),
        ("copilot-login-missing", 1, "Error: No authentication information found."),
    ] {
        let stderr = std::fs::read_to_string(directory().join(format!("{name}.stderr"))).unwrap();
        let (needs, said) = needs_of_exit(format_of(name), Some(code), &stderr).unwrap();
        assert_eq!(needs, Needs::Login);
        assert!(said.starts_with(words), "{said}");
        assert_eq!(read_sample(name), (String::new(), Report::default()));
    }
    let stderr = std::fs::read_to_string(directory().join("gemini-untrusted.stderr")).unwrap();
    assert_eq!(needs_of_exit(OutputFormat::GeminiStreamJson, Some(55), &stderr), None);
}

#[test]
fn figures_mean_the_same_for_every_agent() {
    let usage = |input_tokens, output_tokens, cost: Option<u64>| Usage {
        input_tokens,
        output_tokens,
        cached_tokens: Some(0),
        cost_usd: cost.map(MicroDollars),
    };
    let cases = [
        ("claude-tools", Some(usage(3000, 150, Some(15_000))), Some(3)),
        ("claude-resume", Some(usage(3000, 150, Some(15_000))), Some(1)),
        ("codex-tools", Some(usage(3000, 150, None)), None),
        ("gemini-tools", Some(usage(3000, 150, None)), None),
        ("opencode-tools", Some(usage(3150 - 150, 150, None)), Some(3)),
        ("qwen-tools", Some(usage(3000, 150, None)), Some(3)),
        ("copilot-tools", None, Some(3)),
        ("claude-term", Some(usage(1000, 50, None)), None),
    ];
    for (name, usage, turns) in cases {
        let (_, report) = read_sample(name);
        assert_eq!((report.usage, report.turns), (usage, turns), "{name}");
    }
    let cached = |format, event: Value| read(format, event.to_string()).1.usage.unwrap();
    let claude = json!({"type": "result", "usage": {"input_tokens": 1, "output_tokens": 9, "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 300}});
    let opencode = json!({"type": "step_finish", "part": {"tokens": {"input": 301, "output": 4, "reasoning": 5,
        "cache": {"read": 20, "write": 0}}}});
    let codex = json!({"type": "turn.completed", "usage": {"input_tokens": 321, "cached_input_tokens": 20,
        "output_tokens": 9, "reasoning_output_tokens": 5}});
    let expected = Usage { input_tokens: 321, output_tokens: 9, cached_tokens: Some(20), cost_usd: None };
    assert_eq!(cached(OutputFormat::ClaudeStreamJson, claude), expected);
    assert_eq!(cached(OutputFormat::OpencodeJson, opencode), expected);
    assert_eq!(cached(OutputFormat::CodexJson, codex), expected);
}

#[test]
fn a_sample_cut_at_any_byte_reads_the_same_and_half_of_it_claims_no_end() {
    for name in names() {
        let (format, output) = sample(&name);
        let whole = read(format, &output);
        let line_ends: Vec<usize> = (0..output.len()).filter(|&at| output[at] == b'\n').collect();
        let final_lines = ends_that_complete_a_claim(format, &output, &line_ends);
        // Every byte of small samples; of large ones each so many, and what lies around the ends of lines.
        let stride = output.len() / 1000 + 1;
        let near_an_end = |at: usize| line_ends.iter().any(|&end| at.abs_diff(end) <= 1);
        let (mut reader, mut shown) = (Reader::new(format, NOW, &zone()), String::new());
        let mut fed = 0;
        for at in (0..=output.len()).filter(|&at| at % stride == 0 || near_an_end(at)) {
            reader.read(&output[fed..at], &mut shown);
            fed = at;
            let ended = final_lines.iter().rev().find(|(end, _)| *end < at).and_then(|(_, ended)| *ended);
            assert_eq!(reader.report().ended, ended, "{name} up to {at}");
        }
        reader.finish(&mut shown);
        assert_eq!((shown, reader.report()), whole, "{name}");
    }
}

/// Returns what is claimed after each line, by reading whole lines only.
fn ends_that_complete_a_claim(
    format: OutputFormat,
    output: &[u8],
    line_ends: &[usize],
) -> Vec<(usize, Option<FinalEvent>)> {
    let (mut reader, mut begin, mut ignored) = (Reader::new(format, NOW, &zone()), 0, String::new());
    let claim = |&end: &usize| {
        reader.read(&output[begin..=end], &mut ignored);
        begin = end + 1;
        (end, reader.report().ended)
    };
    line_ends.iter().map(claim).collect()
}

#[test]
fn two_pieces_cut_at_every_byte_give_the_same() {
    // One of each agent, with text, tools and characters of several bytes.
    for name in
        ["claude-unicode", "codex-unicode", "gemini-unicode", "opencode-unicode", "qwen-unicode", "copilot-text"]
    {
        let (format, output) = sample(name);
        let whole = read(format, &output);
        for at in 0..=output.len() {
            let (first, second) = output.split_at(at);
            assert!(read_in(format, &[first, second]) == whole, "{name} cut at {at}");
        }
    }
}

#[test]
fn a_sample_that_breaks_off_at_any_byte_is_read_up_to_there() {
    for (agent, _) in FORMATS {
        let (format, output) = sample(&format!("{agent}-tools"));
        let ends = |at: usize| output[..at].iter().filter(|&&byte| byte == b'\n').count();
        for at in (0..output.len() - 1).step_by(output.len() / 1000 + 1) {
            let (_, report) = read(format, &output[..at]);
            assert_eq!(report.ended, None, "{agent} up to {at}, after {} lines", ends(at));
        }
        // The end of the last line may be missing.
        let (_, report) = read(format, output.trim_ascii_end());
        assert_eq!(report.ended, Some(FinalEvent::Succeeded), "{agent}");
    }
}

#[test]
fn each_line_can_be_read_alone() {
    for name in names() {
        let (format, output) = sample(&name);
        for line in output.split(|&byte| byte == b'\n') {
            let (shown, _) = read(format, line);
            assert!(shown.is_empty() || shown.ends_with('\n'), "{name}: {shown:?}");
        }
    }
}

#[test]
fn unknown_events_are_shown_and_text_between_events_too() {
    for (agent, format) in FORMATS {
        let known = sample(&format!("{agent}-text")).1;
        let unknown = json!({"type": "brand_new", "text": "x".repeat(1000)}).to_string();
        let output =
            [b"npm warn \x1b[1mold\x1b[0m\r\n".as_slice(), &known, b"{ not json\n\n[1]\n", unknown.as_bytes()].concat();
        let (shown, report) = read(format, output);
        let plain = read(format, &known);
        let (before, after) = shown.split_once(&plain.0).unwrap_or_else(|| panic!("{agent}: {shown}"));
        assert_eq!(before, "npm warn old\n", "{agent}");
        let raw: String = unknown.chars().take(299).collect();
        assert_eq!(after, format!("{{ not json\n\n[1]\n{raw}…\n"), "{agent}");
        assert_eq!(report, plain.1, "{agent}");
    }
}

#[test]
fn events_inside_a_tool_s_result_do_not_count() {
    let fake = json!({"type": "result", "is_error": true, "result": "fake", "num_turns": 99, "session_id": "fake",
        "permission_denials": [{"tool_name": "Fake"}], "usage": {"input_tokens": 9, "output_tokens": 9}});
    let text = format!("{fake}\n{fake}");
    let events = [
        (
            OutputFormat::ClaudeStreamJson,
            json!({"type": "user", "tool_use_result": {"stdout": text, "type": "result"},
            "message": {"content": [{"type": "tool_result", "content": text}]}}),
        ),
        (
            OutputFormat::CodexJson,
            json!({"type": "item.completed", "item": {"id": "1", "type": "command_execution",
            "aggregated_output": text}}),
        ),
        (OutputFormat::GeminiStreamJson, json!({"type": "tool_result", "status": "success", "output": text})),
        (OutputFormat::OpencodeJson, json!({"type": "tool_use", "part": {"tool": "bash", "state": {"output": text}}})),
        (
            OutputFormat::CopilotJson,
            json!({"type": "tool.execution_complete", "data": {"success": true,
            "result": {"content": text}}}),
        ),
    ];
    for (format, event) in events {
        let (shown, report) = read(format, event.to_string());
        assert_eq!(report, Report::default(), "{format:?}");
        assert!(shown.contains("  {"), "{shown}");
    }
}

#[test]
fn of_two_result_events_the_last_counts() {
    let result = |is_error, text: &str, turns| {
        json!({"type": "result", "is_error": is_error, "result": text, "num_turns": turns,
            "permission_denials": [{"tool_name": text}]})
        .to_string()
    };
    let (one, other) = (result(true, "bad", 1), result(false, "good", 2));
    for (output, ended, last_words, turns, denied) in [
        (format!("{one}\n{other}\n"), FinalEvent::Succeeded, None, 2, "good"),
        (format!("{other}\n{one}\n"), FinalEvent::Failed, Some("bad"), 1, "bad"),
    ] {
        let (_, report) = read(OutputFormat::ClaudeStreamJson, output);
        assert_eq!((report.ended, report.last_words.as_deref()), (Some(ended), last_words));
        assert_eq!((report.turns, report.result.as_deref()), (Some(turns), Some("good")));
        assert_eq!(report.denied, [Denied { tool: denied.into(), count: 1 }]);
    }
}

#[test]
fn a_reset_far_off_or_of_another_type_is_absent() {
    let event = |resets_at: Value| {
        let info = json!({"status": "rejected", "rateLimitType": "five_hour", "resetsAt": resets_at});
        json!({"type": "rate_limit_event", "rate_limit_info": info}).to_string()
    };
    for far in [json!(u64::MAX), json!(0), json!(-1), json!(1e300), json!("soon"), json!(NOW.0 * 1000)] {
        let (_, report) = read(OutputFormat::ClaudeStreamJson, event(far));
        assert_eq!(report.limit, Some(Limit { kind: "five_hour".into(), resets_at: None }));
    }
    let (_, report) = read(OutputFormat::ClaudeStreamJson, event(json!(NOW.0 + 60)));
    assert_eq!(report.limit.unwrap().resets_at, Some(NOW.plus_secs(60)));
}

#[test]
fn a_time_of_day_is_taken_as_the_next_after_it_was_printed() {
    let (format, output) = sample("codex-limit");
    let mut reader = Reader::new(format, NOW, &zone());
    reader.set_now("2026-11-27T09:00:00Z".parse().unwrap());
    reader.read(&output, &mut String::new());
    let limit = reader.report().limit.unwrap();
    assert_eq!(limit.resets_at.unwrap().to_string(), "2026-11-27T14:54:00Z");
}

#[test]
fn a_broken_stream_that_is_repeated_is_one_message() {
    let (shown, report) = read_sample("gemini-stream-cut-always");
    assert_eq!(shown.matches("\nHalf a sentence is all that\n").count(), 2, "each in a line of its own: {shown}");
    assert_eq!(report.result.as_deref(), Some("Half a sentence is all that"));
}

#[test]
fn a_line_of_64_mb_shows_its_beginning_in_bounded_memory() {
    for (agent, format) in FORMATS {
        let (mut reader, mut shown) = (Reader::new(format, NOW, &zone()), String::new());
        reader.read(b"{\"type\":\"result\",\"is_error\":true,\"x\":\"\x1b[1m", &mut shown);
        let piece = "é".repeat(1 << 19);
        for _ in 0..64 {
            reader.read(piece.as_bytes(), &mut shown);
            assert!(shown.is_empty() && reader.capacity() <= MAX_LINE_BYTES, "{agent}");
        }
        reader.read(b"\"}\nafter\n", &mut shown);
        assert!(shown.ends_with("é… (a line of 64 MB)\nafter\n"), "{agent}: {shown}");
        assert_eq!(shown.lines().next().unwrap().chars().count(), 199 + "… (a line of 64 MB)".chars().count());
        assert_eq!(reader.report(), Report::default());
    }
}

#[test]
fn text_passes_unchanged_and_says_nothing() {
    let text = "{\"type\":\"result\"}\n\u{1b}[1mü🦀\u{2028}\r\0";
    for at in 0..=text.len() {
        let (first, second) = text.as_bytes().split_at(at);
        assert_eq!(read_in(OutputFormat::Text, &[first, second]), (text.to_owned(), Report::default()));
    }
    assert_eq!(read(OutputFormat::Text, b"a\xffb\xf0\x9f").0, "a\u{fffd}b\u{fffd}");
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

/// JSON of any shape under the names that are looked for.
fn any_event() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop::sample::select(vec![
            "system",
            "init",
            "assistant",
            "user",
            "result",
            "rate_limit_event",
            "rejected",
            "item.completed",
            "error",
            "command_execution",
            "mcp_tool_call",
            "turn.completed",
            "turn.failed",
            "message",
            "tool_result",
            "tool_use",
            "step_finish",
            "stop",
            "text",
            "thinking",
            "assistant.message",
            "session.error",
            "tool.execution_complete",
        ])
        .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "type",
        "subtype",
        "message",
        "content",
        "usage",
        "input_tokens",
        "output_tokens",
        "modelUsage",
        "item",
        "error",
        "rate_limit_info",
        "resetsAt",
        "status",
        "permission_denials",
        "tool_name",
        "session_id",
        "result",
        "is_error",
        "part",
        "state",
        "tokens",
        "cache",
        "cost",
        "reason",
        "data",
        "exitCode",
        "stats",
        "models",
        "text",
        "id",
        "name",
        "total_cost_usd",
        "num_turns",
        "input",
        "delta",
        "role",
        "toolCallId",
        "changes",
        "arguments",
    ]);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(bytes: Vec<u8>) {
        for (_, format) in FORMATS {
            let (shown, report) = read(format, &bytes);
            prop_assert!(shown.chars().all(is_shown), "{:?}", shown);
            prop_assert_eq!(report, Report::default());
        }
    }

    #[test]
    fn no_event_is_too_much(events in prop::collection::vec(any_event(), 1..6)) {
        let output: String = events.iter().map(|event| format!("{event}\n")).collect();
        for (_, format) in FORMATS {
            let (shown, report) = read(format, &output);
            prop_assert!(shown.chars().all(is_shown), "{:?}", shown);
            let text = serde_json::to_string(&report).unwrap();
            prop_assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        }
    }
}
