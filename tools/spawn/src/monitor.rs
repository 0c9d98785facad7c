//! `-d`: a process that stands by the container after the tool has ended, and records its end.
//!
//! It holds none of the caller's descriptors, none of the tool's, and no lock while it waits.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;

use cli::{During, Failure, Stage};
use descriptor::{ContainerLine, Exit, Line};
use runtime::{Stdio, Tie};
use serde_json::{Value, json};
use store::{Container, Store};
use sys::process::Range;

use crate::args::Args;
use crate::changes::Changes;
use crate::launch::{self, Launch};
use crate::streams;

/// The pipe that tells the tool how the start went.
const REPORT: RawFd = 3;
/// A report is not longer than this.
const REPORT_BYTES: u64 = 65_536;

/// Starts a container in the background; returns its line of the moment its command runs. By the time the caller reads it
/// the container may have ended, and a one-off be gone.
pub(crate) fn detach(
    container: &Container,
    line: &ContainerLine,
    args: &Args,
    changes: Changes,
    stage: &Stage,
) -> Result<ContainerLine, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Other, "starting the monitor", e.to_string());
    let log = open_log(container)?;
    let streams = streams::background(args, &log)?;
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (read, write) = pipe.map_err(|errno| failed(&std::io::Error::from(errno)))?;
    let store: PathBuf = container.store().path().into();
    let mut given = Some((streams, write, changes));
    let work = || {
        let Some((streams, write, changes)) = given.take() else { return 1 };
        match alone(streams, write) {
            Ok((streams, write)) => watch(&store, line, args, changes, streams, write, stage),
            Err(_) => 1,
        }
    };
    sys::process::clone(0, true, work).map_err(|e| failed(&e))?;
    drop(given);
    receive(read)
}

/// The log of a container's output.
fn open_log(container: &Container) -> Result<OwnedFd, Failure> {
    use rustix::fs::{Mode, OFlags};
    let what = || format!("the log of container {}", container.name());
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW;
    let bundle = container.root().during(what)?;
    let log = bundle.open("log", flags, Mode::RUSR | Mode::WUSR);
    log.map_err(|e| Failure::new(Exit::Other, what(), e))
}

/// Leaves the caller's session, directory and descriptors behind.
///
/// The container's streams become 0, 1 and 2 for the moment, the report pipe 3; everything else is closed.
fn alone(streams: [OwnedFd; 3], write: OwnedFd) -> sys::Result<([OwnedFd; 3], OwnedFd)> {
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let _ = rustix::thread::set_name(c"oci-spawn:mon");
    for (number, stream) in (0..).zip(&streams) {
        sys::process::set_standard(stream, number)?;
    }
    let write = sys::process::move_to(write, REPORT).map_err(|(error, _)| error)?;
    // Their numbers end here; nothing drops them, as this process never returns.
    std::mem::forget(streams);
    sys::process::close_range(REPORT.unsigned_abs() + 1, u32::MAX, Range::Close)?;
    let streams = [sys::process::inherited(0)?, sys::process::inherited(1)?, sys::process::inherited(2)?];
    let null = rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    let null = null.map_err(|errno| sys::Error::new("open", "\"/dev/null\"", errno))?;
    for number in 0..3 {
        sys::process::set_standard(&null, number)?;
    }
    Ok((streams, write))
}

/// Starts the container, tells how that went, and stands by until its end.
fn watch(
    store: &std::path::Path,
    line: &ContainerLine,
    args: &Args,
    changes: Changes,
    streams: [OwnedFd; 3],
    report: OwnedFd,
    stage: &Stage,
) -> ! {
    let launch = Launch {
        changes,
        stdio: Stdio::Streams(streams),
        tie: Tie::Outlives,
        stop_timeout: args.stop_timeout,
    };
    let opened = Store::open(Some(store)).and_then(|store| store.resolve_line(line));
    let started = opened.during(|| "the container".into()).and_then(|container| {
        let guard = overlay::OneOff::of(&container).during(|| "the container".into())?;
        Ok((launch::start(&container, launch), guard))
    });
    let status = match started {
        Ok((Ok(running), guard)) => {
            send(report, &Line::Container(running.line().clone()).to_json());
            let ended = running.wait(None).and_then(|code| match code {
                0 => Ok(()),
                code => Err(Failure::with_status(code, "command", "failed")),
            });
            u8::from(guard.end(&ended, stage).is_err())
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
