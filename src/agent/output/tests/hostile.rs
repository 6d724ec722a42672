//! Output that is odd, hostile or too much.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::lines::MAX_LINE_BYTES;
use super::*;

#[test]
fn unknown_events_are_shown_and_text_between_events_too() {
    for (agent, format) in FORMATS {
        let known = sample(&format!("{agent}-text")).1;
        let unknown = json!({"type": "brand_new", "text": "x".repeat(1000)}).to_string();
        let output =
            [b"npm warn \x1b[1mold\x1b[0m\r\n".as_slice(), &known, b"{ not json\n\n[1]\n", unknown.as_bytes()].concat();
        let (shown, summary) = read(format, output);
        let plain = read(format, &known);
        let (before, after) = shown.split_once(&plain.0).unwrap_or_else(|| panic!("{agent}: {shown}"));
        assert_eq!(before, "npm warn old\n", "{agent}");
        let raw: String = unknown.chars().take(299).collect();
        assert_eq!(after, format!("{{ not json\n\n[1]\n{raw}…\n"), "{agent}");
        assert_eq!(summary, plain.1, "{agent}");
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
        let (shown, summary) = read(format, event.to_string());
        assert_eq!(Summary { has_answered: false, ..summary }, Summary::default(), "{format:?}");
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
        let (_, summary) = read(OutputFormat::ClaudeStreamJson, output);
        assert_eq!((summary.ended, summary.last_words.as_deref()), (Some(ended), last_words));
        assert_eq!((summary.turns, summary.result.as_deref()), (Some(turns), Some("good")));
        assert_eq!(summary.denied, [Denied { tool: denied.into(), count: 1 }]);
    }
}

#[test]
fn a_reset_far_off_or_of_another_type_is_absent() {
    let event = |resets_at: Value| {
        let info = json!({"status": "rejected", "rateLimitType": "five_hour", "resetsAt": resets_at});
        json!({"type": "rate_limit_event", "rate_limit_info": info}).to_string()
    };
    for far in [json!(u64::MAX), json!(0), json!(-1), json!(1e300), json!("soon"), json!(NOW.0 * 1000)] {
        let (_, summary) = read(OutputFormat::ClaudeStreamJson, event(far));
        assert_eq!(summary.limit, Some(Limit { kind: "five_hour".into(), resets_at: None }));
    }
    let (_, summary) = read(OutputFormat::ClaudeStreamJson, event(json!(NOW.0 + 60)));
    assert_eq!(summary.limit.unwrap().resets_at, Some(NOW.plus_secs(60)));
}

#[test]
fn a_time_of_day_is_taken_as_the_next_after_it_was_printed() {
    let (format, output) = sample("codex-limit");
    let mut reader = Reader::new(format, "2026-11-27T09:00:00Z".parse().unwrap(), &zone());
    reader.read(&output, &mut String::new());
    let limit = reader.summary().limit.unwrap();
    assert_eq!(limit.resets_at.unwrap().to_string(), "2026-11-27T14:54:00Z");
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
        assert_eq!(reader.summary(), Summary::default());
    }
}

#[test]
fn text_passes_unchanged_and_says_nothing() {
    let text = "{\"type\":\"result\"}\n\u{1b}[1mü🦀\u{2028}\r\0";
    for at in 0..=text.len() {
        let (first, second) = text.as_bytes().split_at(at);
        assert_eq!(read_in(OutputFormat::Text, &[first, second]), (text.to_owned(), Summary::default()));
    }
    assert_eq!(read(OutputFormat::Text, b"a\xffb\xf0\x9f").0, "a\u{fffd}b\u{fffd}");
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
            let (shown, summary) = read(format, &bytes);
            prop_assert!(shown.chars().all(is_shown), "{:?}", shown);
            prop_assert_eq!(summary, Summary::default());
        }
    }

    #[test]
    fn no_event_is_too_much(events in prop::collection::vec(any_event(), 1..6)) {
        let output: String = events.iter().map(|event| format!("{event}\n")).collect();
        for (_, format) in FORMATS {
            let (shown, summary) = read(format, &output);
            prop_assert!(shown.chars().all(is_shown), "{:?}", shown);
            let text = serde_json::to_string(&summary).unwrap();
            // Whether the model answered is for the record of the run alone.
            let recorded = Summary { has_answered: false, ..summary };
            prop_assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), recorded);
        }
    }
}
