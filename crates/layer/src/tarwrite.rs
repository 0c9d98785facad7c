//! Tar archives: ustar headers, with PAX records for what those cannot hold (POSIX.1-2017, pax).
//!
//! Invariants: the bytes depend on what is given alone; no user or group names; a member's size field equals
//! the bytes that follow it, whatever became of the file meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::tar::Extent;

/// The block that everything in a tar archive is padded to.
const BLOCK: usize = 512;
/// What ends an archive: two blocks of zeros.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The largest value of an 11-digit octal field (size, mtime).
const OCTAL_11: u64 = 0o777_7777_7777;
/// The largest value of a 7-digit octal field (uid, gid, devmajor, devminor).
const OCTAL_7: u64 = 0o777_7777;
/// The most bytes of the `name` and `linkname` fields.
const NAME: usize = 100;
/// The most bytes of the `prefix` field.
const PREFIX: usize = 155;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file with so many bytes of data.
    File {
        size: u64,
    },
    /// A regular file of that size with holes between its extents (GNU tar's sparse format 1.0).
    Sparse {
        size: u64,
        extents: Vec<Extent>,
    },
    /// Another name of a member before it.
    HardLink {
        target: Vec<u8>,
    },
    Symlink {
        target: Vec<u8>,
    },
    Directory,
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// A member's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Relative, without `./`; directories without their trailing slash; empty for the root.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970 and nanoseconds after them.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// How many bytes of a member's data the source had: all, or another number than announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    Whole,
    /// The file had shrunk: zeros stand for the rest.
    Padded,
    /// The file had grown: the announced size was written.
    Cut,
}

/// Writes members one after the other.
pub(crate) struct TarWriter<W> {
    out: W,
    written: u64,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0 }
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes a member that has no data.
    pub(crate) fn member(&mut self, member: &Member) -> io::Result<()> {
        let mut pax = Records::default();
        let header = header(member, &mut pax);
        if !pax.0.is_empty() {
            let extension = pax_header(member, pax.0.len() as u64);
            self.put(&extension)?;
            self.put(&pax.0)?;
            self.pad(pax.0.len() as u64)?;
        }
        self.put(&header)
    }

    /// Writes a regular file: `size` bytes of `data`, padded with zeros where it ends before.
    ///
    /// Errors of `data` come back as [`CopyError::Read`], those of the output as [`CopyError::Write`].
    pub(crate) fn file(
        &mut self,
        member: &Member,
        data: impl Read,
        buffer: &mut [u8],
    ) -> Result<Copied, CopyError> {
        let Kind::File { size } = member.kind else {
            unreachable!("invariant: only regular files have data");
        };
        self.member(member).map_err(CopyError::Write)?;
        let mut data = data;
        let whole = self.copy(&mut data, size, buffer)?;
        self.pad(size).map_err(CopyError::Write)?;
        // One more read tells whether the file has grown; at the end of a file it costs next to nothing.
        match data.read(&mut buffer[..1]) {
            Ok(1..) if whole => Ok(Copied::Cut),
            _ if whole => Ok(Copied::Whole),
            _ => Ok(Copied::Padded),
        }
    }

    /// Writes a sparse file: its map, then its extents one after the other.
    ///
    /// # Errors
    /// As [`TarWriter::file`].
    pub(crate) fn sparse(
        &mut self,
        member: &Member,
        mut data: &File,
        buffer: &mut [u8],
    ) -> Result<Copied, CopyError> {
        let Kind::Sparse { extents, .. } = &member.kind else {
            unreachable!("invariant: only sparse files have extents");
        };
        self.member(member).map_err(CopyError::Write)?;
        self.put(&map_bytes(extents)).map_err(CopyError::Write)?;
        let mut whole = true;
        for extent in extents {
            data.seek(SeekFrom::Start(extent.offset)).map_err(CopyError::Read)?;
            whole &= self.copy(&mut data, extent.length, buffer)?;
        }
        self.pad(data_bytes(extents)).map_err(CopyError::Write)?;
        Ok(if whole { Copied::Whole } else { Copied::Padded })
    }

    /// Copies `size` bytes, with zeros for what is not there; false where any were missing.
    fn copy(&mut self, data: &mut impl Read, size: u64, buffer: &mut [u8]) -> Result<bool, CopyError> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match data.read(&mut buffer[..want]) {
                Ok(0) => {
                    self.zeros(left).map_err(CopyError::Write)?;
                    return Ok(false);
                }
                Ok(n) => {
                    self.put(&buffer[..n]).map_err(CopyError::Write)?;
                    left -= n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(CopyError::Read(e)),
            }
        }
        Ok(true)
    }

    /// Ends the archive and gives its size in bytes.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.put(&END)?;
        Ok(self.written)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = size % BLOCK as u64;
        if over == 0 { Ok(()) } else { self.zeros(BLOCK as u64 - over) }
    }

    fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        static ZEROS: [u8; 8192] = [0; 8192];
        while count > 0 {
            let now = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
            self.put(&ZEROS[..now])?;
            count -= now as u64;
        }
        Ok(())
    }
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// PAX records under way: `LENGTH KEY=VALUE\n`, the length counting itself.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while rest + decimal_digits(length) != length {
            length = rest + decimal_digits(length);
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn number(&mut self, key: &str, value: u64) {
        self.push(key.as_bytes(), value.to_string().as_bytes());
    }
}

fn decimal_digits(n: usize) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

/// The member's own header; what does not fit goes to `pax`, in one fixed order.
fn header(member: &Member, pax: &mut Records) -> [u8; BLOCK] {
    let mut h = [0; BLOCK];
    let mut path = stored_path(member, pax);
    if path.is_empty() {
        path.push(b'.');
    }
    if member.kind == Kind::Directory {
        path.push(b'/');
    }
    put_path(&mut h, &path, pax);
    put_octal(&mut h[100..108], u64::from(member.mode & 0o7777));
    put_number(&mut h[108..116], u64::from(member.uid), OCTAL_7, "uid", pax);
    put_number(&mut h[116..124], u64::from(member.gid), OCTAL_7, "gid", pax);
    let size = stored_size(&member.kind);
    put_number(&mut h[124..136], size, OCTAL_11, "size", pax);
    put_mtime(&mut h, member.mtime, pax);
    put_kind(&mut h, &member.kind, pax);
    for (name, value) in &member.xattrs {
        pax.push(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    seal(&mut h);
    h
}

/// The name in the header: a sparse file's own is in a record, so that readers that do not know the format do not
/// take the map for its content (GNU tar manual, "PAX Format, Version 1.0").
fn stored_path(member: &Member, pax: &mut Records) -> Vec<u8> {
    let Kind::Sparse { size, .. } = &member.kind else { return member.path.clone() };
    pax.number("GNU.sparse.major", 1);
    pax.number("GNU.sparse.minor", 0);
    pax.push(b"GNU.sparse.name", &member.path);
    pax.number("GNU.sparse.realsize", *size);
    let name = member.path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    [&member.path[..name], b"GNUSparseFile.0/", &member.path[name..]].concat()
}

/// How many bytes follow the header.
fn stored_size(kind: &Kind) -> u64 {
    match kind {
        Kind::File { size } => *size,
        Kind::Sparse { extents, .. } => map_bytes(extents).len() as u64 + data_bytes(extents),
        _ => 0,
    }
}

/// A sparse file's map: decimal lines, filled up to whole blocks.
fn map_bytes(extents: &[Extent]) -> Vec<u8> {
    let mut map = format!("{}\n", extents.len());
    for extent in extents {
        map.push_str(&format!("{}\n{}\n", extent.offset, extent.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

fn data_bytes(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.length).sum()
}

/// The header of the PAX records of `member`.
fn pax_header(member: &Member, size: u64) -> [u8; BLOCK] {
    let mut h = [0; BLOCK];
    let last = member.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let name = [b"PaxHeaders.0/", &last[..last.len().min(NAME - 13)]].concat();
    h[..name.len()].copy_from_slice(&name);
    put_octal(&mut h[100..108], 0o644);
    put_octal(&mut h[108..116], 0);
    put_octal(&mut h[116..124], 0);
    put_octal(&mut h[124..136], size.min(OCTAL_11));
    put_octal(&mut h[136..148], 0);
    h[156] = b'x';
    seal(&mut h);
    h
}

/// Name and prefix as ustar splits them, else a PAX path and the name cut short.
fn put_path(h: &mut [u8; BLOCK], path: &[u8], pax: &mut Records) {
    if path.len() <= NAME {
        h[..path.len()].copy_from_slice(path);
        return;
    }
    if let Some((prefix, name)) = split(path) {
        h[..name.len()].copy_from_slice(name);
        h[345..345 + prefix.len()].copy_from_slice(prefix);
        return;
    }
    pax.push(b"path", path);
    h[..NAME].copy_from_slice(&path[..NAME]);
}

/// The earliest slash that leaves a name short enough, if what is before it fits the prefix.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let from = path.len() - NAME - 1;
    let slash = from + path[from..path.len() - 1].iter().position(|&b| b == b'/')?;
    (1..=PREFIX).contains(&slash).then(|| (&path[..slash], &path[slash + 1..]))
}

fn put_kind(h: &mut [u8; BLOCK], kind: &Kind, pax: &mut Records) {
    let (flag, link, device) = match kind {
        Kind::File { .. } | Kind::Sparse { .. } => (b'0', None, None),
        Kind::HardLink { target } => (b'1', Some(target), None),
        Kind::Symlink { target } => (b'2', Some(target), None),
        Kind::Char { major, minor } => (b'3', None, Some((major, minor))),
        Kind::Block { major, minor } => (b'4', None, Some((major, minor))),
        Kind::Directory => (b'5', None, None),
        Kind::Fifo => (b'6', None, None),
    };
    h[156] = flag;
    if let Some(target) = link {
        let fits = target.len().min(NAME);
        h[157..157 + fits].copy_from_slice(&target[..fits]);
        if target.len() > NAME {
            pax.push(b"linkpath", target);
        }
    }
    let (major, minor) = device.unwrap_or((&0, &0));
    put_number(&mut h[329..337], u64::from(*major), OCTAL_7, "SCHILY.devmajor", pax);
    put_number(&mut h[337..345], u64::from(*minor), OCTAL_7, "SCHILY.devminor", pax);
}

/// The time in whole seconds where that is exact, with a PAX record otherwise.
fn put_mtime(h: &mut [u8; BLOCK], (seconds, nanoseconds): (i64, u32), pax: &mut Records) {
    let whole = u64::try_from(seconds).unwrap_or(0).min(OCTAL_11);
    put_octal(&mut h[136..148], whole);
    if nanoseconds != 0 || i64::try_from(whole) != Ok(seconds) {
        pax.push(b"mtime", decimal_time(seconds, nanoseconds).as_bytes());
    }
}

/// Seconds with a fraction, as PAX writes them: -1 s and 750,000,000 ns is `-0.25`.
fn decimal_time(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, part) = (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    let fraction = format!("{part:09}");
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{dot}{fraction}")
}

/// An octal field, or zero there and a PAX record where the value is larger than `most`.
fn put_number(field: &mut [u8], value: u64, most: u64, key: &str, pax: &mut Records) {
    if value <= most {
        put_octal(field, value);
    } else {
        put_octal(field, 0);
        pax.number(key, value);
    }
}

/// Octal digits with leading zeros and a final NUL.
fn put_octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for place in field[..digits].iter_mut().rev() {
        *place = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Magic, version and checksum.
fn seal(h: &mut [u8; BLOCK]) {
    h[257..265].copy_from_slice(b"ustar\x0000");
    h[148..156].fill(b' ');
    let sum: u32 = h.iter().map(|&b| u32::from(b)).sum();
    let text = format!("{sum:06o}\0 ");
    h[148..156].copy_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &[u8], kind: Kind) -> Member {
        Member {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: BTreeMap::new(),
        }
    }

    #[test]
    fn times_are_exact_decimals_also_before_1970() {
        for (seconds, nanoseconds, want) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (1, 1, "1.000000001"),
            (-1, 0, "-1"),
            (-1, 750_000_000, "-0.25"),
            (i64::MIN, 0, "-9223372036854775808"),
        ] {
            assert_eq!(decimal_time(seconds, nanoseconds), want);
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for size in [1, 90, 91, 92, 985, 986, 987, 988, 9980, 9990, 99_985] {
            let mut records = Records::default();
            records.push(b"key", &vec![b'v'; size]);
            let length: usize = std::str::from_utf8(&records.0)
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok())
                .expect("a length");
            assert_eq!(length, records.0.len(), "value of {size} bytes");
        }
    }

    #[test]
    fn a_long_path_is_split_where_ustar_can_hold_it() {
        let cases: [(Vec<u8>, bool); 5] = [
            ([vec![b'a'; 155], b"/".to_vec(), vec![b'b'; 100]].concat(), true),
            ([vec![b'a'; 156], b"/".to_vec(), vec![b'b'; 99]].concat(), false),
            (vec![b'a'; 101], false),
            ([b"/".to_vec(), vec![b'a'; 100]].concat(), false),
            ([vec![b'a'; 100], b"/".to_vec()].concat(), false),
        ];
        for (path, splits) in cases {
            let mut records = Records::default();
            put_path(&mut [0; BLOCK], &path, &mut records);
            assert_eq!(records.0.is_empty(), splits, "{} bytes", path.len());
        }
    }

    #[test]
    fn a_file_that_changes_its_size_keeps_the_archive_aligned() {
        let announced = member(b"f", Kind::File { size: 600 });
        for (have, want) in [(600, Copied::Whole), (10, Copied::Padded), (5000, Copied::Cut)] {
            let mut out = Vec::new();
            let mut tar = TarWriter::new(&mut out);
            let data = vec![b'x'; have];
            let copied = tar.file(&announced, &data[..], &mut [0; 64]).expect("write");
            assert_eq!(copied, want);
            assert_eq!(tar.finish().expect("finish"), 512 + 1024 + 1024);
            assert_eq!(out.iter().filter(|&&b| b == b'x').count(), have.min(600));
        }
    }
}
