//! Parsing what a person wrote in TOML, with errors that repeat nothing of it: a value may be a secret, and a model may read the error.

use serde::de::DeserializeOwned;

pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let message = without_value(error.message()).trim_end().replace('\n', ", ");
        let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("line {line}, column {column}: {message}")
    })
}

/// Takes the value out of a message such as "invalid type: integer `7`, expected a string".
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid type: ") || found.starts_with("invalid value: ") => {
            let kind = found.split(['`', '"']).next().unwrap_or_default().trim_end();
            format!("{kind}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Variables;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[allow(dead_code, reason = "only errors are looked at")]
        env: Variables,
    }

    #[test]
    fn an_error_names_the_place_and_repeats_no_value() {
        for (text, place, words) in [
            ("[env]\nA = \"hush\nB = 1", "line 2, column 10", "string"),
            ("[env]\nA = \"hush\"\nhush-hush = 'hush'\n", "line 3", "hush-hush"),
            ("# é\nenv = {}\nevn = 'hush'", "line 3, column 1", "evn"),
            ("env = { PIN = 4711 }", "line 1", "integer, expected a string"),
            ("env = \"hush, expected hush\"", "line 1", "string, expected a map"),
        ] {
            let error = parse::<File>(text).unwrap_err();
            assert!(error.contains(place) && error.contains(words), "{error}");
            assert!(
                !["'hush'", "\"hush", "hush,", "4711", "expected hush"].iter().any(|value| error.contains(value)),
                "{error}"
            );
        }
        assert!(parse::<File>("[env]\nA = 'x'\n").is_ok());
    }
}
