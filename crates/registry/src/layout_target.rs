//! OCI image layouts on disk as a destination (image-spec v1.1, image-layout.md): whole files by rename, the index last.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use descriptor::{Descriptor, media};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use serde_json::{Value, json};
use sys::Root;

use crate::error::{Error, Result};
use crate::layout::REF_NAME;
use crate::place::LayoutPlace;
use crate::repository::{DOCUMENT_LIMIT, Fetched};
use crate::target::Target;
use crate::upload::{Upload, verified};

/// How much is read and written at once.
const PIECE: usize = 256 << 10;
const BLOBS: &str = "blobs/sha256";

/// A layout that images are written to.
pub(crate) struct LayoutTarget {
    root: Root,
    place: LayoutPlace,
}

impl LayoutTarget {
    /// Opens the layout, and makes it where there is none.
    pub(crate) fn open(place: &LayoutPlace) -> Result<Self> {
        let io = |source| Error::Io { path: place.dir.clone(), source };
        // The user's own path, like any output file's.
        fs::create_dir_all(&place.dir).map_err(io)?;
        let root = Root::open_ambient(&place.dir).map_err(|e| io(e.errno.into()))?;
        root.create_dir_all(BLOBS, Mode::from_raw_mode(0o755)).map_err(|e| io(e.errno.into()))?;
        let target = Self { root, place: place.clone() };
        if target.root.lstat("oci-layout").is_err() {
            target.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(target)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.place.dir.join(inside)
    }

    fn io(&self, inside: &str, source: impl Into<io::Error>) -> Error {
        Error::Io { path: self.path(inside), source: source.into() }
    }

    /// A file of our own beside `inside`, and its name.
    fn staged(&self, inside: &str) -> Result<(File, String)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = inside.rsplit_once('/').map_or(String::new(), |(dir, _)| format!("{dir}/"));
        let name = format!("{dir}.oci-push-{}-{number}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd =
            self.root.open(&name, flags, Mode::from_raw_mode(0o644)).map_err(|e| self.io(&name, e.errno))?;
        Ok((fd.into(), name))
    }

    /// Makes a staged file durable and gives it its name.
    fn publish(&self, file: &File, staged: &str, inside: &str) -> Result<()> {
        file.sync_all().map_err(|e| self.io(staged, e))?;
        let from = self.root.parent(staged).map_err(|e| self.io(staged, e.errno))?;
        let to = self.root.parent(inside).map_err(|e| self.io(inside, e.errno))?;
        rustix::fs::renameat(&from.dir, &*from.name, &to.dir, &*to.name).map_err(|e| self.io(inside, e))?;
        let dir = inside.rsplit_once('/').map_or(".", |(dir, _)| dir);
        let dir = self
            .root
            .open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(|e| self.io(inside, e.errno))?;
        rustix::fs::fsync(&dir).map_err(|e| self.io(inside, e))
    }

    /// Stages, fills and publishes a file; a failure leaves nothing behind.
    fn write_with(&self, inside: &str, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        let (mut file, staged) = self.staged(inside)?;
        let outcome = fill(&mut file).and_then(|()| self.publish(&file, &staged, inside));
        if outcome.is_err()
            && let Ok(parent) = self.root.parent(&staged)
        {
            // The failure counts, not whether its trace could be removed.
            let _ = rustix::fs::unlinkat(&parent.dir, &*parent.name, rustix::fs::AtFlags::empty());
        }
        outcome
    }

    fn write(&self, inside: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(inside, |file| file.write_all(bytes).map_err(|e| self.io(inside, e)))
    }

    fn index(&self) -> Result<Value> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file: File = match self.root.open("index.json", flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(e) if e.is_not_found() => {
                return Ok(json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []}));
            }
            Err(e) => return Err(self.io("index.json", e.errno)),
        };
        let wrong = |reason: String| Error::Layout { path: self.path("index.json"), reason };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| self.io("index.json", e))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Error::TooLarge {
                what: self.path("index.json").display().to_string(),
                limit: DOCUMENT_LIMIT,
            });
        }
        let index: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if index.get("manifests").is_some_and(Value::is_array) {
            Ok(index)
        } else {
            Err(wrong("it has no manifests".into()))
        }
    }

    /// Adds the entry; one of the same name, or the same image without a name, goes.
    fn name(&self, entry: &Descriptor) -> Result<()> {
        // Other oci-push calls wait; other programs take no lock on layouts.
        rustix::fs::flock(self.root.as_fd(), FlockOperation::LockExclusive).map_err(|e| self.io("", e))?;
        let outcome = self.index().and_then(|mut index| {
            let mut entry = entry.clone();
            entry.annotations.remove(REF_NAME);
            entry.annotations.extend(self.place.name.clone().map(|name| (REF_NAME.to_owned(), name)));
            let replaced = |other: &Value| match &self.place.name {
                Some(name) => other["annotations"][REF_NAME] == **name,
                None => {
                    other["annotations"][REF_NAME].is_null() && other["digest"] == entry.digest.to_string()
                }
            };
            if let Some(manifests) = index["manifests"].as_array_mut() {
                manifests.retain(|other| !replaced(other));
                manifests.push(json!(entry));
            }
            self.write("index.json", index.to_string().as_bytes())
        });
        // Unlocking an open file that is ours cannot fail.
        let _ = rustix::fs::flock(self.root.as_fd(), FlockOperation::Unlock);
        outcome
    }
}

fn blob_path(blob: &descriptor::Digest) -> String {
    format!("{BLOBS}/{}", blob.hex())
}

impl Target for LayoutTarget {
    fn has(&self, blob: &Descriptor) -> Result<bool> {
        match self.root.lstat(blob_path(&blob.digest)) {
            Ok(stat) => {
                let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                Ok(regular && u64::try_from(stat.st_size) == Ok(blob.size))
            }
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(self.io(&blob_path(&blob.digest), e.errno)),
        }
    }

    fn put_blob(&self, upload: &Upload<'_>) -> Result<()> {
        let inside = blob_path(&upload.blob.digest);
        self.write_with(&inside, |file| {
            let mut bytes = verified(upload)?;
            let mut piece = vec![0; PIECE];
            loop {
                match bytes.next_piece(&mut piece)? {
                    0 => return Ok(()),
                    n => file.write_all(&piece[..n]).map_err(|e| self.io(&inside, e))?,
                }
            }
        })
    }

    fn put_child(&self, manifest: &Fetched) -> Result<()> {
        self.write(&blob_path(&manifest.digest), &manifest.bytes)
    }

    fn put_top(&self, manifest: &Fetched, entry: &Descriptor) -> Result<()> {
        self.put_child(manifest)?;
        self.name(entry)
    }
}
