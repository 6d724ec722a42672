//! Output that arrives in pieces, or breaks off.

use super::*;

#[test]
fn a_sample_read_byte_by_byte_is_the_same_and_half_a_line_claims_no_end() {
    for name in names() {
        let (format, output) = sample(&name);
        let whole = read(format, &output);
        let line_ends: Vec<usize> = (0..output.len()).filter(|&at| output[at] == b'\n').collect();
        let final_lines = ends_that_complete_a_claim(format, &output, &line_ends);
        let (mut reader, mut shown) = (Reader::new(format, NOW, &zone()), String::new());
        for at in 0..output.len() {
            let before = final_lines.iter().rev().find(|(end, _)| *end < at).and_then(|(_, ended)| *ended);
            assert_eq!(reader.summary().ended, before, "{name} up to {at}");
            reader.read(&output[at..=at], &mut shown);
        }
        reader.finish(&mut shown);
        assert_eq!((shown, reader.summary()), whole, "{name}");
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
        (end, reader.summary().ended)
    };
    line_ends.iter().map(claim).collect()
}

#[test]
fn two_pieces_give_the_same_wherever_they_are_cut() {
    // One of each agent, with text, tools and characters of several bytes; of the others what lies around the ends of lines.
    let whole =
        ["claude-unicode", "codex-unicode", "gemini-unicode", "opencode-unicode", "qwen-unicode", "copilot-text"];
    for name in names() {
        let (format, output) = sample(&name);
        let uncut = read(format, &output);
        let is_near_an_end = |at: usize| output[at.saturating_sub(1)..output.len().min(at + 1)].contains(&b'\n');
        for at in (0..=output.len()).filter(|&at| whole.contains(&name.as_str()) || is_near_an_end(at)) {
            let (first, second) = output.split_at(at);
            assert!(read_in(format, &[first, second]) == uncut, "{name} cut at {at}");
        }
    }
}

#[test]
fn a_sample_that_breaks_off_at_any_byte_is_read_up_to_there() {
    for (agent, _) in FORMATS {
        let (format, output) = sample(&format!("{agent}-tools"));
        let ends = |at: usize| output[..at].iter().filter(|&&byte| byte == b'\n').count();
        for at in (0..output.len() - 1).step_by(output.len() / 1000 + 1) {
            let (_, summary) = read(format, &output[..at]);
            assert_eq!(summary.ended, None, "{agent} up to {at}, after {} lines", ends(at));
        }
        // The end of the last line may be missing.
        let (_, summary) = read(format, output.trim_ascii_end());
        assert_eq!(summary.ended, Some(FinalEvent::Succeeded), "{agent}");
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
