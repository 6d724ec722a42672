//! A value that was refused.

use std::fmt;

use crate::quote::quote;

/// A value that a routine cannot hold: which field, which value, which rule, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{field}` is {value}: {rule}")]
pub struct InvalidField {
    field: String,
    value: String,
    rule: String,
}

impl InvalidField {
    /// Describes a refused value; what is shown of it is short and printable.
    pub fn new(field: impl Into<String>, value: impl fmt::Display, rule: impl Into<String>) -> Self {
        let value = quote(&value.to_string(), 80);
        Self { field: field.into(), value, rule: rule.into() }
    }
}
