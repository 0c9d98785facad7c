//! A layer's blob to a tree: one thread inflates and hashes, another one writes.

use std::io::Read;
use std::thread;

use descriptor::Digest;
use sys::Root;

use crate::chunks::{ChunkReceiver, chunks};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::stream::{Encoding, decode};
use crate::tar::Archive;
use crate::tree::{Form, Tree};

/// How a layer is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The most that a layer may ask for.
    pub limits: Limits,
}

/// What a layer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The sha256 of the decoded bytes, all of them: also those after the archive's end.
    pub diff_id: Digest,
    /// Members.
    pub entries: u64,
    /// Bytes of file content, holes included.
    pub bytes: u64,
    /// Directories that no member named, sorted; the empty path is the root. Always empty in a flat tree.
    pub implied: Vec<Vec<u8>>,
    /// Directories that hold whiteouts, sorted. Always empty in a flat tree.
    pub masking: Vec<Vec<u8>>,
}

/// Writes one layer alone as a tree in overlayfs form into `dest`, an empty directory that nobody else writes to.
///
/// The caller compares `diff_id` with what was promised before anybody sees the tree.
///
/// # Errors
/// The layer's content, its source, or the kernel: nothing in `dest` is of use then.
pub fn unpack(input: impl Read, encoding: Encoding, dest: &Root, options: &Options) -> Result<Unpacked> {
    let mut tree = Tree::new(dest, Form::Overlay)?;
    let mut unpacked = apply(&mut tree, input, encoding, options)?;
    unpacked.implied = tree.implied()?;
    unpacked.masking = tree.masking()?;
    tree.finish()?;
    Ok(unpacked)
}

/// Layers written one over the other into one plain tree.
pub struct Flat<'r> {
    tree: Tree<'r>,
}

impl<'r> Flat<'r> {
    /// Starts in an empty directory that nobody else writes to.
    ///
    /// # Errors
    /// The errno of a call on the directory.
    pub fn new(dest: &'r Root) -> Result<Self> {
        Ok(Self { tree: Tree::new(dest, Form::Flat)? })
    }

    /// Applies the next layer, the lowest one first.
    ///
    /// # Errors
    /// As [`unpack`].
    pub fn apply(&mut self, input: impl Read, encoding: Encoding, options: &Options) -> Result<Unpacked> {
        apply(&mut self.tree, input, encoding, options)
    }

    /// Gives the directories their attributes.
    ///
    /// # Errors
    /// The errno of a call on a directory.
    pub fn finish(self) -> Result<()> {
        self.tree.finish()
    }
}

fn apply(tree: &mut Tree<'_>, input: impl Read, encoding: Encoding, options: &Options) -> Result<Unpacked> {
    let (sender, receiver) = chunks();
    let limits = options.limits;
    let (decoded, written) = thread::scope(|scope| {
        let write = move || write(tree, receiver, &limits);
        let writer = thread::Builder::new().name("tree".into()).spawn_scoped(scope, write);
        let writer = writer.map_err(Error::Thread)?;
        let decoded = decode(input, encoding, &limits, |chunk| sender.send(chunk));
        drop(sender);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Error>((decoded, written))
    })?;
    // A stream that broke explains an archive that ends too early, not the other way round.
    let decoded = decoded?;
    let (entries, bytes) = written?;
    let Some(diff_id) = decoded else {
        return Err(Error::Archive { offset: 0, why: "was not read to its end" });
    };
    Ok(Unpacked { diff_id, entries, bytes, implied: Vec::new(), masking: Vec::new() })
}

/// Applies all members, then reads what follows the archive's end, which counts for the digests and for nothing else.
fn write(tree: &mut Tree<'_>, source: ChunkReceiver, limits: &Limits) -> Result<(u64, u64)> {
    let mut archive = Archive::new(source, limits);
    let mut layer = tree.layer(limits.depth);
    let mut bytes = 0u64;
    while let Some(member) = archive.next()? {
        bytes = bytes.saturating_add(member.size);
        if bytes > limits.bytes {
            return Err(Error::Limit { what: "bytes of files, holes included", limit: limits.bytes });
        }
        layer.apply(&member, &mut archive)?;
    }
    let entries = archive.entries();
    archive.into_source().drain();
    Ok((entries, bytes))
}
