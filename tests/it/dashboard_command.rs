//! `moadim-mcp dashboard`: how it begins, opens and ends, and the tokens that it takes.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Dashboard, TestHome, assert_says, root_may_become_another_user, run_as_nobody, text, wait_for, wait_until,
};

/// How long what nothing holds up may take, on a busy machine.
const SOON: Duration = Duration::from_secs(8);

#[test]
fn a_second_command_opens_the_one_that_runs() {
    let (home, dashboard) = Dashboard::at_new_home();
    let url = format!("http://127.0.0.1:{}/#token={}", dashboard.port, dashboard.token);
    let file = home.root().join("locks/dashboard.json");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&record["port"], &record["token"]), (&json!(dashboard.port), &json!(dashboard.token)));
    assert_eq!((&record["address"], &record["pid"]), (&json!("127.0.0.1"), &json!(dashboard.pid())));
    assert!(text(&record["started_at"]).ends_with('Z'));

    let again = home.moadim(&["dashboard", "--port", "1"]);
    assert_eq!((again.code, again.stdout.trim()), (Some(0), url.as_str()), "{again:?}");
    let pid = dashboard.pid().to_string();
    assert_says(&again.stderr, &[&format!("on port {}, not 1", dashboard.port), &format!("kill {pid}"), "no display"]);
    let read_only = home.moadim(&["dashboard", "--read-only"]).failed(1);
    assert_says(&read_only, &["is not read-only"]);
    let as_service = home.moadim(&["dashboard", "--as-service"]).failed(1);
    assert_says(&as_service, &["another dashboard", &format!("kill {pid}")]);
}

#[test]
fn a_second_command_writes_the_token_of_the_one_that_runs() {
    let (home, dashboard) = Dashboard::at_new_home();
    let (new, old) = (home.scratch().join("new"), home.scratch().join("old"));
    std::fs::write(&old, "an old one that anybody may read\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    for file in [new, old] {
        home.moadim(&["dashboard", "--no-open", "--token-file", file.to_str().unwrap()]).ok();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", dashboard.token));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(dashboard.get("/api/health").status, 200, "it is still the one that runs");
}

#[test]
fn a_browser_is_given_a_link_that_works_once_and_not_the_token() {
    let (home, dashboard) = Dashboard::at_new_home();
    let asked = home.scratch().join("opened");
    home.script("xdg-open", &format!("echo \"$*\" > {0}.new; mv {0}.new {0}", asked.display()));
    let mut command = home.command();
    command.args(["dashboard"]).env("PATH", home.path_with_scripts()).env("DISPLAY", ":99").stdin(Stdio::null());
    assert!(command.output().unwrap().status.success());
    let opened = wait_for(SOON, "the browser", || std::fs::read_to_string(&asked).ok());
    assert!(!opened.contains(&dashboard.token), "{opened}");
    let link = opened.trim().strip_prefix(&format!("http://127.0.0.1:{}", dashboard.port)).unwrap().to_owned();
    let follow = |method, headers: &[(&str, &str)]| {
        dashboard.send(method, &link, &[&[("Authorization", "")], headers].concat(), b"")
    };
    let looked = follow("HEAD", &[]);
    assert_eq!((looked.status, looked.header("Allow")), (405, Some("GET")), "a look does not use it up");
    assert_eq!(follow("GET", &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")]).status, 403);
    let answer = follow("GET", &[("Sec-Fetch-Site", "none")]);
    let page = format!("/#token={}", dashboard.token);
    assert_eq!((answer.status, answer.header("Location")), (303, Some(page.as_str())));
    assert_says(&follow("GET", &[]).refused(404), &["used up", "moadim-mcp dashboard"]);

    // From another machine there is no browser here to open.
    let mut command = home.command();
    command.arg("dashboard").env("PATH", home.path_with_scripts()).env("DISPLAY", ":99").env("USER", "me");
    let said = command.env("SSH_CONNECTION", "10.0.0.9 51000 10.0.0.5 22").output().unwrap().stderr;
    let forward = format!("ssh -N -L {0}:127.0.0.1:{0} me@10.0.0.5", dashboard.port);
    assert_says(&String::from_utf8_lossy(&said), &[&forward]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_link_is_void_for_another_user_by_whichever_socket() {
    if !root_may_become_another_user() {
        return;
    }
    let (_home, dashboard) = Dashboard::at_new_home();
    let follow = |ip: &str, is_other: bool| {
        let link = text(&dashboard.post("/api/link", &json!({})).ok()["link"]);
        let mut command = Command::new("bash");
        command.args(["-c", "exec 3<>/dev/tcp/$0/$1; printf \"$2\" >&3; cat <&3", ip, &dashboard.port.to_string()]);
        command.arg(format!(
            "GET {link} HTTP/1.1\\r\\nHost: 127.0.0.1:{}\\r\\nConnection: close\\r\\n\\r\\n",
            dashboard.port
        ));
        let mut command = if is_other { run_as_nobody(&command) } else { command };
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    for ip in ["127.0.0.1", "::ffff:127.0.0.1"] {
        assert_says(&follow(ip, false), &["HTTP/1.1 303", &dashboard.token]);
        let refused = follow(ip, true);
        assert_says(&refused, &["HTTP/1.1 403", "own user"]);
        assert!(!refused.contains(&dashboard.token), "{ip}");
    }
}

#[test]
fn one_that_was_killed_is_replaced_and_its_token_is_void() {
    let (home, mut killed) = Dashboard::at_new_home();
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(home.root().join("locks/dashboard.json").exists());
    let file = home.scratch().join("token");
    std::fs::write(&file, "an old one that anybody may read\n").unwrap();
    let file_name = file.to_str().unwrap();
    let dashboard = Dashboard::start_with(&home, &["--token-file", file_name, "--port", &killed.port.to_string()]);
    assert_eq!(dashboard.port, killed.port);
    assert_ne!(dashboard.token, killed.token);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", dashboard.token));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let old = format!("Bearer {}", killed.token);
    assert_eq!(dashboard.send("GET", "/api/health", &[("Authorization", &old)], b"").status, 401);
    assert_eq!(dashboard.get("/api/health").status, 200);

    let link = home.scratch().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::fs::remove_file(&file).unwrap();
    let refused = home.moadim(&["dashboard", "--no-open", "--token-file", link.to_str().unwrap()]).failed(1);
    assert_says(&refused, &["not a regular file"]);
    assert!(!file.exists());
}

#[test]
fn it_leaves_within_a_second_whatever_is_open() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (home, mut dashboard) = Dashboard::at_new_home();
        let mut events = dashboard.events();
        let _idle = dashboard.connect();
        let mut half = dashboard.connect();
        half.write_all(b"POST /api/tools/health HTTP/1.1\r\n").unwrap();
        let began = Instant::now();
        dashboard.signal(signal);
        let status = dashboard.wait();
        // A second, and what a busy machine takes.
        assert!(status.success() && began.elapsed() < Duration::from_secs(4), "{status:?} {:?}", began.elapsed());
        assert_eq!(events.next(), None);
        assert!(!home.root().join("locks/dashboard.json").exists());
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let home = TestHome::detached("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = home.moadim(&["dashboard", "--no-open", "--port", &port]).failed(1);
    assert_says(&refused, &[&format!("127.0.0.1:{port}"), "choose another port"]);
    assert!(!home.root().join("locks/dashboard.json").exists());
}

#[test]
fn a_service_keeps_the_token_out_of_its_output() {
    let home = TestHome::detached("");
    let mut command = home.command();
    command.args(["dashboard", "--as-service"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut service = command.spawn().unwrap();
    let record = || home.json("locks/dashboard.json").filter(|record| record["port"].is_u64());
    let record = wait_for(SOON * 4, "the dashboard", record);
    let found = home.moadim(&["dashboard", "--no-open"]).ok();
    assert_eq!(
        found.trim(),
        format!("http://127.0.0.1:{}/#token={}", record["port"], record["token"].as_str().unwrap())
    );
    rustix::process::kill_process(rustix::process::Pid::from_child(&service), Signal::TERM).unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    service.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    service.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(service.wait().unwrap().success());
    assert_eq!(out.trim(), format!("http://127.0.0.1:{}/", record["port"]));
    assert!(!err.contains(record["token"].as_str().unwrap()), "{err}");
}

#[test]
fn only_a_person_starts_it_and_makes_tokens() {
    let home = TestHome::detached("");
    home.write_routine("news");
    for words in [&["dashboard", "--no-open"][..], &["token", "new", "--routine", "news"], &["token", "revoke", "x"]] {
        let output = home.command().args(words).env("MOADIM_RUN", "news-1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
        assert_says(&said, &["news-1", "ask a person"]);
    }
}

#[test]
fn a_webhook_triggers_its_routine_and_nothing_else() {
    let (home, dashboard) = Dashboard::at_new_home();
    for routine in ["news", "other"] {
        home.write_routine(routine);
    }
    let made = home.moadim(&["token", "new", "--routine", "news"]);
    let (token, said) = (made.stdout.trim().to_owned(), made.stderr.clone());
    let curl = format!(
        "curl -X POST -H 'Authorization: Bearer {token}' http://127.0.0.1:{}/api/routines/news/trigger",
        dashboard.port
    );
    assert_says(&said, &[&curl, "not shown again"]);
    let bearer = format!("Bearer {token}");
    let send = |method: &str, path: &str, body: Value| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        dashboard.send(method, path, &headers, body.to_string().as_bytes())
    };
    let run = text(&send("POST", "/api/routines/news/trigger", json!({})).ok()["run"]["id"]);
    wait_until("its end", || home.outcome(&run).is_some());
    home.wait_for_the_last_of(&run);
    for (method, path) in [
        ("POST", "/api/routines/other/trigger"),
        ("GET", "/api/routines/news"),
        ("GET", "/api/runs"),
        ("GET", "/api/events"),
        ("GET", "/metrics"),
        ("POST", "/api/tools/trigger_routine"),
        ("POST", "/api/link"),
    ] {
        assert_says(&send(method, path, json!({})).refused(403), &["only trigger its routine"]);
    }
    for name in ["text", "overlap", "wait"] {
        let refused = send("POST", "/api/routines/news/trigger", json!({ name: "x" })).refused(403);
        assert_says(&refused, &[&format!("`{name}`")]);
    }

    let listed = home.moadim(&["token", "list", "--json"]).json();
    let id = text(&listed["tokens"][0]["id"]);
    assert!(!listed.to_string().contains(&token) && !listed.to_string().contains("sha256"), "{listed}");
    let used = || home.moadim(&["token", "list", "--json"]).json()["tokens"][0]["last_used_at"].is_string();
    wait_until("its use to be noted", used);
    assert!(home.moadim(&["token", "list"]).ok().contains(&id));
    home.moadim(&["token", "revoke", &id]).ok();
    assert_eq!(send("POST", "/api/routines/news/trigger", json!({})).status, 401);
    assert_says(&home.moadim(&["token", "revoke", &id]).failed(1), &["no webhook token", "token list"]);
}

#[test]
fn a_webhook_may_say_what_a_run_is_about_if_it_was_made_for_that() {
    let (home, dashboard) = Dashboard::at_new_home();
    home.write_routine("news");
    assert_says(&home.moadim(&["token", "new", "--routine", "nwes"]).failed(1), &["news"]);
    let made = home.moadim(&["token", "new", "--routine", "news", "--text", "--json"]).json();
    assert_eq!((&made["routine"], &made["allows_text"]), (&json!("news"), &json!(true)));
    let bearer = format!("Bearer {}", text(&made["token"]));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let more = json!({ "text": "issue 7", "overlap": "parallel" }).to_string();
    let answer = dashboard.send("POST", "/api/routines/news/trigger", &headers, more.as_bytes());
    assert_says(&answer.refused(403), &["only `text`", "`overlap`"]);
    let body = json!({ "text": "issue 7" }).to_string();
    let answer = dashboard.send("POST", "/api/routines/news/trigger", &headers, body.as_bytes());
    // An agent whose prompt may be a script takes none; the guard let it through.
    assert_says(&answer.refused(422), &["text"]);
    home.add_agent("reader", "command = 'sh'\nlogin_shell = false\npreamble = true\nargs = ['-c', 'cat']\n");
    home.write("routines/reads/routine.toml", "title = \"Reads\"\nagent = \"reader\"\n");
    home.write("routines/reads/prompt.md", "Think.");
    let reads = home.moadim(&["token", "new", "--routine", "reads", "--text", "--json"]).json();
    let bearer_of_reads = format!("Bearer {}", text(&reads["token"]));
    let of_reads = [("Authorization", bearer_of_reads.as_str()), headers[1]];
    let run = dashboard.send("POST", "/api/routines/reads/trigger", &of_reads, body.as_bytes()).ok();
    let run = text(&run["run"]["id"]);
    wait_until("the agent to have read it", || home.raw_log(&run).contains("issue 7"));
    home.moadim(&["token", "revoke", &text(&reads["id"])]).ok();

    // Who triggers too often waits.
    let trigger = || dashboard.send("POST", "/api/routines/news/trigger", &headers, b"");
    let answers: Vec<u16> = (0..29).map(|_| trigger().status).collect();
    assert!(answers[..28].iter().all(|status| *status != 429), "{answers:?}");
    assert_eq!(answers[28], 429);
    assert!(trigger().header("Retry-After").is_some());
    assert_eq!(dashboard.get("/api/health").status, 200);

    // It goes with its routine, and does not come back with it.
    wait_until("the last run to end", || !has_live_runs(&home));
    home.moadim(&["delete", "news", "--end-runs"]).ok();
    assert_eq!(home.moadim(&["token", "list", "--json"]).json()["tokens"], json!([]));
    home.moadim(&["recover", "--routine", "news"]).ok();
    assert_eq!(trigger().status, 401);
}

fn has_live_runs(home: &TestHome) -> bool {
    std::fs::read_dir(home.root().join("running")).unwrap().next().is_some()
}
