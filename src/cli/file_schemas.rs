//! The JSON schemas of the files that people write, made of the types that read them, so that editors complete and check what is written.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::agent::AgentDefinition;
use crate::home::config::Config;
use crate::mcp::schema::forbid_null;
use crate::routine::model::{CatchUp, Definition, Overlap, WhenAsked};

/// A file that a person writes, and the name of the schema that describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrittenFile {
    Config,
    Routine,
    Agent,
}

impl WrittenFile {
    pub(crate) const ALL: [Self; 3] = [Self::Config, Self::Routine, Self::Agent];

    /// Returns the name of its schema's own file.
    pub(crate) fn schema_name(self) -> &'static str {
        match self {
            Self::Config => "config.schema.json",
            Self::Routine => "routine.schema.json",
            Self::Agent => "agent.schema.json",
        }
    }

    /// Makes its schema, in the draft that editors of TOML know.
    pub(crate) fn schema(self) -> Schema {
        match self {
            Self::Config => schema_of::<Config>("config.toml of moadim-mcp"),
            Self::Routine => of_routines(),
            Self::Agent => of_agents(),
        }
    }
}

fn schema_of<T: JsonSchema>(title: &str) -> Schema {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(tidy).transform(&mut schema);
    schema.insert("title".to_owned(), title.into());
    schema
}

/// Removes what TOML does not have, null, and what no vocabulary has, the formats of numbers.
fn tidy(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    while forbid_null(object) {}
    let is_number = object.get("type").is_some_and(|kind| kind == "integer" || kind == "number");
    object.retain(|key, value| match key.as_str() {
        "format" => !is_number,
        "default" => !value.is_null(),
        _ => true,
    });
}

/// A schema leaves out defaults that are not written to the file, and takes what only a check refuses for a default.
fn of_routines() -> Schema {
    let mut schema = schema_of::<Definition>("routine.toml of moadim-mcp");
    schema.insert("required".to_owned(), json!(["title", "agent"]));
    if let Some(properties) = schema.get_mut("properties") {
        properties["overlap"]["default"] = value_of::<Overlap>();
        properties["when_asked"]["default"] = value_of::<WhenAsked>();
        properties["catch_up"]["default"] = value_of::<CatchUp>();
        for without in ["title", "agent", "created_at", "updated_at"] {
            if let Some(property) = properties[without].as_object_mut() {
                property.remove("default");
            }
        }
    }
    schema
}

fn of_agents() -> Schema {
    let mut schema = schema_of::<AgentDefinition>("agents/<name>.toml of moadim-mcp");
    schema.insert("anyOf".to_owned(), json!([{ "required": ["command"] }, { "required": ["extends"] }]));
    if let Some(command) = schema.get_mut("properties").and_then(|all| all["command"].as_object_mut()) {
        command.remove("default");
    }
    schema
}

fn value_of<T: Default + serde::Serialize>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::built_in_texts;
    use std::path::{Path, PathBuf};

    const BLESS: &str = "MOADIM_BLESS=1 cargo test --lib schemas";

    fn repository() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_schemas_of_files_are_those_in_the_folder_schemas() {
        for file in WrittenFile::ALL {
            let path = repository().join("schemas").join(file.schema_name());
            let text = serde_json::to_string_pretty(&file.schema()).unwrap() + "\n";
            if std::env::var_os("MOADIM_BLESS").is_some_and(|value| value == "1") {
                std::fs::write(&path, &text).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap_or_default();
            for (number, (golden, text)) in golden.lines().zip(text.lines()).enumerate() {
                assert_eq!(golden, text, "{}, line {}: {BLESS}", path.display(), number + 1);
            }
            assert!(golden == text, "{} is out of date: {BLESS}", path.display());
        }
    }

    /// Returns what in a value a schema does not allow, as far as our schemas say anything.
    fn problems(schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let mut found = Vec::new();
        let keywords = schema.as_object().expect("a schema");
        for (keyword, rule) in keywords {
            let fits = match keyword.as_str() {
                "type" => match rule.as_str().expect("one type") {
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("the type {other}"),
                },
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
                "anyOf" => rule.as_array().unwrap().iter().any(|one| problems(one, value, place).is_empty()),
                "oneOf" => {
                    rule.as_array().unwrap().iter().filter(|one| problems(one, value, place).is_empty()).count() == 1
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten().enumerate();
                    found.extend(items.flat_map(|(at, item)| problems(rule, item, &format!("{place}[{at}]"))));
                    true
                }
                "properties" => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        let own = rule.get(key).map(|rule| problems(rule, value, &format!("{place}.{key}")));
                        found.extend(own.unwrap_or_default());
                    }
                    true
                }
                "additionalProperties" => {
                    let own = &keywords.get("properties").cloned().unwrap_or_default();
                    let others = value.as_object().into_iter().flatten().filter(|(key, _)| own.get(key).is_none());
                    for (key, value) in others {
                        match rule {
                            Value::Bool(allowed) if !*allowed => found.push(format!("{place}.{key}: unknown")),
                            Value::Bool(_) => {}
                            rule => found.extend(problems(rule, value, &format!("{place}.{key}"))),
                        }
                    }
                    true
                }
                "$schema" | "title" | "description" | "default" | "format" => true,
                other => panic!("the keyword {other} is not looked at"),
            };
            if !fits {
                found.push(format!("{place}: {keyword} {rule}"));
            }
        }
        found
    }

    fn check(file: WrittenFile, text: &str) -> Vec<String> {
        let value: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        problems(&file.schema().to_value(), &serde_json::to_value(value).unwrap(), "")
    }

    /// Returns the examples of a page, with the file that each says it is of.
    fn examples(page: &Path) -> Vec<(WrittenFile, String)> {
        let text = std::fs::read_to_string(page).unwrap();
        let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
        let file = |block: &String| match block.lines().next()? {
            line if line.contains("routine.toml") => Some(WrittenFile::Routine),
            line if line.contains("config.toml") && line.contains("moadim") => Some(WrittenFile::Config),
            line if line.contains("/agents/") => Some(WrittenFile::Agent),
            _ => None,
        };
        blocks.filter_map(|block| Some((file(&block)?, block))).collect()
    }

    #[test]
    fn what_the_documentation_shows_fits_the_schemas() {
        let mut pages: Vec<PathBuf> =
            std::fs::read_dir(repository().join("docs")).unwrap().map(|file| file.unwrap().path()).collect();
        pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
        pages.push(repository().join("README.md"));
        let examples: Vec<_> = pages.iter().flat_map(|page| examples(page)).collect();
        for file in WrittenFile::ALL {
            assert!(examples.iter().any(|(of, _)| *of == file), "no example of {file:?}");
        }
        for (file, text) in examples {
            let mut found = check(file, &text);
            // An example may show the part that matters.
            found.retain(|problem| !problem.starts_with(": required") && !problem.starts_with(": anyOf"));
            assert_eq!(found, [] as [String; 0], "{text}");
        }
    }

    #[test]
    fn what_is_built_in_and_what_the_program_writes_fits_the_schemas() {
        for text in built_in_texts() {
            assert_eq!(check(WrittenFile::Agent, text), [] as [String; 0], "{text}");
        }
        let settings = toml::to_string(&Config::default()).unwrap();
        assert_eq!(check(WrittenFile::Config, &settings), [] as [String; 0]);
        let all = "title = 'T'\nagent = 'a'\nkeep_last = 2\noverlap = 'queue'\nunsaved_work = 'discard'\ntags = ['x']\n\
                   retry = { max_attempts = 2, backoff_secs = 0 }\nenv = { A = 'b' }\noptions = { model = 'm', max_turns = 3 }\n\
                   repositories = [{ url = 'https://example.com/a.git', branch = 'b' }]\n[trusted.options]\nmax_budget_usd = 2.5\n";
        let definition: Definition = toml::from_str(all).unwrap();
        for text in [all.to_owned(), toml::to_string(&definition).unwrap()] {
            assert_eq!(check(WrittenFile::Routine, &text), [] as [String; 0], "{text}");
        }
    }

    #[test]
    fn what_the_program_refuses_does_not_fit() {
        for (file, text, place) in [
            (WrittenFile::Routine, "title = 'T'", ": required"),
            (WrittenFile::Routine, "title = 'T'\nagent = 'a'\nttl = 5", ".ttl: unknown"),
            (WrittenFile::Routine, "title = 'T'\nagent = 'a'\nttl_secs = '5'", ".ttl_secs: type"),
            (WrittenFile::Routine, "title = 'T'\nagent = 'a'\noverlap = 'wait'", ".overlap: oneOf"),
            (WrittenFile::Routine, "title = 'T'\nagent = 'a'\nretry = { max_attempts = 2 }", ".retry: required"),
            (WrittenFile::Routine, "title = 'T'\nagent = 'a'\n[[repositories]]\nbranch = 'b'", ".repositories[0]: "),
            (WrittenFile::Routine, "title = 'T'\nagent = 'a'\n[trusted]\nenv = { A = 5 }", ".trusted.env.A: type"),
            (WrittenFile::Config, "default_ttl_secs = -1", ".default_ttl_secs: minimum"),
            (WrittenFile::Config, "unsaved_work = 'forget'", ".unsaved_work: oneOf"),
            (WrittenFile::Agent, "args = []", ": anyOf"),
            (WrittenFile::Agent, "command = 'a'\nstdin = 'tty'", ".stdin: oneOf"),
        ] {
            let found = check(file, text);
            assert!(found.iter().any(|problem| problem.starts_with(place)), "{text}: {found:?}");
        }
    }

    #[test]
    fn every_key_is_described() {
        fn visit(schema: &Value, place: &str) {
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                let place = format!("{place}.{key}");
                let said = property["description"].as_str().unwrap_or_default();
                assert!(!said.is_empty(), "{place} has no description");
                visit(property, &place);
                visit(&property["items"], &place);
                visit(&property["additionalProperties"], &place);
            }
        }
        for file in WrittenFile::ALL {
            let schema = file.schema().to_value();
            assert_eq!(schema["additionalProperties"], false);
            visit(&schema, file.schema_name());
        }
    }
}
