//! `--pid-file`: a file that appears whole, and of which nothing is left beside it, whenever its writer is killed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use runtime::Error;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open, unlink};
use rustix::io::Errno;

use crate::verbs::Result;

/// As runc makes it, less the umask.
const MODE: Mode = Mode::from_raw_mode(0o666);

/// Writes the pid to a file without a name, and then gives it one.
///
/// # Errors
/// What the kernel says of the file or its directory.
pub(crate) fn write(path: Option<&Path>, pid: u32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let failed = |source| Error::File { path: path.into(), source };
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let done = match open(above, flags, MODE) {
        // A file system that has no files without names.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => renamed(path, pid),
        Err(errno) => Err(errno.into()),
        Ok(file) => linked(File::from(file), path, pid),
    };
    done.map_err(failed)
}

fn linked(mut file: File, path: &Path, pid: u32) -> io::Result<()> {
    write!(file, "{pid}")?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = || linkat(CWD, &unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW);
    match link() {
        // An older container's: linkat(2) replaces nothing.
        Err(Errno::EXIST) => {
            unlink(path)?;
            Ok(link()?)
        }
        answer => Ok(answer?),
    }
}

fn renamed(path: &Path, pid: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    let done = std::fs::write(&new, pid.to_string()).and_then(|()| std::fs::rename(&new, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    done
}
