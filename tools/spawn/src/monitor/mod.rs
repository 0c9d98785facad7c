//! `-d`: a process that stands by the container after the tool has ended: its parent, which keeps its output, connects who
//! attaches, and records its end.
//!
//! - It holds none of the caller's descriptors, none of the tool's, and no lock while it waits.
//! - Killed, it takes the container's pipes along: the container goes on, is told so when it next writes (`EPIPE`, a terminal's
//!   hang-up), and nobody records what it ends with.

mod choice;
mod client;
mod desk;
mod journal;

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use cli::{During, Failure, Stage};
use descriptor::{ContainerLine, Exit, Line};
use runtime::{Stdio, Tie};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};
use store::{Container, Store};

pub(crate) use choice::{Choice, Driver, LogOption};
pub(crate) use journal::{LOG, predecessor};

use crate::changes::Changes;
use crate::launch::{self, Console, Launch, Running};
use crate::mounts::Taken;
use crate::wire;
use desk::{Desk, Ends};
use journal::Journal;

/// A report is not longer than this.
const REPORT_BYTES: u64 = 65_536;

/// A run in the background.
#[derive(Debug)]
pub(crate) struct Background {
    pub(crate) changes: Changes,
    pub(crate) mounts: Taken,
    /// As [`Launch`] has it.
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) streams: Streams,
    pub(crate) log: Choice,
    /// It goes when it has ended, however it was made.
    pub(crate) once: bool,
    /// Who is attached from the first byte on.
    pub(crate) first: Option<OwnedFd>,
    /// What the next start remembers of this one.
    pub(crate) console: Option<Console>,
    /// Where the process's id is written, an absolute path.
    pub(crate) pidfile: Option<PathBuf>,
}

/// What the container's streams are.
#[derive(Debug)]
pub(crate) enum Streams {
    /// A terminal.
    Terminal {
        /// Its rows and columns.
        size: Option<(u16, u16)>,
    },
    /// Three streams.
    Three {
        stdin: Input,
        /// In place of the log.
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
}

/// Where a container's input comes from.
#[derive(Debug)]
pub(crate) enum Input {
    /// A file, /dev/null say.
    File(OwnedFd),
    /// Who is attached.
    Attached,
}

impl Background {
    /// The descriptors that the monitor needs of its maker.
    fn numbers(&self) -> Vec<RawFd> {
        let mut all: Vec<&OwnedFd> = self.first.iter().collect();
        if let Streams::Three { stdin, stdout, stderr } = &self.streams {
            all.extend(stdout.iter().chain(stderr));
            if let Input::File(file) = stdin {
                all.push(file);
            }
        }
        all.into_iter().map(AsRawFd::as_raw_fd).chain(self.mounts.numbers()).collect()
    }
}

impl Streams {
    /// The container's side, and the monitor's.
    fn connect(self) -> sys::Result<(Stdio, Ends)> {
        let (stdin, stdout, stderr) = match self {
            Self::Terminal { size } => {
                return Ok((Stdio::Terminal { size }, Ends { terminal: true, ..Ends::default() }));
            }
            Self::Three { stdin, stdout, stderr } => (stdin, stdout, stderr),
        };
        let mut ends = Ends::default();
        let pipe =
            || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| sys::Error::new("pipe2", "O_CLOEXEC", errno));
        let stdin = match stdin {
            Input::File(file) => file,
            Input::Attached => {
                let (read, write) = pipe()?;
                ends.input = Some(write);
                read
            }
        };
        let output = |file: Option<OwnedFd>, end: &mut Option<OwnedFd>| match file {
            Some(file) => Ok(file),
            None => pipe().map(|(read, write)| {
                *end = Some(read);
                write
            }),
        };
        let stdout = output(stdout, &mut ends.stdout)?;
        let stderr = output(stderr, &mut ends.stderr)?;
        Ok((Stdio::Streams([stdin, stdout, stderr]), ends))
    }
}

/// Starts a container in the background; returns its line of the moment its command runs. By the time the caller reads it
/// the container may have ended, and a one-off be gone.
pub(crate) fn detach(
    container: &Container,
    background: Background,
    stage: &Stage,
) -> Result<ContainerLine, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Other, "starting the monitor", e.to_string());
    let (read, write) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(&std::io::Error::from(errno)))?;
    let store: PathBuf = container.store().path().into();
    let line = container.line().during(|| format!("container {}", container.name()))?;
    let mut given = Some((background, write));
    let work = || {
        let Some((background, write)) = given.take() else { return 1 };
        let mut kept = background.numbers();
        kept.push(write.as_raw_fd());
        match alone(kept) {
            Ok(()) => watch(&store, &line, background, write, stage),
            Err(_) => 1,
        }
    };
    sys::process::clone(0, true, work).map_err(|e| failed(&e))?;
    drop(given);
    receive(read)
}

/// Leaves the caller's session, directory and descriptors behind, but for these.
fn alone(mut kept: Vec<RawFd>) -> sys::Result<()> {
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let _ = rustix::thread::set_name(c"oci-spawn:mon");
    kept.extend(0..3);
    sys::process::close_all_but(kept)?;
    let null = rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    let null = null.map_err(|errno| sys::Error::new("open", "\"/dev/null\"", errno))?;
    for number in 0..3 {
        sys::process::set_standard(&null, number)?;
    }
    Ok(())
}

/// Starts the container, tells how that went, and stands by until its end.
fn watch(
    store: &std::path::Path,
    line: &ContainerLine,
    background: Background,
    report: OwnedFd,
    stage: &Stage,
) -> ! {
    let opened = Store::open(Some(store)).and_then(|store| store.resolve_line(line));
    let started = opened.during(|| "the container".into()).and_then(|container| {
        let guard =
            overlay::OneOff::made_so_or(&container, background.once).during(|| "the container".into())?;
        let started = start(&container, background);
        if let Err(failure) = &started {
            launch::record_failure(&container, failure);
        }
        Ok((started, guard))
    });
    let status = match started {
        Ok((Ok((running, mut desk)), guard)) => {
            send(report, &Line::Container(running.line().clone()).to_json());
            // What the start needed is most of it.
            sys::tuning::give_memory_back();
            let ended = running.wait(Some(&mut desk));
            let code = ended.as_ref().copied().unwrap_or(u8::MAX);
            let ended = ended.and_then(|code| match code {
                0 => Ok(()),
                code => Err(Failure::with_status(code, "command", "failed")),
            });
            let status = u8::from(guard.end(&ended, stage).is_err());
            desk.end(code);
            status
        }
        Ok((Err(failure), guard)) => {
            let failed = Err::<(), _>(failure.clone());
            let _ = guard.end(&failed, stage);
            send(report, &to_json(&failure));
            1
        }
        Err(failure) => {
            send(report, &to_json(&failure));
            1
        }
    };
    sys::process::end(status)
}

/// Starts the container, with everything there that it and who attaches needs.
fn start(container: &Container, background: Background) -> Result<(Running, Desk), Failure> {
    let named = || format!("container {}", container.name());
    let failed = |e: sys::Error| Failure::new(Exit::Other, named(), e);
    let Background { changes, mounts, stop_timeout, streams, log, first, console, pidfile, .. } = background;
    let bundle = container.root().during(named)?;
    let journal = match log.driver {
        Driver::JsonFile => Some(Journal::open(container.root().during(named)?, log).map_err(failed)?),
        Driver::None => None,
    };
    let (stdio, mut ends) = streams.connect().map_err(failed)?;
    let launch = Launch {
        changes,
        mounts,
        stdio,
        tie: Tie::Outlives,
        stop_timeout,
        monitored: true,
        console,
        pidfile,
    };
    let mut running = launch::start(container, launch)?;
    if let Some(master) = running.terminal() {
        ends.input = Some(master.try_clone().map_err(|e| Failure::new(Exit::Other, named(), e))?);
        ends.stdout = Some(master);
    }
    let mut desk = Desk::new(ends, journal);
    // Nobody can attach where that fails; the container runs all the same.
    desk.listen(wire::listen(&bundle).ok());
    if let Some(first) = first {
        desk.attach(first);
    }
    Ok((running, desk))
}

fn send(pipe: OwnedFd, message: &Value) {
    // The tool may be gone; the container is not to suffer from that.
    let _ = std::fs::File::from(pipe).write_all(message.to_string().as_bytes());
}

fn to_json(failure: &Failure) -> Value {
    let line = failure.to_line(crate::args::TOOL);
    line.map_or_else(
        || json!({"exit": 1}),
        |line| json!({"exit": line.exit, "what": line.what, "why": line.why, "hint": line.hint}),
    )
}

/// Waits until the container's command runs, or for the reason why it does not.
fn receive(pipe: OwnedFd) -> Result<ContainerLine, Failure> {
    let lost = || Failure::new(Exit::Other, "the monitor", "it ended without a word");
    let mut bytes = Vec::new();
    let read = std::fs::File::from(pipe.as_fd().try_clone_to_owned().map_err(|_| lost())?);
    read.take(REPORT_BYTES).read_to_end(&mut bytes).map_err(|_| lost())?;
    if let Ok(Line::Container(line)) = Line::parse(&bytes) {
        return Ok(line);
    }
    let Ok(Value::Object(report)) = serde_json::from_slice(&bytes) else { return Err(lost()) };
    let Some(exit) = report.get("exit").and_then(Value::as_u64) else { return Err(lost()) };
    let text = |member: &str| report.get(member).and_then(Value::as_str).unwrap_or_default().to_string();
    let failure = Failure::with_status(u8::try_from(exit).unwrap_or(1), text("what"), text("why"));
    Err(match report.get("hint").and_then(Value::as_str) {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    })
}
