//! A layer's tree against the archive it was made of: the verified blob is the record of what the tree has to be.
//!
//! Members are compared as they come, in constant memory. One that a later member overrides differs when it comes; the
//! later one takes that back.
//!
//! Not seen: what is in the tree beside what the archive has, and the marks of opaque directories.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::thread;

use descriptor::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::chunks::{ChunkReceiver, chunks};
use crate::error::{Error, Result, escaped};
use crate::limits::Limits;
use crate::name::{Meaning, Path, is_content_xattr};
use crate::stream::{Encoding, decode};
use crate::tar::{Archive, Extent, Kind, Member};

/// How many differences are kept: a tree with as many is lost.
const MOST: usize = 1000;
/// Bytes compared at a time.
const BLOCK: usize = 64 << 10;
/// Seconds that every file system of ours keeps: ext4 has 34 bits of them, from 1901 on.
const KEPT_SECONDS: std::ops::Range<i64> = -(1 << 31)..(1 << 31);

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The sha256 of the decoded bytes.
    pub diff_id: Digest,
    /// Members.
    pub entries: u64,
    /// Bytes of file content, holes included.
    pub bytes: u64,
    /// What differs, one escaped name and what is wrong with it each.
    pub differences: Vec<String>,
}

/// Compares a tree in overlayfs form with its layer; nothing is written.
///
/// # Errors
/// The layer's content or its source; what is wrong with the tree is in the answer.
pub fn verify(input: impl Read, encoding: Encoding, tree: &Root, limits: &Limits) -> Result<Verified> {
    let (sender, receiver) = chunks();
    let (decoded, compared) = thread::scope(|scope| {
        let compare = move || compare(tree, receiver, limits);
        let comparer = thread::Builder::new().name("compare".into()).spawn_scoped(scope, compare);
        let comparer = comparer.map_err(Error::Thread)?;
        let decoded = decode(input, encoding, limits, |chunk| sender.send(chunk));
        drop(sender);
        let compared = comparer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Error>((decoded, compared))
    })?;
    let decoded = decoded?;
    let (entries, bytes, differences) = compared?;
    let diff_id = decoded.ok_or(Error::Archive { offset: 0, why: "was not read to its end" })?;
    Ok(Verified { diff_id, entries, bytes, differences })
}

fn compare(tree: &Root, source: ChunkReceiver, limits: &Limits) -> Result<(u64, u64, Vec<String>)> {
    let mut archive = Archive::new(source, limits);
    let mut comparison = Comparison { root: tree, parent: None, suspects: BTreeMap::new() };
    let mut bytes = 0u64;
    while let Some(member) = archive.next()? {
        bytes = bytes.saturating_add(member.size);
        comparison.member(&member, &mut archive)?;
    }
    let entries = archive.entries();
    archive.into_source().drain();
    let shown = |(path, suspect): (&Vec<u8>, &Suspect)| format!("{}: {}", escaped(path), suspect.why);
    Ok((entries, bytes, comparison.suspects.iter().map(shown).collect()))
}

/// What differed, unless a later member says that it should.
struct Suspect {
    why: String,
    /// What it is a hard link to.
    linked: Option<Vec<u8>>,
}

struct Comparison<'r> {
    root: &'r Root,
    /// The directory looked into last.
    parent: Option<(Vec<u8>, OwnedFd)>,
    suspects: BTreeMap<Vec<u8>, Suspect>,
}

/// Either what is wrong with the tree, or an archive that cannot be read.
type Judged = Result<std::result::Result<(), String>>;

impl Comparison<'_> {
    fn member(&mut self, member: &Member, archive: &mut Archive<ChunkReceiver>) -> Result<()> {
        let meaning = Meaning::of(member).map_err(|why| Error::member(&member.path, why))?;
        let path = match &meaning {
            Meaning::Nothing | Meaning::Opaque(_) => return Ok(()),
            Meaning::Root => Vec::new(),
            Meaning::Whiteout(path) | Meaning::Entry(path) => path.as_bytes().to_vec(),
        };
        let judged = match &meaning {
            Meaning::Whiteout(path) => self.whiteout(path),
            Meaning::Entry(path) => self.entry(path, member, archive)?,
            _ => self.root_itself(member),
        };
        let replaces = member.kind != Kind::Directory || matches!(meaning, Meaning::Whiteout(_));
        self.clear(&path, replaces);
        if let Err(why) = judged
            && self.suspects.len() < MOST
        {
            let is_link = member.kind == Kind::HardLink;
            let linked = is_link.then(|| Path::parse(&member.target).ok()).flatten();
            let linked = linked.map(|path| path.as_bytes().to_vec());
            self.suspects.insert(path, Suspect { why, linked });
        }
        Ok(())
    }

    /// What an earlier member of this name was to be is of no account any more.
    fn clear(&mut self, path: &[u8], replaces: bool) {
        if self.suspects.is_empty() {
            return;
        }
        self.suspects.retain(|suspect, Suspect { linked, .. }| {
            let is_below = suspect.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"));
            !(suspect == path || (replaces && is_below) || linked.as_deref() == Some(path))
        });
    }

    /// The directory that a path's last component lies in, as symlinks of the layer lead there.
    fn parent(&mut self, path: &Path) -> std::result::Result<BorrowedFd<'_>, String> {
        if self.parent.as_ref().is_none_or(|(known, _)| known != path.parent()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let opened = self.root.open(OsStr::from_bytes(path.parent()), flags, Mode::empty());
            let fd = opened.map_err(|e| format!("its directory: {e}"))?;
            self.parent = Some((path.parent().to_vec(), fd));
        }
        self.parent.as_ref().map(|(_, fd)| fd.as_fd()).ok_or_else(String::new)
    }

    fn root_itself(&self, member: &Member) -> std::result::Result<(), String> {
        let stat = rustix::fs::fstat(self.root).map_err(|e| e.to_string())?;
        attributes(&stat, member)
    }

    fn whiteout(&mut self, path: &Path) -> std::result::Result<(), String> {
        let stat = look(self.parent(path)?, path.last())?;
        let is_mark = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
        if is_mark { Ok(()) } else { Err("no whiteout stands there".into()) }
    }

    fn entry(&mut self, path: &Path, member: &Member, archive: &mut Archive<ChunkReceiver>) -> Judged {
        if member.kind == Kind::HardLink {
            return Ok(self.hard_link(path, member));
        }
        let parent = match self.parent(path) {
            Ok(parent) => parent,
            Err(why) => return Ok(Err(why)),
        };
        let name = path.last();
        let alike = look(parent, name).and_then(|stat| {
            kind(&stat, member)?;
            attributes(&stat, member)?;
            special(parent, name, &stat, member)?;
            xattrs(parent, name, member)
        });
        if let Err(why) = alike {
            return Ok(Err(why));
        }
        if member.kind != Kind::File {
            return Ok(Ok(()));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(file) => content(&file, member, archive),
            Err(errno) => Ok(Err(format!("cannot be opened: {errno}"))),
        }
    }

    fn hard_link(&mut self, path: &Path, member: &Member) -> std::result::Result<(), String> {
        let target = Path::parse(&member.target).map_err(str::to_string)?;
        let from = look(self.parent(&target)?, target.last())?;
        let to = look(self.parent(path)?, path.last())?;
        if from.st_ino == to.st_ino { Ok(()) } else { Err("is no link to what it should be".into()) }
    }
}

fn look(dir: BorrowedFd<'_>, name: &[u8]) -> std::result::Result<Stat, String> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(stat),
        Err(Errno::NOENT) => Err("is missing".into()),
        Err(errno) => Err(format!("cannot be looked at: {errno}")),
    }
}

fn kind(stat: &Stat, member: &Member) -> std::result::Result<(), String> {
    let wanted = match member.kind {
        Kind::File | Kind::HardLink => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Directory => FileType::Directory,
        Kind::Fifo => FileType::Fifo,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        found if found == wanted => Ok(()),
        found => Err(format!("is of another kind: {found:?}, not {wanted:?}")),
    }
}

fn attributes(stat: &Stat, member: &Member) -> std::result::Result<(), String> {
    let differs =
        |what: &str, found: String, wanted: String| Err(format!("its {what} is {found}, not {wanted}"));
    let mode = stat.st_mode & 0o7777;
    if member.kind != Kind::Symlink && mode != member.mode & 0o7777 {
        return differs("mode", format!("{mode:04o}"), format!("{:04o}", member.mode));
    }
    if (stat.st_uid, stat.st_gid) != (member.uid, member.gid) {
        let wanted = format!("{}:{}", member.uid, member.gid);
        return differs("owner", format!("{}:{}", stat.st_uid, stat.st_gid), wanted);
    }
    let seconds = member.mtime.seconds;
    if KEPT_SECONDS.contains(&seconds) && stat.st_mtime != seconds {
        return differs("time", stat.st_mtime.to_string(), seconds.to_string());
    }
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    if member.kind == Kind::File && size != member.size {
        return differs("size", size.to_string(), member.size.to_string());
    }
    Ok(())
}

/// A symlink's target, a device's numbers.
fn special(
    dir: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    member: &Member,
) -> std::result::Result<(), String> {
    match member.kind {
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|e| e.to_string())?;
            if target.as_bytes() == member.target { Ok(()) } else { Err("leads elsewhere".into()) }
        }
        Kind::CharDevice | Kind::BlockDevice
            if stat.st_rdev != rustix::fs::makedev(member.major, member.minor) =>
        {
            Err("is another device".into())
        }
        _ => Ok(()),
    }
}

fn xattrs(dir: BorrowedFd<'_>, name: &[u8], member: &Member) -> std::result::Result<(), String> {
    for (key, wanted) in member.xattrs.iter().filter(|(key, _)| is_content_xattr(key)) {
        let mut by_fd = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        by_fd.extend_from_slice(name);
        // One byte more than is wanted tells a longer value.
        let mut value = vec![0; wanted.len() + 1];
        let got = rustix::fs::lgetxattr(&*by_fd, &**key, &mut value[..]);
        if got.is_ok_and(|length| value[..length] == **wanted) {
            continue;
        }
        // Of several the last one was set.
        let again = member.xattrs.iter().rev().find(|(other, _)| other == key);
        if again.is_none_or(|(_, last)| last == wanted) {
            return Err(format!("its xattr {} differs", escaped(key)));
        }
    }
    Ok(())
}

/// Compares a file's bytes with the member's, holes included.
fn content(file: &OwnedFd, member: &Member, archive: &mut Archive<ChunkReceiver>) -> Judged {
    let whole = [Extent { offset: 0, length: member.size }];
    let mut at = 0;
    for &Extent { offset, length } in member.sparse.as_deref().unwrap_or(&whole) {
        if let Err(why) = zeros(file, at, offset)? {
            return Ok(Err(why));
        }
        at = offset;
        let end = offset.saturating_add(length);
        let mut mine = [0; BLOCK];
        while at < end {
            let wanted = archive.data()?;
            if wanted.is_empty() {
                return Err(Error::member(&member.path, "its data is shorter than its size"));
            }
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            let wanted = &wanted[..wanted.len().min(BLOCK).min(most)];
            let count = wanted.len();
            match read(file, &mut mine[..count], at) {
                Ok(got) if mine[..got] == *wanted => {}
                Ok(_) => return Ok(Err(format!("its content differs within {count} bytes of {at}"))),
                Err(e) => return Ok(Err(format!("cannot be read: {e}"))),
            }
            archive.consume(count);
            at += count as u64;
        }
    }
    zeros(file, at, member.size)
}

/// Whether there are only zeros from `at` to `end`; holes are passed over.
fn zeros(file: &OwnedFd, mut at: u64, end: u64) -> Judged {
    let mut mine = [0; BLOCK];
    while at < end {
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) if data >= end => break,
            Ok(data) => at = data,
            // No data any more.
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(_) => {}
        }
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(BLOCK);
        match read(file, &mut mine[..most], at) {
            Ok(0) => break,
            Ok(got) if mine[..got].iter().all(|byte| *byte == 0) => at += got as u64,
            Ok(_) => return Ok(Err(format!("there is something in its hole at {at}"))),
            Err(e) => return Ok(Err(format!("cannot be read: {e}"))),
        }
    }
    Ok(Ok(()))
}

fn read(file: &OwnedFd, buffer: &mut [u8], at: u64) -> sys::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call("pread", || at.to_string()),
        }
    }
    Ok(filled)
}
