//! A person's home directory and a moadim home within it, gone with the value, and with everything that ran in it.

use std::ffi::OsStr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::calls::text;
use super::processes::{self, Seen};
use super::tmux::end_servers;
use super::{PATIENCE, wait_for};

/// A home of one test. When it is dropped, nothing may be left that no unfinished run accounts for.
pub struct TestHome {
    directory: TempDir,
    root: PathBuf,
}

impl TestHome {
    /// Makes empty ones; the moadim home itself is left for the program to make.
    pub fn new() -> Self {
        Self::at("home")
    }

    /// Makes one where a user who sets nothing has it; the program has to be started without `MOADIM_HOME`.
    pub fn at_the_default_place() -> Self {
        Self::at("user/.moadim")
    }

    /// Makes one with this `config.toml`.
    pub fn with_config(text: &str) -> Self {
        let home = Self::new();
        home.configure(text);
        home
    }

    /// Makes one without windows, with the agent `shell`, a short grace and these further settings.
    pub fn detached(settings: &str) -> Self {
        let home = Self::new();
        home.configure_detached(settings);
        home
    }

    fn at(place: &str) -> Self {
        // Short, for the path of a socket is.
        let directory = tempfile::Builder::new().prefix("moadim-").tempdir_in("/tmp").unwrap();
        // A process tells its directory without symlinks.
        let root = directory.path().canonicalize().unwrap().join(place);
        for name in ["user", "tmux"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, root }
    }

    /// Returns the moadim home (`MOADIM_HOME`).
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// Returns the person's home directory (`HOME`).
    pub fn user(&self) -> PathBuf {
        self.scratch().join("user")
    }

    /// Returns the directory that holds both, for whatever else a test needs.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Returns where the person's own tmux server has its socket (`TMUX_TMPDIR`).
    pub fn tmux_directory(&self) -> PathBuf {
        self.scratch().join("tmux")
    }

    /// Returns a command for the program under test, in this home and with nothing of our environment but PATH.
    pub fn command(&self) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_moadim-mcp")))
    }

    /// Returns a command for another copy of it.
    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.user())
            .env("MOADIM_HOME", self.root())
            .env("SHELL", "/bin/sh")
            .env("TMUX_TMPDIR", self.tmux_directory())
            .current_dir(self.user());
        command
    }

    /// Writes a file of the moadim home, and the directories above it.
    pub fn write(&self, path: impl AsRef<Path>, text: &str) {
        let file = self.root.join(path);
        private_directory(file.parent().unwrap());
        std::fs::write(file, text).unwrap();
    }

    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    pub fn configure(&self, text: &str) {
        self.write("config.toml", text);
    }

    /// Writes a `config.toml` without windows, with a short grace and these further settings, and the agent `shell`.
    pub fn configure_detached(&self, settings: &str) {
        self.configure(&format!("session_host = \"detached\"\nkill_grace_secs = 1\n{settings}"));
        self.add_shell();
    }

    pub fn add_agent(&self, name: &str, text: &str) {
        self.write(format!("agents/{name}.toml"), text);
    }

    /// Writes a routine by hand, whose run is over at once.
    pub fn write_routine(&self, slug: &str) {
        self.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
        self.write(format!("routines/{slug}/routine.toml"), &format!("title = \"{slug}\"\nagent = \"quick\"\n"));
        self.write(format!("routines/{slug}/prompt.md"), "true");
    }

    /// Changes the bound of a routine that has one; the runs that are at work have the new one at once.
    pub fn set_bound(&self, routine: &str, secs: u64) {
        let file = self.root.join("routines").join(routine).join("routine.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let bound = lines.iter_mut().find(|line| line.starts_with("max_runtime_secs")).expect("a bound");
        *bound = format!("max_runtime_secs = {secs}");
        std::fs::write(file, lines.join("\n")).unwrap();
    }

    /// Adds the agent `shell`, which executes its prompt.
    pub fn add_shell(&self) {
        self.add_agent("shell", "command = \"sh\"\n");
    }

    /// Writes an executable script into [`Self::scripts`]. Another process does: a child that a thread starts while we hold
    /// the file open would make it busy.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        std::fs::create_dir_all(self.scripts()).unwrap();
        let path = self.scripts().join(name);
        let writer = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#;
        assert!(Command::new("sh").args(["-c", writer, "sh"]).arg(&path).arg(text).status().unwrap().success());
        path
    }

    /// Returns the directory of a test's own programs.
    pub fn scripts(&self) -> PathBuf {
        self.scratch().join("bin")
    }

    /// Returns a PATH on which those come first.
    pub fn path_with_scripts(&self) -> String {
        format!("{}:{}", self.scripts().display(), std::env::var("PATH").unwrap())
    }

    pub fn workbench(&self, run: &str) -> PathBuf {
        self.root.join("workbenches").join(run)
    }

    /// Returns the entry of an unfinished run.
    pub fn entry(&self, run: &str) -> PathBuf {
        self.root.join("running").join(run)
    }

    /// Reads a JSON file of the moadim home; `None` while it is not there.
    pub fn json(&self, path: impl AsRef<Path>) -> Option<Value> {
        let bytes = std::fs::read(self.root.join(path)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    pub fn change_json(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Value)) {
        let mut value = self.json(&path).expect("the record");
        change(&mut value);
        std::fs::write(self.root.join(path), value.to_string()).unwrap();
    }

    /// Reads a run's outcome; `None` while it has none.
    pub fn outcome(&self, run: &str) -> Option<Value> {
        self.json(format!("workbenches/{run}/outcome.json"))
    }

    /// Reads a run's log as it is on disk.
    pub fn raw_log(&self, run: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.workbench(run).join("agent.log")).unwrap_or_default()).into_owned()
    }

    pub fn history(&self, run: &str) -> Vec<Value> {
        self.readable_history().into_iter().filter(|line| line["id"] == run).collect()
    }

    /// Reads all lines of the history, those of files that were closed first. A part at the end of a file is no line yet: a
    /// reader sees half of one that is being written across a page, and a power cut leaves as much.
    pub fn whole_history(&self) -> Vec<Value> {
        let parse = |line: &String| serde_json::from_str::<Value>(line).expect("a line of the history");
        self.history_lines().iter().map(parse).collect()
    }

    /// The same without the lines that a power cut left half of.
    pub fn readable_history(&self) -> Vec<Value> {
        self.history_lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn history_lines(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.root).into_iter().flatten().map(|file| file.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("history.") && name.ends_with(".jsonl"));
        // The one that is written now comes last, as it does in this order.
        names.sort();
        let text = |name: &String| std::fs::read_to_string(self.root.join(name)).unwrap_or_default();
        let whole_lines = |text: String| text.rfind('\n').map_or_else(String::new, |end| text[..=end].to_owned());
        let text: String = names.iter().map(text).map(whole_lines).collect();
        text.lines().map(str::to_owned).collect()
    }

    /// Lists the living processes that have to do with this home.
    pub fn processes(&self) -> Vec<Seen> {
        processes::of(self.scratch())
    }

    /// Lists those of them that execute `program`.
    pub fn processes_named(&self, program: &str) -> Vec<Seen> {
        let mut found = self.processes();
        found.retain(|process| process.name == program);
        found
    }

    /// Returns a process of an unfinished run that its `started.json` names: the `supervisor` or the `agent`.
    pub fn noted(&self, run: &str, who: &str) -> Seen {
        let started = self.json(format!("running/{run}/started.json")).expect("the run has started");
        let found = self.processes().into_iter().find(|one| one.id.pid == started[who]["pid"]);
        found.unwrap_or_else(|| panic!("the {who} is gone: {started}"))
    }

    /// Waits until no process of a finished run is left: its supervisor counts as one until it has gone, a moment later.
    pub fn wait_for_the_last_of(&self, run: &str) {
        let cookie = text(&self.outcome(run).expect("an outcome")["cookie"]);
        wait_for(PATIENCE, "the supervisor's end", || {
            self.processes().iter().all(|one| one.cookie.as_ref() != Some(&cookie)).then_some(())
        });
    }

    /// Ends what this test left running; returns what nothing accounts for.
    fn clear_up(&self) -> Vec<Seen> {
        let unfinished = self.unfinished_cookies();
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            // One may just be starting.
            end_servers(self);
            let (left, strays): (Vec<Seen>, Vec<Seen>) = self
                .processes()
                .into_iter()
                .partition(|process| process.cookie.as_ref().is_some_and(|cookie| unfinished.contains(cookie)));
            if left.is_empty() && (strays.is_empty() || Instant::now() >= deadline) {
                strays.iter().for_each(Seen::kill);
                return strays;
            }
            left.iter().for_each(Seen::kill);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn unfinished_cookies(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root.join("running")) else { return Vec::new() };
        let manifests = entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("run.json")).ok());
        let records = manifests.filter_map(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        records.filter_map(|record| Some(record["cookie"].as_str()?.to_owned())).collect()
    }
}

/// Copies a program. Another process does, so that the copy is not busy, see [`TestHome::script`].
pub fn copy_program(from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) {
    assert!(Command::new("cp").args([from.as_ref(), to.as_ref()]).status().unwrap().success());
}

/// Makes a directory that the program accepts as private.
fn private_directory(path: &Path) {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
}

impl Drop for TestHome {
    fn drop(&mut self) {
        let strays = self.clear_up();
        assert!(std::thread::panicking() || strays.is_empty(), "left behind: {strays:?}");
    }
}
