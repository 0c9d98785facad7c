//! A file's bytes from one descriptor to another, holes kept.

use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How much one call copies where the kernel cannot copy by itself.
const BUFFER_BYTES: usize = 256 * 1024;

/// Copies `size` bytes; a source that shrank meanwhile ends earlier, one that grew is cut.
pub(crate) fn copy(source: impl AsFd, dest: impl AsFd, size: u64) -> rustix::io::Result<()> {
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            // A file system that does not tell.
            Err(Errno::INVAL) => at,
            Err(errno) => return Err(errno),
        };
        let hole = match rustix::fs::seek(&source, SeekFrom::Hole(data)) {
            Ok(hole) => hole.min(size),
            Err(Errno::INVAL | Errno::NXIO) => size,
            Err(errno) => return Err(errno),
        };
        let end = extent(&source, &dest, data, hole)?;
        if end < hole {
            return rustix::fs::ftruncate(&dest, end);
        }
        at = hole.max(at + 1);
    }
    rustix::fs::ftruncate(&dest, size)
}

/// Copies the bytes from `at` to `end`; returns how far the source went.
fn extent(source: impl AsFd, dest: impl AsFd, mut at: u64, end: u64) -> rustix::io::Result<u64> {
    let mut by_kernel = true;
    let mut buffer = Vec::new();
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX);
        if by_kernel {
            let (mut from, mut to) = (at, at);
            match rustix::fs::copy_file_range(
                &source,
                Some(&mut from),
                &dest,
                Some(&mut to),
                want.min(1 << 30),
            ) {
                Ok(0) => by_kernel = false,
                Ok(n) => at += n as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                    by_kernel = false
                }
                Err(errno) => return Err(errno),
            }
            continue;
        }
        buffer.resize(BUFFER_BYTES, 0);
        let n = match rustix::io::pread(&source, &mut buffer[..want.min(BUFFER_BYTES)], at) {
            Ok(0) => return Ok(at),
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let mut done = 0;
        while done < n {
            match rustix::io::pwrite(&dest, &buffer[done..n], at + done as u64) {
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        at += n as u64;
    }
    Ok(at)
}
