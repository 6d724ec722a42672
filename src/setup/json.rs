//! Edits of JSON with comments that leave every other byte as it is, but for the line breaks that an object on one line gets
//! when our entry comes into it.

use std::collections::HashSet;

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};

use super::hosts::{Extra, Form};
use super::{Entry, HOME_VARIABLE, KINDS, Problem, Seen};
use crate::quote::quote;

/// How an entry holds the program and its arguments.
#[derive(Debug, Clone, Copy)]
pub(super) enum CommandForm {
    /// `command` is the program, `args` its arguments.
    WithArguments,
    /// `command` is a list of both.
    List,
}

/// Comments and trailing commas, which most hosts take, and nothing else that a strict reader refuses.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

fn parse(text: &str) -> Result<CstRootNode, Problem> {
    let root = CstRootNode::parse(text, &OPTIONS).map_err(|error| error.to_string())?;
    if root.value().is_some() && root.object_value().is_none() {
        return Err("it is not an object".to_owned());
    }
    root.value().as_ref().map_or(Ok(()), check_unique)?;
    Ok(root)
}

/// Returns the object of that name in another one, if there is one.
fn child(parent: &CstObject, name: &str) -> Result<Option<CstObject>, Problem> {
    match parent.get(name) {
        None => Ok(None),
        Some(property) => property.object_value().map(Some).ok_or_else(|| format!("'{name}' in it is not an object")),
    }
}

fn child_or_new(parent: &CstObject, name: &str) -> Result<CstObject, Problem> {
    Ok(child(parent, name)?.unwrap_or_else(|| parent.object_value_or_set(name)))
}

fn servers(root: &CstRootNode, key: &str) -> Result<Option<CstObject>, Problem> {
    root.object_value().map_or(Ok(None), |object| child(&object, key))
}

pub(super) fn has(text: &str, key: &str, name: &str) -> Result<bool, Problem> {
    Ok(servers(&parse(text)?, key)?.is_some_and(|servers| servers.get(name).is_some()))
}

/// Returns the text with our entry as it should be. What a person added to it stays.
pub(super) fn add(text: &str, form: &Form, command: CommandForm, entry: &Entry) -> Result<String, Problem> {
    let root = parse(text)?;
    let servers = child_or_new(&root.object_value_or_set(), form.servers)?;
    if child(&servers, &entry.name)?.is_none_or(|ours| !is_started_as_a_program(&ours, form, command)) {
        set(&servers, &entry.name, CstInputValue::Object(Vec::new()));
    }
    update(&child_or_new(&servers, &entry.name)?, form, command, entry)?;
    Ok(root.to_string())
}

fn is_started_as_a_program(ours: &CstObject, form: &Form, command: CommandForm) -> bool {
    let names: Vec<String> = names(ours).collect();
    Seen {
        keys: names.iter().map(String::as_str).collect(),
        kinds: KINDS.map(|kind| text_of(ours, kind)),
        names_a_program: started(ours, command).is_some(),
    }
    .is_started_as_a_program(form)
}

/// Returns what an entry starts: a program and its arguments.
fn started(ours: &CstObject, command: CommandForm) -> Option<(String, Vec<String>)> {
    match command {
        CommandForm::WithArguments => Some((text_of(ours, "command")?, texts_of(ours, "args").unwrap_or_default())),
        CommandForm::List => {
            let mut words = texts_of(ours, "command")?.into_iter();
            Some((words.next()?, words.collect()))
        }
    }
}

fn names(object: &CstObject) -> impl Iterator<Item = String> {
    object.properties().into_iter().filter_map(|property| property.name()?.decoded_value().ok())
}

/// Refuses a file in which a key stands twice in one object: hosts take one of the two, and we might edit the other.
fn check_unique(value: &CstNode) -> Result<(), Problem> {
    if let Some(object) = value.as_object() {
        let mut seen = HashSet::new();
        if let Some(twice) = names(&object).find(|name| !seen.insert(name.clone())) {
            return Err(format!("it has the key '{}' twice in one object", quote(&twice, 64)));
        }
        return object.properties().iter().filter_map(CstObjectProp::value).try_for_each(|value| check_unique(&value));
    }
    value.as_array().map_or(Ok(()), |array| array.elements().iter().try_for_each(check_unique))
}

fn update(ours: &CstObject, form: &Form, command: CommandForm, entry: &Entry) -> Result<(), Problem> {
    for (name, value) in form.extra {
        if ours.get(name).is_none() {
            ours.append(name, input(*value));
        }
    }
    let before = started(ours, command);
    let keeps_arguments = before.as_ref().is_some_and(|(program, arguments)| entry.keeps(program, arguments));
    match command {
        CommandForm::WithArguments => {
            set_text(ours, "command", &entry.command);
            if !keeps_arguments {
                set(ours, "args", array(&entry.arguments));
            }
        }
        CommandForm::List => {
            let kept = before.filter(|_| keeps_arguments).map(|(_, arguments)| arguments);
            let mut words = kept.unwrap_or_else(|| entry.arguments.clone());
            words.insert(0, entry.command.clone());
            if texts_of(ours, "command").as_ref() != Some(&words) {
                set(ours, "command", array(&words));
            }
        }
    }
    if let Some(home) = &entry.home {
        set_text(&child_or_new(ours, form.variables)?, HOME_VARIABLE, home);
    }
    Ok(())
}

fn set_text(object: &CstObject, name: &str, text: &str) {
    if text_of(object, name).as_deref() != Some(text) {
        set(object, name, text.into());
    }
}

fn text_of(object: &CstObject, name: &str) -> Option<String> {
    object.get(name)?.value()?.as_string_lit()?.decoded_value().ok()
}

/// Returns the texts of a list; `None` if it is no list, or not of texts alone.
fn texts_of(object: &CstObject, name: &str) -> Option<Vec<String>> {
    let elements = object.get(name)?.value()?.as_array()?.elements();
    elements.iter().map(|element| element.as_string_lit()?.decoded_value().ok()).collect()
}

fn array<T: AsRef<str>>(texts: &[T]) -> CstInputValue {
    CstInputValue::Array(texts.iter().map(|text| text.as_ref().into()).collect())
}

fn set(object: &CstObject, name: &str, value: CstInputValue) {
    match object.get(name) {
        Some(property) => property.set_value(value),
        None => {
            object.append(name, value);
        }
    }
}

fn input(value: Extra) -> CstInputValue {
    match value {
        Extra::Text(text) => text.into(),
        Extra::Texts(texts) => array(texts),
        Extra::Number(number) => CstInputValue::Number(number.to_string()),
    }
}

/// Returns the text without our entry; the object that it was in stays, even if nothing else is in it.
pub(super) fn remove(text: &str, key: &str, name: &str) -> Result<String, Problem> {
    let root = parse(text)?;
    if let Some(ours) = servers(&root, key)?.and_then(|servers| servers.get(name)) {
        ours.remove();
    }
    Ok(root.to_string())
}
