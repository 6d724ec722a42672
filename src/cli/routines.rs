//! `routines`: what there is to run.

use super::app::{self, Format, print_json};
use super::table::{Cell, Table, faint, judged, status, text};
use super::time::moment;
use crate::clock::UnixSeconds;
use crate::mcp::tools::routines::{ListRoutines, Routines, list_routines};
use crate::query::routine_view::RoutineView;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only routines whose slug or title contains this text
    query: Option<String>,
    /// Only routines with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Maximum number of routines to show, 1 to 200
    #[arg(long, default_value_t = 200)]
    limit: usize,
    /// Continue after this routine: the next_cursor of the page before
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn routines(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { query, tag, limit, cursor, format } = arguments;
    let is_whole = query.is_none() && tag.is_none() && cursor.is_none();
    let wanted = ListRoutines { query, tag, limit: Some(limit), cursor };
    let answer = list_routines(&app::open_with_login_shell()?, wanted)?;
    if format.json {
        return print_json(&answer);
    }
    let Routines { routines, total, snoozed_until, next_cursor } = answer;
    let now = UnixSeconds::now();
    let mut table = Table::new(&["ROUTINE", "TITLE", "AGENT", "STATE", "NEXT", "LAST RUN", ""]);
    for routine in &routines {
        let (last, when) = match &routine.last_run {
            Some(run) => (status(run.status), moment(run.triggered_at, now)),
            None => (faint("never"), String::new()),
        };
        table.row(vec![
            text(routine.slug.as_str()),
            text(&routine.title),
            agent(routine),
            state(routine),
            next(routine, now),
            last,
            text(&when),
        ]);
    }
    table.print("no routines; create one with: moadim-mcp create, or with the tool create_routine")?;
    if let Some(until) = snoozed_until {
        eprintln!("no schedule fires until {}; to change that: moadim-mcp snooze --off", moment(until, now));
    }
    let unreadable = total.saturating_sub(routines.len());
    if let Some(cursor) = next_cursor {
        eprintln!("for more, add: --cursor {cursor}");
    } else if is_whole && unreadable > 0 {
        eprintln!("{unreadable} more routines cannot be read; see: moadim-mcp doctor");
    }
    Ok(())
}

fn agent(routine: &RoutineView) -> Cell {
    if routine.agent_available {
        return text(&routine.agent);
    }
    judged(&format!("{} (not found)", routine.agent), false)
}

fn state(routine: &RoutineView) -> Cell {
    match (routine.enabled, routine.running.len()) {
        (_, running @ 1..) => judged(&format!("{running} running"), true),
        (true, 0) => text("enabled"),
        (false, 0) => match &routine.disabled_because {
            Some(reason) => judged(&format!("disabled: {reason}"), false),
            None => faint("disabled"),
        },
    }
}

fn next(routine: &RoutineView, now: UnixSeconds) -> Cell {
    let fires = routine.firing.next_fires.first();
    if let Some(starts) = routine.waiting_until.filter(|starts| fires.is_none_or(|fires| starts <= fires)) {
        return text(&format!("{}, waits", moment(starts, now)));
    }
    match (&routine.firing.schedule_problem, fires) {
        (Some(problem), _) => judged(problem, false),
        (None, Some(at)) => text(&moment(*at, now)),
        (None, None) => faint(if routine.firing.schedule_description.is_some() { "none" } else { "when triggered" }),
    }
}
