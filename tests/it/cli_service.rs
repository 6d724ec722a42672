//! The janitor as a service: what is written, what the service manager is asked to do, and that systemd accepts it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{TestHome, copy_program};
use serde_json::Value;

const UNIT: &str = "moadim-mcp-janitor.service";

fn unit_file(home: &TestHome) -> PathBuf {
    home.user().join(".config/systemd/user").join(UNIT)
}

fn service(home: &TestHome, program: &Path, words: &[&str]) -> Output {
    let mut command = home.command_of(program);
    command.arg("service").args(words).env("PATH", home.path_with_scripts()).stdin(Stdio::null()).output().unwrap()
}

#[cfg(feature = "dashboard")]
fn doctor(home: &TestHome) -> Output {
    home.command()
        .args(["doctor", "--json"])
        .env("PATH", home.path_with_scripts())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn ours() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_moadim-mcp"))
}

#[track_caller]
fn ok(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Puts a systemctl on the path that keeps a list of its arguments, and whether the service is alive.
fn with_systemctl(home: &TestHome) {
    let state = home.scratch().join("active");
    let asked = home.scratch().join("asked");
    let (state, asked) = (state.display(), asked.display());
    home.script(
        "systemctl",
        &format!(
            "echo \"$*\" >> {asked}\ncase \"$2\" in restart) : > {state} ;; disable) rm -f {state} ;;\nis-active) if [ -e \
             {state} ]; then echo active; else echo inactive; exit 3; fi ;; esac"
        ),
    );
    home.script("loginctl", "echo no");
}

fn asked(home: &TestHome) -> Vec<String> {
    let path = home.scratch().join("asked");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn it_is_installed_looked_at_and_removed_without_a_trace() {
    let home = TestHome::new();
    with_systemctl(&home);
    let before = service(&home, ours(), &["status"]);
    assert_eq!(before.status.code(), Some(1));
    assert!(ok(service(&home, ours(), &["uninstall"])).contains("not installed"));
    asked(&home);

    let said = ok(service(&home, ours(), &["install"]));
    assert!(said.contains(UNIT) && said.contains("loginctl enable-linger"), "{said}");
    let text = std::fs::read_to_string(unit_file(&home)).unwrap();
    let expected = [
        format!("ExecStart=\"{}\" janitor\n", ours().canonicalize().unwrap().display()),
        format!("Environment=\"MOADIM_HOME={}\"\n", home.root().display()),
        "KillMode=process\n".to_owned(),
        "Restart=on-failure\n".to_owned(),
    ];
    for line in expected {
        assert!(text.contains(&line), "{line}{text}");
    }
    let changes = ["--user daemon-reload", &format!("--user enable {UNIT}"), &format!("--user restart {UNIT}")];
    assert_eq!(asked(&home)[1..4], changes, "after it was asked whether it is there");

    ok(service(&home, ours(), &["install"]));
    assert_eq!(std::fs::read_to_string(unit_file(&home)).unwrap(), text, "once more changes nothing");
    assert!(ok(service(&home, ours(), &["status"])).starts_with("installed, running"));
    let state: Value = serde_json::from_str(&ok(service(&home, ours(), &["status", "--json"]))).unwrap();
    assert_eq!((&state["installed"], &state["active"], &state["lingers"]), (&true.into(), &true.into(), &false.into()));

    asked(&home);
    ok(service(&home, ours(), &["uninstall"]));
    let changes = [format!("--user disable --now {UNIT}"), "--user daemon-reload".to_owned()];
    assert_eq!(asked(&home)[1..], changes);
    assert_eq!(std::fs::read_dir(unit_file(&home).parent().unwrap()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_dry_run_prints_and_changes_nothing() {
    let home = TestHome::new();
    with_systemctl(&home);
    let said = ok(service(&home, ours(), &["install", "--dry-run"]));
    assert!(said.contains("ExecStart=") && said.contains(&format!("$ systemctl --user enable {UNIT}\n")), "{said}");
    assert!(!unit_file(&home).exists() && asked(&home).is_empty());
}

#[test]
#[cfg(feature = "dashboard")]
fn the_dashboard_gets_a_service_of_its_own_that_goes_with_the_other() {
    let home = TestHome::new();
    with_systemctl(&home);
    let unit = "moadim-mcp-dashboard.service";
    let file = unit_file(&home).with_file_name(unit);
    let said = ok(service(&home, ours(), &["install", "--dashboard", "--port", "7878", "--dry-run"]));
    assert!(said.contains(&format!("$ systemctl --user enable {unit}\n")) && said.contains(" janitor\n"), "{said}");
    assert!(!file.exists() && asked(&home).is_empty());

    ok(service(&home, ours(), &["install"]));
    assert!(!file.exists(), "it is not wanted");
    let said = ok(service(&home, ours(), &["install", "--dashboard", "--port", "7878"]));
    assert!(said.contains(UNIT) && said.contains(unit) && said.contains("moadim-mcp dashboard"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let program = ours().canonicalize().unwrap();
    let start = format!("ExecStart=\"{}\" dashboard --as-service --port 7878\n", program.display());
    let home_variable = format!("Environment=\"MOADIM_HOME={}\"\n", home.root().display());
    for line in [start.as_str(), &home_variable, "KillMode=process\n", "Restart=on-failure\n"] {
        assert!(text.contains(line), "{line}{text}");
    }
    let said = ok(service(&home, ours(), &["status"]));
    assert!(said.contains("\ndashboard: installed, running\n") && said.contains(unit), "{said}");
    let state: Value = serde_json::from_str(&ok(service(&home, ours(), &["status", "--json"]))).unwrap();
    assert_eq!((&state["active"], &state["dashboard"]["active"]), (&true.into(), &true.into()));

    // A new program serves at the port that webhooks and tunnels name, whether the dashboard is named or not.
    let newer = home.scratch().join("moadim-mcp");
    copy_program(ours(), &newer);
    let start =
        format!("ExecStart=\"{}\" dashboard --as-service --port 7878\n", newer.canonicalize().unwrap().display());
    for words in [&["install"][..], &["install", "--dashboard"]] {
        ok(service(&home, ours(), &["install", "--dashboard", "--port", "7878"]));
        asked(&home);
        ok(service(&home, &newer, words));
        assert!(std::fs::read_to_string(&file).unwrap().contains(&start), "{words:?}");
        assert!(asked(&home).contains(&format!("--user restart {unit}")), "{words:?}");
    }
    std::fs::remove_file(home.scratch().join("active")).unwrap();
    let doctor: Value = serde_json::from_slice(&doctor(&home).stdout).unwrap();
    let found = doctor["checks"].as_array().unwrap().iter().filter(|check| check["what"] == "service");
    let found: Vec<&Value> = found.filter(|check| check["well"] == false).collect();
    assert_eq!(found[1]["fix"], "moadim-mcp service install --dashboard");
    assert_eq!(found[1]["found"], "the dashboard's service is installed but not running: inactive");
    ok(service(&home, ours(), &["install", "--dashboard", "--port", "0"]));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("--port"), "any free port again");

    asked(&home);
    let said = ok(service(&home, ours(), &["uninstall"]));
    assert!(said.contains(UNIT) && said.contains(unit), "{said}");
    assert!(asked(&home).contains(&format!("--user disable --now {unit}")));
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 0, "nothing is left");
    let output = service(&home, ours(), &["install", "--port", "7878"]);
    assert_eq!(output.status.code(), Some(2), "a janitor has no port: {output:?}");
}

#[test]
fn without_a_manager_nothing_is_changed_and_the_way_out_is_named() {
    let home = TestHome::new();
    home.script("systemctl", "echo 'Failed to connect to bus: No medium found' >&2; exit 1");
    let error = failed(&service(&home, ours(), &["install"]));
    let said = ["No medium found", "loginctl enable-linger", "moadim-mcp janitor", "Nothing was changed"];
    assert!(said.iter().all(|words| error.contains(words)), "{error}");
    assert!(!unit_file(&home).exists());
}

#[test]
fn a_unit_that_somebody_else_wrote_stays() {
    let home = TestHome::new();
    with_systemctl(&home);
    std::fs::create_dir_all(unit_file(&home).parent().unwrap()).unwrap();
    std::fs::write(unit_file(&home), "[Unit]\n").unwrap();
    for action in ["install", "uninstall"] {
        let error = failed(&service(&home, ours(), &[action]));
        assert!(error.contains("did not write"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(unit_file(&home)).unwrap(), "[Unit]\n");
    assert!(asked(&home).is_empty());
}

#[test]
fn systemd_accepts_the_units_wherever_the_program_lies() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("MOADIM_REQUIRE_SYSTEMD").is_none(), "systemd-analyze is missing");
        eprintln!("SKIPPED: systemd-analyze is not installed, so the unit is not verified");
        return;
    }
    let home = TestHome::new();
    with_systemctl(&home);
    let odd = home.scratch().join("50% off $HOME é");
    std::fs::create_dir(&odd).unwrap();
    let program = odd.join("moadim-mcp");
    copy_program(ours(), &program);
    let wanted: &[&str] = if cfg!(feature = "dashboard") { &["install", "--dashboard"] } else { &["install"] };
    ok(service(&home, &program, wanted));
    let runtime = home.scratch().join("runtime");
    std::fs::create_dir(&runtime).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["--user", "verify"])
        .args(std::fs::read_dir(unit_file(&home).parent().unwrap()).unwrap().map(|file| file.unwrap().path()))
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("HOME", home.user())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("moadim")).collect();
    assert!(output.status.success() && about_it.is_empty(), "{said}");
}
