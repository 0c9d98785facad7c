//! Repairing what a check found: what can be had again is removed, what cannot is moved aside or named.
//!
//! Everything is judged again under the locks of whoever works on it, moved by a rename, and removed without following a link.

use descriptor::{Digest, Status};
use sys::lock::{Kind, Lock};

use crate::blobs::blob_path;
use crate::containers::{LOST_INSTANCE, read_create};
use crate::files::{About, found};
use crate::reach::Reach;
use crate::staging::discard;
use crate::{Error, Finding, Result, State, Store, files, names};

/// What a repair does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: only a person can, or another command.
    Nothing,
    /// The blob is removed; the next pull fetches it.
    Blob,
    /// The tree is removed; the next unpack makes it.
    Tree,
    /// The copy of the tag is removed.
    Ref,
    /// The tag is taken from `refs/`.
    Tag,
    /// index.json is moved aside; the new one has the tags of `refs/`.
    Index,
    /// The name is freed.
    Name,
    /// The container becomes removable, or is moved aside.
    Container,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// It is in order now, or gone.
    Done(&'static str),
    /// It is in `damaged/` under this name.
    Aside(String),
    /// It is as it was, and why.
    Stays(String),
}

impl Store {
    /// Does what can be done about a finding.
    ///
    /// # Errors
    /// A failed call.
    pub fn repair(&self, finding: &Finding) -> Result<Repaired> {
        let what = &*finding.what;
        let name = what.rsplit('/').next().unwrap_or_default();
        match finding.remedy {
            Remedy::Nothing => Ok(Repaired::Stays("nothing that a repair could do".into())),
            Remedy::Blob => self.repair_blob(name),
            Remedy::Tree => self.repair_tree(what),
            Remedy::Ref => {
                self.remove_bad_ref(what).map(|()| Repaired::Done("removed; index.json has the tag"))
            }
            Remedy::Tag => self.take_from_refs(what).map(|()| Repaired::Done("taken from refs/")),
            Remedy::Index => self
                .replace_bad_index()
                .map(|()| Repaired::Done("made again from refs/; the old one is in damaged/")),
            Remedy::Name => self.repair_name(name),
            Remedy::Container => self.repair_container(name),
        }
    }

    fn repair_blob(&self, name: &str) -> Result<Repaired> {
        let Ok(digest) = Digest::from_hex(name) else { return Ok(Repaired::Stays("no blob of ours".into())) };
        // Nobody begins to rely on it meanwhile.
        let _lock = self.lock_leases(Kind::Exclusive)?;
        match self.check_blob(&digest) {
            Ok(_) => return Ok(Repaired::Done("is whole by now")),
            Err(Error::NoBlob(_)) => return Ok(Repaired::Done("is gone by now")),
            // Bytes that the disk does not give are as good as wrong ones.
            Err(_) => discard(self, &blob_path(&digest))?,
        }
        Ok(Repaired::Done("removed; the next pull fetches it again"))
    }

    fn repair_tree(&self, path: &str) -> Result<Repaired> {
        let Ok(digest) = Digest::from_hex(path.rsplit('/').next().unwrap_or_default()) else {
            return Ok(Repaired::Stays("no tree of ours".into()));
        };
        let _lock = self.lock_leases(Kind::Exclusive)?;
        let mut reach = Reach::new(self);
        reach.held_leases()?;
        if reach.follow().is_err() || reach.has(&digest) {
            return Ok(Repaired::Stays("a command is using it".into()));
        }
        // Held until the tree is gone: none of them is mounted meanwhile.
        let mut locks = Vec::new();
        for id in files::names_in(self.dir(), "containers")? {
            let mut reach = Reach::new(self);
            let needs = reach.container(&id).is_err() || reach.has(&digest);
            if needs && !self.is_idle(&id, &mut locks)? {
                return Ok(Repaired::Stays(format!(
                    "container {id} has it mounted; stop and unmount that first"
                )));
            }
        }
        discard(self, path)?;
        Ok(Repaired::Done("removed; oci-unpack makes it again"))
    }

    /// Whether a container neither runs nor is mounted nor being worked on; its lock is kept.
    fn is_idle(&self, id: &str, locks: &mut Vec<Lock>) -> Result<bool> {
        let Ok(container) = self.container(id) else { return Ok(!self.is_mounted(id)) };
        let Ok(Some(lock)) = container.try_lock() else { return Ok(false) };
        locks.push(lock);
        let runs = container.state().is_ok_and(|s| matches!(s.now(), Status::Running | Status::Paused));
        Ok(!runs && !self.is_mounted(id))
    }

    /// Whether something is mounted in a container's directory, as far as this mount namespace shows.
    fn is_mounted(&self, id: &str) -> bool {
        let at = self.path().join("containers").join(id);
        let at = at.to_string_lossy();
        // proc(5): what is not printable is escaped there; ids are, and no other path ends in one.
        let mounts = crate::open::read_proc("/proc/self/mountinfo");
        mounts.is_empty()
            || mounts.lines().any(|line| line.contains(&*at) || line.contains(&format!("/{id}/")))
    }

    fn repair_name(&self, name: &str) -> Result<Repaired> {
        let _names = self.lock_names()?;
        match self.id_of_name(name)? {
            Some(id) if self.has_container(&id)? => return Ok(Repaired::Done("leads to a container by now")),
            Some(id) => self.free_name(name, &id)?,
            None => discard(self, &format!("names/{name}"))?,
        }
        Ok(Repaired::Done("removed"))
    }

    fn repair_container(&self, id: &str) -> Result<Repaired> {
        if !names::is_id(id) {
            return Ok(Repaired::Stays("its name is no id".into()));
        }
        if self.is_mounted(id) {
            return Ok(Repaired::Stays("something is mounted in it; unmount it first".into()));
        }
        let path = format!("containers/{id}");
        let lock =
            match files::open_regular_with(self.dir(), format!("{path}/lock"), rustix::fs::OFlags::RDWR) {
                Ok(Some((file, _))) => match Lock::attempt(file, Kind::Exclusive).about(&path)? {
                    Ok(lock) => Some(lock),
                    Err(_) => return Ok(Repaired::Stays("somebody is working on it".into())),
                },
                // Without a lock nobody can.
                Ok(None) | Err(Error::WrongKind { .. }) => None,
                Err(e) => return Err(e),
            };
        match read_create(self, id) {
            Ok(doc) => {
                self.forget_bad_state(id)?;
                if lock.is_some() {
                    return self.name_again(id, &doc.name);
                }
            }
            Err(Error::NoContainer(_)) => return Ok(Repaired::Done("is gone by now")),
            Err(e) if e.is_damage() => {}
            Err(e) => return Err(e),
        }
        let _names = self.lock_names()?;
        let aside = self.move_aside(&path)?;
        for (name, of) in self.names()? {
            if of == id {
                self.free_name(&name, id)?;
            }
        }
        Ok(Repaired::Aside(aside))
    }

    /// A state that cannot be read becomes that of a container which stopped, nobody knows how.
    fn forget_bad_state(&self, id: &str) -> Result<()> {
        if crate::containers::read_state(self, id).is_ok() {
            return Ok(());
        }
        let path = format!("containers/{id}");
        let mut state = State::created(LOST_INSTANCE);
        state.set_stopped(None);
        let json = serde_json::to_vec(&state).map_err(|e| Error::document("state.json", e))?;
        let dir = self.dir().open_dir(&path).about(&path)?;
        let strange = found(files::lstat(&dir, "state.json")).about(&path)?;
        if strange.is_some_and(|stat| files::must_be_regular(&stat, &path).is_err()) {
            discard(self, &format!("{path}/state.json"))?;
        }
        files::replace(&dir, "state.json", &json, files::Durable::Yes)
    }

    /// A container without a name gets the one it was made with, or one by its id.
    fn name_again(&self, id: &str, name: &str) -> Result<Repaired> {
        let _names = self.lock_names()?;
        if self.name_of_id(id, name)?.is_some() {
            return Ok(Repaired::Done("can be removed now"));
        }
        let found = format!("found-{}", &id[..12]);
        let fits = names::check_name(name).is_ok() && self.must_be_free(name).is_ok();
        self.write_name(if fits { name } else { &found }, id)?;
        Ok(Repaired::Done("has a name again and can be removed"))
    }

    /// Renames something into `damaged/`; returns its name there.
    pub(crate) fn move_aside(&self, path: &str) -> Result<String> {
        files::make_dir(self.dir(), "damaged")?;
        let name = format!("{}-{}", path.rsplit('/').next().unwrap_or_default(), files::random_hex(4)?);
        files::rename(self.dir(), path, self.dir(), &format!("damaged/{name}"))?;
        Ok(name)
    }
}
