//! What a run's mounts are mounted on: made for it where the container lacks it, and taken away again afterwards.
//!
//! Mount points lie in the container's `init` lower; where the writable layer hides that place the runtime makes them in the
//! writable layer. What is new is written down beside the container before it is made, so that the next start finds what a run
//! left that was killed.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Exit;
use overlay::{Kind, Missing, Mounted, Point};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};
use store::{Container, State};
use sys::Root;

/// Beside the container while it runs with mounts of that run.
const FILE: &str = "points.json";
/// The file is not longer than this.
const FILE_BYTES: u64 = 1 << 20;
const MODE: Mode = Mode::from_raw_mode(0o600);

/// What was made for a run, relative to the container's root.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Made {
    init: Vec<PathBuf>,
    /// In the writable layer.
    upper: Vec<PathBuf>,
}

/// Makes what `mounts` are mounted on and `workdir`, which stays. True where something has to be taken away again.
pub(crate) fn make(
    bundle: &Root,
    view: &Root,
    mounts: &[Point],
    workdir: Option<&Path>,
) -> Result<bool, Failure> {
    let what = || "making mount points".to_string();
    let failed = |e: sys::Error| Failure::new(Exit::Other, what(), e);
    let mut all = mounts.to_vec();
    all.extend(workdir.map(|path| Point { path: path.into(), kind: Kind::Plain }));
    let missing = Missing::find(view, &all).during(what)?;
    if missing.is_empty() {
        return Ok(false);
    }
    let init = bundle.open_dir("init").map_err(failed)?;
    // What leads to the working directory stays with it, unless that lies in a mount.
    let stays = workdir.filter(|path| !mounts.iter().any(|point| path.starts_with(&point.path)));
    let stays = stays.map(|path| overlay::resolve(view, path)).transpose().during(what)?;
    // What is not UTF-8 cannot be written down and stays, too.
    let goes =
        |path: &Path| path.to_str().is_some() && !stays.as_ref().is_some_and(|stays| stays.starts_with(path));
    let mut made = read(bundle).unwrap_or_default();
    let before = made.init.len();
    let is_new = |path: &Path| init.lstat(path).is_err_and(|e| e.is_not_found());
    let new = missing.paths().map(|(path, _)| path).filter(|path| goes(path) && is_new(path));
    made.init.extend(new.map(PathBuf::from));
    if made.init.len() > before {
        write(bundle, &made)?;
    }
    missing.make(&init).during(what)?;
    // The mount is live and has noted the absence of these names.
    sys::mount::forget_names(view.as_fd()).map_err(failed)?;
    let hidden = Missing::find(view, mounts).during(what)?;
    let hidden = hidden.paths().filter(|(path, is_missing)| *is_missing && goes(path));
    let hidden: Vec<PathBuf> = hidden.map(|(path, _)| path.into()).collect();
    if !hidden.is_empty() {
        made.upper.extend(hidden);
        write(bundle, &made)?;
    }
    Ok(!made.init.is_empty() || !made.upper.is_empty())
}

/// Takes away what was made for a run that is over; the caller holds the container's lock, and it does not run.
pub(crate) fn sweep(container: &Container, bundle: &Root, state: &State) -> Result<(), Failure> {
    let what = || "removing mount points".to_string();
    let failed = |e: sys::Error| Failure::new(Exit::Other, what(), e);
    let Some(made) = read(bundle) else { return Ok(()) };
    let mounted = overlay::mounted(container, state).during(what)?;
    if !made.upper.is_empty() {
        match &mounted {
            Mounted::Here(view) => overlay::unmake(view, &made.upper),
            // Through the mount, so that what was deleted there before stays deleted.
            Mounted::Nowhere => {
                let plan = overlay::Plan::of_container(container).during(what)?;
                let relative = format!("containers/{}", container.id());
                let mount = plan.mount_detached(container.store(), &relative).during(what)?;
                overlay::unmake(&Root::from_fd(mount), &made.upper)
            }
            Mounted::Elsewhere => return Ok(()),
        }
        .during(what)?;
    }
    overlay::unmake(&bundle.open_dir("init").map_err(failed)?, &made.init).during(what)?;
    if let Mounted::Here(view) = &mounted {
        sys::mount::forget_names(view.as_fd()).map_err(failed)?;
    }
    let gone = rustix::fs::unlinkat(bundle, FILE, AtFlags::empty());
    gone.map_err(|errno| Failure::new(Exit::Other, what(), std::io::Error::from(errno)))
}

/// None where there is none, or none that can be read: what it named stays.
fn read(bundle: &Root) -> Option<Made> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = bundle.open(FILE, flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(FILE_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn write(bundle: &Root, made: &Made) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Other, FILE, e.to_string());
    let bytes = serde_json::to_vec(made).map_err(|e| failed(&e))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let file = bundle.open(FILE, flags, MODE).map_err(|e| failed(&e))?;
    std::fs::File::from(file).write_all(&bytes).map_err(|e| failed(&e))
}
