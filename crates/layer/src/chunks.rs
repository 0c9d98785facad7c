//! Decoded chunks from the thread that inflates and hashes to the one that writes the tree.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::error::Result;
use crate::tar::Source;

/// Chunks on their way at most: 2 MiB, enough to keep both threads busy when their speeds vary.
const IN_FLIGHT: usize = 8;

/// The writing end.
pub(crate) struct ChunkSender {
    full: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
}

/// The reading end: a [`Source`]. The end of the stream is told by the sender being dropped.
pub(crate) struct ChunkReceiver {
    full: Receiver<Vec<u8>>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

/// Two ends of a bounded channel whose buffers go round.
pub(crate) fn chunks() -> (ChunkSender, ChunkReceiver) {
    let (full_in, full_out) = sync_channel(IN_FLIGHT);
    let (used_in, used_out) = channel();
    let sender = ChunkSender { full: full_in, used: used_out };
    (sender, ChunkReceiver { full: full_out, used: used_in, chunk: Vec::new(), at: 0 })
}

impl ChunkSender {
    /// Hands a chunk on and gives an empty buffer back; none where the reader is gone.
    pub(crate) fn send(&self, chunk: Vec<u8>) -> Option<Vec<u8>> {
        self.full.send(chunk).ok()?;
        Some(self.used.try_recv().unwrap_or_default())
    }
}

impl ChunkReceiver {
    /// Reads to the end, so that what follows an archive is inflated and hashed too.
    pub(crate) fn drain(mut self) {
        while let Ok(chunk) = self.full.recv() {
            let _ = self.used.send(std::mem::replace(&mut self.chunk, chunk));
        }
    }
}

impl Source for ChunkReceiver {
    fn fill(&mut self) -> Result<&[u8]> {
        if self.at == self.chunk.len() {
            let next = self.full.recv().unwrap_or_default();
            let used = std::mem::replace(&mut self.chunk, next);
            self.at = 0;
            let _ = self.used.send(used);
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}
