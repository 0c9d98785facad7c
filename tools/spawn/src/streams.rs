//! What the container reads and writes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cli::Failure;
use descriptor::Exit;
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;

use crate::args::Args;
use crate::launch::Console;
use crate::monitor::{Input, Streams};

/// The mode of files that the container's output makes, less the caller's umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// The streams of a container in the foreground.
pub(crate) fn foreground(args: &Args) -> Result<[OwnedFd; 3], Failure> {
    let stdin = match &args.stdin {
        Some(file) => open(file, OFlags::RDONLY)?,
        None if args.interactive => copy(std::io::stdin().as_fd())?,
        None => nothing()?,
    };
    let stderr = || copy(std::io::stderr().as_fd());
    let stdout = match &args.stdout {
        Some(file) => written(file)?,
        None if args.pass.is_some() => stderr()?,
        None => copy(std::io::stdout().as_fd())?,
    };
    let error = match &args.stderr {
        Some(file) => written(file)?,
        None => stderr()?,
    };
    Ok([stdin, stdout, error])
}

/// The streams of a container in the background; its monitor has what is sent nowhere else.
pub(crate) fn background(args: &Args, console: Console) -> Result<Streams, Failure> {
    if console.tty {
        return Ok(Streams::Terminal { size: None });
    }
    let stdin = match &args.stdin {
        Some(file) => Input::File(open(file, OFlags::RDONLY)?),
        None if console.open_stdin => Input::Attached,
        None => Input::File(nothing()?),
    };
    let file = |file: Option<&Path>| file.map(written).transpose();
    Ok(Streams::Three { stdin, stdout: file(args.stdout.as_deref())?, stderr: file(args.stderr.as_deref())? })
}

/// /dev/null, both ways.
pub(crate) fn nothing() -> Result<OwnedFd, Failure> {
    open(Path::new("/dev/null"), OFlags::RDWR)
}

fn written(file: &Path) -> Result<OwnedFd, Failure> {
    open(file, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)
}

/// Opens a file, or takes the caller's descriptor as it is: opening /dev/fd/N again would fail for a socket and
/// have a file position of its own.
fn open(file: &Path, flags: OFlags) -> Result<OwnedFd, Failure> {
    let failed = |why: String| Failure::new(Exit::NotFound, format!("opening {}", file.display()), why);
    let number = file.to_str().and_then(|text| text.strip_prefix("/dev/fd/")).and_then(|n| n.parse().ok());
    if let Some(number) = number {
        return sys::process::inherited(number).map_err(|e| failed(e.to_string()));
    }
    let opened = rustix::fs::open(file, flags | OFlags::CLOEXEC | OFlags::NOCTTY, FILE_MODE);
    opened.map_err(|errno| failed(std::io::Error::from(errno).to_string()))
}

/// A copy beyond the standard numbers.
pub(crate) fn copy(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    let copied = fcntl_dupfd_cloexec(fd, 3);
    copied.map_err(|errno| Failure::new(Exit::Other, "a standard stream", std::io::Error::from(errno)))
}
