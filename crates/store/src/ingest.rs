//! Blobs on their way: `ingest/<hex>`, a file that is its own lock.
//!
//! - Whoever holds the file's exclusive lock writes; readers follow ([`crate::Follower`]) and never lock.
//! - The data only grows. Starting over is a new, locked file renamed over the old one: followers see their inode
//!   unlinked.
//! - The last steps are fsync, rename into blobs/, fsync of the directory, unlock, in this order.
//! - A writer that dies leaves its data to the next one, which hashes it again before it adds to it.
//! - After locking, inodes are compared: the file may have been finished or replaced while its lock was waited for.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use descriptor::{Digest, Hasher};
use rustix::fs::{Mode, OFlags, Stat};
use sys::Call;
use sys::lock::{Kind, Lock};

use crate::blobs::blob_path;
use crate::files::{About, Writeback};
use crate::staging::Staged;
use crate::{Error, Result, Store, files};

/// What there is to do for a blob.
#[derive(Debug)]
pub enum Ingest {
    /// Nothing: the store has it.
    Present,
    /// To write it, from [`BlobWriter::offset`] on.
    Writer(BlobWriter),
    /// To wait for another writer, or to follow it.
    Busy(Wait),
}

/// Another process writes the blob.
#[derive(Debug)]
pub struct Wait {
    store: Store,
    digest: Digest,
    size: u64,
    file: File,
}

/// The one writer of a blob. Dropped unfinished, its data stays for the next writer.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    digest: Digest,
    size: u64,
    /// None once the blob is published.
    lock: Option<Lock>,
    offset: u64,
    /// Where this writer began.
    resumed: u64,
    /// None until the data found there is hashed.
    hasher: Option<Hasher>,
    writeback: Writeback,
}

pub(crate) fn ingest_path(digest: &Digest) -> String {
    format!("ingest/{}", digest.hex())
}

impl Store {
    /// Asks for the right to write the blob.
    ///
    /// # Errors
    /// [`Error::WrongKind`] where something strange lies in its place, or a failed call.
    pub fn ingest(&self, digest: &Digest, size: u64) -> Result<Ingest> {
        let path = ingest_path(digest);
        loop {
            if self.has_blob(digest)? == Some(size) {
                return Ok(Ingest::Present);
            }
            let flags = OFlags::RDWR | OFlags::CREATE;
            let Some((file, _)) = files::open_regular_with(self.dir(), &path, flags)? else {
                // O_CREAT finds nothing only where the directory itself is gone; asking again would never end.
                self.dir().create_dir_all("ingest", Mode::RWXU).about("ingest")?;
                continue;
            };
            let lock = match Lock::attempt(file, Kind::Exclusive).about(&path)? {
                Ok(lock) => lock,
                Err(file) => {
                    return Ok(Ingest::Busy(Wait { store: self.clone(), digest: *digest, size, file }));
                }
            };
            if let Some(ingest) = self.locked(digest, size, lock)? {
                return Ok(ingest);
            }
        }
    }

    /// What a lock on an ingest file is worth: `None` where the file is no longer the blob's.
    fn locked(&self, digest: &Digest, size: u64, lock: Lock) -> Result<Option<Ingest>> {
        let path = ingest_path(digest);
        let stat: Stat = files::stat(lock.file()).about(&path)?;
        if stat.st_nlink == 0 || !files::is_named(self.dir(), &path, &stat)? {
            return Ok(None);
        }
        if self.has_blob(digest)? == Some(size) {
            files::unlink(self.dir(), &path)?;
            return Ok(Some(Ingest::Present));
        }
        let mut writer = BlobWriter {
            store: self.clone(),
            digest: *digest,
            size,
            lock: Some(lock),
            offset: stat.st_size as u64,
            resumed: stat.st_size as u64,
            hasher: None,
            writeback: Writeback::default(),
        };
        if writer.offset > size {
            writer.restart()?;
        }
        Ok(Some(Ingest::Writer(writer)))
    }
}

impl Wait {
    /// Waits until the other writer is done or dead; then the blob is there or the caller is its writer.
    ///
    /// # Errors
    /// As [`Store::ingest`].
    pub fn wait(self) -> Result<Ingest> {
        let lock = Lock::wait(self.file, Kind::Exclusive).about(ingest_path(&self.digest))?;
        match self.store.locked(&self.digest, self.size, lock)? {
            Some(ingest) => Ok(ingest),
            None => self.store.ingest(&self.digest, self.size),
        }
    }
}

impl BlobWriter {
    /// How many bytes there are: where to go on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The blob.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size by the descriptor.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether some of the bytes are another writer's; if [`BlobWriter::finish`] refuses them, fetching all is worth a try.
    pub fn was_resumed(&self) -> bool {
        self.resumed > 0
    }

    /// Appends.
    ///
    /// # Errors
    /// [`Error::WrongSize`] beyond the descriptor's size, [`Error::WrongDigest`] never, or a failed call.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.offset + bytes.len() as u64;
        if end > self.size {
            return Err(Error::WrongSize { digest: self.digest, wanted: self.size, got: end });
        }
        let path = ingest_path(&self.digest);
        self.hash_found()?;
        let file = self.file()?;
        file.write_all_at(bytes, self.offset)
            .call("pwrite", || format!("{} bytes at {}", bytes.len(), self.offset))
            .about(&path)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.offset = end;
        if let Some(lock) = &self.lock {
            self.writeback.wrote(lock.file(), end);
        }
        Ok(())
    }

    /// Throws all bytes away and begins again with a new file; followers of the old one are told.
    ///
    /// # Errors
    /// A failed call.
    pub fn restart(&mut self) -> Result<()> {
        let lock = Staged::file(self.store.dir())?.replace(&ingest_path(&self.digest))?;
        // The old lock goes after the new file has the name: a waiter finds its inode replaced and asks again.
        self.lock = Some(lock);
        self.offset = 0;
        self.resumed = 0;
        self.hasher = Some(Hasher::new());
        self.writeback = Writeback::default();
        Ok(())
    }

    /// Verifies size and digest, makes the blob durable and gives it its name.
    ///
    /// # Errors
    /// [`Error::WrongSize`] while bytes are missing: the writer can go on. [`Error::WrongDigest`]: the bytes are thrown
    /// away, and the writer stands at offset 0. A failed call.
    pub fn finish(&mut self) -> Result<()> {
        if self.offset != self.size {
            return Err(Error::WrongSize { digest: self.digest, wanted: self.size, got: self.offset });
        }
        self.hash_found()?;
        let got = self.hasher.take().unwrap_or_default().finish();
        if got != self.digest {
            self.restart()?;
            return Err(Error::WrongDigest { wanted: self.digest, got });
        }
        let (from, to) = (ingest_path(&self.digest), blob_path(&self.digest));
        if let Err(e) = files::sync(self.file()?, &from) {
            // After a failed fsync the file's bytes are anybody's guess (fsync(2)): they must not be resumed.
            self.restart()?;
            return Err(e);
        }
        files::rename(self.store.dir(), &from, self.store.dir(), &to)?;
        files::sync_parent(self.store.dir(), &to)?;
        self.lock = None;
        Ok(())
    }

    fn file(&self) -> Result<&File> {
        // Invariant: only `finish` takes the lock away, and a published blob is not written to.
        self.lock.as_ref().map(Lock::file).ok_or(Error::Restarted(self.digest))
    }

    /// Hashes what an earlier writer left, once.
    fn hash_found(&mut self) -> Result<()> {
        if self.hasher.is_some() {
            return Ok(());
        }
        let path = ingest_path(&self.digest);
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < self.offset {
            let most = buffer.len().min((self.offset - at) as usize);
            let got = self
                .file()?
                .read_at(&mut buffer[..most], at)
                .call("pread", || at.to_string())
                .about(&path)?;
            if got == 0 {
                return Err(Error::WrongSize { digest: self.digest, wanted: self.offset, got: at });
            }
            hasher.update(&buffer[..got]);
            at += got as u64;
        }
        self.hasher = Some(hasher);
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.lock.is_some() && self.offset == 0 {
            // Nothing to resume. The name goes while the lock is still held.
            let _ = files::unlink(self.store.dir(), &ingest_path(&self.digest));
        }
    }
}
