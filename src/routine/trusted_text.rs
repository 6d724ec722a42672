//! The part of `routine.toml` that only a person writes, as text: an edit takes it out, and puts it back byte for byte.

use std::ops::Range;

use toml_edit::{Document, Item, Key, TableLike, TomlError};

use crate::home;

const TRUSTED: &str = "trusted";
/// What stands in its place meanwhile, with a random number that is in no text.
const PLACEHOLDER: &str = "moadim-placeholder";

/// A text without its trusted parts, each of which has a line in its place.
#[derive(Debug)]
pub(super) struct Without {
    pub text: String,
    parts: Vec<(String, String)>,
}

/// Takes the trusted parts out of a text. What stands in their place is in none of the `others` either, which become part of it.
pub(super) fn take_out(text: &str, others: &[&str]) -> Result<Without, TomlError> {
    let placeholder = placeholder(&[others, &[text]].concat(), home::random_suffix);
    let is_trusted = trusted_lines(text)?;
    let mut without = Without { text: String::new(), parts: Vec::new() };
    let mut before = None;
    for (line, is_trusted) in text.split_inclusive('\n').zip(is_trusted) {
        match (is_trusted, before, without.parts.last_mut()) {
            (None, ..) => without.text.push_str(line),
            (Some(place), Some(same), Some((_, part))) if place == same => part.push_str(line),
            (Some(place), ..) => {
                let name = format!("{placeholder}-{}", without.parts.len());
                let stand_in = match place {
                    Place::Table => format!("[{name}]"),
                    Place::Root => format!("{name} = 0"),
                };
                without.text.push_str(&stand_in);
                without.text.push('\n');
                without.parts.push((stand_in, line.to_owned()));
            }
        }
        before = is_trusted;
    }
    Ok(without)
}

/// Returns a name that is in none of the texts.
fn placeholder(texts: &[&str], mut random: impl FnMut() -> String) -> String {
    loop {
        let name = format!("{PLACEHOLDER}-{}", random());
        if texts.iter().all(|text| !text.contains(&name)) {
            return name;
        }
    }
}

impl Without {
    /// Puts the parts back into the text as it has become; `None` if the place of one is gone.
    pub(super) fn put_back(&self, text: &str) -> Option<String> {
        let mut text = text.to_owned();
        for (stand_in, part) in &self.parts {
            let mut start = 0;
            let line = text.split_inclusive('\n').find(|line| {
                let is_stand_in = line.trim_end_matches(['\r', '\n']) == stand_in;
                start += if is_stand_in { 0 } else { line.len() };
                is_stand_in
            })?;
            let end = start + line.len();
            let gap = if part.ends_with('\n') || end == text.len() { "" } else { "\n" };
            text.replace_range(start..end, &format!("{part}{gap}"));
        }
        Some(text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Among the keys at the beginning.
    Root,
    Table,
}

/// Says of each line whether it is trusted, and where. Comments right above a header or a key belong to that; others to what they
/// are in.
fn trusted_lines(text: &str) -> Result<Vec<Option<Place>>, TomlError> {
    let document = Document::parse(text)?;
    let mut values = Vec::new();
    spans(document.as_table(), &mut values);
    let (mut lines, mut place, mut in_tables, mut start) = (Vec::new(), None, false, 0);
    for line in text.split_inclusive('\n') {
        let goes_on = values.iter().any(|value| value.start < start && start < value.end);
        let content = line.trim();
        start += line.len();
        if goes_on {
            lines.push(place);
            continue;
        }
        let is_header = content.starts_with('[');
        if is_header || (!in_tables && !content.is_empty() && !content.starts_with('#')) {
            in_tables |= is_header;
            let path = if is_header { header(content) } else { key(content) };
            let is_trusted = path.is_some_and(|first| first == TRUSTED);
            place = is_trusted.then_some(if is_header { Place::Table } else { Place::Root });
            // The comment right above it.
            let above = text[..start - line.len()].lines().rev().take_while(|line| line.trim_start().starts_with('#'));
            let first = lines.len() - above.count().min(lines.len());
            lines[first..].fill(place);
        }
        lines.push(match place {
            // At the beginning each key is for itself.
            Some(Place::Root) if content.is_empty() || content.starts_with('#') => None,
            place => place,
        });
    }
    Ok(lines)
}

fn spans(table: &dyn TableLike, found: &mut Vec<Range<usize>>) {
    for (_, item) in table.iter() {
        match item {
            Item::Value(value) => {
                found.extend(value.span());
                if let Some(dotted) = value.as_inline_table() {
                    spans(dotted, found);
                }
            }
            Item::Table(table) => spans(table, found),
            Item::ArrayOfTables(tables) => tables.iter().for_each(|table| spans(table, found)),
            Item::None => {}
        }
    }
}

/// Returns the first part of the name in a table's header.
fn header(line: &str) -> Option<String> {
    let inner = line.trim_start_matches('[');
    inner.match_indices(']').find_map(|(end, _)| first_of(&inner[..end]))
}

/// Returns the first part of the name that a line gives a value to.
fn key(line: &str) -> Option<String> {
    line.match_indices('=').find_map(|(end, _)| first_of(&line[..end]))
}

fn first_of(path: &str) -> Option<String> {
    Key::parse(path.trim()).ok()?.first().map(|key| key.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> Vec<String> {
        take_out(text, &[]).unwrap().parts.into_iter().map(|(_, part)| part).collect()
    }

    #[test]
    fn all_that_is_trusted_is_taken_out_with_its_comments_and_nothing_else() {
        for (text, expected) in [
            ("a = 1\n[env]\nA = 'x'\n", &[][..]),
            (
                "a = 1\n\n# mine\n[trusted.env]\nK = 'x' # y\n# K2 = 'z'\n\n# theirs\n[retry]\nb = 1\n",
                &["# mine\n[trusted.env]\nK = 'x' # y\n# K2 = 'z'\n\n"],
            ),
            ("[trusted]\n[ \"trusted\" . 'env' ]\nK = 1", &["[trusted]\n[ \"trusted\" . 'env' ]\nK = 1"]),
            (
                "trusted . env . K = 'x'\nb = '''\ntrusted = 1\n[trusted]\n'''\n# c\ntrusted.env.L = [\n  1,\n]\n\nz = 1\n",
                &["trusted . env . K = 'x'\n", "# c\ntrusted.env.L = [\n  1,\n]\n"],
            ),
            ("trusted = { env = { 'a=b' = \"x\" } }\n", &["trusted = { env = { 'a=b' = \"x\" } }\n"]),
            (
                "[trusted.env]\nK = \"\"\"\n[retry]\n\"\"\"\n[[repositories]]\nurl = 'x'\n[trusted.more]\nx = 1\n",
                &["[trusted.env]\nK = \"\"\"\n[retry]\n\"\"\"\n", "[trusted.more]\nx = 1\n"],
            ),
            ("[not.trusted]\na = 1\n[env]\ntrusted = 'x'\n", &[]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
            let without = take_out(text, &[]).unwrap();
            assert_eq!(without.put_back(&without.text).as_deref(), Some(text));
            assert!(without.text.parse::<toml_edit::DocumentMut>().is_ok(), "{}", without.text);
        }
        assert!(take_out("[trusted\n", &[]).is_err());
        assert_eq!(take_out("[trusted]\n", &[]).unwrap().put_back("title = 'x'\n"), None, "its place is gone");
    }

    #[test]
    fn a_placeholder_is_in_no_text() {
        let mut numbers = ["1", "2", "3"].into_iter();
        let texts = ["x = 'moadim-placeholder-1-0'", "[moadim-placeholder-2]"];
        assert_eq!(placeholder(&texts, || numbers.next().unwrap().to_owned()), "moadim-placeholder-3");
    }

    proptest! {
        #[test]
        fn no_value_that_a_tool_writes_takes_the_place_of_what_is_trusted(
            values in proptest::collection::vec("(\\n|a|'|\\[moadim-placeholder-[0-2]\\]|moadim-placeholder-[0-2] = 0){0,4}", 1..4), in_tables: bool
        ) {
            let tables = "title = 'x'\n\n[trusted.env]\nA = '1'\n\n[trusted]\nverify = ['true']\n";
            let keys = "trusted.env.A = '1'\ntitle = 'x'\ntrusted.verify = ['true']\n";
            let text = if in_tables { tables } else { keys };
            let without = take_out(text, &values.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            let mut target: toml_edit::DocumentMut = without.text.parse().unwrap();
            for (n, value) in values.iter().enumerate() {
                target.insert(if n == 0 { "title" } else { ["b", "c"][n - 1] }, toml_edit::value(value));
            }
            let whole: toml::Table = without.put_back(&target.to_string()).unwrap().parse().unwrap();
            prop_assert_eq!(whole["title"].as_str(), Some(values[0].as_str()));
            let expected: toml::Table = "env = { A = '1' }\nverify = ['true']".parse().unwrap();
            prop_assert_eq!(whole[TRUSTED].as_table(), Some(&expected));
        }

        #[test]
        fn what_is_taken_out_comes_back(lines in proptest::collection::vec(
            prop_oneof![
                Just("# comment"), Just(""), Just("[trusted]"), Just("[trusted.env]"), Just("[env]"), Just("[retry]"),
                Just("a = 1"), Just("b = '[trusted]'"), Just("trusted.env.x = 1"), Just("c = \"\"\"\n[trusted]\n\"\"\""),
            ], 0..12
        ), crlf: bool) {
            let text = lines.join(if crlf { "\r\n" } else { "\n" });
            if let Ok(without) = take_out(&text, &[]) {
                prop_assert_eq!(without.put_back(&without.text), Some(text));
                prop_assert!(!without.text.parse::<toml_edit::DocumentMut>().unwrap().contains_key(TRUSTED));
            }
        }
    }
}
