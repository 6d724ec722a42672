//! Offering fewer tools than there are.

use anyhow::bail;

use super::dashboard;
use crate::mcp::tool::Tool;

/// Keeps the tools that are wanted: those named, if any are, and only those that change nothing if `read_only`.
///
/// # Errors
/// One that is named cannot be offered, or none is named.
pub(crate) fn select(mut tools: Vec<Tool>, read_only: bool, only: Option<&[String]>) -> anyhow::Result<Vec<Tool>> {
    if let Some(only) = only {
        if only.is_empty() {
            bail!("no tool is named; name at least one, or leave out --tools");
        }
        for name in only {
            let Some(tool) = tools.iter().find(|tool| tool.name() == name) else {
                let known = tools.iter().filter(|tool| tool.is_for_models());
                let known = known.map(Tool::name).collect::<Vec<_>>().join(", ");
                bail!("there is no tool '{name}'; the tools are: {known}");
            };
            if read_only && !tool.is_read_only() {
                bail!("the tool '{name}' changes something; leave it out, or leave out --read-only");
            }
        }
        let is_named = |name: &str| only.iter().any(|only| only == name);
        // A panel is no use without what it draws.
        tools.retain(|tool| is_named(tool.name()) || (tool.name() == dashboard::DATA && is_named(dashboard::SHOW)));
    }
    tools.retain(|tool| !read_only || tool.is_read_only());
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::tools;

    fn names(read_only: bool, only: Option<&[&str]>) -> Result<Vec<String>, String> {
        let only = only.map(|only| only.iter().map(ToString::to_string).collect::<Vec<_>>());
        let served = select(tools::all(), read_only, only.as_deref()).map_err(|error| error.to_string())?;
        Ok(served.iter().map(|tool| tool.name().to_owned()).collect())
    }

    #[test]
    fn what_is_selected_is_served() {
        assert_eq!(names(false, None).unwrap().len(), tools::all().len());
        let harmless = names(true, None).unwrap();
        assert!(harmless.contains(&"read_log".to_owned()) && harmless.contains(&"wait_run".to_owned()));
        for tool in ["trigger_routine", "stop_run", "pin_run", "snooze_routine", "cleanup_workbenches"] {
            assert!(!harmless.contains(&tool.to_owned()), "{tool}");
        }
        assert_eq!(names(true, Some(&["health", "list_runs"])).unwrap().len(), 2);
        assert_eq!(names(true, Some(&["show_dashboard"])).unwrap(), ["show_dashboard", "dashboard_data"]);
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        assert!(names(false, Some(&["helth"])).unwrap_err().contains("health"));
        assert!(names(true, Some(&["stop_run"])).unwrap_err().contains("--read-only"));
        assert!(names(false, Some(&[])).is_err());
    }
}
