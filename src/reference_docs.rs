//! `docs/configuration.md` is generated from the types that read each file, and from `src/env_vars.rs`.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::file_schemas::WrittenFile;

const BLESS: &str = "MOADIM_BLESS=1 cargo test --lib reference_docs";
const ENV_VARS: &str = include_str!("env_vars.rs");

#[test]
fn the_configuration_page_is_what_the_code_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let files = file_schemas().into_iter().map(|(name, schema)| (name, keys(&schema)));
    let sections: Vec<(&str, String)> = files.chain([("variables", variables())]).collect();
    let generated = sections.iter().fold(page.clone(), |page, (name, text)| replace(&page, name, text));
    if std::env::var_os("MOADIM_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, generated).unwrap();
        return;
    }
    for (written, expected) in page.lines().zip(generated.lines()) {
        assert_eq!(written, expected, "docs/configuration.md is out of date: {BLESS}");
    }
    assert!(page == generated, "docs/configuration.md is out of date: {BLESS}");
}

#[test]
fn every_variable_of_ours_is_described_and_used() {
    let mut sources = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let described: Vec<(&str, &str)> = constants().collect();
    for source in &sources {
        for rest in source.split("\"MOADIM_").skip(1) {
            let (word, _) = rest.split_once('"').unwrap();
            let name = format!("MOADIM_{word}");
            let is_name = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            let of_tests = ["TEST_", "REQUIRE_", "COOKIES", "BLESS"].iter().any(|prefix| word.starts_with(prefix));
            let is_known = described.iter().any(|(_, value)| *value == name);
            assert!(!is_name || of_tests || is_known, "{name} is not in src/env_vars.rs");
        }
    }
    for (constant, name) in described {
        let is_used = |source: &String| {
            source.contains(&format!("env_vars::{constant}")) && !source.contains(&format!("\"{name}\";"))
        };
        assert!(sources.iter().any(is_used), "nothing reads or sets {name}: remove it from src/env_vars.rs");
    }
}

/// Returns the schema of each file that a person writes, by the section that describes it.
fn file_schemas() -> [(&'static str, Value); 3] {
    let mut agents = WrittenFile::Agent.schema().to_value();
    // Where nothing is extended, which the key for that says.
    agents["required"] = json!(["command"]);
    [
        ("config.toml", WrittenFile::Config.schema().to_value()),
        ("routine.toml", WrittenFile::Routine.schema().to_value()),
        ("agents", agents),
    ]
}

/// Replaces what stands between the marks of a section.
fn replace(page: &str, section: &str, text: &str) -> String {
    let begin = format!("<!-- generated: {section} -->\n");
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{begin}\n{text}\n<!-- end -->{after}")
}

/// Returns a table of all keys that a file may hold.
fn keys(schema: &Value) -> String {
    let mut table = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
    add_rows(&mut table, schema, "");
    table
}

fn add_rows(table: &mut String, object: &Value, prefix: &str) {
    for (key, property) in object["properties"].as_object().unwrap() {
        let required = object["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key));
        let default = if required { "required".to_owned() } else { default_of(key, &property["default"]) };
        let own = property["description"].as_str().unwrap_or_default();
        assert!(!own.is_empty(), "{prefix}{key} has no doc comment");
        let meaning = format!("{own}{}", choices(property)).replace('\n', " ").replace('|', "\\|");
        table.push_str(&format!("| `{prefix}{key}` | {} | {default} | {meaning} |\n", type_of(property)));
        let nested = if property["type"] == "array" { &property["items"] } else { property };
        if nested["properties"].is_object() {
            add_rows(table, nested, &format!("{prefix}{key}."));
        }
    }
}

fn type_of(schema: &Value) -> String {
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(type_of).collect::<Vec<_>>().join(" or ");
    }
    let name = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("string");
    match name {
        "array" => format!("list of {}s", type_of(&schema["items"])),
        "object" => "table".to_owned(),
        name => name.to_owned(),
    }
}

fn choices(schema: &Value) -> String {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let text = |choice: &Value| Some(format!(" `{}`: {}", choice["const"].as_str()?, choice["description"].as_str()?));
    choices.filter_map(text).collect()
}

fn default_of(key: &str, value: &Value) -> String {
    let units = match key.rsplit('_').next() {
        Some("secs") => [("d", 24 * 60 * 60), ("h", 60 * 60)],
        Some("bytes") => [("GiB", 1 << 30), ("MiB", 1 << 20)],
        _ => [("", u64::MAX); 2],
    };
    match value {
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            let readable = units.iter().find(|(_, unit)| number >= *unit && number % unit == 0);
            let readable = readable.map(|(name, unit)| match (number / unit, *name) {
                (1, "d") => " (1 day)".to_owned(),
                (days, "d") => format!(" ({days} days)"),
                (count, name) => format!(" ({count} {name})"),
            });
            format!("{number}{}", readable.unwrap_or_default())
        }
        Value::String(text) => format!("`\"{text}\"`"),
        Value::Bool(flag) => flag.to_string(),
        _ => "–".to_owned(),
    }
}

/// Returns a table of variables for each `// heading` of the module.
fn variables() -> String {
    let (mut text, mut meaning) = (String::new(), Vec::new());
    for line in ENV_VARS.lines() {
        if let Some(heading) = line.strip_prefix("// ") {
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}{heading}:\n\n| variable | meaning |\n|---|---|\n"));
        } else if let Some(doc) = line.strip_prefix("/// ") {
            meaning.push(doc);
        } else if let Some(name) = line.split('"').nth(1) {
            text.push_str(&format!("| `{name}` | {} |\n", std::mem::take(&mut meaning).join(" ")));
        }
    }
    text
}

/// Returns each constant with its value.
fn constants() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENV_VARS
        .lines()
        .filter_map(|line| Some((line.strip_prefix("pub const ")?.split(':').next()?, line.split('"').nth(1)?)))
}

fn collect(directory: &Path, sources: &mut Vec<String>) {
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(std::fs::read_to_string(path).unwrap());
        }
    }
}
