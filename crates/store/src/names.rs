//! `names/<name>`: a symlink to the container of that name; its target's last part is the id.
//!
//! All changes are made under one lock. A name whose container is gone belongs to nobody.

use descriptor::Digest;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use sys::Call;
use sys::lock::Lock;

use crate::event::{Event, Subject};
use crate::files::About;
use crate::index::lock_file;
use crate::{Error, Result, Store, files};

/// The lock of whoever changes names; no name begins with a dot.
const LOCK: &str = "names/.lock";
/// The most bytes of a name: what a directory entry holds.
const LONGEST: usize = 255;

/// Words that mean something else where a name may stand: the verbs of oci-spawn, runc's and those beyond it, and the lists
/// of oci-inspect.
const RESERVED: [&str; 34] = [
    "attach",
    "checkpoint",
    "containers",
    "create",
    "delete",
    "df",
    "diff",
    "events",
    "exec",
    "features",
    "history",
    "images",
    "init",
    "kill",
    "layers",
    "list",
    "logs",
    "pause",
    "ps",
    "restart",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "stats",
    "stop",
    "top",
    "tree",
    "unpause",
    "update",
    "volumes",
    "wait",
];

/// Checks a container's name: `[a-zA-Z0-9_+][a-zA-Z0-9_+.-]*`, at most 255 bytes (runc's rule, but no dash in front), no word
/// that is a verb and nothing that could be an id.
///
/// # Errors
/// [`Error::BadName`] with the rule it breaks.
pub fn check_name(name: &str) -> Result<()> {
    let bad = |why| Err(Error::BadName { name: name.chars().take(LONGEST).collect(), why });
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'.' | b'-');
    match name.as_bytes() {
        [] => bad("it is empty"),
        [b'.', ..] => bad("it begins with a dot"),
        [b'-', ..] => bad("it begins with a dash, as options do"),
        all if all.len() > LONGEST => bad("it is longer than 255 bytes"),
        all if !all.iter().all(|&b| legal(b)) => bad("it may have letters, digits and _ + . - only"),
        _ if RESERVED.contains(&name) => bad("it is a word of oci-spawn or oci-inspect"),
        _ if is_id(name) => bad("64 hexadecimal digits are an id"),
        _ => Ok(()),
    }
}

/// Whether a text is a container's id: 64 lower-case hexadecimal digits.
pub(crate) fn is_id(text: &str) -> bool {
    Digest::from_hex(text).is_ok()
}

impl Store {
    pub(crate) fn lock_names(&self) -> Result<Lock> {
        lock_file(self, LOCK)
    }

    /// The id a name leads to, whether or not that container is there.
    pub(crate) fn id_of_name(&self, name: &str) -> Result<Option<String>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = format!("names/{name}");
        match rustix::fs::readlinkat(self.dir(), &path, Vec::new()) {
            Ok(target) => {
                let target = target.to_string_lossy().into_owned();
                let id = target.rsplit_once('/').map_or(&*target, |(_, id)| id);
                Ok(is_id(id).then(|| id.to_string()))
            }
            // EINVAL: no symlink (readlink(2)).
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno).call("readlink", String::new).about(path),
        }
    }

    /// All names with the ids they lead to, in order.
    ///
    /// # Errors
    /// A failed call.
    pub fn names(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for name in files::names_in(self.dir(), "names")? {
            if let Some(id) = self.id_of_name(&name)? {
                all.push((name, id));
            }
        }
        Ok(all)
    }

    /// The name of a container, the one it was created with looked at first.
    pub(crate) fn name_of_id(&self, id: &str, first: &str) -> Result<Option<String>> {
        if self.id_of_name(first)?.as_deref() == Some(id) {
            return Ok(Some(first.into()));
        }
        Ok(self.names()?.into_iter().find(|(_, of)| of == id).map(|(name, _)| name))
    }

    /// Writes a name that nobody has; the caller holds the lock and has looked.
    pub(crate) fn write_name(&self, name: &str, id: &str) -> Result<()> {
        let path = format!("names/{name}");
        let target = format!("../containers/{id}");
        let side = "names/.new";
        files::unlink(self.dir(), side)?;
        rustix::fs::symlinkat(&target, self.dir(), side)
            .call("symlink", || format!("{target:?}"))
            .about(&path)?;
        files::rename(self.dir(), side, self.dir(), &path)
    }

    /// Gives a container another name; its id stays.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NameTaken`], [`Error::NoContainer`], or a failed call.
    pub fn rename_container(&self, from: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let lock = self.lock_names()?;
        let id = self.id_of_name(from)?.ok_or_else(|| Error::NoContainer(from.into()))?;
        self.rename_locked(&id, from, to, lock)
    }

    /// As [`Store::rename_container`], for a container whose name may have been changed since it was found.
    pub(crate) fn rename_id(&self, id: &str, known: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let lock = self.lock_names()?;
        let missing = || Error::NoContainer(id.into());
        let from = match self.has_container(id)? {
            true => self.name_of_id(id, known)?.ok_or_else(missing)?,
            false => return Err(missing()),
        };
        self.rename_locked(id, &from, to, lock)
    }

    /// One rename in names/: at any moment the container has the one name or the other.
    fn rename_locked(&self, id: &str, from: &str, to: &str, lock: Lock) -> Result<()> {
        self.must_be_free(to)?;
        let (old, new) = (format!("names/{from}"), format!("names/{to}"));
        files::rename(self.dir(), &old, self.dir(), &new)?;
        files::sync_parent(self.dir(), &new)?;
        drop(lock);
        self.note(&Event::new(Subject::Container, "rename", id, to).with("oldName", from));
        Ok(())
    }

    /// Refuses a name that belongs to a container that is there.
    pub(crate) fn must_be_free(&self, name: &str) -> Result<()> {
        match self.id_of_name(name)? {
            Some(holder) if self.has_container(&holder)? => {
                Err(Error::NameTaken { name: name.into(), holder })
            }
            _ => Ok(()),
        }
    }

    /// Frees a name, unless it leads to another container by now.
    pub(crate) fn free_name(&self, name: &str, id: &str) -> Result<()> {
        if self.id_of_name(name)?.as_deref() != Some(id) {
            return Ok(());
        }
        let path = format!("names/{name}");
        let gone =
            rustix::fs::unlinkat(self.dir(), &path, AtFlags::empty()).call("unlink", || format!("{path:?}"));
        files::found(gone).about(&path).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_typed_where_options_and_ids_stand() {
        for name in ["web", "a-b", "_x", "+x", "0123456789ab", "a.b"] {
            check_name(name).expect(name);
        }
        for name in ["", ".x", "-x", "-", "--rm", "a b", "a/b", "stop", &"ab".repeat(32), &"x".repeat(256)] {
            check_name(name).expect_err(name);
        }
    }
}
