//! The dashboard's server, and a client of it over a raw socket: what is sent is exactly what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{PATIENCE, TestHome, text};

/// A running `moadim-mcp dashboard`; it ends with the value.
pub struct Dashboard {
    process: Child,
    pub port: u16,
    pub token: String,
}

impl Dashboard {
    /// Starts one whose home is new.
    pub fn at_new_home() -> (TestHome, Self) {
        let home = TestHome::detached("");
        let dashboard = Self::start(&home);
        (home, dashboard)
    }

    pub fn start(home: &TestHome) -> Self {
        Self::start_with(home, &[])
    }

    /// Starts it with further arguments.
    pub fn start_with(home: &TestHome, words: &[&str]) -> Self {
        let mut command = home.command();
        command.args(["dashboard", "--no-open"]).args(words);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the dashboard");
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let (address, token) = url.trim().split_once("/#token=").unwrap_or_else(|| panic!("no address: {url}"));
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        Self { port, token: token.to_owned(), process }
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.signal(Signal::TERM);
            self.wait();
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    pub fn get(&self, path: &str) -> HttpAnswer {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> HttpAnswer {
        self.send("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Calls a tool that must succeed.
    #[track_caller]
    pub fn tool(&self, name: &str, arguments: &Value) -> Value {
        self.post(&format!("/api/tools/{name}"), arguments).ok()
    }

    /// Sends a request with the token and these headers.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
        let mut connection = self.connect();
        self.write(&mut connection, method, path, headers, body);
        HttpAnswer::read(connection)
    }

    pub fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    /// Sends a request and leaves its answer to be read. A header that is given takes the place of the one that would be sent.
    pub fn write(&self, connection: &mut TcpStream, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let (host, bearer) = (format!("127.0.0.1:{}", self.port), format!("Bearer {}", self.token));
        let length = body.len().to_string();
        let usual =
            [("Host", &*host), ("Authorization", &*bearer), ("Connection", "close"), ("Content-Length", &*length)];
        let is_given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in usual.iter().filter(|(name, _)| !is_given(name)).chain(headers) {
            request += &format!("{name}: {value}\r\n");
        }
        connection.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        // It may have been refused meanwhile.
        let _ = connection.write_all(body);
    }

    /// Listens to what changes.
    pub fn events(&self) -> Events {
        let mut connection = self.connect();
        self.write(&mut connection, "GET", "/api/events", &[], b"");
        let mut reader = BufReader::new(connection);
        let (status, headers) = read_head(&mut reader);
        assert_eq!(status, 200, "{headers:?}");
        assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())), "{headers:?}");
        let mut events = Events { reader, text: String::new() };
        // From here on nothing is missed.
        assert_eq!(events.next_block().as_deref(), Some(": listening"));
        events
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Returns the status and the headers, their names in lower case.
fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {line:?}"));
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { return (status, headers) };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

impl HttpAnswer {
    /// Reads an answer that is not sent in pieces, to the end of its connection.
    pub fn read(connection: TcpStream) -> Self {
        let mut reader = BufReader::new(connection);
        let (status, headers) = read_head(&mut reader);
        let mut body = Vec::new();
        reader.read_to_end(&mut body).unwrap();
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// Returns the JSON of an answer that must be good.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        self.json()
    }

    /// Returns the words of an answer that must have this status.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        text(&self.json()["error"])
    }
}

/// A stream of events.
pub struct Events {
    reader: BufReader<TcpStream>,
    text: String,
}

impl Events {
    /// Waits for the next event or comment; `None` once the stream has ended.
    fn next_block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let mut size = String::new();
            self.reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
            let mut piece = vec![0; size + 2];
            self.reader.read_exact(&mut piece).ok()?;
            self.text += std::str::from_utf8(&piece[..size]).unwrap();
        }
    }

    /// Waits for the next event, and returns its topics; `None` once the stream has ended.
    pub fn next(&mut self) -> Option<Vec<String>> {
        loop {
            let block = self.next_block()?;
            if block.starts_with(':') {
                continue;
            }
            let data = block.strip_prefix("event: changed\ndata: ").unwrap_or_else(|| panic!("no event: {block}"));
            let data: Value = serde_json::from_str(data).unwrap();
            return Some(data["topics"].as_array().unwrap().iter().map(text).collect());
        }
    }

    /// Waits until all of these were announced, in any order; returns everything announced meanwhile.
    #[track_caller]
    pub fn wait_for(&mut self, topics: &[&str]) -> Vec<String> {
        let mut announced: Vec<String> = Vec::new();
        while !topics.iter().all(|topic| announced.iter().any(|one| one == topic)) {
            let next = self.next();
            announced.extend(next.unwrap_or_else(|| panic!("{topics:?} were not announced: {announced:?}")));
        }
        announced
    }
}
