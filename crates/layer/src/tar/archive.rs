//! Members one after the other, with the headers that belong to each.

use super::header::{BLOCK, Block, Fault, Header, sparse_extension, until_nul};
use super::pax::Pax;
use super::sparse::{self, MapReader};
use super::{Extent, Kind, Member, Time};
use crate::error::{Error, Result};
use crate::limits::{EXTENSION_BYTES, Limits, NAME_BYTES, SPARSE_EXTENTS};

/// Decoded bytes as they come.
pub(crate) trait Source {
    /// The bytes at hand; none only at the end.
    fn fill(&mut self) -> Result<&[u8]>;

    /// Marks some of them as used.
    fn consume(&mut self, bytes: usize);
}

/// A tar archive that is being read.
pub(crate) struct Archive<S> {
    source: S,
    /// Decoded bytes used so far.
    offset: u64,
    /// Of the current member's data.
    left: u64,
    /// After the data, up to the next block.
    padding: usize,
    defaults: Pax,
    entries: u64,
    /// Global headers, which are no members and cost as much.
    globals: u64,
    limit: u64,
}

/// The headers that came before a member's own.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Extensions {
    fn are_there(&self) -> bool {
        self.pax.is_some() || self.path.is_some() || self.target.is_some()
    }
}

impl<S: Source> Archive<S> {
    pub(crate) fn new(source: S, limits: &Limits) -> Self {
        let defaults = Pax::default();
        Self {
            source,
            offset: 0,
            left: 0,
            padding: 0,
            defaults,
            entries: 0,
            globals: 0,
            limit: limits.entries,
        }
    }

    /// How many members there were.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// The next member, past whatever is unread of the one before; none at the archive's end.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        self.skip_data()?;
        let mut extensions = Extensions::default();
        loop {
            let start = self.offset;
            let at = |why| Error::Archive { offset: start, why };
            let Some(block) = self.header_block()? else {
                if extensions.are_there() {
                    return Err(at("extension header without its member"));
                }
                return Ok(None);
            };
            let header = Header::new(&block).map_err(at)?;
            if self.extension(&header, &mut extensions)? {
                continue;
            }
            self.entries += 1;
            if self.entries > self.limit {
                return Err(Error::Limit { what: "members", limit: self.limit });
            }
            return self.member(&header, extensions, start).map(Some);
        }
    }

    /// Bytes of the current member's data: some of them, none at their end.
    pub(crate) fn data(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = self.source.fill()?;
        if bytes.is_empty() {
            return Err(Error::Archive { offset, why: "ends inside a member's data" });
        }
        Ok(&bytes[..bytes.len().min(left)])
    }

    /// Marks data as used.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.source.consume(bytes);
        self.offset += bytes as u64;
        self.left -= bytes as u64;
    }

    /// Gives the source back for what comes after the archive's end.
    pub(crate) fn into_source(self) -> S {
        self.source
    }

    /// True where the header extends the next member's.
    fn extension(&mut self, header: &Header<'_>, extensions: &mut Extensions) -> Result<bool> {
        let start = self.offset;
        let at = |why| Error::Archive { offset: start, why };
        match header.typeflag() {
            b'x' => {
                if extensions.pax.is_some() {
                    return Err(at("two PAX headers for one member"));
                }
                extensions.pax = Some(Pax::parse(&self.extension_bytes(header)?).map_err(at)?);
            }
            b'g' => {
                self.globals += 1;
                if self.globals > self.limit {
                    return Err(Error::Limit { what: "global headers", limit: self.limit });
                }
                let global = Pax::parse(&self.extension_bytes(header)?).map_err(at)?;
                self.defaults.take_global(global).map_err(at)?;
            }
            flag @ (b'L' | b'K') => {
                let bytes = self.extension_bytes(header)?;
                let name = until_nul(&bytes).to_vec();
                let slot = if flag == b'L' { &mut extensions.path } else { &mut extensions.target };
                if slot.replace(name).is_some() {
                    return Err(at("two GNU long names for one member"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn extension_bytes(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let offset = self.offset;
        let at = |why| Error::Archive { offset, why };
        let size = header.size().map_err(at)?;
        if size > EXTENSION_BYTES {
            return Err(at("extension header is too large"));
        }
        let mut bytes = Vec::new();
        self.begin_data(size);
        loop {
            let chunk = self.data()?;
            if chunk.is_empty() {
                break;
            }
            bytes.extend_from_slice(chunk);
            let used = chunk.len();
            self.consume(used);
        }
        self.skip_data()?;
        Ok(bytes)
    }

    fn member(&mut self, header: &Header<'_>, extensions: Extensions, start: u64) -> Result<Member> {
        let pax = extensions.pax.unwrap_or_default();
        let at = |why| Error::Archive { offset: start, why };
        if (pax.path.is_some() && extensions.path.is_some())
            || (pax.target.is_some() && extensions.target.is_some())
        {
            return Err(at("PAX and GNU long names for one member"));
        }
        let sparse_name = pax.sparse.name.clone();
        let path = sparse_name.or(pax.path.clone()).or(extensions.path).unwrap_or_else(|| header.path());
        let target = pax.target.clone().or(extensions.target).unwrap_or_else(|| header.target());
        if path.len() > NAME_BYTES || target.len() > NAME_BYTES {
            return Err(Error::member(&path, "name or target is longer than 4096 bytes"));
        }
        let fault = |why| Error::member(&path, why);
        let kind = kind(header.typeflag(), &path).map_err(fault)?;
        let (major, minor) = devices(header, &pax, kind).map_err(fault)?;
        let stored = stored_size(header, &pax, kind).map_err(fault)?;
        let seconds = header.mtime().map_err(fault)?;
        let mut member = Member {
            target: if matches!(kind, Kind::HardLink | Kind::Symlink) { target } else { Vec::new() },
            kind,
            mode: header.mode().map_err(fault)?,
            uid: id(pax.uid.or(self.defaults.uid), || header.uid()).map_err(fault)?,
            gid: id(pax.gid.or(self.defaults.gid), || header.gid()).map_err(fault)?,
            size: stored,
            mtime: pax.mtime.or(self.defaults.mtime).unwrap_or(Time { seconds, nanoseconds: 0 }),
            major,
            minor,
            sparse: None,
            xattrs: Vec::new(),
            path,
        };
        self.begin_data(stored);
        self.sparse(header, &pax, &mut member)?;
        member.xattrs = pax.xattrs;
        Ok(member)
    }

    /// Finds a sparse member's map, wherever its format keeps it.
    fn sparse(&mut self, header: &Header<'_>, pax: &Pax, member: &mut Member) -> Result<()> {
        let map = if header.typeflag() == b'S' {
            if pax.sparse.is_there() {
                return Err(Error::member(&member.path, "two kinds of sparse headers"));
            }
            self.old_sparse(header, member)?
        } else if pax.sparse.is_there() {
            self.pax_sparse(pax, member)?
        } else {
            return Ok(());
        };
        if member.kind != Kind::File {
            return Err(Error::member(&member.path, "sparse, but no regular file"));
        }
        sparse::check(&map, member.size, self.left).map_err(|why| Error::member(&member.path, why))?;
        member.sparse = Some(map);
        Ok(())
    }

    fn old_sparse(&mut self, header: &Header<'_>, member: &mut Member) -> Result<Vec<Extent>> {
        let stored = self.left;
        let (mut map, mut more, size) = header.sparse().map_err(|why| Error::member(&member.path, why))?;
        while more {
            if map.len() >= SPARSE_EXTENTS {
                return Err(Error::member(&member.path, "sparse map has too many extents"));
            }
            // Extension blocks stand before the data and are not part of its size.
            self.begin_data(BLOCK as u64);
            let block = self.data_block(&member.path)?;
            let (extents, another) =
                sparse_extension(&block).map_err(|why| Error::member(&member.path, why))?;
            if extents.is_empty() && another {
                return Err(Error::member(&member.path, "sparse map has a block without extents"));
            }
            map.extend(extents);
            more = another;
        }
        self.begin_data(stored);
        member.size = size;
        Ok(map)
    }

    fn pax_sparse(&mut self, pax: &Pax, member: &mut Member) -> Result<Vec<Extent>> {
        let records = &pax.sparse;
        let fault = |why| Error::member(&member.path, why);
        let size = records.size.ok_or_else(|| fault("sparse member without its size"))?;
        let map = match (records.major, records.minor) {
            (Some(1), Some(0)) if records.map.is_none() => {
                let mut reader = MapReader::default();
                while !reader.take(&self.data_block(&member.path)?).map_err(fault)? {}
                reader.into_map()
            }
            (None | Some(0), _) => {
                let map = records.map.clone().unwrap_or_default();
                if records.count.is_some_and(|count| count != map.len() as u64) {
                    return Err(fault("sparse map and its count disagree"));
                }
                map
            }
            _ => return Err(fault("unknown sparse format")),
        };
        member.size = size;
        Ok(map)
    }

    /// One whole block of a member's data.
    fn data_block(&mut self, path: &[u8]) -> Result<Block> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = self.data()?;
            if bytes.is_empty() {
                return Err(Error::member(path, "sparse map goes beyond the data"));
            }
            let used = bytes.len().min(BLOCK - filled);
            block[filled..filled + used].copy_from_slice(&bytes[..used]);
            self.consume(used);
            filled += used;
        }
        Ok(block)
    }

    fn begin_data(&mut self, size: u64) {
        self.left = size;
        self.padding = (size.wrapping_neg() % BLOCK as u64) as usize;
    }

    /// Passes over what is left of the data and its padding.
    fn skip_data(&mut self) -> Result<()> {
        // The limit on decoded bytes ends a size that lies.
        loop {
            let used = self.data()?.len();
            if used == 0 {
                break;
            }
            self.consume(used);
        }
        self.skip_padding()
    }

    /// Passes over what fills up the last block; an archive may end inside of it, all data being there.
    ///
    /// `umoci insert` up to 0.4.7 writes such archives, and Go's archive/tar, docker's reader, takes them.
    fn skip_padding(&mut self) -> Result<()> {
        let mut left = std::mem::take(&mut self.padding);
        while left > 0 {
            let used = self.source.fill()?.len().min(left);
            if used == 0 {
                return Ok(());
            }
            self.source.consume(used);
            self.offset += used as u64;
            left -= used;
        }
        Ok(())
    }

    /// The next header; none at the end: two blocks of zeros, or the end of all bytes between two members.
    fn header_block(&mut self) -> Result<Option<Block>> {
        let start = self.offset;
        let at = |why| Error::Archive { offset: start, why };
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().any(|&b| b != 0) {
            return Ok(Some(block));
        }
        match self.block()? {
            None => Ok(None),
            Some(second) if second.iter().all(|&b| b == 0) => Ok(None),
            Some(_) => Err(at("a lone block of zeros")),
        }
    }

    /// One block, or none where the bytes end before it.
    fn block(&mut self) -> Result<Option<Block>> {
        let start = self.offset;
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = self.source.fill()?;
            if bytes.is_empty() {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(Error::Archive { offset: start, why: "ends inside a header" });
            }
            let used = bytes.len().min(BLOCK - filled);
            block[filled..filled + used].copy_from_slice(&bytes[..used]);
            self.source.consume(used);
            filled += used;
            self.offset += used as u64;
        }
        Ok(Some(block))
    }
}

fn kind(typeflag: u8, path: &[u8]) -> std::result::Result<Kind, Fault> {
    Ok(match typeflag {
        // V7 had no directories: a trailing slash made one.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err("unknown type of member"),
    })
}

/// How many bytes of data follow: the PAX size wins, and only regular files have any (Go's archive/tar agrees).
fn stored_size(header: &Header<'_>, pax: &Pax, kind: Kind) -> std::result::Result<u64, Fault> {
    let size = match pax.size {
        Some(size) => size,
        None => header.size()?,
    };
    Ok(if kind == Kind::File { size } else { 0 })
}

/// An owner: 2^32-1 means "no change" to chown(2) and is refused like everything outside 32 bits.
fn id(
    pax: Option<i64>,
    header: impl FnOnce() -> std::result::Result<i64, Fault>,
) -> std::result::Result<u32, Fault> {
    let id = match pax {
        Some(id) => id,
        None => header()?,
    };
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or("uid or gid is out of range")
}

/// Linux has 12 bits of major and 20 bits of minor numbers (include/linux/kdev_t.h).
fn devices(header: &Header<'_>, pax: &Pax, kind: Kind) -> std::result::Result<(u32, u32), Fault> {
    if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        return Ok((0, 0));
    }
    let (major, minor) = match (pax.major, pax.minor) {
        (Some(major), Some(minor)) => (major, minor),
        _ => header.device()?,
    };
    let in_range = |number: i64, bits: u32| u32::try_from(number).ok().filter(|&n| n < 1 << bits);
    let fault = "device number is out of range";
    Ok((in_range(major, 12).ok_or(fault)?, in_range(minor, 20).ok_or(fault)?))
}
