//! Starting to write a file's pages to the disk before anybody waits for it.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use crate::{Call, Result};

/// Starts the writeback of a range and returns at once (`sync_file_range(2)`, `SYNC_FILE_RANGE_WRITE`).
///
/// It promises nothing and reports no failed write: the `fsync(2)` that has to follow does, and finds little left to do.
///
/// # Errors
/// `ESPIPE` for what is no file, `ENOSYS` where the file system cannot.
pub fn start_writeback(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    let fd = file.as_fd().as_raw_fd();
    let (from, count) = (offset as libc::off64_t, length as libc::off64_t);
    // SAFETY: the descriptor is borrowed for the call, and the call takes numbers only.
    let answer = unsafe { libc::sync_file_range(fd, from, count, libc::SYNC_FILE_RANGE_WRITE) };
    let answer = if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    let errno = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    answer.map_err(errno).call("sync_file_range", || format!("{offset}, {length}, SYNC_FILE_RANGE_WRITE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_writeback_can_be_started_and_a_pipes_cannot() {
        let file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut &file, &[1; 10_000]).expect("write");
        start_writeback(&file, 0, 10_000).expect("started");
        let (read, _write) = rustix::pipe::pipe().expect("a pipe");
        assert_eq!(start_writeback(&read, 0, 1).expect_err("no file").errno, Errno::SPIPE);
    }
}
