//! The names of images: index.json of the layout, and `refs/`, our copy of it.
//!
//! Other programs write index.json without a lock, in place (skopeo truncates it first). So a file that is not whole is
//! read again for a while, and a tag that another program's write lost is taken from `refs/`. Where both know a tag,
//! index.json is right: another program may have moved it. Members and entries we do not know are kept as they are.

use std::time::{Duration, Instant};

use descriptor::media::REF_NAME;
use descriptor::{Descriptor, Digest};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sys::lock::{Kind, Lock};

use crate::event::{Event, Subject};
use crate::files::{About, Durable};
use crate::open::EMPTY_INDEX;
use crate::{DocumentFault, Error, Result, Store, document, files};

/// The most bytes of index.json: some ten thousand tags.
const INDEX_LIMIT: u64 = 16 << 20;
/// The most bytes of one file in refs/.
const REF_LIMIT: u64 = 64 << 10;
/// How long another program is given to finish its write.
const HALF_WRITTEN: Duration = Duration::from_secs(1);
/// Between two looks at a half-written file.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The lock of whoever of us writes index.json and refs/.
const LOCK: &str = "refs/.lock";

/// A file in refs/, named by the digest of the reference.
#[derive(Debug, Serialize, Deserialize)]
struct Tag {
    reference: String,
    descriptor: Descriptor,
}

impl Store {
    /// Names an image, moving the name where it has another; the image is in the store.
    ///
    /// # Errors
    /// [`Error::NoBlob`] where the manifest is not there, or a failed call.
    pub fn tag(&self, reference: &str, image: &Descriptor) -> Result<()> {
        self.has_blob(&image.digest)?.ok_or(Error::NoBlob(image.digest))?;
        let _lock = self.lock_index()?;
        let mut index = self.read_index()?.unwrap_or_else(empty);
        let healed = self.heal(&mut index)?;
        let mut named = image.clone();
        named.annotations.insert(REF_NAME.into(), reference.into());
        let entry = serde_json::to_value(&named).map_err(|e| Error::document("index.json", e))?;
        let ours = self.read_ref(&ref_path(reference))?;
        if !healed
            && ours.is_some_and(|tag| tag.reference == reference && tag.descriptor == *image)
            && manifests(&mut index)?.contains(&entry)
        {
            // Both copies say so already: a repeated pull writes and syncs nothing.
            return Ok(());
        }
        let tag = Tag { reference: reference.into(), descriptor: image.clone() };
        let json = serde_json::to_vec(&tag).map_err(|e| Error::document("refs", e))?;
        files::replace(self.dir(), &ref_path(reference), &json, Durable::Yes)?;
        let manifests = manifests(&mut index)?;
        match manifests.iter().position(|entry| name_of(entry) == Some(reference)) {
            Some(at) => manifests[at] = entry,
            None => manifests.push(entry),
        }
        self.write_index(&index)?;
        self.note(&Event::new(Subject::Image, "tag", image.digest.to_string(), reference));
        Ok(())
    }

    /// Takes a name away; false where nothing had it. The image stays.
    ///
    /// # Errors
    /// A failed call.
    pub fn untag(&self, reference: &str) -> Result<bool> {
        let lock = self.lock_index()?;
        self.untag_locked(reference, lock)
    }

    /// Takes a name away whose image is not in the store; false where it is, or nothing has the name.
    ///
    /// # Errors
    /// A failed call.
    pub fn untag_lost(&self, reference: &str) -> Result<bool> {
        let lock = self.lock_index()?;
        match self.resolve(reference)? {
            Some(image) if self.has_blob(&image.digest)?.is_none() => self.untag_locked(reference, lock),
            _ => Ok(false),
        }
    }

    fn untag_locked(&self, reference: &str, _lock: Lock) -> Result<bool> {
        let mut index = self.read_index()?.unwrap_or_else(empty);
        let known = self.heal(&mut index)?;
        let manifests = manifests(&mut index)?;
        let named: Vec<Value> = manifests.extract_if(.., |entry| name_of(entry) == Some(reference)).collect();
        let removed = !named.is_empty();
        if removed || known {
            self.write_index(&index)?;
        }
        files::unlink(self.dir(), &ref_path(reference))?;
        if let Some(image) = named.first().and_then(|entry| descriptor_of(entry).ok()) {
            self.note(&Event::new(Subject::Image, "untag", image.digest.to_string(), reference));
        }
        Ok(removed)
    }

    /// Takes the entries of an image without a name out of index.json; false where there are none. The image stays.
    ///
    /// # Errors
    /// A failed call.
    pub fn forget_nameless(&self, digest: &Digest) -> Result<bool> {
        let _lock = self.lock_index()?;
        let Some(mut index) = self.read_index()? else { return Ok(false) };
        let is_it = |entry: &Value| {
            name_of(entry).is_none() && descriptor_of(entry).is_ok_and(|image| image.digest == *digest)
        };
        let removed = manifests(&mut index)?.extract_if(.., |entry| is_it(entry)).count() > 0;
        if removed {
            self.write_index(&index)?;
        }
        Ok(removed)
    }

    /// The image of a name, taken literally.
    ///
    /// # Errors
    /// [`Error::Document`] for an entry that is no descriptor, or a failed call.
    pub fn resolve(&self, reference: &str) -> Result<Option<Descriptor>> {
        if let Some(mut index) = self.read_index()? {
            let entry = manifests(&mut index)?.iter().find(|entry| name_of(entry) == Some(reference));
            if let Some(entry) = entry {
                return descriptor_of(entry).map(Some);
            }
        }
        Ok(self
            .read_ref(&ref_path(reference))?
            .filter(|tag| tag.reference == reference)
            .map(|tag| tag.descriptor))
    }

    /// All names with their images, in order.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn references(&self) -> Result<Vec<(String, Descriptor)>> {
        let all = self.roots()?.into_iter();
        Ok(all.filter_map(|(name, image)| name.map(|name| (name, image))).collect())
    }

    /// All images index.json leads to, in the order of their names; other programs write entries without one.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn roots(&self) -> Result<Vec<(Option<String>, Descriptor)>> {
        let mut index = self.read_index()?.unwrap_or_else(empty);
        self.heal(&mut index)?;
        let entries = manifests(&mut index)?.iter();
        let named = entries.map(|entry| Ok((name_of(entry).map(str::to_string), descriptor_of(entry)?)));
        let mut all = named.collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// The names that refs/ knows and index.json lost.
    pub(crate) fn lost_tags(&self) -> Result<Vec<String>> {
        let Some(mut index) = self.read_index()? else { return Ok(Vec::new()) };
        let tags = self.read_refs()?;
        let manifests = manifests(&mut index)?;
        let lost =
            tags.into_iter().filter(|tag| !manifests.iter().any(|e| name_of(e) == Some(&*tag.reference)));
        Ok(lost.map(|tag| tag.reference).collect())
    }

    /// The copies of tags that cannot be read, are not as they were written, or are not of their reference.
    pub(crate) fn bad_refs(&self) -> Result<Vec<(String, String)>> {
        let mut bad = Vec::new();
        for name in files::names_in(self.dir(), "refs")?.iter().filter(|name| Digest::from_hex(name).is_ok())
        {
            let path = format!("refs/{name}");
            if let Some(why) = self.ref_fault(&path)? {
                bad.push((path, why));
            }
        }
        Ok(bad)
    }

    fn ref_fault(&self, path: &str) -> Result<Option<String>> {
        let tag = match self.read_ref(path) {
            Ok(Some(tag)) => tag,
            Ok(None) => return Ok(None),
            Err(e) if e.is_damage() => return Ok(Some(e.to_string())),
            Err(e) => return Err(e),
        };
        let bytes = files::read_bounded(self.dir(), path, REF_LIMIT)?;
        let is_written_so = bytes == serde_json::to_vec(&tag).ok();
        let is_own = ref_path(&tag.reference) == path;
        Ok((!is_written_so || !is_own).then(|| "is not as it was written".to_string()))
    }

    /// Takes a copy of a tag away if it is still bad; index.json has the tag.
    pub(crate) fn remove_bad_ref(&self, path: &str) -> Result<()> {
        let _lock = self.lock_index()?;
        match self.ref_fault(path) {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(Error::Call { .. }) => crate::staging::discard(self, path),
            Err(e) => Err(e),
        }
    }

    /// Moves an index.json that cannot be read aside; the new one has the tags of refs/.
    pub(crate) fn replace_bad_index(&self) -> Result<()> {
        let _lock = self.lock_index()?;
        if self.check_index().is_ok() {
            return Ok(());
        }
        self.move_aside("index.json")?;
        let mut index = empty();
        self.heal(&mut index)?;
        self.write_index(&index)
    }

    /// Whether index.json is one; what other programs leave out is no fault.
    pub(crate) fn check_index(&self) -> Result<()> {
        let Some(index) = self.read_index()? else { return Ok(()) };
        let fault = |text: &str| Err(Error::document("index.json", DocumentFault::Rule(text.into())));
        if index["schemaVersion"] != 2 {
            return fault("schemaVersion is not 2");
        }
        match index["mediaType"].as_str() {
            None | Some(descriptor::media::OCI_INDEX) => Ok(()),
            Some(_) => fault("mediaType is not an index's"),
        }
    }

    /// Whether `oci-layout` says what the store is.
    pub(crate) fn check_layout(&self) -> Result<()> {
        let bytes = files::read_bounded(self.dir(), "oci-layout", REF_LIMIT)?.unwrap_or_default();
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| Error::document("oci-layout", e))?;
        match value["imageLayoutVersion"].as_str() {
            Some("1.0.0") => Ok(()),
            _ => {
                Err(Error::document("oci-layout", DocumentFault::Rule("no imageLayoutVersion 1.0.0".into())))
            }
        }
    }

    /// The tags whose image has one digest in both copies, and something else differs.
    pub(crate) fn differing_tags(&self) -> Result<Vec<String>> {
        let tags = self.read_refs()?;
        let mut differing = Vec::new();
        for (name, image) in self.references()? {
            let ours = tags.iter().find(|tag| tag.reference == name);
            if ours.is_some_and(|tag| tag.descriptor.digest == image.digest && tag.descriptor != image) {
                differing.push(name);
            }
        }
        Ok(differing)
    }

    /// Describes an image in index.json as refs/ does.
    pub(crate) fn take_from_refs(&self, reference: &str) -> Result<()> {
        match self.read_ref(&ref_path(reference))? {
            Some(tag) => self.tag(reference, &tag.descriptor),
            None => Ok(()),
        }
    }

    fn lock_index(&self) -> Result<Lock> {
        lock_file(self, LOCK)
    }

    /// index.json, once it is whole; `None` where it is missing or stays half-written.
    fn read_index(&self) -> Result<Option<Value>> {
        let begin = Instant::now();
        loop {
            let Some(bytes) = files::read_bounded(self.dir(), "index.json", INDEX_LIMIT)? else {
                return Ok(None);
            };
            match whole(&bytes) {
                Ok(index) => return Ok(Some(index)),
                Err(_) if begin.elapsed() < HALF_WRITTEN => std::thread::sleep(LOOK_AGAIN),
                // Cut short and never finished: its writer is dead. refs/ knows our tags.
                Err(DocumentFault::Json(e)) if e.is_eof() => return Ok(None),
                Err(fault) => return Err(Error::document("index.json", fault)),
            }
        }
    }

    /// Adds the tags that refs/ knows and the index lost; true where there were any.
    fn heal(&self, index: &mut Value) -> Result<bool> {
        let mut healed = false;
        let manifests = manifests(index)?;
        for tag in self.read_refs()? {
            if manifests.iter().any(|entry| name_of(entry) == Some(&*tag.reference)) {
                continue;
            }
            let mut named = tag.descriptor;
            named.annotations.insert(REF_NAME.into(), tag.reference);
            manifests.push(serde_json::to_value(&named).map_err(|e| Error::document("refs", e))?);
            healed = true;
        }
        Ok(healed)
    }

    fn read_refs(&self) -> Result<Vec<Tag>> {
        let names = files::names_in(self.dir(), "refs")?;
        let names = names.iter().filter(|name| Digest::from_hex(name).is_ok());
        let tags = names.map(|name| self.read_ref(&format!("refs/{name}")));
        tags.filter_map(Result::transpose).collect()
    }

    fn read_ref(&self, path: &str) -> Result<Option<Tag>> {
        let Some(bytes) = files::read_bounded(self.dir(), path, REF_LIMIT)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::document(path, e))
    }

    fn write_index(&self, index: &Value) -> Result<()> {
        let json = serde_json::to_vec(index).map_err(|e| Error::document("index.json", e))?;
        files::replace(self.dir(), "index.json", &json, Durable::Yes)
    }
}

/// Waits for a lock file that stays for ever.
pub(crate) fn lock_file(store: &Store, path: &str) -> Result<Lock> {
    lock_file_as(store, path, Kind::Exclusive)
}

/// As [`lock_file`], perhaps together with others.
pub(crate) fn lock_file_as(store: &Store, path: &str, kind: Kind) -> Result<Lock> {
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE;
        if let Some((file, _)) = files::open_regular_with(store.dir(), path, flags)? {
            return Lock::wait(file, kind).about(path);
        }
    }
}

fn empty() -> Value {
    // Invariant: the constant is JSON; a null would only lose its two members.
    serde_json::from_slice(EMPTY_INDEX).unwrap_or_default()
}

fn whole(bytes: &[u8]) -> std::result::Result<Value, DocumentFault> {
    let index = document::strict(bytes)?;
    match index.get("manifests") {
        Some(Value::Array(_)) => Ok(index),
        // Go writes a list without entries as null.
        Some(Value::Null) | None if index.is_object() => Ok(index),
        _ => Err(DocumentFault::Rule("manifests is no list".into())),
    }
}

fn manifests(index: &mut Value) -> Result<&mut Vec<Value>> {
    let fault = || Error::document("index.json", DocumentFault::Rule("manifests is no list".into()));
    let members = index.as_object_mut().ok_or_else(fault)?;
    let list = members.entry("manifests").or_insert_with(|| Value::Array(Vec::new()));
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut().ok_or_else(fault)
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

fn descriptor_of(entry: &Value) -> Result<Descriptor> {
    let mut descriptor: Descriptor =
        serde_json::from_value(entry.clone()).map_err(|e| Error::document("index.json", e))?;
    descriptor.annotations.remove(REF_NAME);
    Ok(descriptor)
}

fn ref_path(reference: &str) -> String {
    format!("refs/{}", Digest::of(reference.as_bytes()).hex())
}
