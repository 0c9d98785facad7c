//! Whether somebody still reads our lines.

use std::sync::mpsc::Sender;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;

use crate::blobs::Event;

/// Tells `events` when the reader of stdout, a pipe or a socket, goes away: what is fetched then is for nobody.
pub(crate) fn watch(events: Sender<Event>) {
    let stdout = std::io::stdout();
    let kind = rustix::fs::fstat(&stdout).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
        return;
    }
    // Without the thread a gone reader is noticed at the next line only.
    let _ = thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let stdout = std::io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        loop {
            match poll(&mut fds, None) {
                Ok(_) if fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
        let _ = events.send(Event::ReaderGone);
    });
}
