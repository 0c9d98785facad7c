//! Blobs to the destination, several at a time, each once and only where it lacks them.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cli::{During, Failure, Progress};
use descriptor::{Descriptor, Exit};
use registry::{Target, Upload};
use store::Store;

/// Connections at once, as for fetching.
const PARALLEL: usize = 4;

/// What one thread of several needs.
#[derive(Clone)]
struct Worker {
    store: Store,
    target: Arc<dyn Target>,
    progress: Progress,
    queue: Arc<Mutex<VecDeque<Descriptor>>>,
}

/// Uploads all of `blobs` that the destination lacks; at the first failure it returns, and the rest ends with the process.
pub(crate) fn upload(
    store: &Store,
    target: &Arc<dyn Target>,
    progress: &Progress,
    blobs: Vec<Descriptor>,
) -> Result<(), Failure> {
    let expected = blobs.len();
    let (events, told) = channel();
    let worker = Worker {
        store: store.clone(),
        target: Arc::clone(target),
        progress: progress.clone(),
        queue: Arc::new(Mutex::new(blobs.into())),
    };
    for _ in 0..PARALLEL.min(expected) {
        let (worker, events) = (worker.clone(), events.clone());
        let work = move || {
            while let Some(blob) = worker.next() {
                if events.send(worker.upload(&blob)).is_err() {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("upload".to_owned()).spawn(work);
        spawned.map_err(|e| Failure::new(Exit::Other, "starting a thread", e))?;
    }
    drop(events);
    for _ in 0..expected {
        let outcome = told
            .recv()
            .map_err(|_| Failure::new(Exit::Other, "uploading", "a thread ended without a word"))?;
        if outcome.is_err() {
            worker.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
            return outcome;
        }
    }
    Ok(())
}

impl Worker {
    fn next(&self) -> Option<Descriptor> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn upload(&self, blob: &Descriptor) -> Result<(), Failure> {
        let what = || format!("blob {}", blob.digest);
        if self.target.has(blob).during(what)? {
            return Ok(());
        }
        let in_flight = self.store.has_blob(&blob.digest).during(what)?.is_none();
        let task = Arc::new(self.progress.task(&blob.digest.hex()[..12], blob.size));
        let shown = Arc::clone(&task);
        let open = || -> Result<Box<dyn Read + Send>, registry::Error> {
            Ok(Box::new(self.store.follow(&blob.digest, blob.size)?))
        };
        let upload =
            Upload { blob, open: &open, in_flight, progress: Arc::new(move |bytes| shown.add(bytes)) };
        let outcome = self.target.put_blob(&upload).during(what);
        task.finish(if outcome.is_ok() { "done" } else { "failed" });
        outcome
    }
}
