//! From the bytes of a blob to decoded chunks, hashed on the way: that is the diffID.
//!
//! gzip may have several members (RFC 1952, 2.2), zstd several frames (RFC 8878, 3); garbage after the last is an error.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use descriptor::{Digest, Hasher, media};

use crate::error::{Error, Result};
use crate::limits::{Limits, ZSTD_WINDOW_LOG};

/// Bytes handed on at a time: large enough that a channel's cost vanishes, small enough to stay in the cache.
pub(crate) const CHUNK: usize = 256 << 10;

/// Bytes read from the blob at a time.
const INPUT: usize = 128 << 10;

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A plain tar archive.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// What a layer's media type says (image-spec v1.1, layer.md; docker's schema 2); none for other media types.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            media::OCI_LAYER | media::DOCKER_LAYER => Some(Self::None),
            media::OCI_LAYER_GZIP | media::DOCKER_LAYER_GZIP => Some(Self::Gzip),
            media::OCI_LAYER_ZSTD | media::DOCKER_LAYER_ZSTD => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "a plain tar archive",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Reads a blob to its end and gives the decoded chunks to `sink`, until that wants no more.
///
/// Returns the sha256 of the decoded bytes; none where the sink wanted no more.
pub(crate) fn decode(
    input: impl Read,
    declared: Encoding,
    limits: &Limits,
    mut sink: impl FnMut(Vec<u8>) -> Option<Vec<u8>>,
) -> Result<Option<Digest>> {
    let read = Rc::new(Cell::new(0));
    let mut input = Input { inner: input, read: read.clone() };
    let head = head(&mut input).map_err(|e| failed(e, declared, 0))?;
    check_magic(&head, declared)?;
    let mut buffered = BufReader::with_capacity(INPUT, io::Cursor::new(head).chain(&mut input));
    let mut decoder = decoder(&mut buffered, declared).map_err(Error::Input)?;
    let mut hasher = Hasher::new();
    let mut bytes = 0u64;
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        chunk.reserve(CHUNK);
        let mut part = decoder.by_ref().take(CHUNK as u64);
        part.read_to_end(&mut chunk).map_err(|e| failed(e, declared, bytes))?;
        if chunk.is_empty() {
            break;
        }
        bytes += chunk.len() as u64;
        limits.check(bytes, read.get())?;
        hasher.update(&chunk);
        match sink(chunk) {
            Some(next) => chunk = next,
            None => return Ok(None),
        }
    }
    Ok(Some(hasher.finish()))
}

/// Decoded bytes, and where they come from.
pub(crate) struct Sniffed<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) reader: BufReader<Box<dyn Read + 'a>>,
    /// Bytes read of the input so far.
    pub(crate) read: Rc<Cell<u64>>,
}

/// The decoded bytes of an input that says by its first bytes what it is.
pub(crate) fn sniffed<'a>(input: impl Read + 'a) -> Result<Sniffed<'a>> {
    let read = Rc::new(Cell::new(0));
    let mut input = Input { inner: input, read: read.clone() };
    let head = head(&mut input).map_err(|e| failed(e, Encoding::None, 0))?;
    let encoding = match magic(&head) {
        "gzip" => Encoding::Gzip,
        "zstd" => Encoding::Zstd,
        _ => Encoding::None,
    };
    check_magic(&head, encoding)?;
    let buffered = BufReader::with_capacity(INPUT, io::Cursor::new(head).chain(input));
    let decoder = decoder(buffered, encoding).map_err(Error::Input)?;
    Ok(Sniffed { encoding, reader: BufReader::with_capacity(CHUNK, decoder), read })
}

fn decoder<'a>(input: impl BufRead + 'a, encoding: Encoding) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match encoding {
        Encoding::None => Box::new(input),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// The first bytes, as many as a magic number needs.
fn head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(6);
    input.take(6).read_to_end(&mut head)?;
    Ok(head)
}

/// What the first bytes are of.
fn magic(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => "bzip2",
        [] => "empty",
        _ => "something else",
    }
}

fn check_magic(head: &[u8], declared: Encoding) -> Result<()> {
    let found = magic(head);
    let agrees = match declared {
        Encoding::None => matches!(found, "empty" | "something else"),
        Encoding::Gzip => found == "gzip",
        Encoding::Zstd => found == "zstd",
    };
    if agrees { Ok(()) } else { Err(Error::Encoding { declared, found }) }
}

/// The blob's bytes; their source's failures are told from a decoder's.
struct Input<R> {
    inner: R,
    /// How many there were.
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.read.set(self.read.get() + count as u64);
                Ok(count)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => Err(io::Error::other(InputFailed(e))),
        }
    }
}

/// Marks an error as the source's on its way through a decoder.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct InputFailed(io::Error);

pub(crate) fn failed(error: io::Error, encoding: Encoding, decoded: u64) -> Error {
    match error.downcast::<InputFailed>() {
        Ok(InputFailed(source)) => Error::Input(source),
        Err(source) => Error::Decode { encoding, decoded, source },
    }
}
