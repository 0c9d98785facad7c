//! What the store's roots need: leases, names of images, containers, and all that these lead to.
//!
//! A document leads to every digest that stands in it, wherever that is: too much is kept rather than too little. One set
//! holds digests of blobs, diffIDs and chainIDs alike.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use descriptor::Digest;
use rustix::fs::{OFlags, Stat};
use serde_json::Value;
use sys::Call;
use sys::lock::{Kind, Lock};

use crate::blobs::DOCUMENT_LIMIT;
use crate::containers::read_create;
use crate::files::About;
use crate::{Error, Result, Store, chain_ids, files};

/// How many bytes say whether a blob is a JSON object: white space may stand before it.
const HEAD: usize = 64;

/// What is needed, as far as it was looked at.
pub(crate) struct Reach<'a> {
    store: &'a Store,
    needed: HashSet<Digest>,
    todo: Vec<Digest>,
}

/// Whether a file was changed within `span`; one of the future was, for then the clock was set back.
pub(crate) fn is_young(stat: &Stat, span: Duration) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::new(
        u64::try_from(stat.st_mtime).unwrap_or_default(),
        u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
    );
    now.checked_sub(changed).is_none_or(|age| age < span)
}

impl<'a> Reach<'a> {
    /// Nothing yet.
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, needed: HashSet::new(), todo: Vec::new() }
    }

    /// All that is needed now; the caller holds the lock of the leases. Leases older than `keep_since` are removed, unless
    /// this is a `dry_run`.
    ///
    /// Leases come first: who gave one up meanwhile had published a name or a container before, which is seen after.
    pub(crate) fn of_all(store: &'a Store, keep_since: Duration, dry_run: bool) -> Result<Self> {
        let mut reach = Self::new(store);
        reach.leases(keep_since, dry_run)?;
        for (_, image) in store.roots()? {
            reach.document(&image.digest)?;
        }
        for id in files::names_in(store.dir(), "containers")? {
            reach.container(&id)?;
        }
        reach.follow()?;
        Ok(reach)
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.needed.contains(digest)
    }

    /// Leases that are held, and those held within `keep_since`.
    fn leases(&mut self, keep_since: Duration, dry_run: bool) -> Result<()> {
        for name in files::names_in(self.store.dir(), "leases")? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let path = format!("leases/{name}");
            let Some((file, stat)) = files::open_regular_with(self.store.dir(), &path, OFlags::RDWR)? else {
                continue;
            };
            match Lock::attempt(file, Kind::Exclusive).about(&path)? {
                Ok(_free) if !is_young(&stat, keep_since) => {
                    if !dry_run {
                        files::unlink(self.store.dir(), &path)?;
                    }
                }
                _ => self.want(digest),
            }
        }
        Ok(())
    }

    /// Leases that are held at this moment.
    pub(crate) fn held_leases(&mut self) -> Result<()> {
        for name in files::names_in(self.store.dir(), "leases")? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let path = format!("leases/{name}");
            let opened = files::open_regular_with(self.store.dir(), &path, OFlags::RDWR)?;
            let Some((file, _)) = opened else { continue };
            if Lock::attempt(file, Kind::Exclusive).about(&path)?.is_err() {
                self.want(digest);
            }
        }
        Ok(())
    }

    /// A document that must be readable where it is there: else nobody knows what it needs.
    fn document(&mut self, digest: &Digest) -> Result<()> {
        match self.store.read_document(digest, DOCUMENT_LIMIT) {
            Ok(_) | Err(Error::NoBlob(_)) => {}
            Err(e) => return Err(e),
        }
        self.want(*digest);
        Ok(())
    }

    /// What a container needs: its image, its layers, the images that are mounted into it.
    pub(crate) fn container(&mut self, id: &str) -> Result<()> {
        let doc = match read_create(self.store, id) {
            Ok(doc) => doc,
            // Removed since it was listed.
            Err(Error::NoContainer(_)) => return Ok(()),
            Err(e) => return Err(e),
        };
        doc.image.map_or(Ok(()), |image| self.document(&image))?;
        doc.diff_ids.iter().for_each(|layer| self.want(*layer));
        chain_ids(&doc.diff_ids).into_iter().for_each(|chain| self.want(chain));
        for name in ["create.json", "plan.json", "config.json"] {
            let path = format!("containers/{id}/{name}");
            if let Some(bytes) = files::read_bounded(self.store.dir(), &path, DOCUMENT_LIMIT)? {
                self.scan(&bytes);
            }
        }
        Ok(())
    }

    /// All that the wanted documents lead to.
    pub(crate) fn follow(&mut self) -> Result<()> {
        while let Some(digest) = self.todo.pop() {
            let Some(bytes) = self.object(&digest)? else { continue };
            self.scan(&bytes);
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                self.strings(&value);
                let ids = value["rootfs"]["diff_ids"].as_array().into_iter().flatten();
                let ids: Vec<Digest> = ids.filter_map(|id| id.as_str()?.parse().ok()).collect();
                chain_ids(&ids).into_iter().for_each(|chain| self.want(chain));
            }
        }
        Ok(())
    }

    /// The bytes of a blob that is a JSON object by its beginning.
    fn object(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let blob = match self.store.open_blob(digest) {
            Ok(blob) if blob.size <= DOCUMENT_LIMIT => blob,
            Ok(_) | Err(Error::NoBlob(_) | Error::WrongKind { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut head = [0; HEAD];
        let count = blob.file.read_at(&mut head, 0).call("pread", String::new).about(digest.to_string())?;
        match head[..count].iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => self.store.read_document(digest, DOCUMENT_LIMIT).map(Some),
            _ => Ok(None),
        }
    }

    fn want(&mut self, digest: Digest) {
        if self.needed.insert(digest) {
            self.todo.push(digest);
        }
    }

    /// The texts of a value, without their escapes.
    fn strings(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.scan(text.as_bytes()),
            Value::Array(all) => all.iter().for_each(|value| self.strings(value)),
            Value::Object(all) => all.values().for_each(|value| self.strings(value)),
            _ => {}
        }
    }

    /// Every 64 hexadecimal digits in a row, no more and no less.
    fn scan(&mut self, bytes: &[u8]) {
        for run in bytes.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() == 64) {
            let digest = std::str::from_utf8(run).ok().and_then(|hex| Digest::from_hex(hex).ok());
            digest.into_iter().for_each(|digest| self.want(digest));
        }
    }
}
