//! Blobs that are there: `blobs/sha256/<hex>` (image-spec v1.1, image-layout.md).

use std::fs::File;
use std::io::{Read, Write};

use descriptor::{Digest, Hasher};
use sys::Call;

use crate::files::{About, Writeback};
use crate::staging::Staged;
use crate::{Error, Result, Store, files};

/// The most bytes of a manifest, index or configuration: what registries themselves accept (distribution-spec v1.1,
/// "Pushing Manifests": at least 4 MiB).
pub const DOCUMENT_LIMIT: u64 = 4 << 20;

/// A blob, open for reading.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes, not verified: whoever reads them for the first time hashes them.
    pub file: File,
    /// Their number.
    pub size: u64,
}

/// A blob whose digest is not known before it is written; dropped unfinished, it is gone.
#[derive(Debug)]
pub struct NewBlob {
    store: Store,
    staged: Staged,
    hasher: Hasher,
    size: u64,
    writeback: Writeback,
}

pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Store {
    /// The size of a blob that is there whole.
    ///
    /// # Errors
    /// [`Error::WrongKind`] where something other than a regular file has its name.
    pub fn has_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = blob_path(digest);
        let Some(stat) = files::found(files::lstat(self.dir(), &path)).about(&path)? else { return Ok(None) };
        files::must_be_regular(&stat, &path)?;
        Ok(Some(stat.st_size as u64))
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::WrongKind`] for a link, FIFO, directory or device in its place.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob> {
        let (file, stat) =
            files::open_regular(self.dir(), blob_path(digest))?.ok_or(Error::NoBlob(*digest))?;
        Ok(Blob { file, size: stat.st_size as u64 })
    }

    /// The digests of all blobs that are there.
    ///
    /// # Errors
    /// A failed call.
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        let names = files::names_in(self.dir(), "blobs/sha256")?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// Reads a document of at most `limit` bytes and verifies that it hashes to its name.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::WrongDigest`], and those of [`Store::open_blob`].
    pub fn read_document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let blob = self.open_blob(digest)?;
        let too_large = || Error::TooLarge { what: digest.to_string(), limit };
        if blob.size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(blob.size as usize);
        blob.file
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .call("read", String::new)
            .about(digest.to_string())?;
        if bytes.len() as u64 > limit {
            return Err(too_large());
        }
        match Digest::of(&bytes) {
            got if got == *digest => Ok(bytes),
            got => Err(Error::WrongDigest { wanted: *digest, got }),
        }
    }

    /// Keeps a document's exact bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`DOCUMENT_LIMIT`], or a failed call.
    pub fn put_document(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Error::TooLarge { what: digest.to_string(), limit: DOCUMENT_LIMIT });
        }
        // Before it is looked for: what is found then stays.
        self.keep(&digest)?;
        if self.has_blob(&digest)? == Some(bytes.len() as u64)
            && self.read_document(&digest, DOCUMENT_LIMIT).is_ok()
        {
            return Ok(digest);
        }
        let mut staged = Staged::file(self.dir())?;
        staged.write(bytes)?;
        publish_blob(self, staged, &digest)?;
        Ok(digest)
    }

    /// Begins a blob of ours, a layer that is being packed say.
    ///
    /// # Errors
    /// A failed call.
    pub fn new_blob(&self) -> Result<NewBlob> {
        let staged = Staged::file(self.dir())?;
        Ok(NewBlob {
            store: self.clone(),
            staged,
            hasher: Hasher::new(),
            size: 0,
            writeback: Writeback::default(),
        })
    }
}

/// Gives verified bytes their name, replacing what is there: nothing else rightly has that name.
fn publish_blob(store: &Store, staged: Staged, digest: &Digest) -> Result<()> {
    let path = blob_path(digest);
    files::sync(staged.file_ref(), &path)?;
    let lock = staged.replace(&path)?;
    files::sync_parent(store.dir(), &path)?;
    drop(lock);
    Ok(())
}

impl NewBlob {
    /// Makes the blob durable and gives it the name its bytes hash to.
    ///
    /// # Errors
    /// A failed call; nothing is published then.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let digest = self.hasher.finish();
        self.store.keep(&digest)?;
        publish_blob(&self.store, self.staged, &digest)?;
        Ok((digest, self.size))
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.staged.write(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.writeback.wrote(self.staged.file_ref(), self.size);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
