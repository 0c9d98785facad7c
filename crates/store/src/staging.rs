//! `staging/`: half-made things, each under a lock that its maker's death frees.
//!
//! A file is its own lock. A directory `X` is locked by `X.lock` beside it, made before and removed after it. What is
//! not locked is a dead process's: whoever opens the store next removes it. After locking, the inode is compared, for
//! a sweeper or the maker may have removed the file that was opened.
//!
//! A container's lock file holds an intent, its id and name: between the two renames of a creation or a removal the
//! directory is without a name, or the name without a directory. Whoever finds the lock free finishes the job.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};

use rustix::fs::OFlags;
use sys::lock::{Kind, Lock};
use sys::{Call, Root};

use crate::files::{About, Durable};
use crate::{Result, Store, files, remove_tree};

/// The most bytes of an intent: an id and a name.
const INTENT_LIMIT: u64 = 512;
const READ_WRITE: OFlags = OFlags::RDWR.union(OFlags::CREATE);

/// A name in the staging area that goes with its guard.
#[derive(Debug)]
struct Guard {
    dir: Root,
    name: Option<String>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // What stays is swept by the next call.
            let _ = files::unlink(&self.dir, &name);
        }
    }
}

/// A file in the making; dropped unpublished, it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    // Dropped in this order: the name goes while the lock is still held.
    guard: Guard,
    lock: Lock,
}

impl Staged {
    /// A new empty file in the staging directory of the store at `dir`.
    pub(crate) fn file(dir: &Root) -> Result<Self> {
        loop {
            let name = format!("staging/{}", files::random_hex(8)?);
            let flags = READ_WRITE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = File::from(dir.open(&name, flags, files::PRIVATE_FILE).about(&name)?);
            let lock = Lock::wait(file, Kind::Exclusive).about(&name)?;
            // A sweeper that came between open and lock has unlinked it.
            if files::stat(lock.file()).about(&name)?.st_nlink > 0 {
                let dir = dir.try_clone().about(&name)?;
                return Ok(Self { guard: Guard { dir, name: Some(name) }, lock });
            }
        }
    }

    /// Appends.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut file = self.lock.file();
        let name = self.guard.name.as_deref().unwrap_or_default();
        file.write_all(bytes).call("write", || format!("{} bytes", bytes.len())).about(name)
    }

    /// The file.
    pub(crate) fn file_ref(&self) -> &File {
        self.lock.file()
    }

    /// Gives the file its name where nothing has it; false where something has.
    pub(crate) fn publish_new(mut self, target: &str, durable: Durable) -> Result<bool> {
        if durable == Durable::Yes {
            files::sync(self.lock.file(), target)?;
        }
        let Some(name) = self.guard.name.as_deref() else { return Ok(false) };
        if !files::rename_new(&self.guard.dir, name, &self.guard.dir, target)? {
            return Ok(false);
        }
        self.guard.name = None;
        if durable == Durable::Yes {
            files::sync_parent(&self.guard.dir, target)?;
        }
        Ok(true)
    }

    /// Puts the file, still locked, in the place of whatever is at `target`.
    pub(crate) fn replace(mut self, target: &str) -> Result<Lock> {
        if let Some(name) = self.guard.name.as_deref() {
            files::rename(&self.guard.dir, name, &self.guard.dir, target)?;
        }
        self.guard.name = None;
        Ok(self.lock)
    }
}

/// A directory in the making; dropped unpublished, it is removed.
#[derive(Debug)]
pub(crate) struct StagedDir {
    store: Store,
    key: String,
    tree: Root,
    lock: Option<Lock>,
}

impl StagedDir {
    /// A new empty directory that nobody waits for.
    pub(crate) fn new(store: &Store) -> Result<Self> {
        let key = files::random_hex(8)?;
        let lock = lock_key(store, &key)?;
        Self::under(store, key, lock)
    }

    /// Takes the lock of `key`, waiting for its holder; then the caller looks whether the work is done already.
    pub(crate) fn claim(store: &Store, key: &str) -> Result<Lock> {
        lock_key(store, key)
    }

    /// A new empty directory under a lock had by [`StagedDir::claim`]; what a dead holder left there is removed.
    pub(crate) fn under(store: &Store, key: String, lock: Lock) -> Result<Self> {
        let path = format!("staging/{key}");
        remove_tree(store.dir(), &path)?;
        files::make_dir(store.dir(), &path)?;
        let tree = store.dir().open_dir(&path).about(&path)?;
        Ok(Self { store: store.clone(), key, tree, lock: Some(lock) })
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Root {
        &self.tree
    }

    /// Its path relative to the store.
    pub(crate) fn path(&self) -> String {
        format!("staging/{}", self.key)
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(mut self) -> Result<()> {
        self.release()
    }

    /// Renames the directory to `target` unless something is there; false then, and it is removed.
    pub(crate) fn publish(self, target: &str) -> Result<bool> {
        self.publish_then(target, || Ok(()))
    }

    /// As [`StagedDir::publish`], with something to do before the lock is freed.
    pub(crate) fn publish_then(mut self, target: &str, then: impl FnOnce() -> Result<()>) -> Result<bool> {
        let fresh = files::rename_new(self.store.dir(), &self.path(), self.store.dir(), target)?;
        if fresh && let Err(e) = then() {
            // The lock file stays, free, with the intent: the next call settles it.
            self.lock = None;
            return Err(e);
        }
        self.release()?;
        Ok(fresh)
    }

    /// Notes which container this is about to become.
    pub(crate) fn intend(&self, id: &str, name: &str) -> Result<()> {
        self.lock.as_ref().map_or(Ok(()), |lock| intend(lock, id, name))
    }

    fn release(&mut self) -> Result<()> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        remove_tree(self.store.dir(), self.path())?;
        release_key(&self.store, &self.key, lock)
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        // What stays is swept by the next call.
        let _ = self.release();
    }
}

/// Moves something that was published into the staging area and removes it there: gone at once for everybody else.
///
/// Nothing there is no failure.
pub(crate) fn discard(store: &Store, path: &str) -> Result<()> {
    if files::found(files::lstat(store.dir(), path)).about(path)?.is_none() {
        return Ok(());
    }
    let key = files::random_hex(8)?;
    let lock = lock_key(store, &key)?;
    let removed =
        move_here(store, path, &key).and_then(|()| remove_tree(store.dir(), format!("staging/{key}")));
    released(removed, store, &key, lock)
}

/// As [`discard`], unless `keep` says why not; no container is made or removed while it looks.
pub(crate) fn discard_unless(store: &Store, path: &str, keep: impl FnOnce() -> Result<()>) -> Result<()> {
    let key = files::random_hex(8)?;
    let lock = lock_key(store, &key)?;
    // After the staging lock, as a sweeper takes them.
    let moved = store.lock_names().and_then(|_names| {
        keep()?;
        move_here(store, path, &key)
    });
    if let Err(e) = moved {
        release_key(store, &key, lock)?;
        return Err(e);
    }
    released(remove_tree(store.dir(), format!("staging/{key}")), store, &key, lock)
}

/// Removes a container's directory and then frees its name, both or, after a death, the rest by a sweeper.
///
/// The name is the one it has by then: `name`, or what it was renamed to.
pub(crate) fn discard_container(store: &Store, id: &str, name: &str) -> Result<()> {
    let key = files::random_hex(8)?;
    let lock = lock_key(store, &key)?;
    // After the staging lock, as a sweeper takes them.
    let gone = store.lock_names().and_then(|_names| {
        let name = store.name_of_id(id, name)?.unwrap_or_else(|| name.into());
        intend(&lock, id, &name)?;
        move_here(store, &format!("containers/{id}"), &key)?;
        store.free_name(&name, id)
    });
    let removed = gone.and_then(|()| remove_tree(store.dir(), format!("staging/{key}")));
    released(removed, store, &key, lock)
}

fn move_here(store: &Store, path: &str, key: &str) -> Result<()> {
    let moved = rustix::fs::renameat(store.dir(), path, store.dir(), format!("staging/{key}"));
    files::found(moved.call("rename", || format!("{path:?}"))).about(path).map(|_| ())
}

/// Frees the lock; its file stays where something stays under it.
fn released(removed: Result<()>, store: &Store, key: &str, lock: Lock) -> Result<()> {
    removed?;
    release_key(store, key, lock)
}

fn intend(lock: &Lock, id: &str, name: &str) -> Result<()> {
    let mut file = lock.file();
    file.write_all(format!("{id} {name}").as_bytes()).call("write", String::new).about("staging")
}

/// Finishes what a dead process intended with a container: none without a name, no name without one.
fn settle(store: &Store, lock: &Lock) -> Result<()> {
    let mut text = String::new();
    lock.file().take(INTENT_LIMIT).read_to_string(&mut text).call("read", String::new).about("staging")?;
    let Some((id, name)) = text.split_once(' ').filter(|(id, _)| crate::names::is_id(id)) else {
        return Ok(());
    };
    let _names = store.lock_names()?;
    if !store.has_container(id)? {
        return store.free_name(name, id);
    }
    match store.name_of_id(id, name)? {
        Some(_) => Ok(()),
        None => discard(store, &format!("containers/{id}")),
    }
}

/// Gives up the lock of `key`; nothing lies under it any more.
pub(crate) fn release_key(store: &Store, key: &str, lock: Lock) -> Result<()> {
    let gone = files::unlink(store.dir(), &format!("staging/{key}.lock"));
    drop(lock);
    gone
}

fn lock_key(store: &Store, key: &str) -> Result<Lock> {
    let path = format!("staging/{key}.lock");
    loop {
        let Some((file, stat)) = files::open_regular_with(store.dir(), &path, READ_WRITE)? else { continue };
        let lock = Lock::wait(file, Kind::Exclusive).about(&path)?;
        if files::is_named(store.dir(), &path, &stat)? {
            return Ok(lock);
        }
    }
}

/// Removes what dead processes left. What cannot be removed, for it is mounted say, stays for `check` to report.
pub(crate) fn sweep(store: &Store) -> Result<()> {
    for key in keys(store)? {
        let _ = sweep_one(store, &key);
    }
    Ok(())
}

/// The names in the staging area, a directory and its lock being one.
pub(crate) fn keys(store: &Store) -> Result<BTreeSet<String>> {
    let names = files::names_in(store.dir(), "staging")?;
    Ok(names.into_iter().map(|name| name.strip_suffix(".lock").map(str::to_string).unwrap_or(name)).collect())
}

/// Removes one thing unless its maker lives; false where it does.
pub(crate) fn sweep_one(store: &Store, key: &str) -> Result<bool> {
    let path = format!("staging/{key}");
    let lock_path = format!("{path}.lock");
    let staged = files::found(files::lstat(store.dir(), &path)).about(&path)?;
    let is_file = staged.is_some_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
    let lock_path = if is_file { path.clone() } else { lock_path };
    let flags = if is_file { OFlags::RDWR } else { READ_WRITE };
    let Some((file, stat)) = files::open_regular_with(store.dir(), &lock_path, flags)? else {
        return Ok(true);
    };
    let Ok(lock) = Lock::attempt(file, Kind::Exclusive).about(&lock_path)? else { return Ok(false) };
    if !files::is_named(store.dir(), &lock_path, &stat)? {
        return Ok(true);
    }
    if !is_file {
        settle(store, &lock)?;
        remove_tree(store.dir(), &path)?;
    }
    files::unlink(store.dir(), &lock_path)?;
    drop(lock);
    Ok(true)
}

/// Whether nobody holds the lock of something that is there.
pub(crate) fn is_dead(store: &Store, key: &str) -> Result<bool> {
    let path = format!("staging/{key}");
    let lock_path = format!("{path}.lock");
    for path in [lock_path, path] {
        match files::open_regular(store.dir(), &path) {
            Ok(Some((file, _))) => return Ok(!sys::lock::is_held(&file).about(&path)?),
            Ok(None) => {}
            // A directory whose lock file is missing.
            Err(crate::Error::WrongKind { .. }) => return Ok(true),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}
