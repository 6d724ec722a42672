//! `token`: webhook tokens, by which other programs trigger a routine through the dashboard.

use std::io::Write;

use serde::Serialize;

use super::app::{self, Format, check_called_by_a_person, print_json};
use super::completion;
use super::table::{Table, faint, text};
use super::time::moment;
use crate::clock::UnixSeconds;
use crate::http::running::Running;
use crate::http::webhook_auth::{make, revoke};
use crate::routine::slug::Slug;
use crate::routine::webhook_token::{self, WebhookToken};
use crate::run::options::check_may_give_text;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make a webhook token, which can trigger one routine and do nothing else, and print it once
    New {
        /// The routine's slug
        #[arg(long, value_name = "SLUG", add = completion::routines())]
        routine: Slug,
        /// Let it also say what a run is about; the agent reads that as data
        #[arg(long)]
        text: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List webhook tokens, without their secrets
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Revoke a webhook token
    Revoke {
        /// The token's id, as `token list` shows it
        #[arg(add = completion::webhook_tokens())]
        id: String,
        #[command(flatten)]
        format: Format,
    },
}

/// A token as people and programs see it; its hash is of no use to them.
#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct View {
    /// Shown when it is made, and never again.
    token: Option<String>,
    id: String,
    routine: Slug,
    allows_text: bool,
    created_at: UnixSeconds,
    last_used_at: Option<UnixSeconds>,
}

impl From<WebhookToken> for View {
    fn from(token: WebhookToken) -> Self {
        let WebhookToken { id, routine, allows_text, created_at, last_used_at, sha256: _ } = token;
        Self { token: None, id, routine, allows_text, created_at, last_used_at }
    }
}

#[derive(Serialize)]
struct Tokens {
    tokens: Vec<View>,
}

pub(super) fn token(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.action {
        Action::New { routine, text, format } => new(routine, *text, *format),
        Action::List { format } => list(*format),
        Action::Revoke { id, format } => {
            let app = app::open()?;
            check_called_by_a_person(&app, "revoke a webhook token")?;
            let token = revoke(&app.home, id)?;
            if format.json {
                return print_json(&View::from(token));
            }
            Ok(writeln!(anstream::stdout(), "Revoked {}, which could trigger {}.", token.id, token.routine)?)
        }
    }
}

fn new(routine: &Slug, allows_text: bool, format: Format) -> anyhow::Result<()> {
    let app = app::open()?;
    check_called_by_a_person(&app, "make a webhook token")?;
    if allows_text {
        // Else each use would be refused.
        check_may_give_text(&app.context()?, routine, None)?;
    }
    let (record, token) = make(&app.home, routine, allows_text)?;
    if format.json {
        return print_json(&View { token: Some(token), ..record.into() });
    }
    let say = |text: &str| writeln!(anstream::stderr(), "{text}");
    let means = if allows_text { " It may say what a run is about." } else { "" };
    say(&format!("{} can trigger {routine}, and nothing else.{means} The token is not shown again:", record.id))?;
    writeln!(anstream::stdout(), "{token}")?;
    let running = Running::find(&app.home);
    let base =
        running.as_ref().map_or_else(|| "http://127.0.0.1:PORT/".to_owned(), |address| address.url_without_token());
    let body = if allows_text { " -H 'Content-Type: application/json' -d '{\"text\": \"…\"}'" } else { "" };
    say(&format!(
        "\nUse it on this machine:\n  curl -X POST -H 'Authorization: Bearer {token}'{body} {base}api/routines/{routine}/trigger"
    ))?;
    match running {
        None => say("\nNo dashboard is running. Start one at a fixed port: moadim-mcp dashboard --port 7878")?,
        Some(address) if address.read_only => {
            say("\nThe running dashboard is read-only and refuses webhooks: start it again without --read-only.")?;
        }
        Some(_) => {}
    }
    Ok(())
}

fn list(format: Format) -> anyhow::Result<()> {
    let tokens = webhook_token::list(&app::open()?.home)?;
    if format.json {
        return print_json(&Tokens { tokens: tokens.into_iter().map(View::from).collect() });
    }
    let (mut table, now) = (Table::new(&["TOKEN", "ROUTINE", "TEXT", "CREATED", "LAST USED"]), UnixSeconds::now());
    for token in tokens {
        table.row(vec![
            text(&token.id),
            text(&token.routine.to_string()),
            if token.allows_text { text("yes") } else { faint("no") },
            text(&moment(token.created_at, now)),
            token.last_used_at.map_or_else(|| faint("never"), |at| text(&moment(at, now))),
        ]);
    }
    Ok(table.print("no webhook tokens; make one: moadim-mcp token new --routine SLUG")?)
}
