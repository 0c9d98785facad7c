//! One-offs: containers made with `--rm`, removed by whichever stage ends their journey.

use std::os::fd::AsFd;
use std::time::Duration;

use cli::{During, Failure, Stage};
use descriptor::Line;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;
use store::{Container, Store};

use crate::guardian::Guardian;
use crate::remove::{Running, remove};

/// How long apart a pipe is looked at, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Who holds this is responsible for the container's end; for one without `--rm` it does nothing.
///
/// Dropped without a word, it takes the container for failed; so does the death of this process, by a signal say, which a
/// [guardian](crate::guardian) beside it sees.
#[derive(Debug)]
#[must_use]
pub struct OneOff {
    /// None where there is nothing to do any more.
    container: Option<Container>,
    keep_on_failure: bool,
    /// Its nameless volumes go with it, which the removal of one that was not made so leaves.
    with_volumes: bool,
    /// Speaks for this process if it dies; dismissed by whatever ends the responsibility.
    guardian: Option<Guardian>,
}

impl OneOff {
    /// Takes the responsibility for a container.
    ///
    /// # Errors
    /// Where its create.json cannot be read.
    pub fn of(container: &Container) -> crate::Result<Self> {
        Self::made_so_or(container, false)
    }

    /// Takes the responsibility for a container that is a one-off from here on, however it was made.
    ///
    /// # Errors
    /// As [`OneOff::of`].
    pub fn made_so_or(container: &Container, from_here: bool) -> crate::Result<Self> {
        let doc = container.create()?;
        let container = (doc.auto_remove || from_here).then(|| container.clone());
        let guarded = container.as_ref().filter(|_| !doc.keep_on_failure);
        let guardian = guarded.and_then(Guardian::start);
        let with_volumes = from_here && !doc.auto_remove;
        Ok(Self { container, keep_on_failure: doc.keep_on_failure, with_volumes, guardian })
    }

    /// Ends the journey of a line's container that no stage will take: where it is a one-off, as after a failure.
    pub fn abandon(store: &Store, line: &Line, stage: &Stage) {
        let Line::Container(line) = line else { return };
        // What cannot be found in this store is not ours to remove.
        let Ok(container) = store.resolve_line(line) else { return };
        if let Ok(one_off) = Self::of(&container) {
            // Ended by the failure that the stage tells, and so without one of its own.
            let _ = one_off.end(&Err::<(), _>(Failure::reader_gone()), stage);
        }
    }

    /// The stage is the last one of the container's journey: removes it, whether or not all went well, except that
    /// a failure leaves a `--keep-on-failure` container and says how to enter it, and one that is being restarted stays.
    ///
    /// # Errors
    /// Where all went well but the removal; a removal that fails after a failure is a warning.
    pub fn end<T>(mut self, result: &Result<T, Failure>, stage: &Stage) -> Result<(), Failure> {
        let Some(container) = self.container.take() else { return Ok(()) };
        let _until_removed = self.guardian.take();
        let name = container.name().to_string();
        if result.is_err() && self.keep_on_failure {
            let store = named(container.store());
            stage.warn(&format!(
                "container {name} is kept; enter it with: oci-inspect {name}{store} | oci-spawn{store} -t -- /bin/sh"
            ));
            return Ok(());
        }
        if container.state().is_ok_and(|state| state.restarting) {
            return Ok(());
        }
        let (store, id) = (container.store().clone(), container.id().to_string());
        let removed = remove(container, Running::Refuse)
            // One that was not made as a one-off leaves its nameless volumes.
            .and_then(|()| if self.with_volumes { Ok(store.remove_volumes_of(&id)?) } else { Ok(()) })
            .during(|| format!("removing container {name}"));
        match (removed, result.is_err()) {
            (Err(failure), true) => stage.warn(&failure.to_string()),
            (removed, _) => return removed,
        }
        Ok(())
    }

    /// The stage passes the container on: after success it is the next stage's, after a failure its end.
    ///
    /// Waits until the reader of stdout took the line; one that is gone without is a failure.
    ///
    /// # Errors
    /// [`Failure::reader_gone`]; otherwise none.
    pub fn pass<T>(mut self, result: Result<T, Failure>, stage: &Stage) -> Result<T, Failure> {
        if self.container.is_none() {
            return result;
        }
        let result = match result {
            Ok(_) if !taken(std::io::stdout()) => Err(Failure::reader_gone()),
            other => other,
        };
        if result.is_ok() {
            self.container = None;
            self.guardian = None;
        } else {
            self.end(&result, stage)?;
        }
        result
    }
}

/// The option that names a store, for a shell; nothing where it is found without.
fn named(store: &Store) -> String {
    if store.is_found_unnamed() {
        return String::new();
    }
    let path = store.path().display().to_string();
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+:".contains(&b));
    if plain { format!(" --store {path}") } else { format!(" --store '{}'", path.replace('\'', "'\\''")) }
}

impl Drop for OneOff {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        if !self.keep_on_failure {
            // Nobody is left to be told.
            let _ = remove(container, Running::Refuse);
        }
    }
}

/// Waits until all that was written to a pipe has been read; false where its reader ended before.
///
/// Anything but a pipe has taken what was written.
pub fn taken(out: impl AsFd) -> bool {
    let is_pipe = |fd: &dyn AsFd| {
        rustix::fs::fstat(fd.as_fd()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_fifo())
    };
    if !is_pipe(&out) {
        return true;
    }
    let mut pause = FIRST_PAUSE;
    loop {
        // Asked before looking: a reader may take the line and end in between.
        let gone = reader_gone(&out, pause);
        match rustix::io::ioctl_fionread(&out) {
            Ok(0) | Err(_) => return true,
            Ok(_) if gone => return false,
            Ok(_) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Waits for a moment; true as soon as no descriptor of the pipe's other end is open.
fn reader_gone(out: impl AsFd, wait: Duration) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let _ = rustix::event::poll(&mut fds, Some(&timeout));
    fds[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_as_taken_once_it_was_read() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        rustix::io::write(&write, b"line\n").expect("write");
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            let mut bytes = [0; 16];
            rustix::io::read(&read, &mut bytes).expect("read")
        });
        assert!(taken(&write));
        assert_eq!(reader.join().expect("reader"), 5);
    }

    #[test]
    fn a_reader_that_ended_did_not_take_it() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        rustix::io::write(&write, b"line\n").expect("write");
        drop(read);
        assert!(!taken(&write));
    }

    #[test]
    fn a_file_takes_everything() {
        assert!(taken(tempfile::tempfile().expect("a file")));
    }
}
