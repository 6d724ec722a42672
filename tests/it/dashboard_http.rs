//! The dashboard's server over real sockets: who is let in, what it bears, how it begins and ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Dashboard, HttpAnswer, Server, TestHome, assert_says, text, wait_for, wait_until};

/// How long an answer may take that nothing holds up, on a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn start() -> (TestHome, Dashboard) {
    let home = TestHome::detached("");
    let dashboard = Dashboard::start(&home);
    (home, dashboard)
}

/// Writes a routine by hand, whose agent executes this.
fn write_routine(home: &TestHome, slug: &str, prompt: &str) {
    home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    home.write(format!("routines/{slug}/routine.toml"), &format!("title = \"{slug}\"\nagent = \"quick\"\n"));
    home.write(format!("routines/{slug}/prompt.md"), prompt);
}

/// Reads what comes until the other end closes; a reset ends it too.
fn read_all(connection: &mut TcpStream) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = connection.read(&mut buffer) {
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn only_who_is_meant_gets_in() {
    let (_home, dashboard) = start();
    let host = format!("127.0.0.1:{}", dashboard.port);
    let status = |method: &str, path: &str, headers: &[(&str, &str)]| dashboard.send(method, path, headers, b"").status;
    let health = |headers: &[(&str, &str)]| status("POST", "/api/tools/health", headers);
    assert_eq!(health(&[]), 200);
    assert_eq!(health(&[("Origin", &format!("http://{host}")), ("Sec-Fetch-Site", "same-origin")]), 200);

    // A host name of somebody else that points here.
    for evil in ["evil.example", &format!("evil.example:{}", dashboard.port), "127.0.0.1", "127.0.0.1:1"] {
        assert_eq!((health(&[("Host", evil)]), status("GET", "/", &[("Host", evil)])), (421, 421), "{evil}");
    }
    for name in ["localhost", "[::1]"] {
        assert_eq!(health(&[("Host", &format!("{name}:{}", dashboard.port))]), 200, "{name}");
    }
    // A page of somebody else.
    for origin in ["null", "http://evil.example", "http://localhost:1", &format!("https://{host}")] {
        assert_eq!(health(&[("Origin", origin)]), 403, "{origin}");
    }
    assert_eq!(health(&[("Sec-Fetch-Site", "cross-site")]), 403);
    let preflight = [("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")];
    let answer = dashboard.send("OPTIONS", "/api/tools/health", &preflight, b"");
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (403, None));
    // Who has no token, or another.
    let missing = dashboard.send("GET", "/api/health", &[("Authorization", "")], b"");
    assert_eq!(missing.status, 401);
    for wrong in ["Bearer ", "Bearer x", &format!("Basic {}", dashboard.token), &format!("Bearer {}0", dashboard.token)]
    {
        let answer = dashboard.send("GET", "/api/health", &[("Authorization", wrong)], b"");
        assert_says(answer.header("WWW-Authenticate").unwrap(), &["Bearer", "invalid_token"]);
        assert!(!answer.refused(401).contains(&dashboard.token));
    }
    let in_the_address = format!("/api/health?token={}", dashboard.token);
    assert_eq!(status("GET", &in_the_address, &[("Authorization", "")]), 401);
    // A way out of the paths that there are.
    for path in ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "/index.html", "/.git/config", "//etc/passwd"] {
        assert_eq!(status("GET", path, &[]), 404, "{path}");
    }
    assert!([404, 400].contains(&status("GET", "/api/runs/..%2f..%2flocks/log", &[])));
}

#[test]
fn every_answer_has_its_headers_and_the_page_its_policy() {
    let (_home, dashboard) = start();
    let page = dashboard.send("GET", "/", &[("Authorization", "")], b"");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<script>") && !page.text().contains(&dashboard.token));
    let refused = dashboard.send("GET", "/api/health", &[("Authorization", "")], b"");
    let not_there = dashboard.get("/nothing");
    let data = dashboard.get("/api/health");
    for answer in [&page, &refused, &not_there, &data] {
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert_says(policy, &["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'"]);
        assert_says(policy, &["frame-ancestors 'none'", "require-trusted-types-for 'script'"]);
        assert!(!policy.contains("unsafe"), "{policy}");
        let expected = [
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Frame-Options", "DENY"),
        ];
        for (name, value) in expected {
            assert_eq!(answer.header(name), Some(value));
        }
        for name in ["Set-Cookie", "Access-Control-Allow-Origin"] {
            assert_eq!(answer.header(name), None);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn it_listens_on_the_loopback_and_nowhere_else() {
    let (_home, dashboard) = start();
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", dashboard.pid()))
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let mut listening = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"] {
        for line in std::fs::read_to_string(file).unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if inodes.iter().any(|inode| inode == words[9]) {
                listening.push(words[1].to_owned());
            }
        }
    }
    // A list that changes while it is read may name one twice.
    listening.sort_unstable();
    listening.dedup();
    let port = format!("{:04X}", dashboard.port);
    let loopback = [format!("0100007F:{port}"), format!("00000000000000000000000001000000:{port}")];
    assert!(!listening.is_empty() && listening.iter().all(|address| loopback.contains(address)), "{listening:?}");
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    assert_eq!(listening.len(), if has_ipv6 { 2 } else { 1 });
}

#[test]
fn a_body_that_is_too_large_is_refused_with_or_without_its_length() {
    let (_home, dashboard) = start();
    let body = vec![b' '; 10 << 20];
    assert!(dashboard.send("POST", "/api/tools/health", &[], &body).refused(413).contains("1 MiB"));
    // Nobody who has no token gets as much as one byte read.
    assert_eq!(dashboard.send("POST", "/api/tools/health", &[("Authorization", "Bearer x")], &body[..100]).status, 401);
    let mut connection = dashboard.connect();
    dashboard.write(
        &mut connection,
        "POST",
        "/api/tools/health",
        &[("Expect", "100-continue"), ("Content-Length", "99999999")],
        b"",
    );
    assert_eq!(HttpAnswer::read(connection).status, 413, "it is asked for nothing");
    let mut connection = dashboard.connect();
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Length", "")];
    let chunk = [b"200000\r\n".as_slice(), &body[..0x20_0000], b"\r\n0\r\n\r\n"].concat();
    let head = format!(
        "POST /api/tools/health HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n{}: {}\r\n\r\n",
        dashboard.port, dashboard.token, chunked[0].0, chunked[0].1
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&chunk).unwrap();
    assert_eq!(HttpAnswer::read(connection).status, 413);
    let long = "x".repeat(20 * 1024);
    assert_eq!(dashboard.send("GET", "/api/health", &[("X-Long", &long)], b"").status, 431);
    assert_eq!(dashboard.tool("health", &json!({}))["problems_total"], 0);
}

#[test]
fn slow_clients_are_given_up_and_hold_up_nobody() {
    let (_home, dashboard) = start();
    let mut slow_head = dashboard.connect();
    slow_head.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut silent = dashboard.connect();
    let mut slow_body = dashboard.connect();
    dashboard.write(&mut slow_body, "POST", "/api/tools/health", &[("Content-Length", "100")], b"{");
    let began = Instant::now();
    assert_eq!(dashboard.get("/").status, 200);
    assert!(began.elapsed() < SOON);
    assert_says(&read_all(&mut slow_body), &["HTTP/1.1 408"]);
    assert!(!read_all(&mut slow_head).contains("200 OK"));
    assert_eq!(read_all(&mut silent), "");
    // Each has 10 s.
    assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn two_hundred_connections_keep_nobody_out_and_a_hung_run_is_ended_meanwhile() {
    let home = TestHome::detached("watchdog_interval_secs = 1\n");
    let mut server = Server::start(&home);
    let dashboard = Dashboard::start(&home);
    let mut events = dashboard.events();
    let idle: Vec<TcpStream> = (0..200).map(|_| dashboard.connect()).collect();
    let run = server.start_run("Hang", "exec sleep 300", json!({ "max_runtime_secs": 2 }));
    let began = Instant::now();
    assert_eq!(dashboard.get("/").status, 200);
    assert!(dashboard.tool("list_runs", &json!({}))["total"].as_u64() >= Some(1));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    server.wait_for_run(&run, "timed_out");
    // Who has shown the token stays.
    events.wait_for(&[&format!("moadim://runs/{run}")]);
    drop(idle);
}

#[test]
fn authenticated_connections_keep_their_places() {
    let (_home, dashboard) = start();
    // As many as there are places, each with a good token and a connection that stays.
    let all: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut connection = dashboard.connect();
            dashboard.write(&mut connection, "GET", "/api/events", &[("Connection", "keep-alive")], b"");
            assert_eq!(connection.peek(&mut [0]).unwrap(), 1);
            connection
        })
        .collect();
    let mut waiting = dashboard.connect();
    dashboard.write(&mut waiting, "GET", "/", &[], b"");
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(waiting.peek(&mut [0]).is_err(), "there is no place");
    drop(all);
    waiting.set_read_timeout(Some(SOON * 4)).unwrap();
    assert_eq!(HttpAnswer::read(waiting).status, 200);
}

#[test]
fn wrong_tokens_become_too_many_and_the_right_one_works_on() {
    let (_home, dashboard) = start();
    let wrong = || dashboard.send("GET", "/api/health", &[("Authorization", "Bearer x")], b"");
    for _ in 0..100 {
        assert_eq!(wrong().status, 401);
    }
    let answer = wrong();
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(dashboard.get("/api/health").status, 200);
}

#[test]
fn a_second_command_opens_the_one_that_runs() {
    let (home, dashboard) = start();
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
    assert_says(&read_only, &["can change things"]);
    let as_service = home.moadim(&["dashboard", "--as-service"]).failed(1);
    assert_says(&as_service, &["another dashboard", &format!("kill {pid}")]);
}

#[test]
fn a_browser_is_given_a_link_that_works_once_and_not_the_token() {
    let (home, dashboard) = start();
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
    assert_eq!(follow("HEAD", &[]).status, 405, "a look does not use it up");
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
fn one_that_was_killed_is_replaced_and_its_token_is_void() {
    let (home, mut killed) = start();
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
        let (home, mut dashboard) = start();
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
    write_routine(&home, "news", "true");
    for words in [&["dashboard", "--no-open"][..], &["token", "new", "--routine", "news"], &["token", "revoke", "x"]] {
        let output = home.command().args(words).env("MOADIM_RUN", "news-1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
        assert_says(&said, &["news-1", "ask a person"]);
    }
}

#[test]
fn a_webhook_triggers_its_routine_and_nothing_else() {
    let (home, dashboard) = start();
    for routine in ["news", "other"] {
        write_routine(&home, routine, "true");
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
    assert_says(&send("POST", "/api/routines/news/trigger", json!({ "text": "about this" })).refused(403), &["text"]);

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
    let (home, dashboard) = start();
    write_routine(&home, "news", "true");
    assert_says(&home.moadim(&["token", "new", "--routine", "nwes"]).failed(1), &["news"]);
    let made = home.moadim(&["token", "new", "--routine", "news", "--text", "--json"]).json();
    assert_eq!((&made["routine"], &made["allows_text"]), (&json!("news"), &json!(true)));
    let bearer = format!("Bearer {}", text(&made["token"]));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = json!({ "text": "issue 7" }).to_string();
    let answer = dashboard.send("POST", "/api/routines/news/trigger", &headers, body.as_bytes());
    // An agent whose prompt may be a script takes none; the guard let it through.
    assert_says(&answer.refused(422), &["text"]);

    // Who triggers too often waits.
    let trigger = || dashboard.send("POST", "/api/routines/news/trigger", &headers, b"");
    let answers: Vec<u16> = (0..30).map(|_| trigger().status).collect();
    assert!(answers[..29].iter().all(|status| *status != 429), "{answers:?}");
    assert_eq!(answers[29], 429);
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
