//! Version 2: the controllers reach a directory through `cgroup.subtree_control` of all those above it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::Root;

use crate::directory::Directory;
use crate::error::About;
use crate::group::Place;
use crate::{Error, Result, v2};

/// What each directory may give to those below it.
const CONTROL: &str = "cgroup.subtree_control";

/// Controllers that work on whole processes: a directory in thread mode cannot have them (cgroups(7)).
const DOMAIN: [&str; 3] = ["memory", "io", "hugetlb"];

/// Gives the new directory every controller that the hierarchy has, as runc does.
///
/// Where one cannot be given the directory goes without, and a limit that needs it fails when it is written.
pub(crate) fn enable(root: &Root, place: &Place, resources: &LinuxResources) -> Result<()> {
    let directory = place.open()?;
    let top = at(root, place, Path::new(""))?;
    let wanted = read(&top)?;
    let missing = without(&wanted, &read(directory)?);
    if missing.is_empty() {
        return Ok(());
    }
    let mut path = PathBuf::new();
    give(&top, &missing, resources)?;
    for name in place.path.parent().into_iter().flatten() {
        path.push(name);
        give(&at(root, place, &path)?, &missing, resources)?;
    }
    check_kind(directory, resources)
}

/// The names that `cgroup.controllers` has.
pub(crate) fn read(directory: &Directory) -> Result<Vec<String>> {
    let text = directory.read("cgroup.controllers").about("reading a cgroup's controllers")?;
    Ok(text.split_whitespace().map(String::from).collect())
}

fn without(all: &[String], had: &[String]) -> Vec<String> {
    all.iter().filter(|one| !had.contains(one)).cloned().collect()
}

fn at(root: &Root, place: &Place, path: &Path) -> Result<Directory> {
    let fd = root.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).about("opening a cgroup")?;
    Ok(Directory::new(fd, place.mount.join(path)))
}

/// Gives these controllers to the directories below: all at once, or one by one where the kernel refuses some.
///
/// A directory with processes of its own refuses (`EBUSY`) those that work on whole processes, and with one of the others it
/// turns threaded and what is below it invalid: then only what a limit needs is given.
fn give(directory: &Directory, names: &[String], resources: &LinuxResources) -> Result<()> {
    let all: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
    let Err(refused) = directory.write(CONTROL, &all.join(" ")) else { return Ok(()) };
    if refused.errno != Errno::BUSY {
        for one in &all {
            let _ = directory.write(CONTROL, one);
        }
        return Ok(());
    }
    let settings = v2::settings(resources, &v2::Now::default())?;
    let needed = |name: &&String| settings.iter().any(|one| one.controller == **name);
    let needed: Vec<&String> = names.iter().filter(needed).collect();
    if needed.iter().any(|name| DOMAIN.contains(&name.as_str())) {
        let kind = directory.read("cgroup.type").unwrap_or_default().trim().to_string();
        return Err(Error::Kind {
            path: directory.path().into(),
            kind,
            why: "it has processes of its own, so its cgroup.subtree_control cannot give memory, io or hugetlb",
        });
    }
    for name in needed {
        let _ = directory.write(CONTROL, &format!("+{name}"));
    }
    Ok(())
}

/// Thread mode: what needs whole processes is refused; a directory that is merely invalid is made threaded, as runc does.
fn check_kind(directory: &Directory, resources: &LinuxResources) -> Result<()> {
    let kind = directory.read("cgroup.type").about("reading a cgroup's type")?;
    let kind = kind.trim();
    if kind == "domain" {
        return Ok(());
    }
    let settings = v2::settings(resources, &v2::Now::default())?;
    if settings.iter().any(|one| DOMAIN.contains(&one.controller.as_ref())) {
        return Err(Error::Kind {
            path: directory.path().into(),
            kind: kind.into(),
            why: "limits of memory, io and hugetlb need a domain",
        });
    }
    if kind == "domain invalid" {
        directory.write("cgroup.type", "threaded").about("making a cgroup threaded")?;
    }
    Ok(())
}

/// Why this controller is not in `directory`: for a message.
pub(crate) fn why_missing(directory: &Directory) -> String {
    let path = directory.path();
    let parent = path.parent().unwrap_or(path);
    format!("{path:?} does not have (see {:?})", parent.join(CONTROL))
}

/// A process that could not enter: why, in the words of cgroups(7).
pub(crate) fn why_not_entered(directory: &Directory, source: sys::Error) -> Error {
    let kind = directory.read("cgroup.type").unwrap_or_default().trim().to_string();
    let why = match source.errno {
        Errno::BUSY => "it has given controllers to cgroups below it, so it cannot have processes",
        Errno::OPNOTSUPP => "it cannot have processes",
        _ => return Error::Call { what: "entering a cgroup", source },
    };
    Error::Kind { path: directory.path().into(), kind, why }
}
