//! One layer's blob read to its end, verified: the part that trees and flat output share.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use cli::{During, Failure, Task};
use descriptor::{Classify, Descriptor, Digest, Exit};
use layer::{Encoding, Unpacked};
use store::{Follower, Store};

/// A layer to unpack.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) encoding: Encoding,
}

/// How a layer's reading ended other than in failure.
pub(crate) enum Outcome {
    /// Read and verified.
    Done(Unpacked),
    /// The blob was started over by its writer: what was unpacked of it counts for nothing.
    Again,
}

impl Job {
    /// The layer's name in messages.
    pub(crate) fn name(&self) -> String {
        format!("layer {}", self.blob.digest)
    }

    /// The jobs of an image's layers, the lowest one first.
    pub(crate) fn of(image: &store::Image) -> Result<Vec<Self>, Failure> {
        let pairs = image.manifest.layers.iter().zip(&image.diff_ids);
        pairs
            .map(|(blob, diff_id)| {
                let encoding = Encoding::of_media_type(&blob.media_type).ok_or_else(|| {
                    let why = format!("{:?} is no media type of a layer", blob.media_type);
                    Failure::new(Exit::Content, format!("layer {}", blob.digest), why)
                })?;
                Ok(Self { blob: blob.clone(), diff_id: *diff_id, encoding })
            })
            .collect()
    }

    /// Follows the blob, gives its bytes to `apply`, and compares what came with what was promised.
    pub(crate) fn read(
        &self,
        store: &Store,
        progress: Option<&Task>,
        stop: &AtomicBool,
        apply: impl FnOnce(&mut dyn Read) -> layer::Result<Unpacked>,
    ) -> Result<Outcome, Failure> {
        let what = || self.name();
        let follower = match store.follow(&self.blob.digest, self.blob.size) {
            Err(store::Error::Restarted(_)) => return Ok(Outcome::Again),
            other => other.during(what)?,
        };
        let mut input = Watched { follower, progress, stop };
        let unpacked = apply(&mut input);
        if let Err(layer::Error::Input(e)) = &unpacked {
            if let Some(store::Error::Restarted(_)) = store::Error::inside(e) {
                return Ok(Outcome::Again);
            }
            return unpacked.map(Outcome::Done).during(what);
        }
        // A blob that is wrong explains a layer that is wrong.
        let content = unpacked.as_ref().map_or_else(|e| e.exit() == Exit::Content, |_| true);
        if content {
            match input.follower.verify() {
                Err(store::Error::Restarted(_)) => return Ok(Outcome::Again),
                other => other.during(what)?,
            }
        }
        let unpacked = unpacked.during(what)?;
        if unpacked.diff_id != self.diff_id {
            let why = format!("its diffID: wanted {}, got {}", self.diff_id, unpacked.diff_id);
            return Err(Failure::new(Exit::Content, what(), why));
        }
        Ok(Outcome::Done(unpacked))
    }
}

/// A blob's bytes, counted, until somebody says stop.
struct Watched<'a> {
    follower: Follower,
    progress: Option<&'a Task>,
    stop: &'a AtomicBool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let count = self.follower.read(buffer)?;
        if let Some(task) = self.progress {
            task.add(count as u64);
        }
        Ok(count)
    }
}
