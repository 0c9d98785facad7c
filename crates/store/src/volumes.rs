//! Named volumes: `volumes/<name>/`, with the files in `_data/`, volume.json and a lock beside them.
//!
//! - Made whole in the staging area, then renamed to its name; removed by a rename the other way.
//! - A container that exists speaks for the volumes its create.json names. Before it exists, and for a run that nothing
//!   records, whoever makes use of a volume holds its lock, shared: nobody removes it meanwhile.
//! - An image's content is copied into a volume that has none: to `filling/`, which is called `filled/` once it is whole,
//!   and from there, entry by entry, to `_data/`. A death in between is made good by the next that fills it.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use descriptor::moment::now;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::lock::{Kind, Lock};
use sys::{Call, Root};

use crate::event::{Event, Subject};
use crate::files::{About, found};
use crate::staging::{StagedDir, discard_unless};
use crate::{DOCUMENT_LIMIT, Error, Result, Store, containers, files, names, remove_tree};

/// The directory of all volumes.
const VOLUMES: &str = "volumes";
/// The directory of a volume that is mounted, docker's name for it.
const DATA: &str = "_data";
/// A copy that is being made, and one that is whole.
const FILLING: &str = "filling";
const FILLED: &str = "filled";
/// The most bytes of a name: what a directory entry holds.
const LONGEST: usize = 255;
/// What a container's processes, whoever they are, may do in a new volume: look.
const DATA_MODE: Mode = Mode::from_raw_mode(0o755);
/// Bytes of randomness in the name of a volume that was given none.
const ANONYMOUS: usize = 32;

/// A volume of the store.
#[derive(Debug, Clone)]
pub struct Volume {
    store: Store,
    name: String,
    record: VolumeDoc,
    /// Keeps it from being removed.
    _hold: Option<Arc<Lock>>,
}

/// volume.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeDoc {
    /// When it was made, RFC 3339 with nanoseconds, UTC.
    pub created_at: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Of a volume that was given no name: the container it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Nobody chose its name, and it was made for no container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nameless: bool,
    /// What a version that knows more wrote.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// Checks a volume's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*` (docker's rule), at most 255 bytes.
///
/// # Errors
/// [`Error::BadVolumeName`] with the rule it breaks.
pub fn check_name(name: &str) -> Result<()> {
    let bad = |why| Err(Error::BadVolumeName { name: name.chars().take(LONGEST).collect(), why });
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    match name.as_bytes() {
        [] => bad("it is empty"),
        all if all.len() > LONGEST => bad("it is longer than 255 bytes"),
        [first, ..] if !first.is_ascii_alphanumeric() => bad("it begins with neither a letter nor a digit"),
        all if !all.iter().all(|&b| legal(b)) => bad("it may have letters, digits and _ . - only"),
        _ => Ok(()),
    }
}

impl Store {
    /// The volume of a name.
    ///
    /// # Errors
    /// [`Error::BadVolumeName`], [`Error::NoVolume`], [`Error::Document`] where volume.json is damaged, or a failed call.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        check_name(name)?;
        self.open_volume(name, None)?.ok_or_else(|| Error::NoVolume(name.into()))
    }

    /// The volume of a name, made where there is none; labels are a new one's. It is not removed while the value lives.
    ///
    /// # Errors
    /// [`Error::BadVolumeName`], or a failed call.
    pub fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<Volume> {
        check_name(name)?;
        self.make_volume(name, VolumeDoc { labels: labels.clone(), ..VolumeDoc::default() })
    }

    /// A volume of a name that nobody chose, 64 hexadecimal digits, for nobody yet.
    ///
    /// # Errors
    /// A failed call.
    pub fn create_nameless_volume(&self, labels: &BTreeMap<String, String>) -> Result<Volume> {
        let record = VolumeDoc { labels: labels.clone(), nameless: true, ..VolumeDoc::default() };
        self.make_volume(&files::random_hex(ANONYMOUS)?, record)
    }

    /// A volume of a name that nobody chose, 64 hexadecimal digits, for the container of the id; the two go together.
    ///
    /// # Errors
    /// A failed call.
    pub fn create_anonymous_volume(
        &self,
        container: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume> {
        let container = Some(container.into());
        let record = VolumeDoc { labels: labels.clone(), container, ..VolumeDoc::default() };
        self.make_volume(&files::random_hex(ANONYMOUS)?, record)
    }

    /// All volumes, by name. What is damaged is left to [`Store::check`].
    ///
    /// # Errors
    /// A failed call.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let mut all = Vec::new();
        for name in files::names_in(self.dir(), VOLUMES)? {
            if check_name(&name).is_err() {
                continue;
            }
            match self.open_volume(&name, None) {
                Ok(volume) => all.extend(volume),
                Err(e) if e.is_damage() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    /// Removes a volume with all that is in it.
    ///
    /// # Errors
    /// [`Error::NoVolume`], [`Error::VolumeInUse`] with the containers that name it, or a failed call.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let path = format!("{VOLUMES}/{name}");
        let missing = || Error::NoVolume(name.into());
        let lock_path = format!("{path}/lock");
        let (file, stat) =
            files::open_regular_with(self.dir(), &lock_path, OFlags::RDWR)?.ok_or_else(missing)?;
        let Ok(_lock) = Lock::attempt(file, Kind::Exclusive).about(&lock_path)? else {
            return Err(Error::VolumeInUse { name: name.into(), by: Vec::new() });
        };
        if !files::is_named(self.dir(), &lock_path, &stat)? {
            return Err(missing());
        }
        let container =
            self.open_volume(name, None).ok().flatten().and_then(|volume| volume.record.container);
        discard_unless(self, &path, || match &self.users_of(name, container.as_deref())?[..] {
            [] => Ok(()),
            by => Err(Error::VolumeInUse { name: name.into(), by: by.to_vec() }),
        })?;
        self.note(&Event::new(Subject::Volume, "destroy", name, ""));
        Ok(())
    }

    /// Removes the nameless volumes that were made for a container that is gone; what is in use stays.
    ///
    /// # Errors
    /// A failed call.
    pub fn remove_volumes_of(&self, container: &str) -> Result<()> {
        for volume in self.volumes()? {
            if volume.record.container.as_deref() != Some(container) {
                continue;
            }
            match self.remove_volume(&volume.name) {
                Ok(()) | Err(Error::NoVolume(_) | Error::VolumeInUse { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Refuses a container that names a volume that is not there; the caller holds the lock of the names.
    pub(crate) fn must_have_volumes(&self, doc: &crate::CreateDoc) -> Result<()> {
        for name in named_by(doc) {
            let path = format!("{VOLUMES}/{name}");
            if found(files::lstat(self.dir(), &path)).about(&path)?.is_none() {
                return Err(Error::NoVolume(name.into()));
            }
        }
        Ok(())
    }

    fn make_volume(&self, name: &str, record: VolumeDoc) -> Result<Volume> {
        let record = VolumeDoc { created_at: now(), ..record };
        let json = serde_json::to_vec(&record).map_err(|e| Error::document("volume.json", e))?;
        loop {
            if let Some(volume) = self.hold_volume(name)? {
                return Ok(volume);
            }
            // A store made by an earlier version has no such directory.
            files::make_dir(self.dir(), VOLUMES)?;
            let staged = StagedDir::new(self)?;
            files::make_dir(staged.root(), DATA)?;
            rustix::fs::chmodat(staged.root(), DATA, DATA_MODE, AtFlags::empty())
                .call("fchmodat", || format!("{DATA:?}"))
                .about(name)?;
            files::create(staged.root(), "volume.json", &json)?;
            files::create(staged.root(), "lock", b"")?;
            files::sync_files(staged.root())?;
            let path = format!("{VOLUMES}/{name}");
            if staged.publish_then(&path, || files::sync_parent(self.dir(), &path))? {
                self.note(&Event::new(Subject::Volume, "create", name, "").with_all(&record.labels));
            }
        }
    }

    /// A volume with its lock, shared; none where there is none, or none any more.
    fn hold_volume(&self, name: &str) -> Result<Option<Volume>> {
        let path = format!("{VOLUMES}/{name}/lock");
        let Some((file, stat)) = files::open_regular(self.dir(), &path)? else { return Ok(None) };
        let lock = Lock::wait(file, Kind::Shared).about(&path)?;
        if !files::is_named(self.dir(), &path, &stat)? {
            return Ok(None);
        }
        self.open_volume(name, Some(Arc::new(lock)))
    }

    fn open_volume(&self, name: &str, hold: Option<Arc<Lock>>) -> Result<Option<Volume>> {
        let path = format!("{VOLUMES}/{name}/volume.json");
        let Some(bytes) = files::read_bounded(self.dir(), &path, DOCUMENT_LIMIT)? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).map_err(|e| Error::document(&path, e))?;
        Ok(Some(Volume { store: self.clone(), name: name.into(), record, _hold: hold }))
    }

    /// The names of the containers that name a volume, or for which it was made.
    fn users_of(&self, volume: &str, container: Option<&str>) -> Result<Vec<String>> {
        let mut users = Vec::new();
        for (name, id) in self.names()? {
            if !self.has_container(&id)? {
                continue;
            }
            let is_user = match containers::read_create(self, &id) {
                Ok(doc) => container == Some(&*id) || named_by(&doc).any(|named| named == volume),
                // Removed since it was looked at.
                Err(_) if !self.has_container(&id)? => false,
                // Who knows what it names.
                Err(e) => return Err(e),
            };
            if is_user {
                users.push(name);
            }
        }
        Ok(users)
    }
}

/// The volumes that a container names.
fn named_by(doc: &crate::CreateDoc) -> impl Iterator<Item = &str> {
    let volumes = doc.mounts.iter().filter(|mount| mount.kind == "volume");
    volumes.filter_map(|mount| mount.source.as_deref()).filter(|name| check_name(name).is_ok())
}

impl Volume {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is known about it.
    pub fn doc(&self) -> &VolumeDoc {
        &self.record
    }

    /// True where nobody chose its name.
    pub fn is_anonymous(&self) -> bool {
        self.record.nameless || self.record.container.is_some()
    }

    /// The absolute path of its files.
    pub fn path(&self) -> PathBuf {
        self.store.path().join(self.relative()).join(DATA)
    }

    /// Its files.
    ///
    /// # Errors
    /// A failed call; `ENOENT` where it was removed.
    pub fn root(&self) -> Result<Root> {
        let path = format!("{}/{DATA}", self.relative());
        self.store.dir().open_dir(&path).about(&path)
    }

    /// The names of the containers that make use of it.
    ///
    /// # Errors
    /// A failed call, or a container whose create.json is damaged.
    pub fn users(&self) -> Result<Vec<String>> {
        self.store.users_of(&self.name, self.record.container.as_deref())
    }

    /// Copies content into the volume where it has none, as docker does with what an image has where a volume is mounted.
    ///
    /// `copy` gets an empty directory; that directory's owner, mode and time of change become the volume's, also where it
    /// stays empty. It is not called for a volume that has files. What a dead process left unfinished is finished here.
    /// The inner result is what `copy` returned.
    ///
    /// # Errors
    /// A failed call.
    pub fn fill<E>(
        &self,
        copy: impl FnOnce(&Root) -> std::result::Result<(), E>,
    ) -> Result<std::result::Result<(), E>> {
        let dir = self.store.dir().open_dir(self.relative()).about(self.relative())?;
        let flags = OFlags::RDWR | OFlags::CREATE;
        let (file, _) = files::open_regular_with(&dir, "fill.lock", flags)?
            .ok_or_else(|| Error::NoVolume(self.name.clone()))?;
        let _lock = Lock::wait(file, Kind::Exclusive).about("fill.lock")?;
        if found(files::lstat(&dir, FILLED)).about(FILLED)?.is_none() {
            if !files::names_in(&dir, DATA)?.is_empty() {
                return Ok(Ok(()));
            }
            remove_tree(&dir, FILLING)?;
            files::make_dir(&dir, FILLING)?;
            let filling = dir.open_dir(FILLING).about(FILLING)?;
            if let Err(e) = copy(&filling) {
                remove_tree(&dir, FILLING)?;
                return Ok(Err(e));
            }
            rustix::fs::syncfs(&filling).call("syncfs", String::new).about(FILLING)?;
            files::rename(&dir, FILLING, &dir, FILLED)?;
        }
        move_in(&dir).map(Ok)
    }

    fn relative(&self) -> String {
        format!("{VOLUMES}/{}", self.name)
    }
}

/// Moves what is in `filled/` to where containers see it; a name that somebody took meanwhile stays as it is.
fn move_in(dir: &Root) -> Result<()> {
    let from = dir.open_dir(FILLED).about(FILLED)?;
    let to = dir.open_dir(DATA).about(DATA)?;
    let looks = files::stat(&from).about(FILLED)?;
    for name in crate::remove::names(from.as_fd()).about(FILLED)? {
        match rustix::fs::renameat_with(&from, &name, &to, &name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).call("renameat2", || format!("{name:?}")).about(DATA),
        }
    }
    let (owner, group) = (Uid::from_raw(looks.st_uid), Gid::from_raw(looks.st_gid));
    rustix::fs::fchown(&to, Some(owner), Some(group)).call("fchown", String::new).about(DATA)?;
    let mode = Mode::from_raw_mode(looks.st_mode & 0o7777);
    rustix::fs::fchmod(&to, mode).call("fchmod", String::new).about(DATA)?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(looks.st_atime as _, looks.st_atime_nsec as _),
        last_modification: time(looks.st_mtime as _, looks.st_mtime_nsec as _),
    };
    rustix::fs::futimens(&to, &times).call("futimens", String::new).about(DATA)?;
    remove_tree(dir, FILLED)
}

/// Whether a text is the name of a volume that nobody chose.
pub fn is_anonymous_name(name: &str) -> bool {
    names::is_id(name)
}
