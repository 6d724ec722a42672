//! The JSON schemas of tools: derived from the Rust types, then cleaned so that every client can read them.
//!
//! What is cleaned, each because some client warns or fails over it: integer and float `format`s, which no JSON Schema
//! vocabulary knows; nullable unions, where an absent key says the same; `$ref`s.
//!
//! And they are kept short, because every model reads them before its first word: a choice of words is a plain `enum`, an
//! answer is described by its keys alone, and what several tools answer with is described by one of them.

use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

/// A type's `JsonSchema::json_schema`.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Returns the schema of a tool's arguments: an object that takes no other keys.
pub(super) fn of_arguments(schema_of: SchemaOf) -> JsonObject {
    let mut schema = cleaned(schema_of, SchemaSettings::draft2020_12(), clean);
    schema.entry("properties").or_insert_with(|| json!({}));
    schema.insert("additionalProperties".into(), Value::Bool(false));
    schema
}

/// Returns the schema of a tool's answer, from which a key that holds nothing is absent.
pub(crate) fn of_answer(schema_of: SchemaOf) -> JsonObject {
    let mut answer = cleaned(schema_of, SchemaSettings::draft2020_12().for_serialize(), |schema| {
        clean(schema);
        // An object without properties is described by another tool, which its description names.
        let is_described_elsewhere = schema.get("type") == Some(&json!("object")) && schema.get("properties").is_none();
        if !is_described_elsewhere {
            schema.remove("description");
        }
        for seen_in_the_answer_itself in ["enum", "format", "required", "additionalProperties"] {
            schema.remove(seen_in_the_answer_itself);
        }
    });
    describe_lists_only(&mut answer, true);
    answer
}

/// Removes the keys of objects within objects, except of those that an answer lists.
fn describe_lists_only(object: &mut JsonObject, is_root: bool) {
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut().filter_map(Value::as_object_mut) {
        property.remove("properties");
        match property.get_mut("items").and_then(Value::as_object_mut) {
            Some(items) if is_root => describe_lists_only(items, false),
            Some(items) => drop(items.remove("properties")),
            None => {}
        }
    }
}

/// Returns whether an answer has a null in it, which our schemas do not allow.
pub(super) fn holds_null(answer: &Value) -> bool {
    match answer {
        Value::Object(map) => map.values().any(holds_null),
        Value::Array(items) => items.iter().any(holds_null),
        other => other.is_null(),
    }
}

fn cleaned(schema_of: SchemaOf, settings: SchemaSettings, clean: fn(&mut Schema)) -> JsonObject {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = schema_of(&mut settings.into_generator());
    // It visits schemas only: a property that is *named* `format` or `type` stays.
    RecursiveTransform(clean).transform(&mut schema);
    // The Rust type's name and comment are for readers of the code; a tool has a title and a description of its own.
    schema.remove("title");
    schema.remove("description");
    schema.as_object().cloned().unwrap_or_default()
}

fn clean(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    // What may be anything may be null, and so absent; schemars requires no other key that may be null.
    let properties = object.get("properties").cloned().unwrap_or_default();
    if let Some(required) = object.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str().is_none_or(|name| properties[name] != true));
    }
    while forbid_null(object) {}
    list_words(object);
    let is_number = object.get("type").is_some_and(|kind| kind == "integer" || kind == "number");
    object.retain(|key, value| match key.as_str() {
        "format" => !is_number,
        // It only says that the Rust type has no sign; the range that holds is in the description.
        "minimum" => *value != 0,
        "default" => !value.is_null(),
        "required" => *value != json!([]),
        _ => true,
    });
}

/// Turns a choice of described words into a list of the words.
fn list_words(object: &mut JsonObject) {
    let Some(choices) = object.get("oneOf").and_then(Value::as_array) else { return };
    // Words with a description come one by one, the others together.
    let words_of = |choice: &Value| match (choice.get("const"), choice.get("enum")) {
        (Some(word), _) => Some(vec![word.clone()]),
        (_, Some(Value::Array(words))) => Some(words.clone()),
        _ => None,
    };
    let Some(words) = choices.iter().map(words_of).collect::<Option<Vec<_>>>() else { return };
    let words = words.concat();
    if words.iter().all(Value::is_string) {
        object.remove("oneOf");
        object.insert("type".into(), json!("string"));
        object.insert("enum".into(), words.into());
    }
}

/// Removes "or null" from a schema; returns whether there may be more.
pub(crate) fn forbid_null(object: &mut JsonObject) -> bool {
    let null = json!({ "type": "null" });
    for key in ["enum", "type", "anyOf"] {
        if let Some(choices) = object.get_mut(key).and_then(Value::as_array_mut) {
            choices.retain(|choice| !choice.is_null() && choice != "null" && *choice != null);
        }
    }
    if let Some([only]) = object.get("type").and_then(Value::as_array).map(Vec::as_slice) {
        let only = only.clone();
        object.insert("type".into(), only);
    }
    let Some([Value::Object(only)]) = object.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) else {
        return false;
    };
    let only = only.clone();
    object.remove("anyOf");
    for (key, value) in only {
        object.entry(key).or_insert(value);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    /// Three ways to go.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Way {
        /// Described.
        Left,
        Right,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        format: Option<u32>,
        r#type: String,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Everything {
        /// How many.
        count: u64,
        ratio: Option<f64>,
        #[serde(default)]
        limit: Option<usize>,
        way: Option<Way>,
        inner: Option<Inner>,
        list: Vec<Inner>,
        map: BTreeMap<String, Option<i64>>,
        free: Value,
    }

    /// Nothing at all.
    #[derive(Deserialize, JsonSchema)]
    struct Nothing {}

    fn each_schema(schema: &Value, visit: &mut impl FnMut(&JsonObject)) {
        let Value::Object(object) = schema else { return };
        visit(object);
        for key in ["items", "additionalProperties"] {
            object.get(key).into_iter().for_each(|schema| each_schema(schema, visit));
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            let choices = object.get(key).and_then(Value::as_array);
            choices.into_iter().flatten().for_each(|schema| each_schema(schema, visit));
        }
        let properties = object.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().for_each(|(_, schema)| each_schema(schema, visit));
    }

    #[test]
    fn no_schema_holds_what_clients_stumble_over() {
        for schema in [of_arguments(Everything::json_schema), of_answer(Everything::json_schema)] {
            let text = serde_json::to_string(&schema).unwrap();
            assert!(!text.contains("null") && !text.contains("$ref") && !text.contains("$defs"), "{text}");
            each_schema(&Value::Object(schema), &mut |object| {
                assert!(object.get("format").is_none(), "{object:?}");
                assert!(object.get("type").is_none_or(Value::is_string), "{object:?}");
            });
        }
    }

    #[test]
    fn properties_named_like_keywords_stay() {
        let schema = Value::Object(of_arguments(Everything::json_schema));
        let inner = &schema["properties"]["inner"];
        assert_eq!(inner["properties"]["format"]["type"], "integer");
        assert_eq!(inner["properties"]["type"]["type"], "string");
        assert_eq!(inner["required"], json!(["type"]));
        assert_eq!(schema["properties"]["count"]["description"], "How many.");
    }

    #[test]
    fn what_may_be_null_may_be_absent() {
        let schema = Value::Object(of_arguments(Everything::json_schema));
        let required = schema["required"].as_array().unwrap();
        assert!(required.contains(&json!("count")) && required.contains(&json!("list")));
        for optional in ["ratio", "limit", "way", "inner", "free"] {
            assert!(!required.contains(&json!(optional)), "{optional}");
        }
    }

    #[test]
    fn a_null_is_found_at_any_depth() {
        for (answer, expected) in
            [(json!(null), true), (json!({ "a": [{ "b": null }] }), true), (json!({ "a": ["null", 0, {}] }), false)]
        {
            assert_eq!(holds_null(&answer), expected, "{answer}");
        }
    }

    #[test]
    fn a_choice_of_words_is_a_list_in_arguments_and_a_text_in_answers() {
        let way = |schema: JsonObject| schema["properties"]["way"].clone();
        // Words without a description come first.
        let listed = json!({ "description": "Three ways to go.", "type": "string", "enum": ["right", "left"] });
        assert_eq!(way(of_arguments(Everything::json_schema)), listed);
        assert_eq!(way(of_answer(Everything::json_schema)), json!({ "type": "string" }));
    }

    #[test]
    fn arguments_are_closed_even_when_there_are_none() {
        let closed = json!({ "type": "object", "properties": {}, "additionalProperties": false });
        assert_eq!(Value::Object(of_arguments(Nothing::json_schema)), closed);
    }
}
