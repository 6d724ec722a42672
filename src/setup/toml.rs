//! Edits of TOML that leave what is not ours as it is.
//!
//! The parser forgets how lines end and which comments stand before a table that goes, so our table is put at the end as text
//! and cut out as text; only within our entry, and within tables of other forms, does it write.

use std::ops::Range;

use toml_edit::{Array, Document, DocumentMut, InlineTable, Item, Table, TableLike, value};

use super::hosts::{Extra, Form};
use super::{Entry, HOME_VARIABLE, KINDS, Problem, Seen};

fn parse(text: &str) -> Result<DocumentMut, Problem> {
    text.parse().map_err(|error: toml_edit::TomlError| error.to_string().trim_end().to_owned())
}

/// Returns the table of that name, if there is one.
fn child<'a>(parent: &'a dyn TableLike, name: &str) -> Result<Option<&'a dyn TableLike>, Problem> {
    match parent.get(name) {
        None => Ok(None),
        Some(item) => item.as_table_like().map(Some).ok_or_else(|| not_a_table(name)),
    }
}

fn not_a_table(name: &str) -> Problem {
    format!("'{name}' in it is not a table")
}

pub(super) fn has(text: &str, key: &str, name: &str) -> Result<bool, Problem> {
    let document = parse(text)?;
    Ok(child(document.as_table(), key)?.is_some_and(|servers| servers.contains_key(name)))
}

/// Returns the text with our entry as it should be. What a person added to it stays.
pub(super) fn add(text: &str, form: &Form, entry: &Entry) -> Result<String, Problem> {
    let mut document = parse(text)?;
    let Some(servers) = child(document.as_table(), form.servers)? else { return appended(text, form, entry) };
    if !servers.contains_key(&entry.name) {
        let longer = appended(text, form, entry)?;
        // Servers in one inline table, or in dotted keys, take no table of their own.
        if parse(&longer).is_ok() {
            return Ok(longer);
        }
    }
    if child(servers, &entry.name)?.is_some_and(|ours| !is_started_as_a_program(ours, form)) {
        return add(&remove(text, form.servers, &entry.name)?, form, entry);
    }
    let before = document.to_string();
    let servers = document.get_mut(form.servers).and_then(Item::as_table_like_mut);
    let servers = servers.ok_or_else(|| not_a_table(form.servers))?;
    let ours = servers.entry(&entry.name).or_insert_with(|| value(InlineTable::new()));
    update(ours.as_table_like_mut().ok_or_else(|| not_a_table(&entry.name))?, form, entry)?;
    let after = document.to_string();
    Ok(if before == after { text.to_owned() } else { with_line_ends_of(text, after) })
}

fn is_started_as_a_program(ours: &dyn TableLike, form: &Form) -> bool {
    let text_of = |key| ours.get(key).and_then(Item::as_str).map(str::to_owned);
    Seen {
        keys: ours.iter().map(|(key, _)| key).collect(),
        kinds: KINDS.map(text_of),
        names_a_program: text_of("command").is_some(),
    }
    .is_started_as_a_program(form)
}

fn appended(text: &str, form: &Form, entry: &Entry) -> Result<String, Problem> {
    let mut table = Table::new();
    update(&mut table, form, entry)?;
    let gap = match text {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    // Both are bare keys.
    let ours = format!("{gap}[{}.{}]\n{table}", form.servers, entry.name);
    Ok(format!("{text}{}", with_line_ends_of(text, ours)))
}

fn with_line_ends_of(text: &str, edited: String) -> String {
    if text.contains("\r\n") { edited.replace("\r\n", "\n").replace('\n', "\r\n") } else { edited }
}

fn update(ours: &mut dyn TableLike, form: &Form, entry: &Entry) -> Result<(), Problem> {
    let program = ours.get("command").and_then(Item::as_str);
    let arguments = ours.get("args").and_then(Item::as_array);
    let texts = |words: &Array| words.iter().map(|word| word.as_str().unwrap_or_default().to_owned()).collect();
    let before: Option<Vec<String>> = arguments.map(texts);
    let keeps_arguments = program.is_some_and(|program| entry.keeps(program, before.as_deref().unwrap_or_default()));
    put_text(ours, "command", &entry.command);
    if !keeps_arguments && before.as_ref() != Some(&entry.arguments) {
        put(ours, "args", value(entry.arguments.iter().collect::<Array>()));
    }
    for (name, extra) in form.extra {
        if !ours.contains_key(name) {
            ours.insert(name, input(*extra));
        }
    }
    if let Some(home) = &entry.home {
        let variables = ours.entry(form.variables).or_insert_with(|| value(InlineTable::new()));
        put_text(variables.as_table_like_mut().ok_or_else(|| not_a_table(form.variables))?, HOME_VARIABLE, home);
    }
    Ok(())
}

fn put_text(table: &mut dyn TableLike, name: &str, text: &str) {
    if table.get(name).and_then(Item::as_str) != Some(text) {
        put(table, name, value(text));
    }
}

/// Sets a value; what stands around the old one, such as a comment behind it, stays.
fn put(table: &mut dyn TableLike, name: &str, mut item: Item) {
    if let (Some(old), Some(new)) = (table.get(name).and_then(Item::as_value), item.as_value_mut()) {
        *new.decor_mut() = old.decor().clone();
    }
    if let Some(old) = table.get_mut(name) {
        *old = item;
    } else {
        table.insert(name, item);
    }
}

fn input(extra: Extra) -> Item {
    match extra {
        Extra::Text(text) => value(text),
        Extra::Texts(texts) => value(texts.iter().copied().collect::<Array>()),
        Extra::Number(number) => value(number),
    }
}

pub(super) fn remove(text: &str, key: &str, name: &str) -> Result<String, Problem> {
    if !has(text, key, name)? {
        return Ok(text.to_owned());
    }
    let mut document = parse(text)?;
    if let Some(servers) = document.get_mut(key).and_then(Item::as_table_like_mut) {
        servers.remove(name);
    }
    let shorter = document.to_string();
    let cut = cut_out(text, key, name).filter(|cut| same_values(cut, &shorter));
    Ok(cut.unwrap_or_else(|| with_line_ends_of(text, shorter)))
}

/// Cuts from the header of our table to the end of its last value, and one empty line before it. That is right only where
/// nothing of others lies in between.
fn cut_out(text: &str, key: &str, name: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let ours = document.get(key)?.get(name)?.as_table()?;
    let mut whole = ours.span()?;
    cover(ours, &mut whole);
    let start = text[..whole.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[whole.end..].find('\n').map_or(text.len(), |newline| whole.end + newline + 1);
    let before = &text[..start];
    let before = ["\r\n", "\n"].iter().find_map(|newline| {
        let shorter = before.strip_suffix(newline)?;
        shorter.ends_with('\n').then_some(shorter)
    });
    Some(format!("{}{}", before.unwrap_or(&text[..start]), &text[end..]))
}

fn cover(table: &dyn TableLike, whole: &mut Range<usize>) {
    for (_, item) in table.iter() {
        if let Some(span) = item.span() {
            whole.start = whole.start.min(span.start);
            whole.end = whole.end.max(span.end);
        }
        if let Some(table) = item.as_table() {
            cover(table, whole);
        }
    }
}

fn same_values(one: &str, other: &str) -> bool {
    let values = |text: &str| text.parse::<::toml::Table>().ok();
    values(one).is_some_and(|one| Some(one) == values(other))
}
