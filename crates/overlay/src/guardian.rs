//! A process beside the keeper of a one-off: removes the container when its keeper dies without a word.
//!
//! Ctrl-C ends a whole pipeline and kill -9 asks nobody. Locks are freed by death, so the guardian finds the container's
//! lock free once its keeper is gone.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use store::{Container, Store};
use sys::process::{Cloned, Range, clone, close_range, is_single_threaded};

use crate::Error;
use crate::remove::{Running, remove};

/// How often the removal is tried, and how long apart: a container's process dies a moment after its keeper.
const TRIES: u32 = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The guardian as its keeper sees it; dropped, it is dismissed.
#[derive(Debug)]
pub(crate) struct Guardian {
    /// A byte dismisses it; an end without one is the keeper's death.
    word: OwnedFd,
    child: Cloned,
}

/// The container to remove, so named that a successor is never taken for it.
struct Ward {
    store: PathBuf,
    id: String,
    instance: String,
}

impl Guardian {
    /// Starts a guardian; none where this process has threads, whose locks a clone would find locked for ever.
    pub(crate) fn start(container: &Container) -> Option<Self> {
        if !is_single_threaded() {
            return None;
        }
        let ward = Ward {
            store: container.store().path().to_path_buf(),
            id: container.id().to_string(),
            instance: container.instance().to_string(),
        };
        let (read, word) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        let child = clone(0, true, || ward.guard(&read)).ok()?;
        Some(Self { word, child })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // A guardian that is gone already needs no word.
        let _ = rustix::io::write(&self.word, b".");
        let _ = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

impl Ward {
    fn guard(&self, word: &OwnedFd) -> u8 {
        // What ends the keeper's process group is not to end this one.
        let _ = rustix::process::setsid();
        let _ = SigSet::all().thread_set_mask();
        let _ = rustix::thread::set_name(c"oci:guard");
        // A pipe of the pipeline must not be held open here.
        let number = word.as_fd().as_raw_fd().unsigned_abs();
        let apart = close_range(0, number - 1, Range::Close).is_ok()
            && close_range(number + 1, u32::MAX, Range::Close).is_ok();
        if !apart {
            return 1;
        }
        loop {
            match rustix::io::read(word, &mut [0_u8; 1]) {
                Ok(0) => break,
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return 0,
                Err(_) => return 1,
            }
        }
        u8::from(!self.removed(&self.store))
    }

    fn removed(&self, store: &Path) -> bool {
        for _ in 0..TRIES {
            let found = Store::open(Some(store)).and_then(|store| store.container(&self.id));
            let Ok(container) = found else { return true };
            if container.instance() != self.instance {
                return true;
            }
            match remove(container, Running::Refuse) {
                Err(Error::Running { .. }) => std::thread::sleep(BETWEEN_TRIES),
                result => return result.is_ok(),
            }
        }
        false
    }
}
