//! `-`: an archive on stdin into a container, or of a container's files on stdout.

use std::io::{BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use cli::{Failure, Stage};
use descriptor::{Exit, Line, LineReader};
use layer::{PackError, PackOptions, Warning};
use rustix::fs::{Mode, OFlags};
use sys::{Call, Root};

use crate::copy::Copier;
use crate::error::{Error, Result};
use crate::rules::Source;
use crate::untar::{Looks, Untar};

/// How much of an archive is written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// The line that a file has, in place of stdin.
pub(crate) fn line_of(file: &Path) -> std::result::Result<Line, Failure> {
    let what = || format!("--line {}", file.display());
    let opened = std::fs::File::open(file);
    let opened = opened.map_err(|e| {
        Failure::new(
            if e.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Other },
            what(),
            e,
        )
    })?;
    match LineReader::new(opened).next() {
        Some(Ok(Line::Error(error))) => Err(Failure::travelling(error)),
        Some(Ok(line)) => Ok(line),
        Some(Err(error)) => Err(Failure::new(descriptor::Classify::exit(&error), what(), error)),
        None => Err(Failure::new(Exit::Upstream, what(), "there is no line in it")),
    }
}

/// Writes a line to a file, in place of stdout.
pub(crate) fn line_to(file: &Path, line: &Line) -> std::result::Result<(), Failure> {
    let text = format!("{}\n", line.to_json());
    let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(file);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| Failure::new(Exit::Other, format!("--line {}", file.display()), e))
}

/// Refuses archives on terminals.
pub(crate) fn check(stream: impl IsTerminal, name: &str) -> std::result::Result<(), Failure> {
    if stream.is_terminal() {
        return Err(Failure::usage(name, "a terminal, where an archive (-) is wanted")
            .with_hint("redirect it: oci-cp - NAME:DIR < TAR, oci-cp NAME:PATH - > TAR"));
    }
    Ok(())
}

/// Puts an archive's members into the directory `dest` of a container.
pub(crate) fn unpack(
    root: &Root,
    dest: &Path,
    copier: &Copier<'_>,
    looks: Looks,
    input: impl Read,
    warn: &dyn Fn(&str),
) -> Result<()> {
    let base = overlay::resolve(root, dest)?;
    root.open_dir(&base).map_err(Error::at(dest))?;
    let (count, done) = Untar::new(copier, root, &base, looks, warn)?.run(input);
    if done.is_err() && count > 0 {
        warn(&format!("{count} members of the archive were copied before the one that failed, and stay"));
    }
    done
}

/// Writes an archive of a source.
pub(crate) fn pack(source: &Source, out: impl Write, stage: &Stage) -> Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let mut warn = |warning: Warning| match warning {
        // Every running container has some.
        Warning::MountPoint(_) => stage.note(&warning.to_string()),
        _ => stage.warn(&warning.to_string()),
    };
    let options = PackOptions::default();
    match source {
        Source::Entry { parent, name, called, is_dir: true } => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(parent, name, flags, Mode::empty());
            let dir = dir.call("open", || format!("{name:?}")).map_err(Error::at(name))?;
            layer::pack_under(&Root::from_fd(dir), called, options, &mut out, &mut warn)?;
        }
        Source::Entry { parent, name, called, .. } => {
            let parent = clone(parent)?;
            layer::pack_named(&parent, name, called, options, &mut out, &mut warn)?;
        }
        Source::Contents(dir) => {
            layer::pack_under(&clone(dir)?, "".as_ref(), options, &mut out, &mut warn)?;
        }
    }
    Ok(out.flush().map_err(PackError::Write)?)
}

fn clone(dir: impl AsFd) -> Result<Root> {
    let again = dir.as_fd().try_clone_to_owned().call("fcntl", || "F_DUPFD_CLOEXEC".into());
    Ok(Root::from_fd(again.map_err(Error::at("."))?))
}

/// Whether nobody reads the archive any more.
pub(crate) fn is_reader_gone(error: &Error) -> bool {
    matches!(error, Error::Pack(PackError::Write(e)) if e.kind() == std::io::ErrorKind::BrokenPipe)
}
