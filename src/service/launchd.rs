//! The service as an agent of the user's launchd. Facts: launchd.plist(5), launchctl(1).

use std::path::Path;

use super::{Job, MARK, Service, words};

const LABEL: &str = "moadim-mcp.janitor";

pub(super) fn service(home: &Path, user: u32) -> Service {
    let file = home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"));
    let bootstrap = ["launchctl".to_owned(), "bootstrap".to_owned(), format!("gui/{user}"), file.display().to_string()];
    let stop = words(&format!("launchctl bootout gui/{user}/{LABEL}"));
    Service {
        manager: "launchd",
        file,
        probe: words(&format!("launchctl print gui/{user}")),
        hint: "Try from a terminal of this user's own desktop session",
        text: property_list,
        prepare: vec![stop.clone()],
        start: vec![bootstrap.to_vec()],
        stop: vec![stop],
        forget: Vec::new(),
        is_active: words(&format!("launchctl print gui/{user}/{LABEL}")),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn property_list(job: &Job) -> String {
    let variable = |(name, value): &(&str, String)| {
        format!("        <key>{name}</key>\n        <string>{}</string>\n", escaped(value))
    };
    let environment: String = job.environment.iter().map(variable).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<!-- {MARK} -->
<plist version=\"1.0\">
<dict>
    <key>Label</key>
    <string>{LABEL}</string>
    <key>ProgramArguments</key>
    <array>
        <string>{program}</string>
        <string>janitor</string>
    </array>
    <key>EnvironmentVariables</key>
    <dict>
{environment}    </dict>
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <dict>
        <key>SuccessfulExit</key>
        <false/>
    </dict>
    <!-- Runs outlive the janitor: without this launchd would end what is left of its process group. -->
    <key>AbandonProcessGroup</key>
    <true/>
</dict>
</plist>
",
        program = escaped(&job.program),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_markup_is_escaped_and_runs_are_left_alone() {
        let environment = vec![("MOADIM_HOME", "/a<b".to_owned())];
        let text = property_list(&Job { program: "/opt/r&d/moadim-mcp".to_owned(), environment });
        assert!(text.contains("<string>/opt/r&amp;d/moadim-mcp</string>") && text.contains("<string>/a&lt;b</string>"));
        assert!(text.contains("<key>AbandonProcessGroup</key>\n    <true/>") && text.contains(MARK), "{text}");
    }

    #[test]
    fn a_restart_stops_what_was_there() {
        let manager = service(Path::new("/Users/me"), 501);
        assert_eq!(manager.prepare[0].join(" "), "launchctl bootout gui/501/moadim-mcp.janitor");
        assert_eq!(manager.start[0][3], "/Users/me/Library/LaunchAgents/moadim-mcp.janitor.plist");
    }
}
