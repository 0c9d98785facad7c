//! Containers: `containers/<id>/`, an OCI bundle with create.json, init/, upper/, work/, rootfs/, files/, state and log.
//!
//! - The id is the sha256 of create.json, the canonical form of the user's choices, the name among them.
//! - Made: the directory first, then the name. Removed: renamed away first, then the name is freed. A directory without a
//!   name and a name without a directory are what a death in between leaves; neither is a container.
//! - state.json is replaced whole, under the container's lock.

use std::collections::BTreeMap;
use std::path::PathBuf;

use descriptor::{ContainerLine, Digest};
use rustix::fs::OFlags;
use sys::Root;
use sys::lock::{Kind, Lock};

pub use crate::create::{Mount, Process};
use crate::event::{Event, Subject};
use crate::files::{About, Durable, found};
use crate::staging::{StagedDir, discard, discard_container};
use crate::{CreateDoc, DOCUMENT_LIMIT, DocumentFault, Error, Result, State, Store, files, names};

/// The directories of a bundle.
const DIRECTORIES: [&str; 5] = ["init", "upper", "work", "rootfs", "files"];
/// The most bytes of state.json.
const STATE_LIMIT: u64 = 64 << 10;
/// The instance of a container whose state a power cut took: no line names it any more, its name and id still do.
pub(crate) const LOST_INSTANCE: &str = "lost";
/// The fewest digits by which a container may be named.
const SHORTEST_ID: usize = 4;

/// A container in the making, private; dropped unpublished, it is removed.
#[derive(Debug)]
pub struct ContainerDraft {
    store: Store,
    staged: StagedDir,
    id: String,
    doc: CreateDoc,
    instance: String,
    durable: Durable,
}

/// A container of the store.
#[derive(Debug, Clone)]
pub struct Container {
    store: Store,
    id: String,
    name: String,
    instance: String,
}

impl Store {
    /// Begins a container: a bundle with create.json and empty init/, upper/, work/, rootfs/ and files/.
    ///
    /// # Errors
    /// [`Error::BadName`] and [`Error::NameTaken`] before anything is done, or a failed call.
    pub fn draft_container(&self, doc: &CreateDoc) -> Result<ContainerDraft> {
        names::check_name(&doc.name)?;
        self.must_be_free(&doc.name)?;
        self.draft_successor(doc)
    }

    /// As [`Store::draft_container`], for a name that may be taken until [`ContainerDraft::publish`].
    ///
    /// # Errors
    /// [`Error::BadName`], or a failed call.
    pub fn draft_successor(&self, doc: &CreateDoc) -> Result<ContainerDraft> {
        names::check_name(&doc.name)?;
        let doc = self.distinct(doc)?;
        let json = doc.to_bytes()?;
        let id = Digest::of(&json).hex();
        let staged = StagedDir::new(self)?;
        for name in DIRECTORIES {
            files::make_dir(staged.root(), name)?;
        }
        let instance = files::random_hex(8)?;
        let state =
            serde_json::to_vec(&State::created(&*instance)).map_err(|e| Error::document("state.json", e))?;
        for (name, bytes) in [("create.json", &json[..]), ("state.json", &state), ("lock", b"")] {
            files::create(staged.root(), name, bytes)?;
        }
        // What is removed after its first use is not kept through a power cut.
        let durable = if doc.auto_remove { Durable::No } else { Durable::Yes };
        Ok(ContainerDraft { store: self.clone(), staged, id, doc, instance, durable })
    }

    /// The container of a name, an id, or at least four digits that only one id begins with.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::Ambiguous`], or a failed call.
    pub fn container(&self, name_or_id: &str) -> Result<Container> {
        let missing = || Error::NoContainer(name_or_id.chars().take(255).collect());
        if let Some(id) = self.id_of_name(name_or_id)?
            && let Some(container) = self.open_container(&id, Some(name_or_id))?
        {
            return Ok(container);
        }
        if names::is_id(name_or_id) {
            return self.open_container(name_or_id, None)?.ok_or_else(missing);
        }
        let is_prefix = name_or_id.len() >= SHORTEST_ID && name_or_id.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_prefix {
            return Err(missing());
        }
        let ids = files::names_in(self.dir(), "containers")?;
        let fitting: Vec<_> =
            ids.iter().filter(|id| names::is_id(id) && id.starts_with(name_or_id)).collect();
        match fitting[..] {
            [] => Err(missing()),
            [id] => self.open_container(id, None)?.ok_or_else(missing),
            _ => Err(Error::Ambiguous { prefix: name_or_id.into(), count: fitting.len() }),
        }
    }

    /// All containers, by name. What is half-made is left to [`Store::check`].
    ///
    /// # Errors
    /// A failed call.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let mut all = Vec::new();
        for (name, id) in self.names()? {
            match self.open_container(&id, Some(&name)) {
                Ok(container) => all.extend(container),
                // Damaged, or removed since the names were read.
                Err(e) if e.is_damage() || matches!(e, Error::NoContainer(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    /// The container of a line: by its digest, of this store, and the very creation the line speaks of.
    ///
    /// # Errors
    /// [`Error::OtherStore`], [`Error::OtherInstance`], [`Error::NoContainer`], or a failed call.
    pub fn resolve_line(&self, line: &ContainerLine) -> Result<Container> {
        self.owns(Some(&line.store))?;
        let id = line.digest.hex();
        let container = self.open_container(&id, None)?.ok_or_else(|| Error::NoContainer(id.clone()))?;
        if container.instance == line.instance { Ok(container) } else { Err(Error::OtherInstance { id }) }
    }

    /// The document, with a number where a container of the same choices was renamed since: its id is taken, its name not.
    fn distinct(&self, doc: &CreateDoc) -> Result<CreateDoc> {
        let mut doc = doc.clone();
        loop {
            match self.open_container(&doc.id()?, None) {
                Ok(Some(other)) if other.name != doc.name => doc.again = Some(doc.again.unwrap_or(1) + 1),
                // Half-made, damaged or just removed: for the publication to judge.
                Ok(_) | Err(Error::Document { .. } | Error::WrongKind { .. } | Error::NoContainer(_)) => {
                    return Ok(doc);
                }
                Err(e) => return Err(e),
            }
        }
    }

    pub(crate) fn has_container(&self, id: &str) -> Result<bool> {
        let path = format!("containers/{id}");
        Ok(found(files::lstat(self.dir(), &path)).about(&path)?.is_some())
    }

    /// A container that has both a directory and a name.
    fn open_container(&self, id: &str, name: Option<&str>) -> Result<Option<Container>> {
        if !self.has_container(id)? {
            return Ok(None);
        }
        let name = match name {
            Some(name) => Some(name.to_string()),
            None => self.name_of_id(id, &read_create(self, id)?.name)?,
        };
        let Some(name) = name else { return Ok(None) };
        let instance = read_state(self, id)?.instance;
        Ok(Some(Container { store: self.clone(), id: id.into(), name, instance }))
    }
}

pub(crate) fn read_create(store: &Store, id: &str) -> Result<CreateDoc> {
    let path = format!("containers/{id}/create.json");
    let rule = |text: &str| Error::document(&path, DocumentFault::Rule(text.into()));
    let Some(bytes) = files::read_bounded(store.dir(), &path, DOCUMENT_LIMIT)? else {
        // Removed since it was found, or damaged.
        return Err(if store.has_container(id)? {
            rule("is missing")
        } else {
            Error::NoContainer(id.into())
        });
    };
    if Digest::of(&bytes).hex() != id {
        return Err(rule("does not hash to the container's id"));
    }
    serde_json::from_slice(&bytes).map_err(|e| Error::document(&path, e))
}

pub(crate) fn read_state(store: &Store, id: &str) -> Result<State> {
    let path = format!("containers/{id}/state.json");
    let Some(bytes) = files::read_bounded(store.dir(), &path, STATE_LIMIT)? else {
        let damaged = || Error::document(&path, DocumentFault::Rule("is missing".into()));
        return Err(if store.has_container(id)? { damaged() } else { Error::NoContainer(id.into()) });
    };
    if bytes.iter().all(|byte| *byte == 0) {
        // Replaced without an fsync, and cut off from power: whatever ran has ended.
        let mut state = State::created(LOST_INSTANCE);
        state.set_stopped(None);
        return Ok(state);
    }
    serde_json::from_slice(&bytes).map_err(|e| Error::document(&path, e))
}

impl ContainerDraft {
    /// The container's directory.
    pub fn root(&self) -> &Root {
        self.staged.root()
    }

    /// Its absolute path until it is published.
    pub fn path(&self) -> PathBuf {
        self.store.path().join(self.staged.path())
    }

    /// The path it will have.
    pub fn final_path(&self) -> PathBuf {
        self.store.path().join("containers").join(&self.id)
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Random for each creation.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Writes a file of the bundle, config.json or plan.json say.
    ///
    /// # Errors
    /// A failed call.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        files::create(self.root(), name, bytes)
    }

    /// Says more of the state that it begins with.
    ///
    /// # Errors
    /// A failed call.
    pub fn begin_with(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = State::created(&*self.instance);
        change(&mut state);
        let json = serde_json::to_vec(&state).map_err(|e| Error::document("state.json", e))?;
        files::replace(self.root(), "state.json", &json, Durable::No)
    }

    /// Makes the container visible: its directory first, then its name.
    ///
    /// # Errors
    /// [`Error::NameTaken`] with the holder's id, [`Error::Exists`], or a failed call; nothing is left then.
    pub fn publish(self) -> Result<Container> {
        let Self { store, staged, id, doc, instance, durable } = self;
        let name = doc.name.clone();
        if durable == Durable::Yes {
            files::sync_files(staged.root())?;
        }
        let _lock = store.lock_names()?;
        store.must_be_free(&name)?;
        store.must_have_volumes(&doc)?;
        let path = format!("containers/{id}");
        if store.has_container(&id)? {
            match store.open_container(&id, None) {
                Ok(Some(_)) => return Err(Error::Exists { id }),
                // A directory without a name: its maker died before it was a container.
                Ok(None) | Err(Error::Document { .. } | Error::WrongKind { .. }) => discard(&store, &path)?,
                Err(e) => return Err(e),
            }
        }
        staged.intend(&id, &name)?;
        let fresh = staged.publish_then(&path, || {
            if durable == Durable::Yes {
                files::sync_parent(store.dir(), &path)?;
            }
            store.write_name(&name, &id)?;
            if durable == Durable::Yes { files::sync_parent(store.dir(), "names/") } else { Ok(()) }
        })?;
        if !fresh {
            return Err(Error::Exists { id });
        }
        let image = doc.image.map(|image| image.to_string()).unwrap_or_default();
        store.note(
            &Event::new(Subject::Container, "create", &*id, &*name)
                .with_all(&doc.labels)
                .with("image", image),
        );
        Ok(Container { store, id, name, instance })
    }
}

impl Container {
    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name when it was looked up.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Random for each creation.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The bundle's absolute path.
    pub fn path(&self) -> PathBuf {
        self.store.path().join(self.relative())
    }

    /// The bundle.
    ///
    /// # Errors
    /// A failed call; `ENOENT` where it was removed.
    pub fn root(&self) -> Result<Root> {
        self.store.dir().open_dir(self.relative()).about(self.relative())
    }

    /// What the user chose.
    ///
    /// # Errors
    /// [`Error::Document`] where create.json is damaged.
    pub fn create(&self) -> Result<CreateDoc> {
        read_create(&self.store, &self.id)
    }

    /// A JSON document of the bundle, config.json say; none where it has none.
    ///
    /// # Errors
    /// [`Error::Document`] where it is no JSON, or a failed call.
    pub fn document(&self, name: &str) -> Result<Option<serde_json::Value>> {
        let path = format!("{}/{name}", self.relative());
        let Some(bytes) = files::read_bounded(self.store.dir(), &path, DOCUMENT_LIMIT)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::document(&path, e))
    }

    /// Its state as it was last written; [`State::now`] is what is true.
    ///
    /// # Errors
    /// [`Error::Document`] where state.json is damaged, [`Error::OtherInstance`] where the container was made again.
    pub fn state(&self) -> Result<State> {
        let state = read_state(&self.store, &self.id)?;
        if state.instance == self.instance {
            Ok(state)
        } else {
            Err(Error::OtherInstance { id: self.id.clone() })
        }
    }

    /// Writes its state; the caller holds [`Container::lock`].
    ///
    /// # Errors
    /// A failed call.
    pub fn set_state(&self, state: &State) -> Result<()> {
        let json = serde_json::to_vec(state).map_err(|e| Error::document("state.json", e))?;
        if json.len() as u64 > STATE_LIMIT {
            // Nobody could read it, nor remove the container.
            return Err(Error::TooLarge { what: "state.json".into(), limit: STATE_LIMIT });
        }
        files::replace(&self.root()?, "state.json", &json, Durable::No)
    }

    /// Waits for the container's lock.
    ///
    /// # Errors
    /// [`Error::NoContainer`] where it was removed meanwhile, or a failed call.
    pub fn lock(&self) -> Result<Lock> {
        let (path, file) = self.lock_file()?;
        let lock = Lock::wait(file, Kind::Exclusive).about(&path)?;
        self.still_there(&path, &lock)?;
        Ok(lock)
    }

    /// Takes the container's lock if nobody holds it.
    ///
    /// # Errors
    /// As [`Container::lock`].
    pub fn try_lock(&self) -> Result<Option<Lock>> {
        let (path, file) = self.lock_file()?;
        let Ok(lock) = Lock::attempt(file, Kind::Exclusive).about(&path)? else { return Ok(None) };
        self.still_there(&path, &lock)?;
        Ok(Some(lock))
    }

    /// Its line, with a status that is true now.
    ///
    /// # Errors
    /// As [`Container::create`] and [`Container::state`].
    pub fn line(&self) -> Result<ContainerLine> {
        let doc = self.create()?;
        let state = self.settle()?;
        let digest = Digest::from_hex(&self.id).map_err(|_| Error::NoContainer(self.id.clone()))?;
        Ok(ContainerLine {
            digest,
            size: doc.to_bytes()?.len() as u64,
            annotations: BTreeMap::new(),
            store: self.store.path().into(),
            id: self.id.clone(),
            instance: self.instance.clone(),
            name: self.name.clone(),
            bundle: self.path(),
            rootfs: self.path().join("rootfs"),
            mounted: state
                .mount
                .as_ref()
                .is_some_and(|mount| crate::state::boot_id().as_ref() == Some(&mount.boot_id)),
            image: doc.image,
            status: state.now(),
            exit_code: state.exit_code,
            given_up: state.given_up,
        })
    }

    /// Gives it another name, whatever its state; who has it open by its id notices nothing.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NameTaken`], [`Error::NoContainer`] where it was removed, [`Error::OtherInstance`] where
    /// it was made again, or a failed call.
    pub fn rename(&self, to: &str) -> Result<Self> {
        self.state()?;
        self.store.rename_id(&self.id, &self.name, to)?;
        Ok(Self { name: to.into(), ..self.clone() })
    }

    /// Removes the container's files and frees its name; the caller holds its lock and has unmounted its root.
    ///
    /// # Errors
    /// A failed call: `EXDEV` or `EBUSY` where something is still mounted inside, whose files stay.
    pub fn remove(self) -> Result<()> {
        let doc = self.create().ok();
        discard_container(&self.store, &self.id, &self.name)?;
        let doc = doc.unwrap_or_default();
        let event = Event::new(Subject::Container, "destroy", &*self.id, &*self.name).with_all(&doc.labels);
        self.store.note(&event);
        // A one-off takes along what nobody else has a name for.
        let is_nameless = |mount: &Mount| mount.kind == "volume" && mount.source.is_none();
        if doc.auto_remove && doc.mounts.iter().any(is_nameless) {
            self.store.remove_volumes_of(&self.id)?;
        }
        Ok(())
    }

    fn relative(&self) -> String {
        format!("containers/{}", self.id)
    }

    fn lock_file(&self) -> Result<(String, std::fs::File)> {
        let path = format!("{}/lock", self.relative());
        let opened = files::open_regular_with(self.store.dir(), &path, OFlags::RDWR)?;
        let (file, _) = opened.ok_or_else(|| Error::NoContainer(self.id.clone()))?;
        Ok((path, file))
    }

    fn still_there(&self, path: &str, lock: &Lock) -> Result<()> {
        let stat = files::stat(lock.file()).about(path)?;
        if files::is_named(self.store.dir(), path, &stat)? {
            Ok(())
        } else {
            Err(Error::NoContainer(self.id.clone()))
        }
    }
}
