//! A private world for one test: its own store, its own files, the built tools in PATH, and every process awaited.

use crate::{leftovers, schema};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A command that takes longer hangs.
const TOO_LONG: Duration = Duration::from_secs(240);
/// How long processes and mounts of a command that has ended may take to vanish.
const SETTLING: Duration = Duration::from_secs(10);

/// The root of this workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("testkit lies two folders below the workspace").to_owned()
}

/// Where the built tools lie: beside the folder of the running test.
pub fn tools() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let dir = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps").to_owned();
    assert!(
        dir.join("oci-pull").exists(),
        "no oci-pull in {}: run cargo build --workspace first",
        dir.display()
    );
    dir
}

/// One test's directory, store and environment. Dropping it ends and unmounts whatever was left.
pub struct World {
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ocipipe-").tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("home")).expect("a private home");
        Self { dir, environment: Vec::new() }
    }

    /// Sets a variable for every command to come.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The directory of all that belongs to the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path below that directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path below that directory as text, for scripts.
    pub fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The store of this world (`$OCIPIPE_STORE` of its commands).
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// A command in this world: a clean environment, the tools first in PATH, a process group of its own.
    pub fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", tools().display()))
            .env("HOME", self.path("home"))
            .env("LC_ALL", "C")
            .env("OCIPIPE_STORE", self.store())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir())
            .process_group(0);
        command
    }

    /// Runs a tool with nothing on stdin (/dev/null).
    pub fn tool(&self, name: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(name);
        command.args(args);
        self.run(command, None)
    }

    /// Runs a tool with these bytes on stdin.
    pub fn feed(&self, name: &str, args: &[&str], stdin: &[u8]) -> Outcome {
        let mut command = self.command(name);
        command.args(args);
        self.run(command, Some(stdin))
    }

    /// Runs stages one after the other, each validated, and returns the last; the first word is the tool.
    pub fn stages(&self, first: &[&str], rest: &[&[&str]]) -> Outcome {
        let mut outcome = self.tool(first[0], &first[1..]);
        for stage in rest {
            assert_eq!(outcome.code, 0, "{outcome}");
            outcome = self.feed(stage[0], &stage[1..], &outcome.stdout);
        }
        outcome
    }

    /// Runs a script under plain `sh`, which has no pipefail.
    pub fn sh(&self, script: &str) -> Outcome {
        let mut command = self.command("sh");
        command.arg("-c").arg(script);
        self.run(command, None)
    }

    /// Runs a script under `bash -o pipefail`.
    pub fn bash(&self, script: &str) -> Outcome {
        let mut command = self.command("bash");
        command.args(["-o", "pipefail", "-c", script]);
        self.run(command, None)
    }

    /// Starts a command in the background.
    pub fn start(&self, mut command: Command, stdin: Option<&[u8]>) -> Running {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let errors = tempfile::NamedTempFile::new_in(self.dir()).expect("a file for stderr");
        command.stdout(Stdio::piped()).stderr(errors.reopen().expect("the file for stderr"));
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        if let (Some(bytes), Some(mut pipe)) = (stdin.map(<[u8]>::to_vec), child.stdin.take()) {
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let mut out = child.stdout.take().expect("stdout is a pipe");
        let (sender, stdout) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(out.read_to_end(&mut bytes));
            drop(sender.send(bytes));
        });
        Running { child, shown, stdout, errors }
    }

    /// Runs a command to its end.
    pub fn run(&self, command: Command, stdin: Option<&[u8]>) -> Outcome {
        self.start(command, stdin).wait()
    }

    /// Panics unless `oci-inspect --check` finds the store in order.
    pub fn assert_store_is_sound(&self) {
        self.tool("oci-inspect", &["--check"]).ok();
    }

    /// Panics if mounts, processes, containers or names are left in this world's store.
    pub fn assert_nothing_left(&self) {
        let until = Instant::now() + SETTLING;
        loop {
            let left = leftovers::find(&self.store());
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left behind:\n{}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Panics if a process of this world's store goes on running.
    pub fn assert_nothing_runs(&self) {
        let until = Instant::now() + SETTLING;
        loop {
            let left = leftovers::processes(&self.store());
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "still there:\n{}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The names of the containers there are.
    pub fn containers(&self) -> Vec<String> {
        leftovers::entries(&self.store().join("names"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        leftovers::clear(self.dir.path());
    }
}

/// A command that runs.
pub struct Running {
    /// The process.
    pub child: Child,
    shown: String,
    stdout: mpsc::Receiver<Vec<u8>>,
    errors: tempfile::NamedTempFile,
}

impl Running {
    /// Kills the process group with SIGKILL.
    pub fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }

    /// Waits for the end; kills and panics after a few minutes.
    pub fn wait(mut self) -> Outcome {
        let until = Instant::now() + TOO_LONG;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be awaited") {
                break status;
            }
            if Instant::now() > until {
                self.kill();
                panic!("{} hangs; stderr: {}", self.shown, self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let Ok(stdout) = self.stdout.recv_timeout(SETTLING) else {
            panic!("{} ended but something still holds its stdout; stderr: {}", self.shown, self.stderr());
        };
        let outcome = Outcome::new(self.shown.clone(), status, stdout, self.stderr());
        assert!(!outcome.stderr.contains("panicked at"), "{outcome}");
        for line in outcome.stdout.split(|&byte| byte == b'\n').filter(|line| schema::is_line(line)) {
            schema::validated(line);
        }
        outcome
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.errors.path()).unwrap_or_default()).into_owned()
    }
}

/// How a command ended and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit status; 128 + n after signal n.
    pub code: i32,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: String,
    command: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} ended with {}", self.command, self.code)?;
        writeln!(f, "stdout: {}", String::from_utf8_lossy(&self.stdout))?;
        write!(f, "stderr: {}", self.stderr)
    }
}

impl Outcome {
    pub(crate) fn new(command: String, status: ExitStatus, stdout: Vec<u8>, stderr: String) -> Self {
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Self { code, stdout, stderr, command }
    }

    /// Panics unless the command succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Panics unless the command ended with this status and said something about it.
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        assert!(!self.stderr.trim().is_empty(), "a failure without a word: {self}");
        self
    }

    /// Panics unless stderr contains this.
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}: {self}");
        self
    }

    /// stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stdout as lines of ours, each held against its schema; panics if there is anything else.
    pub fn lines(&self) -> Vec<Value> {
        let Some(whole) = self.stdout.strip_suffix(b"\n") else {
            assert!(self.stdout.is_empty(), "the last line has no end: {self}");
            return Vec::new();
        };
        whole.split(|&byte| byte == b'\n').map(schema::validated).collect()
    }

    /// The only line on stdout.
    pub fn line(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "one line was wanted: {self}");
        lines.remove(0)
    }

    /// A text member of the only line.
    pub fn member(&self, name: &str) -> String {
        let line = self.line();
        line[name].as_str().unwrap_or_else(|| panic!("no text member {name:?}: {line}")).to_owned()
    }

    /// The error line on stdout, which must agree with the exit status.
    pub fn error_line(&self) -> Value {
        let last = self.lines().pop().unwrap_or_else(|| panic!("no error line: {self}"));
        assert_eq!(last["mediaType"], "application/vnd.ocipipe.error.v1+json", "{self}");
        assert_eq!(last["exit"], self.code, "{self}");
        assert!(last.get("digest").is_none(), "an error line has no digest: {self}");
        last
    }
}
