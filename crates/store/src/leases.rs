//! `leases/<hex>`: what running commands need, so that pruning leaves it alone.
//!
//! A command holds a shared lock on the file of every digest it read or printed; its time of change says when that was
//! last the case. Pruning takes the exclusive lock, and looks at the time, before it removes anything.

use std::collections::BTreeMap;
use std::sync::Mutex;

use descriptor::Digest;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW};
use sys::Call;
use sys::lock::{Kind, Lock};

use crate::files::About;
use crate::{Result, Store, files};

/// What a tool needs while it lives.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    held: Mutex<BTreeMap<Digest, Lock>>,
}

impl Store {
    /// A lease on nothing yet.
    pub fn lease(&self) -> Lease {
        Lease { store: self.clone(), held: Mutex::default() }
    }
}

impl Lease {
    /// Keeps what `digest` names, and what that refers to, until this value is dropped and for a while after.
    ///
    /// # Errors
    /// A failed call.
    pub fn touch(&self, digest: &Digest) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.contains_key(digest) {
            return Ok(());
        }
        let path = format!("leases/{}", digest.hex());
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE;
            let Some((file, stat)) = files::open_regular_with(self.store.dir(), &path, flags)? else {
                continue;
            };
            let lock = Lock::wait(file, Kind::Shared).about(&path)?;
            // Pruned between open and lock?
            if !files::is_named(self.store.dir(), &path, &stat)? {
                continue;
            }
            let now = || Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let times = Timestamps { last_access: now(), last_modification: now() };
            rustix::fs::futimens(lock.file(), &times).call("futimens", String::new).about(&path)?;
            held.insert(*digest, lock);
            return Ok(());
        }
    }
}
