//! `leases/<hex>`: what running commands need, so that pruning leaves it alone.
//!
//! A command holds a shared lock on the file of every digest it read or printed; its time of change says when that was
//! last the case. What a process puts into the store is leased until it ends, before it can be seen.
//!
//! `leases/.lock` is held shared for the moment in which a lease is taken, and exclusively while pruning decides what
//! nobody needs and renames it away. So what is looked at after a lease was taken stays, and what is gone is seen to be gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use descriptor::Digest;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW};
use sys::Call;
use sys::lock::{Kind, Lock};

use crate::files::About;
use crate::index::lock_file_as;
use crate::{Result, Store, files};

/// Whoever takes a lease holds it shared, whoever prunes exclusively.
const LOCK: &str = "leases/.lock";

/// The locks of leases.
pub(crate) type Held = Mutex<BTreeMap<Digest, Lock>>;

/// What a tool needs while it lives.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    held: Held,
}

impl Store {
    /// A lease on nothing yet.
    pub fn lease(&self) -> Lease {
        Lease { store: self.clone(), held: Mutex::default() }
    }

    /// Keeps what this process is about to put into the store, or finds there, until the store's last clone is dropped.
    pub(crate) fn keep(&self, digest: &Digest) -> Result<()> {
        take(self, self.kept(), digest)
    }

    /// Waits for the lock of the leases.
    pub(crate) fn lock_leases(&self, kind: Kind) -> Result<Lock> {
        lock_file_as(self, LOCK, kind)
    }
}

impl Lease {
    /// Keeps what `digest` names, and what that refers to, until this value is dropped and for a while after.
    ///
    /// What was looked at before may be gone: look again after this.
    ///
    /// # Errors
    /// A failed call.
    pub fn touch(&self, digest: &Digest) -> Result<()> {
        take(&self.store, &self.held, digest)
    }
}

fn take(store: &Store, held: &Held, digest: &Digest) -> Result<()> {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if held.contains_key(digest) {
        return Ok(());
    }
    let _shared = store.lock_leases(Kind::Shared)?;
    let path = format!("leases/{}", digest.hex());
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let Some((file, stat)) = files::open_regular_with(store.dir(), &path, flags)? else {
            continue;
        };
        let lock = Lock::wait(file, Kind::Shared).about(&path)?;
        // Removed between open and lock?
        if !files::is_named(store.dir(), &path, &stat)? {
            continue;
        }
        let now = || Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now(), last_modification: now() };
        rustix::fs::futimens(lock.file(), &times).call("futimens", String::new).about(&path)?;
        held.insert(*digest, lock);
        return Ok(());
    }
}
