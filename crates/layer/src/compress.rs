//! From a layer's archive to its blob: compression on other threads than the one that makes the archive.
//!
//! Invariants
//! - The blob depends on the archive, the method and its level alone: not on the number of threads, nor on how
//!   the archive was cut into writes, nor on time or host.
//! - A gzip blob is one member (RFC 1952): blocks are compressed independently, each with the 32 KiB before it as
//!   dictionary, end on a byte by a sync flush (RFC 1951, 3.2.4), and so make one deflate stream.
//! - Memory is bounded by the number of workers: about three blocks for each.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use descriptor::{Digest, Hasher, media};
use flate2::{Compress, Crc, FlushCompress};

use crate::pack_error::PackError;

/// What is compressed independently: large enough that the dictionary makes up for the cut, small enough to share out.
const BLOCK: usize = 256 * 1024;
/// How far back deflate can refer (RFC 1951, section 2).
const WINDOW: usize = 32 * 1024;
/// The level of gzip where none is given: its own default.
const GZIP_LEVEL: u32 = 6;
/// The level of zstd where none is given: its own default.
const ZSTD_LEVEL: i32 = 3;
/// The final, empty block of a deflate stream (RFC 1951, 3.2.6: fixed codes, end of block).
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, levels 1 to 9.
    Gzip(u32),
    /// zstd, levels 1 to 19.
    Zstd(i32),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip(GZIP_LEVEL)
    }
}

impl Compression {
    /// The media type of a layer compressed so (image-spec, layer.md).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media::OCI_LAYER,
            Self::Gzip(_) => media::OCI_LAYER_GZIP,
            Self::Zstd(_) => media::OCI_LAYER_ZSTD,
        }
    }
}

impl FromStr for Compression {
    type Err = PackError;

    fn from_str(text: &str) -> Result<Self, PackError> {
        let bad = || PackError::Compression(text.into());
        let (method, level) = match text.split_once(':') {
            Some((method, level)) => (method, Some(level.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        match (method, level) {
            ("none", None) => Ok(Self::None),
            ("gzip", None) => Ok(Self::Gzip(GZIP_LEVEL)),
            ("gzip", Some(level @ 1..=9)) => Ok(Self::Gzip(level.into())),
            ("zstd", None) => Ok(Self::Zstd(ZSTD_LEVEL)),
            ("zstd", Some(level @ 1..=19)) => Ok(Self::Zstd(level.into())),
            _ => Err(bad()),
        }
    }
}

/// A blob that was written whole.
#[derive(Debug)]
pub struct Compressed<W, T> {
    /// Where it went.
    pub out: W,
    /// The digest of the archive itself, as the image's config lists it.
    pub diff_id: Digest,
    /// What the archive's maker returned.
    pub made: T,
}

/// Runs `make` with a writer whose bytes are hashed, compressed by `workers` threads and written to `out`, all at once.
///
/// # Errors
/// What `make` returns; [`PackError::Write`] where `out` fails.
pub fn compress<W: Write + Send, T>(
    method: Compression,
    workers: usize,
    out: W,
    make: impl FnOnce(&mut dyn Write) -> Result<T, PackError>,
) -> Result<Compressed<W, T>, PackError> {
    let workers = workers.max(1);
    thread::scope(|scope| {
        let (blocks, receive) = sync_channel(workers);
        let writing = scope.spawn(move || match method {
            Compression::None => plain(&receive, out),
            Compression::Gzip(level) => gzip(&receive, out, level, workers),
            Compression::Zstd(level) => zstd(&receive, out, level),
        });
        let mut feed = Feed { hasher: Hasher::new(), block: Vec::with_capacity(BLOCK), blocks };
        let made = make(&mut feed);
        let diff_id = feed.finish();
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A failing output also fails the maker, which only sees that nobody listens any more.
        let out = written.map_err(PackError::Write)?;
        Ok(Compressed { out, diff_id: diff_id.map_err(PackError::Write)?, made: made? })
    })
}

/// The maker's end: hashes, and cuts what comes into blocks of one size.
struct Feed {
    hasher: Hasher,
    block: Vec<u8>,
    blocks: SyncSender<Vec<u8>>,
}

impl Feed {
    fn ship(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.blocks.send(block).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(mut self) -> io::Result<Digest> {
        if !self.block.is_empty() {
            self.ship()?;
        }
        Ok(self.hasher.finish())
    }
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.hasher.update(&bytes[..taken]);
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.ship()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn plain<W: Write>(blocks: &Receiver<Vec<u8>>, mut out: W) -> io::Result<W> {
    for block in blocks {
        out.write_all(&block)?;
    }
    Ok(out)
}

fn zstd<W: Write>(blocks: &Receiver<Vec<u8>>, out: W, level: i32) -> io::Result<W> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    encoder.include_checksum(true)?;
    for block in blocks {
        encoder.write_all(&block)?;
    }
    encoder.finish()
}

/// A block on its way to a worker, with the end of the block before it.
struct Job {
    block: Vec<u8>,
    dictionary: Vec<u8>,
    done: SyncSender<Deflated>,
}

struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
}

fn gzip<W: Write>(blocks: &Receiver<Vec<u8>>, mut out: W, level: u32, workers: usize) -> io::Result<W> {
    thread::scope(|scope| {
        let (jobs, take) = sync_channel::<Job>(workers);
        let take = std::sync::Arc::new(Mutex::new(take));
        for _ in 0..workers {
            let take = std::sync::Arc::clone(&take);
            scope.spawn(move || deflate_jobs(&take, level));
        }
        drop(take);
        let mut crc = Crc::new();
        let mut pending: VecDeque<Receiver<Deflated>> = VecDeque::new();
        let mut dictionary = Vec::new();
        out.write_all(&gzip_header(level))?;
        for block in blocks {
            if pending.len() > 2 * workers {
                collect(&mut pending, &mut crc, &mut out)?;
            }
            let next = block[block.len().saturating_sub(WINDOW)..].to_vec();
            let (done, result) = sync_channel(1);
            let job = Job { block, dictionary: std::mem::replace(&mut dictionary, next), done };
            jobs.send(job).map_err(|_| io::Error::other("a compression thread ended"))?;
            pending.push_back(result);
        }
        while !pending.is_empty() {
            collect(&mut pending, &mut crc, &mut out)?;
        }
        out.write_all(&LAST_BLOCK)?;
        out.write_all(&crc.sum().to_le_bytes())?;
        // RFC 1952, 2.3.1: the size modulo 2^32, which is what the sum counts.
        out.write_all(&crc.amount().to_le_bytes())?;
        Ok(out)
    })
}

/// The next block in order, waited for and written.
fn collect<W: Write>(
    pending: &mut VecDeque<Receiver<Deflated>>,
    crc: &mut Crc,
    out: &mut W,
) -> io::Result<()> {
    let Some(next) = pending.pop_front() else { return Ok(()) };
    let deflated = next.recv().map_err(|_| io::Error::other("a compression thread ended"))?;
    crc.combine(&deflated.crc);
    out.write_all(&deflated.bytes)
}

/// A worker: until there are no more jobs, or nobody waits for the result.
fn deflate_jobs(jobs: &Mutex<Receiver<Job>>, level: u32) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let Ok(deflated) = deflate_block(level, &job) else { return };
        if job.done.send(deflated).is_err() {
            return;
        }
    }
}

/// One block as part of a longer deflate stream, ending on a byte.
///
/// Each has a compressor of its own: one that is reset finds other matches than a new one (zlib-rs 0.6), so that the blob
/// would depend on which thread did which block before.
fn deflate_block(level: u32, job: &Job) -> Result<Deflated, flate2::CompressError> {
    let mut deflate = Compress::new(flate2::Compression::new(level), false);
    if !job.dictionary.is_empty() {
        deflate.set_dictionary(&job.dictionary)?;
    }
    // More than deflate can make of it (zlib.h, deflateBound), so that one call does all and flushes once.
    let mut bytes = Vec::with_capacity(job.block.len() + job.block.len() / 8 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        deflate.compress_vec(&job.block[taken..], &mut bytes, FlushCompress::Sync)?;
        // Room left over means that all was taken and flushed (zlib.h, deflate).
        if bytes.len() < bytes.capacity() {
            break;
        }
        bytes.reserve(job.block.len() / 4 + 1024);
    }
    let mut crc = Crc::new();
    crc.update(&job.block);
    Ok(Deflated { bytes, crc })
}

/// No name, no time, no operating system (RFC 1952, 2.3).
fn gzip_header(level: u32) -> [u8; 10] {
    let extra = match level {
        9 => 2,
        1 => 4,
        _ => 0,
    };
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, extra, 255]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Text-like bytes that compress, and repeat across blocks.
    fn sample(size: usize) -> Vec<u8> {
        let mut state = 12345_u64;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = format!("line {} of {}\n", state >> 48, state >> 60);
            bytes.extend_from_slice(word.as_bytes());
        }
        bytes.truncate(size);
        bytes
    }

    fn blob(method: Compression, workers: usize, data: &[u8], piece: usize) -> (Vec<u8>, Digest) {
        let done = compress(method, workers, Vec::new(), |out| {
            data.chunks(piece.max(1)).try_for_each(|part| out.write_all(part)).map_err(PackError::Write)
        })
        .expect("compress");
        (done.out, done.diff_id)
    }

    fn expanded(method: Compression, blob: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match method {
            Compression::None => bytes.extend_from_slice(blob),
            // One member alone: what follows it would be left over and missed.
            Compression::Gzip(_) => {
                flate2::read::GzDecoder::new(blob).read_to_end(&mut bytes).map(drop).expect("gunzip");
            }
            Compression::Zstd(_) => {
                zstd::Decoder::new(blob).expect("zstd").read_to_end(&mut bytes).map(drop).expect("unzstd");
            }
        }
        bytes
    }

    #[test]
    fn what_was_compressed_expands_to_itself() {
        for size in [0, 1, 1023, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77] {
            let data = sample(size);
            for method in
                [Compression::None, Compression::Gzip(6), Compression::Gzip(1), Compression::Zstd(3)]
            {
                let (blob, diff_id) = blob(method, 3, &data, 10_000);
                assert!(expanded(method, &blob) == data, "{method:?} of {size} bytes");
                assert_eq!(diff_id, Digest::of(&data));
            }
        }
    }

    #[test]
    fn neither_threads_nor_the_size_of_writes_change_the_blob() {
        let data = sample(10 * BLOCK + 4321);
        for method in [Compression::Gzip(6), Compression::Gzip(9), Compression::Zstd(3)] {
            let (one, _) = blob(method, 1, &data, BLOCK);
            for (workers, piece) in [(2, 512), (5, 77_777), (8, data.len())] {
                assert!(blob(method, workers, &data, piece).0 == one, "{method:?}, {workers} workers");
            }
        }
    }

    #[test]
    fn bytes_that_do_not_compress_survive() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(3 * BLOCK + 5)
        .collect();
        let (blob, _) = blob(Compression::Gzip(6), 2, &noise, 4096);
        assert!(expanded(Compression::Gzip(6), &blob) == noise);
    }

    #[test]
    fn blocks_cost_next_to_nothing_over_one_stream() {
        let data = sample(16 * BLOCK);
        let (ours, _) = blob(Compression::Gzip(6), 2, &data, 4096);
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        whole.write_all(&data).expect("write");
        let whole = whole.finish().expect("finish");
        assert!(ours.len() < whole.len() + whole.len() / 50, "{} against {}", ours.len(), whole.len());
    }

    #[test]
    fn a_failing_output_is_the_error_that_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(28))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let data = sample(20 * BLOCK);
        for method in [Compression::None, Compression::Gzip(6), Compression::Zstd(3)] {
            let failed = compress(method, 2, Full, |out| out.write_all(&data).map_err(PackError::Write));
            let Err(PackError::Write(e)) = failed else { panic!("{method:?} must fail") };
            assert_eq!(e.raw_os_error(), Some(28), "{method:?}");
        }
    }

    #[test]
    fn only_known_methods_and_levels_are_taken() {
        for (text, want) in [
            ("gzip", Some(Compression::Gzip(6))),
            ("gzip:1", Some(Compression::Gzip(1))),
            ("zstd:19", Some(Compression::Zstd(19))),
            ("none", Some(Compression::None)),
            ("gzip:0", None),
            ("gzip:10", None),
            ("zstd:20", None),
            ("none:1", None),
            ("xz", None),
            ("", None),
            ("gzip:", None),
        ] {
            assert_eq!(text.parse::<Compression>().ok(), want, "{text:?}");
        }
    }
}
