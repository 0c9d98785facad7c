//! Reading a blob while another process writes it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use descriptor::{Digest, Hasher};
use sys::Call;

use crate::blobs::blob_path;
use crate::files::About;
use crate::ingest::ingest_path;
use crate::{Error, Result, Store, files};

/// How long a dead writer's blob waits for the next writer: another process that fetches the same image, or the same
/// command run again.
const GRACE: Duration = Duration::from_secs(5);
/// Sleeps between two looks at a file that does not grow: short at first, as data mostly comes quickly.
const SHORTEST_SLEEP: Duration = Duration::from_micros(500);
/// Long waits cost little and add little delay.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// A reader over a blob that is there or on its way.
///
/// What it reads is verified only once [`Follower::verify`] said so. Errors inside the [`std::io::Error`] are this crate's:
/// [`Error::inside`] finds them, [`Error::Restarted`] above all, which asks the reader to begin again.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    digest: Digest,
    size: u64,
    file: File,
    /// The reader hashes a blob that was there before: another program may have written it.
    hasher: Option<Hasher>,
    offset: u64,
    patience: Patience,
}

/// How long nothing has come, and since when nobody writes.
#[derive(Debug)]
struct Patience {
    sleep: Duration,
    /// Whether the last look found nothing new.
    idle: bool,
    alone_since: Option<Instant>,
    grace: Duration,
}

/// Where a blob's bytes are.
enum Source {
    Whole(File),
    Coming(File),
}

/// What became of the file that is followed.
enum Fate {
    /// Its writer is at work.
    Written,
    /// It has the blob's name: verified by its writer.
    Published,
    /// Another file took its place.
    Replaced,
    /// Nobody writes it.
    Orphan,
}

impl Store {
    /// Follows a blob that is there or on its way, from its first byte.
    ///
    /// # Errors
    /// [`Error::Abandoned`] where it is neither and no writer comes within five seconds, [`Error::WrongSize`] where it is there
    /// with another size, [`Error::WrongKind`], or a failed call.
    pub fn follow(&self, digest: &Digest, size: u64) -> Result<Follower> {
        self.follow_with(digest, size, GRACE)
    }

    pub(crate) fn follow_with(&self, digest: &Digest, size: u64, grace: Duration) -> Result<Follower> {
        let mut patience = Patience { sleep: SHORTEST_SLEEP, idle: false, alone_since: None, grace };
        loop {
            if let Some(source) = self.source(digest, size)? {
                let (file, hasher) = match source {
                    Source::Whole(file) => (file, Some(Hasher::new())),
                    Source::Coming(file) => (file, None),
                };
                patience.progress();
                let store = self.clone();
                return Ok(Follower { store, digest: *digest, size, file, hasher, offset: 0, patience });
            }
            patience.alone(|| Error::Abandoned { digest: *digest, got: 0, size })?;
        }
    }

    /// A blob's bytes; a file that nobody writes counts for nothing yet.
    fn source(&self, digest: &Digest, size: u64) -> Result<Option<Source>> {
        match self.whole(digest, size) {
            Ok(Some(file)) => return Ok(Some(Source::Whole(file))),
            // Damaged, and perhaps being fetched again.
            Ok(None) | Err(Error::WrongSize { .. }) => {}
            Err(e) => return Err(e),
        }
        let path = ingest_path(digest);
        if let Some((file, _)) = files::open_regular(self.dir(), &path)?
            && sys::lock::is_held(&file).about(&path)?
        {
            return Ok(Some(Source::Coming(file)));
        }
        // Published between the two looks?
        Ok(self.whole(digest, size)?.map(Source::Whole))
    }

    fn whole(&self, digest: &Digest, size: u64) -> Result<Option<File>> {
        match self.open_blob(digest) {
            Ok(blob) if blob.size == size => Ok(Some(blob.file)),
            Ok(blob) => Err(Error::WrongSize { digest: *digest, wanted: size, got: blob.size }),
            Err(Error::NoBlob(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Follower {
    /// Whether the blob came while it was read, so that its writer verified it; else the reader itself does.
    pub fn was_verified_by_writer(&self) -> bool {
        self.hasher.is_none()
    }

    /// The blob.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Waits until the blob stands verified under its name: by its writer, or by the hash of all that was read here.
    ///
    /// Bytes that were not read yet are read now.
    ///
    /// # Errors
    /// [`Error::WrongDigest`]; [`Error::Restarted`] and [`Error::Abandoned`] where the writer found it wrong or died.
    pub fn verify(mut self) -> Result<()> {
        if self.hasher.is_some() {
            let mut rest = vec![0; 256 << 10];
            while self.step(&mut rest)? > 0 {}
            let got = self.hasher.take().unwrap_or_default().finish();
            return if got == self.digest {
                Ok(())
            } else {
                Err(Error::WrongDigest { wanted: self.digest, got })
            };
        }
        self.patience.progress();
        loop {
            match self.fate()? {
                Fate::Published => return Ok(()),
                Fate::Replaced => return Err(Error::Restarted(self.digest)),
                Fate::Written => self.patience.wait(),
                Fate::Orphan => self.alone()?,
            }
        }
    }

    /// Reads on; 0 bytes at the end of the blob only.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let most = buffer.len().min(usize::try_from(self.size - self.offset).unwrap_or(usize::MAX));
            if most == 0 {
                return Ok(0);
            }
            // Asked before the read: what a writer wrote before it let go is seen after it.
            let fate = if self.hasher.is_some() { None } else { self.fate_if_idle()? };
            let at = self.offset;
            let got = self.file.read_at(&mut buffer[..most], at);
            let got = got.call("pread", || at.to_string()).about(self.digest.to_string())?;
            if got > 0 {
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&buffer[..got]);
                }
                self.offset += got as u64;
                self.patience.progress();
                return Ok(got);
            }
            match fate {
                _ if self.hasher.is_some() => return Err(self.short()),
                // The first look at the end of what there is: ask what became of it, then read again.
                None => self.patience.idle = true,
                Some(Fate::Written) => self.patience.wait(),
                Some(Fate::Orphan) => self.alone()?,
                Some(Fate::Published) => return Err(self.short()),
                Some(Fate::Replaced) if self.offset > 0 => return Err(Error::Restarted(self.digest)),
                Some(Fate::Replaced) => {
                    let grace = self.patience.grace;
                    *self = self.store.clone().follow_with(&self.digest, self.size, grace)?;
                }
            }
        }
    }

    fn fate_if_idle(&self) -> Result<Option<Fate>> {
        if self.patience.idle { self.fate().map(Some) } else { Ok(None) }
    }

    fn fate(&self) -> Result<Fate> {
        let path = ingest_path(&self.digest);
        let held = sys::lock::is_held(&self.file).about(&path)?;
        let stat = files::stat(&self.file).about(&path)?;
        if stat.st_nlink == 0 {
            return Ok(Fate::Replaced);
        }
        if held {
            return Ok(Fate::Written);
        }
        if files::is_named(self.store.dir(), blob_path(&self.digest), &stat)? {
            return Ok(Fate::Published);
        }
        // Unlocked and not published. Renamed and replaced in between shows at the next look.
        Ok(Fate::Orphan)
    }

    fn short(&self) -> Error {
        Error::WrongSize { digest: self.digest, wanted: self.size, got: self.offset }
    }

    fn alone(&mut self) -> Result<()> {
        let (digest, got, size) = (self.digest, self.offset, self.size);
        self.patience.alone(|| Error::Abandoned { digest, got, size })
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(self.step(buffer)?)
    }
}

impl Patience {
    fn progress(&mut self) {
        self.sleep = SHORTEST_SLEEP;
        self.idle = false;
        self.alone_since = None;
    }

    /// Sleeps, longer each time.
    fn wait(&mut self) {
        self.alone_since = None;
        self.nap();
    }

    /// Sleeps while nobody writes, until the grace is over.
    fn alone(&mut self, error: impl FnOnce() -> Error) -> Result<()> {
        if self.alone_since.get_or_insert_with(Instant::now).elapsed() > self.grace {
            return Err(error());
        }
        self.nap();
        Ok(())
    }

    fn nap(&mut self) {
        std::thread::sleep(self.sleep);
        self.sleep = (self.sleep * 2).min(LONGEST_SLEEP);
    }
}
