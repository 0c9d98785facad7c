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
    // A name of this process's own; what stands there all the same, a link of somebody else's say, is not written to.
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file =
        File::from(open(&new, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, MODE)?);
    let done = write!(file, "{pid}").and_then(|()| std::fs::rename(&new, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_somebody_has_put_beside_the_file_is_not_written_through() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, victim) = (dir.path().join("pid"), dir.path().join("victim"));
        std::fs::write(&victim, "kept").expect("write");
        let own = format!(".pid.{}", std::process::id());
        for name in [".pid", "pid", &own] {
            std::os::unix::fs::symlink(&victim, dir.path().join(name)).expect("symlink");
        }
        assert!(renamed(&path, 7).is_err());
        std::fs::remove_file(dir.path().join(own)).expect("rm");
        renamed(&path, 7).expect("a pid file");
        assert_eq!(std::fs::read_to_string(&path).expect("the pid"), "7");
        assert_eq!(std::fs::read_to_string(victim).expect("the victim"), "kept");
    }
}
