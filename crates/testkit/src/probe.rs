//! What this machine can do. A test that needs more says so aloud and is counted as skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Effective uid 0.
    Root,
    /// overlayfs with `userxattr` on the temporary directory.
    Overlay,
    /// A program in PATH.
    Program(&'static str),
    /// A module of the system's Python.
    Python(&'static str),
    /// A package that apt-get can fetch here.
    Package(&'static str),
    /// One of the shared real images, by the name of its folder or file.
    Shared(&'static str),
    /// The time of `scripts/test --full` (`OCIPIPE_FULL`), and a package mirror.
    Full,
}

/// Skips the rest of a test unless the machine has all that is listed.
#[macro_export]
macro_rules! needs {
    ($($need:expr),* $(,)?) => {
        let able = {
            use $crate::probe::Need::*;
            $crate::probe::all(&[$($need),*])
        };
        if !able {
            return;
        }
    };
}

/// True when all needs are met; else the rest of the test is [skipped](skip).
pub fn all(needs: &[Need]) -> bool {
    let Some(reason) = needs.iter().find_map(|&need| lacking(need)) else { return true };
    skip(&reason);
    false
}

/// Says that the running test is skipped, or a part of it: prints `SKIP name: reason` and appends it to the file
/// `$OCIPIPE_SKIPS`, where skips are counted.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIP {}: {reason}\n", thread.name().unwrap_or("?"));
    // Straight to the descriptor: the test harness captures eprint! of tests that pass.
    drop(std::io::stderr().write_all(line.as_bytes()));
    if let Some(path) = std::env::var_os("OCIPIPE_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the skip list");
        file.write_all(line.as_bytes()).expect("the skip list can be written");
    }
}

fn lacking(need: Need) -> Option<String> {
    match need {
        Need::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
        Need::Overlay => (!overlay_works()).then(|| "needs overlayfs with userxattr here".to_owned()),
        Need::Program(name) => program(name).is_none().then(|| format!("needs {name} in PATH")),
        Need::Python(name) => (!can_import(name)).then(|| format!("needs /usr/bin/python3 with {name}")),
        Need::Package(name) => (!can_fetch(name)).then(|| format!("needs apt-get and the package {name}")),
        Need::Full => std::env::var_os("OCIPIPE_FULL").is_none().then(|| "is for --full".to_owned()),
        Need::Shared(name) => {
            image(name).is_none().then(|| format!("needs the shared image {name} (OCIPIPE_TEST_IMAGES)"))
        }
    }
}

fn can_import(module: &str) -> bool {
    let mut command = std::process::Command::new("/usr/bin/python3");
    command.args(["-c", &format!("import {module}")]).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn can_fetch(package: &str) -> bool {
    let mut command = std::process::Command::new("apt-cache");
    command.args(["show", "--no-all-versions", package]);
    command.output().is_ok_and(|answer| answer.status.success() && !answer.stdout.is_empty())
}

/// Where a program lies in PATH (sbin folders included).
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    path.split(':').map(|dir| Path::new(dir).join(name)).find(|candidate| candidate.is_file())
}

/// Copies a program that is to be run from there, by cp(1).
///
/// A process forked by another thread while this one writes would hold the copy open for writing until it executes
/// something, and whoever runs the copy meanwhile is told `ETXTBSY`.
///
/// # Panics
/// Where it cannot be copied.
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = Command::new("cp").arg("--").arg(from.as_ref()).arg(to.as_ref()).status();
    assert!(copied.expect("cp(1)").success(), "cp {:?} {:?}", from.as_ref(), to.as_ref());
}

/// A shared real image: below `$OCIPIPE_TEST_IMAGES`, else `../shared/images` beside the workspace.
pub fn image(name: &str) -> Option<PathBuf> {
    let dir = match std::env::var_os("OCIPIPE_TEST_IMAGES") {
        Some(dir) => PathBuf::from(dir),
        None => crate::world::workspace().join("../shared/images"),
    };
    let path = dir.join(name);
    path.exists().then_some(path)
}

fn overlay_works() -> bool {
    let Ok(dir) = tempfile::tempdir() else { return false };
    for name in ["l", "u", "w", "m"] {
        drop(std::fs::create_dir(dir.path().join(name)));
    }
    let at = dir.path().display();
    let options = format!("userxattr,lowerdir={at}/l,upperdir={at}/u,workdir={at}/w");
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let target = dir.path().join("m");
    let flags = rustix::mount::MountFlags::empty();
    let mounted = rustix::mount::mount("overlay", &target, "overlay", flags, options.as_c_str()).is_ok();
    if mounted {
        let _ = rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH);
    }
    mounted
}
