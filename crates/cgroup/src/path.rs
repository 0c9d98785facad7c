//! `linux.cgroupsPath` as a path below a hierarchy's top.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// A path below a hierarchy's top: no `.`, no `..`, no leading slash.
///
/// `..` above the top stays at the top, as in a chroot, so that `/../../x` is `x`: what runc makes of it.
///
/// # Errors
/// [`Error::Path`] for a path that names the top itself, where a container's limits would be everyone's.
pub(crate) fn below(path: &Path) -> Result<PathBuf> {
    let clean = normal(path);
    if clean.as_os_str().is_empty() {
        return Err(Error::Path { path: path.into(), why: "names the top of the hierarchy" });
    }
    Ok(clean)
}

/// The normal components of `path`, each `..` taking one away where there is one.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut names: Vec<&OsStr> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names.iter().collect()
}

/// A path below the group that `exec --cgroup` names: empty, or one that may not go up.
///
/// # Errors
/// [`Error::Path`] where it would leave the group.
pub(crate) fn sub(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir if clean.pop() => {}
            _ => return Err(Error::Path { path: path.into(), why: "leaves the container's cgroup" }),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_leaves_the_hierarchy() {
        for (given, expected) in [
            ("/a/b", "a/b"),
            ("a/b", "a/b"),
            ("/../../x", "x"),
            ("../../x", "x"),
            ("/a/../../../b", "b"),
            ("/./a//b/.", "a/b"),
            ("a/../b/../c", "c"),
        ] {
            assert_eq!(below(Path::new(given)).expect(given), Path::new(expected), "{given}");
        }
    }

    #[test]
    fn the_top_is_no_group_of_a_container() {
        for given in ["", "/", "/..", "../..", ".", "/a/.."] {
            assert!(matches!(below(Path::new(given)), Err(Error::Path { .. })), "{given:?}");
        }
    }

    #[test]
    fn a_sub_path_stays_in_the_group() {
        for (given, expected) in [("", ""), ("/", ""), ("a/b", "a/b"), ("/a/../b", "b"), (".", "")] {
            assert_eq!(sub(Path::new(given)).expect(given), Path::new(expected), "{given}");
        }
        for given in ["..", "a/../..", "/../x"] {
            assert!(matches!(sub(Path::new(given)), Err(Error::Path { .. })), "{given:?}");
        }
    }
}
