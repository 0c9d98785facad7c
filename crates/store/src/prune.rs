//! Pruning: what no root needs goes, while others work.
//!
//! What goes is renamed into the staging area while nobody can take a lease, and removed there afterwards: gone at once for
//! everybody else, and finished by the next call after a death.

use std::time::Duration;

use descriptor::Digest;
use rustix::fs::{FileType, OFlags};
use sys::lock::{Kind, Lock};

use crate::blobs::blob_path;
use crate::files::{About, found};
use crate::reach::{Reach, is_young};
use crate::staging::StagedDir;
use crate::{Result, Seen, Store, files};

/// What is to be pruned.
#[derive(Debug, Clone, Copy)]
pub struct Prune {
    /// Blobs, and the beginnings of some that nobody fetches any more.
    pub blobs: bool,
    /// Unpacked layers and the fixes of their stacks.
    pub layers: bool,
    /// What was made, read or printed within this time stays.
    pub keep_since: Duration,
    /// Only look.
    pub dry_run: bool,
}

/// Something that went, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// What it is: `blob`, `part`, `layer` or `fixes`.
    pub kind: &'static str,
    /// Its digest, diffID or chainID.
    pub digest: Digest,
    /// What it took on the disk.
    pub bytes: u64,
}

/// Something that no root needs.
struct Unneeded {
    kind: &'static str,
    digest: Digest,
    path: String,
}

impl Store {
    /// Removes what no root needs: no name of an image, no container, no lease.
    ///
    /// # Errors
    /// The damage of a document whose needs nobody knows then, with nothing removed; or a failed call.
    pub fn prune(&self, what: &Prune) -> Result<Vec<Swept>> {
        let lock = self.lock_leases(Kind::Exclusive)?;
        let reach = Reach::of_all(self, what.keep_since, what.dry_run)?;
        let mut unneeded = Vec::new();
        if what.blobs {
            self.unneeded_blobs(&reach, what.keep_since, &mut unneeded)?;
        }
        if what.layers {
            self.unneeded_trees(&reach, what.keep_since, &mut unneeded)?;
        }
        let mut swept = Vec::new();
        if what.dry_run {
            for Unneeded { kind, digest, path } in unneeded {
                swept.push(Swept { kind, digest, bytes: self.usage(&path, &mut Seen::new())?.allocated });
            }
        } else if !unneeded.is_empty() {
            let staged = StagedDir::new(self)?;
            let at = |n: usize| format!("{}/{n}", staged.path());
            for (n, one) in unneeded.iter().enumerate() {
                files::rename(self.dir(), &one.path, self.dir(), &at(n))?;
            }
            drop(lock);
            for (n, Unneeded { kind, digest, .. }) in unneeded.into_iter().enumerate() {
                swept.push(Swept { kind, digest, bytes: self.usage(&at(n), &mut Seen::new())?.allocated });
            }
            staged.remove()?;
        }
        if what.blobs {
            self.prune_ingest(what, &mut swept)?;
        }
        Ok(swept)
    }

    fn unneeded_blobs(&self, reach: &Reach<'_>, keep: Duration, all: &mut Vec<Unneeded>) -> Result<()> {
        for digest in self.blobs()?.into_iter().filter(|digest| !reach.has(digest)) {
            let path = blob_path(&digest);
            let stat = found(files::lstat(self.dir(), &path)).about(&path)?;
            // What is no file is for a repair; another program may just be writing what it names last.
            if stat.is_some_and(|s| FileType::from_raw_mode(s.st_mode).is_file() && !is_young(&s, keep)) {
                all.push(Unneeded { kind: "blob", digest, path });
            }
        }
        Ok(())
    }

    fn unneeded_trees(&self, reach: &Reach<'_>, keep: Duration, all: &mut Vec<Unneeded>) -> Result<()> {
        for path in self.tree_paths()? {
            let Ok(digest) = Digest::from_hex(path.rsplit('/').next().unwrap_or_default()) else { continue };
            let made = found(files::lstat(self.dir(), format!("{path}/layer.json"))).about(&path)?;
            if !reach.has(&digest) && !made.is_some_and(|stat| is_young(&stat, keep)) {
                let kind = if path.starts_with("fixes/") { "fixes" } else { "layer" };
                all.push(Unneeded { kind, digest, path });
            }
        }
        Ok(())
    }

    /// What was fetched of blobs, by now for nobody.
    fn prune_ingest(&self, what: &Prune, swept: &mut Vec<Swept>) -> Result<()> {
        for name in files::names_in(self.dir(), "ingest")? {
            let path = format!("ingest/{name}");
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let Ok(Some((file, stat))) = files::open_regular_with(self.dir(), &path, OFlags::RDWR) else {
                continue;
            };
            let Ok(_lock) = Lock::attempt(file, Kind::Exclusive).about(&path)? else { continue };
            let stat = found(files::lstat(self.dir(), &path)).about(&path)?.filter(|now| {
                (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino) && !is_young(now, what.keep_since)
            });
            let Some(stat) = stat else { continue };
            let bytes = u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
            if !what.dry_run {
                files::unlink(self.dir(), &path)?;
            }
            swept.push(Swept { kind: "part", digest, bytes });
        }
        Ok(())
    }
}
