//! `usage`: what runs used, by routine and by agent.

use std::io::{IsTerminal, Write};

use anstyle::{Effects, Style};
use unicode_width::UnicodeWidthStr;

use super::app::{self, Format, print_json};
use super::time::moment;
use super::time_words;
use crate::clock::UnixSeconds;
use crate::money::MicroDollars;
use crate::query::usage::{NamedUse, UsageReport, Use, usage as usage_since};
use crate::query::used_today::UsedToday;
use crate::quote::quote;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only runs triggered at this time or later: 7d, 2h, yesterday, 2026-01-31
    #[arg(long, default_value = "7d", value_parser = time_words::since)]
    since: UnixSeconds,
    #[command(flatten)]
    format: Format,
}

pub(super) fn usage(arguments: &Arguments) -> anyhow::Result<()> {
    let now = UnixSeconds::now();
    let report = usage_since(&app::open()?.context_for_looking(), arguments.since, now)?;
    if arguments.format.json {
        return print_json(&report);
    }
    let place = Place::of_stdout();
    Ok(write!(anstream::stdout(), "{}", shown(&report, now, &place))?)
}

/// Where it is shown.
struct Place {
    /// The width of the terminal; `None` in a pipe, where each row is one line however long.
    columns: Option<usize>,
}

impl Place {
    fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self { columns: None };
        }
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        Self { columns: Some(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)) }
    }

    /// Draws a part of a whole as a bar of at most `width` columns. Programs that read a pipe need no fractions of a block.
    fn bar(&self, part: u64, whole: u64, width: usize) -> String {
        let eighths = u64::try_from(width).unwrap_or(0) * 8;
        let filled = u128::from(part) * u128::from(eighths) / u128::from(whole.max(1));
        // What is there is seen.
        let filled = usize::try_from(filled).unwrap_or(0).max(usize::from(part > 0));
        if self.columns.is_none() {
            return "#".repeat(filled.div_ceil(8));
        }
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][filled % 8];
        "█".repeat(filled / 8) + rest
    }
}

const HEADINGS: [&str; 7] = ["RUNS", "INPUT", "CACHED", "OUTPUT", "COST", "COST UNKNOWN", ""];
const WIDEST_BAR: usize = 24;
/// Less is no bar but a dot.
const NARROWEST_BAR: usize = 4;
const MAX_NAME_CHARS: usize = 80;

fn shown(report: &UsageReport, now: UnixSeconds, place: &Place) -> String {
    let UsageReport { since, total, live_runs, routines, routines_total, agents, today, .. } = report;
    let mut text = format!("Runs since {}. Cost is the list price that agents report.\n", moment(*since, now));
    if total.runs == 0 {
        text.push_str("No run has ended since then.\n");
    } else {
        text.push_str(&table("ROUTINE", routines, total, place));
        if *routines_total > routines.len() {
            text.push_str(&format!("… and {} more routines\n", routines_total - routines.len()));
        }
        text.push_str(&table("AGENT", agents, total, place));
    }
    text.push('\n');
    text.push_str(&in_words(total));
    if *live_runs > 0 {
        text.push_str(&format!("Still at work, and not counted here: {}.\n", runs(*live_runs)));
    }
    text + "Today: " + &today_in_words(today) + ".\n"
}

fn in_words(total: &Use) -> String {
    let mut words = format!("Total: {}", runs(total.runs));
    if let Some(cost) = total.cost_usd {
        words.push_str(&format!(", {}", cents(cost)));
    }
    if total.unknown_cost_runs > 0 {
        words.push_str(&format!("; the cost of {} is unknown, and not in any sum", runs(total.unknown_cost_runs)));
    }
    words + ".\n"
}

/// Says what a day's runs come to, each figure beside its ceiling.
pub(super) fn today_in_words(today: &UsedToday) -> String {
    let of = |ceiling: Option<String>| ceiling.map(|ceiling| format!(" of {ceiling}")).unwrap_or_default();
    let mut words = format!("{}{}", runs(today.runs), of(today.max_daily_runs.map(|max| max.to_string())));
    let cost = today.cost_usd.map_or_else(|| "cost unknown".to_owned(), cents);
    words.push_str(&format!(", {cost}{}", of(today.max_daily_cost_usd.map(|max| max.to_string()))));
    if today.unknown_cost_runs > 0 && today.cost_usd.is_some() {
        words.push_str(&format!("; the cost of {} is unknown so far", runs(today.unknown_cost_runs)));
    }
    words
}

fn runs(count: u64) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

/// Shows rows of figures, each with a bar for its share of the cost, or of the tokens where no cost is known.
fn table(heading: &str, rows: &[NamedUse], total: &Use, place: &Place) -> String {
    let by_cost = total.cost_usd.is_some_and(|cost| cost.0 > 0);
    let share = |used: &Use| {
        if by_cost { used.cost_usd.map_or(0, |cost| cost.0) } else { used.input_tokens + used.output_tokens }
    };
    let largest = rows.iter().map(|row| share(&row.used)).max().unwrap_or(0);
    let cells: Vec<[String; 7]> = rows.iter().map(cells).collect();
    let widths: Vec<usize> = (0..7)
        .map(|column| {
            let title = if column == 0 { heading } else { HEADINGS[column - 1] };
            cells.iter().map(|row| row[column].width()).chain([title.width()]).max().unwrap_or(0)
        })
        .collect();
    let figures: usize = widths.iter().map(|width| width + 2).sum();
    let bar_width = place.columns.map_or(WIDEST_BAR, |columns| columns.saturating_sub(figures).min(WIDEST_BAR));
    let bold = Style::new().effects(Effects::BOLD);
    let titles: Vec<String> = std::iter::once(heading).chain(HEADINGS).map(str::to_owned).collect();
    let mut text = format!("\n{bold}{}{bold:#}\n", line(&titles, &widths).trim_end());
    for (row, cells) in rows.iter().zip(&cells) {
        let mut text_of_row = line(cells, &widths);
        if bar_width >= NARROWEST_BAR {
            let bar = place.bar(share(&row.used), largest, bar_width);
            text_of_row.push_str("  ");
            text_of_row.push_str(&bar);
        }
        text.push_str(text_of_row.trim_end());
        text.push('\n');
    }
    text
}

fn cells(row: &NamedUse) -> [String; 7] {
    let Use { runs, input_tokens, cached_tokens, output_tokens, cost_usd, unknown_cost_runs, unknown_token_runs } =
        &row.used;
    let known = unknown_token_runs < runs;
    let tokens = |count: u64| if known { short(count) } else { "unknown".to_owned() };
    [
        quote(&row.name, MAX_NAME_CHARS),
        runs.to_string(),
        tokens(*input_tokens),
        tokens(*cached_tokens),
        tokens(*output_tokens),
        cost_usd.map_or_else(|| "unknown".to_owned(), cents),
        if *unknown_cost_runs > 0 { unknown_cost_runs.to_string() } else { String::new() },
    ]
}

/// Writes cells in columns: the name to the left, figures to the right.
fn line(cells: &[String], widths: &[usize]) -> String {
    let pad = |cell: &str, width: usize| " ".repeat(width.saturating_sub(cell.width()));
    let mut text = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let pad = pad(cell, *width);
        text.push_str(&if at == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") });
    }
    text
}

fn cents(cost: MicroDollars) -> String {
    cost.in_cents()
}

/// Writes a number of tokens in three digits or so.
fn short(count: u64) -> String {
    let of = |unit: u64, name: &str| format!("{:.1}{name}", count as f64 / unit as f64);
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => of(1_000, "k"),
        1_000_000..1_000_000_000 => of(1_000_000, "M"),
        _ => of(1_000_000_000, "G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str, runs: u64, tokens: u64, cents: Option<u64>, unknown_cost_runs: u64) -> NamedUse {
        let used = Use {
            runs,
            input_tokens: tokens,
            cached_tokens: tokens / 2,
            output_tokens: tokens / 10,
            unknown_token_runs: if tokens == 0 { runs } else { 0 },
            cost_usd: cents.map(|cents| MicroDollars(cents * 10_000)),
            unknown_cost_runs,
        };
        NamedUse { name: name.into(), used }
    }

    fn report() -> UsageReport {
        let routines = vec![
            named("rust-news", 7, 1_234_567, Some(342), 0),
            named("triage", 3, 20_000, Some(57), 1),
            named("nightly-tests", 2, 0, None, 2),
        ];
        UsageReport {
            since: UnixSeconds(0),
            cost_basis: String::new(),
            total: Use { cost_usd: Some(MicroDollars(3_990_000)), ..named("", 12, 1_254_567, None, 3).used },
            live_runs: 1,
            routines_total: 3,
            agents: vec![routines[0].clone()],
            routines,
            today: UsedToday {
                runs: 3,
                max_daily_runs: Some(20),
                cost_usd: Some(MicroDollars(1_200_000)),
                max_daily_cost_usd: Some(MicroDollars(5_000_000)),
                unknown_cost_runs: 1,
                until: UnixSeconds(0),
            },
        }
    }

    fn lines(columns: Option<usize>) -> Vec<String> {
        let text = shown(&report(), UnixSeconds(0), &Place { columns });
        anstream::adapter::strip_str(&text).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_terminal_gets_bars_of_blocks_that_fit_and_a_pipe_gets_ascii() {
        let wide = lines(Some(120));
        let row = |lines: &[String], name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap().clone();
        assert!(row(&wide, "rust-news").ends_with(&"█".repeat(WIDEST_BAR)), "{wide:#?}");
        assert!(row(&wide, "triage").ends_with("████"), "{wide:#?}");
        assert!(row(&wide, "nightly-tests").ends_with("unknown             2"), "{wide:#?}");
        assert!(row(&lines(Some(60)), "rust-news").ends_with("$3.42"), "no room for a bar");
        for columns in [71, 75, 80, 120] {
            assert!(
                lines(Some(columns))
                    .iter()
                    .skip(1)
                    .filter(|line| !line.contains(':'))
                    .all(|line| line.width() <= columns)
            );
        }
        let piped = lines(None);
        let rows = piped.iter().filter(|line| line.contains('$'));
        assert!(rows.clone().all(|line| line.is_ascii()), "{piped:#?}");
        assert!(row(&piped, "rust-news").ends_with(&"#".repeat(WIDEST_BAR)), "{piped:#?}");
    }

    #[test]
    fn sums_name_what_is_unknown() {
        let shown = lines(None).join("\n");
        for words in [
            "Cost is the list price that agents report.",
            "Total: 12 runs, $3.99; the cost of 3 runs is unknown, and not in any sum.",
            "Still at work, and not counted here: 1 run.",
            "Today: 3 runs of 20, $1.20 of $5.00; the cost of 1 run is unknown so far.",
        ] {
            assert!(shown.contains(words), "{words}:\n{shown}");
        }
        assert_eq!([0, 999, 1000, 1_234_567, 5_000_000_000].map(short), ["0", "999", "1.0k", "1.2M", "5.0G"]);
    }

    proptest! {
        #[test]
        fn a_bar_never_exceeds_its_width_and_shows_what_is_there(part: u64, more: u64, width in 4..40_usize, piped: bool) {
            let whole = part.saturating_add(more);
            let place = Place { columns: (!piped).then_some(80) };
            let bar = place.bar(part, whole, width).width();
            prop_assert!(bar <= width);
            prop_assert_eq!(bar > 0, part > 0);
        }
    }
}
