//! `linux.cgroupsPath` as systemd's driver reads it: `slice:prefix:name`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The prefix of scopes that the configuration does not name.
const PREFIX: &str = "oci-spawn";
/// systemd.unit(5): a unit's name is no longer.
const LONGEST_BYTES: usize = 255;

/// A scope, or a slice of its own, that holds a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// Its name.
    pub(crate) name: String,
    /// The slice that it is in.
    pub(crate) slice: String,
    /// It is the user's manager's, not the system's.
    pub(crate) user: bool,
}

impl Unit {
    /// The unit that a path names, `system.slice:oci-spawn:ID` where there is none (`user.slice` for a user).
    ///
    /// # Errors
    /// [`Error::Path`] for a path of another form, or names that systemd does not take.
    pub(crate) fn of(path: Option<&Path>, id: &str, user: bool) -> Result<Self> {
        let refused = |why| Error::Path { path: path.unwrap_or(Path::new("")).into(), why };
        let usual = if user { "user.slice" } else { "system.slice" };
        let Some(given) = path else {
            return Ok(Self { name: format!("{PREFIX}-{id}.scope"), slice: usual.into(), user });
        };
        let text = given.to_str().ok_or_else(|| refused("is no text"))?;
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(refused("is not of the form slice:prefix:name, which systemd's driver needs"));
        };
        let slice = if slice.is_empty() { usual } else { slice };
        let name = match (prefix, name) {
            (_, name) if name.ends_with(".slice") => name.to_string(),
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        let unit = Self { name, slice: slice.into(), user };
        if !is_name(&unit.name, &[".scope", ".slice"]) || !is_name(&unit.slice, &[".slice"]) {
            return Err(refused("has a name that is none of a unit (systemd.unit(5))"));
        }
        unit.expanded().ok_or_else(|| refused("has a slice whose name is none (systemd.slice(5))"))?;
        Ok(unit)
    }

    /// True for a slice, which holds no processes of its own.
    pub(crate) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Its directory below the manager's own: a slice `a-b.slice` is in `a.slice`.
    pub(crate) fn directory(&self) -> PathBuf {
        self.expanded().unwrap_or_default().join(&self.name)
    }

    fn expanded(&self) -> Option<PathBuf> {
        let name = self.slice.strip_suffix(".slice")?;
        let mut path = PathBuf::new();
        if name == "-" {
            return Some(path);
        }
        let mut prefix = String::new();
        for part in name.split('-') {
            if part.is_empty() {
                return None;
            }
            if !prefix.is_empty() {
                prefix.push('-');
            }
            prefix.push_str(part);
            path.push(format!("{prefix}.slice"));
        }
        Some(path)
    }
}

/// The characters of systemd.unit(5), and one of the endings.
fn is_name(name: &str, endings: &[&str]) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    name.len() <= LONGEST_BYTES
        && name.chars().all(plain)
        && endings.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_slice_and_scope() {
        for (path, unit, directory) in [
            (None, "oci-spawn-id.scope", "system.slice/oci-spawn-id.scope"),
            (Some("machine.slice:libpod:abc"), "libpod-abc.scope", "machine.slice/libpod-abc.scope"),
            (Some(":cri:abc"), "cri-abc.scope", "system.slice/cri-abc.scope"),
            (Some("a-b-c.slice:x:y"), "x-y.scope", "a.slice/a-b.slice/a-b-c.slice/x-y.scope"),
            (Some("-.slice::y"), "y.scope", "y.scope"),
            (Some("a.slice:x:a-y.slice"), "a-y.slice", "a.slice/a-y.slice"),
        ] {
            let found = Unit::of(path.map(Path::new), "id", false).expect("a unit");
            assert_eq!(
                (found.name.as_str(), found.directory()),
                (unit, PathBuf::from(directory)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn paths_of_other_forms_are_refused() {
        for path in [
            "/a/b",
            "a.slice:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a--b.slice:b:c",
            "../x.slice:b:c",
            "a.slice:b:../c",
            "a.slice:b:c d",
        ] {
            assert!(Unit::of(Some(Path::new(path)), "id", false).is_err(), "{path}");
        }
    }
}
