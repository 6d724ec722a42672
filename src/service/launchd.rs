//! The service as an agent of the user's launchd. Facts: launchd.plist(5), launchctl(1).

use std::path::Path;

use super::{Job, Kind, MARK, Service, words};

fn label(kind: Kind) -> String {
    format!("moadim-mcp.{}", kind.name())
}

pub(super) fn service(kind: Kind, home: &Path, user: u32) -> Service {
    let label = label(kind);
    let file = home.join("Library/LaunchAgents").join(format!("{label}.plist"));
    let bootstrap = ["launchctl".to_owned(), "bootstrap".to_owned(), format!("gui/{user}"), file.display().to_string()];
    let stop = words(&format!("launchctl bootout gui/{user}/{label}"));
    Service {
        manager: "launchd",
        file,
        probe: words(&format!("launchctl print gui/{user}")),
        hint: "Try from a terminal of this user's own desktop session",
        text: property_list,
        arguments,
        prepare: vec![stop.clone()],
        start: vec![bootstrap.to_vec()],
        stop: vec![stop],
        forget: Vec::new(),
        is_active: words(&format!("launchctl print gui/{user}/{label}")),
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
    let argument = |word: &String| format!("        <string>{}</string>\n", escaped(word));
    let arguments: String = job.arguments.iter().map(argument).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<!-- {MARK} -->
<plist version=\"1.0\">
<dict>
    <key>Label</key>
    <string>{label}</string>
    <key>ProgramArguments</key>
    <array>
        <string>{program}</string>
{arguments}    </array>
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
    <!-- Runs outlive this process: without this launchd would end what is left of its process group. -->
    <key>AbandonProcessGroup</key>
    <true/>
</dict>
</plist>
",
        label = label(job.kind),
        program = escaped(&job.program),
    )
}

/// Returns what follows the program in an agent's file.
fn arguments(text: &str) -> Vec<String> {
    let words = text.lines().skip_while(|line| line.trim() != "<array>").skip(2);
    let word = |line: &str| Some(line.trim().strip_prefix("<string>")?.strip_suffix("</string>")?.to_owned());
    words.map_while(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_markup_is_escaped_and_runs_are_left_alone() {
        let environment = vec![("MOADIM_HOME", "/a<b".to_owned())];
        let (program, arguments) =
            ("/opt/r&d/moadim-mcp".to_owned(), vec!["dashboard".to_owned(), "--port".to_owned()]);
        let text = property_list(&Job { kind: Kind::Dashboard, program, arguments, environment });
        assert!(text.contains("<string>moadim-mcp.dashboard</string>"), "{text}");
        assert!(
            text.contains("        <string>dashboard</string>\n        <string>--port</string>\n    </array>"),
            "{text}"
        );
        assert!(text.contains("<string>/opt/r&amp;d/moadim-mcp</string>") && text.contains("<string>/a&lt;b</string>"));
        assert!(text.contains("<key>AbandonProcessGroup</key>\n    <true/>") && text.contains(MARK), "{text}");
    }

    #[test]
    fn a_restart_stops_what_was_there() {
        let manager = service(Kind::Janitor, Path::new("/Users/me"), 501);
        assert_eq!(manager.prepare[0].join(" "), "launchctl bootout gui/501/moadim-mcp.janitor");
        assert_eq!(manager.start[0][3], "/Users/me/Library/LaunchAgents/moadim-mcp.janitor.plist");
    }
}
