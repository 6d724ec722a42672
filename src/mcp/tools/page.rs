//! The `limit` and the `cursor` of all lists.

use std::str::FromStr;

use crate::routine::invalid_field::InvalidField;

const MAX_LIMIT: usize = 200;

pub(super) fn limit(given: Option<usize>, default: usize) -> anyhow::Result<usize> {
    match given.unwrap_or(default) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        limit => {
            let rule = format!("it must be between 1 and {MAX_LIMIT}; get more pages with `cursor`");
            Err(InvalidField::new("limit", limit, rule).into())
        }
    }
}

/// Parses the cursor that an earlier page ended with.
pub(super) fn cursor<T: FromStr>(given: Option<&str>) -> anyhow::Result<Option<T>> {
    let parse = |text: &str| {
        let rule = "it must be the `next_cursor` of an earlier answer; leave it out to start from the beginning";
        text.parse().map_err(|_| InvalidField::new("cursor", format_args!("'{text}'"), rule).into())
    };
    given.map(parse).transpose()
}
