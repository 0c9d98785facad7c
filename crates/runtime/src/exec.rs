//! Finding the command inside the container and executing it, with the shells' answers where that fails.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::Root;
use sys::process::Pointers;

use crate::report::Report;
use crate::step::Command;

/// The umask of a process whose configuration names none, as runc has it.
pub(crate) const DEFAULT_UMASK: u32 = 0o022;
/// Where commands are looked for when the configured environment has no PATH (docker's default).
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command with its files found and its arguments laid out: all that is left is execve(2).
///
/// A filter may forbid every other call by the time it is executed.
pub(crate) struct Prepared {
    /// What the name may mean, in order: a file, or why it can be no program.
    files: Vec<Result<CString, String>>,
    args: Pointers,
    env: Pointers,
}

/// Finds the command inside the container's root, as its user.
///
/// Names are resolved without magic links: `/proc/self/fd/N` and `/proc/self/exe` still mean the runtime's own files at this
/// moment.
pub(crate) fn prepare(command: &Command) -> Result<Prepared, Report> {
    let mut files = Vec::new();
    let tried = each_candidate(command, |root, candidate| match find(root, candidate) {
        Ok(Some(_)) => {
            files.extend(CString::new(OsStr::as_bytes(candidate.as_os_str())).map(Ok));
            Tried::Absent
        }
        Ok(None) => Tried::Absent,
        Err(why) => {
            files.push(Err(with_name(&why, candidate)));
            Tried::Refused(why)
        }
    });
    match tried {
        Err(report) if files.iter().all(Result::is_err) => Err(report),
        _ => {
            let (args, env) = (Pointers::new(command.args.clone()), Pointers::new(command.env.clone()));
            Ok(Prepared { files, args, env })
        }
    }
}

impl Prepared {
    /// Executes the first file that the kernel takes; what comes back is why it took none.
    pub(crate) fn execute(self) -> Report {
        let mut refused = None;
        for file in self.files {
            let why = file.map_or_else(|why| why, |file| execute(&file, &self.args, &self.env));
            refused = refused.or(Some(why));
        }
        Report::NotExecutable { why: refused.unwrap_or_default() }
    }
}

fn with_name(why: &str, candidate: &Path) -> String {
    format!("{why} ({})", candidate.display())
}

/// Makes sure, as the user and inside the root, that there is a file to execute; says why not.
pub(crate) fn missing(command: &Command) -> Option<Report> {
    let tried = each_candidate(command, |root, candidate| match find(root, candidate) {
        Ok(Some(_)) => {
            // By its name, which is a mere question: glibc asks none about a descriptor.
            match rustix::fs::accessat(rustix::fs::CWD, candidate, Access::EXEC_OK, AtFlags::EACCESS) {
                // Without faccessat2(2) (Linux 5.8) exec will tell.
                Ok(()) | Err(Errno::NOSYS | Errno::INVAL) => Tried::Found,
                Err(errno) => Tried::Refused(words(errno)),
            }
        }
        Ok(None) => Tried::Absent,
        Err(why) => Tried::Refused(why),
    });
    tried.err()
}

/// What became of one file that the name may mean.
enum Tried {
    Found,
    Absent,
    Refused(String),
}

/// Tries one candidate after the other until one is found.
fn each_candidate(
    command: &Command,
    mut attempt: impl FnMut(&Root, &Path) -> Tried,
) -> std::result::Result<(), Report> {
    let Command { name, path, .. } = command;
    // The user may be allowed to pass through the root without reading it.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty())
        .map_err(|errno| Report::step("open the root", &sys::Error::new("open", "\"/\"", errno)))?;
    let root = Root::from_fd(root);
    let mut refused = None;
    for candidate in candidates(name, path) {
        match attempt(&root, &candidate) {
            Tried::Found => return Ok(()),
            Tried::Refused(why) => refused = refused.or(Some(with_name(&why, &candidate))),
            Tried::Absent => {}
        }
    }
    Err(match refused {
        Some(why) => Report::NotExecutable { why },
        None if name.contains('/') => Report::NotFound { searched: "no such file".into() },
        None => {
            let searched = path.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(":");
            Report::NotFound { searched: format!("PATH is {searched}") }
        }
    })
}

/// The files that the name may mean: itself where it has a slash, else one in each directory of PATH.
fn candidates(name: &str, path: &[PathBuf]) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![absolute(Path::new(name))];
    }
    path.iter().map(|directory| absolute(&directory.join(name))).collect()
}

/// A relative name starts at the working directory.
fn absolute(path: &Path) -> PathBuf {
    if path.is_absolute() {
        return path.to_path_buf();
    }
    let cwd = rustix::process::getcwd(Vec::new()).map(CString::into_bytes).unwrap_or_else(|_| b"/".to_vec());
    PathBuf::from(std::ffi::OsString::from_vec(cwd)).join(path)
}

/// Opens one candidate; `None` where there is no such file, an error where it can be no program.
fn find(root: &Root, path: &Path) -> std::result::Result<Option<OwnedFd>, String> {
    let file = match root.open(path, OFlags::PATH, Mode::empty()) {
        Ok(file) => file,
        Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(e) if e.errno == Errno::LOOP => {
            return Err("it leads through a link of /proc, or in a circle".into());
        }
        Err(e) => return Err(words(e.errno)),
    };
    let kind = rustix::fs::fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if kind.is_ok_and(|kind| kind.is_dir()) { Err("it is a directory".into()) } else { Ok(Some(file)) }
}

/// Executes one file; what comes back is why it is refused.
fn execute(file: &CString, args: &Pointers, env: &Pointers) -> String {
    let error = sys::process::exec_path(file, args, env);
    let why = match error.errno {
        // The file was there a moment ago: what is missing is its interpreter or its loader.
        Errno::NOENT | Errno::NOTDIR => {
            "its interpreter (the #! line, or the dynamic loader) does not exist".into()
        }
        errno => words(errno),
    };
    with_name(&why, Path::new(OsStr::from_bytes(file.as_bytes())))
}

/// What the kernel's answer to an exec means.
fn words(errno: Errno) -> String {
    match errno {
        Errno::ACCESS => "permission denied".into(),
        Errno::NOEXEC => "exec format error".into(),
        Errno::TOOBIG => "arguments and environment are too long".into(),
        Errno::PERM => "operation not permitted".into(),
        Errno::TXTBSY => "it is open for writing".into(),
        other => std::io::Error::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_is_no_matter_of_path() {
        let path = [PathBuf::from("/bin"), PathBuf::from("/usr/bin")];
        assert_eq!(candidates("sh", &path), [PathBuf::from("/bin/sh"), PathBuf::from("/usr/bin/sh")]);
        assert_eq!(candidates("/opt/sh", &path), [PathBuf::from("/opt/sh")]);
        assert!(candidates("", &path).is_empty());
    }
}
