//! A umask of a thread's own, so that files can be made with their final mode in one call.

use nix::sched::{CloneFlags, unshare};
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::{Error, Result};

/// Gives the calling thread a umask of its own (`unshare(2)`, `CLONE_FS`, needs no privilege) and clears it.
///
/// The thread's working directory is its own from then on as well.
///
/// # Errors
/// The errno of `unshare(2)`, in a sandbox that refuses it; the umask is as before then.
pub fn clear_for_thread() -> Result<()> {
    unshare(CloneFlags::CLONE_FS)
        .map_err(|errno| Error::new("unshare", "CLONE_FS", Errno::from_raw_os_error(errno as i32)))?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_threads_keep_their_umask() {
        let mine = || {
            let before = rustix::process::umask(Mode::from_raw_mode(0o027));
            rustix::process::umask(before);
            before
        };
        let before = mine();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                clear_for_thread().expect("unshare");
                assert_eq!(mine(), Mode::empty());
            });
        });
        assert_eq!(mine(), before);
    }
}
