//! Layers: who fetches which, several at a time, each once.
//!
//! All entries that nobody writes are locked before the image's line is printed, so that whoever follows a blob finds its
//! writer. A blob that another process writes is waited for; where that process dies, it is taken over.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cli::{During, Failure, Progress};
use descriptor::{Descriptor, Exit};
use registry::Origin;
use store::{BlobWriter, Ingest, Store, Wait};

use crate::reader;

/// Connections at once: enough to hide latency and a single stream's limits, few enough for registries' own limits
/// (docker takes 3, containerd and skopeo 3 to 6).
const PARALLEL: usize = 4;

/// The layers of one image that are not in the store yet.
pub(crate) struct Missing {
    ours: Vec<(Descriptor, BlobWriter)>,
    others: Vec<(Descriptor, Wait)>,
}

/// What the fetching threads tell.
pub(crate) enum Event {
    /// One blob is there.
    Done,
    /// One blob will not come.
    Failed(Failure),
    /// Nobody reads our lines any more.
    ReaderGone,
}

type Work = (Descriptor, BlobWriter);

impl Missing {
    /// Looks at each layer once and locks those that nobody writes.
    pub(crate) fn claim(store: &Store, layers: &[Descriptor]) -> Result<Self, Failure> {
        let mut missing = Self { ours: Vec::new(), others: Vec::new() };
        let mut seen = HashSet::new();
        for layer in layers.iter().filter(|layer| seen.insert(layer.digest)) {
            let ingest =
                store.ingest(&layer.digest, layer.size).during(|| format!("blob {}", layer.digest))?;
            match ingest {
                Ingest::Present => {}
                Ingest::Writer(writer) => missing.ours.push((layer.clone(), writer)),
                Ingest::Busy(wait) => missing.others.push((layer.clone(), wait)),
            }
        }
        Ok(missing)
    }

    /// Whether all is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.others.is_empty()
    }

    /// Fetches all, and returns when all is there, when one failed, or when nobody reads our lines any more. What is
    /// still under way then ends with the process; its bytes stay for the next one.
    pub(crate) fn fetch(self, origin: &Arc<dyn Origin>, progress: &Progress) -> Result<(), Failure> {
        let expected = self.ours.len() + self.others.len();
        let (events, told) = channel();
        let (work, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        reader::watch(events.clone());
        for (blob, writer) in self.ours {
            // The receiver lives in this function: sending cannot fail.
            let _ = work.send((blob, writer));
        }
        for (blob, wait) in self.others {
            let (work, events) = (work.clone(), events.clone());
            spawn("wait", move || await_other(&blob, wait, &work, &events))?;
        }
        drop(work);
        for _ in 0..PARALLEL.min(expected) {
            let (queue, events) = (Arc::clone(&queue), events.clone());
            let (origin, progress) = (Arc::clone(origin), progress.clone());
            spawn("fetch", move || fetch_queued(&queue, &*origin, &progress, &events))?;
        }
        for _ in 0..expected {
            match told.recv() {
                Ok(Event::Done) => {}
                Ok(Event::Failed(failure)) => return Err(failure),
                Ok(Event::ReaderGone) => return Err(Failure::reader_gone()),
                Err(_) => return Err(Failure::new(Exit::Other, "fetching", "a thread ended without a word")),
            }
        }
        Ok(())
    }
}

fn spawn(name: &str, act: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(act);
    spawned.map(|_| ()).map_err(|e| Failure::new(Exit::Other, "starting a thread", e))
}

/// Waits until another process is done with a blob; where it died, the blob is ours to fetch.
fn await_other(blob: &Descriptor, mut wait: Wait, work: &Sender<Work>, events: &Sender<Event>) {
    let event = loop {
        match wait.wait().during(|| format!("blob {}", blob.digest)) {
            Ok(Ingest::Present) => break Event::Done,
            Ok(Ingest::Busy(again)) => wait = again,
            Ok(Ingest::Writer(writer)) => {
                // Where the queue is gone, the pull has ended.
                let _ = work.send((blob.clone(), writer));
                return;
            }
            Err(failure) => break Event::Failed(failure),
        }
    };
    let _ = events.send(event);
}

fn fetch_queued(
    queue: &Mutex<Receiver<Work>>,
    origin: &dyn Origin,
    progress: &Progress,
    events: &Sender<Event>,
) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((blob, mut writer)) = next else { return };
        let task = progress.task(&blob.digest.hex()[..12], blob.size);
        task.add(writer.offset());
        let fetched = origin.fetch(&blob, &mut writer, &|bytes| task.add(bytes));
        let event = match fetched.during(|| format!("blob {}", blob.digest)) {
            Ok(()) => {
                task.finish("done");
                Event::Done
            }
            Err(failure) => {
                task.finish("failed");
                Event::Failed(failure)
            }
        };
        // The lock goes before the word: who hears "done" finds the blob free.
        drop(writer);
        if events.send(event).is_err() {
            return;
        }
    }
}
