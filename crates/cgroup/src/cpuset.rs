//! Version 1: a new cpuset is empty, and nothing may enter it until it has processors and memory nodes.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use crate::Result;
use crate::directory::Directory;
use crate::error::About;
use crate::group::Place;

/// Fills `cpuset.cpus` and `cpuset.mems` of the new group and of the empty ones above it from those that have some.
///
/// What the configuration sets is left to be written as a limit: a parent's processors might be exclusive to another.
pub(crate) fn inherit(place: &Place, resources: &LinuxResources) -> Result<()> {
    let cpu = resources.cpu().as_ref();
    let set = |value: Option<&String>| value.is_some_and(|text| !text.is_empty());
    let own = place.open()?;
    let above = place.path.parent().unwrap_or(Path::new(""));
    let parent = Directory::open(&place.mount, above).about("opening a cgroup")?;
    for (file, given) in [
        ("cpuset.cpus", set(cpu.and_then(|cpu| cpu.cpus().as_ref()))),
        ("cpuset.mems", set(cpu.and_then(|cpu| cpu.mems().as_ref()))),
    ] {
        let value = filled(place, &parent, above, file)?;
        if !given && own.read(file).about("reading a cpuset")?.trim().is_empty() {
            own.write(file, &value).about("filling a cpuset")?;
        }
    }
    Ok(())
}

/// The value of `file` at `path`, filled from above where it is empty.
fn filled(place: &Place, directory: &Directory, path: &Path, file: &str) -> Result<String> {
    let value = directory.read(file).about("reading a cpuset")?.trim().to_string();
    let Some(above) = path.parent().filter(|_| value.is_empty()) else { return Ok(value) };
    let parent = Directory::open(&place.mount, above).about("opening a cgroup")?;
    let value = filled(place, &parent, above, file)?;
    directory.write(file, &value).about("filling a cpuset")?;
    Ok(value)
}
