//! Which parts of a file are zeros, and worth leaving out of the archive.
//!
//! Decided by the content alone, so that the archive is the same whatever a file system makes of holes: a file is sparse
//! where whole blocks of zeros take [`WORTH_IT`] bytes or more. Holes that the file system knows are skipped unread.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::tar::Extent;

/// Zeros are looked for in blocks of this size: more than any file system's, few enough extents.
const BLOCK: u64 = 64 * 1024;
/// Fewer zeros are written as they are: readers that know no sparse files exist, and compression takes care of zeros.
const WORTH_IT: u64 = 1024 * 1024;
/// The most extents; readers have limits of their own. With more, the shortest holes are filled.
const EXTENTS: usize = 10_000;

/// The parts of a file with data, and an empty one at its end as GNU tar has it; `None` for a file that is not sparse.
///
/// The file is at its beginning afterwards.
///
/// # Errors
/// A failed read or seek.
pub(crate) fn extents(mut file: &File, size: u64, buffer: &mut [u8]) -> io::Result<Option<Vec<Extent>>> {
    if size < WORTH_IT {
        return Ok(None);
    }
    let map = map(file, size, buffer);
    // Asking for data and holes moves the file's position.
    file.rewind()?;
    map
}

fn map(file: &File, size: u64, buffer: &mut [u8]) -> io::Result<Option<Vec<Extent>>> {
    let mut extents = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = next_data(file, at, size)? {
        scan(file, start, end, buffer, &mut extents)?;
        at = end;
    }
    let data: u64 = extents.iter().map(|extent| extent.length).sum();
    if size - data < WORTH_IT {
        return Ok(None);
    }
    let mut shortest = BLOCK;
    while extents.len() >= EXTENTS {
        shortest = shortest.saturating_mul(2);
        fill_holes(&mut extents, shortest);
    }
    extents.push(Extent { offset: size, length: 0 });
    Ok(Some(extents))
}

/// What the file system has data for, from `at` on, widened to whole blocks.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start / BLOCK * BLOCK,
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(Errno::INVAL) => return Ok(Some((at, size))),
        Err(e) => return Err(e.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start.max(at)))?;
    let start = start.max(at);
    let end = end.max(start + 1).next_multiple_of(BLOCK).min(size);
    Ok((start < size).then_some((start, end)))
}

/// Adds the blocks between two offsets that are not all zeros.
fn scan(file: &File, start: u64, end: u64, buffer: &mut [u8], extents: &mut Vec<Extent>) -> io::Result<()> {
    static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = file.read_at(&mut buffer[..want], at)?;
        if got == 0 {
            return Ok(());
        }
        for block in buffer[..got].chunks(BLOCK as usize) {
            if block != &ZEROS[..block.len()] {
                add(extents, at, block.len() as u64);
            }
            at += block.len() as u64;
        }
    }
    Ok(())
}

/// Adds a run of data, to the last one where it follows at once.
fn add(extents: &mut Vec<Extent>, offset: u64, length: u64) {
    match extents.last_mut() {
        Some(last) if last.offset + last.length == offset => last.length += length,
        _ => extents.push(Extent { offset, length }),
    }
}

/// Makes one of extents with a hole shorter than `shortest` between them.
fn fill_holes(extents: &mut Vec<Extent>, shortest: u64) {
    extents.dedup_by(|next, last| {
        let hole = next.offset - (last.offset + last.length);
        if hole < shortest {
            last.length += hole + next.length;
        }
        hole < shortest
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(parts: &[(u64, &[u8])], size: u64) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(size).expect("size");
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).expect("write");
        }
        file
    }

    fn found(file: &File, size: u64) -> Option<Vec<(u64, u64)>> {
        let extents = extents(file, size, &mut vec![0; 256 * 1024]).expect("scan");
        extents.map(|extents| extents.iter().map(|e| (e.offset, e.length)).collect())
    }

    #[test]
    fn holes_and_written_zeros_are_the_same() {
        let size = 3 * WORTH_IT + 5;
        let parts: [(u64, &[u8]); 2] = [(BLOCK + 7, b"x"), (size - 1, b"end")];
        let sparse = file(&parts[..1], size);
        let mut full = file(&[], 0);
        full.write_all(&vec![0; size as usize]).expect("write");
        full.write_all_at(b"x", BLOCK + 7).expect("write");
        let want = Some(vec![(BLOCK, BLOCK), (size, 0)]);
        assert_eq!((found(&sparse, size), found(&full, size)), (want.clone(), want));
    }

    #[test]
    fn a_terabyte_of_nothing_takes_no_time() {
        let size = 1 << 40;
        let end = size - BLOCK;
        assert_eq!(found(&file(&[(size - 1, b"x")], size), size), Some(vec![(end, BLOCK), (size, 0)]));
        assert_eq!(found(&file(&[], size), size), Some(vec![(size, 0)]));
    }

    #[test]
    fn a_file_with_few_zeros_is_not_sparse() {
        let size = WORTH_IT + BLOCK;
        assert_eq!(found(&file(&[(0, &vec![1; 2 * BLOCK as usize])], size), size), None);
        assert_eq!(found(&file(&[], WORTH_IT - 1), WORTH_IT - 1), None);
    }

    #[test]
    fn a_file_of_too_many_extents_loses_its_shortest_holes() {
        let mut extents: Vec<Extent> = (0..10).map(|n| Extent { offset: n * 20, length: 10 }).collect();
        extents.push(Extent { offset: 1000, length: 5 });
        fill_holes(&mut extents, 16);
        assert_eq!(extents, [Extent { offset: 0, length: 190 }, Extent { offset: 1000, length: 5 }]);
    }
}
