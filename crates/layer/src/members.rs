//! A tar archive read member by member, for whoever puts the members elsewhere than into a layer's tree.
//!
//! The same reader as for layers, with its limits and its refusals; names mean what they say, `.wh.` too.

use std::io::{BufRead, Read};

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::name::Path;
use crate::stream::{self, Sniffed};
use crate::tar::{Archive, Member, Source};
use crate::tree::write_data;

/// An archive under way.
pub struct Members<'a> {
    archive: Archive<Decoded<'a>>,
}

impl<'a> Members<'a> {
    /// Begins an archive, plain or compressed with gzip or zstd, as its first bytes tell.
    ///
    /// # Errors
    /// A source that fails; [`Error::Encoding`] for another compression.
    pub fn new(input: impl Read + 'a, limits: &Limits) -> Result<Self> {
        let source = Decoded { from: stream::sniffed(input)?, decoded: 0, limits: *limits };
        Ok(Self { archive: Archive::new(source, limits) })
    }

    /// The next member and its path inside whatever tree, free of `.` and `..`, empty for the tree itself; none at the end.
    ///
    /// # Errors
    /// An archive that is broken, ambiguous or beyond a limit; a name with `..`.
    pub fn next_member(&mut self) -> Result<Option<(Vec<u8>, Member)>> {
        let Some(member) = self.archive.next()? else { return Ok(None) };
        let path = Path::parse(&member.path).map_err(|why| Error::member(&member.path, why))?;
        Ok(Some((path.as_bytes().to_vec(), member)))
    }

    /// The path of a hard link's target in the same form.
    ///
    /// # Errors
    /// A name that no member can have.
    pub fn link_target(&self, member: &Member) -> Result<Vec<u8>> {
        let target = Path::parse(&member.target);
        let target =
            target.map_err(|_| Error::member(&member.path, "a hard link to a name no member can have"))?;
        Ok(target.as_bytes().to_vec())
    }

    /// Writes the current member's data to a new file, holes kept.
    ///
    /// # Errors
    /// As [`Members::next_member`]; a write that fails.
    pub fn write(&mut self, member: &Member, to: &std::os::fd::OwnedFd) -> Result<()> {
        write_data(to, member, &mut self.archive)
    }

    /// Reads what follows the archive's end, so that whoever writes it is not cut off.
    ///
    /// # Errors
    /// A source that fails.
    pub fn drain(self) -> Result<()> {
        let mut source = self.archive.into_source();
        loop {
            let used = source.fill()?.len();
            if used == 0 {
                return Ok(());
            }
            source.consume(used);
        }
    }
}

/// The decoded bytes.
struct Decoded<'a> {
    from: Sniffed<'a>,
    decoded: u64,
    limits: Limits,
}

impl Source for Decoded<'_> {
    fn fill(&mut self) -> Result<&[u8]> {
        self.limits.check(self.decoded, self.from.read.get())?;
        let (encoding, decoded) = (self.from.encoding, self.decoded);
        self.from.reader.fill_buf().map_err(|e| stream::failed(e, encoding, decoded))
    }

    fn consume(&mut self, bytes: usize) {
        self.decoded += bytes as u64;
        self.from.reader.consume(bytes);
    }
}
