//! `dashboard`: the page in a browser, and the tools over HTTP.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::app;
use crate::home::atomic_file;
use crate::http::running::{Address, Entered, Running};
use crate::http::serve::{Listeners, Server};
use crate::logging;
use crate::mcp::tools;
use crate::mcp::tools::selection::select;
use crate::random_token::random_token;
use crate::run::context::App;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The port to listen on; any free one if left out
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Only print the address
    #[arg(long)]
    no_open: bool,
    /// Show everything, and change nothing
    #[arg(long)]
    read_only: bool,
    /// Write the dashboard's token to a file that only you can read, for programs
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// As a service: open nothing, and keep the token out of the output, which a service manager shows to others
    #[arg(long, hide = true)]
    as_service: bool,
}

/// Serves until a signal ends it, or opens the dashboard that runs already.
pub(super) fn dashboard(arguments: &Arguments) -> anyhow::Result<()> {
    logging::start_writing();
    let app = app::open()?.with_login_shell();
    app::check_called_by_a_person(&app, "start the dashboard")?;
    match Running::enter(&app.home)? {
        // The service manager tries again, until that one has ended.
        Entered::Already { address, .. } if arguments.as_service => {
            let pid = address.pid;
            bail!(
                "cannot start as a service: another dashboard of this home is running (pid {pid}); end it (kill {pid}), and the \
                 service starts by itself"
            )
        }
        Entered::Already { address, link } => show_running(arguments, &address, &link),
        Entered::First(running) => serve(arguments, app, running),
    }
}

fn serve(arguments: &Arguments, app: App, mut running: Running) -> anyhow::Result<()> {
    let offered = select(tools::all(), arguments.read_only, None)?;
    let listeners = Listeners::bind(arguments.port).map_err(|error| {
        let fix = match &error {
            error if error.is_taken() => "; choose another port, or leave out --port for a free one",
            error if error.is_denied() => "; choose a port above 1023",
            _ => "",
        };
        anyhow::anyhow!("{error}{fix}")
    })?;
    let token = random_token().context("cannot make a token")?;
    let address = Address::of_this_process(listeners.port, &token, arguments.read_only);
    write_token(arguments, &address)?;
    if let Err(error) = running.announce(&address) {
        let file = app.home.dashboard_file();
        logging::say(&format!(
            "Cannot write {}: {error}. The address below works, but `moadim-mcp dashboard` will not find it: free some disk \
             space and start this again.",
            file.display()
        ));
    }
    let server = Server::new(listeners, token);
    show(arguments, &address, &server.link()?)?;
    logging::say(&format!("This is the dashboard of {}; Ctrl-C ends it.", app.home.root().display()));
    server.run(Arc::new(app), offered)?;
    drop(running);
    Ok(())
}

/// Opens the one that is running, and says where it differs from what was asked for.
fn show_running(arguments: &Arguments, address: &Address, link: &str) -> anyhow::Result<()> {
    let (pid, port) = (address.pid, address.port);
    let end_it = format!("to change that, end it (kill {pid}) and start it again");
    if arguments.read_only && !address.read_only {
        bail!("the running dashboard is not read-only; {end_it}");
    }
    if address.read_only && !arguments.read_only {
        logging::say(&format!("The dashboard is running with --read-only; {end_it}."));
    }
    if arguments.port != 0 && arguments.port != port {
        logging::say(&format!("The dashboard is running on port {port}, not {}; {end_it}.", arguments.port));
    }
    write_token(arguments, address)?;
    show(arguments, address, link)
}

fn write_token(arguments: &Arguments, address: &Address) -> anyhow::Result<()> {
    let Some(file) = &arguments.token_file else { return Ok(()) };
    let file = std::path::absolute(file)?;
    // A rename would put the token in its place.
    if file.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        bail!("cannot write the token to {}: it is not a regular file; name another", file.display());
    }
    Ok(atomic_file::write(&file, format!("{}\n", address.token).as_bytes())?)
}

/// Prints the page's address, and opens the page by a link that is used up then.
fn show(arguments: &Arguments, address: &Address, link: &str) -> anyhow::Result<()> {
    let url = if arguments.as_service { address.url_without_token() } else { address.url() };
    let mut out = std::io::stdout();
    writeln!(out, "{url}")?;
    out.flush()?;
    if arguments.no_open || arguments.as_service {
        return Ok(());
    }
    match Way::here(&|name| std::env::var(name).ok().filter(|value| !value.is_empty())) {
        Way::Browser(program) => open(program, &address.url_of(link)),
        Way::Ssh(host) => {
            let port = address.port;
            logging::say(&format!("On your own machine, run: ssh -N -L {port}:127.0.0.1:{port} {host}"));
            logging::say("Leave it running, and open the address above there.");
        }
        Way::NoDisplay => {
            logging::say("There is no display here: open the address above in a browser on this machine.")
        }
    }
    Ok(())
}

/// How a person gets to see the page.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// By this program, which opens a browser.
    Browser(&'static str),
    /// From the machine that they came from, to this host.
    Ssh(String),
    NoDisplay,
}

impl Way {
    fn here(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        if let Some(connection) = variable("SSH_CONNECTION") {
            // Client's address and port, server's address and port.
            let server = connection.split(' ').nth(2).unwrap_or("HOST").to_owned();
            return Self::Ssh(variable("USER").map_or(server.clone(), |user| format!("{user}@{server}")));
        }
        if cfg!(target_os = "macos") {
            return Self::Browser("open");
        }
        let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| variable(name).is_some());
        if has_display { Self::Browser("xdg-open") } else { Self::NoDisplay }
    }
}

/// Opens a browser. It may stay until the person closes it, so nobody waits for it.
fn open(program: &'static str, url: &str) {
    let mut command = Command::new(program);
    // Every user of the machine can read it there.
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let say =
        move |why: String| logging::say(&format!("Cannot open a browser ({program}: {why}): open the address above."));
    let opened = command.spawn().map(|mut opener| {
        std::thread::spawn(move || match opener.wait() {
            Ok(status) if !status.success() => say(status.to_string()),
            _ => {}
        })
    });
    if let Err(error) = opened {
        say(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_ssh_the_way_is_shown_and_a_display_gets_a_browser() {
        let way = |set: &[(&str, &str)]| {
            Way::here(&|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned()))
        };
        let ssh = ("SSH_CONNECTION", "10.0.0.9 51000 10.0.0.5 22");
        assert_eq!(way(&[ssh, ("USER", "me"), ("DISPLAY", ":10")]), Way::Ssh("me@10.0.0.5".to_owned()));
        assert_eq!(way(&[ssh]), Way::Ssh("10.0.0.5".to_owned()));
        if cfg!(target_os = "macos") {
            assert_eq!(way(&[]), Way::Browser("open"));
        } else {
            assert_eq!(way(&[("WAYLAND_DISPLAY", "wayland-0")]), Way::Browser("xdg-open"));
            assert_eq!(way(&[]), Way::NoDisplay);
        }
    }
}
