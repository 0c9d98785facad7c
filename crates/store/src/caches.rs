//! Caches of builds: `caches/<name>/`, with directories that outlive runs and containers.
//!
//! - Each has a directory `0`; a run that wants one to itself (`sharing=private`) takes `1` and so on while that is in use.
//! - Who uses a cache holds its `lock`, shared, and the lock of the directory beside that (`0.lock`) until the run ends. Death
//!   frees both. Nobody removes a cache that is in use.
//! - `lock` was changed when the cache was last taken.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use descriptor::Digest;
use descriptor::moment::now;
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::Call;
use sys::lock::{Kind, Lock};

use crate::files::About;
use crate::staging::{StagedDir, discard_unless};
use crate::{DOCUMENT_LIMIT, Error, Result, Store, files};

/// The directory of all caches.
const CACHES: &str = "caches";
/// The most runs with directories of one cache to themselves at a time.
const SLOTS: u32 = 1024;
/// An id longer than this is no name of a directory.
const NAME_BYTES: usize = 64;
/// What comes before the digest of an id that is no name.
const BY_DIGEST: &str = "sha256-";

/// Who may use a cache at the same time (docker build's `sharing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// One after the other.
    Locked,
    /// Whoever comes while it is in use gets another directory.
    Private,
    /// Everybody.
    Shared,
}

/// A cache of the store.
#[derive(Debug, Clone)]
pub struct Cache {
    store: Store,
    name: String,
    record: CacheDoc,
    used: SystemTime,
}

/// cache.json.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheDoc {
    id: String,
    created_at: String,
}

/// A directory of a cache, in use while this value lives.
#[derive(Debug)]
pub struct HeldCache {
    path: PathBuf,
    locks: [Lock; 2],
}

impl HeldCache {
    /// The absolute path of the directory.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The descriptors that hold it.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.locks.iter().map(|lock| lock.file().as_raw_fd())
    }
}

impl Cache {
    /// What it is called on command lines.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// When it was last taken.
    pub fn used(&self) -> SystemTime {
        self.used
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The path of all its files, relative to the store.
    pub fn relative(&self) -> String {
        relative(&self.name)
    }

    /// Whether a run has it.
    ///
    /// # Errors
    /// A failed call.
    pub fn is_in_use(&self) -> Result<bool> {
        let path = format!("{}/lock", self.relative());
        let Some((file, _)) = files::open_regular_with(self.store.dir(), &path, OFlags::RDWR)? else {
            return Ok(false);
        };
        Ok(Lock::attempt(file, Kind::Exclusive).about(&path)?.is_err())
    }
}

impl Store {
    /// Takes a directory of the cache of an id, which is made where there is none, with this mode and owner. `wait` is called
    /// before it is waited for.
    ///
    /// # Errors
    /// A failed call; `EAGAIN` where more runs than can be want one to themselves.
    pub fn hold_cache(
        &self,
        id: &str,
        sharing: Sharing,
        (mode, uid, gid): (u32, u32, u32),
        wait: impl FnOnce(),
    ) -> Result<HeldCache> {
        let name = name_of(id);
        let lock = self.cache_lock(&name, id)?;
        let (slot, slot_lock) = self.slot(&name, sharing, wait)?;
        let path = format!("{}/{slot}", relative(&name));
        if crate::files::found(self.dir().open_dir(&path)).about(&path)?.is_none() {
            let staged = StagedDir::new(self)?;
            rustix::fs::fchown(staged.root(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .call("fchown", || format!("{uid}:{gid}"))
                .about(&path)?;
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::fchmod(staged.root(), mode).call("fchmod", || format!("{mode:?}")).about(&path)?;
            // Somebody who shares it may have been quicker.
            staged.publish(&path)?;
        }
        Ok(HeldCache { path: self.path().join(path), locks: [lock, slot_lock] })
    }

    /// All caches, by name. What is half there is passed over.
    ///
    /// # Errors
    /// A failed call.
    pub fn caches(&self) -> Result<Vec<Cache>> {
        let mut all = Vec::new();
        for name in files::names_in(self.dir(), CACHES)? {
            let (record, lock) =
                (format!("{}/cache.json", relative(&name)), format!("{}/lock", relative(&name)));
            let Some(bytes) = files::read_bounded(self.dir(), &record, DOCUMENT_LIMIT)? else { continue };
            let Some((_, stat)) = files::open_regular(self.dir(), &lock)? else { continue };
            let Ok(record) = serde_json::from_slice(&bytes) else { continue };
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(stat.st_mtime.try_into().unwrap_or(0));
            all.push(Cache { store: self.clone(), name, record, used });
        }
        Ok(all)
    }

    /// Removes a cache with all that is in it; false where a run has it.
    ///
    /// # Errors
    /// A failed call.
    pub fn remove_cache(&self, cache: &Cache) -> Result<bool> {
        let path = cache.relative();
        let lock_path = format!("{path}/lock");
        let Some((file, stat)) = files::open_regular_with(self.dir(), &lock_path, OFlags::RDWR)? else {
            return Ok(true);
        };
        let Ok(_lock) = Lock::attempt(file, Kind::Exclusive).about(&lock_path)? else { return Ok(false) };
        if files::is_named(self.dir(), &lock_path, &stat)? {
            discard_unless(self, &path, || Ok(()))?;
        }
        Ok(true)
    }

    /// The lock of a cache, shared; the cache is made where there is none.
    fn cache_lock(&self, name: &str, id: &str) -> Result<Lock> {
        let path = relative(name);
        let lock_path = format!("{path}/lock");
        loop {
            if let Some((file, stat)) = files::open_regular_with(self.dir(), &lock_path, OFlags::RDWR)? {
                let lock = Lock::wait(file, Kind::Shared).about(&lock_path)?;
                if files::is_named(self.dir(), &lock_path, &stat)? {
                    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
                    let times = Timestamps { last_access: now, last_modification: now };
                    rustix::fs::futimens(lock.file(), &times)
                        .call("futimens", String::new)
                        .about(&lock_path)?;
                    return Ok(lock);
                }
                continue;
            }
            files::make_dir(self.dir(), CACHES)?;
            let staged = StagedDir::new(self)?;
            let record = CacheDoc { id: id.into(), created_at: now() };
            let json = serde_json::to_vec(&record).map_err(|e| Error::document("cache.json", e))?;
            files::create(staged.root(), "cache.json", &json)?;
            files::create(staged.root(), "lock", b"")?;
            files::sync_files(staged.root())?;
            staged.publish(&path)?;
        }
    }

    /// The number of a directory, and its lock.
    fn slot(&self, name: &str, sharing: Sharing, wait: impl FnOnce()) -> Result<(u32, Lock)> {
        let kind = if sharing == Sharing::Shared { Kind::Shared } else { Kind::Exclusive };
        let slots = if sharing == Sharing::Private { SLOTS } else { 1 };
        let path = |slot: u32| format!("{}/{slot}.lock", relative(name));
        let mut last: Option<File> = None;
        for slot in 0..slots {
            let path = path(slot);
            let flags = OFlags::RDWR | OFlags::CREATE;
            let Some((file, _)) = files::open_regular_with(self.dir(), &path, flags)? else { break };
            match Lock::attempt(file, kind).about(&path)? {
                Ok(lock) => return Ok((slot, lock)),
                Err(file) => last = Some(file),
            }
        }
        match last {
            Some(file) if sharing != Sharing::Private => {
                wait();
                Lock::wait(file, kind).about(path(0)).map(|lock| (0, lock))
            }
            _ => Err(sys::Error::new("fcntl", "F_OFD_SETLK", Errno::AGAIN)).about(path(0)),
        }
    }
}

fn relative(name: &str) -> String {
    format!("{CACHES}/{name}")
}

/// The directory's name: the id where that is a plain one, else its digest.
fn name_of(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_plain = (1..=NAME_BYTES).contains(&id.len())
        && id.bytes().all(plain)
        && !id.starts_with(['.', '-'])
        && !id.starts_with(BY_DIGEST);
    if is_plain { id.into() } else { format!("{BY_DIGEST}{}", Digest::of(id.as_bytes()).hex()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_becomes_a_name_that_no_other_id_has() {
        assert_eq!(name_of("pip-3.12"), "pip-3.12");
        for id in ["/root/.cache", "..", ".", "", "a/b", "sha256-x", &"x".repeat(65)] {
            assert_eq!(name_of(id), format!("sha256-{}", Digest::of(id.as_bytes()).hex()), "{id}");
        }
    }

    #[test]
    fn a_cache_in_use_is_not_removed_and_one_that_is_not_goes_with_all_its_directories() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(Some(&dir.path().join("store"))).expect("a store");
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let hold = |sharing| {
            store
                .hold_cache("/root/.m2", sharing, (0o750, own.0, own.1), || panic!("it waits"))
                .expect("hold")
        };
        let (first, second) = (hold(Sharing::Private), hold(Sharing::Private));
        assert_ne!(first.path(), second.path());
        std::fs::write(second.path().join("f"), "x").expect("write");
        drop(first);
        let cache = store.caches().expect("caches").pop().expect("one");
        assert_eq!(cache.id(), "/root/.m2");
        assert!(cache.is_in_use().expect("look") && !store.remove_cache(&cache).expect("remove"));
        assert!(second.path().join("f").exists());
        drop(second);
        assert!(!cache.is_in_use().expect("look") && store.remove_cache(&cache).expect("remove"));
        assert!(store.caches().expect("caches").is_empty());
        // Gone already, and made again.
        assert!(store.remove_cache(&cache).expect("remove"));
        let again = hold(Sharing::Shared);
        assert!(again.path().ends_with("0") && hold(Sharing::Shared).path() == again.path());
    }
}
