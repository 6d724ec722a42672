//! Completing the names of routines and runs as a person types them.

use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompletionInfo, Reference};

use super::{prompts, resources};
use crate::quote::shortened;
use crate::routine::store;
use crate::run::context::App;
use crate::run::on_disk;

/// Returns the names that match what was typed so far.
///
/// # Errors
/// There is no such prompt or template, or a folder of the home cannot be listed.
pub(super) fn complete(app: &App, asked: &CompleteRequestParams) -> Result<CompletionInfo, ErrorData> {
    check(&asked.r#ref)?;
    let home = &app.home;
    let names: Vec<String> = match asked.argument.name.as_str() {
        "routine" => store::slugs(home).map(|slugs| slugs.iter().map(ToString::to_string).collect()),
        "run" => on_disk::ids(home).map(|ids| ids.iter().map(ToString::to_string).collect()),
        // Everything else is free text.
        _ => Ok(Vec::new()),
    }
    .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let mut fitting = fitting(names, &asked.argument.value);
    let total = u32::try_from(fitting.len()).ok();
    let has_more = fitting.len() > CompletionInfo::MAX_VALUES;
    fitting.truncate(CompletionInfo::MAX_VALUES);
    CompletionInfo::with_pagination(fitting, total, has_more).map_err(|error| ErrorData::internal_error(error, None))
}

/// Returns those of some names that begin with what was typed, then those that contain it, else in their order.
fn fitting(names: Vec<String>, typed: &str) -> Vec<String> {
    // Slugs and run ids have no capitals.
    let typed = typed.trim().to_lowercase();
    let (mut beginning, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.starts_with(&typed));
    beginning.extend(others.into_iter().filter(|name| name.contains(&typed)));
    beginning
}

fn check(reference: &Reference) -> Result<(), ErrorData> {
    let (known, kind, name) = match reference {
        Reference::Prompt(prompt) => (prompts::find(&prompt.name).is_some(), "prompt", &prompt.name),
        Reference::Resource(template) => {
            let known = resources::templates().iter().any(|known| known.uri_template == template.uri);
            (known, "resource template", &template.uri)
        }
        // Of a kind that a later protocol may have.
        _ => return Err(ErrorData::invalid_params("`ref` is neither a prompt nor a resource template", None)),
    };
    if known {
        return Ok(());
    }
    Err(ErrorData::invalid_params(format!("there is no {kind} '{}'", shortened(name, 80)), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::ArgumentInfo;

    #[test]
    fn what_begins_so_comes_before_what_contains_it() {
        let names = ["nightly", "night", "fortnight", "daily"].map(str::to_owned).to_vec();
        assert_eq!(fitting(names.clone(), " Night"), ["nightly", "night", "fortnight"]);
        assert_eq!(fitting(names.clone(), ""), names);
        assert!(fitting(names, "x").is_empty());
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let (_dir, app) = App::example();
        for n in 0..150 {
            std::fs::create_dir(app.home.workbenches().join(format!("a-{n}"))).unwrap();
        }
        let ask = |reference, name: &str| {
            complete(&app, &CompleteRequestParams::new(reference, ArgumentInfo::new(name, "a-")))
        };
        let found = ask(Reference::for_resource("moadim://runs/{run}"), "run").unwrap();
        assert_eq!((found.values.len(), found.total, found.has_more), (100, Some(150), Some(true)));
        assert_eq!(found.values[0], "a-149", "the newest first");
        assert!(ask(Reference::for_prompt("diagnose_run"), "unknown").unwrap().values.is_empty());
        assert!(ask(Reference::for_prompt("missing"), "run").is_err());
        assert!(ask(Reference::for_resource("moadim://runs/a-1"), "run").is_err());
    }
}
