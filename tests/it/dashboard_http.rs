//! The dashboard's server over real sockets: who is let in, and what it bears.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Dashboard, HttpAnswer, Server, TestHome, assert_has, assert_says, wait_until};

/// How long an answer may take that nothing holds up, on a busy machine.
const SOON: Duration = Duration::from_secs(8);

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
    let (_home, dashboard) = Dashboard::at_new_home();
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
    let (_home, dashboard) = Dashboard::at_new_home();
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
fn a_service_worker_that_something_else_left_is_removed() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let worker = |headers: &[(&str, &str)]| {
        let looks = [("Authorization", ""), ("Service-Worker", "script"), ("Sec-Fetch-Dest", "serviceworker")];
        dashboard.send("GET", "/static/sw.js", &[&looks, headers].concat(), b"")
    };
    let answer = worker(&[("Sec-Fetch-Site", "same-origin")]);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/javascript")));
    assert_eq!(
        (answer.header("Service-Worker-Allowed"), answer.header("Cache-Control")),
        (Some("/"), Some("no-store"))
    );
    assert_says(answer.text(), &["skipWaiting", "unregister"]);
    assert_eq!(worker(&[("Host", "evil.example")]).status, 421);
    assert_eq!(worker(&[("Origin", "http://evil.example")]).status, 403);
}

#[test]
fn whatever_is_refused_is_refused_in_words() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let cases = [
        ("GET", "/nothing", 404),
        ("GET", "/open/x/y", 404),
        ("GET", "/open/", 404),
        ("GET", "/open/%ff", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/api/runs/%ff", 404),
        ("GET", "/api/runs/%ff/log", 404),
        ("POST", "/api/routines/%ff/trigger", 404),
        ("POST", "/api/tools/%ff", 404),
        ("GET", "/api/runs?limit=%ff", 422),
        ("POST", "/", 405),
        ("POST", "/open/x", 405),
        ("GET", "/api/link", 405),
        ("DELETE", "/api/runs", 405),
        ("GET", "/api/tools/health", 405),
    ];
    for (method, path, status) in cases {
        let answer = dashboard.send(method, path, &[], b"");
        assert!(!answer.refused(status).is_empty(), "{method} {path}");
        assert_eq!(answer.header("Allow").is_some(), status == 405, "{method} {path}");
    }
    assert_eq!(dashboard.send("POST", "/", &[], b"").header("Allow"), Some("GET, HEAD"));
}

#[test]
#[cfg(target_os = "linux")]
fn it_listens_on_the_loopback_and_nowhere_else() {
    let (_home, dashboard) = Dashboard::at_new_home();
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
    let (_home, dashboard) = Dashboard::at_new_home();
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
    let (_home, dashboard) = Dashboard::at_new_home();
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
fn two_hundred_connections_keep_nobody_out() {
    let (home, dashboard) = Dashboard::at_new_home();
    let mut events = dashboard.events();
    let idle: Vec<TcpStream> = (0..200).map(|_| dashboard.connect()).collect();
    home.write_routine("news");
    let began = Instant::now();
    assert_eq!(dashboard.get("/").status, 200);
    assert_eq!(dashboard.tool("list_routines", &json!({}))["total"], 1);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // Who has shown the token stays.
    events.wait_for(&["moadim://routines/news"]);
    drop(idle);
}

#[test]
fn the_janitor_beside_it_goes_on_while_two_hundred_listen() {
    let home = TestHome::detached("watchdog_interval_secs = 1\ncleanup_interval_secs = 1\n");
    let mut server = Server::start_with_env(&home, &[("RUST_LOG", "moadim_mcp=info")]);
    let run = server.start_run("Hang", "exec sleep 300", json!({ "max_runtime_secs": 600, "ttl_secs": 1 }));
    let dashboard = Dashboard::start(&home);
    // They have shown the token: nobody closes them for being silent.
    let mut listening: Vec<_> = (0..200).map(|_| dashboard.events()).collect();
    let supervisor = home.noted(&run, "supervisor");
    supervisor.kill();
    wait_until("the supervisor to be gone", || !supervisor.id.is_alive());
    home.set_bound("hang", 1);
    // Nothing is asked of the server: it does this by itself.
    wait_until("the watchdog to record the run", || !home.history(&run).is_empty());
    assert_has(&home.history(&run)[0], json!({ "status": "timed_out" }));
    wait_until("the sweep to remove its workbench", || !home.workbench(&run).exists());
    wait_until("the server to say that both were its work", || {
        let log = server.stderr();
        let says = |what: &str| log.lines().any(|line| line.contains(what) && line.contains(&run));
        says("ended") && says("removed")
    });
    assert_eq!((home.history(&run).len(), home.processes_named("sleep")), (1, vec![]));
    // All of them were there meanwhile, for they still are.
    home.write_routine("news");
    listening.iter_mut().for_each(|events| drop(events.wait_for(&["moadim://routines/news"])));
}

#[test]
fn a_program_that_never_stops_connecting_keeps_nobody_out() {
    let (home, dashboard) = Dashboard::at_new_home();
    let mut events = dashboard.events();
    let health = |connection: &mut TcpStream| {
        dashboard.write(connection, "POST", "/api/tools/health", &[("Connection", "keep-alive")], b"");
        let mut begin = [0; 12];
        connection.read_exact(&mut begin).is_ok_and(|()| &begin == b"HTTP/1.1 200")
    };
    let read_rest = |connection: &mut TcpStream| {
        connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        read_all(connection);
        connection.set_read_timeout(Some(SOON)).unwrap();
    };
    let mut known = dashboard.connect();
    assert!(health(&mut known));
    read_rest(&mut known);
    let (has_ended, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask = || {
        let mut refused = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            assert!(health(&mut known), "an authenticated connection goes on");
            read_rest(&mut known);
            let mut fresh = dashboard.connect();
            fresh.set_read_timeout(Some(SOON)).unwrap();
            // On a busy machine it may be closed before it has sent anything. Then a client tries again, as browsers do.
            refused = if health(&mut fresh) { 0 } else { refused + 1 };
            assert!(refused < 5, "nobody else gets in");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = VecDeque::new();
                while !has_ended.load(Ordering::Relaxed) {
                    held.extend(TcpStream::connect(("127.0.0.1", dashboard.port)).ok());
                    opened.fetch_add(1, Ordering::Relaxed);
                    if held.len() > 400 {
                        held.pop_front();
                    }
                }
            });
        }
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(ask));
        has_ended.store(true, Ordering::Relaxed);
        asked.unwrap();
    });
    let opened = opened.into_inner();
    assert!(opened > 1000, "no more than {opened} were opened");
    // Who listened goes on.
    home.write_routine("news");
    assert!(events.next().is_some());
}

#[test]
fn a_request_is_read_before_those_who_came_later_take_its_place() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let address = (std::net::Ipv4Addr::LOCALHOST, dashboard.port).into();
    // All of them wait to be accepted when it goes on.
    dashboard.signal(Signal::STOP);
    let before: Vec<TcpStream> = (0..20).map(|_| dashboard.connect()).collect();
    let mut asking = dashboard.connect();
    dashboard.write(&mut asking, "POST", "/api/tools/health", &[], b"");
    // The system may keep fewer waiting.
    let after: Vec<TcpStream> = (0..400).map_while(|_| TcpStream::connect_timeout(&address, SOON / 80).ok()).collect();
    dashboard.signal(Signal::CONT);
    assert_eq!(HttpAnswer::read(asking).status, 200);
    drop((before, after));
}

#[test]
fn a_webhook_token_keeps_no_place() {
    let (home, dashboard) = Dashboard::at_new_home();
    home.write_routine("news");
    let token = home.moadim(&["token", "new", "--routine", "news"]).stdout.trim().to_owned();
    let mut of_webhook = dashboard.connect();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", &*bearer), ("Connection", "keep-alive"), ("Content-Type", "application/json")];
    // It is refused, and counts as one of the webhook's.
    dashboard.write(&mut of_webhook, "POST", "/api/routines/news/trigger", &headers, br#"{"text":"x"}"#);
    let mut begin = [0; 12];
    of_webhook.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 403");
    // One that was the person's, and is not any more.
    let mut of_both = dashboard.connect();
    dashboard.write(&mut of_both, "GET", "/api/usage", &[("Connection", "keep-alive")], b"");
    of_both.read_exact(&mut begin).unwrap();
    dashboard.write(&mut of_both, "GET", "/", &[("Authorization", ""), ("Connection", "keep-alive")], b"");
    wait_until("the page", || {
        let mut seen = [0; 4096];
        let read = of_both.peek(&mut seen).unwrap();
        of_both.read_exact(&mut seen[..read]).unwrap();
        String::from_utf8_lossy(&seen).contains("<!doctype html>")
    });
    let began = Instant::now();
    let silent: Vec<TcpStream> = (0..300).map(|_| dashboard.connect()).collect();
    read_all(&mut of_webhook);
    read_all(&mut of_both);
    assert!(began.elapsed() < Duration::from_secs(9), "they only went because they were silent");
    drop(silent);
}

#[test]
fn authenticated_connections_keep_their_places() {
    let (_home, dashboard) = Dashboard::at_new_home();
    // As many as there are places, each with a good token and a connection that stays.
    let all: Vec<TcpStream> = (0..256 + 64)
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
    let (_home, dashboard) = Dashboard::at_new_home();
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
