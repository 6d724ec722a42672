//! What `docs/configuration.md` is generated from.

use schemars::{Schema, schema_for};

use crate::agent::AgentDefinition;
use crate::home::config::Config;
use crate::routine::model::{CatchUp, Definition, Overlap};

/// Returns the schema of each file that a person writes, by the section that describes it.
#[must_use]
pub fn file_schemas() -> [(&'static str, Schema); 3] {
    [("config.toml", schema_for!(Config)), ("routine.toml", of_routines()), ("agents", of_agents())]
}

/// Without these keys a file is damaged, which a check says better than serde.
fn require(schema: &mut Schema, keys: &[&str]) {
    schema.insert("required".to_owned(), keys.into());
}

fn of_agents() -> Schema {
    let mut schema = schema_for!(AgentDefinition);
    require(&mut schema, &["command"]);
    schema
}

/// A schema leaves out defaults that are not written to the file.
fn of_routines() -> Schema {
    let mut schema = schema_for!(Definition);
    require(&mut schema, &["title", "agent"]);
    if let Some(properties) = schema.get_mut("properties") {
        properties["overlap"]["default"] = default_of::<Overlap>();
        properties["catch_up"]["default"] = default_of::<CatchUp>();
        properties["created_at"]["default"].take();
        properties["updated_at"]["default"].take();
    }
    schema
}

fn default_of<T: Default + serde::Serialize>() -> serde_json::Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}
