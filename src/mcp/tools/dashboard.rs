//! `show_dashboard`, and `dashboard_data` for its panel alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::dashboard::data::{Changes, Dashboard, Summary};
use crate::mcp::call::{Call, Reply};
use crate::mcp::tool::{Hints, Tool};
use crate::mcp::ui;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::context::App;

/// The tool whose answer is shown in the panel.
pub(crate) const SHOW: &str = "show_dashboard";
/// The tool that the panel, and the page in a browser, poll.
pub(crate) const DATA: &str = "dashboard_data";

pub(super) fn tools() -> [Tool; 2] {
    let dashboard = Arc::new(Dashboard::default());
    let of_data = Arc::clone(&dashboard);
    [
        Tool::new(
            SHOW,
            "Dashboard",
            "Show live runs, failures, next fires and problems.",
            Hints::READS,
            move |app: &App, arguments| show_dashboard(&dashboard, app, arguments),
        )
        .with_meta(ui::shown_in_panel()),
        Tool::with_call(
            DATA,
            "Dashboard data",
            "For the dashboard's own use.",
            Hints::READS,
            move |app: &App, arguments, call: &Call| Ok(Reply::Answer(dashboard_data(&of_data, app, &arguments, call))),
        )
        .with_meta(ui::for_panel_alone())
        .for_panels_alone(),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct ShowDashboard {
    /// Only this routine.
    routine: Option<Slug>,
}

fn show_dashboard(dashboard: &Dashboard, app: &App, arguments: ShowDashboard) -> anyhow::Result<Summary> {
    if let Some(routine) = &arguments.routine {
        store::check_exists(&app.home, routine)?;
    }
    Ok(dashboard.summary(app, arguments.routine.as_ref()))
}

#[derive(Deserialize, JsonSchema)]
struct DashboardData {
    /// The versions of the parts that the caller has.
    known: Option<BTreeMap<String, String>>,
}

fn dashboard_data(dashboard: &Dashboard, app: &App, arguments: &DashboardData, call: &Call) -> Changes {
    let known = arguments.known.as_ref();
    dashboard.poll(app, known.unwrap_or(&BTreeMap::new()), &call.served)
}
