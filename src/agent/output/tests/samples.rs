//! What each sample says.

use serde_json::{Value, json};

use super::*;

#[test]
fn every_sample_reads_as_expected() {
    for name in names() {
        let (shown, summary) = read_sample(&name);
        assert!(shown.chars().all(is_shown), "{name}: {shown:?}");
        let summary = serde_json::to_string_pretty(&summary).unwrap();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(directory().join("expected"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name.as_str(), format!("{shown}----\n{summary}")));
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
        let (_, summary) = read_sample(name);
        assert_eq!(summary.ended, ended, "{name}");
        assert_eq!(summary.last_words.is_some(), ended == Some(Failed), "{name}: {summary:?}");
    }
    assert!(read_sample("claude-term").1.so_far);
    assert!(read_sample("opencode-term").1.so_far);
    assert!(!read_sample("claude-text").1.so_far);
    assert!(read_sample("claude-500-unfinished").1.so_far, "also where there are no figures");
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
        let (_, summary) = read_sample(name);
        assert_eq!(summary.needs, needs, "{name}");
        let found = summary.limit.map(|limit| (limit.kind, limit.resets_at.map(|at| at.to_string())));
        let limit = limit.map(|(kind, at)| (kind.to_owned(), at.map(str::to_owned)));
        assert_eq!(found, limit, "{name}");
    }
}

#[test]
fn only_what_says_that_a_usage_window_is_used_up_is_a_usage_limit() {
    let names = names();
    let limited = names.iter().filter(|name| read_sample(name).1.limit.is_some_and(|limit| limit.is_of_usage()));
    let limited: Vec<&str> = limited.map(String::as_str).collect();
    let expected = [
        "claude-limit-five-hour",
        "claude-limit-weekly",
        "codex-limit",
        "codex-limit-days",
        "codex-limit-without-time",
        "copilot-limit",
        "gemini-limit-day",
    ];
    assert_eq!(limited, expected);
}

#[test]
fn only_a_run_that_ends_with_a_question_has_one() {
    let names = names();
    let asked: Vec<&str> =
        names.iter().filter(|name| read_sample(name).1.question.is_some()).map(String::as_str).collect();
    assert_eq!(asked, ["claude-question-again", "claude-question-deferred", "claude-question-two"]);
    let result = |question: Option<&str>, is_error: bool, tool: &str| {
        let input = question.map(|text| json!({"questions": [{"question": text}]}));
        json!({"type": "result", "subtype": "success", "is_error": is_error,
            "deferred_tool_use": input.map(|input| json!({"id": "t", "name": tool, "input": input}))})
        .to_string()
            + "\n"
    };
    let (ask, other, end) =
        (result(Some("A?"), false, "AskUserQuestion"), result(Some("A?"), false, "Bash"), result(None, false, ""));
    let unavailable = result(Some("A?"), true, "AskUserQuestion");
    for (output, text) in [
        (ask.clone(), Some("A?")),
        (end.clone() + &ask, Some("A?")),
        // It went on with its prompt.
        (ask.clone() + &end, None),
        (ask + &unavailable, None),
        (other, None),
        (end, None),
    ] {
        let question = read(OutputFormat::ClaudeStreamJson, &output).1.question;
        assert_eq!(question.map(|asked| asked.text).as_deref(), text, "{output}");
    }
}

#[test]
fn a_call_that_nobody_is_asked_about_is_denied() {
    let (_, whole) = sample("claude-denied-unasked");
    let at = whole.windows(16).position(|window| window == b"\"tool_result_met").unwrap();
    let cut = at + whole[at..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for output in [&whole[..cut], &whole] {
        let (shown, summary) = read(OutputFormat::ClaudeStreamJson, output);
        assert_eq!(summary.denied, [Denied { tool: "Write".into(), count: 1 }], "before its end as well");
        assert!(shown.contains("✗ denied: Write\n"), "{shown}");
    }
}

#[test]
fn a_warning_before_the_limit_is_kept_beside_the_result() {
    let (_, summary) = read_sample("claude-limit-warning");
    let warning = summary.limit_warning.unwrap();
    assert_eq!((warning.kind.as_str(), warning.used_percent), ("five_hour", Some(95)));
    assert_eq!(warning.resets_at.unwrap().to_string(), "2026-11-26T16:23:26Z");
    assert_eq!((summary.ended, summary.limit), (Some(FinalEvent::Succeeded), None));
}

#[test]
fn words_of_a_model_are_no_limit() {
    let said = "You've hit your 5-hour limit · resets 4:23pm (UTC). You have exhausted your daily quota on this model.";
    let claude = json!({"type": "assistant", "message": {"id": "m", "model": "claude-x",
        "content": [{"type": "text", "text": said}]}});
    let failed = json!({"type": "result", "subtype": "error_during_execution", "is_error": true, "result": said});
    let codex = json!({"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": said}});
    let codex_failed = json!({"type": "turn.failed", "error": {"message": "stream disconnected"}});
    let gemini = json!({"type": "message", "role": "assistant", "content": said, "delta": true});
    let copilot = json!({"type": "assistant.message", "data": {"messageId": "m", "content": said}});
    for (format, events) in [
        (OutputFormat::ClaudeStreamJson, vec![claude, failed]),
        (OutputFormat::CodexJson, vec![codex, codex_failed]),
        (OutputFormat::GeminiStreamJson, vec![gemini]),
        (OutputFormat::CopilotJson, vec![copilot]),
    ] {
        let output: String = events.iter().map(|event| format!("{event}\n")).collect();
        assert_eq!(read(format, output).1.limit, None, "{format:?}");
    }
}

#[test]
fn a_limit_that_did_not_end_the_run_is_none() {
    let event = |status: &str| {
        let info = json!({"status": status, "resetsAt": NOW.0 + 60, "rateLimitType": "five_hour"});
        json!({"type": "rate_limit_event", "rate_limit_info": info})
    };
    let message = json!({"type": "assistant", "message": {"id": "m", "model": "claude-x", "content": []}});
    let of_own_bound =
        json!({"type": "result", "subtype": "error_max_turns", "is_error": true, "errors": ["too many"]});
    let of_limit = json!({"type": "result", "subtype": "success", "is_error": true, "result": "x",
        "api_error": "usage_limit_reached"});
    let cases = [
        (vec![event("rejected"), of_limit.clone()], Some(("five_hour", true))),
        (vec![event("rejected"), message.clone(), of_own_bound.clone()], None),
        (vec![event("rejected"), of_own_bound], None),
        // Its event was for another model's window, or is of a form that we do not know.
        (vec![event("rejected"), message, of_limit.clone()], Some(("usage", false))),
        (vec![of_limit], Some(("usage", false))),
    ];
    for (events, expected) in cases {
        let output: String = events.iter().map(|event| format!("{event}\n")).collect();
        let limit = read(OutputFormat::ClaudeStreamJson, output.clone()).1.limit;
        let found = limit.as_ref().map(|limit| (limit.kind.as_str(), limit.resets_at.is_some()));
        assert_eq!(found, expected, "{output}");
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
        assert_eq!(read_sample(name), (String::new(), Summary::default()));
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
        let (_, summary) = read_sample(name);
        assert_eq!((summary.usage, summary.turns), (usage, turns), "{name}");
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
fn a_broken_stream_that_is_repeated_is_one_message() {
    let (shown, summary) = read_sample("gemini-stream-cut-always");
    assert_eq!(shown.matches("\nHalf a sentence is all that\n").count(), 2, "each in a line of its own: {shown}");
    assert_eq!(summary.result.as_deref(), Some("Half a sentence is all that"));
}

#[test]
fn text_in_pieces_is_shown_once() {
    let piece = |text: &str| {
        let data = json!({"messageId": "m", "deltaContent": text});
        json!({"type": "assistant.message_delta", "data": data, "ephemeral": true}).to_string()
    };
    let whole =
        json!({"type": "assistant.message", "data": {"messageId": "m", "content": "Grüße an\nalle"}}).to_string();
    let (one, two) = (piece("Grüße a"), piece("n\nalle"));
    for (lines, expected) in [
        (vec![&one, &two, &whole], "Grüße an\nalle\n"),
        // Begun late.
        (vec![&two, &whole], "n\nalle\nGrüße an\nalle\n"),
        (vec![&whole], "Grüße an\nalle\n"),
        (vec![&one, &two], "Grüße an\nalle\n"),
    ] {
        let output: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (shown, summary) = read(OutputFormat::CopilotJson, output);
        assert_eq!(shown, expected);
        assert!(summary.result.is_some_and(|result| result.ends_with("n\nalle")));
    }
    let pieces = ["Hel", "lo", " there", " and", " everywhere"]
        .map(|text| json!({"type": "message", "role": "assistant", "content": text, "delta": true}).to_string() + "\n");
    let (shown, summary) = read(OutputFormat::GeminiStreamJson, pieces.concat());
    assert_eq!(shown, "Hello there and everywhere\n");
    assert_eq!(summary.result.as_deref(), Some("Hello there and everywhere"));
}

#[test]
fn lines_of_one_message_repeat_its_usage() {
    let line = |id: &str, output: u64| {
        let usage = json!({"input_tokens": 10, "output_tokens": output, "cache_read_input_tokens": 5});
        json!({"type": "assistant", "message": {"id": id, "content": [], "usage": usage}}).to_string() + "\n"
    };
    let mut output = [line("a", 1), line("sub-agent", 3), line("a", 2)].concat();
    output.extend((0..100).map(|id| line(&id.to_string(), 1)));
    let (_, summary) = read(OutputFormat::ClaudeStreamJson, output);
    let expected = Usage { input_tokens: 102 * 15, output_tokens: 105, cached_tokens: Some(102 * 5), cost_usd: None };
    assert_eq!((summary.usage, summary.so_far), (Some(expected), true));
}

#[test]
fn a_session_that_its_program_may_not_keep_is_not_gone_on_with() {
    let told = r#"{"type":"init","session_id":"s-1","model":"m"}"#;
    let said = r#"{"type":"message","role":"assistant","content":"Hello","delta":true}"#;
    let called = r#"{"type":"tool_use","tool_name":"write_file","parameters":{}}"#;
    let refused = r#"{"type":"result","status":"error","error":{"message":"no"}}"#;
    let session = |lines: &[&str]| read(OutputFormat::GeminiStreamJson, lines.join("\n")).1.session_id;
    assert_eq!((session(&[told]), session(&[told, refused])), (None, None));
    for answer in [said, called] {
        assert_eq!(session(&[told, answer, refused]).as_deref(), Some("s-1"), "{answer}");
    }
    let qwen = read(OutputFormat::QwenStreamJson, r#"{"type":"system","subtype":"init","session_id":"s-1"}"#).1;
    assert_eq!(qwen.session_id, None);
    let claude = read(OutputFormat::ClaudeStreamJson, r#"{"type":"system","subtype":"init","session_id":"s-1"}"#).1;
    assert_eq!(claude.session_id.as_deref(), Some("s-1"));
    // Copilot CLI is given its session, and keeps it from then on.
    let begun = r#"{"type":"assistant.turn_start","data":{"model":"m"}}"#;
    let called = r#"{"type":"tool.execution_start","data":{"toolCallId":"c","toolName":"view"}}"#;
    let has_answered = |lines: &[&str]| read(OutputFormat::CopilotJson, lines.join("\n")).1.has_answered;
    assert!(!has_answered(&[begun]) && has_answered(&[begun, called]));
}
