//! What a new routine is written over in an editor: what is known of it already, and every other key as a comment that says what it means.

use schemars::Schema;
use serde_json::{Map, Value};

/// What a new prompt is written over.
pub(super) const PROMPT: &str = "\n\
    # Write above what the agent should do. These two lines are not saved.\n\
    # Nobody is there to answer questions: say where to look, what to write, and what to leave alone.\n";

const HEAD: &str = "# A new routine. Uncomment the lines you want; these comments are not saved.\n";

/// Makes the text of a definition that has these settings, with the agents that there are.
///
/// # Errors
/// A setting is nothing that TOML can say.
pub(super) fn definition(
    schema: &Schema,
    settings: &Map<String, Value>,
    agents: &[String],
) -> Result<String, toml::ser::Error> {
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    // Tools write these.
    let offered = || properties.iter().filter(|(key, _)| !["created_at", "updated_at"].contains(&key.as_str()));
    let mut text = HEAD.to_owned();
    for first in ["title", "agent"] {
        let value = settings.get(first).and_then(Value::as_str).unwrap_or_default();
        text += &format!("{first} = {}\n", toml::Value::from(value));
        if first == "agent" && value.is_empty() {
            text += &comment(&format!("One of: {}", agents.join(", ")));
        }
    }
    // TOML wants values before tables.
    for of_tables in [false, true] {
        let is_wanted = |value: &Value| is_table(value) == of_tables;
        let of_this_kind = |value: &Value| value.is_object() || value[0].is_object();
        let set: Map<String, Value> = settings
            .iter()
            .filter(|(key, value)| of_this_kind(value) == of_tables && !["title", "agent"].contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        text += &toml::to_string(&set)?;
        for (key, property) in offered().filter(|(key, property)| is_wanted(property) && !settings.contains_key(*key)) {
            if !["title", "agent"].contains(&key.as_str()) {
                text += &commented(key, key, property);
            }
        }
    }
    Ok(text)
}

/// Takes out of a text the comments of the template that it was written over.
pub(super) fn without_comments(text: &str, template: &str) -> String {
    let is_ours = |line: &&str| line.starts_with('#') && template.lines().any(|ours| ours == *line);
    let lines: Vec<&str> = text.lines().filter(|line| !is_ours(line)).collect();
    let text = lines.join("\n").trim().to_owned();
    if text.is_empty() { text } else { text + "\n" }
}

fn is_table(property: &Value) -> bool {
    property["type"] == "object" || property["items"]["type"] == "object"
}

fn comment(words: &str) -> String {
    format!("# {}\n", words.replace('\n', " "))
}

/// Describes a key, and shows it as a comment that can be made a line of the file.
fn commented(key: &str, path: &str, property: &Value) -> String {
    let words = property["description"].as_str().unwrap_or_default();
    let choices = property["oneOf"].as_array().into_iter().flatten().filter_map(|choice| choice["const"].as_str());
    let choices = choices.collect::<Vec<_>>().join(", ");
    let mut text = String::from("#\n");
    text += &comment(&if choices.is_empty() { words.to_owned() } else { format!("{words} One of: {choices}") });
    let items = &property["items"];
    let (table, header) = if items["type"] == "object" {
        (items, format!("[[{path}]]"))
    } else if property["type"] == "object" {
        (property, format!("[{path}]"))
    } else {
        return text + &format!("#{key} = {}\n", example(path, property));
    };
    text += &format!("#{header}\n");
    let (values, tables): (Vec<_>, Vec<_>) =
        table["properties"].as_object().into_iter().flatten().partition(|(_, property)| !is_table(property));
    for (key, property) in values {
        let words = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        text += &format!("#{key} = {}  # {words}\n", example(&format!("{path}.{key}"), property));
    }
    if table["properties"].is_null() {
        text += "#NAME = \"value\"\n";
    }
    for (key, property) in tables {
        text += &commented(key, &format!("{path}.{key}"), property);
    }
    text
}

/// Values for keys that take none of the plain ones, such as 0 or an empty text.
const EXAMPLES: [(&str, &str); 21] = [
    ("answer_within_secs", "259200"),
    ("failed_ttl_secs", "259200"),
    ("max_consecutive_failures", "3"),
    ("max_daily_cost_usd", "5"),
    ("max_daily_runs", "10"),
    ("max_runtime_secs", "3600"),
    ("max_silence_secs", "600"),
    ("repositories.branch", "\"main\""),
    ("repositories.directory", "\"src\""),
    ("repositories.url", "\"https://example.com/project.git\""),
    ("resources.constraint", "\"a100\""),
    ("resources.cpus", "4"),
    ("resources.gpus", "1"),
    ("resources.memory_mib", "8192"),
    ("resources.partition", "\"gpu\""),
    ("retry.max_attempts", "3"),
    ("run_at", "\"2026-12-01T09:00\""),
    ("schedule", "\"0 9 * * 1-5\""),
    ("timezone", "\"Europe/Berlin\""),
    ("trusted.verify_secs", "300"),
    ("ttl_secs", "86400"),
];

/// Returns a value that is accepted: the default, if there is one.
fn example(path: &str, property: &Value) -> String {
    if let Some((_, value)) = EXAMPLES.iter().find(|(key, _)| *key == path) {
        return (*value).to_owned();
    }
    let of_kind = || match property["type"].as_str() {
        Some("integer" | "number") => Value::from(0),
        Some("boolean") => Value::from(false),
        Some("array") => Value::from(Vec::<Value>::new()),
        _ => property["oneOf"][0].get("const").cloned().unwrap_or_else(|| Value::from("")),
    };
    property.get("default").cloned().unwrap_or_else(of_kind).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::file_schemas::WrittenFile;
    use crate::home::config::Config;
    use crate::routine::model::Definition;
    use serde_json::json;

    fn made_with(settings: Value) -> String {
        let schema = WrittenFile::Routine.schema();
        definition(&schema, settings.as_object().unwrap(), &["claude".to_owned(), "codex".to_owned()]).unwrap()
    }

    #[test]
    fn what_is_known_is_set_and_the_rest_is_a_comment() {
        let set = json!({
            "title": "The \"news\"", "agent": "claude", "ttl_secs": 60, "tags": ["a"], "options": { "model": "opus" },
            "repositories": [{ "url": "https://example.com/a.git" }],
        });
        let text = made_with(set.clone());
        let written = without_comments(&text, &text);
        let read: Definition = toml::from_str(&written).unwrap();
        let expected: Definition = serde_json::from_value(set).unwrap();
        assert_eq!(read, expected);
        assert!(!written.contains('#') && !text.contains("#ttl_secs") && !text.contains("created_at"), "{text}");
        assert!(text.contains("#keep_last = 0\n") && text.contains("#overlap = \"skip\"\n"), "{text}");
        assert!(text.contains("One of: skip, queue, replace, allow\n"), "{text}");
        let unknown = made_with(json!({}));
        assert!(unknown.contains("title = \"\"\nagent = \"\"\n# One of: claude, codex\n"), "{unknown}");
    }

    /// Whatever keys come to be.
    #[test]
    fn each_comment_can_be_made_a_line() {
        let text = made_with(json!({ "title": "T", "agent": "a" }));
        let uncommented: Vec<&str> = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .collect();
        let read: toml::Table = uncommented.join("\n").parse().unwrap();
        let schema = WrittenFile::Routine.schema().to_value();
        for key in schema["properties"].as_object().unwrap().keys() {
            assert!(read.contains_key(key) != ["created_at", "updated_at"].contains(&key.as_str()), "{key}: {text}");
        }
        assert_eq!(read["retry"].as_table().unwrap().len(), 2, "{text}");
        assert!(read["trusted"]["env"].is_table() && read["repositories"][0]["url"].is_str(), "{text}");
    }

    /// One after the other: the others stay comments.
    #[test]
    fn each_value_that_is_offered_is_accepted() {
        let text = made_with(json!({ "title": "T", "agent": "a" }));
        let lines: Vec<&str> = text.lines().collect();
        let offered = |line: &str| {
            line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')).map(str::to_owned)
        };
        let config = Config { slurm_max_gpus: Some(1), slurm_partitions: vec!["gpu".to_owned()], ..Config::default() };
        let check = |uncommented: &[String]| {
            let written = format!("title = \"T\"\nagent = \"a\"\n{}\n", uncommented.join("\n"));
            let read: Definition = toml::from_str(&written).map_err(|error| error.to_string())?;
            read.check(&config).map_err(|error| error.to_string())
        };
        let mut accepted = 0;
        let mut at = 0;
        while at < lines.len() {
            let Some(first) = offered(lines[at]) else {
                at += 1;
                continue;
            };
            let mut block = vec![first.clone()];
            // A table is a header with what follows it.
            if first.starts_with('[') {
                block.extend(
                    lines[at + 1..].iter().map_while(|line| offered(line).filter(|line| !line.starts_with('['))),
                );
            }
            at += block.len();
            assert_eq!(check(&block), Ok(()), "{block:#?}");
            for line in &block[1..] {
                // Some tables need several keys.
                match check(&[first.clone(), line.clone()]) {
                    Err(error) if error.contains("missing field") => {}
                    other => assert_eq!(other, Ok(()), "{line}"),
                }
            }
            accepted += block.len();
        }
        assert!(accepted > 30 && EXAMPLES.iter().all(|(_, value)| text.contains(value)), "{accepted}: {text}");
    }

    #[test]
    fn own_comments_stay() {
        let text = made_with(json!({ "title": "T", "agent": "a" }));
        let mine = text.replace("#keep_last = 0", "# because it is small\nkeep_last = 3");
        assert_eq!(
            without_comments(&mine, &text),
            "title = \"T\"\nagent = \"a\"\n# because it is small\nkeep_last = 3\n"
        );
        assert_eq!(without_comments(&format!("# Goal\nDo it.\n{PROMPT}"), PROMPT), "# Goal\nDo it.\n");
        assert_eq!(without_comments(PROMPT, PROMPT), "");
    }
}
