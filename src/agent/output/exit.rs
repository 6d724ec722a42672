//! What a program that printed nothing on stdout said on stderr before it ended.

use super::format::OutputFormat;
use super::plain::one_line;
use super::summary::Needs;

const MAX_WORDS_CHARS: usize = 300;
/// Gemini CLI's exit status for "not logged in".
const GEMINI_NO_LOGIN: i32 = 41;

/// Returns what a person must do and the program's own words for it, where the exit status and the end of stderr say so.
///
/// For runs without a final event only. Whatever else stderr holds counts for nothing: no figures come from there.
pub(crate) fn needs_of_exit(format: OutputFormat, exit_code: Option<i32>, stderr_end: &str) -> Option<(Needs, String)> {
    if exit_code.is_none_or(|code| code == 0) {
        return None;
    }
    let last_with = |said: &[&str]| {
        stderr_end.lines().rev().find(|line| said.iter().any(|said| line.contains(said))).map(str::to_owned)
    };
    let words = match format {
        OutputFormat::GeminiStreamJson if exit_code == Some(GEMINI_NO_LOGIN) => {
            let last = || stderr_end.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
            let known = ["Please set an Auth method", "Manual authorization is required", "you must specify"];
            let named = last_with(&known);
            named.or_else(last).unwrap_or_else(|| "not logged in".to_owned())
        }
        OutputFormat::CopilotJson => last_with(&["No authentication information found"])?,
        OutputFormat::QwenStreamJson => last_with(&["No auth type is selected", "Missing API key for"])?,
        OutputFormat::CodexJson => last_with(&["Missing environment variable"])?,
        _ => return None,
    };
    Some((Needs::Login, one_line(&words, MAX_WORDS_CHARS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_login_is_recognised_in_its_program_alone() {
        use OutputFormat::{ClaudeStreamJson, CodexJson, CopilotJson, GeminiStreamJson, QwenStreamJson, Text};
        let copilot = "Error: No authentication information found.\n\nTo authenticate, …\n";
        let cases = [
            (CopilotJson, Some(1), copilot, Some("Error: No authentication information found.")),
            (CopilotJson, Some(0), copilot, None),
            (CopilotJson, None, copilot, None),
            (ClaudeStreamJson, Some(1), copilot, None),
            (Text, Some(41), copilot, None),
            (
                GeminiStreamJson,
                Some(41),
                "x\nPlease set an Auth method in y\nz",
                Some("Please set an Auth method in y"),
            ),
            (GeminiStreamJson, Some(41), "x\n \u{1b}[1mlast\n\n", Some("last")),
            (GeminiStreamJson, Some(41), "you must specify the KEY\nUpdate x\n", Some("you must specify the KEY")),
            (GeminiStreamJson, Some(41), "", Some("not logged in")),
            (QwenStreamJson, Some(1), "Missing API key for x.\n", Some("Missing API key for x.")),
            (GeminiStreamJson, Some(1), "Please set an Auth method", None),
            (QwenStreamJson, Some(1), "No auth type is selected. Please", Some("No auth type is selected. Please")),
            (
                CodexJson,
                Some(1),
                "ERROR: Missing environment variable: `X`.",
                Some("ERROR: Missing environment variable: `X`."),
            ),
            (CodexJson, Some(1), "ERROR: else", None),
        ];
        for (format, code, stderr, words) in cases {
            let expected = words.map(|words| (Needs::Login, words.to_owned()));
            assert_eq!(needs_of_exit(format, code, stderr), expected, "{format:?} {code:?} {stderr}");
        }
    }
}
